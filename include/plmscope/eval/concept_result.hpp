// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/eval/metrics.hpp>

#include <cmath>
#include <cstddef>
#include <cstdint>

namespace plmscope::inline PLMSCOPE_ABI {

/// What a predictor reached on one side of the split. Numbers that are not defined there (no
/// positives) are NaN: print "n/a".
struct concept_quality {
  tally counts;
  double precision = 0.0;
  double residue_recall = not_defined;
  double domain_recall = not_defined;
  double f1_by_residue = not_defined;
  double f1_by_domain = not_defined;
  double score = not_defined;  ///< the one that the chosen protocol looks at

  bool defined() const noexcept { return !std::isnan(score); }
};

template <concept_metric Metric>
concept_quality quality_of(const tally& t, concept_kind kind, const Metric& metric) noexcept {
  return {.counts = t,
          .precision = precision(t),
          .residue_recall = residue_recall(t),
          .domain_recall = domain_recall(t, kind),
          .f1_by_residue = f1_by_residue::score(t, kind),
          .f1_by_domain = f1_by_domain::score(t, kind),
          .score = metric.score(t, kind)};
}

/// A feature as a predictor of a concept, with the threshold that was best on validation.
struct concept_result {
  std::uint32_t concept_id = 0;  ///< position in the concept_set
  std::uint32_t feature = 0;
  std::uint32_t threshold_index = 0;
  float threshold = 0.0f;  ///< active above this value
  concept_quality validation{};
  concept_quality held_out{};

  bool found() const noexcept { return validation.score > 0.0; }
};

}  // namespace plmscope::inline PLMSCOPE_ABI
