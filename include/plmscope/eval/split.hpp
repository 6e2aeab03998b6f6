// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/core/rng.hpp>
#include <plmscope/eval/homology_clusters.hpp>
#include <plmscope/eval/labels.hpp>
#include <plmscope/eval/rules.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace plmscope::inline PLMSCOPE_ABI {

/// Two disjoint lists of proteins (by position, ascending): everything is chosen on `validation`
/// and reported on `held_out`.
struct protein_split {
  std::vector<std::uint32_t> validation;
  std::vector<std::uint32_t> held_out;
  std::vector<std::uint32_t> cluster;  ///< per protein; no cluster is on both sides
  std::size_t clusters = 0;
  std::size_t validation_clusters = 0;
  std::size_t held_out_clusters = 0;
  std::size_t validation_residues = 0;
  std::size_t held_out_residues = 0;
};

struct split_options {
  double held_out = 0.5;  ///< share of residues and of every concept's instances
  std::uint64_t seed = 0;
  bool join_families = true;  ///< the same text in "Protein families" is one cluster
  homology_options homology;
};

namespace split_detail {

/// What a cluster brings: residues first, then instances per concept that it has.
struct load {
  std::vector<std::pair<std::size_t, double>> amounts;  // dimension, amount
  double residues = 0.0;
};

}  // namespace split_detail

/// Deals clusters whole to the two sides. Large clusters go first, in an order that depends on the
/// seed; each goes where residues and the instances of its concepts then stand nearest to the
/// wanted shares (least squares over the running shares). The same input and seed give the same
/// split.
inline protein_split deal_clusters(std::span<const std::uint32_t> cluster_of_protein,
                                   std::size_t clusters, const concept_set& concepts,
                                   double held_out_share = 0.5, std::uint64_t seed = 0) {
  using split_detail::load;
  if (!(held_out_share > 0.0 && held_out_share < 1.0)) {
    throw error(rules::split_share,
                {.where = "split_options", .found = std::to_string(held_out_share)});
  }
  if (concepts.lengths.size() != cluster_of_protein.size()) {
    throw error(rules::split_proteins,
                {.where = "split",
                 .expected = std::to_string(cluster_of_protein.size()) + " proteins",
                 .found = std::to_string(concepts.lengths.size())});
  }
  std::vector<load> loads(clusters);
  std::vector<double> totals(concepts.size() + 1, 0.0);
  for (std::size_t p = 0; p < cluster_of_protein.size(); ++p) {
    loads[cluster_of_protein[p]].residues += concepts.lengths[p];
    totals[0] += concepts.lengths[p];
  }
  for (auto& l : loads) l.amounts.emplace_back(0, l.residues);
  for (std::size_t c = 0; c < concepts.size(); ++c) {
    std::map<std::uint32_t, double> per_cluster;
    for (const auto& i : concepts.concepts[c].instances) {
      per_cluster[cluster_of_protein[i.protein]] += 1.0;
      totals[c + 1] += 1.0;
    }
    for (const auto& [k, n] : per_cluster) loads[k].amounts.emplace_back(c + 1, n);
  }

  // Clusters of the same order of magnitude in random order, the large ones first.
  std::vector<std::uint32_t> order(clusters);
  std::vector<std::pair<int, std::uint64_t>> key(clusters);
  const rng random(seed, 0x5b117);
  for (std::uint32_t k = 0; k < clusters; ++k) {
    order[k] = k;
    key[k] = {-std::ilogb(std::max(loads[k].residues, 1.0)), random.bits(k)};
  }
  std::ranges::sort(order, [&](auto a, auto b) { return key[a] < key[b]; });

  // balance[d]: instances on the held-out side / their share - those on the other / theirs.
  std::vector<double> balance(totals.size(), 0.0);
  std::vector<bool> held(clusters, false);
  for (const std::uint32_t k : order) {
    double gain = 0.0;
    for (const auto& [d, amount] : loads[k].amounts) {
      const double to_held = balance[d] + amount / held_out_share;
      const double to_validation = balance[d] - amount / (1.0 - held_out_share);
      // Residues weigh as much as four concepts.
      const double weight = (d == 0 ? 4.0 : 1.0) / (totals[d] * totals[d]);
      gain += weight * (to_validation * to_validation - to_held * to_held);
    }
    held[k] = gain > 0.0 || (gain == 0.0 && random.uniform(clusters + k) < held_out_share);
    for (const auto& [d, amount] : loads[k].amounts) {
      balance[d] += held[k] ? amount / held_out_share : -amount / (1.0 - held_out_share);
    }
  }

  protein_split out;
  out.cluster.assign(cluster_of_protein.begin(), cluster_of_protein.end());
  out.clusters = clusters;
  for (const bool h : held) ++(h ? out.held_out_clusters : out.validation_clusters);
  for (std::uint32_t p = 0; p < cluster_of_protein.size(); ++p) {
    const bool h = held[cluster_of_protein[p]];
    (h ? out.held_out : out.validation).push_back(p);
    (h ? out.held_out_residues : out.validation_residues) += concepts.lengths[p];
  }
  return out;
}

/// Splits annotated proteins so that no protein has a relative on the other side.
/// Cost: see `cluster_by_homology`.
inline protein_split homology_split(std::span<const annotated_protein> proteins,
                                    const concept_set& concepts,
                                    const split_options& options = {}) {
  std::vector<std::string_view> sequences;
  std::vector<std::string_view> families;
  for (const auto& p : proteins) {
    sequences.push_back(p.sequence);
    if (options.join_families) families.push_back(p.family);
  }
  const protein_clusters found = cluster_by_homology(sequences, families, options.homology);
  return deal_clusters(found.of_protein, found.count, concepts, options.held_out, options.seed);
}

/// Every second protein of the list is held out, relatives or not: the split of many published
/// trials, for comparing with them. It leaks wherever the list holds homologues; every protein is
/// called a cluster of its own.
inline protein_split alternating_split(const concept_set& concepts) {
  protein_split out;
  out.clusters = concepts.lengths.size();
  for (std::uint32_t p = 0; p < concepts.lengths.size(); ++p) {
    out.cluster.push_back(p);
    const bool held = p % 2 == 1;
    (held ? out.held_out : out.validation).push_back(p);
    ++(held ? out.held_out_clusters : out.validation_clusters);
    (held ? out.held_out_residues : out.validation_residues) += concepts.lengths[p];
  }
  return out;
}

}  // namespace plmscope::inline PLMSCOPE_ABI
