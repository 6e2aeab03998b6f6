// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/eval/local_alignment.hpp>
#include <plmscope/eval/rules.hpp>
#include <plmscope/eval/similar_pairs.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <numeric>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace plmscope::inline PLMSCOPE_ABI {

/// When two proteins count as related.
struct homology_options {
  double min_identity = 0.30;     ///< equal residues over alignment columns
  double min_coverage = 0.50;     ///< aligned share of the shorter protein
  double max_expectation = 1e-3;  ///< chance alignments of that score expected in the whole set
  /// A pair is worth aligning when it has a stretch without gaps that chance gives a pair of its
  /// lengths at most this often. Larger values find remoter relatives and cost time.
  double stretch_expectation = 0.002;
};

/// Which proteins belong together. Clusters are numbered by their first protein.
struct protein_clusters {
  std::vector<std::uint32_t> of_protein;
  std::size_t count = 0;
  std::size_t candidates = 0;  ///< pairs that share a similar stretch
  std::size_t aligned = 0;     ///< of these, pairs that had to be aligned
};

/// Disjoint sets of 0..n-1; every set is called by its smallest member.
class disjoint_sets {
 public:
  explicit disjoint_sets(std::size_t n) : parent_(n) {
    std::iota(parent_.begin(), parent_.end(), std::uint32_t{0});
  }
  std::uint32_t find(std::uint32_t x) noexcept {
    while (parent_[x] != x) x = parent_[x] = parent_[parent_[x]];
    return x;
  }
  void join(std::uint32_t a, std::uint32_t b) noexcept {
    a = find(a);
    b = find(b);
    parent_[std::max(a, b)] = std::min(a, b);
  }

 private:
  std::vector<std::uint32_t> parent_;
};

/// True when an alignment says that two proteins are related.
inline bool related(const local_alignment& found, std::size_t length_a, std::size_t length_b,
                    std::size_t residues, const homology_options& options) noexcept {
  return found.identity() >= options.min_identity &&
         found.coverage(length_a, length_b) >= options.min_coverage &&
         alignment_expectation(found.score, std::min(length_a, length_b), residues) <=
             options.max_expectation;
}

/// Groups proteins so that related ones (and, by single linkage, the relatives of relatives) stand
/// in one cluster. Equal sequences are always together. `groups` may give every protein a name (its
/// family): proteins with the same non-empty name are joined as well.
/// Pairs that share a similar stretch (`similar_pairs`) are aligned, the most similar first; pairs
/// that stand in one cluster already are not. Cost: that of `similar_pairs` and some nanoseconds
/// per cell of the alignments.
inline protein_clusters cluster_by_homology(std::span<const std::string_view> sequences,
                                            std::span<const std::string_view> groups = {},
                                            const homology_options& options = {}) {
  const auto share = [](double x) { return x >= 0.0 && x <= 1.0; };
  if (!share(options.min_identity) || !share(options.min_coverage)) {
    throw error(rules::cluster_limits, {.where = "homology_options",
                                        .found = std::to_string(options.min_identity) + ", " +
                                                 std::to_string(options.min_coverage)});
  }
  disjoint_sets sets(sequences.size());
  std::map<std::string_view, std::uint32_t> first_with;
  std::map<std::string_view, std::uint32_t> first_called;
  std::vector<std::vector<std::uint8_t>> encoded;
  std::size_t residues = 0;
  for (std::uint32_t p = 0; p < sequences.size(); ++p) {
    sets.join(first_with.try_emplace(sequences[p], p).first->second, p);
    if (p < groups.size() && !groups[p].empty()) {
      sets.join(first_called.try_emplace(groups[p], p).first->second, p);
    }
    encoded.push_back(encode_residues(sequences[p]));
    residues += encoded.back().size();
  }
  if (residues >= UINT32_MAX) {
    throw error(rules::eval_too_large,
                {.where = "clustering", .found = std::to_string(residues) + " residues"});
  }

  protein_clusters out;
  const auto pairs = similar_pairs(encoded, options.stretch_expectation);
  out.candidates = pairs.size();
  local_aligner align;
  for (const similar_pair& pair : pairs) {
    if (sets.find(pair.first) == sets.find(pair.second)) continue;
    ++out.aligned;
    const auto& a = encoded[pair.first];
    const auto& b = encoded[pair.second];
    if (related(align(a, b), a.size(), b.size(), residues, options)) {
      sets.join(pair.first, pair.second);
    }
  }
  std::vector<std::uint32_t> number(sequences.size(), 0);
  for (std::uint32_t p = 0; p < sequences.size(); ++p) {
    if (sets.find(p) == p) number[p] = static_cast<std::uint32_t>(out.count++);
    out.of_protein.push_back(number[sets.find(p)]);
  }
  return out;
}

}  // namespace plmscope::inline PLMSCOPE_ABI
