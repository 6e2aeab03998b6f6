// SPDX-License-Identifier: MIT
// From one type to another: cvt.
#include "rounding.hpp"

#include <limits>

namespace simulator {
namespace {

/// Nearest, ties to even; as the hardware, every NaN becomes 0x7fff.
u32 to_bf16(float x) {
  const u32 b = std::bit_cast<u32>(x);
  return std::isnan(x) ? 0x7fff : (b + 0x7fff + (b >> 16 & 1)) >> 16;
}
void to_bf16_pair(machine&, warp& w, const instruction& in, u32 lanes) {
  u64* const d = w.lanes(in.operands[0]);
  const u64* const high = w.lanes(in.operands[1]);
  const u64* const low = w.lanes(in.operands[2]);
  for_lanes(lanes, [&](u32 l) {
    d[l] = u64{to_bf16(get<float>(high, l))} << 16 | to_bf16(get<float>(low, l));
  });
}

template <class T>
u64 nearest_of(double x) {  // x is whole
  using limits = std::numeric_limits<T>;
  if (x <= static_cast<double>(limits::min())) {
    return static_cast<std::make_unsigned_t<T>>(limits::min());
  }
  if (x >= static_cast<double>(limits::max())) {
    return static_cast<std::make_unsigned_t<T>>(limits::max());
  }
  return static_cast<std::make_unsigned_t<T>>(static_cast<T>(x));
}
u64 whole_of(double x, type t) {
  switch (t) {
    case type::u_8:
      return nearest_of<u8>(x);
    case type::s_8:
      return nearest_of<std::int8_t>(x);
    case type::u_16:
      return nearest_of<u16>(x);
    case type::s_16:
      return nearest_of<s16>(x);
    case type::u_32:
      return nearest_of<u32>(x);
    case type::s_32:
      return nearest_of<s32>(x);
    case type::u_64:
      return nearest_of<u64>(x);
    default:
      return nearest_of<s64>(x);
  }
}
/// PTX ISA, cvt: of NaN.
u64 whole_of_nan(type from, type to) {
  return from == type::f_64 || bytes_of(to) == 8 ? u64{1} << (8 * bytes_of(to) - 1) : 0;
}
/// A register that is wider than the type holds its sign.
u64 extended(u64 x, type t) {
  x &= ones(t);
  return is_signed(t) && x >> (8 * bytes_of(t) - 1) != 0 ? x | ~ones(t) : x;
}
bool is_float(type t) { return t == type::f_32 || t == type::f_64 || t == type::bf_16; }

void from_float(machine&, warp& w, const instruction& in, u32 lanes) {
  const rounding r(in.rounding);
  u64* const d = w.lanes(in.operands[0]);
  const u64* const a = w.lanes(in.operands[1]);
  for_lanes(lanes, [&](u32 l) {
    double x = in.from == type::f_64   ? get<double>(a, l)
               : in.from == type::f_32 ? flushed(get<float>(a, l), in)
                                       : from_bf16(get<u32>(a, l));
    x = in.mode == 'n'   ? std::nearbyint(x)
        : in.mode == 'z' ? std::trunc(x)
        : in.mode == 'm' ? std::floor(x)
        : in.mode == 'p' ? std::ceil(x)
                         : x;
    if (in.t == type::f_64) {
      set(d, l, finished(x, in));
    } else if (in.t == type::f_32) {
      set(d, l, finished(static_cast<float>(x), in));
    } else if (in.t == type::bf_16) {
      d[l] = to_bf16(static_cast<float>(x));
    } else {
      d[l] = extended(std::isnan(x) ? whole_of_nan(in.from, in.t) : whole_of(x, in.t), in.t);
    }
  });
}
void from_whole(machine&, warp& w, const instruction& in, u32 lanes) {
  const rounding r(in.rounding);
  u64* const d = w.lanes(in.operands[0]);
  const u64* const a = w.lanes(in.operands[1]);
  const bool minus = is_signed(in.from);
  for_lanes(lanes, [&](u32 l) {
    const u64 x = extended(a[l], in.from);
    const s64 s = static_cast<s64>(x);
    if (in.t == type::f_64) {
      set(d, l, minus ? static_cast<double>(s) : static_cast<double>(x));
    } else if (in.t == type::f_32) {
      set(d, l, minus ? static_cast<float>(s) : static_cast<float>(x));
    } else {
      d[l] = extended(x, in.t);
    }
  });
}

}  // namespace

bool decode_conversion(instruction& i) {
  if (i.words[0] != "cvt") return false;
  if (i.has("bf16x2")) {
    i.run = to_bf16_pair;
    return i.t == type::f_32 && i.has("rn");
  }
  i.mode = i.has("rni") ? 'n' : i.has("rzi") ? 'z' : i.has("rmi") ? 'm' : i.has("rpi") ? 'p' : 0;
  if (i.from == type::none) i.from = i.t;
  i.run = is_float(i.from) ? from_float : from_whole;
  return i.t != type::none && !(i.saturates && !is_float(i.t)) &&
         !(i.t == type::bf_16 && (i.from != type::f_32 || !i.has("rn")));
}
}  // namespace simulator
