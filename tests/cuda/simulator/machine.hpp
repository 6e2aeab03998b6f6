// SPDX-License-Identifier: MIT
// Runs a kernel, block after block, as PTX's independent thread scheduling allows: the lanes of a
// warp go together while they agree; of lanes that part, those at the earliest instruction go
// first; those that have to meet wait for one another. Every access is checked: its address, its
// alignment, whether what it reads was written, and whether another thread touches the same memory
// without a barrier between.
#pragma once

#include "memory.hpp"

#include <array>
#include <bit>

namespace simulator {

struct warp {
  u32 index = 0;
  u32 alive = 0;          ///< lanes that have not left; masks all
  u32 meeting = 0;        ///< lanes that wait for lanes of the warp
  u32 at_barrier = 0;     ///< lanes that wait for the block
  bool together = false;  ///< all lanes alive are at `at`
  u32 at = 0;
  std::array<u32, 32> pc{};   ///< where lanes are that are not together
  u32 meetings = 0;           ///< that order what lanes do to memory: bar.warp.sync
  std::array<u32, 32> met{};  ///< which one each lane was at last
  std::vector<u64> registers;

  u64* lanes(int slot) { return registers.data() + static_cast<std::size_t>(slot) * 32; }
  u64* lanes(const operand& o) { return lanes(o.slot); }
  void part() {
    if (together) pc.fill(at);
    together = false;
  }
};

enum class access { read, write, atomic };

struct machine {
  /// Runs all blocks, the last one first if `backwards`. Throws where a thread reaches what it may
  /// not or nothing goes on.
  void run(const function& f, const std::array<u32, 3>& grid, const std::array<u32, 3>& block,
           const std::vector<u8>& parameters, u64 dynamic_shared, bool backwards);

  /// Where a lane's `bytes` bytes at an address lie, after all checks. `written`: what will be
  /// written there; two threads that write the same do not race.
  u8* reach(const instruction& in, const warp& w, u32 lane, u64 address, u32 bytes, access how,
            const u8* written = nullptr);
  void found(const instruction& in, const std::string& what) const;

  u64 steps = 0;  ///< instructions times lanes

 private:
  void run_block(bool backwards);
  bool run_warp(warp& w);
  void step_apart(warp& w, const instruction& in, u32 group, u32 lanes);
  bool meet(warp& w, u32 pc);
  bool release();
  u64 special(const std::string& name, u32 thread) const;
  [[noreturn]] void fatal(const instruction& in, const warp& w, u32 lane, u64 address,
                          const std::string& what) const;
  void watch(const instruction& in, const warp& w, const touch& now, bool shared, touches& last,
             access how, bool changes);

  const function* f_ = nullptr;
  std::array<u32, 3> grid_{}, block_{};
  u32 threads_ = 0;
  u64 block_number_ = 0;
  u32 barriers_ = 0;  ///< grows at every barrier and with every block
  u32 kernel_begins_ = 0;
  u32 block_begins_ = 0;
  std::vector<u8> parameters_, shared_, shared_written_, local_;
  std::vector<touches> shared_last_;
  std::vector<warp> warps_;
  std::pair<u64, u64> latest_{0, 0};  ///< the allocation last reached
};

/// f(lane) for the lanes of a mask.
template <class F>
void for_lanes(u32 mask, F f) {
  if (mask == ~0u) {
    for (u32 l = 0; l < 32; ++l) f(l);
  } else {
    for (u32 rest = mask; rest != 0; rest &= rest - 1) f(static_cast<u32>(std::countr_zero(rest)));
  }
}
inline bool in(u32 mask, u32 lane) { return (mask >> lane & 1) != 0; }

/// A lane's register as a T: its low bits.
template <class T>
T get(const u64* lanes, u32 lane) {
  T x;
  std::memcpy(&x, lanes + lane, sizeof x);
  return x;
}
template <class T>
void set(u64* lanes, u32 lane, T x) {
  u64 bits = 0;
  std::memcpy(&bits, &x, sizeof x);
  lanes[lane] = bits;
}

}  // namespace simulator
