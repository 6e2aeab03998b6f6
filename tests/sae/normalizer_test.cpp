// SPDX-License-Identifier: MIT
#include <plmscope/backend/cpu.hpp>
#include <plmscope/backend/reference.hpp>
#include <plmscope/core/rng.hpp>
#include <plmscope/sae/normalizer.hpp>

#include <doctest/doctest.h>

#include <cmath>
#include <cstddef>
#include <limits>
#include <span>
#include <string>
#include <vector>

namespace {

using plmscope::const_view;
using plmscope::cpu;
using plmscope::fit_normalizer;
using plmscope::matrix;
using plmscope::normalization;
using plmscope::normalizer;
using plmscope::reference;

const std::vector<normalization> kinds{normalization::none, normalization::scalar,
                                       normalization::per_dimension,
                                       normalization::token_layer_norm};

std::vector<double> sample(std::size_t m, std::size_t d) {
  const plmscope::rng random(4, 4);
  std::vector<double> x(m * d);
  for (std::size_t i = 0; i < x.size(); ++i) {
    const auto j = static_cast<double>(i % d);
    x[i] = 3 * j - 7 + (1 + j) * random.normal(i);
  }
  return x;
}

// Rows applied and inverted on backend `be`.
template <class B>
struct both_ways {
  std::vector<double> applied, inverted;
  both_ways(B be, const normalizer& n, const std::vector<double>& x, std::size_t d)
      : applied(x.size()), inverted(x.size()) {
    const std::size_t m = x.size() / d;
    matrix<typename B::real, B> from(be, m, d), to(be, m, d);
    be.upload(std::span<const double>(x), from.all());
    normalizer::context<B> context;
    // An earlier batch of another size leaves nothing behind.
    matrix<typename B::real, B> other(be, m + 3, d), other_to(be, m + 3, d);
    n.apply(be, const_view<B>(other), other_to.all(), context);
    n.apply(be, const_view<B>(from), to.all(), context);
    be.download(const_view<B>(to), std::span<double>(applied));
    n.invert(be, to.all(), context);
    be.download(const_view<B>(to), std::span<double>(inverted));
  }
};

double largest_difference(const std::vector<double>& a, const std::vector<double>& b) {
  double worst = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double gap = std::abs(a[i] - b[i]);
    if (!(gap <= worst)) worst = gap;
  }
  return worst;
}

TEST_CASE("what is applied and inverted comes back") {
  for (const std::size_t d : std::vector<std::size_t>{2, 7, 64, 65}) {
    const auto x = sample(50, d);
    for (const normalization kind : kinds) {
      INFO("kind ", std::string(normalizer::name(kind)), ", d ", d);
      const auto n = fit_normalizer<double>(kind, x, d);
      CHECK(n.kind == kind);
      const double size = 10.0 * static_cast<double>(d);
      CHECK(largest_difference(both_ways(reference(), n, x, d).inverted, x) < 1e-12 * size);
      CHECK(largest_difference(both_ways(cpu(2), n, x, d).inverted, x) < 1e-5 * size);
      CHECK(largest_difference(both_ways(cpu(2), n, x, d).applied,
                               both_ways(reference(), n, x, d).applied) < 1e-5 * size);
    }
  }
}

TEST_CASE("without a mean rows get length sqrt(d) and come back") {
  for (const std::size_t d : std::vector<std::size_t>{1, 7, 64}) {
    auto x = sample(20, d);
    for (std::size_t j = 0; j < d; ++j) x[3 * d + j] = 0;  // a row of zeros stays one
    const normalizer n{.kind = normalization::token_layer_norm,
                       .epsilon = 0,
                       .inverse_epsilon = 0,
                       .centred = false};
    n.check(d);
    const both_ways<reference> exact(reference(), n, x, d);
    for (std::size_t r = 0; r < 20; ++r) {
      double squares = 0;
      for (std::size_t j = 0; j < d; ++j) squares += exact.applied[r * d + j] * exact.applied[r * d + j];
      CHECK(squares == doctest::Approx(r == 3 ? 0.0 : static_cast<double>(d)));
    }
    CHECK(largest_difference(exact.inverted, x) < 1e-11);
    CHECK(largest_difference(both_ways(cpu(2), n, x, d).applied, exact.applied) < 1e-5);
    CHECK(largest_difference(both_ways(cpu(2), n, x, d).inverted, x) < 1e-3);
  }
  normalizer both{.kind = normalization::token_layer_norm, .ddof = 1, .centred = false};
  CHECK_THROWS_AS(both.check(4), plmscope::error);
}

TEST_CASE("what the fitted rows look like") {
  constexpr std::size_t m = 60;
  constexpr std::size_t d = 9;
  const auto x = sample(m, d);
  const auto of = [&](normalization kind) {
    return both_ways(reference(), fit_normalizer<double>(kind, x, d), x, d).applied;
  };
  CHECK(of(normalization::none) == x);

  double squares = 0;
  for (const double v : of(normalization::scalar)) squares += v * v;
  CHECK(squares / m == doctest::Approx(static_cast<double>(d)));

  const auto scaled = of(normalization::per_dimension);
  for (std::size_t j = 0; j < d; ++j) {
    double sum = 0;
    double two = 0;
    for (std::size_t r = 0; r < m; ++r) {
      sum += scaled[r * d + j], two += std::pow(scaled[r * d + j], 2);
    }
    CHECK(std::abs(sum) < 1e-10);
    CHECK(two / (m - 1) == doctest::Approx(1));
  }

  const auto rows = of(normalization::token_layer_norm);
  for (std::size_t r = 0; r < m; ++r) {
    double sum = 0;
    double two = 0;
    for (std::size_t j = 0; j < d; ++j) sum += rows[r * d + j], two += std::pow(rows[r * d + j], 2);
    CHECK(std::abs(sum) < 1e-10);
    CHECK(two / d == doctest::Approx(1).epsilon(1e-4));
  }
}

TEST_CASE("token layer norm: each epsilon stands where it says") {
  const std::vector<double> x{1, 3};  // mean 2, deviation 1, unbiased sqrt 2
  normalizer n{.kind = normalization::token_layer_norm, .epsilon = 0.25, .inverse_epsilon = 0.5};
  auto b = both_ways(reference(), n, x, 2);
  CHECK(b.applied[1] == doctest::Approx(1 / 1.25));
  CHECK(b.inverted[1] == doctest::Approx(2 + 1.5 / 1.25));
  n.root_epsilon = 3;
  b = both_ways(reference(), n, x, 2);
  CHECK(b.applied[1] == doctest::Approx(1 / 2.25));
  CHECK(b.inverted[1] == doctest::Approx(2 + 1.5 / 2.25));
  n = {.kind = normalization::token_layer_norm, .epsilon = 0, .inverse_epsilon = 0, .ddof = 1};
  b = both_ways(reference(), n, x, 2);
  CHECK(b.applied[1] == doctest::Approx(1 / std::sqrt(2)));
  CHECK(b.inverted[1] == doctest::Approx(3));
}

TEST_CASE("rows without variation") {
  for (const double epsilon : {0.0, 1e-5}) {
    const normalizer n{.kind = normalization::token_layer_norm,
                       .epsilon = epsilon,
                       .inverse_epsilon = epsilon};
    const auto b = both_ways(cpu(1), n, {4, 4, 4, 0, 0, 0}, 3);
    CHECK(b.applied == std::vector<double>{0, 0, 0, 0, 0, 0});
    CHECK(b.inverted == std::vector<double>{4, 4, 4, 0, 0, 0});
  }
}

TEST_CASE("a dimension without variance gets deviation 1, whatever its value") {
  for (const double constant : {0.0, 5.0, 0.1, 1e-3, 1234.567}) {
    for (const std::size_t m : std::vector<std::size_t>{2, 3, 10, 999, 1000}) {
      std::vector<double> x;
      for (std::size_t r = 0; r < m; ++r) {
        x.insert(x.end(), {constant, static_cast<double>(r)});
      }
      const auto n = fit_normalizer<double>(normalization::per_dimension, x, 2);
      INFO("constant ", constant, ", rows ", m);
      CHECK(n.deviation[0] == 1);
      CHECK(n.mean[0] == doctest::Approx(constant));
      CHECK(n.deviation[1] > 0.5);
    }
  }
}

TEST_CASE("single precision rows are fitted in double") {
  std::vector<float> x;
  for (int i = 0; i < 100000; ++i) x.push_back(i % 2 == 0 ? 1000.5f : 999.5f);
  const auto n = fit_normalizer<float>(normalization::per_dimension, x, 1);
  CHECK(n.mean[0] == doctest::Approx(1000).epsilon(1e-12));
  CHECK(n.deviation[0] == doctest::Approx(0.5).epsilon(1e-5));
}

std::string refused(normalization kind, const std::vector<double>& x, std::size_t d) {
  try {
    static_cast<void>(fit_normalizer<double>(kind, x, d));
  } catch (const plmscope::error& e) {
    return std::string(e.id());
  }
  return "";
}

TEST_CASE("what cannot be fitted") {
  constexpr double nan = std::numeric_limits<double>::quiet_NaN();
  constexpr double infinity = std::numeric_limits<double>::infinity();
  for (const normalization kind : {normalization::scalar, normalization::per_dimension}) {
    CHECK(refused(kind, {}, 2) == "sae.107");
    CHECK(refused(kind, {}, 0) == "sae.107");
    CHECK(refused(kind, {1, 2}, 2) == "sae.107");        // one row
    CHECK(refused(kind, {0, 0, 0, 0}, 2) == "sae.107");  // nothing but zeros
    CHECK(refused(kind, {1, 2, nan, 4}, 2) == "sae.107");
    CHECK(refused(kind, {1, 2, infinity, 4}, 2) == "sae.107");
    CHECK(refused(kind, {1, 2, 3, 4}, 2) == "");
  }
  for (const normalization kind : {normalization::none, normalization::token_layer_norm}) {
    CHECK(refused(kind, {}, 2) == "");  // nothing to fit
  }
}

TEST_CASE("every kind has a name of its own") {
  CHECK(normalizer::name(normalization::none) == "none");
  CHECK(normalizer::name(normalization::scalar) == "scalar");
  CHECK(normalizer::name(normalization::per_dimension) == "per_dimension");
  CHECK(normalizer::name(normalization::token_layer_norm) == "token_layer_norm");
  CHECK(normalizer{} == normalizer{});
  CHECK_FALSE(normalizer{.scale = 2} == normalizer{});
}

}  // namespace
