// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/backend/device/attention.hpp>
#include <plmscope/backend/device/group.hpp>
#include <plmscope/backend/device/tensor_attention.hpp>
#include <plmscope/backend/precision.hpp>
#include <plmscope/backend/rules.hpp>

#include <cstddef>
#include <string>
#include <type_traits>

namespace plmscope::inline PLMSCOPE_ABI {
namespace device_kernels {

/// `Kernel` with room for heads of `HeadDim` columns, over every run of queries of every head.
template <template <class, class, unsigned> class Kernel, unsigned HeadDim, class Device, class C,
          class V, class Offsets>
void launch_attention_of(Device& be, C q, C k, C v, unsigned head_dim, Offsets offsets,
                         std::size_t longest, V out) {
  using kernel = Kernel<C, V, HeadDim>;
  const auto heads = static_cast<unsigned>(q.cols() / head_dim);
  const unsigned run = kernel::queries(be.runtime().template threads_per_block<kernel>());
  const auto runs = static_cast<unsigned>(divide_up(longest, run));
  const std::size_t sequences = offsets.cols() - 1;
  be.launch(sequences * heads * runs, kernel::shared_bytes(),
            kernel{q, k, v, out, offsets.data(), head_dim, heads, runs, run});
}

/// `Kernel` with the least room that heads of `head_dim` columns need.
template <template <class, class, unsigned> class Kernel, class Device, class C, class V,
          class Offsets>
void launch_attention_with(Device& be, C q, C k, C v, std::size_t head_dim, Offsets offsets,
                           std::size_t longest, V out) {
  const auto d = static_cast<unsigned>(head_dim);
  if (head_dim <= 16) {
    launch_attention_of<Kernel, 16>(be, q, k, v, d, offsets, longest, out);
  } else if (head_dim <= 32) {
    launch_attention_of<Kernel, 32>(be, q, k, v, d, offsets, longest, out);
  } else if (head_dim <= 64) {
    launch_attention_of<Kernel, 64>(be, q, k, v, d, offsets, longest, out);
  } else if (head_dim <= 128) {
    launch_attention_of<Kernel, 128>(be, q, k, v, d, offsets, longest, out);
  } else {
    throw error(rules::device_head_width, {.found = std::to_string(head_dim) + " columns"});
  }
}

/// Whether a device has teams that can multiply tiles, and numbers that are rounded for it.
template <class Device, class Real>
inline constexpr bool has_tensor_attention =
    std::is_same_v<Real, float> && Device::runtime_type::lanes == tile_lanes;

template <class Device, class C, class V, class Offsets>
void launch_attention(Device& be, C q, C k, C v, std::size_t head_dim, Offsets offsets,
                      std::size_t longest, V out) {
  if (out.empty() || offsets.cols() < 2 || longest == 0) return;
  if constexpr (has_tensor_attention<Device, typename C::value_type>) {
    if (be.precision() == product_precision::bf16) {
      launch_attention_with<tensor_attention>(be, q, k, v, head_dim, offsets, longest, out);
      return;
    }
  }
  launch_attention_with<attention>(be, q, k, v, head_dim, offsets, longest, out);
}

}  // namespace device_kernels
}  // namespace plmscope::inline PLMSCOPE_ABI
