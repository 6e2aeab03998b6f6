// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/io/half.hpp>

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <type_traits>

namespace plmscope::inline PLMSCOPE_ABI {

static_assert(std::endian::native == std::endian::little,
              "plmscope reads little-endian files as is");

/// The number types of the safetensors format. The last three pack several numbers into a byte.
enum class dtype : std::uint8_t {
  boolean,
  u8,
  i8,
  f8_e5m2,
  f8_e4m3,
  f8_e8m0,
  f8_e4m3fnuz,
  f8_e5m2fnuz,
  u16,
  i16,
  f16,
  bf16,
  u32,
  i32,
  f32,
  u64,
  i64,
  f64,
  c64,
  f4,
  f6_e2m3,
  f6_e3m2
};

struct dtype_row {
  dtype type;
  std::string_view name;  ///< as in the file
  unsigned bits;
};

/// All dtypes, in the order of the enumeration.
inline constexpr std::array<dtype_row, 22> dtype_table{{{dtype::boolean, "BOOL", 8},
                                                        {dtype::u8, "U8", 8},
                                                        {dtype::i8, "I8", 8},
                                                        {dtype::f8_e5m2, "F8_E5M2", 8},
                                                        {dtype::f8_e4m3, "F8_E4M3", 8},
                                                        {dtype::f8_e8m0, "F8_E8M0", 8},
                                                        {dtype::f8_e4m3fnuz, "F8_E4M3FNUZ", 8},
                                                        {dtype::f8_e5m2fnuz, "F8_E5M2FNUZ", 8},
                                                        {dtype::u16, "U16", 16},
                                                        {dtype::i16, "I16", 16},
                                                        {dtype::f16, "F16", 16},
                                                        {dtype::bf16, "BF16", 16},
                                                        {dtype::u32, "U32", 32},
                                                        {dtype::i32, "I32", 32},
                                                        {dtype::f32, "F32", 32},
                                                        {dtype::u64, "U64", 64},
                                                        {dtype::i64, "I64", 64},
                                                        {dtype::f64, "F64", 64},
                                                        {dtype::c64, "C64", 64},
                                                        {dtype::f4, "F4", 4},
                                                        {dtype::f6_e2m3, "F6_E2M3", 6},
                                                        {dtype::f6_e3m2, "F6_E3M2", 6}}};

constexpr std::string_view dtype_name(dtype type) noexcept {
  return dtype_table[static_cast<std::size_t>(type)].name;
}
/// Bits of one entry.
constexpr unsigned dtype_bits(dtype type) noexcept {
  return dtype_table[static_cast<std::size_t>(type)].bits;
}

/// The dtype that stores a C++ number type unchanged.
template <class T>
constexpr dtype dtype_of() noexcept {
  if constexpr (std::is_same_v<T, float>) {
    return dtype::f32;
  } else if constexpr (std::is_same_v<T, double>) {
    return dtype::f64;
  } else if constexpr (std::is_same_v<T, float16>) {
    return dtype::f16;
  } else if constexpr (std::is_same_v<T, bfloat16>) {
    return dtype::bf16;
  } else if constexpr (std::is_same_v<T, bool>) {
    return dtype::boolean;
  } else {
    static_assert(std::is_integral_v<T> && sizeof(T) <= 8, "no dtype stores this type");
    constexpr bool s = std::is_signed_v<T>;
    if constexpr (sizeof(T) == 1) return s ? dtype::i8 : dtype::u8;
    if constexpr (sizeof(T) == 2) return s ? dtype::i16 : dtype::u16;
    if constexpr (sizeof(T) == 4) return s ? dtype::i32 : dtype::u32;
    return s ? dtype::i64 : dtype::u64;
  }
}

}  // namespace plmscope::inline PLMSCOPE_ABI
