// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/config.hpp>

namespace plmscope::inline PLMSCOPE_ABI {

/// What dense products compute in. States, parameters, gradients and sums stay in the backend's
/// `real`. Doubles are always multiplied as doubles. On a processor it is the products with packed
/// weights that change (`linear`), and bf16 alone.
enum class product_precision {
  fp32,  ///< single precision throughout
  tf32,  ///< operands rounded to 10 bits of fraction inside a GPU's tensor cores
  bf16   ///< operands rounded to bfloat16 (7 bits of fraction), sums in single precision
};

}  // namespace plmscope::inline PLMSCOPE_ABI
