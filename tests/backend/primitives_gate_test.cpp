// SPDX-License-Identifier: MIT
// The gate of SwiGLU against its formula and the reference.
#include <tests/backend/compare.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <vector>

namespace {

using namespace compare;

constexpr double inf = std::numeric_limits<double>::infinity();

// silu(x) * 1, in place.
template <class B>
std::vector<typename B::real> silu_of(B& be, const std::vector<double>& x) {
  using real = typename B::real;
  auto gate = matrix_of<real>(be, 1, x.size(), [&](std::size_t i) { return x[i]; });
  const auto ones = matrix_of<real>(be, 1, x.size(), [](std::size_t) { return 1; });
  be.silu_gate(gate, ones, gate);
  return to_host(be, gate);
}

TEST_CASE("silu_gate is x / (1 + e^-x) to rounding, small values relative to themselves") {
  for_each_backend([]<class B>(B a) {
    using real = typename B::real;
    const std::size_t n = 400'001;
    std::vector<double> in(n);
    for (std::size_t i = 0; i < n; ++i) {
      in[i] = static_cast<double>(
          static_cast<float>(-80 + 160.0 * (static_cast<double>(i) / static_cast<double>(n - 1))));
    }
    const std::vector<real> out = silu_of(a, in);
    double worst = 0;
    for (std::size_t i = 0; i < n; ++i) {
      const auto x = static_cast<long double>(in[i]);
      const long double exact = x / (1 + std::exp(-x));
      if (exact == 0) continue;
      worst = std::max(
          worst, static_cast<double>(std::abs((static_cast<long double>(out[i]) - exact) / exact)));
    }
    MESSAGE(B::id, ": silu: worst relative error ", worst);
    CHECK(worst < (sizeof(real) == 4 ? 5e-7 : 1e-14));
  });
}

TEST_CASE("silu_gate at the ends: no overflow on the way, NaN stays") {
  for_each_backend([]<class B>(B a) {
    using real = typename B::real;
    const double nan = std::numeric_limits<double>::quiet_NaN();
    const double large = 1e30;
    const std::vector<double> x{0, -0.0, large, -large, inf, nan, -100, 100, -inf};
    const std::vector<real> y = silu_of(a, x);
    CHECK(y[0] == 0);
    CHECK(y[1] == 0);
    CHECK(y[2] == static_cast<real>(large));
    CHECK(std::abs(y[3]) < real(1e-34f));
    CHECK(std::isinf(y[4]));
    CHECK(std::isnan(y[5]));
    CHECK(std::abs(y[6]) < real(1e-34f));
    CHECK(y[7] == 100);
    CHECK(std::abs(y[8]) < real(1e-34f));  // the limit; the formula itself gives NaN
  });
}

TEST_CASE("silu_gate on parts of a matrix, in place of either operand, the same at any place") {
  for_each_backend([]<class B>(B a) {
    using real = typename B::real;
    reference b;
    for (const std::size_t n : {1u, 2u, 7u, 16u, 31u, 63u, 64u, 65u, 127u, 320u}) {
      const std::size_t rows = 5;
      // Rounded to float, so that every backend starts from the same numbers.
      const auto entry = [](std::size_t i) { return static_cast<float>(8 * number(3, i)); };
      const auto source = matrix_of<real>(a, rows, 2 * n, entry);
      const auto exact = matrix_of<double>(b, rows, 2 * n, entry);
      const const_view<B> all = source;
      matrix<real, B> out(a, rows, n);
      matrix<double, reference> expected(b, rows, n);
      a.silu_gate(all.col_range(0, n), all.col_range(n, n), out);
      b.silu_gate(const_view<reference>(exact).col_range(0, n),
                  const_view<reference>(exact).col_range(n, n), expected);
      CAPTURE(n);
      const auto ours = to_host(a, out);
      const auto theirs = to_host(b, expected);
      for (std::size_t i = 0; i < ours.size(); ++i) {
        CHECK(static_cast<double>(ours[i]) == doctest::Approx(theirs[i]).epsilon(1e-6));
      }
      for (const bool first : {true, false}) {
        matrix<real, B> both(a, rows, 2 * n);
        a.copy(all, view<B>(both));
        const view<B> gate = both.all().col_range(0, n);
        const view<B> up = both.all().col_range(n, n);
        a.silu_gate(gate, up, first ? gate : up);
        CHECK(bytes(a, first ? gate : up) == bytes(a, out));
        CHECK(bytes(a, first ? up : gate) == bytes(a, all.col_range(first ? n : 0, n)));
      }
      // The last columns alone.
      for (std::size_t skip = 1; skip < std::min<std::size_t>(n, 20); ++skip) {
        matrix<real, B> part(a, rows, n - skip);
        a.silu_gate(all.col_range(skip, n - skip), all.col_range(n + skip, n - skip), part);
        CHECK(bytes(a, part) == bytes(a, out.all().col_range(skip, n - skip)));
      }
    }
  });
}

TEST_CASE("silu_gate: the same bits for any number of threads") {
  for_each_cpu([]<class B>(B) {
    const auto run = [](std::size_t threads) {
      using real = typename B::real;
      B be(threads);
      const auto x = matrix_of<real>(be, 301, 514, [](std::size_t i) { return 5 * number(1, i); });
      matrix<real, B> out(be, 301, 257);
      const const_view<B> all = x;
      be.silu_gate(all.col_range(0, 257), all.col_range(257, 257), out);
      return bytes(be, out);
    };
    const auto one = run(1);
    for (const std::size_t threads : {2u, 3u, 7u}) CHECK(run(threads) == one);
  });
}

}  // namespace
