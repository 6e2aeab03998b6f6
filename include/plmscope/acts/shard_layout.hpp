// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/acts/rules.hpp>
#include <plmscope/acts/store_manifest.hpp>
#include <plmscope/io/fasta.hpp>

#include <charconv>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace plmscope::inline PLMSCOPE_ABI {

/// Proteins [first, end) of a list.
struct protein_range {
  std::size_t first = 0;
  std::size_t end = 0;

  std::size_t size() const noexcept { return end - first; }
  friend bool operator==(const protein_range&, const protein_range&) = default;
};

/// Where everything lies in a shard: a valid safetensors file, so that Python opens it as any
/// other, with exactly these tensors in this order, all aligned to their numbers:
///   offsets    I64 [proteins + 1]   first row of every protein, then the number of rows
///   SITE       [rows, width]        one per site of the manifest, in its dtype
///   residues   U8 [rows]            the letter of every row
///   ids        U8 [id_bytes]        the ids, each ended by a line feed; filled up with line feeds
///   checksums  I32 [blocks + 1]     CRC-32C of every 16 KiB of the file before this tensor, then
///   of
///                                   the bytes of those checksums
/// Metadata: format, model, model_hash, store (the manifest's id), first_protein. The layout,
/// header included, is a pure function of manifest and proteins: a reader requires it byte for
/// byte.
///
/// CRC-32C because processors compute it at memory speed (SHA-256 runs at a hundredth of that),
/// because it is published with test values and Python has it, and because blocks of 16 KiB let a
/// reader of some rows check just what it reads, at 0.02 % of the size.
struct shard_layout {
  static constexpr std::size_t block_bytes = 16 * 1024;

  protein_range proteins;
  std::size_t rows = 0;
  std::size_t id_bytes = 0;
  std::string header;             ///< JSON; stands behind its length, eight bytes
  std::size_t offsets_begin = 0;  ///< all from the beginning of the file
  std::vector<std::size_t> site_begin;
  std::size_t residues_begin = 0;
  std::size_t ids_begin = 0;
  std::size_t checksums_begin = 0;  ///< also how many bytes the blocks cover
  std::size_t blocks = 0;
  std::size_t file_bytes = 0;

  /// Errors: acts.105 for more rows than a file can number.
  shard_layout(const store_manifest& m, protein_range range, std::size_t row_count,
               std::size_t bytes_of_ids)
      : proteins(range), rows(row_count), id_bytes(bytes_of_ids) {
    std::size_t most = 0;
    if (__builtin_mul_overflow(rows, m.row_bytes() + 1, &most) || most >> 60 != 0 ||
        id_bytes >> 48 != 0) {
      throw error(rules::store_request, {.where = file_name(range),
                                         .expected = "less than 2^60 bytes",
                                         .found = std::to_string(rows) + " rows"});
    }
    const auto text = [](std::string_view t) { return store_manifest::quoted(t); };
    std::string json = "{\"__metadata__\":{\"checksums\":\"CRC-32C of every " +
                       std::to_string(block_bytes) +
                       " bytes of this file before them, then of themselves\",\"first_protein\":" +
                       text(std::to_string(range.first)) + ",\"format\":" + text(m.format) +
                       ",\"model\":" + text(m.model) + ",\"model_hash\":" + text(m.model_hash) +
                       ",\"store\":" + text(m.id()) + "}";
    std::size_t next = 0;
    const auto tensor = [&](const std::string& name, std::string_view type,
                            const std::string& shape, std::size_t bytes) {
      json += "," + text(name) + ":{\"dtype\":\"" + std::string(type) + "\",\"shape\":[" + shape +
              "],\"data_offsets\":[" + std::to_string(next) + "," + std::to_string(next + bytes) +
              "]}";
      next += bytes;
      return next - bytes;
    };
    offsets_begin =
        tensor("offsets", "I64", std::to_string(range.size() + 1), 8 * (range.size() + 1));
    for (const auto& s : m.sites) {
      site_begin.push_back(tensor(s.name, dtype_name(m.numbers),
                                  std::to_string(rows) + "," + std::to_string(s.width),
                                  rows * s.width * (dtype_bits(m.numbers) / 8)));
    }
    residues_begin = tensor("residues", "U8", std::to_string(rows), rows);
    id_bytes += (8 - (next + id_bytes) % 8) % 8;
    ids_begin = tensor("ids", "U8", std::to_string(id_bytes), id_bytes);
    // The blocks cover the header, which states their number: a longer header may need one more
    // block, so both grow together until they agree.
    const std::size_t data_bytes = next;
    for (std::size_t before = 0;; before = blocks) {
      header = json + ",\"checksums\":{\"dtype\":\"I32\",\"shape\":[" + std::to_string(before + 1) +
               "],\"data_offsets\":[" + std::to_string(data_bytes) + "," +
               std::to_string(data_bytes + 4 * (before + 1)) + "]}}";
      header.append((8 - header.size() % 8) % 8, ' ');
      checksums_begin = 8 + header.size() + data_bytes;
      blocks = (checksums_begin + block_bytes - 1) / block_bytes;
      if (blocks == before) break;
    }
    const std::size_t data_begin = 8 + header.size();
    for (std::size_t* begin : {&offsets_begin, &residues_begin, &ids_begin}) *begin += data_begin;
    for (std::size_t& begin : site_begin) begin += data_begin;
    file_bytes = checksums_begin + 4 * (blocks + 1);
  }

  /// The layout of these proteins of a list.
  static shard_layout of(const store_manifest& m, std::span<const protein_sequence> list,
                         protein_range range) {
    std::size_t rows = 0, ids = 0;
    for (const auto& p : list.subspan(range.first, range.size())) {
      rows += p.sequence.size();
      ids += p.id.size() + 1;
    }
    return {m, range, rows, ids};
  }

  /// `activations-0000000000-0000000512.safetensors`.
  static std::string file_name(protein_range range) {
    char text[64];
    std::snprintf(text, sizeof text, "activations-%010zu-%010zu.safetensors", range.first,
                  range.end);
    return text;
  }
};

}  // namespace plmscope::inline PLMSCOPE_ABI
