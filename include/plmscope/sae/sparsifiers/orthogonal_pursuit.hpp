// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/backend/primitives.hpp>
#include <plmscope/core/view.hpp>
#include <plmscope/sae/row_encoder.hpp>
#include <plmscope/sae/sparsifiers/pursuit.hpp>
#include <plmscope/tensor/codes.hpp>
#include <plmscope/tensor/codes_by_feature.hpp>
#include <plmscope/tensor/codes_view.hpp>
#include <plmscope/tensor/matrix.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string_view>
#include <vector>

namespace plmscope::inline PLMSCOPE_ABI {

namespace pursuit {

/// Length of what is new in a row's latent, and its inverse; 0 for both where the latents taken
/// before span it up to rounding.
template <class Real>
struct accept {
  const Real* whole;  ///< |w|
  Real* length;       ///< |w - its projection|
  Real* inverse;
  PLMSCOPE_HD void operator()(std::size_t, std::size_t i) const {
    constexpr Real rounding = std::numeric_limits<Real>::epsilon();
    const bool is_new = length[i] * length[i] > rounding * whole[i] * whole[i];
    length[i] = is_new ? length[i] : Real{0};
    inverse[i] = is_new ? 1 / length[i] : Real{0};
  }
};

/// c = R^-1 y for the upper triangles R of rows first .. of a batch of m: R(s, t) of row i stands
/// at (s k + t) m + i, y_t and c_t at t m + i. A round without a diagonal takes no part.
template <class Real>
struct solve_upper {
  const Real* r;
  std::size_t k;
  std::size_t m;
  std::size_t first;
  const Real* y;
  Real* c;
  PLMSCOPE_HD void operator()(std::size_t, std::size_t row) const {
    const std::size_t i = first + row;
    for (std::size_t t = k; t-- > 0;) {
      Real sum = y[t * m + i];
      for (std::size_t u = t + 1; u < k; ++u) sum -= r[(t * k + u) * m + i] * c[u * m + i];
      const Real diagonal = r[(t * k + t) * m + i];
      c[t * m + i] = diagonal != Real{0} ? sum / diagonal : Real{0};
    }
  }
};
/// a = R^-T d, in place.
template <class Real>
struct solve_lower {
  const Real* r;
  std::size_t k;
  std::size_t m;
  Real* d;
  PLMSCOPE_HD void operator()(std::size_t, std::size_t i) const {
    for (std::size_t t = 0; t < k; ++t) {
      Real sum = d[t * m + i];
      for (std::size_t u = 0; u < t; ++u) sum -= r[(u * k + t) * m + i] * d[u * m + i];
      const Real diagonal = r[(t * k + t) * m + i];
      d[t * m + i] = diagonal != Real{0} ? sum / diagonal : Real{0};
    }
  }
};

/// Numbers of rows to the entries of a round, and back.
template <class Real>
struct to_entries {
  const Real* from;
  Real* values;
  PLMSCOPE_HD void operator()(std::size_t row, std::size_t e, std::uint32_t) const {
    values[e] = from[row];
  }
};
template <class Real>
struct to_rows {
  const Real* values;
  Real* to;
  PLMSCOPE_HD void operator()(std::size_t row, std::size_t e, std::uint32_t) const {
    to[row] = values[e];
  }
};

}  // namespace pursuit

/// Orthogonal matching pursuit (Pati et al. 1993): k rounds, each takes the latent with the largest
/// |<w_j, r>|, then all taken so far get the coefficients of least squares, so that r is orthogonal
/// to them and none is taken twice. Codes may be negative. With S the latents of a row and R^T R =
/// W_S W_S^T from Gram-Schmidt, z = (W_S W_S^T)^-1 W_S (n - b). A latent that those taken before
/// span up to rounding is left out. Ties go to the lower feature id. Row lengths, encoder and
/// encoder bias as in `matching_pursuit`; selection favours longer rows.
///
/// Gradients flow through the least squares, with the latents held fixed: with u = (W_S W_S^T)^-1
/// dz and v = W_S^T u, dW_S = u r^T - z v^T and d(n - b) = v.
///
/// Cost: k times that of `top_k` and k^2 m d for the bases; memory k^2 numbers a row, and for 512
/// rows at a time k d.
struct orthogonal_pursuit {
  static constexpr std::string_view id = "orthogonal_pursuit";
  std::size_t k = 32;  ///< rounds, at most d

  template <class F>
  void fields(const F& f) {
    f("k", k);
  }

  template <class Options>
    requires requires(const Options& o) { o.features; }
  void check(const Options& o) const {
    pursuit::check("orthogonal_pursuit", k, std::min(o.features, o.d_model), o);
  }

  template <class B>
  struct state {
    using real = typename B::real;
    pursuit::rounds_of<B> rounds;
    std::vector<matrix<real, B>> basis;  ///< k of [tile, d]
    matrix<real, B> residual;            ///< [m, d] of the batch last encoded
    matrix<real, B> triangles;           ///< [k k, m] R
    matrix<real, B> along;               ///< [k, m] <q_t, n - b>
    matrix<real, B> solution;            ///< [k, m]
    matrix<real, B> pull;                ///< [m, d] v
    matrix<real, B> pre, step, ones, zero, whole, inverse, dz, to_entry, minus;
    codes_by_feature<B> by_feature;

    template <class F>
    void fields(const F&) {}
  };

  template <class B>
  void encode(B& be, const encoder_input<B>& in, codes<B>& out, state<B>& s) const {
    using real = typename B::real;
    const const_view<B> w = in.parameters.decoder;
    const std::size_t m = in.centred.rows();
    const std::size_t tile = std::min<std::size_t>(in.tile, 512);
    pursuit::clear(be, s.rounds, k, w.rows());
    s.basis.resize(k);
    s.residual.reshape(be, m, in.centred.cols());
    be.copy(in.centred, s.residual.all());
    s.triangles.reshape(be, k * k, m);
    be.fill(s.triangles.all(), real{0});
    s.along.reshape(be, k, m);
    s.solution.reshape(be, k, m);
    for (std::size_t first = 0; first < m; first += tile) {
      const std::size_t rows = std::min(tile, m - first);
      for (std::size_t t = 0; t < k; ++t) take(be, w, first, rows, t, s);
      be.entries(1, rows,
                 pursuit::solve_upper<real>{s.triangles.data(), k, m, first, s.along.data(),
                                            s.solution.data()});
      for (std::size_t t = 0; t < k; ++t) {
        be.each_entry(
            pursuit::last_rows(s.rounds[t], rows),
            pursuit::to_entries<real>{s.solution.data() + t * m + first, s.rounds[t].values()});
      }
      pursuit::join(be, s.rounds, rows, w.rows(), s.pre, out);
    }
  }

  /// Nothing flows on along the list; see `add_gradient`.
  template <class B, class Context>
  void pull(B& be, Context& c, state<B>& s) const {
    pursuit::take_over(be, c.dz, s.dz);
  }

  template <class B, class Context>
  void add_gradient(B& be, Context& c, sae_parameters<B>& gradient, state<B>& s) const {
    using real = typename B::real;
    const const_view<B> w = c.parameters.decoder;
    const std::size_t m = s.residual.rows();
    be.fill(s.along.all(), real{0});
    for (std::size_t t = 0; t < k; ++t) {
      entry_numbers(be, c, s.rounds[t], s);
      be.each_entry(s.rounds[t], pursuit::to_rows<real>{s.to_entry.data(), s.along.data() + t * m});
    }
    be.entries(1, m, pursuit::solve_lower<real>{s.triangles.data(), k, m, s.along.data()});
    be.entries(
        1, m,
        pursuit::solve_upper<real>{s.triangles.data(), k, m, 0, s.along.data(), s.solution.data()});
    s.pull.reshape(be, m, s.residual.cols());
    s.step.reshape(be, m, s.residual.cols());
    be.fill(s.pull.all(), real{0});
    for (std::size_t t = 0; t < k; ++t) {
      solved(be, t, s);
      be.decode(codes_view<B>(s.rounds[t]).with_values(s.to_entry.data()), w, const_view<B>(),
                s.step.all());
      be.axpy(real{1}, s.step, s.pull);
    }
    for (std::size_t t = 0; t < k; ++t) {
      entry_numbers(be, c, s.rounds[t], s);
      solved(be, t, s);
      pursuit::add_outer(be, s.rounds[t], s.by_feature, const_view<B>(s.to_entry),
                         const_view<B>(s.residual), const_view<B>(s.minus), const_view<B>(s.pull),
                         gradient.decoder.all());
    }
  }

  /// Derivative with respect to the centred rows, [m, d].
  template <class B>
  const_view<B> input_pull(state<B>& s) const {
    return s.pull;
  }

  template <class B>
  void after_step(B& be, sae_parameters<B>& p) const {
    be.copy(const_view<B>(p.decoder), p.encoder.all());
  }

 private:
  // to_entry = dz and minus = -z of a round
  template <class B, class Context>
  void entry_numbers(B& be, Context& c, const codes<B>& round, state<B>& s) const {
    const std::size_t n = std::max<std::size_t>(round.entries(), 1);
    s.to_entry.reshape(be, 1, n);
    s.minus.reshape(be, 1, n);
    be.each_entry(round, pursuit::look_up<typename B::real>{c.z.offsets(), c.z.ids(), s.dz.data(),
                                                            round.values(), s.to_entry.data(),
                                                            s.minus.data()});
  }
  // to_entry = u of round t
  template <class B>
  void solved(B& be, std::size_t t, state<B>& s) const {
    s.to_entry.reshape(be, 1, std::max<std::size_t>(s.rounds[t].entries(), 1));
    be.each_entry(s.rounds[t], pursuit::to_entries<typename B::real>{
                                   s.solution.data() + t * s.residual.rows(), s.to_entry.data()});
  }

  // Round t of a tile: the latent, its part q orthogonal to those before, and r less <q, r> q.
  template <class B>
  void take(B& be, const_view<B> w, std::size_t first, std::size_t rows, std::size_t t,
            state<B>& s) const {
    using real = typename B::real;
    const view<B> r = s.residual.all().row_range(first, rows);
    const auto numbers = [&](matrix<real, B>& of, std::size_t row) {
      return of.all().row_range(row, 1).col_range(first, rows);
    };
    auto& q = s.basis[t];
    q.reshape(be, rows, w.cols());
    s.pre.reshape(be, rows, w.rows());
    s.step.reshape(be, rows, w.cols());
    for (auto* v : {&s.ones, &s.zero, &s.whole, &s.inverse}) v->reshape(be, 1, rows);
    be.fill(s.zero.all(), real{0});
    be.gemm_nt(const_view<B>(r), w, s.pre.all());
    be.top_k_rows(const_view<B>(s.pre), 1, by_magnitude{}, s.rounds[t]);
    s.ones.reshape(be, 1, std::max<std::size_t>(s.rounds[t].entries(), 1));
    be.fill(s.ones.all(), real{1});
    be.decode(pursuit::last_rows(s.rounds[t], rows).with_values(s.ones.data()), w, const_view<B>(),
              q.all());
    be.row_norms(const_view<B>(q), s.whole.all());
    const auto less = [&](const matrix<real, B>& of, view<B> times, view<B> from) {
      be.affine_rows(const_view<B>(of), const_view<B>(s.zero), const_view<B>(times), s.step.all());
      be.axpy(real{-1}, const_view<B>(s.step), from);
    };
    for (std::size_t u = 0; u < t; ++u) {
      const view<B> shared = numbers(s.triangles, u * k + t);
      be.row_dots(const_view<B>(s.basis[u]), const_view<B>(q), shared);
      less(s.basis[u], shared, q.all());
    }
    const view<B> length = numbers(s.triangles, t * k + t);
    be.row_norms(const_view<B>(q), length);
    be.entries(1, rows, pursuit::accept<real>{s.whole.data(), length.data(), s.inverse.data()});
    be.affine_rows(const_view<B>(q), const_view<B>(s.zero), const_view<B>(s.inverse), q.all());
    const view<B> along = numbers(s.along, t);
    be.row_dots(const_view<B>(q), const_view<B>(r), along);
    less(q, along, r);
  }
};

}  // namespace plmscope::inline PLMSCOPE_ABI
