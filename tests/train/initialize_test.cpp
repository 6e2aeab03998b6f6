// SPDX-License-Identifier: MIT
#include <plmscope/backend/cpu.hpp>
#include <plmscope/core/rng.hpp>
#include <plmscope/sae/normalizer.hpp>
#include <plmscope/sae/sae.hpp>
#include <plmscope/train/initialize.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace {

using plmscope::geometric_median;

double distance_sum(const std::vector<double>& rows, const std::vector<double>& g) {
  const std::size_t d = g.size();
  double sum = 0;
  for (std::size_t r = 0; r < rows.size() / d; ++r) {
    double squares = 0;
    for (std::size_t j = 0; j < d; ++j) squares += std::pow(rows[r * d + j] - g[j], 2);
    sum += std::sqrt(squares);
  }
  return sum;
}

// Minimises by trying smaller and smaller steps along every axis.
std::vector<double> brute_force(const std::vector<double>& rows, std::size_t d) {
  std::vector<double> g(d, 0.0);
  double best = distance_sum(rows, g);
  for (double step = 16; step > 1e-9;) {
    bool better = false;
    for (std::size_t j = 0; j < d; ++j) {
      for (const double direction : {-1.0, 1.0}) {
        std::vector<double> other = g;
        other[j] += direction * step;
        const double sum = distance_sum(rows, other);
        if (sum < best) best = sum, g = other, better = true;
      }
    }
    if (!better) step /= 2;
  }
  return g;
}

double apart(const std::vector<double>& a, const std::vector<double>& b) {
  double squares = 0;
  for (std::size_t j = 0; j < a.size(); ++j) squares += std::pow(a[j] - b[j], 2);
  return std::sqrt(squares);
}

TEST_CASE("geometric median minimises the sum of distances") {
  for (std::uint64_t stream = 0; stream < 6; ++stream) {
    const std::size_t d = 1 + stream % 3 * 2;
    const std::size_t m = 40 + 7 * stream;
    const plmscope::rng random(1, stream);
    std::vector<double> rows(m * d);
    for (std::size_t i = 0; i < rows.size(); ++i) {
      rows[i] = std::exp(random.normal(i)) + (i % 11 == 0 ? 100 : 0);  // skewed, with outliers
    }
    const auto got = geometric_median(rows, d, 10000, 1e-12);
    const auto want = brute_force(rows, d);
    INFO("stream ", stream);
    CHECK(distance_sum(rows, got) <= distance_sum(rows, want) * (1 + 1e-6));
    if (d > 1) CHECK(apart(got, want) < 1e-3);
    // The defaults come close to it.
    CHECK(distance_sum(rows, geometric_median(rows, d)) <= distance_sum(rows, want) * (1 + 1e-3));
  }
}

TEST_CASE("outliers do not move the geometric median far, and the mean is its start") {
  std::vector<double> rows;
  for (int i = 0; i < 99; ++i) rows.insert(rows.end(), {1 + 0.001 * (i % 7), 2 - 0.001 * (i % 5)});
  rows.insert(rows.end(), {1e6, -1e6});
  CHECK(apart(geometric_median(rows, 2), {1, 2}) < 0.05);
  const auto mean = geometric_median(rows, 2, 0);
  CHECK(mean[0] == doctest::Approx(10000.99).epsilon(1e-3));
}

TEST_CASE("degenerate input of the geometric median") {
  CHECK(geometric_median(std::vector<double>{}, 3) == std::vector<double>{0, 0, 0});
  CHECK(geometric_median(std::vector<double>{}, 0).empty());
  CHECK(geometric_median(std::vector<double>{3, 4}, 2) == std::vector<double>{3, 4});
  const auto same = geometric_median(std::vector<double>{3, 4, 3, 4, 3, 4}, 2);
  CHECK(apart(same, {3, 4}) < 1e-12);
}

TEST_CASE("a mean that falls on a row is not mistaken for the median") {
  // On a line: the mean is 0, a row; the median is 1.
  CHECK(std::abs(geometric_median(std::vector<double>{-4, 0, 1, 1, 2}, 1, 1000)[0] - 1) < 0.01);
  // Far from the origin.
  const auto far = geometric_median(std::vector<double>{1e9, 1e9, 1e9}, 1);
  CHECK(far[0] == doctest::Approx(1e9));
}

TEST_CASE("the decoder bias starts from normalised rows") {
  using plmscope::cpu;
  using plmscope::start_bias;
  constexpr std::size_t m = 50;
  const plmscope::rng random(2, 2);
  std::vector<double> rows(m * 3);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    rows[i] = static_cast<double>(static_cast<float>(3 + std::exp(random.normal(i))));
  }
  for (const auto kind : {plmscope::normalization::none, plmscope::normalization::scalar,
                          plmscope::normalization::per_dimension}) {
    const auto normalize = plmscope::fit_normalizer<double>(kind, rows, 3);
    plmscope::sae<plmscope::top_k> model(
        {.d_model = 3, .features = 6, .sparsifier = {.k = 2}, .normalize = normalize}, cpu(1));
    auto& be = model.backend();
    plmscope::matrix<float, cpu> x(be, m, 3);
    be.upload(std::span<const double>(rows), x.all());
    const auto bias = [&](start_bias b) {
      plmscope::initialize_bias(model, plmscope::const_view<cpu>(x), b);
      std::vector<double> out(3);
      be.download(plmscope::const_view<cpu>(model.parameters().decoder_bias),
                  std::span<double>(out));
      return out;
    };
    std::vector<double> normalized = rows;
    for (std::size_t i = 0; i < rows.size(); ++i) {
      if (kind == plmscope::normalization::scalar) normalized[i] *= normalize.scale;
      if (kind == plmscope::normalization::per_dimension) {
        normalized[i] = (rows[i] - normalize.mean[i % 3]) / normalize.deviation[i % 3];
      }
    }
    CHECK(bias(start_bias::unchanged) == std::vector<double>{0, 0, 0});
    CHECK(apart(bias(start_bias::mean), geometric_median(normalized, 3, 0)) < 1e-5);
    CHECK(apart(bias(start_bias::geometric_median), geometric_median(normalized, 3)) < 1e-4);
  }
}

}  // namespace
