// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/acts/rules.hpp>
#include <plmscope/acts/shard_layout.hpp>
#include <plmscope/acts/store_manifest.hpp>
#include <plmscope/io/fasta.hpp>

#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <span>
#include <string>
#include <system_error>
#include <vector>

namespace plmscope::inline PLMSCOPE_ABI {

/// What writing will cost, to the byte, before anything is written.
struct store_estimate {
  std::size_t shards = 0;
  std::size_t proteins = 0;
  std::size_t rows = 0;
  std::size_t bytes = 0;
};

/// Where the shards of a store begin and end. The boundaries follow from the list alone, so that
/// writers of different ranges, and writers that were killed and started again, cut the same
/// shards.
class store_plan {
 public:
  /// The shards of the whole list. The list must outlive the plan.
  store_plan(const store_manifest& manifest, std::span<const protein_sequence> proteins)
      : manifest_(manifest), proteins_(proteins) {
    std::size_t rows = 0;
    for (std::size_t p = 0; p < proteins.size(); ++p) {
      rows += proteins[p].sequence.size();
      if (rows >= manifest.shard_rows || p + 1 == proteins.size()) {
        ends_.push_back(p + 1);
        rows = 0;
      }
    }
  }

  /// Refuses (acts.106) a range that is empty or leaves the list.
  void check(protein_range range) const {
    if (range.first < range.end && range.end <= proteins_.size()) return;
    throw error(rules::store_range,
                {.expected = "0 <= A < B <= " + std::to_string(proteins_.size()),
                 .found = std::to_string(range.first) + ":" + std::to_string(range.end)});
  }

  /// Part `part` of `parts` (from 0) of the list, cut where shards end: the ranges of several
  /// writers whose stores, merged, are the bytes of a single writer's.
  protein_range part(std::size_t part, std::size_t parts) const {
    const auto at = [&](std::size_t i) {
      const std::size_t shard = ends_.size() * i / parts;
      return shard == 0 ? 0 : ends_[shard - 1];
    };
    if (parts == 0 || part >= parts || parts > ends_.size()) {
      throw error(
          rules::store_range,
          {.expected = "part 1 to N of N, at most " + std::to_string(ends_.size()) + " parts",
           .found = std::to_string(part + 1) + " of " + std::to_string(parts)});
    }
    return {at(part), at(part + 1)};
  }

  /// What of `range` no shard of `present` (ascending, disjoint) covers yet, cut into shards.
  std::vector<protein_range> missing(protein_range range,
                                     std::span<const protein_range> present) const {
    std::vector<protein_range> out;
    std::size_t next = range.first;
    for (std::size_t i = 0; next < range.end;) {
      while (i < present.size() && present[i].end <= next) ++i;
      if (i < present.size() && present[i].first <= next) {
        next = present[i].end;
        continue;
      }
      std::size_t end = *std::upper_bound(ends_.begin(), ends_.end(), next);
      end = std::min(end, range.end);
      if (i < present.size()) end = std::min(end, present[i].first);
      out.push_back({next, end});
      next = end;
    }
    return out;
  }

  store_estimate estimate(std::span<const protein_range> shards) const {
    store_estimate sum;
    for (const auto& s : shards) {
      const shard_layout layout = shard_layout::of(manifest_, proteins_, s);
      ++sum.shards;
      sum.proteins += s.size();
      sum.rows += layout.rows;
      sum.bytes += layout.file_bytes;
    }
    return sum;
  }

 private:
  store_manifest manifest_;
  std::span<const protein_sequence> proteins_;
  std::vector<std::size_t> ends_;  // of shards, ascending
};

/// How many rows make a shard of about `bytes`; at least one.
inline std::size_t shard_rows_for(const store_manifest& manifest, std::size_t bytes) {
  return std::max<std::size_t>(1, bytes / std::max<std::size_t>(1, manifest.row_bytes()));
}

/// Bytes that a user may still write where `folder` is or will be; 0 where the system does not say.
inline std::size_t free_bytes(std::filesystem::path folder) {
  std::error_code failure;
  folder = std::filesystem::absolute(folder, failure);
  while (!std::filesystem::exists(folder, failure) && folder.has_relative_path()) {
    folder = folder.parent_path();
  }
  const auto space = std::filesystem::space(folder, failure);
  return failure ? 0 : static_cast<std::size_t>(space.available);
}

/// Refuses (acts.119) to begin what the disk cannot hold.
inline void require_free(const std::filesystem::path& folder, const store_estimate& estimate) {
  const std::size_t free = free_bytes(folder);
  if (estimate.bytes <= free) return;
  throw error(rules::store_space,
              {.where = folder.string(),
               .expected = std::to_string(estimate.bytes) + " bytes",
               .found = std::to_string(free) + " bytes free",
               .remedy = "choose another disk, fewer sites, bf16, or a part of the proteins"});
}

}  // namespace plmscope::inline PLMSCOPE_ABI
