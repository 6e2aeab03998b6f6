// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/config.hpp>

#include <cstddef>
#include <cstdint>

namespace plmscope::inline PLMSCOPE_ABI {

/// What is measured at a logged step, on that step's batch before its update. Reconstruction
/// figures are on normalised rows, with means removed per dimension.
struct training_metrics {
  std::size_t step = 0;         ///< from 0
  std::size_t steps = 0;
  std::int64_t tokens = 0;      ///< rows seen so far, this batch included
  double loss = 0;              ///< everything that is minimised
  double aux_loss = 0;
  double penalty = 0;
  double fvu = 0;               ///< sum |e|^2 / sum |y - mean(y)|^2; 0 is perfect, 1 is the mean
  double explained_variance = 0;  ///< 1 - sum_j Var(e_j) / sum_j Var(y_j); ignores a constant offset
  double cosine = 0;            ///< mean cosine of y and y'
  double l0 = 0;                ///< active latents per row
  double dead_share = 0;        ///< share of latents silent for at least `dead_after` tokens
  double learning_rate = 0;
  double gradient_norm = 0;     ///< before clipping
  double seconds = 0;           ///< since the start of training
};

}  // namespace plmscope
