// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/core/view.hpp>
#include <plmscope/tensor/matrix.hpp>
#include <plmscope/train/penalties.hpp>
#include <plmscope/train/step_context.hpp>

#include <cstddef>
#include <span>

namespace plmscope::inline PLMSCOPE_ABI {

namespace penalty_detail {

/// Adds the derivative of weight * L0 or weight * (L0 / target - 1)^2 with respect to one active entry;
/// count: active entries of the batch.
struct l0_slope {
  const double* count;
  double* out;
  double weight;
  double target;
  double rows;
  PLMSCOPE_HD void operator()(std::size_t, std::size_t) const {
    const double slope = target > 0 ? 2 * (*count / rows / target - 1) / target : 1.0;
    *out += weight * slope / rows;
  }
};

}  // namespace penalty_detail

/// weight * L0, or with a target weight * (L0 / target - 1)^2, where L0 is the mean number of active
/// latents of a row (Rajamanoharan et al. 2024, eq. 9 and appendix F). Its gradient reaches learned
/// thresholds only (`jump_relu`).
struct l0_penalty {
  warmed_weight weight = {};
  double target = 0;
  static constexpr bool counts_active = true;

  template <class B>
  struct state {
    matrix<double, B> count;
    double weight = 0;
    double rows = 1;

    template <class F>
    void fields(const F&) {}
  };

  template <class B>
  void on_values(B& be, step_context<B>& c, state<B>& s) const {
    warmed_weight::state none;
    s.weight = weight(be, c, none);
    s.rows = static_cast<double>(c.rows());
    if (s.count.empty()) s.count = matrix<double, B>(be, 1, 1);
    be.fill(s.count.all(), 0.0);
    be.add_sum(c.active, s.count.all());
    be.entries(1, 1, penalty_detail::l0_slope{s.count.data(), c.l0_slope.data(), s.weight, target,
                                              s.rows});
  }
  template <class B>
  double loss(B& be, state<B>& s) const {
    if (s.count.empty()) return 0;
    double n = 0;
    be.download(const_view<B, double>(s.count), std::span<double>(&n, 1));
    const double l0 = n / s.rows;
    return s.weight * (target > 0 ? (l0 / target - 1) * (l0 / target - 1) : l0);
  }
};

}  // namespace plmscope::inline PLMSCOPE_ABI
