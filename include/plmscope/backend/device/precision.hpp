// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/config.hpp>

namespace plmscope::inline PLMSCOPE_ABI {

/// What the dense products of a device compute in. States, parameters, gradients and sums stay in
/// the backend's `real`. Doubles are always multiplied as doubles.
enum class product_precision {
  fp32,  ///< single precision throughout
  tf32,  ///< operands rounded to 10 bits of fraction inside the tensor cores
  bf16   ///< operands rounded to bfloat16 (7 bits of fraction)
};

}  // namespace plmscope::inline PLMSCOPE_ABI
