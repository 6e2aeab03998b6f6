// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/plm/model_identity.hpp>

#include <array>
#include <cstddef>

namespace plmscope::inline PLMSCOPE_ABI {

/// The shape of an ESM-2 model (Lin et al. 2023). Read from the tensors, not from a list of names.
struct esm2_config {
  std::size_t layers = 0;
  std::size_t d_model = 0;
  std::size_t heads = 0;
  std::size_t feed_forward = 0;  ///< 4 d_model in every published size
  std::size_t vocabulary = 33;
  bool token_dropout = true;     ///< the 0.88 / (1 - masked) rescaling of embeddings
  double layer_norm_epsilon = 1e-5;

  std::size_t head_dim() const noexcept { return d_model / heads; }

  friend bool operator==(const esm2_config&, const esm2_config&) = default;
};

/// A published size, for heads where a file states them nowhere else and for trials of speed.
struct esm2_size {
  const char* name;
  std::size_t layers;
  std::size_t d_model;
  std::size_t heads;

  constexpr esm2_config config() const noexcept {
    return {.layers = layers, .d_model = d_model, .heads = heads, .feed_forward = 4 * d_model};
  }
};

inline constexpr std::array<esm2_size, 6> esm2_sizes{{{"esm2_t6_8M_UR50D", 6, 320, 20},
                                                      {"esm2_t12_35M_UR50D", 12, 480, 20},
                                                      {"esm2_t30_150M_UR50D", 30, 640, 20},
                                                      {"esm2_t33_650M_UR50D", 33, 1280, 20},
                                                      {"esm2_t36_3B_UR50D", 36, 2560, 40},
                                                      {"esm2_t48_15B_UR50D", 48, 5120, 40}}};

/// Where the rotary frequencies come from. ESM-2 was trained with parameters in half precision, so
/// the checkpoints hold 10000^(-2j / head_dim) rounded to half; recomputing them in float moves
/// every state by 5e-5 (short sequences) to 3e-3 (1,024 tokens).
enum class inv_freq {
  stored,        ///< read from the file; an error where the file has none
  half_rounded,  ///< computed and rounded to half: what the official checkpoints hold
  exact          ///< computed in float: another model than the published one
};

struct esm2_options {
  inv_freq rotary = inv_freq::stored;
  std::size_t heads = 0;  ///< only for files without inv_freq; 0 = config.json or published
  bool content_hash = true;  ///< reads the whole file once; identity().content_hash
  std::size_t tokens_per_pass = 2048;  ///< bounds the workspace: 6 d_model numbers a token
};

}  // namespace plmscope
