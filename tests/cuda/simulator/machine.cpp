// SPDX-License-Identifier: MIT
#include "machine.hpp"

#include <cxxabi.h>

#include <cstdlib>

namespace simulator {
namespace {

std::string readable(const std::string& name) {
  int status = 0;
  char* const made = abi::__cxa_demangle(name.c_str(), nullptr, nullptr, &status);
  std::string text = status == 0 ? made : name;
  std::free(made);
  return text.substr(0, 400);
}

}  // namespace

void machine::found(const instruction& in, const std::string& what) const {
  findings::get().add(what + " | " + in.text + " | " + readable(f_->name));
}
void machine::fatal(const instruction& in, const warp& w, u32 lane, u64 address,
                    const std::string& what) const {
  char place[100];
  std::snprintf(place, sizeof place, ": address 0x%llx, block %llu, thread %u | ",
                static_cast<unsigned long long>(address),
                static_cast<unsigned long long>(block_number_), w.index * 32 + lane);
  throw std::runtime_error(what + place + in.text + " | " + readable(f_->name));
}

void machine::run(const function& f, const std::array<u32, 3>& grid,
                  const std::array<u32, 3>& block, const std::vector<u8>& parameters,
                  u64 dynamic_shared, bool backwards) {
  kernel_begins_ = barriers_ + 1;
  f_ = &f;
  grid_ = grid;
  block_ = block;
  threads_ = block[0] * block[1] * block[2];
  parameters_ = parameters;
  latest_ = {0, 0};
  const std::size_t shared = f.shared_bytes + dynamic_shared;
  shared_.resize(shared);
  shared_written_.resize(shared);
  shared_last_.assign(shared / 2 + 1, {});
  local_.assign(std::size_t{threads_} * f.local_bytes, 0xC3);
  warps_.resize((threads_ + 31) / 32);
  for (std::size_t i = 0; i < warps_.size(); ++i) {
    warp& w = warps_[i];
    w.index = static_cast<u32>(i);
    w.registers.assign(std::size_t{f.slots} * 32, 0xDEADBEEFDEADBEEF);
    for (const auto& [slot, bits] : f.constants) std::fill_n(w.lanes(slot), 32, bits);
  }
  const u64 blocks = u64{grid[0]} * grid[1] * grid[2];
  for (u64 i = 0; i < blocks; ++i) {
    block_number_ = backwards ? blocks - 1 - i : i;
    run_block(backwards);
  }
}

u64 machine::special(const std::string& name, u32 thread) const {
  const std::size_t axis = name.back() == 'x' ? 0 : name.back() == 'y' ? 1 : 2;
  const auto along = [&](u64 i, const std::array<u32, 3>& extent) {
    return axis == 0   ? i % extent[0]
           : axis == 1 ? i / extent[0] % extent[1]
                       : i / extent[0] / extent[1];
  };
  const u32 lane = thread % 32;
  const u32 lower = (1u << lane) - 1;
  if (name.starts_with("%tid.")) return along(thread, block_);
  if (name.starts_with("%ntid.")) return block_[axis];
  if (name.starts_with("%ctaid.")) return along(block_number_, grid_);
  if (name.starts_with("%nctaid.")) return grid_[axis];
  if (name == "%laneid") return lane;
  if (name == "%warpid") return thread / 32;
  if (name == "%lanemask_lt") return lower;
  if (name == "%lanemask_le") return 2 * lower + 1;
  if (name == "%lanemask_eq") return lower + 1;
  if (name == "%lanemask_ge") return ~lower;
  if (name == "%lanemask_gt") return ~(2 * lower + 1);
  throw std::runtime_error("special register " + name);
}

void machine::run_block(bool backwards) {
  block_begins_ = ++barriers_;
  std::fill(shared_.begin(), shared_.end(), u8{0xB7});
  std::fill(shared_written_.begin(), shared_written_.end(), u8{0});
  for (warp& w : warps_) {
    const u32 n = std::min(32u, threads_ - w.index * 32);
    w.alive = n == 32 ? ~0u : (1u << n) - 1;
    w.meeting = w.at_barrier = w.at = 0;
    w.together = true;
    for (const auto& [slot, name] : f_->specials) {
      for (u32 l = 0; l < 32; ++l) w.lanes(slot)[l] = special(name, w.index * 32 + l);
    }
  }
  for (;;) {
    bool moved = false;
    bool alive = false;
    for (std::size_t i = 0; i < warps_.size(); ++i) {
      warp& w = warps_[backwards ? warps_.size() - 1 - i : i];
      moved |= run_warp(w);
      alive |= w.alive != 0;
    }
    if (!alive) return;
    if (release() || moved) continue;
    for (warp& w : warps_) {
      if (w.alive == 0) continue;
      w.part();
      const u32 lane = static_cast<u32>(std::countr_zero(w.alive));
      fatal(f_->code[w.pc[lane]], w, lane, 0, "threads wait for ever");
    }
  }
}

/// Runs a warp until all its lanes have left or wait, or for a while. Whether anything moved.
bool machine::run_warp(warp& w) {
  for (u32 budget = 100000; budget > 0; --budget) {
    u32 group = w.alive;
    u32 pc = w.at;
    if (!w.together) {
      const u32 ready = w.alive & ~w.meeting & ~w.at_barrier;
      if (ready == 0) {
        bool met = false;
        u32 rest = w.meeting;
        while (rest != 0 && !met) {
          const u32 lane = static_cast<u32>(std::countr_zero(rest));
          met = meet(w, w.pc[lane]);
          rest &= ~(1u << lane);
        }
        if (met) continue;
        return budget < 100000;
      }
      pc = ~0u;
      for_lanes(ready, [&](u32 l) { pc = std::min(pc, w.pc[l]); });
      group = 0;
      for_lanes(ready, [&](u32 l) { group |= u32{w.pc[l] == pc} << l; });
      if (group == w.alive) {
        w.together = true;
        w.at = pc;
      }
    }
    if (group == 0) return budget < 100000;
    const instruction& in = f_->code.at(pc);
    u32 lanes = group;
    if (in.guard >= 0) {
      const u64* const p = w.lanes(in.guard);
      for_lanes(group, [&](u32 l) {
        if ((p[l] != 0) == in.guard_negated) lanes &= ~(1u << l);
      });
    }
    steps += static_cast<u64>(std::popcount(lanes));
    if (in.what == instruction::kind::plain) {
      if (lanes != 0) in.run(*this, w, in, lanes);
      if (w.together) {
        ++w.at;
      } else {
        for_lanes(group, [&](u32 l) { ++w.pc[l]; });
      }
    } else if (w.together && lanes == group && in.what == instruction::kind::branch) {
      w.at = static_cast<u32>(in.target);
    } else if (w.together && lanes == 0) {
      ++w.at;
    } else {
      w.part();
      step_apart(w, in, group, lanes);
    }
  }
  return true;
}

/// An instruction at which lanes may part or wait; `lanes` of `group` do it, the others go on.
void machine::step_apart(warp& w, const instruction& in, u32 group, u32 lanes) {
  const u32 pc = w.pc[static_cast<u32>(std::countr_zero(group))];
  for_lanes(group & ~lanes, [&](u32 l) { ++w.pc[l]; });
  switch (in.what) {
    case instruction::kind::branch:
      for_lanes(lanes, [&](u32 l) { w.pc[l] = static_cast<u32>(in.target); });
      break;
    case instruction::kind::leave:
      w.alive &= ~lanes;
      break;
    case instruction::kind::barrier:
      w.at_barrier |= lanes;
      break;
    default:
      w.meeting |= lanes;
      if (lanes != 0) meet(w, pc);
  }
}

/// Lets those lanes at `pc` go on that are all there.
bool machine::meet(warp& w, u32 pc) {
  const instruction& in = f_->code[pc];
  const auto expected = [&](u32 l) { return in.mask < 0 ? ~0u : get<u32>(w.lanes(in.mask), l); };
  u32 here = 0;
  for_lanes(w.meeting, [&](u32 l) { here |= u32{w.pc[l] == pc} << l; });
  bool met = false;
  while (here != 0) {
    const u32 mask = expected(static_cast<u32>(std::countr_zero(here)));
    u32 group = 0;
    for_lanes(here, [&](u32 l) { group |= u32{expected(l) == mask} << l; });
    here &= ~group;
    if ((group & ~mask) != 0) found(in, "a lane meets others without naming itself");
    if ((mask & w.alive) != (group & mask)) continue;
    if (in.mask < 0 && group != ~0u) found(in, "not the whole warp meets");
    w.meeting &= ~group;
    if (in.orders) {
      ++w.meetings;
      for_lanes(group, [&](u32 l) { w.met[l] = w.meetings; });
    }
    in.run(*this, w, in, group);
    for_lanes(group, [&](u32 l) { ++w.pc[l]; });
    met = true;
  }
  return met;
}

/// Opens a barrier that all have reached.
bool machine::release() {
  const auto number = [](const instruction& in, warp& w, u32 l) {
    return in.barrier < 0 ? u64{0} : w.lanes(in.barrier)[l];
  };
  u64 alive = 0;
  std::map<u64, std::pair<u64, u64>> barriers;  // number -> who is there, how many are expected
  for (warp& w : warps_) {
    alive += static_cast<u64>(std::popcount(w.alive));
    for_lanes(w.at_barrier, [&](u32 l) {
      const instruction& in = f_->code[w.pc[l]];
      auto& [there, expected] = barriers[number(in, w, l)];
      ++there;
      expected = in.expected < 0 ? 0 : w.lanes(in.expected)[l];
    });
  }
  for (const auto& [n, counts] : barriers) {
    const auto [there, expected] = counts;
    if (there != (expected != 0 ? expected : alive)) continue;
    u64 votes = 0;
    for (const bool opens : {false, true}) {
      for (warp& w : warps_) {
        const u32 waiting = w.at_barrier;
        const instruction* first = nullptr;
        for_lanes(waiting, [&](u32 l) {
          const instruction& in = f_->code[w.pc[l]];
          if (number(in, w, l) != n) return;
          const bool counts_votes = in.has("red");
          if (!opens) {
            if (first == nullptr) first = &in;
            if (first != &in) found(in, "lanes of a warp wait at different barriers");
            const operand& p = in.operands.back();
            if (counts_votes) votes += (w.lanes(p)[l] != 0) != p.negated;
            if (expected == 0 && alive != threads_)
              found(in, "a barrier that some threads never reach");
            return;
          }
          if (counts_votes) {
            w.lanes(in.operands[0])[l] = in.has("or")    ? votes > 0
                                         : in.has("and") ? votes == there
                                                         : votes;
          }
          w.at_barrier &= ~(1u << l);
          ++w.pc[l];
        });
      }
    }
    ++barriers_;
    return true;
  }
  return false;
}

}  // namespace simulator
