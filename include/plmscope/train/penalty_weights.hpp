// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/core/view.hpp>
#include <plmscope/tensor/matrix.hpp>
#include <plmscope/train/step_context.hpp>

#include <algorithm>
#include <cstddef>
#include <span>
#include <vector>

namespace plmscope::inline PLMSCOPE_ABI {

/// Active entries per row of a step. Waits for the device.
template <class B>
double active_per_row(B& be, const step_context<B>& c) {
  matrix<double, B> slot(be, 1, 1);
  be.add_sum(c.active, slot.all());
  double n = 0;
  be.download(const_view<B, double>(slot), std::span<double>(&n, 1));
  return n / static_cast<double>(c.rows());
}

/// A fixed weight, reached linearly over `warmup` steps from 0 at step 0.
struct warmed_weight {
  double value = 0;
  std::size_t warmup = 0;
  static constexpr bool counts_active = false;
  struct state {};

  template <class B>
  double operator()(B&, const step_context<B>& c, state&) const noexcept {
    if (warmup == 0) return value;
    return value * std::min(1.0, static_cast<double>(c.step) / static_cast<double>(warmup));
  }
};

/// A weight that seeks an L0: after `warmup` steps it is multiplied by 1 + rate where more latents
/// than `target` are active per row, else by 1 - rate (Nabeshima 2024). Waits for the device.
struct seeking_weight {
  double start = 0.6;
  double target = 64;
  double rate = 0.05;
  std::size_t warmup = 1000;
  static constexpr bool counts_active = true;
  struct state {
    double factor = 1;
    std::size_t step = 0;
    template <class F>
    void fields(const F& f) {
      f("factor", factor);
      f("step", step);
    }
  };

  template <class B>
  double operator()(B& be, const step_context<B>& c, state& s) const {
    if (s.step > warmup) s.factor *= active_per_row(be, c) < target ? 1 - rate : 1 + rate;
    ++s.step;
    const double ramp =
        warmup == 0 ? 1 : std::min(1.0, static_cast<double>(s.step) / static_cast<double>(warmup));
    return start * s.factor * ramp;
  }
};

}  // namespace plmscope::inline PLMSCOPE_ABI
