// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/io/dtype.hpp>
#include <plmscope/io/rules.hpp>

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

namespace plmscope::inline PLMSCOPE_ABI {

/// Conversion between stored bytes of a dtype and numbers in memory, in blocks, at any alignment.
namespace tensor_convert {

inline constexpr std::size_t block = 4096;

/// Calls `action.template operator()<Stored>()` with the C++ type that holds a dtype. False when
/// there is none (8-bit and narrower floats, complex numbers).
template <class Action>
bool with_stored_type(dtype type, const Action& action) {
  switch (type) {
    case dtype::boolean:
    case dtype::u8:
      action.template operator()<std::uint8_t>();
      return true;
    case dtype::i8:
      action.template operator()<std::int8_t>();
      return true;
    case dtype::u16:
      action.template operator()<std::uint16_t>();
      return true;
    case dtype::i16:
      action.template operator()<std::int16_t>();
      return true;
    case dtype::u32:
      action.template operator()<std::uint32_t>();
      return true;
    case dtype::i32:
      action.template operator()<std::int32_t>();
      return true;
    case dtype::u64:
      action.template operator()<std::uint64_t>();
      return true;
    case dtype::i64:
      action.template operator()<std::int64_t>();
      return true;
    case dtype::f16:
      action.template operator()<float16>();
      return true;
    case dtype::bf16:
      action.template operator()<bfloat16>();
      return true;
    case dtype::f32:
      action.template operator()<float>();
      return true;
    case dtype::f64:
      action.template operator()<double>();
      return true;
    default:
      return false;
  }
}

template <class T>
inline constexpr bool is_half = std::is_same_v<T, float16> || std::is_same_v<T, bfloat16>;

template <class From, class To>
inline constexpr bool convertible =
    std::is_same_v<From, To> ||
    (std::is_floating_point_v<To> && (std::is_floating_point_v<From> || is_half<From>)) ||
    (is_half<To> && std::is_floating_point_v<From>) ||
    (std::is_integral_v<To> && std::is_integral_v<From>);

/// One number; the caller has checked `convertible`.
template <class To, class From>
constexpr To number(From value) noexcept {
  if constexpr (std::is_same_v<From, To>) {
    return value;
  } else if constexpr (is_half<From>) {
    return static_cast<To>(to_float(value));
  } else if constexpr (std::is_same_v<To, float16>) {
    return to_float16(static_cast<float>(value));
  } else if constexpr (std::is_same_v<To, bfloat16>) {
    return to_bfloat16(static_cast<float>(value));
  } else {
    return static_cast<To>(value);
  }
}

/// By bits, so also under -ffast-math.
constexpr bool is_finite(float x) noexcept {
  return (std::bit_cast<std::uint32_t>(x) & 0x7f800000u) != 0x7f800000u;
}
constexpr bool is_finite(double x) noexcept {
  return (std::bit_cast<std::uint64_t>(x) & 0x7ff0000000000000u) != 0x7ff0000000000000u;
}

/// A finite number that has become infinite, or an integer that does not fit.
template <class To, class From>
constexpr bool changed(From from, To to) noexcept {
  if constexpr (std::is_same_v<To, bool>) {
    return from > 1;
  } else if constexpr (std::is_integral_v<To> && std::is_integral_v<From>) {
    return !std::in_range<To>(from);
  } else if constexpr (is_half<To> && std::is_floating_point_v<From>) {
    constexpr unsigned infinity = std::is_same_v<To, float16> ? 0x7c00u : 0x7f80u;
    return (to.bits & 0x7fffu) == infinity && is_finite(from);
  } else if constexpr (std::is_same_v<From, double> && std::is_same_v<To, float>) {
    const bool out_infinite = (std::bit_cast<std::uint32_t>(to) & 0x7fffffffu) == 0x7f800000u;
    return out_infinite && is_finite(from);
  } else {
    return false;
  }
}

template <class T>
std::string stored_text(T value) {
  if constexpr (is_half<T>) {
    return std::to_string(to_float(value));
  } else {
    return std::to_string(value);
  }
}

/// Bytes of dtype `type` into `out`; `where()` is called for errors only (io.125, io.126).
template <class T, class Where>
void read(dtype type, std::span<const std::byte> bytes, std::span<T> out, const Where& where) {
  bool done = false;
  const bool known = with_stored_type(type, [&]<class Stored>() {
    if constexpr (convertible<Stored, T>) {
      done = true;
      if constexpr (std::is_same_v<Stored, T>) {
        if (!out.empty()) std::memcpy(out.data(), bytes.data(), bytes.size());
      } else {
        std::array<Stored, block> in;
        for (std::size_t first = 0; first < out.size(); first += block) {
          const std::size_t n = std::min(block, out.size() - first);
          std::memcpy(in.data(), bytes.data() + first * sizeof(Stored), n * sizeof(Stored));
          bool bad = false;
          for (std::size_t i = 0; i < n; ++i) {
            out[first + i] = number<T>(in[i]);
            bad |= changed(in[i], out[first + i]);
          }
          if (!bad) continue;
          for (std::size_t i = 0; i < n; ++i) {
            if (!changed(in[i], out[first + i])) continue;
            throw error(rules::safetensors_range,
                        {.where = where() + ", entry " + std::to_string(first + i),
                         .expected = "a number that fits " + std::string(dtype_name(dtype_of<T>())),
                         .found = stored_text(in[i])});
          }
        }
      }
    }
  });
  if (!known || !done) {
    throw error(rules::safetensors_conversion,
                {.where = where(),
                 .expected = "a dtype that reads as " + std::string(dtype_name(dtype_of<T>())),
                 .found = std::string(dtype_name(type)),
                 .remedy = "convert the file to F32, F16 or BF16"});
  }
}

/// The index of the first NaN or infinity; nothing for integer types. Tests bits, so it also works
/// under -ffast-math.
inline std::optional<std::size_t> first_not_finite(dtype type, std::span<const std::byte> bytes) {
  const auto scan = [&]<class Bits>(Bits exponent) -> std::optional<std::size_t> {
    for (std::size_t i = 0; i < bytes.size() / sizeof(Bits); ++i) {
      Bits value;
      std::memcpy(&value, bytes.data() + i * sizeof(Bits), sizeof(Bits));
      if ((value & exponent) == exponent) return i;
    }
    return std::nullopt;
  };
  switch (type) {
    case dtype::f16:
      return scan(std::uint16_t{0x7c00});
    case dtype::bf16:
      return scan(std::uint16_t{0x7f80});
    case dtype::f32:
      return scan(std::uint32_t{0x7f800000});
    case dtype::f64:
      return scan(std::uint64_t{0x7ff0000000000000});
    default:
      return std::nullopt;
  }
}

}  // namespace tensor_convert
}  // namespace plmscope::inline PLMSCOPE_ABI
