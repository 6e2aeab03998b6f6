// SPDX-License-Identifier: MIT
#include "memory.hpp"

#include <sys/mman.h>

#include <cstdlib>

namespace simulator {
namespace {

/// Addresses for as many bytes of zeros.
u8* reserve(u64 bytes, int protection) {
  void* const p =
      mmap(nullptr, bytes, protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (p == MAP_FAILED) {
    std::perror("simulator: mmap");
    std::abort();
  }
  return static_cast<u8*>(p);
}

}  // namespace

// They outlive every static object that adds to them or frees.
findings& findings::get() {
  static auto* all = new findings;
  return *all;
}
device_memory& device_memory::get() {
  static auto* memory = new device_memory;
  return *memory;
}

device_memory::device_memory()
    : open_(reserve(room, PROT_READ | PROT_WRITE)),
      base_(reinterpret_cast<u64>(reserve(room, PROT_NONE))),
      written_(reserve(room, PROT_READ | PROT_WRITE)),
      last_(
          reinterpret_cast<touches*>(reserve(room / 4 * sizeof(touches), PROT_READ | PROT_WRITE))) {
}

u64 device_memory::allocate(u64 bytes) {
  if (bytes > total_bytes - used_ || next_ + bytes + 1024 > room) return 0;
  const u64 address = base_ + next_;
  next_ += (bytes + 511) / 512 * 512 + 512;
  used_ += bytes;
  live_[address] = bytes;
  std::memset(at(address), 0xA5, std::min<u64>(bytes, 1 << 20));
  return address;
}

bool device_memory::release(u64 address) {
  const auto i = live_.find(address);
  if (i == live_.end()) return false;
  used_ -= i->second;
  const u64 page = 4096;  // whole pages go back to the system
  const u64 begin = (address - base_ + page - 1) / page * page;
  const u64 end = (address - base_ + i->second) / page * page;
  if (end > begin) {
    madvise(open_ + begin, end - begin, MADV_DONTNEED);
    madvise(written_ + begin, end - begin, MADV_DONTNEED);
    madvise(last_ + begin / 4, (end - begin) / 4 * sizeof(touches), MADV_DONTNEED);
  }
  live_.erase(i);
  return true;
}

u64 device_memory::variable(const std::vector<u8>& initial) {
  const u64 address = allocate(initial.size());
  std::memcpy(at(address), initial.data(), initial.size());
  note_written(address, initial.size());
  return address;
}

std::pair<u64, u64> device_memory::around(u64 address) const {
  auto i = live_.upper_bound(address);
  if (i == live_.begin()) return {0, 0};
  --i;
  if (address >= i->first + i->second) return {0, 0};
  return {i->first, i->first + i->second};
}

u8* device_memory::range(u64 address, u64 bytes, bool writes, const char* what) {
  const auto [begin, end] = around(address);
  if (begin == 0 || bytes > end - address) {
    throw std::runtime_error(std::string("out of bounds: ") + what);
  }
  if (writes) {
    note_written(address, bytes);
  } else if (!is_written(address, bytes)) {
    findings::get().add(std::string("never written: ") + what);
  }
  return at(address);
}

}  // namespace simulator
