// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/eval/metrics.hpp>
#include <plmscope/eval/reconstruction_moments.hpp>

#include <array>
#include <cstddef>

namespace plmscope::inline PLMSCOPE_ABI {

/// What stands at the site while the rest of the model runs.
enum class fidelity_condition : std::size_t {
  clean,    ///< the state itself
  spliced,  ///< its reconstruction
  zero,     ///< zeros
  mean      ///< the mean of the state over the corpus
};
inline constexpr std::size_t fidelity_conditions = 4;

/// Sums of one protein (in nats), of which every figure is made. Conditions that were not run have
/// zeros.
struct protein_fidelity {
  std::size_t residues = 0;
  std::size_t scored = 0;    ///< predictions with a loss
  std::size_t compared = 0;  ///< predictions with a divergence
  std::array<double, fidelity_conditions> losses{};
  std::array<double, fidelity_conditions> divergences{};  ///< KL(clean || condition)
  /// Predictions whose likeliest token is that of the clean run.
  std::array<std::size_t, fidelity_conditions> agreeing{};
  /// Predictions whose likeliest token is the right one.
  std::array<std::size_t, fidelity_conditions> correct{};
  reconstruction_moments rebuilt;

  /// Mean loss; `not_defined` where nothing was scored.
  double loss(fidelity_condition c) const noexcept {
    return scored == 0 ? not_defined
                       : losses[static_cast<std::size_t>(c)] / static_cast<double>(scored);
  }
  /// Mean KL divergence from the clean run.
  double divergence(fidelity_condition c) const noexcept {
    return compared == 0 ? not_defined
                         : divergences[static_cast<std::size_t>(c)] / static_cast<double>(compared);
  }
};

}  // namespace plmscope::inline PLMSCOPE_ABI
