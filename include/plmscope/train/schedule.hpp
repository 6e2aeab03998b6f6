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

/// The shape of a decay, from 1 to 0 over a share p of its way.
enum class decay_shape {
  linear,         ///< 1 - p
  cosine,         ///< (1 + cos(pi p)) / 2
  one_minus_sqrt  ///< 1 - sqrt(p) (Haegele et al. 2024)
};

/// WSD (Hu et al. 2024, "MiniCPM"; Nabeshima 2024): linear warm-up from 0, 1, and over the last
/// `decay` steps down to `final_factor`, which step `steps` would reach. A decay that is longer than
/// what follows the warm-up begins with its end.
struct warmup_stable_decay {
  std::size_t warmup = 0;
  std::size_t decay = 0;  ///< steps; 0: a fifth of the training
  decay_shape shape = decay_shape::linear;
  double final_factor = 0;

  double operator()(std::size_t step, std::size_t steps) const noexcept {
    if (step < warmup) return static_cast<double>(step) / static_cast<double>(warmup);
    const std::size_t length = std::min(decay == 0 ? steps / 5 : decay,
                                        steps > warmup ? steps - warmup : std::size_t{0});
    if (step < steps - std::min(length, steps)) return 1;
    const std::size_t left = step < steps ? steps - step : 0;
    const double p = length == 0 ? 1 : 1 - static_cast<double>(left) / static_cast<double>(length);
    return final_factor + (1 - final_factor) * down(p);
  }

 private:
  double down(double p) const noexcept {
    switch (shape) {
      case decay_shape::linear: return 1 - p;
      case decay_shape::cosine: return (1 + std::cos(3.14159265358979323846 * p)) / 2;
      case decay_shape::one_minus_sqrt: return 1 - std::sqrt(p);
    }
    return 1;
  }
};

/// Warm restarts (SGDR; Loshchilov & Hutter 2017): linear warm-up from 0, then `cycles` times half a
/// cosine from 1 towards `final_factor`, of equal lengths.
struct cosine_restarts {
  std::size_t warmup = 0;
  std::size_t cycles = 1;
  double final_factor = 0;

  double operator()(std::size_t step, std::size_t steps) const noexcept {
    if (step < warmup) return static_cast<double>(step) / static_cast<double>(warmup);
    if (step >= steps || steps <= warmup) return final_factor;
    const std::size_t length = steps - warmup;
    const std::size_t at = (step - warmup) * std::max<std::size_t>(cycles, 1) % length;
    const double p = static_cast<double>(at) / static_cast<double>(length);
    return final_factor + (1 - final_factor) / 2 * (1 + std::cos(3.14159265358979323846 * p));
  }
};

/// 1 - e^(-(s + 1) / tau), times what another schedule gives (Ma & Yarats 2021, "On the adequacy of
/// untuned warmup", eq. 5.1, who take tau = 1 / (1 - beta2) of Adam).
template <class Then = warmup_decay>
struct exponential_warmup {
  double tau = 1000;
  Then then = {};

  double operator()(std::size_t step, std::size_t steps) const noexcept {
    return -std::expm1(-static_cast<double>(step + 1) / tau) * then(step, steps);
  }
};

/// The rate of an SAE of `features` latents: `lr`, which is that of one of `reference` latents, times
/// sqrt(reference / features) (sparsify and dictionary_learning: 2e-4 for Adam at 2^14, after the
/// power law of Gao et al. 2024).
inline double sqrt_width_law(double lr, std::size_t features,
                             std::size_t reference = std::size_t{1} << 14) noexcept {
  return lr / std::sqrt(static_cast<double>(features) / static_cast<double>(reference));
}

}  // namespace plmscope::inline PLMSCOPE_ABI
