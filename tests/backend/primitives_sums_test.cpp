// SPDX-License-Identifier: MIT
// Primitives that sum (rows, columns, everything) against the reference.
#include <tests/backend/compare.hpp>

#include <doctest/doctest.h>

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

namespace {

using namespace compare;

constexpr double infinity = std::numeric_limits<double>::infinity();

// Relative error of a computed row norm: half that of the sum of squares, plus the root's own, plus
// what is lost where squares underflow.
template <class Real>
double norm_error(std::size_t n, double norm) {
  const double lost = std::sqrt(static_cast<double>(n) *
                                static_cast<double>(std::numeric_limits<Real>::denorm_min()));
  return gamma<Real>(n + 3) + gamma<double>(n + 3) + (norm > 0 ? lost / norm : 0.0);
}

template <class Real>
double smallest() {
  return static_cast<double>(std::numeric_limits<Real>::denorm_min());
}

TEST_CASE("column_sums and column_dots") {
  for_each_backend([]<class B>(B be) {
    using real = typename B::real;
    reference naive;
    over_shapes<B>([&](std::size_t rows, std::size_t cols, bool strided, numbers kind) {
      twin<B> a(be, naive, rows, cols, strided, kind, 1);
      twin<B> b(be, naive, rows, cols, !strided, kind, 2);
      std::vector<double> sums(cols, 0.0);
      std::vector<double> products(cols, 0.0);
      for (std::size_t r = 0; r < rows; ++r) {
        for (std::size_t c = 0; c < cols; ++c) {
          sums[c] += std::abs(a(r, c));
          products[c] += std::abs(a(r, c) * b(r, c));
        }
      }
      // The sums are in double: only the last rounding is one of `real`.
      twin<B> out(be, naive, 1, cols, strided, numbers::plain, 9);
      be.column_sums(a.fast(), out.fast());
      naive.column_sums(a.exact(), out.exact());
      out.check([&](std::size_t, std::size_t c) {
        return 2 * gamma<double>(rows + 2) * sums[c] + bound<real>(1, std::abs(out(0, c)));
      });
      be.column_dots(a.fast(), b.fast(), out.fast());
      naive.column_dots(a.exact(), b.exact(), out.exact());
      out.check([&](std::size_t, std::size_t c) {
        return 2 * gamma<double>(rows + 3) * products[c] + bound<real>(1, std::abs(out(0, c)));
      });
    });
  });
}

TEST_CASE("row_norms, row_dots and normalize_rows") {
  for_each_backend([]<class B>(B be) {
    using real = typename B::real;
    reference naive;
    over_shapes<B>([&](std::size_t rows, std::size_t cols, bool strided, numbers kind) {
      twin<B> a(be, naive, rows, cols, strided, kind, 1);
      twin<B> b(be, naive, rows, cols, !strided, kind, 2);
      twin<B> norms(be, naive, 1, rows);
      be.row_norms(a.fast(), norms.fast());
      naive.row_norms(a.exact(), norms.exact());
      norms.check([&](std::size_t, std::size_t r) {
        return norms(0, r) * norm_error<real>(cols, norms(0, r)) + smallest<real>();
      });

      twin<B> dots(be, naive, 1, rows);
      be.row_dots(a.fast(), b.fast(), dots.fast());
      naive.row_dots(a.exact(), b.exact(), dots.exact());
      dots.check([&](std::size_t, std::size_t r) {
        double magnitude = 0;
        for (std::size_t c = 0; c < cols; ++c) magnitude += std::abs(a(r, c) * b(r, c));
        return bound<real>(cols + 1, magnitude);
      });

      for (const real epsilon : {real{0}, real(1e-6)}) {
        twin<B> x(be, naive, rows, cols, strided, kind, 1);
        be.normalize_rows(x.fast(), epsilon);
        naive.normalize_rows(x.exact(), static_cast<double>(epsilon));
        x.check([&](std::size_t r, std::size_t c) {
          return std::abs(x(r, c)) * (norm_error<real>(cols, norms(0, r)) + bound<real>(3, 1)) +
                 smallest<real>();
        });
      }
    });
  });
}

TEST_CASE("normalize_rows leaves zeros and makes the others of length 1") {
  for_each_backend([]<class B>(B be) {
    using real = typename B::real;
    auto x = matrix_of<real>(be, 3, 70, [](std::size_t i) {
      return i / 70 == 1 ? number(1, i % 70) : i == 2 * 70 + 69 ? -1e-15 : 0.0;
    });
    be.normalize_rows(x, real{0});
    matrix<real, B> lengths(be, 1, 3);
    be.row_norms(x, lengths);
    const std::vector<real> norms = to_host(be, lengths);
    CHECK(norms[0] == 0);
    CHECK(norms[1] == doctest::Approx(1).epsilon(1e-5));
    CHECK(to_host(be, x)[2 * 70 + 69] == doctest::Approx(-1).epsilon(1e-5));
  });
}

TEST_CASE("project_rows removes the part along each direction") {
  for_each_backend([]<class B>(B be) {
    using real = typename B::real;
    reference naive;
    over_shapes<B>([&](std::size_t rows, std::size_t cols, bool strided, numbers kind) {
      // Infinities in a direction have none; NaN there is tested below.
      const numbers direction = kind == numbers::special ? numbers::plain : kind;
      for (const real epsilon : {real{0}, real(1e-6)}) {
        twin<B> g(be, naive, rows, cols, strided, kind, 1);
        twin<B> before(be, naive, rows, cols, strided, kind, 1);
        twin<B> w(be, naive, rows, cols, !strided, direction, 2);
        be.project_rows(g.fast(), w.fast(), epsilon);
        naive.project_rows(g.exact(), w.exact(), static_cast<double>(epsilon));
        std::vector<double> along(rows), magnitude(rows), norm(rows);
        for (std::size_t r = 0; r < rows; ++r) {
          for (std::size_t c = 0; c < cols; ++c) {
            magnitude[r] += std::abs(before(r, c) * w(r, c));
            norm[r] += w(r, c) * w(r, c);
          }
          norm[r] = std::sqrt(norm[r]) + static_cast<double>(epsilon);
        }
        g.check([&](std::size_t r, std::size_t c) {
          const double relative = norm_error<real>(cols, norm[r]) + bound<real>(6, 1);
          const double sum = bound<real>(cols + 1, magnitude[r]) / norm[r];
          const double unit = std::abs(w(r, c)) / norm[r];
          return unit * (sum + 2 * magnitude[r] / norm[r] * relative) +
                 bound<real>(2, std::abs(before(r, c)) + unit * magnitude[r] / norm[r]);
        });
      }
    });
  });
}

TEST_CASE("project_rows leaves a gradient whose direction is zero") {
  for_each_backend([]<class B>(B be) {
    using real = typename B::real;
    matrix<real, B> w(be, 1, 65);
    matrix<real, B> g(be, 1, 65);
    be.fill(g.all(), real{2});
    be.project_rows(g, w, real{0});
    CHECK(to_host(be, g) == std::vector<real>(65, real{2}));
  });
}

TEST_CASE("row_moments with both kinds of deviation") {
  for_each_backend([]<class B>(B be) {
    using real = typename B::real;
    reference naive;
    over_shapes<B>([&](std::size_t rows, std::size_t cols, bool strided, numbers kind) {
      twin<B> x(be, naive, rows, cols, strided, kind, 1);
      for (const std::size_t ddof : sizes{0, 1}) {
        for (const real epsilon : {real{0}, real(1e-5)}) {
          twin<B> mean(be, naive, 1, rows);
          twin<B> deviation(be, naive, 1, rows);
          be.row_moments(x.fast(), mean.fast(), deviation.fast(), ddof, epsilon);
          naive.row_moments(x.exact(), mean.exact(), deviation.exact(), ddof,
                            static_cast<double>(epsilon));
          std::vector<double> centre(rows, 0.0);  // error of the mean, in double
          for (std::size_t r = 0; r < rows; ++r) {
            for (std::size_t c = 0; c < cols; ++c) centre[r] += std::abs(x(r, c));
            centre[r] *= cols == 0 ? 0 : 2 * gamma<double>(cols + 2) / static_cast<double>(cols);
          }
          mean.check([&](std::size_t, std::size_t r) {
            return centre[r] + bound<real>(1, std::abs(mean(0, r)));
          });
          const double freedom = cols > ddof ? static_cast<double>(cols - ddof) : 1.0;
          deviation.check([&](std::size_t, std::size_t r) {
            return 2 * gamma<double>(cols + 6) * deviation(0, r) +
                   bound<real>(1, deviation(0, r)) +
                   2 * std::sqrt(static_cast<double>(cols) / freedom) * centre[r];
          });
        }
      }
    });
  });
}

TEST_CASE("weighted_row_sum") {
  for_each_backend([]<class B>(B be) {
    using real = typename B::real;
    reference naive;
    over_shapes<B>([&](std::size_t rows, std::size_t cols, bool strided, numbers kind) {
      twin<B> w(be, naive, rows, cols, strided, kind, 1);
      twin<B> s(be, naive, 1, rows, strided, kind, 2);
      twin<B> out(be, naive, 1, cols, strided, numbers::plain, 3);
      const real alpha = real(-0.7);
      std::vector<double> magnitude(cols);
      for (std::size_t c = 0; c < cols; ++c) {
        for (std::size_t r = 0; r < rows; ++r) magnitude[c] += std::abs(0.7 * s(0, r) * w(r, c));
        magnitude[c] += std::abs(out(0, c));
      }
      be.weighted_row_sum(w.fast(), s.fast(), out.fast(), alpha);
      naive.weighted_row_sum(w.exact(), s.exact(), out.exact(), static_cast<double>(alpha));
      out.check([&](std::size_t, std::size_t c) { return bound<real>(rows + 4, magnitude[c]); });
    });
  });
}

TEST_CASE("add_sum and add_sum_squares add to a slot in double") {
  for_each_backend([]<class B>(B be) {
    reference naive;
    over_shapes<B>([&](std::size_t rows, std::size_t cols, bool strided, numbers kind) {
      twin<B> x(be, naive, rows, cols, strided, kind, 1);
      double magnitude = 1.5;
      double squares = 1.5;
      for (std::size_t r = 0; r < rows; ++r) {
        for (std::size_t c = 0; c < cols; ++c) {
          magnitude += std::abs(x(r, c));
          squares += x(r, c) * x(r, c);
        }
      }
      const auto check = [&](double got, double want, double size) {
        if (std::isnan(want)) {
          CHECK(std::isnan(got));
        } else if (std::isinf(want)) {
          CHECK(got == want);
        } else {
          CHECK(std::abs(got - want) <= 2 * gamma<double>(rows * cols + 2) * size);
        }
      };
      auto fast = vector_of(be, std::vector<double>{1.5, 1.5});
      auto exact = vector_of(naive, std::vector<double>{1.5, 1.5});
      be.add_sum(x.fast(), fast.all().col_range(0, 1));
      be.add_sum_squares(x.fast(), fast.all().col_range(1, 1));
      naive.add_sum(x.exact(), exact.all().col_range(0, 1));
      naive.add_sum_squares(x.exact(), exact.all().col_range(1, 1));
      const std::vector<double> got = to_host(be, fast);
      check(got[0], exact(0, 0), magnitude);
      check(got[1], exact(0, 1), squares);
    });
  });
}

TEST_CASE("clip_factor never enlarges") {
  for_each_backend([]<class B>(B be) {
    reference naive;
    for (const double squares : {0.0, 1e-300, 0.25, 1.0, 4.0, 1e12, infinity}) {
      for (const double limit : {0.5, 1.0, 3.0}) {
        matrix<double, B> factor(be, 1, 1);
        matrix<double, reference> exact(naive, 1, 1);
        be.clip_factor(vector_of(be, std::vector<double>{squares}), limit, factor);
        naive.clip_factor(vector_of(naive, std::vector<double>{squares}), limit, exact);
        const double fast = to_host(be, factor)[0];
        CHECK(fast == exact(0, 0));
        CHECK(fast == doctest::Approx(std::min(1.0, limit / (std::sqrt(squares) + 1e-6))));
        CHECK(fast * std::sqrt(std::min(squares, 1e300)) <= limit);
      }
    }
  });
}

TEST_CASE("all_finite sees one bad entry anywhere and nothing outside of the view") {
  for_each_backend([]<class B>(B be) {
    using real = typename B::real;
    using limits = std::numeric_limits<real>;
    reference naive;
    CHECK(be.all_finite(const_view<B>()));
    for (const auto& [rows, cols] : shapes) {
      if (rows * cols == 0 || rows * cols > 5000) continue;
      twin<B> x(be, naive, rows, cols, true, numbers::spread, 1);
      // The frame around the matrix, which is not part of it, is not finite.
      matrix<real, B> frame(be, rows + 2, cols + 2);
      be.fill(frame.all(), limits::infinity());
      const view<B> inner = frame.all().row_range(1, rows).col_range(1, cols);
      be.copy(const_view<B>(x.fast()), inner);
      CHECK(be.all_finite(inner));
      CHECK(naive.all_finite(x.exact()));
      std::size_t missed = 0;
      for (std::size_t r = 0; r < rows; r += rows / 3 + 1) {
        for (std::size_t c = 0; c < cols; c += B::on_host ? 1 : 7) {
          const view<B> entry = inner.row_range(r, 1).col_range(c, 1);
          for (const real bad : {limits::quiet_NaN(), -limits::quiet_NaN(), limits::infinity(),
                                 -limits::infinity(), limits::signaling_NaN()}) {
            be.fill(entry, bad);
            if (be.all_finite(inner)) ++missed;
          }
          for (const real good : {limits::max(), limits::lowest(), limits::denorm_min()}) {
            be.fill(entry, good);
            if (!be.all_finite(inner)) ++missed;
          }
          be.fill(entry, real{0});
        }
      }
      CHECK(missed == 0);
    }
  });
}

}  // namespace
