// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/eval/concept_result.hpp>
#include <plmscope/eval/label_index.hpp>
#include <plmscope/eval/split.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace plmscope::inline PLMSCOPE_ABI {

/// How well a concept is predicted by nothing but the kind of the residue.
struct amino_acid_result {
  std::string letters;  ///< the set that was best on validation, best letter first
  concept_quality validation;
  concept_quality held_out;
};

namespace amino_acid_baseline_detail {

inline constexpr std::size_t kinds = 27;  // A to Z, then everything else

inline std::size_t kind_of(char letter) noexcept {
  if (letter >= 'A' && letter <= 'Z') return static_cast<std::size_t>(letter - 'A');
  if (letter >= 'a' && letter <= 'z') return static_cast<std::size_t>(letter - 'a');
  return kinds - 1;
}

/// Counts per residue kind on some proteins, for all concepts.
struct letter_counts {
  std::array<std::uint64_t, kinds> residues{};
  std::vector<std::array<std::uint64_t, kinds>> labelled;  // per concept
  std::vector<std::vector<std::uint32_t>> instance_kinds;  // per concept: set of kinds, as bits

  letter_counts(std::span<const std::string_view> sequences, const label_index& labels,
                std::span<const std::uint32_t> proteins)
      : labelled(labels.concepts), instance_kinds(labels.concepts) {
    std::vector<std::size_t> first(sequences.size() + 1, 0);
    for (std::size_t p = 0; p < sequences.size(); ++p)
      first[p + 1] = first[p] + sequences[p].size();
    for (const std::uint32_t p : proteins) {
      for (std::size_t i = 0; i < sequences[p].size(); ++i) {
        const std::size_t kind = kind_of(sequences[p][i]);
        ++residues[kind];
        for (const std::uint32_t c : labels.at_row(first[p] + i)) ++labelled[c][kind];
      }
      for (std::size_t n = labels.protein_offsets[p]; n < labels.protein_offsets[p + 1]; ++n) {
        std::uint32_t set = 0;
        for (const std::uint32_t row : labels.rows_of(n)) {
          set |= std::uint32_t{1} << kind_of(sequences[p][row - first[p]]);
        }
        instance_kinds[labels.instance_concepts[n]].push_back(set);
      }
    }
  }

  /// What the predictor "residue is one of `set`" does for concept c.
  tally of(std::size_t c, std::uint32_t set, concept_kind kind) const noexcept {
    tally t;
    for (std::size_t k = 0; k < kinds; ++k) {
      t.positives += labelled[c][k];
      if ((set >> k & 1u) == 0) continue;
      t.tp += labelled[c][k];
      t.fp += residues[k] - labelled[c][k];
    }
    t.instances = instance_kinds[c].size();
    if (kind == concept_kind::domain) {
      t.hits = static_cast<std::uint64_t>(std::ranges::count_if(
          instance_kinds[c], [&](std::uint32_t kinds_in) { return (kinds_in & set) != 0; }));
    }
    return t;
  }
};

}  // namespace amino_acid_baseline_detail

/// For every concept the best predictor that sees only which amino acid a residue is: amino acids
/// are taken in the order of their precision on validation (share of their residues that carry the
/// label), and the prefix with the best score there is kept; under `f1_by_residue` no other set is
/// better on validation. The set of all amino acids is among them, so this is also a bar for
/// features that fire everywhere. Evaluated like a feature, on the same held-out proteins.
template <concept_metric Metric = f1_by_domain>
std::vector<amino_acid_result> amino_acid_baseline(std::span<const std::string_view> sequences,
                                                   const concept_set& concepts,
                                                   const protein_split& split,
                                                   const Metric& metric = {}) {
  using namespace amino_acid_baseline_detail;
  bool same = sequences.size() == concepts.lengths.size();
  for (std::size_t p = 0; same && p < sequences.size(); ++p) {
    same = sequences[p].size() == concepts.lengths[p];
  }
  if (!same) {
    throw error(rules::split_proteins,
                {.where = "sequences",
                 .expected = std::to_string(concepts.lengths.size()) + " proteins of the labels",
                 .found = std::to_string(sequences.size()) + " sequences, or other lengths"});
  }
  const label_index labels = index_labels(concepts.concepts, concepts.lengths);
  const letter_counts validation(sequences, labels, split.validation);
  const letter_counts held_out(sequences, labels, split.held_out);
  std::vector<amino_acid_result> out;
  for (std::size_t c = 0; c < concepts.size(); ++c) {
    std::array<std::size_t, kinds> order{};
    std::iota(order.begin(), order.end(), std::size_t{0});
    const auto& labelled = validation.labelled[c];
    // a before b when labelled[a] / residues[a] is larger (exact); letters never seen come last.
    const auto& residues = validation.residues;
    std::ranges::sort(order, [&](std::size_t a, std::size_t b) {
      if ((residues[a] == 0) != (residues[b] == 0)) return residues[b] == 0;
      const std::uint64_t left = labelled[a] * residues[b];
      const std::uint64_t right = labelled[b] * residues[a];
      return left != right ? left > right : a < b;
    });
    const concept_kind kind = labels.kinds[c];
    amino_acid_result result;
    result.validation = quality_of(validation.of(c, 0, kind), kind, metric);
    std::uint32_t set = 0;
    std::uint32_t best_set = 0;
    for (const std::size_t k : order) {
      if (validation.residues[k] == 0) break;
      set |= std::uint32_t{1} << k;
      const auto q = quality_of(validation.of(c, set, kind), kind, metric);
      if (!(q.score > result.validation.score)) continue;
      result.validation = q;
      best_set = set;
    }
    for (const std::size_t k : order) {
      if ((best_set >> k & 1u) != 0) {
        result.letters += k + 1 < kinds ? static_cast<char>('A' + static_cast<int>(k)) : '?';
      }
    }
    result.held_out = quality_of(held_out.of(c, best_set, kind), kind, metric);
    out.push_back(std::move(result));
  }
  return out;
}

}  // namespace plmscope::inline PLMSCOPE_ABI
