// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/config.hpp>

#include <cstddef>
#include <string_view>

namespace plmscope::inline PLMSCOPE_ABI {

/// What dense products compute in. States, parameters, gradients and sums stay in the backend's
/// `real`. Doubles are always multiplied as doubles. On a processor it is the products with packed
/// weights that change (`linear`), and attention stays in single precision. On a device bf16 is
/// about the two products of attention, too: queries, keys, values and the weights of the softmax
/// are rounded, scores and sums are not (`device/tensor_attention.hpp`). In tf32 they are not.
enum class product_precision {
  fp32,  ///< single precision throughout
  tf32,  ///< operands rounded to 10 bits of fraction inside a GPU's tensor cores
  bf16,  ///< operands rounded to bfloat16 (7 bits of fraction), sums in single precision
  int8   ///< operands in 8 bits with a scale a row, exact sums; on a processor only
};

/// "fp32", "tf32", "bf16", "int8".
constexpr std::string_view to_string(product_precision p) noexcept {
  constexpr std::string_view names[] = {"fp32", "tf32", "bf16", "int8"};
  return names[static_cast<std::size_t>(p)];
}

}  // namespace plmscope::inline PLMSCOPE_ABI
