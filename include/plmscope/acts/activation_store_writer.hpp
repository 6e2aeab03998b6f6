// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/acts/shard_image.hpp>
#include <plmscope/acts/store_folder.hpp>
#include <plmscope/acts/store_plan.hpp>
#include <plmscope/acts/store_shard.hpp>

#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace plmscope::inline PLMSCOPE_ABI {

/// Writes the shards of a range of proteins that a store does not have yet (`basic_store_folder`
/// says how). Started again after any end, it goes on with the first protein that no shard holds,
/// and the finished store is byte for byte that of a writer that was never disturbed.
///
///   activation_store_writer store(folder, manifest, proteins, {0, proteins.size()});
///   for (const auto& range : store.missing()) {
///     shard_image shard(manifest, proteins, range);
///     shard.put(0, rows);  // every site, all rows
///     store.add(shard);
///   }
///
/// Errors: acts.105, acts.106 and those of the folder.
template <class System = store_system>
class basic_activation_store_writer {
 public:
  /// `proteins` is the whole list of the manifest.
  basic_activation_store_writer(const std::filesystem::path& folder, const store_manifest& manifest,
                                std::span<const protein_sequence> proteins, protein_range range,
                                System system = {})
      : plan_(checked(manifest, proteins, range)),
        folder_(folder, manifest, range, std::move(system)) {
    for (const auto& r : folder_.present()) store_shard(folder_.path(r), manifest, r);
    missing_ = plan_.missing(range, folder_.present());
  }

  const store_manifest& manifest() const noexcept { return folder_.manifest(); }
  /// Ranges of the shards to write, ascending: what was missing when the writer began.
  const std::vector<protein_range>& missing() const noexcept { return missing_; }
  store_estimate estimate() const { return plan_.estimate(missing_); }

  /// Writes one of the missing shards; when it returns, the shard survives a power cut. Another
  /// range is acts.106, a shard of another manifest acts.112, a full disk io.505.
  void add(shard_image& shard) {
    manifest().require_same(shard.manifest(), folder_.path(shard.range()).string());
    if (std::ranges::find(missing_, shard.range()) == missing_.end()) {
      throw error(rules::store_range, {.where = folder_.path(shard.range()).string(),
                                       .expected = "a shard that was missing"});
    }
    folder_.add(shard.range(), shard.finish());
  }

 private:
  static store_plan checked(const store_manifest& manifest,
                            std::span<const protein_sequence> proteins, protein_range range) {
    manifest.check();
    std::size_t residues = 0;
    for (const auto& p : proteins) residues += p.sequence.size();
    if (proteins.size() != manifest.proteins || residues != manifest.residues) {
      throw error(rules::store_request,
                  {.expected = std::to_string(manifest.proteins) + " proteins of " +
                               std::to_string(manifest.residues) + " residues, as in the manifest",
                   .found = std::to_string(proteins.size()) + " of " + std::to_string(residues)});
    }
    store_plan plan(manifest, proteins);
    plan.check(range);
    return plan;
  }

  store_plan plan_;
  basic_store_folder<System> folder_;
  std::vector<protein_range> missing_;
};

using activation_store_writer = basic_activation_store_writer<>;

}  // namespace plmscope::inline PLMSCOPE_ABI
