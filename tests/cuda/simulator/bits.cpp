// SPDX-License-Identifier: MIT
// Instructions that move bits: moves, selections, logic, shifts, fields.
#include "machine.hpp"

#include <type_traits>

namespace simulator {
namespace {

/// d = f(a) of all bits, then only those of the type.
template <auto F>
void one(machine&, warp& w, const instruction& in, u32 lanes) {
  u64* const d = w.lanes(in.operands[0]);
  const u64* const a = w.lanes(in.operands[1]);
  const u64 kept = ones(in.t);
  for_lanes(lanes, [&](u32 l) { d[l] = F(a[l]) & kept; });
}
template <auto F>
void two(machine&, warp& w, const instruction& in, u32 lanes) {
  u64* const d = w.lanes(in.operands[0]);
  const u64* const a = w.lanes(in.operands[1]);
  const u64* const b = w.lanes(in.operands[2]);
  const u64 kept = ones(in.t);
  for_lanes(lanes, [&](u32 l) { d[l] = F(a[l], b[l]) & kept; });
}
constexpr auto itself = [](u64 x) { return x; };
constexpr auto logical_and = [](u64 x, u64 y) { return x & y; };
constexpr auto logical_or = [](u64 x, u64 y) { return x | y; };
constexpr auto logical_xor = [](u64 x, u64 y) { return x ^ y; };
constexpr auto logical_not = [](u64 x) { return ~x; };

/// Predicates may be negated where they are read.
template <auto F>
void of_predicates(machine&, warp& w, const instruction& in, u32 lanes) {
  u64* const d = w.lanes(in.operands[0]);
  const auto read = [&](std::size_t o, u32 l) {
    return u64{(w.lanes(in.operands[o])[l] != 0) != in.operands[o].negated};
  };
  for_lanes(lanes, [&](u32 l) {
    if constexpr (std::is_invocable_v<decltype(F), u64>) {
      d[l] = F(read(1, l)) & 1;
    } else {
      d[l] = F(read(1, l), read(2, l)) & 1;
    }
  });
}

/// d = {a, b, ..}
void pack(machine&, warp& w, const instruction& in, u32 lanes) {
  const auto& parts = in.operands[1].parts;
  const u64 bits = 8 * bytes_of(in.t) / parts.size();
  u64* const d = w.lanes(in.operands[0]);
  for_lanes(lanes, [&](u32 l) {
    u64 x = 0;
    for (std::size_t k = parts.size(); k-- > 0;) {
      x = x << bits | (w.lanes(parts[k])[l] & ((u64{1} << bits) - 1));
    }
    d[l] = x;
  });
}
/// {a, b, ..} = x
void unpack(machine&, warp& w, const instruction& in, u32 lanes) {
  const auto& parts = in.operands[0].parts;
  const u64 bits = 8 * bytes_of(in.t) / parts.size();
  const u64* const x = w.lanes(in.operands[1]);
  for_lanes(lanes, [&](u32 l) {
    const u64 all = x[l];
    for (std::size_t k = 0; k < parts.size(); ++k) {
      if (parts[k].slot >= 0) w.lanes(parts[k])[l] = all >> (bits * k) & ((u64{1} << bits) - 1);
    }
  });
}

/// Addresses of a space to generic ones, and back.
void cvta(machine&, warp& w, const instruction& in, u32 lanes) {
  const u64 base = in.has("shared") ? shared_base : in.has("local") ? local_base : 0;
  u64* const d = w.lanes(in.operands[0]);
  const u64* const a = w.lanes(in.operands[1]);
  for_lanes(lanes, [&](u32 l) { d[l] = in.has("to") ? a[l] - base : a[l] + base; });
}

void select(machine&, warp& w, const instruction& in, u32 lanes) {
  u64* const d = w.lanes(in.operands[0]);
  const u64* const a = w.lanes(in.operands[1]);
  const u64* const b = w.lanes(in.operands[2]);
  const operand& p = in.operands[3];
  const u64* const decides = w.lanes(p);
  for_lanes(lanes,
            [&](u32 l) { d[l] = ((decides[l] != 0) != p.negated ? a[l] : b[l]) & ones(in.t); });
}

/// By more than there are bits: 0, or copies of the sign.
template <class T>
void left(machine&, warp& w, const instruction& in, u32 lanes) {
  u64* const d = w.lanes(in.operands[0]);
  const u64* const a = w.lanes(in.operands[1]);
  const u64* const b = w.lanes(in.operands[2]);
  for_lanes(lanes, [&](u32 l) {
    const u32 n = get<u32>(b, l);
    set(d, l, n < 8 * sizeof(T) ? static_cast<T>(get<T>(a, l) << n) : T{0});
  });
}
template <class T>
void right(machine&, warp& w, const instruction& in, u32 lanes) {
  u64* const d = w.lanes(in.operands[0]);
  const u64* const a = w.lanes(in.operands[1]);
  const u64* const b = w.lanes(in.operands[2]);
  for_lanes(lanes, [&](u32 l) {
    const u32 n = std::min<u32>(get<u32>(b, l), 8 * sizeof(T));
    const T x = get<T>(a, l);
    set(d, l, n < 8 * sizeof(T) ? static_cast<T>(x >> n) : static_cast<T>(x < 0 ? -1 : 0));
  });
}

/// `n` bits from bit `p` on, all 64 of them at most.
u64 field(u64 p, u64 n) { return p > 63 ? 0 : (n > 63 ? ~u64{0} : (u64{1} << n) - 1) << p; }

void insert(machine&, warp& w, const instruction& in, u32 lanes) {  // bfi d, a, b, position, count
  u64* const d = w.lanes(in.operands[0]);
  for_lanes(lanes, [&](u32 l) {
    const auto read = [&](std::size_t o) { return w.lanes(in.operands[o])[l]; };
    const u64 p = read(3) & 255;
    const u64 mask = field(p, read(4) & 255) & ones(in.t);
    d[l] = (read(2) & ~mask & ones(in.t)) | (p > 63 ? 0 : read(1) << p & mask);
  });
}
template <int Bits>
constexpr auto leading_zeros = [](u64 x) {
  return static_cast<u64>(std::countl_zero(x & (~u64{0} >> (64 - Bits))) - (64 - Bits));
};
constexpr auto ones_in = [](u64 x) { return static_cast<u64>(std::popcount(x)); };
template <int Bits>
constexpr auto reversed = [](u64 x) {
  u64 r = 0;
  for (int k = 0; k < Bits; ++k) r |= (x >> k & 1) << (Bits - 1 - k);
  return r;
};
void mask(machine&, warp& w, const instruction& in, u32 lanes) {  // bmsk.clamp d, position, count
  u64* const d = w.lanes(in.operands[0]);
  const u64* const p = w.lanes(in.operands[1]);
  const u64* const n = w.lanes(in.operands[2]);
  for_lanes(lanes, [&](u32 l) { d[l] = field(get<u32>(p, l), get<u32>(n, l)) & 0xffffffff; });
}

}  // namespace

bool decode_bits(instruction& i) {
  const std::string& op = i.words[0];
  const bool predicate = i.t == type::pred;
  const bool wide = bytes_of(i.t) == 8;
  i.run = nullptr;
  if (op == "mov") {
    i.run = !i.operands[1].parts.empty()   ? pack
            : !i.operands[0].parts.empty() ? unpack
            : predicate                    ? of_predicates<itself>
                                           : one<itself>;
  } else if (op == "cvta") {
    i.run = cvta;
  } else if (op == "selp") {
    i.run = select;
  } else if (op == "and") {
    i.run = predicate ? of_predicates<logical_and> : two<logical_and>;
  } else if (op == "or") {
    i.run = predicate ? of_predicates<logical_or> : two<logical_or>;
  } else if (op == "xor") {
    i.run = predicate ? of_predicates<logical_xor> : two<logical_xor>;
  } else if (op == "not") {
    i.run = predicate ? of_predicates<logical_not> : one<logical_not>;
  } else if (op == "shl") {
    i.run = wide ? left<u64> : bytes_of(i.t) == 2 ? left<u16> : left<u32>;
  } else if (op == "shr") {
    i.run = i.t == type::s_64    ? right<s64>
            : i.t == type::s_32  ? right<s32>
            : i.t == type::s_16  ? right<s16>
            : wide               ? right<u64>
            : bytes_of(i.t) == 2 ? right<u16>
                                 : right<u32>;
  } else if (op == "bfi") {
    i.run = insert;
  } else if (op == "popc") {
    i.run = wide ? one<ones_in> : one<[](u64 x) { return ones_in(x & 0xffffffff); }>;
  } else if (op == "clz") {
    i.run = wide ? one<leading_zeros<64>> : one<leading_zeros<32>>;
  } else if (op == "brev") {
    i.run = wide ? one<reversed<64>> : one<reversed<32>>;
  } else if (op == "bmsk" && i.has("clamp")) {
    i.run = mask;
  }
  return i.run != nullptr;
}

}  // namespace simulator
