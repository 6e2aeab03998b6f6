// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/config.hpp>

#include <string>

namespace plmscope::inline PLMSCOPE_ABI {

/// Where activations come from: which model (by name and by the hash of its weights) and which site
/// in it. Travels with the data into every file made from them. Empty fields mean "not stated".
struct activation_source {
  std::string model;       ///< for people, for example `esm2_t6_8M_UR50D`
  std::string model_hash;  ///< SHA-256 of the weights, as `safetensors_file::content_hash` gives it
  std::string site;        ///< for example `resid_post.4`

  friend bool operator==(const activation_source&, const activation_source&) = default;
};

}  // namespace plmscope
