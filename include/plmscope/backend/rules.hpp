// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/core/error.hpp>

namespace plmscope::inline PLMSCOPE_ABI {

/// The rules of the backend layer: devices and products.
namespace rules {

// clang-format off
inline constexpr error_rule device_missing{"backend.101", error_kind::resource, "a CUDA backend needs a GPU with that number and its driver"};
inline constexpr error_rule device_failed{"backend.102", error_kind::io, "a call of CUDA must succeed"};
inline constexpr error_rule device_memory{"backend.103", error_kind::resource, "what is computed must fit into the memory of the device"};
inline constexpr error_rule device_product{"backend.104", error_kind::io, "a call of cuBLAS must succeed"};
inline constexpr error_rule device_head_width{"backend.105", error_kind::mismatch, "attention on a device takes heads of at most 128 columns"};
inline constexpr error_rule products_missing{"backend.106", error_kind::usage, "products in another precision need a provider and a processor that have them"};
// clang-format on

}  // namespace rules
}  // namespace plmscope
