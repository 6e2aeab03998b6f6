// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/eval/labels.hpp>
#include <plmscope/eval/rules.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace plmscope::inline PLMSCOPE_ABI {

/// Labels laid out for one pass over residues: the concepts of every row, and the instances of
/// every protein with their rows. Instances may have holes, overlap or be empty.
struct label_index {
  std::size_t concepts = 0;
  std::vector<concept_kind> kinds;             ///< per concept
  std::vector<std::uint32_t> row_offsets;      ///< rows + 1, into row_concepts
  std::vector<std::uint32_t> row_concepts;     ///< ascending within a row, no two equal
  std::vector<std::uint32_t> protein_offsets;  ///< proteins + 1, into the instances
  std::vector<std::uint32_t> instance_concepts;
  std::vector<std::uint32_t> instance_offsets;  ///< instances + 1, into instance_rows
  std::vector<std::uint32_t> instance_rows;

  std::size_t rows() const noexcept { return row_offsets.empty() ? 0 : row_offsets.size() - 1; }
  std::size_t proteins() const noexcept {
    return protein_offsets.empty() ? 0 : protein_offsets.size() - 1;
  }
  std::span<const std::uint32_t> at_row(std::size_t row) const noexcept {
    return std::span(row_concepts)
        .subspan(row_offsets[row], row_offsets[row + 1] - row_offsets[row]);
  }
  std::span<const std::uint32_t> rows_of(std::size_t instance) const noexcept {
    const std::uint32_t first = instance_offsets[instance];
    return std::span(instance_rows).subspan(first, instance_offsets[instance + 1] - first);
  }
};

/// Lays out `concepts` for proteins with `lengths` residues that stand one behind the other. This
/// is the one place where UniProt's positions (from 1) become rows (from 0).
inline label_index index_labels(std::span<const concept_label> concepts,
                                std::span<const std::uint32_t> lengths) {
  std::vector<std::uint64_t> first(lengths.size() + 1, 0);
  for (std::size_t p = 0; p < lengths.size(); ++p) first[p + 1] = first[p] + lengths[p];
  if (first.back() >= UINT32_MAX) {
    throw error(rules::eval_too_large, {.where = "labels",
                                        .found = std::to_string(first.back()) + " residues",
                                        .remedy = "score fewer proteins at a time"});
  }
  label_index out;
  out.concepts = concepts.size();
  using row_concept = std::pair<std::uint32_t, std::uint32_t>;
  struct placed {
    std::uint32_t concept_id;
    const concept_instance* at;
  };
  std::vector<std::vector<placed>> by_protein(lengths.size());
  for (std::size_t c = 0; c < concepts.size(); ++c) {
    out.kinds.push_back(concepts[c].kind);
    for (const concept_instance& i : concepts[c].instances) {
      if (i.protein >= lengths.size() || i.begin < 1 || i.end < i.begin ||
          i.end > lengths[i.protein]) {
        throw error(rules::split_proteins,
                    {.where = concepts[c].name,
                     .found = "residues " + std::to_string(i.begin) + ".." + std::to_string(i.end) +
                              " of protein " + std::to_string(i.protein),
                     .remedy = "make the concepts from the same list of proteins"});
      }
      by_protein[i.protein].push_back({static_cast<std::uint32_t>(c), &i});
    }
  }
  std::vector<row_concept> pairs;  // of one protein
  out.row_offsets.assign(1, 0);
  out.protein_offsets.assign(1, 0);
  out.instance_offsets.assign(1, 0);
  for (std::size_t p = 0; p < lengths.size(); ++p) {
    pairs.clear();
    for (const auto& [c, at] : by_protein[p]) {
      const bool ends_only = concepts[c].kind == concept_kind::pair;
      for (std::uint32_t position = at->begin; position <= at->end; ++position) {
        if (ends_only && position != at->begin && position != at->end) continue;
        const auto row = static_cast<std::uint32_t>(first[p] + position - 1);
        pairs.emplace_back(row, c);
        out.instance_rows.push_back(row);
      }
      out.instance_concepts.push_back(c);
      out.instance_offsets.push_back(static_cast<std::uint32_t>(out.instance_rows.size()));
    }
    out.protein_offsets.push_back(static_cast<std::uint32_t>(out.instance_concepts.size()));
    std::ranges::sort(pairs);
    const auto repeated = std::ranges::unique(pairs);
    pairs.erase(repeated.begin(), repeated.end());
    auto next = pairs.begin();
    for (std::uint64_t row = first[p]; row < first[p + 1]; ++row) {
      for (; next != pairs.end() && next->first == row; ++next) {
        out.row_concepts.push_back(next->second);
      }
      out.row_offsets.push_back(static_cast<std::uint32_t>(out.row_concepts.size()));
    }
  }
  return out;
}

}  // namespace plmscope::inline PLMSCOPE_ABI
