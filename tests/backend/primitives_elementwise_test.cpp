// SPDX-License-Identifier: MIT
// Memory and entry-by-entry primitives of backend/primitives.hpp against the reference.
#include <tests/backend/compare.hpp>

#include <doctest/doctest.h>

#include <cstddef>
#include <cstdint>
#include <numeric>
#include <span>
#include <vector>

namespace {

using namespace compare;

TEST_CASE("fresh memory is zero and fill reaches every entry and no other") {
  for_each_backend([]<class B>(B be) {
    using real = typename B::real;
    const auto buffer = be.template allocate<real>(1000);
    REQUIRE(buffer.size() == 1000);
    CHECK(to_host(be, const_view<B>(buffer.get(), 1000)) == std::vector<real>(1000));
    CHECK(be.template allocate<std::int64_t>(0).size() == 0);
    for (const auto& [rows, cols] : shapes) {
      framed<B> x(be, rows, cols, true);
      be.fill(x.inner(), real{-3});
      CHECK(x.numbers() == std::vector<real>(rows * cols, real{-3}));
      CHECK(x.intact());
    }
    be.synchronize();
  });
}

TEST_CASE("copy, upload and download convert entry by entry") {
  for_each_backend([]<class B>(B be) {
    reference naive;
    over_shapes<B>([&](std::size_t rows, std::size_t cols, bool strided, numbers kind) {
      twin<B> x(be, naive, rows, cols, strided, kind, 1);
      framed<B> same(be, rows, cols, !strided);
      be.copy(const_view<B>(x.fast()), same.inner());
      CHECK(bytes(be, same.inner()) == bytes(be, x.fast()));
      CHECK(same.intact());

      framed<B, double> wide(be, rows, cols, strided);
      be.copy(const_view<B>(x.fast()), wide.inner());
      std::vector<double> host(rows * cols, 5.0);
      be.download(const_view<B>(x.fast()), std::span<double>(host));
      twin<B> back(be, naive, rows, cols, strided);
      be.upload(std::span<const double>(host), back.fast());
      naive.upload(std::span<const double>(host), back.exact().all());
      const std::vector<double> copied = wide.numbers();
      std::size_t wrong = 0;
      for (std::size_t r = 0; r < rows; ++r) {
        for (std::size_t c = 0; c < cols; ++c) {
          const double want = x(r, c);
          const auto is = [&](double got) { return got == want || (got != got && want != want); };
          if (!is(copied[r * cols + c]) || !is(host[r * cols + c])) ++wrong;
        }
      }
      CHECK(wrong == 0);
      CHECK(wide.intact());
      back.check_exact();
      CHECK(bytes(be, back.fast()) == bytes(be, x.fast()));
    });
    // Counters of latents are 64-bit integers.
    const std::vector<std::int64_t> from{0, -1, std::int64_t{1} << 60};
    matrix<std::int64_t, B> counts(be, 1, 3);
    be.upload(std::span<const std::int64_t>(from), counts.all());
    std::vector<std::int64_t> to(3);
    be.download(counts.all(), std::span<std::int64_t>(to));
    CHECK(to == from);
  });
}

TEST_CASE("add_row, scale_columns, axpy and scale") {
  for_each_backend([]<class B>(B be) {
    using real = typename B::real;
    reference naive;
    over_shapes<B>([&](std::size_t rows, std::size_t cols, bool strided, numbers kind) {
      const auto fresh = [&] { return twin<B>(be, naive, rows, cols, strided, kind, 1); };
      twin<B> before = fresh();
      twin<B> other(be, naive, rows, cols, strided, kind, 2);
      twin<B> row(be, naive, 1, cols, strided, kind, 3);
      const real alpha = real(0.3);
      const double exact_alpha = static_cast<double>(alpha);

      twin<B> x = fresh();
      be.add_row(x.fast(), row.fast());
      naive.add_row(x.exact(), row.exact());
      x.check([&](std::size_t r, std::size_t c) {
        return bound<real>(1, std::abs(before(r, c)) + std::abs(row(0, c)));
      });
      twin<B> weighted = fresh();
      be.add_row(weighted.fast(), row.fast(), alpha);
      naive.add_row(weighted.exact(), row.exact(), exact_alpha);
      weighted.check([&](std::size_t r, std::size_t c) {
        return bound<real>(2, std::abs(before(r, c)) + std::abs(exact_alpha * row(0, c)));
      });
      twin<B> scaled = fresh();
      be.scale_columns(scaled.fast(), row.fast());
      naive.scale_columns(scaled.exact(), row.exact());
      scaled.check([&](std::size_t r, std::size_t c) {
        return bound<real>(1, std::abs(before(r, c) * row(0, c)));
      });
      twin<B> y = fresh();
      be.axpy(alpha, other.fast(), y.fast());
      naive.axpy(exact_alpha, other.exact(), y.exact());
      y.check([&](std::size_t r, std::size_t c) {
        return bound<real>(2, std::abs(before(r, c)) + std::abs(exact_alpha * other(r, c)));
      });
      twin<B> times = fresh();
      be.scale(times.fast(), alpha);
      naive.scale(times.exact(), exact_alpha);
      times.check([&](std::size_t r, std::size_t c) {
        return bound<real>(1, std::abs(exact_alpha * before(r, c)));
      });
    });
  });
}

TEST_CASE("affine_rows and reciprocal, also in place") {
  for_each_backend([]<class B>(B be) {
    using real = typename B::real;
    reference naive;
    over_shapes<B>([&](std::size_t rows, std::size_t cols, bool strided, numbers kind) {
      const auto fresh = [&] { return twin<B>(be, naive, rows, cols, strided, kind, 1); };
      twin<B> x = fresh();
      twin<B> shift(be, naive, 1, rows, strided, kind, 2);
      twin<B> factor(be, naive, 1, rows, strided, kind, 3);
      const auto limit = [&](std::size_t r, std::size_t c) {
        const double size = std::abs(x(r, c)) + std::abs(shift(0, r));
        constexpr auto tiny = static_cast<double>(std::numeric_limits<real>::denorm_min());
        return bound<real>(2, size * std::abs(factor(0, r))) + tiny * std::abs(factor(0, r));
      };
      twin<B> out(be, naive, rows, cols, !strided);
      be.affine_rows(x.fast(), shift.fast(), factor.fast(), out.fast());
      naive.affine_rows(x.exact(), shift.exact(), factor.exact(), out.exact());
      out.check(limit);
      twin<B> place = fresh();
      be.affine_rows(place.fast(), shift.fast(), factor.fast(), place.fast());
      CHECK(bytes(be, place.fast()) == bytes(be, out.fast()));

      const real alpha = real(-2.5);
      twin<B> inverse(be, naive, rows, cols, !strided);
      be.reciprocal(alpha, x.fast(), inverse.fast());
      naive.reciprocal(static_cast<double>(alpha), x.exact(), inverse.exact());
      inverse.check([&](std::size_t r, std::size_t c) {
        return bound<real>(1, std::abs(static_cast<double>(alpha) / x(r, c)));
      });
      twin<B> self = fresh();
      be.reciprocal(alpha, self.fast(), self.fast());
      CHECK(bytes(be, self.fast()) == bytes(be, inverse.fast()));
    });
  });
}

TEST_CASE("gather_rows and scatter_add_rows") {
  for_each_backend([]<class B>(B be) {
    using real = typename B::real;
    reference naive;
    over_shapes<B>([&](std::size_t rows, std::size_t cols, bool strided, numbers kind) {
      twin<B> x(be, naive, rows, cols, strided, kind, 1);
      // Every third row, backwards; gathering may repeat a row.
      std::vector<std::uint32_t> distinct;
      for (std::size_t r = rows; r-- > 0;) {
        if (r % 3 == 0) distinct.push_back(static_cast<std::uint32_t>(r));
      }
      std::vector<std::uint32_t> repeated = distinct;
      repeated.insert(repeated.end(), distinct.begin(), distinct.end());

      twin<B> out(be, naive, repeated.size(), cols, strided);
      be.gather_rows(x.fast(), vector_of(be, repeated), out.fast());
      naive.gather_rows(x.exact(), vector_of(naive, repeated), out.exact());
      out.check_exact();

      twin<B> part(be, naive, distinct.size(), cols, strided, kind, 2);
      twin<B> sum(be, naive, rows, cols, strided, kind, 1);
      be.scatter_add_rows(part.fast(), vector_of(be, distinct), sum.fast());
      naive.scatter_add_rows(part.exact(), vector_of(naive, distinct), sum.exact());
      sum.check([&](std::size_t r, std::size_t c) {
        return bound<real>(1, std::abs(x(r, c)) + std::abs(sum(r, c)));
      });
    });
  });
}

TEST_CASE("sign_step moves by the rate against the sign and stays at 0 and NaN") {
  for_each_backend([]<class B>(B be) {
    using real = typename B::real;
    reference naive;
    over_shapes<B>([&](std::size_t rows, std::size_t cols, bool strided, numbers kind) {
      twin<B> p(be, naive, rows, cols, strided, numbers::plain, 1);
      twin<B> g(be, naive, rows, cols, !strided, kind, 2);
      const real rate = real(0.01);
      be.sign_step(p.fast(), g.fast(), rate);
      naive.sign_step(p.exact(), g.exact(), static_cast<double>(rate));
      p.check([](std::size_t, std::size_t) { return bound<real>(1, 1.1); });
    });
    auto p = vector_of(be, std::vector<real>(5, real{1}));
    const std::vector<real> g{real{-0.0}, 0, std::numeric_limits<real>::quiet_NaN(),
                              std::numeric_limits<real>::infinity(),
                              -std::numeric_limits<real>::denorm_min()};
    be.sign_step(p, vector_of(be, g), real{0.5});
    CHECK(to_host(be, p) == std::vector<real>{1, 1, 1, real{0.5}, real{1.5}});
  });
}

}  // namespace
