// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/io/rules.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace plmscope::inline PLMSCOPE_ABI {

/// One file of an archive.
struct zip_entry {
  std::string name;
  std::span<const std::byte> bytes;
};

/// The entries of a zip archive (PKWARE APPNOTE 6.3) as torch.save writes one: stored without
/// compression, so that every entry is a run of bytes of the archive and nothing is unpacked. The
/// directory at the end is the only list of entries; every size in it is checked against the file,
/// and every entry against its own header. zip64 is read. Refused: compression and encryption
/// (io.152), names that are no plain relative paths (io.153), entries that overlap, bytes before,
/// between and after the entries that belong to none, archives in several parts (io.150).
/// Checksums are not compared. The bytes must outlive the archive. Cost: linear in the entries.
class zip_archive {
 public:
  static constexpr std::size_t max_entries = std::size_t{1} << 20;
  static constexpr std::size_t max_name_bytes = 1024;

  /// Whether a file begins as an archive does.
  static bool is_zip(std::span<const std::byte> file) noexcept {
    return file.size() >= 4 && std::memcmp(file.data(), "PK\x03\x04", 4) == 0;
  }

  /// `where` names the file in errors.
  zip_archive(std::span<const std::byte> file, std::string where)
      : file_(file), where_(std::move(where)) {
    const directory d = find_directory();
    if (d.entries > max_entries) {
      throw error(rules::zip_too_many, {.where = where_, .found = std::to_string(d.entries)});
    }
    std::size_t at = d.begin;
    for (std::size_t i = 0; i < d.entries; ++i) read_entry(at, d.end);
    if (at != d.end) fail(at, "the end of the directory", "more bytes");
    check_tiling(d.begin);
    std::sort(entries_.begin(), entries_.end(),
              [](const zip_entry& a, const zip_entry& b) { return a.name < b.name; });
    for (std::size_t i = 1; i < entries_.size(); ++i) {
      if (entries_[i - 1].name == entries_[i].name) fail_name(entries_[i].name, "the name twice");
    }
  }

  const std::string& where() const noexcept { return where_; }
  /// All entries, by name.
  std::span<const zip_entry> entries() const noexcept { return entries_; }

  /// The entry, or nullptr.
  const zip_entry* find(std::string_view name) const noexcept {
    const auto at =
        std::lower_bound(entries_.begin(), entries_.end(), name,
                         [](const zip_entry& e, std::string_view n) { return e.name < n; });
    return at != entries_.end() && at->name == name ? &*at : nullptr;
  }

 private:
  struct directory {
    std::size_t begin = 0;
    std::size_t end = 0;
    std::uint64_t entries = 0;
  };
  // What an entry occupies: header, name, extra field, data. A descriptor of sizes may follow.
  struct extent {
    std::size_t begin = 0;
    std::size_t end = 0;
    bool descriptor = false;
  };

  static constexpr std::size_t end_bytes = 22;
  static constexpr std::size_t header_bytes = 30;
  static constexpr std::size_t record_bytes = 46;
  static constexpr std::uint32_t in_zip64 = 0xffffffffu;

  [[noreturn]] void fail(std::size_t at, std::string expected, std::string found) const {
    throw error(rules::zip_structure, {.where = where_ + ", byte " + std::to_string(at),
                                       .expected = std::move(expected),
                                       .found = std::move(found),
                                       .remedy = "the file is damaged or hostile: fetch it again"});
  }
  [[noreturn]] void fail_name(std::string_view name, std::string found) const {
    throw error(rules::zip_name, {.where = where_ + ", entry \"" + std::string(name) + "\"",
                                  .found = std::move(found)});
  }

  // Little-endian numbers; the caller has checked that they lie inside the file.
  std::uint64_t number(std::size_t at, std::size_t bytes) const noexcept {
    std::uint64_t value = 0;
    std::memcpy(&value, file_.data() + at, bytes);
    return value;
  }
  std::uint32_t u32(std::size_t at) const noexcept {
    return static_cast<std::uint32_t>(number(at, 4));
  }
  std::uint32_t u16(std::size_t at) const noexcept {
    return static_cast<std::uint32_t>(number(at, 2));
  }
  std::string_view text(std::size_t at, std::size_t bytes) const noexcept {
    return {reinterpret_cast<const char*>(file_.data() + at), bytes};
  }
  // Whether [at, at + bytes) lies before `end`, without forming the sum.
  static bool inside(std::uint64_t at, std::uint64_t bytes, std::size_t end) noexcept {
    return at <= end && bytes <= end - at;
  }

  // The record at the end; a comment of up to 65,535 bytes may follow it.
  std::size_t find_end() const {
    const std::size_t size = file_.size();
    for (std::size_t comment = 0; comment <= 0xffff && comment + end_bytes <= size; ++comment) {
      const std::size_t at = size - end_bytes - comment;
      if (u32(at) == 0x06054b50u && u16(at + 20) == comment) return at;
    }
    throw error(rules::zip_truncated,
                {.where = where_,
                 .found = std::to_string(size) + " bytes without a directory at their end",
                 .remedy = "the file is incomplete: fetch it again"});
  }

  directory find_directory() const {
    const std::size_t end = find_end();
    std::uint64_t here = u16(end + 8);
    directory d{.begin = 0, .end = end, .entries = u16(end + 10)};
    std::uint64_t bytes = u32(end + 12);
    std::uint64_t begin = u32(end + 16);
    if (u16(end + 4) != 0 || u16(end + 6) != 0) fail(end, "an archive in one part", "several");
    if (end >= 20 && u32(end - 20) == 0x07064b50u) {
      const std::uint64_t at = number(end - 12, 8);
      if (!inside(at, 56, end - 20) || u32(at) != 0x06064b50u || at + 56 != end - 20 ||
          u32(at + 16) != 0 || u32(at + 20) != 0) {
        fail(end - 20, "a zip64 record of 56 bytes right before its locator", "something else");
      }
      here = number(at + 24, 8);
      d.entries = number(at + 32, 8);
      bytes = number(at + 40, 8);
      begin = number(at + 48, 8);
      d.end = at;
    }
    if (here != d.entries) fail(end, "an archive in one part", "several");
    if (!inside(begin, bytes, d.end) || begin + bytes != d.end) {
      fail(end, "a directory that ends at byte " + std::to_string(d.end),
           std::to_string(bytes) + " bytes from byte " + std::to_string(begin));
    }
    d.begin = begin;
    return d;
  }

  // One record of the directory; `at` moves behind it.
  void read_entry(std::size_t& at, std::size_t end) {
    if (!inside(at, record_bytes, end) || u32(at) != 0x02014b50u) {
      fail(at, "a record of the directory", "something else");
    }
    const std::uint32_t flags = u16(at + 8);
    const std::uint32_t method = u16(at + 10);
    std::uint64_t packed = u32(at + 20);
    std::uint64_t size = u32(at + 24);
    const std::size_t name_bytes = u16(at + 28);
    const std::size_t extra_bytes = u16(at + 30);
    const std::size_t record = record_bytes + name_bytes + extra_bytes + u16(at + 32);
    std::uint64_t header = u32(at + 42);
    if (!inside(at, record, end)) fail(at, "a record inside the directory", "a longer one");
    std::string name(text(at + record_bytes, name_bytes));
    check_name(name);
    if (method != 0 || (flags & 1u) != 0) {
      throw error(rules::zip_method,
                  {.where = where_ + ", entry \"" + name + "\"",
                   .found = (flags & 1u) != 0 ? "encryption"
                                              : "compression method " + std::to_string(method),
                   .remedy = "torch.save does not compress: save the tensors again with it"});
    }
    read_zip64(at + record_bytes + name_bytes, extra_bytes, size, packed, header);
    if (size != packed) fail(at, "as many bytes stored as read", std::to_string(packed));
    read_header(name, flags, size, header);
    at += record;
  }

  // Numbers that do not fit 32 bits stand in an extra field, in this order, each only if needed.
  void read_zip64(std::size_t at, std::size_t bytes, std::uint64_t& size, std::uint64_t& packed,
                  std::uint64_t& header) const {
    if (size != in_zip64 && packed != in_zip64 && header != in_zip64) return;
    for (const std::size_t end = at + bytes; inside(at, 4, end);) {
      const std::uint32_t kind = u16(at);
      const std::size_t length = u16(at + 2);
      at += 4;
      if (!inside(at, length, end)) break;
      if (kind == 1) {
        std::size_t next = at;
        bool complete = true;
        for (std::uint64_t* value : {&size, &packed, &header}) {
          if (*value != in_zip64) continue;
          complete = complete && inside(next, 8, at + length);
          if (!complete) break;
          *value = number(next, 8);
          next += 8;
        }
        if (complete) return;
        break;
      }
      at += length;
    }
    fail(at, "zip64 sizes in the extra field", "none");
  }

  // The header in front of the data must tell the same; its sizes may be left to a descriptor.
  void read_header(std::string& name, std::uint32_t flags, std::uint64_t size,
                   std::uint64_t header) {
    if (!inside(header, header_bytes, file_.size()) || u32(header) != 0x04034b50u) {
      fail(header, "the header of entry \"" + name + "\"", "something else");
    }
    const std::size_t name_bytes = u16(header + 26);
    const std::uint64_t lead = header_bytes + name_bytes + u16(header + 28);
    if (!inside(header, lead, file_.size()) || !inside(header + lead, size, file_.size())) {
      fail(header, "entry \"" + name + "\" inside the file", std::to_string(size) + " bytes");
    }
    const bool descriptor = (u16(header + 6) & 8u) != 0;
    const std::uint32_t told = u32(header + 22);
    const bool same_size = told == size || told == in_zip64 || (descriptor && told == 0);
    if (text(header + header_bytes, name_bytes) != name || u16(header + 8) != 0 ||
        (u16(header + 6) & 1u) != 0 || descriptor != ((flags & 8u) != 0) || !same_size) {
      fail(header, "a header that agrees with the directory on \"" + name + "\"", "another");
    }
    const std::size_t begin = header + lead;
    extents_.push_back({.begin = header, .end = begin + size, .descriptor = descriptor});
    entries_.push_back({std::move(name), file_.subspan(begin, size)});
  }

  // Sorted by offset the entries begin at 0, follow each other and end where the directory begins.
  void check_tiling(std::size_t directory_begin) {
    std::sort(extents_.begin(), extents_.end(),
              [](const extent& a, const extent& b) { return a.begin < b.begin; });
    std::size_t next = 0;
    std::size_t slack = 0;
    for (const extent& e : extents_) {
      check_gap(next, e.begin, slack);
      next = e.end;
      slack = e.descriptor ? 24 : 0;
    }
    check_gap(next, directory_begin, slack);
    extents_.clear();
  }
  void check_gap(std::size_t from, std::size_t to, std::size_t slack) const {
    if (to < from)
      fail(to, "entries that do not overlap", "an entry up to " + std::to_string(from));
    if (to - from > slack) {
      fail(from, "an entry or the directory", std::to_string(to - from) + " bytes of neither");
    }
  }

  void check_name(std::string_view name) const {
    if (name.empty() || name.size() > max_name_bytes) {
      fail_name(name.substr(0, 64), std::to_string(name.size()) + " bytes");
    }
    if (name.front() == '/' || name.find('\\') != std::string_view::npos ||
        name.find('\0') != std::string_view::npos || name.find(':') != std::string_view::npos) {
      fail_name(name, "no plain relative path");
    }
    for (std::size_t from = 0; from <= name.size();) {
      const std::size_t to = std::min(name.find('/', from), name.size());
      if (name.substr(from, to - from) == "..") fail_name(name, "\"..\" in the path");
      from = to + 1;
    }
  }

  std::span<const std::byte> file_;
  std::string where_;
  std::vector<zip_entry> entries_;
  std::vector<extent> extents_;
};

}  // namespace plmscope::inline PLMSCOPE_ABI
