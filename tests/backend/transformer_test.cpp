// SPDX-License-Identifier: MIT
// The transformer's primitives against the reference.
#include <tests/backend/compare.hpp>

#include <plmscope/core/rng.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <type_traits>
#include <vector>

namespace {

using namespace compare;

constexpr double inf = std::numeric_limits<double>::infinity();

template <class B>
matrix<typename B::real, B> random_matrix(B& be, std::size_t rows, std::size_t cols,
                                          std::uint64_t stream, double scale = 1) {
  const plmscope::rng random(7, stream);
  return matrix_of<typename B::real>(be, rows, cols, [&](std::size_t i) {
    // Rounded to float, so that every backend starts from the same numbers.
    return static_cast<float>(scale * random.normal(i));
  });
}

template <class A, class B>
double worst_difference(const std::vector<A>& a, const std::vector<B>& b) {
  REQUIRE(a.size() == b.size());
  double worst = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const auto x = static_cast<double>(a[i]);
    const auto y = static_cast<double>(b[i]);
    if (std::isnan(x) != std::isnan(y)) return inf;
    if (x != y && !std::isnan(x)) worst = std::max(worst, std::abs(x - y));
  }
  return worst;
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
std::vector<typename B::real> attend(B& be, const attention_case& c, double poison = 0) {
  using real = typename B::real;
  const std::size_t d = c.heads * c.head_dim;
  const plmscope::rng random(7, 11);
  const auto qkv = matrix_of<real>(be, c.rows(), 3 * d, [&](std::size_t i) {
    if (i == 0 && poison != 0) return static_cast<real>(poison);
    const auto v = static_cast<real>(static_cast<float>(random.normal(i)));
    return i % (3 * d) < d ? v * static_cast<real>(c.scale) : v;
  });
  matrix<real, B> out(be, c.rows(), d);
  const const_view<B> all = qkv;
  be.attention(all.col_range(0, d), all.col_range(d, d), all.col_range(2 * d, d), c.head_dim,
               vector_of(be, offsets_of(c.lengths)),
               *std::max_element(c.lengths.begin(), c.lengths.end()), out);
  return to_host(be, out);
}

TEST_CASE("embed scales table rows") {
  for_each_backend([]<class B>(B a) {
    using real = typename B::real;
    reference b;
    for (const std::size_t d : awkward) {
      const std::vector<std::uint32_t> tokens{3, 0, 32, 5, 5};
      const std::vector<float> scales{0.88f, 1, 0, 0.5f, -2};
      matrix<real, B> out(a, tokens.size(), d);
      matrix<double, reference> y(b, tokens.size(), d);
      const auto ta = random_matrix(a, 33, d, 1);
      const auto tb = random_matrix(b, 33, d, 1);
      a.embed(ta, vector_of(a, tokens),
              vector_of(a, std::vector<real>(scales.begin(), scales.end())), out);
      b.embed(tb, vector_of(b, tokens),
              vector_of(b, std::vector<double>(scales.begin(), scales.end())), y);
      const std::vector<real> x = to_host(a, out);
      CHECK(worst_difference(x, to_host(b, y)) < 3e-7);
      CHECK(x[2 * d + d - 1] == 0);
      CHECK(x[4 * d] == -2 * to_host(a, ta)[5 * d]);
    }
  });
}

TEST_CASE("layer_norm agrees with the reference, also far from zero") {
  for_each_backend([]<class B>(B a) {
    using real = typename B::real;
    reference b;
    for (const std::size_t d : awkward) {
      for (const double offset : {0.0, 100.0}) {
        const plmscope::rng random(7, 2);
        const auto entry = [&](std::size_t i) {
          return static_cast<float>(random.normal(i)) + static_cast<float>(offset);
        };
        auto x = matrix_of<real>(a, 9, d, entry);
        const auto y = matrix_of<double>(b, 9, d, entry);
        const auto gain = random_matrix(a, 1, d, 3);
        for (const bool with_bias : {true, false}) {
          matrix<real, B> out(a, 9, d);
          matrix<double, reference> expected(b, 9, d);
          const auto ba = with_bias ? random_matrix(a, 1, d, 4) : matrix<real, B>();
          const auto bb = with_bias ? random_matrix(b, 1, d, 4) : matrix<double, reference>();
          a.layer_norm(x, gain, ba, real(1e-5f), out);
          b.layer_norm(y, random_matrix(b, 1, d, 3), bb, 1e-5, expected);
          CAPTURE(d);
          CAPTURE(offset);
          // A mean of 100 is known to 4e-6 in float, which the division by the deviation keeps.
          CHECK(worst_difference(to_host(a, out), to_host(b, expected)) <
                (offset == 0 ? 4e-6 : 2e-4));
        }
        // In place.
        matrix<real, B> out(a, 9, d);
        a.layer_norm(x, gain, matrix<real, B>(), real(1e-5f), out);
        a.layer_norm(x, gain, matrix<real, B>(), real(1e-5f), x);
        CHECK(bytes(a, out) == bytes(a, x));
      }
    }
  });
}

TEST_CASE("layer_norm of equal entries is its bias; NaN stays in its row") {
  for_each_backend([]<class B>(B a) {
    using real = typename B::real;
    const auto x = matrix_of<real>(a, 2, 64, [](std::size_t i) {
      return i == 64 + 5 ? std::numeric_limits<real>::quiet_NaN() : real{3};
    });
    const auto bias = random_matrix(a, 1, 64, 4);
    matrix<real, B> normal(a, 2, 64);
    a.layer_norm(x, random_matrix(a, 1, 64, 3), bias, real(1e-5f), normal);
    const std::vector<real> out = to_host(a, normal);
    CHECK(std::vector<real>(out.begin(), out.begin() + 64) == to_host(a, bias));
    CHECK(std::all_of(out.begin() + 64, out.end(), [](real v) { return std::isnan(v); }));
  });
}

TEST_CASE("gelu is the erf form to 1e-7") {
  for_each_backend([]<class B>(B a) {
    using real = typename B::real;
    const std::size_t n = 400'001;
    auto x = matrix_of<real>(a, 1, n, [](std::size_t i) {
      return -20.0 + 40.0 * (static_cast<double>(i) / static_cast<double>(n - 1));
    });
    const std::vector<real> in = to_host(a, x);
    a.gelu(x);
    const std::vector<real> out = to_host(a, x);
    double worst = 0;           // against the value, in units of max(1, |z|)
    double worst_negative = 0;  // relative, on [-3, 0): 1 + erf would lose digits here
    for (std::size_t i = 0; i < n; ++i) {
      const auto z = static_cast<long double>(in[i]);
      const long double exact = z * (1 + std::erf(z / std::sqrt(2.0L))) / 2;
      const auto error = static_cast<double>(std::abs(static_cast<long double>(out[i]) - exact));
      worst = std::max(worst, error / std::max(1.0, std::abs(static_cast<double>(z))));
      if (z < 0 && z >= -3) {
        worst_negative = std::max(worst_negative, error / static_cast<double>(std::abs(exact)));
      }
    }
    MESSAGE(B::id, ": gelu: worst error ", worst, ", relative for negative arguments ",
            worst_negative);
    CHECK(worst < 1e-7);
    CHECK(worst_negative < 2e-6);
  });
}

TEST_CASE("gelu at the ends, and entry by entry the same at any place") {
  for_each_backend([]<class B>(B a) {
    using real = typename B::real;
    reference b;
    const float large = std::numeric_limits<float>::infinity();
    const float nan = std::numeric_limits<float>::quiet_NaN();
    const std::vector<float> special{0.0f, -0.0f, large, nan, 1e30f, -1e30f, 1e-40f, -large};
    for (const std::size_t n : {8u, 17u, 33u}) {
      const auto entry = [&](std::size_t i) { return special[i % special.size()]; };
      auto wave = matrix_of<real>(a, 1, n, entry);
      auto y = matrix_of<double>(b, 1, n, entry);
      a.gelu(wave);
      b.gelu(y);
      const std::vector<real> x = to_host(a, wave);
      for (std::size_t i = 0; i < n; ++i) {
        CAPTURE(i);
        if (entry(i) == -large) {
          // The limit. The formula itself gives NaN, also where a processor computes in double.
          CHECK((std::abs(x[i]) < real(1e-30f) || (B::on_host && sizeof(real) == 8)));
        } else if (std::isnan(y(0, i))) {
          CHECK(std::isnan(x[i]));
        } else if (std::isinf(y(0, i))) {
          CHECK(static_cast<double>(x[i]) == y(0, i));
        } else {
          CHECK(static_cast<double>(x[i]) == doctest::Approx(y(0, i)).epsilon(1e-6));
        }
      }
    }
    const auto source = random_matrix(a, 1, 100, 5, 2);
    for (std::size_t first = 0; first < 40; ++first) {
      matrix<real, B> part(a, 1, 57);
      matrix<real, B> whole(a, 1, 100);
      a.copy(const_view<B>(source).col_range(first, 57), view<B>(part));
      a.copy(const_view<B>(source), view<B>(whole));
      a.gelu(part);
      a.gelu(whole);
      CHECK(bytes(a, part) == bytes(a, whole.all().col_range(first, 57)));
    }
  });
}

TEST_CASE("rotary agrees with the reference and keeps lengths") {
  for_each_backend([]<class B>(B a) {
    reference b;
    for (const std::size_t head_dim : {2u, 12u, 16u, 24u, 32u, 64u, 128u}) {
      const std::size_t d = 3 * head_dim;
      const std::vector<std::int32_t> positions{0, 1, 2, 0, 9, 4};
      const auto make = [&](auto& be) {
        using real = typename std::remove_reference_t<decltype(be)>::real;
        auto x = random_matrix(be, positions.size(), 2 * d, 6);
        const auto table = [&](const auto& f) {
          return matrix_of<real>(be, 10, head_dim / 2, f);
        };
        be.rotary(x.all().col_range(0, d), x.all().col_range(d, d), head_dim,
                  vector_of(be, positions),
                  table([](std::size_t i) { return std::cos(static_cast<double>(i)); }),
                  table([](std::size_t i) { return std::sin(static_cast<double>(i)); }),
                  static_cast<real>(0.25));
        return to_host(be, x);
      };
      const std::vector<double> y = make(b);
      CHECK(worst_difference(make(a), y) < 1e-6);
      const auto before = random_matrix(b, positions.size(), 2 * d, 6);
      double rotated = 0;
      double plain = 0;
      for (std::size_t j = 0; j < head_dim; ++j) {
        rotated += std::pow(y[4 * 2 * d + d + j], 2);
        plain += std::pow(before(4, d + j), 2);
      }
      CHECK(rotated == doctest::Approx(plain));
    }
  });
}

TEST_CASE("attention agrees with the reference") {
  for (const std::size_t head_dim : {1u, 2u, 5u, 12u, 16u, 24u, 32u, 64u, 128u}) {
    for (const double scale : {0.2, 5.0}) {
      const attention_case k{2, head_dim, {1, 2, 5, 6, 13, 16, 17, 33, 63, 64, 65, 80, 131}, scale};
      CAPTURE(head_dim);
      CAPTURE(scale);
      reference b;
      const auto expected = attend(b, k);
      // Scores of size scale sqrt(head_dim) are known to some 1e-7 of that.
      const double score = scale * std::sqrt(static_cast<double>(head_dim));
      for_each_backend([&]<class B>(B a) {
        CHECK(worst_difference(attend(a, k), expected) <
              (sizeof(typename B::real) == 4 ? 1e-6 + 2e-6 * score : 1e-13));
      });
    }
  }
}

TEST_CASE("attention: an empty sequence, equal scores, NaN in one sequence only") {
  for_each_backend([]<class B>(B a) {
    reference b;
    const attention_case holes{3, 8, {4, 0, 7, 0}, 1};
    CHECK(worst_difference(attend(a, holes), attend(b, holes)) < 2e-6);
    const attention_case flat{1, 16, {70}, 0};
    CHECK(worst_difference(attend(a, flat), attend(b, flat)) < 1e-6);
    const attention_case two{1, 16, {20, 20}, 1};
    const auto clean = attend(a, two);
    const auto poisoned = attend(a, two, std::numeric_limits<double>::quiet_NaN());
    CHECK(std::isnan(poisoned[3]));
    CHECK(std::equal(clean.begin() + 16, clean.end(), poisoned.begin() + 16));
  });
}

TEST_CASE("attention over a long sequence keeps its accuracy") {
  const attention_case k{1, 16, {3000}, 0.2};
  reference b;
  const auto expected = attend(b, k);
  for_each_backend([&]<class B>(B a) {
    CHECK(worst_difference(attend(a, k), expected) < 1e-6);
  });
}

TEST_CASE("transformer primitives: the same bits for any number of threads and any neighbours") {
  const attention_case k{4, 24, {5, 100, 64, 1, 190}, 1};
  for_each_cpu([&]<class B>(B) {
    B one(1);
    const auto expected = attend(one, k);
    for (const std::size_t threads : {2u, 3u, 7u}) {
      B several(threads);
      CHECK(attend(several, k) == expected);
    }
  });
  // The second sequence alone, from the same numbers.
  for_each_backend([&]<class B>(B a) {
    const std::size_t d = 4 * 24;
    const auto whole = attend(a, k);
    const auto qkv = random_matrix(a, k.rows(), 3 * d, 11);
    const const_view<B> all = const_view<B>(qkv).row_range(5, 100);
    matrix<typename B::real, B> alone(a, 100, d);
    a.attention(all.col_range(0, d), all.col_range(d, d), all.col_range(2 * d, d), 24,
                vector_of(a, offsets_of({100})), 100, alone);
    const auto part = to_host(a, alone);
    CHECK(std::equal(part.begin(), part.end(), whole.begin() + 5 * d));
  });
}

}  // namespace
