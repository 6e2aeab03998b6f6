// SPDX-License-Identifier: MIT
// The memory of the simulated device, and what was found to be wrong with a program.
#pragma once

#include "module.hpp"

#include <cstring>
#include <set>

namespace simulator {

/// What went wrong, each kind once with how often. Printed when the program ends; any of them makes
/// it end with an error.
class findings {
 public:
  static findings& get();  ///< one of both libraries
  void add(const std::string& what) {
    if (counts_.size() < 200 || counts_.contains(what)) ++counts_[what];
  }
  const std::map<std::string, u64>& counts() const { return counts_; }

 private:
  std::map<std::string, u64> counts_;
};

/// Who touched a word. Barriers of a block and blocks are counted on from the first kernel;
/// meetings are those of a lane.
struct touch {
  u32 barriers = 0;
  u32 meetings = 0;
  u16 thread = 0;
  u8 halves = 0;  ///< of a word of 4 bytes
  // Of reads: others did so, too, and nothing stands between.
  bool lanes : 1 = false, warps : 1 = false, blocks : 1 = false;
};
/// The last of each kind.
struct touches {
  touch write, read, atomic;
};

/// Global memory. Its addresses are closed to the host, as those of a GPU are: the simulator sees
/// it at another place. No address is given twice, so that memory which was freed is never mistaken
/// for other memory. Beside each byte stands whether it was written, beside each word of 4 bytes
/// who wrote and who read it last.
class device_memory {
 public:
  static constexpr u64 total_bytes = u64{16} << 30;  ///< that may be in use at a time

  static device_memory& get();  ///< one of both libraries
  /// 0 when there is not that much.
  u64 allocate(u64 bytes);
  bool release(u64 address);
  u64 variable(const std::vector<u8>& initial);
  u64 used_bytes() const { return used_; }

  bool holds(u64 address) const { return address >= base_ && address < base_ + room; }
  /// Begin and end of the allocation around an address; twice 0 where there is none.
  std::pair<u64, u64> around(u64 address) const;

  u8* at(u64 address) { return open_ + (address - base_); }
  void note_written(u64 address, u64 bytes) { std::memset(written_ + (address - base_), 1, bytes); }
  bool is_written(u64 address, u64 bytes) const {
    return std::memchr(written_ + (address - base_), 0, bytes) == nullptr;
  }
  /// A range that a copy or a product reads or writes; throws, or adds a finding, with its name
  /// where it may not.
  u8* range(u64 address, u64 bytes, bool writes, const char* what);

  touches& last(u64 address) { return last_[(address - base_) / 4]; }

 private:
  static constexpr u64 room = u64{256} << 30;  // of addresses; memory is taken where it is touched
  device_memory();

  u8* open_;
  u64 base_;
  u8* written_;
  touches* last_;
  u64 next_ = 4096;
  u64 used_ = 0;
  std::map<u64, u64> live_;  // address -> bytes
};

}  // namespace simulator
