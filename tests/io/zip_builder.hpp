// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <vector>

// Writes stored zip archives for tests, field by field, so that every field can be wrong.
struct zip_part {
  std::string name;
  std::string data;
  std::string local_name = {};  // empty: as `name`
  std::uint16_t method = 0;
  std::uint16_t flags = 0;
  bool zip64 = false;           // sizes and offset in the extra field
  std::int64_t size_error = 0;  // added to the size in the directory
  std::int64_t packed_error = 0;
  std::int64_t header_error = 0;  // added to the offset in the directory
  std::string descriptor = {};    // bytes behind the data
  std::string extra = {};         // more extra field in the directory
};

struct zip_builder {
  std::vector<zip_part> parts;
  std::string before = {};  // bytes in front of the first entry
  std::string gap = {};     // bytes in front of the directory
  std::string comment = {};
  bool zip64_end = false;
  std::int64_t entries_error = 0;
  std::int64_t directory_error = 0;  // added to the offset of the directory
  std::uint16_t disk = 0;

  static void put(std::string& out, std::uint64_t value, std::size_t bytes) {
    for (std::size_t i = 0; i < bytes; ++i) out += static_cast<char>((value >> (8 * i)) & 255u);
  }

  std::string text() const {
    constexpr std::uint64_t full = 0xffffffffu;
    std::string out = before;
    std::string directory;
    for (const zip_part& p : parts) {
      const std::uint64_t header = out.size();
      const std::string& local = p.local_name.empty() ? p.name : p.local_name;
      put(out, 0x04034b50u, 4);
      put(out, 20, 2);
      put(out, p.flags, 2);
      put(out, p.method, 2);
      put(out, 0, 8);
      put(out, p.data.size(), 4);
      put(out, p.data.size(), 4);
      put(out, local.size(), 2);
      put(out, 0, 2);
      out += local + p.data + p.descriptor;
      const auto size = p.data.size() + static_cast<std::uint64_t>(p.size_error);
      const auto packed = p.data.size() + static_cast<std::uint64_t>(p.packed_error);
      const auto offset = header + static_cast<std::uint64_t>(p.header_error);
      std::string extra = p.extra;
      if (p.zip64) {
        put(extra, 1, 2);
        put(extra, 24, 2);
        put(extra, size, 8);
        put(extra, packed, 8);
        put(extra, offset, 8);
      }
      put(directory, 0x02014b50u, 4);
      put(directory, 20, 2);
      put(directory, 20, 2);
      put(directory, p.flags, 2);
      put(directory, p.method, 2);
      put(directory, 0, 8);
      put(directory, p.zip64 ? full : packed, 4);
      put(directory, p.zip64 ? full : size, 4);
      put(directory, p.name.size(), 2);
      put(directory, extra.size(), 2);
      put(directory, 0, 2);
      put(directory, 0, 8);
      put(directory, p.zip64 ? full : offset, 4);
      directory += p.name + extra;
    }
    out += gap;
    const std::uint64_t begin = out.size() + static_cast<std::uint64_t>(directory_error);
    const std::uint64_t entries = parts.size() + static_cast<std::uint64_t>(entries_error);
    const std::uint64_t bytes = directory.size();
    out += directory;
    if (zip64_end) {
      const std::uint64_t at = out.size();
      put(out, 0x06064b50u, 4);
      put(out, 44, 8);
      put(out, 45, 2);
      put(out, 45, 2);
      put(out, 0, 8);
      put(out, entries, 8);
      put(out, entries, 8);
      put(out, bytes, 8);
      put(out, begin, 8);
      put(out, 0x07064b50u, 4);
      put(out, 0, 4);
      put(out, at, 8);
      put(out, 1, 4);
    }
    put(out, 0x06054b50u, 4);
    put(out, disk, 2);
    put(out, 0, 2);
    put(out, zip64_end ? 0xffffu : entries, 2);
    put(out, zip64_end ? 0xffffu : entries, 2);
    put(out, zip64_end ? full : bytes, 4);
    put(out, zip64_end ? full : begin, 4);
    put(out, comment.size(), 2);
    return out + comment;
  }
};

inline std::vector<std::byte> bytes_of(std::string_view text) {
  std::vector<std::byte> out(text.size());
  if (!text.empty()) std::memcpy(out.data(), text.data(), text.size());
  return out;
}
inline std::string text_of(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}
