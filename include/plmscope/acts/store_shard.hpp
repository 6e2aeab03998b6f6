// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/acts/rules.hpp>
#include <plmscope/acts/shard_layout.hpp>
#include <plmscope/core/crc32c.hpp>
#include <plmscope/io/byte_source.hpp>
#include <plmscope/io/half.hpp>
#include <plmscope/io/safetensors_header.hpp>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include <sys/mman.h>
#include <unistd.h>

namespace plmscope::inline PLMSCOPE_ABI {

/// One shard of a store, mapped into memory. Opening checks everything but the activations: that
/// the file is a regular file of the store's folder (no link), belongs to the manifest, is laid out
/// exactly as manifest and index say, and that header, index and checksums are the bytes that were
/// written. Activations are checked block by block whenever they are read. Cost of opening: one
/// page of header, 1 byte a row and the ids. Errors: acts.109, acts.111, acts.112, acts.114,
/// acts.115.
class store_shard {
 public:
  store_shard(const std::filesystem::path& path, const store_manifest& manifest,
              protein_range range)
      : path_(path.string()), manifest_(manifest), file_(open(path)), layout_(check(range)) {
    check_sums();
    verify(0, layout_.site_begin.front());
    verify(layout_.residues_begin, layout_.checksums_begin);
    check_index();
  }

  const std::string& path() const noexcept { return path_; }
  protein_range range() const noexcept { return layout_.proteins; }
  std::size_t rows() const noexcept { return layout_.rows; }
  std::size_t file_bytes() const noexcept { return layout_.file_bytes; }
  const shard_layout& layout() const noexcept { return layout_; }
  std::span<const std::byte> bytes() const noexcept { return file_.bytes(); }
  /// The checksums of all blocks: equal for equal shards.
  std::span<const std::byte> checksums() const noexcept {
    return bytes().subspan(layout_.checksums_begin);
  }

  /// First row of protein `p` of the shard (from 0); `rows()` for the number of proteins.
  std::size_t first_row(std::size_t p) const noexcept {
    return static_cast<std::size_t>(number<std::int64_t>(layout_.offsets_begin + 8 * p));
  }
  std::string_view id(std::size_t p) const noexcept { return ids_[p]; }
  /// The residues of protein `p` of the shard.
  std::string_view sequence(std::size_t p) const noexcept {
    return text(layout_.residues_begin + first_row(p), first_row(p + 1) - first_row(p));
  }

  /// Rows [first, first + count) of a site as floats, [count, width], all of them checked when it
  /// returns (when it throws, `out` holds nothing to rely on). Memory speed: whole blocks are
  /// converted in the pass that checks them.
  void read(std::size_t site, std::size_t first, std::span<float> out) const {
    const std::size_t size = dtype_bits(manifest_.numbers) / 8;
    const std::size_t begin = layout_.site_begin[site] + first * manifest_.sites[site].width * size;
    const std::size_t end = begin + out.size() * size;
    // A piece ends where blocks end, which is never inside a number, because tensors begin at
    // multiples of their numbers' size.
    constexpr std::size_t block = shard_layout::block_bytes;
    for (std::size_t at = begin; at < end;) {
      const std::size_t stop = std::min(end, (at / block + 1) * block);
      float* const to = out.data() + (at - begin) / size;
      if (stop - at < block) {
        verify(at, stop);
        convert(bytes().data() + at, stop - at, to);
      } else if (manifest_.numbers == dtype::f32) {
        read_block<float>(at, to);
      } else if (manifest_.numbers == dtype::bf16) {
        read_block<bfloat16>(at, to);
      } else {
        read_block<float16>(at, to);
      }
      at = stop;
    }
  }

  /// Checks the blocks that hold bytes [begin, end) of the file (acts.115).
  void verify(std::size_t begin, std::size_t end) const {
    constexpr std::size_t block = shard_layout::block_bytes;
    std::array<std::uint32_t, 64> sums;
    for (std::size_t b = begin / block; b * block < end; b += sums.size()) {
      const std::size_t last =
          std::min((b + sums.size()) * block, (end + block - 1) / block * block);
      const std::size_t stop = std::min(last, layout_.checksums_begin);
      crc32c_blocks(bytes().subspan(b * block, stop - b * block), block, sums);
      for (std::size_t i = 0; (b + i) * block < stop; ++i) {
        if (sums[i] != stored_sum(b + i)) refuse_block(b + i, sums[i]);
      }
    }
  }
  /// Checks every byte.
  void verify() const { verify(0, layout_.checksums_begin); }

  /// Asks the system to have these rows in memory soon; returns at once.
  void will_need(std::size_t site, std::size_t first, std::size_t count) const noexcept {
    const std::size_t row = manifest_.sites[site].width * (dtype_bits(manifest_.numbers) / 8);
    const std::size_t begin = layout_.site_begin[site] + first * row;
    static const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
    const std::size_t from = begin / page * page;
    auto* address = const_cast<std::byte*>(bytes().data()) + from;
    static_cast<void>(::madvise(address, begin + count * row - from, MADV_WILLNEED));
  }

 private:
  static mapped_file open(const std::filesystem::path& path) {
    std::error_code failure;
    if (std::filesystem::symlink_status(path, failure).type() !=
        std::filesystem::file_type::regular) {
      throw error(rules::store_folder,
                  {.where = path.string(),
                   .expected = "a regular file",
                   .found = failure ? failure.message() : "a link or something else",
                   .remedy = "copy the shard itself into the folder"});
    }
    return mapped_file(path);
  }

  [[noreturn]] void refuse(std::string expected, std::string found) const {
    throw error(rules::store_shard_shape,
                {.where = path_,
                 .expected = std::move(expected),
                 .found = std::move(found),
                 .remedy = "delete this shard and harvest again: only its proteins are done anew"});
  }

  shard_layout check(protein_range range) const {
    const auto file = file_.bytes();
    if (file.size() < 8) refuse("a safetensors header", std::to_string(file.size()) + " bytes");
    const auto length = number<std::uint64_t>(0);
    if (length > file.size() - 8 || length > (std::size_t{16} << 20)) {
      refuse("a header inside the file", std::to_string(length) + " bytes of header, " +
                                             std::to_string(file.size()) + " bytes of file");
    }
    safetensors_header header;
    try {
      header = safetensors_header_parser(text(8, length), path_, 8).parse();
    } catch (const error& e) {
      refuse("a safetensors header", e.details().found);
    }
    // Said by name first; the comparison of all bytes below would refuse it too.
    const auto stated = [&](std::string_view key) {
      const auto at = header.metadata.find(key);
      return at == header.metadata.end() ? std::string("nothing") : at->second;
    };
    const auto must_be = [&](const error_rule& rule, std::string_view key,
                             const std::string& value) {
      if (stated(key) == value) return;
      throw error(rule, {.where = path_,
                         .expected = std::string(key) + " " + value,
                         .found = stated(key),
                         .remedy = "remove what does not belong to the store"});
    };
    must_be(rules::store_version, "format", std::string(store_manifest::format));
    must_be(rules::store_other, "model", manifest_.model);
    must_be(rules::store_other, "model_hash", manifest_.model_hash);
    must_be(rules::store_other, "store", manifest_.id());
    must_be(rules::store_other, "first_protein", std::to_string(range.first));
    std::optional<std::size_t> rows, ids;
    for (const auto& t : header.tensors) {
      if (t.name == "residues") rows = t.elements;
      if (t.name == "ids") ids = t.elements;
    }
    if (!rows || !ids || *rows > file.size() || *ids > file.size()) {
      refuse("residues and ids inside the file", "none");
    }
    shard_layout layout(manifest_, range, *rows, *ids);
    if (text(8, length) != layout.header)
      refuse("the header that follows from the manifest", "another");
    if (file.size() != layout.file_bytes) {
      refuse(std::to_string(layout.file_bytes) + " bytes", std::to_string(file.size()) + " bytes");
    }
    return layout;
  }

  // The checksums themselves, then what opening reads.
  void check_sums() const {
    const auto sums = bytes().subspan(layout_.checksums_begin, 4 * layout_.blocks);
    if (crc32c(sums) != stored_sum(layout_.blocks)) {
      throw error(rules::store_checksum, {.where = path_ + ", its checksums",
                                          .remedy = "delete this shard and harvest again"});
    }
  }

  void check_index() {
    for (std::size_t p = 0; p <= range().size(); ++p) {
      const auto row = number<std::int64_t>(layout_.offsets_begin + 8 * p);
      const auto before = p == 0 ? 0 : number<std::int64_t>(layout_.offsets_begin + 8 * p - 8);
      const auto all = static_cast<std::int64_t>(layout_.rows);
      if (row < before || row > all || (p == 0 && row != 0) ||
          (p == range().size() && row != all)) {
        refuse("ascending offsets from 0 to " + std::to_string(all), std::to_string(row));
      }
    }
    std::string_view left = text(layout_.ids_begin, layout_.id_bytes);
    for (std::size_t p = 0; p < range().size(); ++p) {
      const std::size_t end = left.find('\n');
      if (end == std::string_view::npos)
        refuse("an id for every protein", std::to_string(p) + " ids");
      ids_.push_back(left.substr(0, end));
      left.remove_prefix(end + 1);
    }
  }

  template <class T>
  T number(std::size_t at) const noexcept {
    T value;
    std::memcpy(&value, file_.bytes().data() + at, sizeof value);
    return value;
  }
  std::string_view text(std::size_t at, std::size_t size) const noexcept {
    return {reinterpret_cast<const char*>(file_.bytes().data()) + at, size};
  }
  std::uint32_t stored_sum(std::size_t block) const noexcept {
    return number<std::uint32_t>(layout_.checksums_begin + 4 * block);
  }

  [[noreturn]] void refuse_block(std::size_t block, std::uint32_t found) const {
    const auto hex = [](std::uint32_t x) {
      char digits[16];
      return std::string(digits, std::to_chars(digits, digits + 16, x, 16).ptr);
    };
    throw error(rules::store_checksum,
                {.where = path_ + ", byte " + std::to_string(block * shard_layout::block_bytes),
                 .expected = "CRC-32C " + hex(stored_sum(block)),
                 .found = hex(found),
                 .remedy = "the disk or a copy damaged it: delete this shard and harvest again"});
  }

  template <class Stored>
  static void convert(const std::byte* from, std::size_t size, float* to) noexcept {
    if constexpr (std::is_same_v<Stored, float>) {
      std::memcpy(to, from, size);
    } else {
      const std::size_t n = size / sizeof(Stored);
      to_float(std::span(reinterpret_cast<const Stored*>(from), n), std::span(to, n));
    }
  }
  void convert(const std::byte* from, std::size_t size, float* to) const noexcept {
    if (manifest_.numbers == dtype::f32) return convert<float>(from, size, to);
    if (manifest_.numbers == dtype::bf16) return convert<bfloat16>(from, size, to);
    convert<float16>(from, size, to);
  }

  // One whole block, converted in the pass that checks it.
  template <class Stored>
  void read_block(std::size_t at, float* to) const {
    const auto block = bytes().subspan(at, shard_layout::block_bytes);
    const std::uint32_t sum = crc32c_visit(block, [&](const std::byte* p, std::size_t n) {
      convert<Stored>(p, n, to + static_cast<std::size_t>(p - block.data()) / sizeof(Stored));
    });
    const std::size_t b = at / shard_layout::block_bytes;
    if (sum != stored_sum(b)) refuse_block(b, sum);
  }

  std::string path_;
  store_manifest manifest_;
  mapped_file file_;
  shard_layout layout_;
  std::vector<std::string_view> ids_;  // into the mapping
};

}  // namespace plmscope::inline PLMSCOPE_ABI
