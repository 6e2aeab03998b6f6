// SPDX-License-Identifier: MIT
// Primitives over sparse codes against the reference.
#include <tests/backend/compare.hpp>

#include <plmscope/tensor/codes.hpp>
#include <plmscope/tensor/codes_by_feature.hpp>

#include <doctest/doctest.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

namespace {

using namespace compare;
using plmscope::codes;
using plmscope::codes_by_feature;

struct sparse_shape {
  std::size_t rows, features, width, per_row;
};
const std::vector<sparse_shape> sparse_shapes{
    {0, 5, 3, 2},    {5, 1, 0, 1},   {1, 1, 1, 1},      {1, 65, 63, 65},   {3, 7, 64, 0},
    {17, 300, 65, 9}, {64, 64, 257, 3}, {130, 63, 31, 63}, {257, 1031, 320, 4}, {63, 40, 1031, 7}};

// The same codes on both sides: rows with none, some and many entries.
template <class B>
struct code_twin {
  using real = typename B::real;
  codes<B> fast;
  codes<reference> exact;

  code_twin(B& be, reference& naive, const sparse_shape& s)
      : fast(be, s.features), exact(naive, s.features) {
    host_codes<real> z;
    for (std::size_t r = 0; r < s.rows; ++r) {
      double share = static_cast<double>(s.per_row) / static_cast<double>(s.features);
      if (r % 5 == 4) share = 0;
      if (r % 5 == 3 && s.features <= 300) share = 1;
      for (std::size_t f = 0; f < s.features; ++f) {
        if (std::abs(number(7, r * s.features + f)) >= share) continue;
        z.ids.push_back(static_cast<std::uint32_t>(f));
        z.values.push_back(static_cast<real>(number(8, r * s.features + f)));
      }
      z.offsets.push_back(static_cast<std::int64_t>(z.ids.size()));
    }
    set_codes(be, fast, z);
    set_codes(naive, exact, z);
  }
  const_view<B> fast_values() const { return {fast.values(), 1, fast.entries()}; }
  const_view<reference> exact_values() const { return {exact.values(), 1, exact.entries()}; }
  template <class F>
  void each(const F& f) const {
    for (std::size_t r = 0; r < exact.rows(); ++r) {
      for (auto e = static_cast<std::size_t>(exact.offsets()[r]);
           e < static_cast<std::size_t>(exact.offsets()[r + 1]); ++e) {
        f(r, e, static_cast<std::size_t>(exact.ids()[e]));
      }
    }
  }
};

// value = w_r |e|^2 / 2, slope = w_r, with weights that are powers of two.
struct weighted_half {
  template <class Real>
  PLMSCOPE_HD Real value(std::size_t r, Real squares) const {
    return slope(r, squares) * squares / 2;
  }
  template <class Real>
  PLMSCOPE_HD Real slope(std::size_t r, Real) const {
    return static_cast<Real>(1u << r % 4);
  }
};

template <class F>
void over_codes(const F& f) {
  for_each_backend([&]<class B>(B be) {
    reference naive;
    for (const auto& s : sparse_shapes) {
      const code_twin<B> z(be, naive, s);
      for (const bool strided : {false, true}) {
        for (const numbers kind : all_numbers) {
          INFO(s.rows, " rows, ", s.features, " features, width ", s.width, ", strided ", strided,
               ", numbers ", static_cast<int>(kind));
          f(be, naive, s, z, strided, kind);
        }
      }
    }
  });
}

TEST_CASE("decode, with and without bias") {
  over_codes([]<class B>(B& be, reference& naive, const sparse_shape& s, const code_twin<B>& z,
                         bool strided, numbers kind) {
    using real = typename B::real;
    twin<B> w(be, naive, s.features, s.width, strided, kind, 1);
    twin<B> bias(be, naive, 1, s.width, strided, kind, 2);
    for (const bool with_bias : {false, true}) {
      twin<B> out(be, naive, s.rows, s.width, !strided, numbers::plain, 3);
      twin<B> size(be, naive, s.rows, s.width);
      be.decode(z.fast, w.fast(), with_bias ? const_view<B>(bias.fast()) : const_view<B>(),
                out.fast());
      naive.decode(z.exact, w.exact(),
                   with_bias ? const_view<reference>(bias.exact()) : const_view<reference>(),
                   out.exact());
      z.each([&](std::size_t r, std::size_t e, std::size_t f) {
        for (std::size_t j = 0; j < s.width; ++j) {
          size.exact()(r, j) += std::abs(z.exact.values()[e] * w(f, j));
        }
      });
      out.check([&](std::size_t r, std::size_t j) {
        return bound<real>(s.features + 1,
                           size(r, j) + (with_bias ? std::abs(bias(0, j)) : 0.0));
      });
    }
  });
}

TEST_CASE("sampled_dot") {
  over_codes([]<class B>(B& be, reference& naive, const sparse_shape& s, const code_twin<B>& z,
                         bool strided, numbers kind) {
    using real = typename B::real;
    twin<B> w(be, naive, s.features, s.width, strided, kind, 1);
    twin<B> g(be, naive, s.rows, s.width, !strided, kind, 2);
    twin<B> dz(be, naive, 1, z.exact.entries());
    be.sampled_dot(z.fast, g.fast(), w.fast(), dz.fast());
    naive.sampled_dot(z.exact, g.exact(), w.exact(), dz.exact());
    std::vector<double> size(z.exact.entries());
    z.each([&](std::size_t r, std::size_t e, std::size_t f) {
      for (std::size_t j = 0; j < s.width; ++j) size[e] += std::abs(g(r, j) * w(f, j));
    });
    dz.check([&](std::size_t, std::size_t e) { return bound<real>(s.width + 1, size[e]); });
  });
}

TEST_CASE("reconstruct: errors, losses, slopes, gradient and its pull-back") {
  over_codes([]<class B>(B& be, reference& naive, const sparse_shape& s, const code_twin<B>& z,
                         bool strided, numbers kind) {
    if (kind == numbers::special || s.width == 0) return;  // see decode and sampled_dot
    using real = typename B::real;
    twin<B> w(be, naive, s.features, s.width, strided, kind, 1);
    twin<B> bias(be, naive, 1, s.width, strided, kind, 2);
    twin<B> y(be, naive, s.rows, s.width, !strided, kind, 3);
    twin<B> g(be, naive, s.rows, s.width, strided);
    twin<B> dz(be, naive, 1, z.exact.entries());
    twin<B> rows(be, naive, 3, s.rows, strided);
    const weighted_half loss;
    be.reconstruct(z.fast, w.fast(), bias.fast(), y.fast(), loss, g.fast(), dz.fast(), rows.fast());
    naive.reconstruct(z.exact, w.exact(), bias.exact(), y.exact(), loss, g.exact(), dz.exact(),
                      rows.exact());
    // Errors carried through: e, then |e|^2, then g and its inner products.
    twin<B> slack(be, naive, s.rows, s.width);
    for (std::size_t r = 0; r < s.rows; ++r) {
      for (std::size_t j = 0; j < s.width; ++j) {
        slack.exact()(r, j) = std::abs(bias(0, j)) + std::abs(y(r, j));
      }
    }
    z.each([&](std::size_t r, std::size_t e, std::size_t f) {
      for (std::size_t j = 0; j < s.width; ++j) {
        slack.exact()(r, j) += std::abs(z.exact.values()[e] * w(f, j));
      }
    });
    std::vector<double> squares(s.rows);
    for (std::size_t r = 0; r < s.rows; ++r) {
      for (std::size_t j = 0; j < s.width; ++j) {
        double& delta = slack.exact()(r, j);
        delta = bound<real>(s.features + 2, delta);
        const double e = std::abs(g(r, j) / rows(2, r));
        squares[r] += 2 * (2 * e * delta + delta * delta);
      }
      squares[r] += bound<real>(s.width + 2, rows(0, r));
    }
    g.check([&](std::size_t r, std::size_t j) {
      return rows(2, r) * slack(r, j) + bound<real>(1, std::abs(g(r, j)));
    });
    rows.check([&](std::size_t which, std::size_t r) {
      return which == 2 ? 0.0 : which == 0 ? squares[r] : rows(2, r) / 2 * squares[r] * 1.001;
    });
    std::vector<double> product(z.exact.entries());
    z.each([&](std::size_t r, std::size_t e, std::size_t f) {
      double size = 0;
      for (std::size_t j = 0; j < s.width; ++j) {
        size += std::abs(g(r, j) * w(f, j));
        product[e] += 1.001 * rows(2, r) * slack(r, j) * std::abs(w(f, j));
      }
      product[e] += bound<real>(s.width + 3, size);
    });
    dz.check([&](std::size_t, std::size_t e) { return product[e]; });
  });
}

TEST_CASE("transpose: per feature its entries in row order") {
  for_each_backend([]<class B>(B be) {
    reference naive;
    codes_by_feature<B> fast;  // used again: memory of earlier batches does not show
    codes_by_feature<reference> exact;
    for (const auto& s : sparse_shapes) {
      const code_twin<B> z(be, naive, s);
      be.transpose(z.fast, fast);
      naive.transpose(z.exact, exact);
      INFO(s.rows, " rows, ", s.features, " features");
      REQUIRE(fast.features() == s.features);
      const std::size_t n = z.exact.entries();
      const auto offsets =
          to_host(be, const_view<B, std::int64_t>(fast.offsets(), s.features + 1));
      const auto rows = to_host(be, const_view<B, std::uint32_t>(fast.rows(), n));
      const auto entries = to_host(be, const_view<B, std::uint32_t>(fast.entries(), n));
      CHECK(std::equal(offsets.begin(), offsets.end(), exact.offsets()));
      CHECK(std::equal(rows.begin(), rows.end(), exact.rows()));
      CHECK(std::equal(entries.begin(), entries.end(), exact.entries()));
    }
  });
}

TEST_CASE("sparse_backward with every beta and with outputs left out") {
  over_codes([]<class B>(B& be, reference& naive, const sparse_shape& s, const code_twin<B>& z,
                         bool strided, numbers kind) {
    using real = typename B::real;
    codes_by_feature<B> fast;
    codes_by_feature<reference> exact;
    be.transpose(z.fast, fast);
    naive.transpose(z.exact, exact);
    twin<B> dz(be, naive, 1, z.exact.entries(), false, kind, 1);
    twin<B> g(be, naive, s.rows, s.width, strided, kind, 2);
    twin<B> x(be, naive, s.rows, s.width, !strided, kind, 3);
    twin<B> decoder_size(be, naive, s.features, s.width);
    twin<B> encoder_size(be, naive, s.features, s.width);
    std::vector<double> bias_size(s.features);
    z.each([&](std::size_t r, std::size_t e, std::size_t f) {
      for (std::size_t j = 0; j < s.width; ++j) {
        decoder_size.exact()(f, j) += std::abs(z.exact.values()[e] * g(r, j));
        encoder_size.exact()(f, j) += std::abs(dz(0, e) * x(r, j));
      }
      bias_size[f] += std::abs(dz(0, e));
    });
    for (const real beta : {real{0}, real{1}, real(0.3)}) {
      const auto old = [&](std::size_t rows, std::size_t cols) {
        twin<B> t(be, naive, rows, cols, strided, numbers::equal, 4);
        // What stood there is not even looked at.
        if (beta == 0) be.fill(t.fast(), std::numeric_limits<real>::quiet_NaN());
        return t;
      };
      twin<B> decoder = old(s.features, s.width);
      twin<B> encoder = old(s.features, s.width);
      twin<B> bias = old(1, s.features);
      be.sparse_backward(fast, z.fast_values(), dz.fast(), g.fast(), x.fast(), decoder.fast(),
                         encoder.fast(), bias.fast(), beta);
      naive.sparse_backward(exact, z.exact_values(), dz.exact(), g.exact(), x.exact(),
                            decoder.exact().all(), encoder.exact().all(), bias.exact().all(),
                            static_cast<double>(beta));
      const auto limit = [&](double size) { return bound<real>(s.rows + 2, size + 1); };
      decoder.check([&](std::size_t f, std::size_t j) { return limit(decoder_size(f, j)); });
      encoder.check([&](std::size_t f, std::size_t j) { return limit(encoder_size(f, j)); });
      bias.check([&](std::size_t, std::size_t f) { return limit(bias_size[f]); });

      // One output at a time has the same bits.
      twin<B> alone = old(s.features, s.width);
      twin<B> alone_bias = old(1, s.features);
      be.sparse_backward(fast, z.fast_values(), dz.fast(), g.fast(), x.fast(), view<B>(),
                         alone.fast(), view<B>(), beta);
      be.sparse_backward(fast, z.fast_values(), dz.fast(), g.fast(), x.fast(), view<B>(), view<B>(),
                         alone_bias.fast(), beta);
      CHECK(bytes(be, alone.fast()) == bytes(be, encoder.fast()));
      CHECK(bytes(be, alone_bias.fast()) == bytes(be, bias.fast()));
    }
  });
}

}  // namespace
