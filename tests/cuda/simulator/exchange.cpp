// SPDX-License-Identifier: MIT
// How lanes part, wait and tell one another: branches, barriers, shuffles, votes, tensor cores.
#include "machine.hpp"

namespace simulator {
namespace {

void nothing(machine&, warp&, const instruction&, u32) {}

u64* result(warp& w, const instruction& in) {
  const operand& d = in.operands[0];
  return w.lanes(d.parts.empty() ? d : d.parts[0]);
}
/// The p of d|p, or null.
u64* second_result(warp& w, const instruction& in) {
  const operand& d = in.operands[0];
  return d.parts.empty() || d.parts[1].slot < 0 ? nullptr : w.lanes(d.parts[1]);
}

enum way { up, down, butterfly, index };

/// PTX ISA, shfl.sync: its pseudocode.
void shuffle(machine& m, warp& w, const instruction& in, u32 lanes) {
  std::array<u64, 32> source, by, how;
  std::copy_n(w.lanes(in.operands[1]), 32, source.begin());
  std::copy_n(w.lanes(in.operands[2]), 32, by.begin());
  std::copy_n(w.lanes(in.operands[3]), 32, how.begin());
  u64* const d = result(w, in);
  u64* const p = second_result(w, in);
  for_lanes(lanes, [&](u32 l) {
    const u32 b = by[l] & 31;
    const u32 clamp = how[l] & 31;
    const u32 segment = how[l] >> 8 & 31;
    const u32 last = (l & segment) | (clamp & ~segment);
    const u32 from = in.mode == up          ? l - b
                     : in.mode == down      ? l + b
                     : in.mode == butterfly ? l ^ b
                                            : (l & segment) | (b & ~segment);
    const bool valid =
        in.mode == up ? static_cast<s32>(from) >= static_cast<s32>(last) : from <= last;
    const u32 lane = valid ? from : l;
    if (!simulator::in(lanes, lane)) m.found(in, "a lane is asked that is not there");
    d[l] = source[lane] & 0xffffffff;
    if (p != nullptr) p[l] = valid;
  });
}

enum question { ballot, all, any, uniform };

void vote(machine&, warp& w, const instruction& in, u32 lanes) {
  const operand& of = in.operands[1];
  const u64* const x = w.lanes(of);
  u32 yes = 0;
  for_lanes(lanes, [&](u32 l) { yes |= u32{(x[l] != 0) != of.negated} << l; });
  const u64 answer = in.mode == ballot ? yes
                     : in.mode == all  ? yes == lanes
                     : in.mode == any  ? yes != 0
                                       : yes == lanes || yes == 0;
  u64* const d = result(w, in);
  for_lanes(lanes, [&](u32 l) { d[l] = answer; });
}

void match(machine&, warp& w, const instruction& in, u32 lanes) {
  std::array<u64, 32> x;
  std::copy_n(w.lanes(in.operands[1]), 32, x.begin());
  u64* const d = result(w, in);
  u64* const p = second_result(w, in);
  for_lanes(lanes, [&](u32 l) {
    u32 same = 0;
    for_lanes(lanes, [&](u32 k) { same |= u32{((x[k] ^ x[l]) & ones(in.t)) == 0} << k; });
    if (in.mode == all && same != lanes) same = 0;
    d[l] = same;
    if (p != nullptr) p[l] = same != 0;
  });
}

/// D = A B + C of [16, 16] and [16, 8], bfloat16 and fp32. Which lane holds which entry: PTX ISA,
/// "Matrix Fragments for mma.m16n8k16 with floating point type". Sums in the order of k.
void tensor_core(machine&, warp& w, const instruction& in, u32) {
  float a[16][16], b[16][8], c[16][8];
  const auto half = [&](const operand& o, u32 l, u32 which) {
    return from_bf16(static_cast<u32>(w.lanes(o)[l] >> (16 * which) & 0xffff));
  };
  const auto& parts = [&](std::size_t o) -> const std::vector<operand>& {
    return in.operands[o].parts;
  };
  for (u32 l = 0; l < 32; ++l) {
    const u32 group = l / 4;
    const u32 pair = l % 4 * 2;
    for (u32 i = 0; i < 8; ++i) {
      a[group + (i / 2 % 2) * 8][pair + i % 2 + i / 4 * 8] = half(parts(1)[i / 2], l, i % 2);
    }
    for (u32 i = 0; i < 4; ++i) {
      b[pair + i % 2 + i / 2 * 8][group] = half(parts(2)[i / 2], l, i % 2);
      c[group + i / 2 * 8][pair + i % 2] = get<float>(w.lanes(parts(3)[i]), l);
    }
  }
  for (u32 l = 0; l < 32; ++l) {
    for (u32 i = 0; i < 4; ++i) {
      const u32 row = l / 4 + i / 2 * 8;
      const u32 column = l % 4 * 2 + i % 2;
      float sum = c[row][column];
      for (u32 k = 0; k < 16; ++k) sum += a[row][k] * b[k][column];
      set(w.lanes(parts(0)[i]), l, sum);
    }
  }
}

}  // namespace

bool decode_exchange(instruction& i) {
  using kind = instruction::kind;
  const std::string& op = i.words[0];
  i.run = nothing;
  if (op == "bra") {
    i.what = kind::branch;
  } else if (op == "ret" || op == "exit") {
    i.what = kind::leave;
  } else if (op == "bar" && i.has("warp")) {
    i.what = kind::collective;
    i.orders = true;
    i.mask = i.operands[0].slot;
  } else if ((op == "bar" || op == "barrier") && !i.has("arrive")) {  // bar.red d, number, p
    i.what = kind::barrier;
    const std::size_t first = i.has("red") ? 1 : 0;
    i.barrier = i.operands.at(first).slot;
    if (i.operands.size() > 1 + 2 * first) i.expected = i.operands[first + 1].slot;
  } else if (op == "shfl") {
    i.what = kind::collective;
    i.run = shuffle;
    i.mask = i.operands.at(4).slot;
    i.mode = i.has("up") ? up : i.has("down") ? down : i.has("bfly") ? butterfly : index;
  } else if (op == "vote" || op == "match") {
    i.what = kind::collective;
    i.run = op == "vote" ? vote : match;
    i.mask = i.operands.at(2).slot;
    i.mode = i.has("ballot") ? ballot : i.has("all") ? all : i.has("any") ? any : uniform;
  } else if (op == "mma" && i.has("m16n8k16") && i.has("row") && i.has("col") &&
             i.t == type::f_32 && i.from == type::bf_16) {
    i.what = kind::collective;
    i.run = tensor_core;
  } else {
    return false;
  }
  return true;
}

}  // namespace simulator
