// SPDX-License-Identifier: MIT
// Softmax, the gradients of a transformer's functions, and what edits are made of.
#include <tests/backend/compare.hpp>

#include <doctest/doctest.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <vector>

namespace {

using namespace compare;

const std::vector<std::size_t> widths{1, 2, 7, 15, 16, 31, 63, 64, 65, 127, 320};

template <class B>
matrix<typename B::real, B> numbers_in(B& be, std::size_t rows, std::size_t cols,
                                       std::uint64_t stream, double scale = 1) {
  return matrix_of<typename B::real>(be, rows, cols, [&](std::size_t i) {
    return static_cast<float>(scale * number(stream, i));  // the same on every backend
  });
}

template <class A, class B>
double worst(const std::vector<A>& a, const std::vector<B>& b) {
  REQUIRE(a.size() == b.size());
  double most = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double apart = std::abs(static_cast<double>(a[i]) - static_cast<double>(b[i]));
    most = apart <= most ? most : apart;  // a NaN stays
  }
  return most;
}

template <class B>
double limit(double in_float) {
  return sizeof(typename B::real) == 4 ? in_float : in_float * 1e-8;
}

// sum of weights o f(x), for a change of entry i of x by h, by central differences in double.
double slope(const std::function<std::vector<double>(const std::vector<double>&)>& f,
             std::vector<double> x, const std::vector<double>& weights, std::size_t i) {
  constexpr double h = 1e-5;
  const auto value = [&](double by) {
    std::vector<double> moved = x;
    moved[i] += by;
    const auto y = f(moved);
    double sum = 0;
    for (std::size_t j = 0; j < y.size(); ++j) sum += weights[j] * y[j];
    return sum;
  };
  return (value(h) - value(-h)) / (2 * h);
}

}  // namespace

TEST_CASE("softmax_rows and its gradient agree with the reference") {
  for_each_backend([]<class B>(B a) {
    reference b;
    for (const std::size_t n : widths) {
      for (const double scale : {1.0, 60.0}) {
        CAPTURE(n);
        CAPTURE(scale);
        auto x = numbers_in(a, 5, n, 1, scale);
        auto y = numbers_in(b, 5, n, 1, scale);
        a.softmax_rows(x);
        b.softmax_rows(y);
        CHECK(worst(to_host(a, x), to_host(b, y)) < limit<B>(6e-7));
        auto g = numbers_in(a, 5, n, 2);
        auto h = numbers_in(b, 5, n, 2);
        a.softmax_backward(x, g);
        b.softmax_backward(y, h);
        CHECK(worst(to_host(a, g), to_host(b, h)) < limit<B>(1e-6));
      }
    }
    // A row is its own: NaN and infinity spoil theirs only.
    using real = typename B::real;
    auto x = matrix_of<real>(a, 3, 20, [](std::size_t i) {
      return i == 25 ? std::numeric_limits<real>::quiet_NaN() : real(0);
    });
    a.softmax_rows(x);
    const auto out = to_host(a, x);
    CHECK(out[19] == real(1) / real(20));
    CHECK(out[59] == real(1) / real(20));
    CHECK(std::isnan(out[20]));
    CHECK(std::isnan(out[39]));
  });
}

TEST_CASE("layer_norm_backward agrees with the reference, also in place and far from zero") {
  for_each_backend([]<class B>(B a) {
    using real = typename B::real;
    reference b;
    for (const std::size_t d : widths) {
      for (const double offset : {0.0, 30.0}) {
        CAPTURE(d);
        CAPTURE(offset);
        const auto entry = [&](std::size_t i) {
          return static_cast<float>(number(1, i)) + static_cast<float>(offset);
        };
        const auto x = matrix_of<real>(a, 6, d, entry);
        const auto y = matrix_of<double>(b, 6, d, entry);
        const auto gain = numbers_in(a, 1, d, 3);
        auto g = numbers_in(a, 6, d, 4);
        matrix<real, B> out(a, 6, d);
        matrix<double, reference> expected(b, 6, d);
        a.layer_norm_backward(x, gain, g, real(1e-5f), out);
        b.layer_norm_backward(y, numbers_in(b, 1, d, 3), numbers_in(b, 6, d, 4),
                              static_cast<double>(1e-5f), expected);
        // With one column everything cancels but the rounding of 1 / sqrt(1e-5).
        CHECK(worst(to_host(a, out), to_host(b, expected)) < limit<B>(d == 1 ? 1e-4 : 3e-5));
        a.layer_norm_backward(x, gain, g, real(1e-5f), g);
        CHECK(to_host(a, g) == to_host(a, out));
      }
    }
  });
}

TEST_CASE("gelu_backward agrees with the reference") {
  for_each_backend([]<class B>(B a) {
    reference b;
    for (const std::size_t n : widths) {
      auto g = numbers_in(a, 4, n, 2);
      auto h = numbers_in(b, 4, n, 2);
      a.gelu_backward(numbers_in(a, 4, n, 1, 9), g);
      b.gelu_backward(numbers_in(b, 4, n, 1, 9), h);
      CHECK(worst(to_host(a, g), to_host(b, h)) < limit<B>(2e-7));
    }
  });
}

TEST_CASE("the reference's gradients are slopes of the reference's functions") {
  reference be;
  constexpr std::size_t n = 7;
  using function = std::function<std::vector<double>(const std::vector<double>&)>;
  const auto gain = numbers_in(be, 1, n, 3);
  const auto x = numbers_in(be, 1, n, 1, 2);
  const auto weights = numbers_in(be, 1, n, 2);
  const auto matrix_from = [&](const std::vector<double>& v) {
    return matrix_of<double>(be, 1, v.size(), [&](std::size_t i) { return v[i]; });
  };
  const auto check = [&](const function& f, const matrix<double, reference>& gradient) {
    for (std::size_t i = 0; i < n; ++i) {
      CHECK(to_host(be, gradient)[i] ==
            doctest::Approx(slope(f, to_host(be, x), to_host(be, weights), i)).epsilon(1e-7));
    }
  };
  matrix<double, reference> out(be, 1, n);
  be.layer_norm_backward(x, gain, weights, 1e-5, out);
  check(
      [&](const auto& v) {
        matrix<double, reference> y(be, 1, n);
        be.layer_norm(matrix_from(v), gain, matrix<double, reference>(), 1e-5, y);
        return to_host(be, y);
      },
      out);

  be.copy(const_view<reference>(weights), out.all());
  be.gelu_backward(x, out);
  check(
      [&](const auto& v) {
        auto y = matrix_from(v);
        be.gelu(y);
        return to_host(be, y);
      },
      out);

  auto p = matrix_from(to_host(be, x));
  be.softmax_rows(p);
  be.copy(const_view<reference>(weights), out.all());
  be.softmax_backward(p, out);
  check(
      [&](const auto& v) {
        auto y = matrix_from(v);
        be.softmax_rows(y);
        return to_host(be, y);
      },
      out);
}

TEST_CASE("scatter_rows writes rows, and one row to many; scatter_add_rows likewise adds") {
  for_each_backend([]<class B>(B be) {
    using real = typename B::real;
    for (const std::size_t d : widths) {
      const std::vector<std::uint32_t> ids{4, 0, 7};
      const auto where = vector_of(be, ids);
      for (const std::size_t rows : {3u, 1u}) {
        const auto x = numbers_in(be, rows, d, 1);
        const auto old = numbers_in(be, 9, d, 2);
        auto set = numbers_in(be, 9, d, 2);
        auto sum = numbers_in(be, 9, d, 2);
        be.scatter_rows(x, where, set);
        be.scatter_add_rows(x, where, sum);
        auto expected_set = to_host(be, old);
        auto expected_sum = expected_set;
        for (std::size_t i = 0; i < ids.size(); ++i) {
          for (std::size_t j = 0; j < d; ++j) {
            const real v = to_host(be, x)[(rows == 1 ? 0 : i) * d + j];
            expected_set[ids[i] * d + j] = v;
            expected_sum[ids[i] * d + j] += v;
          }
        }
        CHECK(to_host(be, set) == expected_set);
        CHECK(to_host(be, sum) == expected_sum);
      }
    }
  });
}

TEST_CASE("unpack gives back what was packed; epilogues give the bits of their parts") {
  for_each_provider([]<class B>(B be) {
    using real = typename B::real;
    for (const auto& [n, k] : {std::pair<std::size_t, std::size_t>{1, 1},
                               {0, 3},
                               {63, 65},
                               {64, 64},
                               {130, 31},
                               {320, 127}}) {
      CAPTURE(n);
      CAPTURE(k);
      const auto w = numbers_in(be, n, k, 1);
      const auto packed = be.pack(w);
      matrix<real, B> wide(be, n, k + 3);
      be.unpack(packed, wide.all().col_range(2, k));
      CHECK(to_host(be, view<B>(wide.all().col_range(2, k))) == to_host(be, w));

      const std::size_t m = 70;
      const auto x = numbers_in(be, m, k, 2);
      const auto bias = numbers_in(be, 1, n, 3);
      matrix<real, B> plain(be, m, n);
      be.linear(x, packed, bias, plain);
      auto sum = numbers_in(be, m, n, 4);
      auto apart = numbers_in(be, m, n, 4);
      be.linear(x, packed, bias, sum, plmscope::epilogue::add);
      be.axpy(real{1}, plain, apart);
      CHECK(to_host(be, sum) == to_host(be, apart));
      matrix<real, B> fused(be, m, n);
      be.linear(x, packed, bias, fused, plmscope::epilogue::gelu);
      be.gelu(plain);
      CHECK(to_host(be, fused) == to_host(be, plain));
    }
  });
}
