// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/core/error.hpp>
#include <plmscope/core/view.hpp>
#include <plmscope/sae/row_lengths.hpp>
#include <plmscope/tensor/matrix.hpp>
#include <plmscope/train/penalties.hpp>
#include <plmscope/train/rules.hpp>
#include <plmscope/train/step_context.hpp>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace plmscope::inline PLMSCOPE_ABI {

namespace penalty_detail {

/// Entries that are active do not count: their part of sum (theta - a) goes to `part`, and the slope
/// that every entry of a dead latent has is taken back.
template <class Real>
struct take_back {
  const Real* values;
  const Real* theta;
  const Real* slope;  ///< [1, F]
  Real* dz;
  Real* part;
  PLMSCOPE_HD void operator()(std::size_t, std::size_t e, std::uint32_t f) const {
    const bool active = values[e] != Real{0};
    part[e] = active ? theta[f] - values[e] : Real{0};
    if (active) dz[e] += slope[f];
  }
};

/// Per latent: slope = weight |w| / rows where it is dead; sums of theta - a over the entries below
/// the threshold, and what follows from them.
template <class Real>
struct below_threshold {
  const Real* dead;      ///< null: every latent counts
  const Real* lengths;
  const Real* theta;
  const Real* total;     ///< sum over all rows of a
  const Real* part;      ///< sum over the active entries of theta - a
  const Real* active;
  Real weight;           ///< weight / rows
  Real rows;
  Real* slope;           ///< of the latent, from the moment before
  Real* missing;         ///< sum of (theta - a) over inactive entries, dead latents only
  Real* to_theta;
  Real* to_length;
  PLMSCOPE_HD void operator()(std::size_t, std::size_t f) const {
    const Real counts = dead == nullptr ? Real{1} : dead[f];
    const Real sum = counts * (rows * theta[f] - total[f] - part[f]);
    missing[f] = sum * lengths[f];
    to_theta[f] = slope[f] * (rows - active[f]);
    to_length[f] = weight * sum;
  }
};

template <class Real>
struct dead_slope {
  const Real* dead;
  const Real* lengths;
  Real weight;
  Real* slope;
  PLMSCOPE_HD void operator()(std::size_t, std::size_t f) const {
    slope[f] = weight * lengths[f] * (dead == nullptr ? Real{1} : dead[f]);
  }
};

}  // namespace penalty_detail

/// weight * mean over rows of sum_i relu(theta_i - a_i) |w_i|, over dead latents or over all: brings
/// latents that never fire back to their thresholds (Conerly et al. 2025, weight 3e-6 over all;
/// SAELens over dead ones). For sparsifiers with a learned threshold; others are refused (train.112).
///
/// The gradient with respect to the pre-activations is a constant per latent minus its active
/// entries, so that nothing of size [rows, features] is needed. Cost: one column sum of the rows, one
/// product of a vector with the encoder, one outer product.
struct pre_activation_penalty {
  warmed_weight weight = {};
  bool only_dead = true;
  static constexpr bool counts_active = true;
  static constexpr bool wants_dead = true;

  template <class B>
  struct state {
    using real = typename B::real;
    matrix<real, B> lengths, slope, part, sums, total, missing, to_theta, to_length, column;
    matrix<double, B> slot;
    double factor = 0;

    template <class F>
    void fields(const F&) {}
  };

  template <class B>
  void on_pre(B& be, step_context<B>& c, state<B>& s) const {
    using real = typename B::real;
    warmed_weight::state none;
    s.factor = weight(be, c, none) / static_cast<double>(c.rows());
    for (auto* m : {&s.lengths, &s.slope, &s.sums, &s.total, &s.missing, &s.to_theta, &s.to_length}) {
      m->reshape(be, 1, c.features());
    }
    s.part.reshape(be, 1, c.z.entries());
    block_lengths(be, const_view<B>(c.parameters.decoder), c.blocks, s.lengths.all());
    be.entries(1, c.features(),
               penalty_detail::dead_slope<real>{only_dead ? c.dead.data() : nullptr,
                                                s.lengths.data(), static_cast<real>(s.factor),
                                                s.slope.data()});
    be.each_entry(c.z, penalty_detail::take_back<real>{c.z.values(), theta(c).data(),
                                                       s.slope.data(), c.dz.data(),
                                                       s.part.data()});
  }

  template <class B>
  void add_gradient(B& be, step_context<B>& c, sae_parameters<B>& gradient, view<B> sums,
                    state<B>& s) const {
    using real = typename B::real;
    const auto rows = static_cast<real>(c.rows());
    s.column.reshape(be, 1, c.centred.cols());
    be.column_sums(c.centred, s.column);
    be.gemm_nt(s.column, c.parameters.encoder, s.total);  // sum of a over the rows, less biases
    be.axpy(rows, const_view<B>(c.parameters.encoder_bias), s.total);
    sum_by_feature(be, c.by_feature, const_view<B>(s.part), s.sums.all());
    be.entries(1, c.features(),
               penalty_detail::below_threshold<real>{
                   only_dead ? c.dead.data() : nullptr, s.lengths.data(), theta(c).data(),
                   s.total.data(), s.sums.data(), c.active.data(), static_cast<real>(s.factor),
                   rows, s.slope.data(), s.missing.data(), s.to_theta.data(),
                   s.to_length.data()});
    be.axpy(real{1}, const_view<B>(s.to_theta), gradient.latent[0].values);
    add_length_gradient(be, const_view<B>(c.parameters.decoder), c.blocks,
                        const_view<B>(s.to_length), gradient.decoder.all());
    // every entry has -slope; the active ones were given it back in `on_pre`
    be.scale(s.slope, real{-1});
    be.gemm_tn(s.slope, s.column, gradient.encoder, real{1});
    be.axpy(rows, const_view<B>(s.slope), sums);
    if (s.slot.empty()) s.slot = matrix<double, B>(be, 1, 1);
    be.fill(s.slot.all(), 0.0);
    be.add_sum(const_view<B>(s.missing), s.slot.all());
  }

  template <class B>
  double loss(B& be, state<B>& s) const {
    if (s.slot.empty()) return 0;
    double v = 0;
    be.download(const_view<B, double>(s.slot), std::span<double>(&v, 1));
    return s.factor * v;
  }

 private:
  template <class B>
  static const_view<B> theta(const step_context<B>& c) {
    const auto& own = c.parameters.latent;
    if (own.empty() || own[0].values.size() != c.features()) {
      throw error(rules::train_thresholds,
                  {.where = "pre_activation_penalty",
                   .expected = "a vector of " + std::to_string(c.features()) + " thresholds",
                   .found = own.empty() ? "none"
                                        : own[0].name + " of " +
                                              std::to_string(own[0].values.size())});
    }
    return own[0].values;
  }
};

}  // namespace plmscope::inline PLMSCOPE_ABI
