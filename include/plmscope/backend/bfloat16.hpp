// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/config.hpp>

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace plmscope::inline PLMSCOPE_ABI {
/// The nearest bfloat16 of every number, ties to even; NaN stays NaN.
inline void to_bfloat16(const float* from, std::uint16_t* to, std::size_t n) noexcept {
  for (std::size_t i = 0; i < n; ++i) {
    std::uint32_t b;
    std::memcpy(&b, from + i, sizeof b);
    const std::uint32_t even = b + 0x7fffu + ((b >> 16) & 1u);
    const bool nan = (b & 0x7fffffffu) > 0x7f800000u;
    to[i] = static_cast<std::uint16_t>((nan ? b | 0x400000u : even) >> 16);
  }
}

namespace device_kernels {

/// The nearest bfloat16, ties to even; NaN stays NaN.
PLMSCOPE_HD inline std::uint16_t to_bfloat16(float v) noexcept {
  std::uint32_t b;
  std::memcpy(&b, &v, sizeof b);
  if (v != v) return static_cast<std::uint16_t>((b >> 16) | 0x40u);
  b += 0x7fffu + ((b >> 16) & 1u);
  return static_cast<std::uint16_t>(b >> 16);
}

/// Stores a number in another type.
template <class T>
PLMSCOPE_HD inline void store(T v, T& to) noexcept {
  to = v;
}
PLMSCOPE_HD inline void store(float v, std::uint16_t& to) noexcept { to = to_bfloat16(v); }
PLMSCOPE_HD inline void store(std::uint16_t v, float& to) noexcept {
  const std::uint32_t b = static_cast<std::uint32_t>(v) << 16;
  std::memcpy(&to, &b, sizeof b);
}

}  // namespace device_kernels
}  // namespace plmscope::inline PLMSCOPE_ABI
