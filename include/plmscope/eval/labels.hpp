// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/eval/concept_name.hpp>
#include <plmscope/eval/metrics.hpp>
#include <plmscope/io/uniprot_tsv.hpp>

#include <algorithm>
#include <array>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace plmscope::inline PLMSCOPE_ABI {

/// One annotated place, in UniProt's coordinates: first and last residue, counted from 1, both
/// included. For `concept_kind::pair` only these two residues carry the label.
struct concept_instance {
  std::uint32_t protein = 0;
  std::uint32_t begin = 0;
  std::uint32_t end = 0;

  friend bool operator==(const concept_instance&, const concept_instance&) = default;
  friend auto operator<=>(const concept_instance&, const concept_instance&) = default;
};

/// One thing that UniProt annotates and a feature may stand for.
struct concept_label {
  std::string name;    ///< "Transmembrane", "Binding site: ATP"
  std::string column;  ///< "Binding site"
  concept_kind kind = concept_kind::domain;
  std::vector<concept_instance> instances{};  ///< ascending, no two equal
  std::size_t entries = 0;                    ///< annotations read, repeated ones included
  std::size_t residues = 0;                   ///< residues with the label, each counted once
  std::size_t proteins = 0;                   ///< proteins with an instance
};

/// Which concepts are worth scoring. The defaults suit some hundred proteins; InterPLM's limits for
/// Swiss-Prot are `min_instances = 26, min_residues = 1501`.
struct concept_options {
  std::size_t min_instances = 15;  ///< this many instances
  std::size_t min_residues = 500;  ///< or this many residues,
  std::size_t min_proteins = 8;    ///< and always this many proteins
  bool fold_ordinals = true;       ///< "EF-hand 1" and "EF-hand 2" are both "EF-hand"
  bool whole_columns = true;       ///< "Binding site" beside "Binding site: ATP"
  bool sub_concepts = true;        ///< one concept per note or ligand
  /// Columns that hold things with nothing in common: no whole-column concept is made of them.
  std::vector<std::string> mixed_columns{"Compositional bias", "Domain", "Modified residue",
                                         "Motif", "Region"};
  /// Columns about the record, not the molecule, and columns that cover whole proteins.
  std::vector<std::string> ignored_columns{"Alternative sequence", "Chain",
                                           "Initiator methionine", "Mutagenesis",
                                           "Natural variant",      "Non-adjacent residues",
                                           "Non-terminal residue", "Sequence conflict",
                                           "Sequence uncertainty"};
  /// Entries without a note or ligand count for the whole column (InterPLM drops them, and with
  /// them every signal peptide).
  bool unnamed_entries = true;
};

/// The concepts of a list of proteins, ordered by name. Instances refer to proteins by position.
struct concept_set {
  std::vector<concept_label> concepts;
  std::vector<std::uint32_t> lengths;  ///< residues of every protein
  std::size_t skipped_entries = 0;     ///< annotations outside their sequence, or end before begin

  std::size_t size() const noexcept { return concepts.size(); }
  /// Position of the concept called `name`, or size().
  std::size_t find(std::string_view name) const noexcept {
    const auto at = std::ranges::find(concepts, name, &concept_label::name);
    return static_cast<std::size_t>(at - concepts.begin());
  }
};

namespace labels_detail {

template <class List>
bool one_of(std::string_view text, const List& list) noexcept {
  return std::ranges::find(list, text) != list.end();
}

/// Sites stay residue-level whatever their lengths; elsewhere (binding sites, sites) a concept is
/// residue-level when its instances are mostly single residues.
inline concept_kind kind_of(const concept_label& c) noexcept {
  static constexpr std::array<std::string_view, 4> sites{"Active site", "Glycosylation",
                                                         "Lipidation", "Modified residue"};
  if (c.kind == concept_kind::pair) return concept_kind::pair;
  if (one_of(c.column, sites)) return concept_kind::residue;
  const auto single = [](const concept_instance& i) { return i.begin == i.end; };
  const auto singles = static_cast<std::size_t>(std::ranges::count_if(c.instances, single));
  return 2 * singles >= c.instances.size() ? concept_kind::residue : concept_kind::domain;
}

/// Orders instances, drops repeated ones and fills in what is derived from them.
inline void finish(concept_label& c) {
  c.entries = c.instances.size();
  std::ranges::sort(c.instances);
  const auto repeated = std::ranges::unique(c.instances);
  c.instances.erase(repeated.begin(), repeated.end());
  c.kind = kind_of(c);
  std::vector<std::pair<std::uint32_t, std::uint32_t>> ends;
  for (std::size_t i = 0; i < c.instances.size(); ++i) {
    const concept_instance& at = c.instances[i];
    const bool first = i == 0 || c.instances[i - 1].protein != at.protein;
    c.proteins += first ? 1 : 0;
    if (c.kind == concept_kind::pair) {
      ends.emplace_back(at.protein, at.begin);
      ends.emplace_back(at.protein, at.end);
      continue;
    }
    // Instances of a protein ascend by begin: count what lies behind the furthest end so far.
    const std::uint32_t covered = first ? 0 : ends.back().second;
    if (at.end > covered) c.residues += at.end - std::max(covered, at.begin - 1);
    ends.emplace_back(at.protein, std::max(covered, at.end));
  }
  if (c.kind == concept_kind::pair) {
    std::ranges::sort(ends);
    c.residues = static_cast<std::size_t>(std::ranges::unique(ends).begin() - ends.begin());
  }
}

inline bool wanted(const concept_label& c, const concept_options& options) noexcept {
  const bool large =
      c.instances.size() >= options.min_instances || c.residues >= options.min_residues;
  return large && c.proteins >= options.min_proteins;
}

}  // namespace labels_detail

/// Collects the concepts annotated in `proteins`: one for every feature column, one for every note
/// (ligand, for binding sites) in it. A sub-concept with exactly the instances of its column is
/// left out. Annotations that do not lie in their sequence are skipped and counted. Cost: linear in
/// the annotations, with a sort per concept.
inline concept_set make_concepts(std::span<const annotated_protein> proteins,
                                 const concept_options& options = {}) {
  concept_set out;
  std::map<std::string, concept_label, std::less<>> found;
  const auto add = [&](std::string name, std::string_view column, bool ends, concept_instance at) {
    concept_label& c = found.try_emplace(std::move(name)).first->second;
    if (c.column.empty()) c.column = column;
    if (ends) c.kind = concept_kind::pair;
    c.instances.push_back(at);
  };
  for (std::size_t p = 0; p < proteins.size(); ++p) {
    const std::size_t length = proteins[p].sequence.size();
    out.lengths.push_back(static_cast<std::uint32_t>(length));
    for (const auto& f : proteins[p].features) {
      const std::string column(concept_column(f.column));
      if (labels_detail::one_of(column, options.ignored_columns)) continue;
      if (f.begin < 1 || f.end < f.begin || f.end > length) {
        ++out.skipped_entries;
        continue;
      }
      const concept_instance at{static_cast<std::uint32_t>(p), static_cast<std::uint32_t>(f.begin),
                                static_cast<std::uint32_t>(f.end)};
      const std::string_view text =
          concept_text(f.ligand.empty() ? f.note : f.ligand, options.fold_ordinals);
      if (!text.empty() || options.unnamed_entries) add(column, column, f.linked_ends, at);
      if (!text.empty()) add(column + ": " + std::string(text), column, f.linked_ends, at);
    }
  }
  for (auto& [name, c] : found) labels_detail::finish(c);
  for (auto& [name, c] : found) {
    const bool whole = name == c.column;
    if (!labels_detail::wanted(c, options)) continue;
    if (whole ? !options.whole_columns : !options.sub_concepts) continue;
    const bool mixed = labels_detail::one_of(c.column, options.mixed_columns);
    if (whole && mixed) continue;
    const auto parent = found.find(c.column);
    const bool parent_stays = options.whole_columns && !mixed;
    if (!whole && parent_stays && parent->second.instances.size() == c.instances.size()) continue;
    out.concepts.push_back(c);
    out.concepts.back().name = name;
  }
  return out;
}

}  // namespace plmscope::inline PLMSCOPE_ABI
