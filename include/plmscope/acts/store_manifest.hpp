// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/acts/rules.hpp>
#include <plmscope/core/activation_source.hpp>
#include <plmscope/io/dtype.hpp>
#include <plmscope/io/fasta.hpp>
#include <plmscope/io/safetensors_header.hpp>
#include <plmscope/io/sha256.hpp>

#include <array>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace plmscope::inline PLMSCOPE_ABI {

/// One site of a store and the width of its rows.
struct store_site {
  std::string name;  ///< for example `resid_post.4`
  std::size_t width = 0;

  friend bool operator==(const store_site&, const store_site&) = default;
};

/// What a store of activations is, decided before its first byte is written and never changed:
/// every shard follows from it, the list of proteins and the model. The file `manifest.json` of a
/// store is one JSON object whose values are texts; its last entry, `id`, is the SHA-256 of all
/// others, and every shard repeats it. So a flipped bit is found, and a shard of another model,
/// layer, number type or list is refused without looking at its numbers. The manifest does not list
/// the shards: a shard belongs to the store from the moment its file appears under its name, and no
/// file of a store is ever rewritten.
struct store_manifest {
  static constexpr std::string_view format = "plmscope.activations.1";
  static constexpr std::string_view file_name = "manifest.json";
  static constexpr std::size_t max_file_bytes = std::size_t{1} << 20;
  static constexpr std::size_t max_sites = 1024;
  static constexpr std::size_t max_width = std::size_t{1} << 20;
  static constexpr std::size_t max_proteins = std::numeric_limits<std::uint32_t>::max();

  std::string model;
  std::string model_hash;
  std::vector<store_site> sites;  ///< in the order of their tensors in a shard
  dtype numbers = dtype::bf16;    ///< bf16, f16 or f32
  std::size_t proteins = 0;       ///< of the whole list
  std::size_t residues = 0;       ///< of the whole list
  std::string proteins_hash;      ///< `hash_proteins` of the list
  std::size_t shard_rows = 0;     ///< a shard ends with the protein that reaches so many rows

  friend bool operator==(const store_manifest&, const store_manifest&) = default;

  /// Bytes of one row of all sites.
  std::size_t row_bytes() const noexcept {
    std::size_t numbers_in_row = 0;
    for (const auto& s : sites) numbers_in_row += s.width;
    return numbers_in_row * dtype_bits(numbers) / 8;
  }
  activation_source source(std::size_t site) const { return {model, model_hash, sites[site].name}; }

  /// The index of a site; acts.113 lists the sites there are.
  std::size_t find(std::string_view site) const {
    std::string names;
    for (std::size_t i = 0; i < sites.size(); ++i) {
      if (sites[i].name == site) return i;
      names += (names.empty() ? "" : ", ") + sites[i].name;
    }
    throw error(rules::store_site_missing,
                {.where = model,
                 .expected = std::string(site),
                 .found = names,
                 .remedy = "ask for one of these, or harvest a store with that site"});
  }

  /// Refuses (acts.105) what no store can hold.
  void check() const {
    const auto refuse = [](std::string where, std::string expected, std::string found) {
      throw error(
          rules::store_request,
          {.where = std::move(where), .expected = std::move(expected), .found = std::move(found)});
    };
    if (numbers != dtype::bf16 && numbers != dtype::f16 && numbers != dtype::f32) {
      refuse("dtype", "BF16, F16 or F32", std::string(dtype_name(numbers)));
    }
    if (sites.empty() || sites.size() > max_sites) {
      refuse("sites", "1 to " + std::to_string(max_sites), std::to_string(sites.size()));
    }
    for (std::size_t i = 0; i < sites.size(); ++i) {
      const auto& [name, width] = sites[i];
      bool good = !name.empty() && name.size() <= 256 && width > 0 && width <= max_width;
      for (const char c : name) good = good && c > ' ' && c < 0x7f;
      for (const std::string_view taken :
           {"offsets", "residues", "ids", "checksums", "__metadata__"}) {
        good = good && name != taken;
      }
      for (std::size_t j = 0; j < i; ++j) good = good && name != sites[j].name;
      if (!good) {
        refuse("site \"" + name.substr(0, 256) + "\"",
               "a name of its own and a width up to " + std::to_string(max_width),
               std::to_string(width));
      }
    }
    if (proteins == 0 || proteins > max_proteins || residues == 0 || residues >> 48 != 0) {
      refuse("proteins", "1 to " + std::to_string(max_proteins) + " with at least one residue",
             std::to_string(proteins) + " with " + std::to_string(residues));
    }
    if (shard_rows == 0 || shard_rows >> 40 != 0) {
      refuse("shard", "1 to 2^40 rows", std::to_string(shard_rows));
    }
  }

  /// Every field as text, in the order of the file.
  std::vector<std::pair<std::string, std::string>> fields() const {
    std::string names, widths;
    for (const auto& s : sites) {
      names += (names.empty() ? "" : " ") + s.name;
      widths += (widths.empty() ? "" : " ") + std::to_string(s.width);
    }
    return {{"format", std::string(format)},
            {"model", model},
            {"model_hash", model_hash},
            {"sites", names},
            {"widths", widths},
            {"dtype", std::string(dtype_name(numbers))},
            {"rows", "residues, without <cls> and <eos>"},
            {"proteins", std::to_string(proteins)},
            {"residues", std::to_string(residues)},
            {"proteins_hash", proteins_hash},
            {"shard_rows", std::to_string(shard_rows)}};
  }

  /// SHA-256 over all fields: the name of this store in its shards.
  std::string id() const {
    sha256 hash;
    for (const auto& [key, value] : fields()) {
      for (const std::string& text : {key, value}) {
        hash.update(std::uint64_t{text.size()});
        hash.update(std::string_view(text));
      }
    }
    return hash.hex();
  }

  std::string to_json() const {
    std::string out = "{\n";
    for (const auto& [key, value] : fields())
      out += "  " + quoted(key) + ": " + quoted(value) + ",\n";
    return out + "  \"id\": " + quoted(id()) + "\n}\n";
  }

  /// Reads `to_json`'s text; `where` names the file. Errors: acts.110, acts.111.
  static store_manifest parse(std::string_view text, const std::string& where) {
    const auto fail = [&](std::string expected, std::string found) {
      throw error(
          rules::store_manifest_text,
          {.where = where,
           .expected = std::move(expected),
           .found = std::move(found),
           .remedy = "the file is damaged: restore it, or harvest again into a new folder"});
    };
    // The metadata of safetensors are the same grammar: one object from text to text.
    safetensors_header object;
    try {
      const std::string wrapped = "{\"__metadata__\":" + std::string(text) + "}";
      object = safetensors_header_parser(wrapped, where, 0).parse();
    } catch (const error& e) {
      fail("one JSON object of texts", e.details().found);
    }
    const auto& map = object.metadata;
    const auto at = [&](std::string_view key) -> std::string {
      const auto entry = map.find(key);
      if (entry == map.end()) fail("\"" + std::string(key) + "\"", "none");
      return entry->second;
    };
    if (at("format") != format) {
      throw error(rules::store_version, {.where = where,
                                         .expected = std::string(format),
                                         .found = at("format"),
                                         .remedy = "read it with the plmscope that wrote it"});
    }
    const auto number = [&](std::string_view key, std::string_view digits) {
      std::size_t value = 0;
      const auto [end, failure] =
          std::from_chars(digits.data(), digits.data() + digits.size(), value);
      if (failure != std::errc() || end != digits.data() + digits.size()) {
        fail("a number for \"" + std::string(key) + "\"", std::string(digits));
      }
      return value;
    };
    store_manifest m;
    m.model = at("model");
    m.model_hash = at("model_hash");
    const auto names = words(at("sites")), widths = words(at("widths"));
    if (names.size() != widths.size()) fail("a width for every site", at("widths"));
    for (std::size_t i = 0; i < names.size(); ++i) {
      m.sites.push_back({names[i], number("widths", widths[i])});
    }
    const std::string type = at("dtype");
    for (const auto& row : dtype_table) m.numbers = row.name == type ? row.type : m.numbers;
    m.proteins = number("proteins", at("proteins"));
    m.residues = number("residues", at("residues"));
    m.proteins_hash = at("proteins_hash");
    m.shard_rows = number("shard_rows", at("shard_rows"));
    if (at("id") != m.id()) fail("fields whose SHA-256 is the id " + at("id"), m.id());
    if (text != m.to_json()) fail("these fields as they were written", "a changed text");
    m.check();
    return m;
  }

  /// Refuses (acts.112) another store, naming the first field that differs.
  void require_same(const store_manifest& other, const std::string& where) const {
    const auto mine = fields(), theirs = other.fields();
    for (std::size_t i = 0; i < mine.size(); ++i) {
      if (mine[i].second == theirs[i].second) continue;
      throw error(rules::store_other, {.where = where,
                                       .expected = mine[i].first + " " + mine[i].second,
                                       .found = theirs[i].second,
                                       .remedy = "choose another folder, or ask for the same"});
    }
  }

  /// A JSON text with its quotes.
  static std::string quoted(std::string_view text) {
    std::string out = "\"";
    for (const char c : text) {
      if (c == '"' || c == '\\') {
        out += {'\\', c};
      } else if (static_cast<unsigned char>(c) < 0x20) {
        out += "\\u00";
        out += {"0123456789abcdef"[c >> 4], "0123456789abcdef"[c & 15]};
      } else {
        out += c;
      }
    }
    return out + '"';
  }

 private:
  static std::vector<std::string> words(std::string_view text) {
    std::vector<std::string> out;
    while (!text.empty()) {
      const std::size_t end = std::min(text.find(' '), text.size());
      out.emplace_back(text.substr(0, end));
      text.remove_prefix(std::min(end + 1, text.size()));
    }
    return out;
  }
};

/// SHA-256 over a list of proteins: their number, then id and sequence of each with its length. Two
/// lists with the same hash give the same rows in the same order. About 0.3 GB/s.
inline std::string hash_proteins(std::span<const protein_sequence> proteins) {
  sha256 hash;
  hash.update(std::uint64_t{proteins.size()});
  for (const auto& p : proteins) {
    for (const std::string* text : {&p.id, &p.sequence}) {
      hash.update(std::uint64_t{text->size()});
      hash.update(std::string_view(*text));
    }
  }
  return hash.hex();
}

}  // namespace plmscope::inline PLMSCOPE_ABI
