// SPDX-License-Identifier: MIT
// Accesses to memory, with their checks, and the instructions that make them.
#include "machine.hpp"

namespace simulator {

u8* machine::reach(const instruction& in, const warp& w, u32 lane, u64 address, u32 bytes,
                   access how, const u8* written) {
  char space = in.space;
  if (space == 0) {
    space = 'g';
    for (const auto& [base, letter] : {std::pair{shared_base, 's'}, std::pair{local_base, 'l'}}) {
      if (address < base || address >= base + window) continue;
      space = letter;
      address -= base;
    }
  }
  if (space == 's') address &= 0xffffffff;
  if (address % bytes != 0) fatal(in, w, lane, address, "misaligned");
  const u32 thread = w.index * 32 + lane;
  const bool writes = how != access::read;
  const auto changes = [&](const u8* at) {
    return writes && (written == nullptr || std::memcmp(at, written, bytes) != 0);
  };
  touch now{.barriers = barriers_,
            .meetings = w.met[lane],
            .thread = static_cast<u16>(thread),
            .halves = 3};
  switch (space) {
    case 's': {
      if (bytes > shared_.size() || address > shared_.size() - bytes) {
        fatal(in, w, lane, address, "outside of shared memory");
      }
      u8* const at = &shared_[address];
      if (how != access::write && std::memchr(&shared_written_[address], 0, bytes) != nullptr) {
        found(in, "shared memory is read that nobody has written");
      }
      if (writes) std::memset(&shared_written_[address], 1, bytes);
      // By half words in kernels that share such.
      const u64 unit = f_->short_entries ? 2 : 4;
      for (u64 u = address / unit; !in.ordered && bytes >= unit && u * unit < address + bytes;
           ++u) {
        watch(in, w, now, true, shared_last_[u], how, changes(at));
      }
      return at;
    }
    case 'l':
      if (bytes > f_->local_bytes || address > f_->local_bytes - bytes) {
        fatal(in, w, lane, address, "outside of local memory");
      }
      return &local_[std::size_t{thread} * f_->local_bytes + address];
    case 'p':
      if (bytes > parameters_.size() || address > parameters_.size() - bytes) {
        fatal(in, w, lane, address, "outside of parameters");
      }
      return &parameters_[address];
    default: {
      auto& memory = device_memory::get();
      if (!memory.holds(address)) fatal(in, w, lane, address, "no address of the device");
      if (address < latest_.first || address + bytes > latest_.second) {
        latest_ = memory.around(address);
        if (latest_.first == 0 || address + bytes > latest_.second) {
          latest_ = {0, 0};
          fatal(in, w, lane, address, "out of bounds");
        }
      }
      u8* const at = memory.at(address);
      if (how != access::write && !memory.is_written(address, bytes)) {
        found(in, "memory is read that was never written");
      }
      if (!in.ordered && bytes > 1) {
        const bool new_value = changes(at);
        if (bytes == 2) now.halves = address % 4 == 0 ? 1 : 2;
        for (u64 a = address / 4 * 4; a < address + bytes; a += 4) {
          watch(in, w, now, false, memory.last(a), how, new_value);
        }
      }
      if (writes) memory.note_written(address, bytes);
      return at;
    }
  }
}

/// Two threads race when one of them writes and nothing stands between: in a block a barrier, in a
/// warp also a bar.warp.sync of the later one (shuffles and votes order no memory); in a kernel
/// nothing stands between blocks. Two atomics do not race.
void machine::watch(const instruction& in, const warp& w, const touch& now, bool shared,
                    touches& last, access how, bool changes) {
  const auto earlier = [&](const touch& t) { return t.barriers < block_begins_; };
  const auto valid = [&](const touch& t) {
    return t.barriers >= (shared ? block_begins_ : kernel_begins_) && (t.halves & now.halves) != 0;
  };
  const auto apart = [&](const touch& t) {  // in one warp
    return t.meetings >= now.meetings && (t.lanes || t.thread != now.thread);
  };
  const auto races = [&](const touch& t) {
    if (!valid(t)) return false;
    if (earlier(t) || t.blocks) return true;
    if (t.barriers != barriers_) return false;
    return t.warps || t.thread / 32u != w.index || apart(t);
  };
  const auto report = [&](const char* what) {
    found(in, std::string(shared ? "a race in shared memory: " : "a race: ") + what);
  };
  const auto remember = [&](touch& of) {
    touch t = now;
    if (valid(of)) {
      t.blocks = of.blocks || earlier(of);
      if (of.barriers == barriers_) {
        t.warps = of.warps || of.thread / 32u != w.index;
        t.lanes = of.thread / 32u == w.index && apart(of);
      }
    }
    of = t;
  };
  switch (how) {
    case access::read:
      if (races(last.write)) report("read after a write");
      if (races(last.atomic)) report("read after an atomic");
      return remember(last.read);
    case access::atomic:
      if (races(last.write)) report("an atomic after a write");
      if (races(last.read)) report("an atomic after a read");
      return remember(last.atomic);
    case access::write:
      if (changes && races(last.write)) report("written after a write");
      if (changes && races(last.read)) report("written after a read");
      if (changes && races(last.atomic)) report("written after an atomic");
      last.write = now;
  }
}

namespace {

void load(machine& m, warp& w, const instruction& in, u32 lanes) {
  const operand& from = in.operands[1];
  const u64* const addresses = w.lanes(from);
  const u32 bytes = bytes_of(in.t);
  std::array<u64*, 4> to{};
  for (u32 k = 0; k < in.vector; ++k) {
    const operand& part = in.vector == 1 ? in.operands[0] : in.operands[0].parts[k];
    to[k] = part.slot < 0 ? nullptr : w.lanes(part);
  }
  for_lanes(lanes, [&](u32 l) {
    const u8* const p = m.reach(in, w, l, addresses[l] + static_cast<u64>(from.offset),
                                bytes * in.vector, access::read);
    for (u32 k = 0; k < in.vector; ++k) {
      u64 bits = 0;
      std::memcpy(&bits, p + k * bytes, bytes);
      if (is_signed(in.t) && (bits >> (8 * bytes - 1)) != 0) bits |= ~ones(in.t);
      if (to[k] != nullptr) to[k][l] = bits;
    }
  });
}

void store(machine& m, warp& w, const instruction& in, u32 lanes) {
  const operand& to = in.operands[0];
  const u64* const addresses = w.lanes(to);
  const u32 bytes = bytes_of(in.t);
  for_lanes(lanes, [&](u32 l) {
    std::array<u8, 32> value{};
    for (u32 k = 0; k < in.vector; ++k) {
      const operand& part = in.vector == 1 ? in.operands[1] : in.operands[1].parts[k];
      std::memcpy(&value[k * bytes], w.lanes(part) + l, bytes);
    }
    u8* const p = m.reach(in, w, l, addresses[l] + static_cast<u64>(to.offset), bytes * in.vector,
                          access::write, value.data());
    std::memcpy(p, value.data(), bytes * in.vector);
  });
}

/// atom.add d, [a], b
template <class T>
void atomic_add(machine& m, warp& w, const instruction& in, u32 lanes) {
  const operand& to = in.operands[1];
  const u64* const addresses = w.lanes(to);
  const u64* const x = w.lanes(in.operands[2]);
  u64* const result = in.operands[0].slot < 0 ? nullptr : w.lanes(in.operands[0]);
  for_lanes(lanes, [&](u32 l) {
    u8* const p =
        m.reach(in, w, l, addresses[l] + static_cast<u64>(to.offset), sizeof(T), access::atomic);
    T old;
    std::memcpy(&old, p, sizeof old);
    const T value = old + get<T>(x, l);
    std::memcpy(p, &value, sizeof value);
    if (result != nullptr) set(result, l, old);
  });
}

void nothing(machine&, warp&, const instruction&, u32) {}

}  // namespace

bool decode_memory(instruction& i) {
  const std::string& op = i.words[0];
  i.space = i.has("shared")                     ? 's'
            : i.has("global") || i.has("const") ? 'g'
            : i.has("local")                    ? 'l'
            : i.has("param")                    ? 'p'
                                                : char{0};
  if (op == "ld" || op == "st") {
    i.vector = i.has("v2") ? 2 : i.has("v4") ? 4 : 1;
    i.ordered = i.has("volatile") || i.has("relaxed") || i.has("acquire") || i.has("release");
    i.run = op == "ld" ? load : store;
    return true;
  }
  if (op == "membar" || op == "fence" || op == "nanosleep") {
    i.run = nothing;
    return true;
  }
  if (op != "atom" || !i.has("add")) return false;
  i.run = i.t == type::u_32 ? atomic_add<u32> : i.t == type::u_64 ? atomic_add<u64> : nullptr;
  return i.run != nullptr;
}

}  // namespace simulator
