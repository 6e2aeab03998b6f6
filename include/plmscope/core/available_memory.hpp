// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/config.hpp>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <limits>
#include <string>

#if defined(__GLIBC__)
#include <malloc.h>
#endif

namespace plmscope::inline PLMSCOPE_ABI {

/// Bytes of main memory that can still be taken without swapping: what Linux calls available, or
/// what is left of the control group's limit if that is less. 0 where nobody knows.
inline std::uint64_t available_memory() {
  std::uint64_t bytes = 0;
  std::ifstream machine("/proc/meminfo");
  for (std::string line; std::getline(machine, line);) {
    if (!line.starts_with("MemAvailable:")) continue;
    bytes = std::strtoull(line.c_str() + 13, nullptr, 10) * 1024;
    break;
  }
  const auto number = [](const char* path) {
    std::uint64_t n = std::numeric_limits<std::uint64_t>::max();
    std::ifstream(path) >> n;  // the text "max" leaves 0 behind
    return n;
  };
  const std::uint64_t limit = number("/sys/fs/cgroup/memory.max");
  const std::uint64_t used = number("/sys/fs/cgroup/memory.current");
  if (limit != 0 && limit != std::numeric_limits<std::uint64_t>::max() && used <= limit) {
    bytes = std::min(bytes, limit - used);
  }
  return bytes;
}

/// Gives memory that was freed back to the system. After a model of 650M has been loaded that is
/// 130 MB of staging. Does nothing with another C library than glibc.
inline void release_freed_memory() noexcept {
#if defined(__GLIBC__)
  malloc_trim(0);
#endif
}

}  // namespace plmscope::inline PLMSCOPE_ABI
