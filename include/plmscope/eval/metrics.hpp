// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/config.hpp>

#include <cmath>
#include <concepts>
#include <cstdint>
#include <limits>
#include <string_view>

namespace plmscope::inline PLMSCOPE_ABI {

/// How recall is counted for a concept.
enum class concept_kind : std::uint8_t {
  residue,  ///< every labelled residue counts (active sites, modified residues)
  pair,   ///< as `residue`; of an annotation begin..end only the two ends are labelled (disulfides)
  domain  ///< an annotated stretch counts as found when one of its residues is active
};

/// What a predictor did on one set of proteins, in whole numbers.
struct tally {
  std::uint64_t tp = 0;         ///< active residues with the label
  std::uint64_t fp = 0;         ///< active residues without it
  std::uint64_t positives = 0;  ///< residues with the label
  std::uint64_t hits = 0;  ///< instances with an active residue (kept for domain concepts only)
  std::uint64_t instances = 0;  ///< instances of the concept

  friend bool operator==(const tally&, const tally&) = default;
};

/// A quotient that has no meaning here: printed as "n/a", written to JSON as null.
inline constexpr double not_defined = std::numeric_limits<double>::quiet_NaN();

/// Share of the active residues that carry the label; 0 when nothing is active.
inline double precision(const tally& t) noexcept {
  const std::uint64_t active = t.tp + t.fp;
  return active == 0 ? 0.0 : static_cast<double>(t.tp) / static_cast<double>(active);
}

/// Share of the labelled residues that are active; `not_defined` when no residue is labelled.
inline double residue_recall(const tally& t) noexcept {
  if (t.positives == 0) return not_defined;
  return static_cast<double>(t.tp) / static_cast<double>(t.positives);
}

/// Share of the instances with at least one active residue for domain concepts, the recall of
/// residues for the others; `not_defined` without instances.
inline double domain_recall(const tally& t, concept_kind kind) noexcept {
  if (kind != concept_kind::domain) return residue_recall(t);
  if (t.instances == 0) return not_defined;
  return static_cast<double>(t.hits) / static_cast<double>(t.instances);
}

/// Harmonic mean; 0 when both are 0, `not_defined` when one of them is.
inline double f1(double precision_value, double recall_value) noexcept {
  if (std::isnan(precision_value) || std::isnan(recall_value)) return not_defined;
  const double sum = precision_value + recall_value;
  return sum == 0.0 ? 0.0 : 2.0 * precision_value * recall_value / sum;
}

/// Precision per residue with recall per domain: the measure of InterPLM (Simon and Zou 2024). It
/// rewards a feature that marks a short part of every domain, so look at the plain F1 as well.
struct f1_by_domain {
  static constexpr std::string_view id = "f1_by_domain";
  static double score(const tally& t, concept_kind kind) noexcept {
    return f1(precision(t), domain_recall(t, kind));
  }
};

/// Precision and recall per residue, whatever the kind of the concept.
struct f1_by_residue {
  static constexpr std::string_view id = "f1_by_residue";
  static double score(const tally& t, concept_kind) noexcept {
    return f1(precision(t), residue_recall(t));
  }
};

/// A protocol turns a tally into one number in [0, 1], or `not_defined`.
template <class M>
concept concept_metric = requires(const M& metric, const tally& t, concept_kind kind) {
  { metric.score(t, kind) } -> std::same_as<double>;
  { M::id } -> std::convertible_to<std::string_view>;
};

}  // namespace plmscope::inline PLMSCOPE_ABI
