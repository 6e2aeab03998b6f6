// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/plm/model_identity.hpp>

#include <array>
#include <cmath>
#include <cstddef>

namespace plmscope::inline PLMSCOPE_ABI {

/// The shape of an ESM-C model (EvolutionaryScale 2024, "ESM Cambrian"). Read from the tensors;
/// only the number of heads stands in none of them.
struct esmc_config {
  std::size_t layers = 0;
  std::size_t d_model = 0;
  std::size_t heads = 0;
  std::size_t feed_forward = 0;  ///< `esmc_feed_forward(d_model)` in every published size
  std::size_t vocabulary = 64;   ///< rows of the embedding table and numbers of the logits
  double layer_norm_epsilon = 1e-5;

  std::size_t head_dim() const noexcept { return d_model / heads; }
  /// Every branch is divided by this before it is added to the residual stream: sqrt(layers / 36),
  /// so 0.913 (300M), 1 (600M), 1.491 (6B).
  double branch_divisor() const noexcept { return std::sqrt(static_cast<double>(layers) / 36.0); }

  friend bool operator==(const esmc_config&, const esmc_config&) = default;
};

/// Width of the gated feed-forward layer: 8/3 d, rounded up to a multiple of 256 as the official
/// code rounds.
constexpr std::size_t esmc_feed_forward(std::size_t d_model) noexcept {
  return 256 * ((8 * d_model + 3 * 255) / (3 * 256));
}

/// A published size, for trials of speed.
struct esmc_size {
  const char* name;
  std::size_t layers;
  std::size_t d_model;
  std::size_t heads;

  constexpr esmc_config config() const noexcept {
    return {.layers = layers,
            .d_model = d_model,
            .heads = heads,
            .feed_forward = esmc_feed_forward(d_model)};
  }
};

inline constexpr std::array<esmc_size, 3> esmc_sizes{
    {{"esmc_300m", 30, 960, 15}, {"esmc_600m", 36, 1152, 18}, {"esmc_6b", 80, 2560, 40}}};

/// Rotary frequencies 10000^(-2j / head_dim). No file holds them.
enum class esmc_rotary {
  exact,            ///< in float, as the model was defined
  bfloat16_rounded  ///< as the 2024 package computed on a GPU, where it cast the model to bfloat16
                    ///< with its table: the final state moves by 1e-3 (67 tokens) to 7e-3 (1,024)
};

struct esmc_options {
  esmc_rotary rotary = esmc_rotary::exact;
  std::size_t heads = 0;     ///< 0 = config.json beside the file, or 64 numbers a head without one
  bool content_hash = true;  ///< reads the whole file once; identity().content_hash
  std::size_t tokens_per_pass = 2048;  ///< bounds the workspace: about 11 d_model numbers a token
};

}  // namespace plmscope::inline PLMSCOPE_ABI
