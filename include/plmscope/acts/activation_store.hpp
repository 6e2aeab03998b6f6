// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/acts/rules.hpp>
#include <plmscope/acts/store_manifest.hpp>
#include <plmscope/acts/store_shard.hpp>
#include <plmscope/io/byte_source.hpp>
#include <plmscope/io/durable_folder.hpp>

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

namespace plmscope::inline PLMSCOPE_ABI {

namespace store_detail {

/// The range in a name that `shard_layout::file_name` makes; nothing for any other name.
inline std::optional<protein_range> shard_range(std::string_view name) {
  constexpr std::string_view prefix = "activations-", suffix = ".safetensors";
  if (!name.starts_with(prefix) || !name.ends_with(suffix)) return std::nullopt;
  const char* const last = name.data() + name.size();
  protein_range range;
  const auto first = std::from_chars(name.data() + prefix.size(), last, range.first);
  if (first.ec != std::errc() || first.ptr == last || *first.ptr != '-') return std::nullopt;
  if (std::from_chars(first.ptr + 1, last, range.end).ec != std::errc()) return std::nullopt;
  // One spelling each, and no empty shard.
  if (range.first >= range.end || shard_layout::file_name(range) != name) return std::nullopt;
  return range;
}

/// The names in a folder. Errors: acts.109.
inline std::vector<std::string> names_in(const std::filesystem::path& folder) {
  return plmscope::names_in(folder, rules::store_folder);
}

/// The shards of a folder by their names, ascending. Errors: acts.116 where two share a protein,
/// acts.114 for one beyond the list.
inline std::vector<protein_range> shards_in(const std::filesystem::path& folder,
                                            const store_manifest& manifest) {
  std::vector<protein_range> ranges;
  for (const auto& name : names_in(folder)) {
    if (const auto range = shard_range(name)) ranges.push_back(*range);
  }
  std::ranges::sort(ranges, {}, &protein_range::first);
  for (std::size_t i = 0; i < ranges.size(); ++i) {
    if (i > 0 && ranges[i].first < ranges[i - 1].end) {
      throw error(rules::store_overlap, {.where = folder.string(),
                                         .expected = "one of the two",
                                         .found = shard_layout::file_name(ranges[i - 1]) + " and " +
                                                  shard_layout::file_name(ranges[i]),
                                         .remedy = "remove one of them"});
    }
    if (ranges[i].end > manifest.proteins) {
      throw error(rules::store_shard_shape,
                  {.where = folder.string(),
                   .expected = "proteins up to " + std::to_string(manifest.proteins),
                   .found = shard_layout::file_name(ranges[i])});
    }
  }
  return ranges;
}

inline store_manifest read_manifest(const std::filesystem::path& folder) {
  const auto path = folder / store_manifest::file_name;
  std::error_code ignored;
  if (std::filesystem::symlink_status(path, ignored).type() !=
      std::filesystem::file_type::regular) {
    throw error(rules::store_folder,
                {.where = folder.string(),
                 .expected = "a file " + std::string(store_manifest::file_name),
                 .found = "none",
                 .remedy = "make a store with `plmscope harvest`"});
  }
  const auto bytes = read_file(path, store_manifest::max_file_bytes);
  return store_manifest::parse({reinterpret_cast<const char*>(bytes.data()), bytes.size()},
                               path.string());
}

}  // namespace store_detail

struct store_options {
  bool allow_partial = false;  ///< proteins may be missing: a store still being written, or a part
};

/// Activations on disk: a folder with a manifest (`store_manifest`) and shards (`shard_layout`),
/// read through memory. What is opened is what stands there at that moment: shards that a writer
/// adds later are seen by the next opening. Names of files are never taken from a file, so no
/// content can lead outside of the folder. Copies share the mapping and are cheap; const use from
/// several threads is fine. Opening reads the index of every shard, no activations.
///
/// Rows are numbered from 0 over the shards there are, in the order of the protein list.
/// Errors: acts.109 to acts.117.
class activation_store {
 public:
  static activation_store open(const std::filesystem::path& folder, store_options options = {}) {
    auto all = std::make_shared<content>();
    all->folder = folder.string();
    all->manifest = store_detail::read_manifest(folder);
    for (const auto& range : store_detail::shards_in(folder, all->manifest)) {
      all->shards.emplace_back(folder / shard_layout::file_name(range), all->manifest, range);
      all->proteins += range.size();
      all->first_row.push_back(all->first_row.back() + all->shards.back().rows());
    }
    activation_store store(std::move(all));
    if (!options.allow_partial) store.require_complete();
    return store;
  }

  const store_manifest& manifest() const noexcept { return all_->manifest; }
  const std::string& folder() const noexcept { return all_->folder; }
  std::span<const store_shard> shards() const noexcept { return all_->shards; }
  /// Row number of the first row of shard `s`.
  std::size_t first_row(std::size_t s) const noexcept { return all_->first_row[s]; }
  std::size_t rows() const noexcept { return all_->first_row.back(); }
  /// Proteins that are there.
  std::size_t proteins() const noexcept { return all_->proteins; }
  bool complete() const noexcept { return proteins() == manifest().proteins; }
  std::size_t bytes() const noexcept {
    std::size_t sum = 0;
    for (const auto& s : shards()) sum += s.file_bytes();
    return sum;
  }

  /// Refuses (acts.117) a store with a hole, naming the first.
  void require_complete() const {
    if (complete()) {
      if (rows() == manifest().residues) return;
      throw error(rules::store_shard_shape,
                  {.where = folder(),
                   .expected = std::to_string(manifest().residues) + " residues",
                   .found = std::to_string(rows())});
    }
    std::size_t next = 0;
    for (const auto& s : shards()) {
      if (s.range().first != next) break;
      next = s.range().end;
    }
    throw error(rules::store_incomplete,
                {.where = folder(),
                 .expected = std::to_string(manifest().proteins) + " proteins",
                 .found = std::to_string(proteins()) + ", the first missing one is number " +
                          std::to_string(next),
                 .remedy = "run `plmscope harvest` again to finish it, or allow a partial store"});
  }

  /// Refuses (acts.112) a store of another model or of another list of proteins.
  void require_model(std::string_view model_hash) const {
    if (manifest().model_hash == model_hash) return;
    throw error(rules::store_other, {.where = folder(),
                                     .expected = "model_hash " + std::string(model_hash),
                                     .found = manifest().model_hash,
                                     .remedy = "open the model that the store was made with"});
  }
  void require_proteins(std::span<const protein_sequence> proteins) const {
    if (const std::string hash = hash_proteins(proteins); hash != manifest().proteins_hash) {
      throw error(rules::store_other,
                  {.where = folder(),
                   .expected = "proteins_hash " + manifest().proteins_hash,
                   .found = hash,
                   .remedy = "give the proteins that the store was made from, in order"});
    }
  }

  /// Shard `shard` and protein `local` in it, of protein `p` of the list; nothing when it is not
  /// there. Cost: logarithmic.
  struct place {
    std::size_t shard;
    std::size_t local;
  };
  std::optional<place> find(std::size_t p) const noexcept {
    const auto after = std::ranges::upper_bound(
        shards(), p, {}, [](const store_shard& s) { return s.range().first; });
    const auto s = static_cast<std::size_t>(after - shards().begin());
    if (s == 0 || p >= shards()[s - 1].range().end) return std::nullopt;
    return place{s - 1, p - shards()[s - 1].range().first};
  }

  /// Calls `part(shard, first row in it, rows, rows before)` for the pieces of rows [first, first +
  /// count) that lie in one shard each.
  template <class Part>
  void for_parts(std::size_t first, std::size_t count, const Part& part) const {
    const auto& starts = all_->first_row;
    for (std::size_t done = 0; done < count;) {
      const std::size_t row = first + done;
      const auto s =
          static_cast<std::size_t>(std::ranges::upper_bound(starts, row) - starts.begin() - 1);
      const std::size_t n = std::min(count - done, starts[s + 1] - row);
      part(shards()[s], row - starts[s], n, done);
      done += n;
    }
  }

  /// Rows [first, first + count) of a site as floats, [count, width], checked (acts.115).
  void read(std::size_t site, std::size_t first, std::span<float> out) const {
    const std::size_t width = manifest().sites[site].width;
    for_parts(first, out.size() / width,
              [&](const store_shard& shard, std::size_t row, std::size_t n, std::size_t before) {
                shard.read(site, row, out.subspan(before * width, n * width));
              });
  }
  /// Asks the system to have these rows in memory soon.
  void will_need(std::size_t site, std::size_t first, std::size_t count) const {
    for_parts(first, count,
              [&](const store_shard& shard, std::size_t row, std::size_t n, std::size_t) {
                shard.will_need(site, row, n);
              });
  }

 private:
  struct content {
    std::string folder;
    store_manifest manifest;
    std::vector<store_shard> shards;
    std::vector<std::size_t> first_row{0};  // of every shard, then of all
    std::size_t proteins = 0;
  };
  explicit activation_store(std::shared_ptr<const content> all) : all_(std::move(all)) {}

  std::shared_ptr<const content> all_;
};

}  // namespace plmscope::inline PLMSCOPE_ABI
