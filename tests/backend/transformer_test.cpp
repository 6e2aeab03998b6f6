// SPDX-License-Identifier: MIT
#include <plmscope/backend/cpu.hpp>
#include <plmscope/backend/reference.hpp>
#include <plmscope/core/rng.hpp>
#include <plmscope/tensor/matrix.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

namespace {

using plmscope::const_view;
using plmscope::matrix;
using plmscope::reference;
using plmscope::view;
using fast = plmscope::cpu;
using fast_double = plmscope::basic_cpu<double, plmscope::eigen_gemm>;

constexpr double inf = std::numeric_limits<double>::infinity();

template <class B>
matrix<typename B::real, B> random_matrix(B& be, std::size_t rows, std::size_t cols,
                                          std::uint64_t stream, double scale = 1) {
  matrix<typename B::real, B> m(be, rows, cols);
  const plmscope::rng random(7, stream);
  for (std::size_t i = 0; i < m.size(); ++i) {
    // Rounded to float, so that every backend starts from the same numbers.
    m.data()[i] = static_cast<typename B::real>(static_cast<float>(scale * random.normal(i)));
  }
  return m;
}

template <class B, class T>
matrix<T, B> vector_of(B& be, const std::vector<T>& from) {
  matrix<T, B> m(be, 1, from.size());
  std::copy(from.begin(), from.end(), m.data());
  return m;
}

template <class A, class B>
double worst_difference(const A& a, const B& b) {
  REQUIRE(a.size() == b.size());
  double worst = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const auto x = static_cast<double>(a.data()[i]);
    const auto y = static_cast<double>(b.data()[i]);
    if (std::isnan(x) != std::isnan(y)) return inf;
    if (x != y && !std::isnan(x)) worst = std::max(worst, std::abs(x - y));
  }
  return worst;
}

template <class M>
bool same_bits(const M& a, const M& b) {
  return a.size() == b.size() &&
         std::memcmp(a.data(), b.data(), a.size() * sizeof(*a.data())) == 0;
}

const std::vector<std::size_t> awkward{1, 2, 7, 16, 31, 63, 64, 65, 127, 320};

// Sequences back to back: lengths and their offsets.
std::vector<std::int64_t> offsets_of(const std::vector<std::size_t>& lengths) {
  std::vector<std::int64_t> offsets{0};
  for (const std::size_t n : lengths) {
    offsets.push_back(offsets.back() + static_cast<std::int64_t>(n));
  }
  return offsets;
}

struct attention_case {
  std::size_t heads;
  std::size_t head_dim;
  std::vector<std::size_t> lengths;
  double scale = 1;  // of the queries

  std::size_t rows() const {
    std::size_t n = 0;
    for (const std::size_t l : lengths) n += l;
    return n;
  }
};

// q, k, v are thirds of one [rows, 3 d] matrix, as in the model.
template <class B>
matrix<typename B::real, B> attend(B& be, const attention_case& c, double poison = 0) {
  const std::size_t d = c.heads * c.head_dim;
  auto qkv = random_matrix(be, c.rows(), 3 * d, 11);
  for (std::size_t r = 0; r < c.rows(); ++r) {
    for (std::size_t j = 0; j < d; ++j) qkv(r, j) *= static_cast<typename B::real>(c.scale);
  }
  if (poison != 0) qkv(0, 0) = static_cast<typename B::real>(poison);
  const auto offsets = vector_of(be, offsets_of(c.lengths));
  matrix<typename B::real, B> out(be, c.rows(), d);
  const const_view<B> all = qkv;
  be.attention(all.col_range(0, d), all.col_range(d, d), all.col_range(2 * d, d), c.head_dim,
               offsets, *std::max_element(c.lengths.begin(), c.lengths.end()), out);
  return out;
}

}  // namespace

TEST_CASE("embed scales table rows") {
  fast a(2);
  reference b;
  for (const std::size_t d : awkward) {
    const std::vector<std::int32_t> tokens{3, 0, 32, 5, 5};
    const std::vector<float> scales{0.88f, 1, 0, 0.5f, -2};
    matrix<float, fast> x(a, tokens.size(), d);
    matrix<double, reference> y(b, tokens.size(), d);
    const auto ta = random_matrix(a, 33, d, 1);
    const auto tb = random_matrix(b, 33, d, 1);
    a.embed(ta, vector_of(a, tokens), vector_of(a, scales), x);
    const std::vector<double> wide(scales.begin(), scales.end());
    b.embed(tb, vector_of(b, tokens), vector_of(b, wide), y);
    CHECK(worst_difference(x, y) < 3e-7);
    CHECK(x(2, d - 1) == 0.0f);
    CHECK(x(4, 0) == -2 * ta(5, 0));
  }
}

TEST_CASE("layer_norm agrees with the reference, also far from zero") {
  fast a(2);
  reference b;
  for (const std::size_t d : awkward) {
    for (const double offset : {0.0, 100.0}) {
      auto x = random_matrix(a, 9, d, 2);
      matrix<double, reference> y(b, 9, d);
      for (std::size_t i = 0; i < x.size(); ++i) {
        x.data()[i] += static_cast<float>(offset);
        y.data()[i] = static_cast<double>(x.data()[i]);
      }
      for (const bool with_bias : {true, false}) {
        matrix<float, fast> out(a, 9, d);
        matrix<double, reference> expected(b, 9, d);
        const auto ba = with_bias ? random_matrix(a, 1, d, 4) : matrix<float, fast>();
        const auto bb = with_bias ? random_matrix(b, 1, d, 4) : matrix<double, reference>();
        a.layer_norm(x, random_matrix(a, 1, d, 3), ba, 1e-5f, out);
        b.layer_norm(y, random_matrix(b, 1, d, 3), bb, 1e-5, expected);
        CAPTURE(d);
        CAPTURE(offset);
        // A mean of 100 is known to 4e-6 in float, which the division by the deviation keeps.
        CHECK(worst_difference(out, expected) < (offset == 0 ? 4e-6 : 2e-4));
      }
      // In place.
      matrix<float, fast> out(a, 9, d);
      const auto gain = random_matrix(a, 1, d, 3);
      a.layer_norm(x, gain, matrix<float, fast>(), 1e-5f, out);
      a.layer_norm(x, gain, matrix<float, fast>(), 1e-5f, x);
      CHECK(same_bits(out, x));
    }
  }
}

TEST_CASE("layer_norm of equal entries is its bias; NaN stays in its row") {
  fast a(1);
  matrix<float, fast> x(a, 2, 64);
  a.fill(view<fast, float>(x), 3.0f);
  x(1, 5) = std::numeric_limits<float>::quiet_NaN();
  const auto bias = random_matrix(a, 1, 64, 4);
  matrix<float, fast> out(a, 2, 64);
  a.layer_norm(x, random_matrix(a, 1, 64, 3), bias, 1e-5f, out);
  for (std::size_t j = 0; j < 64; ++j) {
    CHECK(out(0, j) == bias(0, j));
    CHECK(std::isnan(out(1, j)));
  }
}

TEST_CASE("gelu is the erf form to 1e-7") {
  fast a(2);
  const std::size_t n = 400'001;
  matrix<float, fast> x(a, 1, n);
  for (std::size_t i = 0; i < n; ++i) {
    const double share = static_cast<double>(i) / static_cast<double>(n - 1);
    x(0, i) = static_cast<float>(-20.0 + 40.0 * share);
  }
  std::vector<float> in(x.data(), x.data() + n);
  a.gelu(x);
  double worst = 0;           // against the value, in units of max(1, |z|)
  double worst_negative = 0;  // relative, on [-3, 0): 1 + erf would lose digits here
  for (std::size_t i = 0; i < n; ++i) {
    const auto z = static_cast<long double>(in[i]);
    const long double exact = z * (1 + std::erf(z / std::sqrt(2.0L))) / 2;
    const auto error = static_cast<double>(std::abs(static_cast<long double>(x(0, i)) - exact));
    worst = std::max(worst, error / std::max(1.0, std::abs(static_cast<double>(z))));
    if (z < 0 && z >= -3) {
      worst_negative = std::max(worst_negative, error / static_cast<double>(std::abs(exact)));
    }
  }
  MESSAGE("gelu: worst error ", worst, ", relative for negative arguments ", worst_negative);
  CHECK(worst < 1e-7);
  CHECK(worst_negative < 2e-6);
}

TEST_CASE("gelu at the ends, and entry by entry the same at any place") {
  fast a(1);
  reference b;
  const float large = std::numeric_limits<float>::infinity();
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const std::vector<float> special{0.0f, -0.0f, large, nan, 1e30f, -1e30f, 1e-40f, -large};
  for (const std::size_t n : {8u, 17u, 33u}) {
    matrix<float, fast> x(a, 1, n);
    matrix<double, reference> y(b, 1, n);
    for (std::size_t i = 0; i < n; ++i) x(0, i) = special[i % special.size()];
    for (std::size_t i = 0; i < n; ++i) y(0, i) = static_cast<double>(x(0, i));
    a.gelu(x);
    b.gelu(y);
    for (std::size_t i = 0; i < n; ++i) {
      CAPTURE(i);
      if (special[i % special.size()] == -large) {
        CHECK(std::abs(x(0, i)) < 1e-30f);  // the limit; the formula itself gives NaN
      } else if (std::isnan(y(0, i))) {
        CHECK(std::isnan(x(0, i)));
      } else if (std::isinf(y(0, i))) {
        CHECK(static_cast<double>(x(0, i)) == y(0, i));
      } else {
        CHECK(static_cast<double>(x(0, i)) == doctest::Approx(y(0, i)).epsilon(1e-6));
      }
    }
  }
  const auto source = random_matrix(a, 1, 100, 5, 2);
  for (std::size_t first = 0; first < 40; ++first) {
    matrix<float, fast> part(a, 1, 57);
    matrix<float, fast> whole(a, 1, 100);
    a.copy(const_view<fast>(source).col_range(first, 57), view<fast>(part));
    a.copy(const_view<fast>(source), view<fast>(whole));
    a.gelu(part);
    a.gelu(whole);
    CHECK(std::memcmp(part.data(), whole.data() + first, 57 * sizeof(float)) == 0);
  }
}

TEST_CASE("rotary agrees with the reference and keeps lengths") {
  fast a(2);
  reference b;
  for (const std::size_t head_dim : {2u, 12u, 16u, 24u, 32u, 64u, 128u}) {
    const std::size_t d = 3 * head_dim;
    const std::vector<std::int32_t> positions{0, 1, 2, 0, 9, 4};
    const auto make = [&](auto& be) {
      using B = std::remove_reference_t<decltype(be)>;
      auto x = random_matrix(be, positions.size(), 2 * d, 6);
      matrix<typename B::real, B> cosines(be, 10, head_dim / 2);
      matrix<typename B::real, B> sines(be, 10, head_dim / 2);
      for (std::size_t i = 0; i < cosines.size(); ++i) {
        cosines.data()[i] = static_cast<typename B::real>(std::cos(static_cast<double>(i)));
        sines.data()[i] = static_cast<typename B::real>(std::sin(static_cast<double>(i)));
      }
      be.rotary(x.all().col_range(0, d), x.all().col_range(d, d), head_dim,
                vector_of(be, positions), cosines, sines, static_cast<typename B::real>(0.25));
      return x;
    };
    const auto x = make(a);
    const auto y = make(b);
    CHECK(worst_difference(x, y) < 1e-6);
    const auto before = random_matrix(b, positions.size(), 2 * d, 6);
    double rotated = 0;
    double plain = 0;
    for (std::size_t j = 0; j < head_dim; ++j) {
      rotated += y(4, d + j) * y(4, d + j);
      plain += before(4, d + j) * before(4, d + j);
    }
    CHECK(rotated == doctest::Approx(plain));
  }
}

TEST_CASE("attention agrees with the reference") {
  fast a(2);
  fast_double c(2);
  reference b;
  for (const std::size_t head_dim : {1u, 2u, 5u, 12u, 16u, 24u, 32u, 64u, 128u}) {
    for (const double scale : {0.2, 5.0}) {
      const attention_case k{2, head_dim, {1, 2, 5, 6, 13, 16, 17, 33, 63, 64, 65, 80, 131}, scale};
      CAPTURE(head_dim);
      CAPTURE(scale);
      const auto expected = attend(b, k);
      // Scores of size scale sqrt(head_dim) are known to some 1e-7 of that.
      const double score = scale * std::sqrt(static_cast<double>(head_dim));
      CHECK(worst_difference(attend(a, k), expected) < 1e-6 + 2e-6 * score);
      CHECK(worst_difference(attend(c, k), expected) < 1e-13);
    }
  }
}

TEST_CASE("attention: an empty sequence, equal scores, NaN in one sequence only") {
  fast a(2);
  reference b;
  const attention_case holes{3, 8, {4, 0, 7, 0}, 1};
  CHECK(worst_difference(attend(a, holes), attend(b, holes)) < 2e-6);
  const attention_case flat{1, 16, {70}, 0};
  CHECK(worst_difference(attend(a, flat), attend(b, flat)) < 1e-6);
  const attention_case two{1, 16, {20, 20}, 1};
  const auto clean = attend(a, two);
  const auto poisoned = attend(a, two, std::numeric_limits<double>::quiet_NaN());
  CHECK(std::isnan(poisoned(0, 3)));
  CHECK(std::memcmp(clean.data() + 16, poisoned.data() + 16, 39 * 16 * sizeof(float)) == 0);
}

TEST_CASE("attention over a long sequence keeps its accuracy") {
  fast a(2);
  fast_double c(2);
  const attention_case k{1, 16, {3000}, 0.2};
  CHECK(worst_difference(attend(a, k), attend(c, k)) < 1e-6);
}

TEST_CASE("transformer primitives: the same bits for any number of threads and any neighbours") {
  const attention_case k{4, 24, {5, 100, 64, 1, 190}, 1};
  fast one(1);
  const auto expected = attend(one, k);
  for (const std::size_t threads : {2u, 3u, 7u}) {
    fast be(threads);
    CHECK(same_bits(attend(be, k), expected));
  }
  // The second sequence alone, from the same numbers.
  const std::size_t d = 4 * 24;
  const auto qkv = random_matrix(one, k.rows(), 3 * d, 11);
  const const_view<fast> all = const_view<fast>(qkv).row_range(5, 100);
  matrix<float, fast> alone(one, 100, d);
  one.attention(all.col_range(0, d), all.col_range(d, d), all.col_range(2 * d, d), 24,
                vector_of(one, offsets_of({100})), 100, alone);
  CHECK(std::memcmp(alone.data(), expected.data() + 5 * d, 100 * d * sizeof(float)) == 0);
}
