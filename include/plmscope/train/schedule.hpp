// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/config.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>

namespace plmscope::inline PLMSCOPE_ABI {

/// Factor of the learning rate at step s (from 0): linear warm-up over `warmup` steps, 1, then
/// linear decay to `final_factor` from `decay_start` on. `counts_from_one` gives (s + 1) / warmup,
/// so that the first step already moves; otherwise the first step only fills the moments, as in
/// dictionary_learning.
struct warmup_decay {
  std::size_t warmup = 0;
  std::size_t decay_start = static_cast<std::size_t>(-1);  ///< never
  double final_factor = 0;
  bool counts_from_one = true;

  double operator()(std::size_t step, std::size_t steps) const noexcept {
    if (step < warmup) {
      return static_cast<double>(step + (counts_from_one ? 1 : 0)) / static_cast<double>(warmup);
    }
    if (step < decay_start || steps <= decay_start) return 1;
    const double left = static_cast<double>(steps) - static_cast<double>(step);
    const double share = std::max(0.0, left) / static_cast<double>(steps - decay_start);
    return final_factor + (1 - final_factor) * share;
  }
};

/// Linear warm-up from 0, then half a cosine that would reach `final_factor` at step `steps`.
struct warmup_cosine {
  std::size_t warmup = 0;
  double final_factor = 0;

  double operator()(std::size_t step, std::size_t steps) const noexcept {
    if (step < warmup) return static_cast<double>(step) / static_cast<double>(warmup);
    const double p = steps <= warmup ? 1
                                     : static_cast<double>(step - warmup) /
                                           static_cast<double>(steps - warmup);
    return final_factor + (1 - final_factor) / 2 * (1 + std::cos(3.14159265358979323846 * p));
  }
};

}  // namespace plmscope
