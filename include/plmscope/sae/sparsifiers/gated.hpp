// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/backend/primitives.hpp>
#include <plmscope/core/view.hpp>
#include <plmscope/sae/selection.hpp>
#include <plmscope/tensor/codes.hpp>
#include <plmscope/tensor/codes_view.hpp>
#include <plmscope/tensor/matrix.hpp>

#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace plmscope::inline PLMSCOPE_ABI {

namespace gated_detail {

template <class Real>
struct negative {
  const Real* from;
  Real* out;
  PLMSCOPE_HD void operator()(std::size_t, std::size_t f) const { out[f] = -from[f]; }
};

/// p -> relu(e^r p + b), and the gate's value p + b_gate.
template <class Real>
struct magnitude {
  Real* values;        ///< in: p
  const Real* bias;
  const Real* scale;   ///< r
  const Real* gate_bias;
  Real* raw;           ///< out: p; absent at inference
  Real* gate;          ///< out
  PLMSCOPE_HD void operator()(std::size_t, std::size_t e, std::uint32_t f) const {
    using std::exp;
    const Real p = values[e];
    if (raw != nullptr) {
      raw[e] = p;
      gate[e] = p + gate_bias[f];
    }
    const Real m = exp(scale[f]) * p + bias[f];
    values[e] = m > Real{0} ? m : Real{0};
  }
};

/// dz -> dp, and what the entry adds to the gradients of magnitude bias and scale.
template <class Real>
struct pull_back {
  const Real* raw;
  const Real* values;
  const Real* scale;
  const Real* d_gate;
  Real* dz;
  Real* to_bias;
  Real* to_scale;
  PLMSCOPE_HD void operator()(std::size_t, std::size_t e, std::uint32_t f) const {
    using std::exp;
    const Real through = values[e] > Real{0} ? dz[e] : Real{0};
    const Real r = exp(scale[f]);
    to_bias[e] = through;
    to_scale[e] = through * r * raw[e];
    dz[e] = through * r + d_gate[e];
  }
};

}  // namespace gated_detail

/// Gated SAE (Rajamanoharan et al. 2024, "Improving dictionary learning with gated sparse
/// autoencoders"): with p = W_e (n - b), a latent is open where p + b_gate > 0 and then has the value
/// relu(e^r p + b_mag); `encoder_bias` is b_mag. The gate learns from a penalty on its value
/// relu(p + b_gate) and from a second reconstruction out of those values, weight 1, through a frozen
/// decoder (eq. 8); not from the main one.
///
/// The list holds the open latents, which is where both paths live. Cost: the sparse part of two
/// reconstructions.
struct gated {
  static constexpr std::string_view id = "gated";
  static constexpr bool own_biases = true;
  static constexpr std::array<std::string_view, 2> vectors{"gate_bias", "gate_scale"};
  /// Also trains decoder and bias by the second reconstruction. A defect of SAELens, here to
  /// reproduce it.
  bool auxiliary_trains_decoder = false;

  template <class F>
  void fields(const F& f) {
    f("auxiliary_trains_decoder", auxiliary_trains_decoder);
  }

  template <class B>
  struct state {
    using real = typename B::real;
    matrix<real, B> raw, gate, d_gate, to_bias, to_scale, g, rows, sums;

    template <class F>
    void fields(const F&) {}
  };

  template <class B>
  void start(B&, sae_parameters<B>&) const {}
  template <class B>
  state<B> start(B&) const {
    return {};
  }

  /// The open latents with their p; `activate` makes values of them.
  template <class B>
  void select(B& be, const_view<B> pre, const selection<B>& in, codes<B>& out) const {
    matrix<typename B::real, B> bound(be, 1, pre.cols());
    be.entries(1, pre.cols(),
               gated_detail::negative<typename B::real>{in.parameters.latent[0].values.data(),
                                                        bound.data()});
    be.keep_above(pre, const_view<B>(bound), by_raw_value{}, out);
  }
  template <class B>
  void activate(B& be, const sae_parameters<B>& p, codes<B>& z) const {
    be.each_entry(z, gated_detail::magnitude<typename B::real>{
                         z.values(), p.encoder_bias.data(), p.latent[1].values.data(),
                         p.latent[0].values.data(), nullptr, nullptr});
  }

  template <class B>
  void activate(B& be, const sae_parameters<B>& p, codes<B>& z, state<B>& s) const {
    s.raw.reshape(be, 1, z.entries());
    s.gate.reshape(be, 1, z.entries());
    s.d_gate.reshape(be, 1, z.entries());
    be.each_entry(z, gated_detail::magnitude<typename B::real>{
                         z.values(), p.encoder_bias.data(), p.latent[1].values.data(),
                         p.latent[0].values.data(), s.raw.data(), s.gate.data()});
  }

  /// What a sparsity penalty acts on, and where its gradient goes: the gate's values.
  template <class B>
  view<B> penalised(state<B>& s) const {
    return s.gate;
  }
  template <class B>
  view<B> penalised_pull(state<B>& s) const {
    return s.d_gate;
  }

  /// The second reconstruction; its loss is added to `slot`.
  template <class B, class Context, class Loss>
  void reconstruct(B& be, Context& c, const Loss& loss, view<B, double> slot, state<B>& s) const {
    s.g.reshape(be, c.target.rows(), c.target.cols());
    s.rows.reshape(be, 3, c.target.rows());
    be.reconstruct(codes_view<B>(c.z).with_values(s.gate.data()), c.parameters.decoder,
                   c.parameters.decoder_bias, c.target, loss, s.g, s.d_gate, s.rows);
    be.add_sum(const_view<B>(s.rows).row_range(1, 1), slot);
  }

  template <class B, class Context>
  void pull(B& be, Context& c, state<B>& s) const {
    s.to_bias.reshape(be, 1, c.z.entries());
    s.to_scale.reshape(be, 1, c.z.entries());
    be.each_entry(c.z, gated_detail::pull_back<typename B::real>{
                           s.raw.data(), c.z.values(), c.parameters.latent[1].values.data(),
                           s.d_gate.data(), c.dz.data(), s.to_bias.data(), s.to_scale.data()});
  }
  template <class B, class Context>
  void add_gradient(B& be, Context& c, sae_parameters<B>& gradient, state<B>& s) const {
    using real = typename B::real;
    const auto sum = [&](const matrix<real, B>& of, matrix<real, B>& to) {
      be.sparse_backward(c.by_feature, const_view<B>(), const_view<B>(of), const_view<B>(),
                         const_view<B>(), view<B>(), view<B>(), to.all());
    };
    sum(s.to_bias, gradient.encoder_bias);
    sum(s.d_gate, gradient.latent[0].values);
    sum(s.to_scale, gradient.latent[1].values);
    if (!auxiliary_trains_decoder) return;
    be.sparse_backward(c.by_feature, const_view<B>(s.gate), const_view<B>(s.d_gate),
                       const_view<B>(s.g), const_view<B>(), gradient.decoder, view<B>(), view<B>(),
                       real{1});
    s.sums.reshape(be, 1, s.g.cols());
    be.column_sums(s.g, s.sums);
    be.axpy(real{1}, s.sums, gradient.decoder_bias);
    if (!gradient.skip.empty()) be.gemm_tn(s.g, c.rows_in, gradient.skip, real{1});
  }
};

}  // namespace plmscope::inline PLMSCOPE_ABI
