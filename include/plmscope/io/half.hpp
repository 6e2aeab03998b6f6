// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/config.hpp>

#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>

namespace plmscope::inline PLMSCOPE_ABI {

/// IEEE 754 binary16 as bits; converts, does not compute.
struct float16 {
  std::uint16_t bits = 0;
  friend constexpr bool operator==(float16, float16) = default;
};

/// The upper half of a binary32, as bits; converts, does not compute.
struct bfloat16 {
  std::uint16_t bits = 0;
  friend constexpr bool operator==(bfloat16, bfloat16) = default;
};

/// Exact. A NaN stays a NaN with sign and payload. No branches, so loops over it vectorise.
constexpr float to_float(float16 h) noexcept {
  const std::uint32_t sign = (h.bits & 0x8000u) << 16;
  const std::uint32_t magnitude = h.bits & 0x7fffu;
  const std::uint32_t shifted = magnitude << 13;
  const std::uint32_t normal = shifted + (112u << 23);
  const std::uint32_t special = shifted | 0x7f800000u;
  // With the exponent of 2^-14 put in front, taking 2^-14 away leaves the subnormal, exactly.
  const std::uint32_t subnormal = std::bit_cast<std::uint32_t>(
      std::bit_cast<float>(shifted + (113u << 23)) - std::bit_cast<float>(113u << 23));
  const std::uint32_t finite = magnitude < 0x0400u ? subnormal : normal;
  return std::bit_cast<float>(sign | (magnitude >= 0x7c00u ? special : finite));
}

constexpr float to_float(bfloat16 b) noexcept {
  return std::bit_cast<float>(static_cast<std::uint32_t>(b.bits) << 16);
}

/// Rounds to nearest, ties to even; above 65,519 becomes infinity; a NaN becomes a quiet NaN.
constexpr float16 to_float16(float value) noexcept {
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t sign = (bits >> 16) & 0x8000u;
  const std::uint32_t magnitude = bits & 0x7fffffffu;
  // Normal range: rebias the exponent, add half a unit minus one and the lowest kept bit.
  const std::uint32_t normal =
      (magnitude - (112u << 23) + 0x0fffu + ((magnitude >> 13) & 1u)) >> 13;
  // Below 2^-14: adding 0.5 lets the float adder round to the multiple of 2^-24.
  const std::uint32_t subnormal =
      std::bit_cast<std::uint32_t>(std::bit_cast<float>(magnitude) + 0.5f) - 0x3f000000u;
  const std::uint32_t nan = 0x7e00u | ((magnitude >> 13) & 0x03ffu);
  std::uint32_t out = magnitude < (113u << 23) ? subnormal : normal;
  out = magnitude >= 0x477ff000u ? 0x7c00u : out;
  out = magnitude > 0x7f800000u ? nan : out;
  return {static_cast<std::uint16_t>(sign | out)};
}

/// Rounds to nearest, ties to even; a NaN becomes a quiet NaN.
constexpr bfloat16 to_bfloat16(float value) noexcept {
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  const std::uint32_t nan = (bits >> 16) | 0x0040u;
  return {static_cast<std::uint16_t>((bits & 0x7fffffffu) > 0x7f800000u ? nan : rounded)};
}

/// Bulk conversions; both spans have the same size. About memory speed.
template <class Half>
inline void to_float(std::span<const Half> from, std::span<float> to) noexcept {
  const Half* const in = from.data();
  float* const out = to.data();
  for (std::size_t i = 0, n = from.size(); i < n; ++i) out[i] = to_float(in[i]);
}
inline void to_float16(std::span<const float> from, std::span<float16> to) noexcept {
  const float* const in = from.data();
  float16* const out = to.data();
  for (std::size_t i = 0, n = from.size(); i < n; ++i) out[i] = to_float16(in[i]);
}
inline void to_bfloat16(std::span<const float> from, std::span<bfloat16> to) noexcept {
  const float* const in = from.data();
  bfloat16* const out = to.data();
  for (std::size_t i = 0, n = from.size(); i < n; ++i) out[i] = to_bfloat16(in[i]);
}

}  // namespace plmscope::inline PLMSCOPE_ABI
