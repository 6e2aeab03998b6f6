// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/acts/rules.hpp>
#include <plmscope/acts/shard_layout.hpp>
#include <plmscope/core/crc32c.hpp>
#include <plmscope/io/half.hpp>

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <vector>

namespace plmscope::inline PLMSCOPE_ABI {

/// The bytes of one shard, in memory until they are complete: its proteins first, then rows site by
/// site in any order of the sites, ascending within each. Memory: the size of the shard.
class shard_image {
 public:
  /// `proteins` is the whole list and must outlive the image. Errors: acts.105 for an id with a
  /// control character.
  shard_image(const store_manifest& manifest, std::span<const protein_sequence> proteins,
              protein_range range)
      : manifest_(manifest),
        layout_(shard_layout::of(manifest, proteins, range)),
        proteins_(proteins.subspan(range.first, range.size())),
        bytes_(layout_.file_bytes),
        rows_put_(manifest.sites.size()) {
    const std::uint64_t length = layout_.header.size();
    write(0, std::as_bytes(std::span(&length, 1)));
    write(8, std::as_bytes(std::span(layout_.header)));
    std::size_t id = layout_.ids_begin;
    first_rows_.push_back(0);
    for (const auto& p : proteins_) {
      if (std::ranges::any_of(p.id, [](char c) { return static_cast<unsigned char>(c) < ' '; })) {
        throw error(rules::store_request,
                    {.where = "protein id", .expected = "no control character", .found = p.id});
      }
      write(layout_.residues_begin + static_cast<std::size_t>(first_rows_.back()),
            std::as_bytes(std::span(p.sequence)));
      write(id, std::as_bytes(std::span(p.id)));
      bytes_[id + p.id.size()] = std::byte{'\n'};
      id += p.id.size() + 1;
      first_rows_.push_back(first_rows_.back() + static_cast<std::int64_t>(p.sequence.size()));
    }
    std::fill(bytes_.begin() + static_cast<std::ptrdiff_t>(id),
              bytes_.begin() + static_cast<std::ptrdiff_t>(layout_.ids_begin + layout_.id_bytes),
              std::byte{'\n'});
    write(layout_.offsets_begin, std::as_bytes(std::span(first_rows_)));
  }

  const store_manifest& manifest() const noexcept { return manifest_; }
  const shard_layout& layout() const noexcept { return layout_; }
  protein_range range() const noexcept { return layout_.proteins; }

  /// The next rows of a site, row-major, rounded to nearest even where the store is narrower.
  /// Errors: acts.103 for NaN and infinity, acts.108 for a number that the store's type cannot
  /// hold, acts.107 for more rows than there are.
  void put(std::size_t site, std::span<const float> rows) {
    const std::size_t width = manifest_.sites[site].width;
    const std::size_t first = rows_put_[site];
    if (rows.size() % width != 0 || rows.size() / width > layout_.rows - first) {
      refuse_rows(site, first + rows.size() / width);
    }
    const std::size_t at = layout_.site_begin[site] + first * width * number_bytes();
    bool good = true;
    if (manifest_.numbers == dtype::f32) {
      for (const float x : rows) good = good && is_finite(x);
      write(at, std::as_bytes(rows));
    } else if (manifest_.numbers == dtype::bf16) {
      good = convert<bfloat16, 0x7f80>(rows, at, [](float x) { return to_bfloat16(x); });
    } else {
      good = convert<float16, 0x7c00>(rows, at, [](float x) { return to_float16(x); });
    }
    if (!good) refuse_number(site, rows, first);
    rows_put_[site] += rows.size() / width;
  }

  /// The finished file. Errors: acts.107 where rows are missing.
  std::span<const std::byte> finish() {
    for (std::size_t s = 0; s < rows_put_.size(); ++s) {
      if (rows_put_[s] != layout_.rows) refuse_rows(s, rows_put_[s]);
    }
    std::vector<std::uint32_t> sums(layout_.blocks + 1);
    crc32c_blocks(std::span<const std::byte>(bytes_).first(layout_.checksums_begin),
                  shard_layout::block_bytes, sums);
    sums.back() = crc32c(std::as_bytes(std::span(sums).first(layout_.blocks)));
    write(layout_.checksums_begin, std::as_bytes(std::span(sums)));
    return bytes_;
  }

 private:
  static bool is_finite(float x) noexcept {
    return (std::bit_cast<std::uint32_t>(x) & 0x7f800000u) != 0x7f800000u;
  }
  std::size_t number_bytes() const noexcept { return dtype_bits(manifest_.numbers) / 8; }

  void write(std::size_t at, std::span<const std::byte> data) {
    if (!data.empty()) std::memcpy(bytes_.data() + at, data.data(), data.size());
  }

  // False where a result is NaN or infinite: its exponent has all bits set.
  template <class Half, std::uint16_t exponent, class Round>
  bool convert(std::span<const float> from, std::size_t at, const Round& round) {
    bool good = true;
    for (std::size_t i = 0; i < from.size(); ++i) {
      const Half h = round(from[i]);
      good = good && (h.bits & exponent) != exponent;
      std::memcpy(bytes_.data() + at + i * sizeof(Half), &h, sizeof(Half));
    }
    return good;
  }

  [[noreturn]] void refuse_rows(std::size_t site, std::size_t found) const {
    throw error(rules::store_rows,
                {.where = shard_layout::file_name(range()) + ", " + manifest_.sites[site].name,
                 .expected = std::to_string(layout_.rows) + " rows of " +
                             std::to_string(manifest_.sites[site].width),
                 .found = std::to_string(found)});
  }

  // Finds the number that `put` could not store.
  [[noreturn]] void refuse_number(std::size_t site, std::span<const float> rows,
                                  std::size_t first) const {
    const std::size_t width = manifest_.sites[site].width;
    std::size_t i = 0;
    const auto stored = [&](float x) {
      return is_finite(x) &&
             (manifest_.numbers == dtype::f32    ? true
              : manifest_.numbers == dtype::bf16 ? (to_bfloat16(x).bits & 0x7f80) != 0x7f80
                                                 : (to_float16(x).bits & 0x7c00) != 0x7c00);
    };
    while (stored(rows[i])) ++i;
    const auto row = static_cast<std::int64_t>(first + i / width);
    const auto p = static_cast<std::size_t>(
        std::upper_bound(first_rows_.begin(), first_rows_.end(), row) - first_rows_.begin() - 1);
    const std::string where =
        "protein " + proteins_[p].id + ", residue " + std::to_string(row - first_rows_[p] + 1) +
        ", " + manifest_.sites[site].name + ", dimension " + std::to_string(i % width);
    if (!is_finite(rows[i])) {
      throw error(rules::acts_not_finite,
                  {.where = where, .remedy = "check the model file with `plmscope info`"});
    }
    throw error(
        rules::store_overflow,
        {.where = where,
         .expected = manifest_.numbers == dtype::f16 ? "at most 65504" : "at most 3.3895e38",
         .found = std::to_string(rows[i]),
         .remedy = manifest_.numbers == dtype::f16 ? "store bf16 or f32" : "store f32"});
  }

  store_manifest manifest_;
  shard_layout layout_;
  std::span<const protein_sequence> proteins_;
  std::vector<std::byte> bytes_;
  std::vector<std::int64_t> first_rows_;
  std::vector<std::size_t> rows_put_;
};

}  // namespace plmscope::inline PLMSCOPE_ABI
