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
#include <string_view>

namespace plmscope::inline PLMSCOPE_ABI {

namespace pursuit {

/// Rows whose residual is short enough take nothing more.
template <class Real>
struct stop_short {
  const Real* lengths;
  Real tolerance;
  Real* values;
  PLMSCOPE_HD void operator()(std::size_t row, std::size_t e, std::uint32_t) const {
    if (lengths[row] < tolerance) values[e] = 0;
  }
};

/// dc = dz - <G, w>; nothing flows through an entry that took nothing.
template <class Real>
struct less_along {
  const Real* values;
  const Real* along;
  Real* to_entry;
  PLMSCOPE_HD void operator()(std::size_t, std::size_t e, std::uint32_t) const {
    to_entry[e] = values[e] != Real{0} ? to_entry[e] - along[e] : Real{0};
  }
};

}  // namespace pursuit

/// Matching pursuit SAE (Costa et al. 2025, "From flat to hierarchical: extracting sparse
/// representations with matching pursuit"): no encoder of its own. With r = n - b, k times
///
///   j = argmax <w_j, r>,   c = <w_j, r>,   z_j += c,   r -= c w_j        (w_j: decoder rows)
///
/// until no product is positive. What a round takes depends on all before it, so that latents may
/// form a hierarchy; one may be taken again. Ties go to the lower feature id. The dictionary wants
/// rows of length 1 (`unit_norm`, or `lengths = row_lengths::in_codes`): above sqrt(2) residuals
/// grow.
///
/// Gradients flow through the rounds, with the latents taken held fixed: back from r_k, where c_t
/// w_j is put back to find r_(t-1) again. `encoder` is a copy of the decoder and the encoder bias
/// does nothing; for AuxK, `reaches_encoder = false`.
///
/// Cost: k times that of `top_k`; memory [tile, F] and k entries a row beside.
struct matching_pursuit {
  static constexpr std::string_view id = "matching_pursuit";
  std::size_t k = 32;      ///< rounds
  bool negatives = false;  ///< ranks |<w_j, r>|; the sign survives
  double tolerance = 0;    ///< a row with |r| below it is done (SAELens, residual_threshold)

  template <class F>
  void fields(const F& f) {
    f("k", k);
    f("negatives", negatives);
    f("tolerance", tolerance);
  }

  template <class Options>
    requires requires(const Options& o) { o.features; }
  void check(const Options& o) const {
    pursuit::check("matching_pursuit", k, o.features, o);
  }

  template <class B>
  struct state {
    using real = typename B::real;
    pursuit::rounds_of<B> rounds;
    matrix<real, B> residual;  ///< [m, d] what is left of the batch last encoded
    matrix<real, B> pull;      ///< [m, d] derivative with respect to the residual
    matrix<real, B> pre, step, lengths, dz, to_entry, along, minus;
    codes_by_feature<B> by_feature;

    template <class F>
    void fields(const F&) {}
  };

  template <class B>
  void encode(B& be, const encoder_input<B>& in, codes<B>& out, state<B>& s) const {
    const std::size_t m = in.centred.rows();
    const const_view<B> w = in.parameters.decoder;
    pursuit::clear(be, s.rounds, k, w.rows());
    s.residual.reshape(be, m, in.centred.cols());
    be.copy(in.centred, s.residual.all());
    for (std::size_t first = 0; first < m; first += in.tile) {
      const std::size_t rows = std::min(in.tile, m - first);
      const view<B> r = s.residual.all().row_range(first, rows);
      for (auto& round : s.rounds) take(be, w, r, round, s);
      pursuit::join(be, s.rounds, rows, w.rows(), s.pre, out);
    }
  }

  /// The gradients of a round need those of all later ones: what flows on along the list is
  /// nothing.
  template <class B, class Context>
  void pull(B& be, Context& c, state<B>& s) const {
    pursuit::take_over(be, c.dz, s.dz);
  }

  /// From the last round to the first, with G = dL / dr after round t, and r, c, w of that round:
  ///   dc = dz_j - <G, w>,   dw += dc r_(t-1) - c G,   G += dc w.
  template <class B, class Context>
  void add_gradient(B& be, Context& c, sae_parameters<B>& gradient, state<B>& s) const {
    using real = typename B::real;
    const const_view<B> w = c.parameters.decoder;
    s.pull.reshape(be, s.residual.rows(), s.residual.cols());
    s.step.reshape(be, s.residual.rows(), s.residual.cols());
    be.fill(s.pull.all(), real{0});
    for (std::size_t t = k; t-- > 0;) {
      const codes<B>& round = s.rounds[t];
      const std::size_t n = std::max<std::size_t>(round.entries(), 1);
      for (auto* v : {&s.to_entry, &s.along, &s.minus}) v->reshape(be, 1, n);
      be.each_entry(round,
                    pursuit::look_up<real>{c.z.offsets(), c.z.ids(), s.dz.data(), round.values(),
                                           s.to_entry.data(), s.minus.data()});
      be.sampled_dot(round, const_view<B>(s.pull), w, s.along.all());
      be.each_entry(round,
                    pursuit::less_along<real>{round.values(), s.along.data(), s.to_entry.data()});
      be.decode(round, w, const_view<B>(), s.step.all());
      be.axpy(real{1}, s.step, s.residual);
      pursuit::add_outer(be, round, s.by_feature, const_view<B>(s.to_entry),
                         const_view<B>(s.residual), const_view<B>(s.minus), const_view<B>(s.pull),
                         gradient.decoder.all());
      be.decode(codes_view<B>(round).with_values(s.to_entry.data()), w, const_view<B>(),
                s.step.all());
      be.axpy(real{1}, s.step, s.pull);
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
  // One round of a tile: r is what is left, before and after.
  template <class B>
  void take(B& be, const_view<B> w, view<B> r, codes<B>& round, state<B>& s) const {
    using real = typename B::real;
    s.pre.reshape(be, r.rows(), w.rows());
    s.step.reshape(be, r.rows(), r.cols());
    be.gemm_nt(const_view<B>(r), w, s.pre.all());
    if (negatives) {
      be.top_k_rows(const_view<B>(s.pre), 1, by_magnitude{}, round);
    } else {
      be.top_k_rows(const_view<B>(s.pre), 1, by_value{}, round);
    }
    const auto taken = pursuit::last_rows(round, r.rows());
    if (tolerance > 0) {
      s.lengths.reshape(be, 1, r.rows());
      be.row_norms(const_view<B>(r), s.lengths.all());
      be.each_entry(taken, pursuit::stop_short<real>{s.lengths.data(), static_cast<real>(tolerance),
                                                     round.values()});
    }
    be.decode(taken, w, const_view<B>(), s.step.all());
    be.axpy(real{-1}, const_view<B>(s.step), r);
  }
};

}  // namespace plmscope::inline PLMSCOPE_ABI
