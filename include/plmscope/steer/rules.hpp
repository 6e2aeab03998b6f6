// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/core/error.hpp>

namespace plmscope::inline PLMSCOPE_ABI {

/// The rules of the steer layer: SAEs inside the forward pass.
namespace rules {

// clang-format off
inline constexpr error_rule steer_latent{"steer.101", error_kind::usage, "a latent lies inside the SAE and its value is finite"};
// clang-format on

}  // namespace rules
}  // namespace plmscope::inline PLMSCOPE_ABI
