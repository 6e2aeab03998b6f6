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
  const bool watched = how != access::atomic && !in.ordered;
  const auto changes = [&](const u8* at) {
    return written == nullptr || std::memcmp(at, written, bytes) != 0;
  };
  switch (space) {
    case 's': {
      if (address + bytes > shared_.size()) fatal(in, w, lane, address, "outside of shared memory");
      u8* const at = &shared_[address];
      if (writes) {
        std::memset(&shared_written_[address], 1, bytes);
      } else if (std::memchr(&shared_written_[address], 0, bytes) != nullptr) {
        found(in, "shared memory is read that nobody has written");
      }
      if (watched) watch_shared(in, w, lane, address, bytes, writes, writes && changes(at));
      return at;
    }
    case 'l':
      if (address + bytes > f_->local_bytes) fatal(in, w, lane, address, "outside of local memory");
      return &local_[std::size_t{thread} * f_->local_bytes + address];
    case 'p':
      if (address + bytes > parameters_.size())
        fatal(in, w, lane, address, "outside of parameters");
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
      if (!writes && !memory.is_written(address, bytes)) {
        found(in, "memory is read that was never written");
      }
      if (watched && bytes >= 4) {  // shorter entries share a word with their neighbours
        const bool new_value = writes && changes(at);
        for (u32 b = 0; b < bytes; b += 4) watch_global(in, address + b, thread, writes, new_value);
      }
      if (writes) memory.note_written(address, bytes);
      return at;
    }
  }
}

/// Two threads race when one of them writes and no barrier of their block stands between. In a
/// kernel nothing stands between blocks. Who touched a word: kernel, block, thread, barriers
/// before.
void machine::watch_global(const instruction& in, u64 address, u32 thread, bool writes,
                           bool changes) {
  const u64 now = (kernel_ & 0xfffff) << 44 | (block_number_ & 0xfffff) << 24 | u64{thread} << 14 |
                  (epoch_ & 0x3fff);
  const auto races = [&](u64 then) {
    if ((then ^ now) >> 44 != 0) return false;
    if ((then ^ now) >> 24 != 0) return true;
    const u64 other = then >> 14 & 0x3ff;
    return other / 32 != thread / 32 && ((then ^ now) & 0x3fff) == 0;
  };
  auto& memory = device_memory::get();
  u64& last_write = memory.last_write(address);
  u64& last_read = memory.last_read(address);
  if (races(last_write) && (!writes || changes)) {
    found(in, writes ? "a race: written after a write" : "a race: read after a write");
  }
  if (writes && changes && races(last_read)) found(in, "a race: written after a read");
  (writes ? last_write : last_read) = now;
}

/// By words, or by half words in kernels that share such. Lanes of a warp do not race when
/// they have met between.
void machine::watch_shared(const instruction& in, const warp& w, u32 lane, u64 address, u32 bytes,
                           bool writes, bool changes) {
  const u32 thread = w.index * 32 + lane;
  const u64 width = f_->short_entries ? 2 : 4;
  for (u64 unit = address / width; bytes >= width && unit * width < address + bytes; ++unit) {
    const auto races = [&](const touch& t) {
      if (t.epoch != epoch_) return false;
      if (t.several || t.thread / 32 != w.index) return true;
      return t.thread != thread && t.warp_epoch == w.epoch;
    };
    touch& last_write = shared_writes_[unit];
    touch& last_read = shared_reads_[unit];
    if (races(last_write) && (!writes || changes)) {
      found(in, writes ? "a race in shared memory: written after a write"
                       : "a race in shared memory: read after a write");
    }
    if (writes && changes && races(last_read)) {
      found(in, "a race in shared memory: written after a read");
    }
    if (writes) {
      last_write = {epoch_, w.epoch, thread, false};
    } else {
      const bool others =
          last_read.epoch == epoch_ && (last_read.several || last_read.thread / 32 != w.index);
      last_read = {epoch_, w.epoch, thread, others};
    }
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
      if (is_signed(in.t) && bytes < 4 && (bits >> (8 * bytes - 1)) != 0)
        bits |= 0xffffffff & ~ones(in.t);
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
