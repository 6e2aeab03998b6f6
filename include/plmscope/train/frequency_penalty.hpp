// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/config.hpp>
#include <plmscope/core/view.hpp>
#include <plmscope/sae/row_lengths.hpp>
#include <plmscope/tensor/matrix.hpp>
#include <plmscope/train/penalties.hpp>
#include <plmscope/train/penalty_weights.hpp>
#include <plmscope/train/step_context.hpp>

#include <cstddef>
#include <cstdint>
#include <span>

namespace plmscope::inline PLMSCOPE_ABI {

namespace penalty_detail {

/// value[e] = phi(u) of the entry.
template <class Real, class Shape>
struct shape_of_entry {
  Shape shape;
  const Real* values;
  const Real* lengths;  ///< [1, F], or null
  Real* value;
  PLMSCOPE_HD void operator()(std::size_t, std::size_t e, std::uint32_t f) const {
    value[e] = shape.value(values[e] * (lengths == nullptr ? Real{1} : lengths[f]));
  }
};

/// Per latent: from the sum of phi over the batch to its part of the penalty, and to the derivative
/// with respect to one phi, in the place of the sum.
template <class Real>
struct squared_frequency {
  Real* sums;
  Real* parts;
  Real rows;
  Real turn;
  Real weight;
  PLMSCOPE_HD void operator()(std::size_t, std::size_t i) const {
    const Real f = sums[i] / rows;
    parts[i] = weight * f * (1 + f / turn);
    sums[i] = weight * (1 + 2 * f / turn) / rows;
  }
};

template <class Real, class Shape>
struct frequency_pull {
  Shape shape;
  const Real* values;
  const Real* lengths;
  const Real* slopes;  ///< [1, F]
  Real* pull;
  Real* spread;  ///< derivative with respect to the length
  PLMSCOPE_HD void operator()(std::size_t, std::size_t e, std::uint32_t f) const {
    const Real n = lengths == nullptr ? Real{1} : lengths[f];
    const Real slope = slopes[f] * shape.slope(values[e] * n);
    pull[e] += slope * n;
    spread[e] = slope * values[e];
  }
};

}  // namespace penalty_detail

/// weight * sum_i f_i (1 + f_i / turn), f_i = mean over rows of phi(z_i |w_i|): as a penalty of
/// entries by phi where a latent is rare, and quadratic in its frequency above `turn`, so that few
/// fire on most rows. With phi(u) = tanh(c u) it is the quadratic frequency penalty of Smith et al.
/// 2025 by a smooth frequency, for any sparsifier; `firing_frequency_penalty` below counts.
/// Gradients flow into the lengths. For a gated SAE z_i is the gate's value. The shares of a plan
/// with prefixes are passed over.
///
/// Cost: three passes over the entries. Does not wait for a device.
template <class Shape = tanh_shape>
struct frequency_penalty {
  warmed_weight weight = {};
  double turn = 0.1;    ///< frequency at which the second term is as large as the first
  bool lengths = true;  ///< false: u = z_i
  Shape shape = {};

  template <class B>
  struct state {
    using real = typename B::real;
    matrix<real, B> lengths, value, sums, parts;
    matrix<double, B> slot;

    template <class F>
    void fields(const F&) {}
  };

  template <class B>
  void on_values(B& be, step_context<B>& c, state<B>& s) const {
    using real = typename B::real;
    using namespace penalty_detail;
    warmed_weight::state none;
    const double w = weight(be, c, none);
    if (lengths) {
      s.lengths.reshape(be, 1, c.features());
      block_lengths(be, const_view<B>(c.parameters.decoder), c.blocks, s.lengths.all());
    }
    const real* const rows_long = lengths ? s.lengths.data() : nullptr;
    s.value.reshape(be, 1, c.penalised.cols());
    s.sums.reshape(be, 1, c.features());
    s.parts.reshape(be, 1, c.features());
    be.each_entry(
        c.z, shape_of_entry<real, Shape>{shape, c.penalised.data(), rows_long, s.value.data()});
    sum_by_feature(be, c.by_feature, const_view<B>(s.value), s.sums.all());
    be.entries(1, c.features(),
               squared_frequency<real>{s.sums.data(), s.parts.data(), static_cast<real>(c.rows()),
                                       static_cast<real>(turn), static_cast<real>(w)});
    be.each_entry(c.z,
                  frequency_pull<real, Shape>{shape, c.penalised.data(), rows_long, s.sums.data(),
                                              c.penalised_pull.data(), s.value.data()});
    if (s.slot.empty()) s.slot = matrix<double, B>(be, 1, 1);
    be.fill(s.slot.all(), 0.0);
    be.add_sum(const_view<B>(s.parts), s.slot.all());
  }

  template <class B>
  void add_gradient(B& be, step_context<B>& c, sae_parameters<B>& gradient, view<B>,
                    state<B>& s) const {
    if (!lengths) return;
    sum_by_feature(be, c.by_feature, const_view<B>(s.value), s.sums.all());
    add_length_gradient(be, const_view<B>(c.parameters.decoder), c.blocks, const_view<B>(s.sums),
                        gradient.decoder.all());
  }

  template <class B>
  double loss(B& be, state<B>& s) const {
    if (s.slot.empty()) return 0;
    double v = 0;
    be.download(const_view<B, double>(s.slot), std::span<double>(&v, 1));
    return v;
  }
};

/// weight * sum_i f_i (1 + f_i / turn), f_i = share of the rows on which latent i is active: the
/// same penalty of true frequencies. As with `l0_penalty`, its gradient reaches learned thresholds
/// only
/// (`jump_relu`), here each by its own slope, weight (1 + 2 f_i / turn) / rows for an active entry.
/// One such penalty a training. Does not wait for a device.
struct firing_frequency_penalty {
  warmed_weight weight = {};
  double turn = 0.1;
  static constexpr bool counts_active = true;

  template <class B>
  struct state {
    using real = typename B::real;
    matrix<real, B> slopes, parts;
    matrix<double, B> slot;

    template <class F>
    void fields(const F&) {}
  };

  template <class B>
  void on_values(B& be, step_context<B>& c, state<B>& s) const {
    using real = typename B::real;
    warmed_weight::state none;
    s.slopes.reshape(be, 1, c.features());
    s.parts.reshape(be, 1, c.features());
    be.copy(c.active, s.slopes.all());
    be.entries(1, c.features(),
               penalty_detail::squared_frequency<real>{
                   s.slopes.data(), s.parts.data(), static_cast<real>(c.rows()),
                   static_cast<real>(turn), static_cast<real>(weight(be, c, none))});
    c.latent_slope = s.slopes;
    if (s.slot.empty()) s.slot = matrix<double, B>(be, 1, 1);
    be.fill(s.slot.all(), 0.0);
    be.add_sum(const_view<B>(s.parts), s.slot.all());
  }

  template <class B>
  double loss(B& be, state<B>& s) const {
    if (s.slot.empty()) return 0;
    double v = 0;
    be.download(const_view<B, double>(s.slot), std::span<double>(&v, 1));
    return v;
  }
};

}  // namespace plmscope::inline PLMSCOPE_ABI
