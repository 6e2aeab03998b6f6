// SPDX-License-Identifier: MIT
// The optimizer's and the latents' primitives against the reference.
#include <tests/backend/compare.hpp>

#include <plmscope/tensor/codes.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

namespace {

using namespace compare;
using plmscope::adam_step;
using plmscope::codes;
using plmscope::unit_length_rule;

template <class Real>
adam_step<double> exact_step(const adam_step<Real>& s) {
  const auto d = [](Real v) { return static_cast<double>(v); };
  return {d(s.rate), d(s.beta1), d(s.beta2), d(s.epsilon), d(s.correction1), d(s.correction2),
          d(s.decay)};
}

TEST_CASE("adam: moments and update, with clipping and decay") {
  for_each_backend([]<class B>(B be) {
    using real = typename B::real;
    reference naive;
    over_shapes<B>([&](std::size_t rows, std::size_t cols, bool strided, numbers kind) {
      for (const double factor : {0.0, 0.37, 1.0}) {
        const bool clipped = factor < 1;
        const adam_step<real> s{real(0.01), real(0.9), real(0.999), real(1e-8), real(0.19),
                                real(0.002), real(clipped ? 0.001 : 0)};
        twin<B> p(be, naive, rows, cols, strided, numbers::plain, 1);
        twin<B> p0(be, naive, rows, cols, strided, numbers::plain, 1);
        twin<B> g(be, naive, rows, cols, !strided, kind, 2);
        twin<B> m(be, naive, rows, cols, strided, numbers::plain, 3);
        twin<B> m0(be, naive, rows, cols, strided, numbers::plain, 3);
        twin<B> v(be, naive, rows, cols, strided);
        twin<B> v0(be, naive, rows, cols, strided);
        const auto second = [&](std::size_t r, std::size_t c) {
          return static_cast<real>(std::abs(number(4, r * cols + c)));
        };
        v.set(second);
        v0.set(second);
        const double exact_factor = static_cast<double>(static_cast<real>(factor));
        const std::vector<double> factors(clipped ? 1 : 0, exact_factor);
        be.adam(p.fast(), g.fast(), m.fast(), v.fast(), s, vector_of(be, factors));
        naive.adam(p.exact(), g.exact(), m.exact(), v.exact(), exact_step(s),
                   vector_of(naive, factors));
        const double f = exact_factor;
        const auto m_limit = [&](std::size_t r, std::size_t c) {
          return bound<real>(5, std::abs(0.9 * m0(r, c)) + std::abs(0.1 * f * g(r, c)));
        };
        const auto v_limit = [&](std::size_t r, std::size_t c) {
          return bound<real>(7, v0(r, c) + 0.001 * f * f * g(r, c) * g(r, c));
        };
        m.check(m_limit);
        v.check(v_limit);
        p.check([&](std::size_t r, std::size_t c) {
          // step = a m / (sqrt(v) / b + epsilon), with the errors of m and v carried through
          const double below = std::sqrt(v(r, c) / static_cast<double>(s.correction2)) + 1e-8;
          const double scale = 0.01 / 0.19 / below;
          const double lost = std::sqrt(v_limit(r, c) / static_cast<double>(s.correction2));
          const double relative = std::min(
              lost / below, v(r, c) > 0 ? v_limit(r, c) / v(r, c) : lost / below);
          return bound<real>(3, std::abs(p0(r, c)) + std::abs(scale * m(r, c))) +
                 scale * (m_limit(r, c) + std::abs(m(r, c)) * (relative + bound<real>(8, 1)));
        });
      }
    });
  });
}

TEST_CASE("adam: the first step moves every parameter by the rate against the gradient") {
  for_each_backend([]<class B>(B be) {
    using real = typename B::real;
    constexpr std::size_t silent = 3 * 65 + 3;
    matrix<real, B> p(be, 33, 65), m(be, 33, 65), v(be, 33, 65);
    const auto gradient = [](std::size_t i) { return i == silent ? 0.0 : number(1, i); };
    const auto g = matrix_of<real>(be, 33, 65, gradient);
    be.adam(p, g, m, v,
            {.rate = real(0.01), .beta1 = real(0.9), .beta2 = real(0.999), .epsilon = real(1e-12),
             .correction1 = real(1 - 0.9), .correction2 = real(1 - 0.999)});
    const std::vector<real> moved = to_host(be, p);
    double worst = 0;
    for (std::size_t i = 0; i < moved.size(); ++i) {
      const double want = gradient(i) > 0 ? -0.01 : gradient(i) < 0 ? 0.01 : 0.0;
      worst = std::max(worst, std::abs(static_cast<double>(moved[i]) - want));
    }
    CHECK(worst < 1e-6);
    CHECK(moved[silent] == 0);
  });
}

TEST_CASE(
    "adam_unit_rows and add_projected_squares: what project_rows, adam and normalize_rows do") {
  for_each_backend([]<class B>(B be) {
    using real = typename B::real;
    reference naive;
    // The compiler of a GPU may round products and sums of two kernels differently.
    const double apart = B::id == "cuda" ? 1e-4 : 0;
    over_shapes<B>([&](std::size_t rows, std::size_t cols, bool strided, numbers kind) {
      if (apart > 0 && kind != numbers::plain) return;
      for (const bool project : {true, false}) {
        const adam_step<real> s{real(0.01),
                                real(0.9),
                                real(0.999),
                                real(1e-8),
                                real(0.19),
                                real(0.002),
                                real(project ? 0.001 : 0)};
        const unit_length_rule rule{
            .project = project, .projection_epsilon = 1e-6, .length_epsilon = 1e-7};
        const auto factor = vector_of(be, std::vector<double>{0.37});
        const auto make = [&](bool other, std::uint64_t stream, numbers of) {
          return twin<B>(be, naive, rows, cols, strided != other, of, stream);
        };
        twin<B> p = make(false, 1, numbers::plain), p2 = make(false, 1, numbers::plain);
        twin<B> g = make(true, 2, kind), g2 = make(true, 2, kind);
        twin<B> m = make(false, 3, numbers::plain), m2 = make(false, 3, numbers::plain);
        twin<B> v = make(false, 4, numbers::plain), v2 = make(false, 4, numbers::plain);
        const auto second = [&](std::size_t r, std::size_t c) {
          return static_cast<real>(std::abs(number(4, r * cols + c)));
        };
        v.set(second);
        v2.set(second);
        matrix<double, B> squares(be, 1, 2);
        if (project) {
          be.add_projected_squares(g.fast(), p.fast(), real(1e-6), squares.all().col_range(0, 1));
          be.project_rows(g2.fast(), p2.fast(), real(1e-6));
          be.add_sum_squares(g2.fast(), squares.all().col_range(1, 1));
          const std::vector<double> sums = to_host(be, squares);
          const bool same = std::isfinite(sums[1]) ? std::abs(sums[0] - sums[1]) <= 1e-5 * sums[1]
                                                   : !std::isfinite(sums[0]);
          CHECK(same);
        }
        be.adam_unit_rows(p.fast(), g.fast(), m.fast(), v.fast(), s, rule, factor);
        be.adam(p2.fast(), g2.fast(), m2.fast(), v2.fast(), s, factor);
        be.normalize_rows(p2.fast(), real(1e-7));
        g.check_exact();
        const auto close = [&](twin<B>& one, twin<B>& two) {
          const std::vector<real> want = two.numbers();
          one.set_exact([&](std::size_t i) { return static_cast<double>(want[i]); });
          one.check([&](std::size_t, std::size_t) { return apart; });
        };
        close(p, p2);
        close(m, m2);
        close(v, v2);
      }
    });
  });
}

TEST_CASE("count_fired: tokens since a latent last exceeded the limit") {
  for_each_backend([]<class B>(B be) {
    using real = typename B::real;
    reference naive;
    codes<B> z(be, 6);
    codes<reference> exact(naive, 6);
    const host_codes<double> entries{
        6, {0, 3, 3, 6}, {0, 2, 4, 1, 2, 5}, {1, 0, -2, 0.5, -0.25, 0}};
    set_codes(be, z, entries);
    set_codes(naive, exact, entries);
    for (const double least : {0.0, 0.3, 5.0}) {
      const std::vector<std::int64_t> before(6, std::int64_t{1} << 40);
      auto since = vector_of(be, before);
      auto want = vector_of(naive, before);
      be.count_fired(z, since, 3, static_cast<real>(least));
      naive.count_fired(exact, want, 3, least);
      const std::vector<std::int64_t> fast = to_host(be, since);
      CHECK(fast == to_host(naive, want));
      const std::int64_t silent = (std::int64_t{1} << 40) + 3;
      // An entry that is zero has not fired; a negative one has.
      if (least == 0.0) CHECK(fast == std::vector<std::int64_t>{0, 0, 0, silent, 0, silent});
      if (least == 5.0) CHECK(std::count(fast.begin(), fast.end(), silent) == 6);
    }
  });
}

TEST_CASE("ids_where: ascending ids that have reached a number") {
  for_each_backend([]<class B>(B be) {
    reference naive;
    for (const std::size_t n : sizes{0, 1, 63, 64, 65, 257, 20011}) {
      std::vector<std::int64_t> since(n);
      for (std::size_t i = 0; i < n; ++i) since[i] = static_cast<std::int64_t>(9 * number(3, i));
      for (const std::int64_t least : {-100, 0, 4, 100}) {
        auto fast = vector_of(be, std::vector<std::uint32_t>(n, 7));
        auto want = vector_of(naive, std::vector<std::uint32_t>(n, 7));
        const std::size_t found = be.ids_where(vector_of(be, since), least, fast);
        CHECK(found == naive.ids_where(vector_of(naive, since), least, want));
        CHECK(to_host(be, fast) == to_host(naive, want));
        std::size_t count = 0;
        for (const std::int64_t s : since) count += s >= least ? 1U : 0U;
        CHECK(found == count);
      }
    }
  });
}

}  // namespace
