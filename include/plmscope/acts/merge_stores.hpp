// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/acts/activation_store.hpp>
#include <plmscope/acts/store_folder.hpp>
#include <plmscope/core/progress.hpp>

#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

namespace plmscope::inline PLMSCOPE_ABI {

/// Copies the shards of stores of the same manifest, over disjoint ranges of proteins, into one:
/// `into` is a new folder, or a store of that manifest, partly merged or not. Every byte is checked
/// on the way, every shard appears whole. A shard that `into` already holds with the same checksums
/// is left alone, so an interrupted merge is called again. Nothing is removed from the sources, and
/// nothing is copied before all of them are known to fit together. Returns how many shards were
/// copied; `progress(done, total)` counts shards.
/// Errors: acts.112 for a foreign store, acts.116 where two hold a protein, acts.114, acts.115,
/// io.505.
template <class Progress = no_progress>
std::size_t merge_stores(const std::filesystem::path& into,
                         std::span<const std::filesystem::path> from,
                         const Progress& progress = {}) {
  std::vector<activation_store> stores;
  std::vector<const store_shard*> shards;
  for (const auto& folder : from) {
    stores.push_back(activation_store::open(folder, {.allow_partial = true}));
    stores.front().manifest().require_same(stores.back().manifest(), folder.string());
    for (const auto& shard : stores.back().shards()) shards.push_back(&shard);
  }
  if (shards.empty()) {
    throw error(rules::store_request, {.where = into.string(),
                                       .expected = "stores with shards",
                                       .found = std::to_string(from.size()) + " stores without"});
  }
  const auto refuse = [](const std::string& a, const std::string& b) {
    throw error(rules::store_overlap, {.where = a,
                                       .expected = "proteins of its own",
                                       .found = b,
                                       .remedy = "leave one of the two out"});
  };
  std::ranges::sort(shards, {}, [](const store_shard* s) { return s->range().first; });
  for (std::size_t i = 1; i < shards.size(); ++i) {
    if (shards[i]->range().first < shards[i - 1]->range().end) {
      refuse(shards[i]->path(), shards[i - 1]->path());
    }
  }
  const store_manifest& manifest = stores.front().manifest();
  basic_store_folder<> folder(into, manifest, {0, manifest.proteins});
  std::vector<const store_shard*> wanted;
  for (const store_shard* shard : shards) {
    const auto old = std::ranges::find_if(folder.present(), [&](const protein_range& r) {
      return r.first < shard->range().end && shard->range().first < r.end;
    });
    if (old == folder.present().end()) {
      wanted.push_back(shard);
      continue;
    }
    const std::string path = folder.path(*old).string();
    if (*old != shard->range() ||
        !std::ranges::equal(store_shard(path, manifest, *old).checksums(), shard->checksums())) {
      refuse(shard->path(), path);
    }
  }
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    wanted[i]->verify();
    folder.add(wanted[i]->range(), wanted[i]->bytes());
    progress(i + 1, wanted.size());
  }
  return wanted.size();
}

}  // namespace plmscope::inline PLMSCOPE_ABI
