// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/eval/concept_counts.hpp>
#include <plmscope/eval/concept_result.hpp>
#include <plmscope/eval/split.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace plmscope::inline PLMSCOPE_ABI {

struct score_options {
  threshold_grid grid;
  double min_pair_score = 0.2;  ///< pairs below this on validation are not listed
  /// Largest tables of counts, in bytes; more concepts than fit are scored in further passes.
  std::size_t memory = std::size_t{1} << 30;
};

/// Features scored against concepts. Every choice (feature, threshold, order) was made on the
/// validation proteins; the held-out numbers were looked at afterwards.
struct concept_scores {
  /// The best feature of every concept, in the order of the concepts; `found()` is false where no
  /// feature is ever right on validation.
  std::vector<concept_result> best;
  /// All pairs of a feature and a concept that reach `min_pair_score` on validation, best first.
  std::vector<concept_result> pairs;
  std::vector<float> feature_max;  ///< on the validation proteins

  /// For every feature the position in `pairs` of its best concept, or pairs.size().
  std::vector<std::size_t> name_of_feature() const {
    std::vector<std::size_t> out(feature_max.size(), pairs.size());
    for (std::size_t i = pairs.size(); i-- > 0;) out[pairs[i].feature] = i;
    return out;
  }
};

namespace score_concepts_detail {

/// Better by score, then by residue F1; what was there first stays on a tie.
inline bool better(const concept_quality& a, const concept_quality& b) noexcept {
  if (!(a.score == b.score)) return a.score > b.score || (a.defined() && !b.defined());
  return a.f1_by_residue > b.f1_by_residue;
}

/// The best threshold of a feature for a concept, on validation.
template <class Metric>
concept_result best_threshold(const concept_counts& validation, std::uint32_t c,
                              std::uint32_t feature, const Metric& metric) {
  concept_result out;
  out.feature = feature;
  out.validation = quality_of(validation.at(c, feature, 0), validation.kind(c), metric);
  for (std::uint32_t t = 1; t < validation.thresholds(); ++t) {
    const auto q = quality_of(validation.at(c, feature, t), validation.kind(c), metric);
    if (!better(q, out.validation)) continue;
    out.validation = q;
    out.threshold_index = t;
  }
  return out;
}

/// Chooses on `validation`, then reads `held_out` for what was chosen. Concepts of the counts begin
/// at `first_concept` of the set.
template <class Metric>
void choose(const concept_counts& validation, const concept_counts& held_out,
            const feature_thresholds& thresholds, std::size_t first_concept, double min_pair_score,
            const Metric& metric, std::vector<concept_result>& best,
            std::vector<concept_result>& pairs) {
  const auto complete = [&](concept_result r, std::size_t c) {
    r.concept_id = static_cast<std::uint32_t>(first_concept + c);
    r.threshold = thresholds.of(r.feature)[r.threshold_index];
    r.held_out = quality_of(held_out.at(c, r.feature, r.threshold_index), held_out.kind(c), metric);
    return r;
  };
  for (std::uint32_t c = 0; c < validation.concepts(); ++c) {
    concept_result top;
    for (std::uint32_t f = 0; f < validation.features(); ++f) {
      const concept_result r = best_threshold(validation, c, f, metric);
      if (r.validation.score >= min_pair_score && r.found()) pairs.push_back(complete(r, c));
      if (f == 0 || better(r.validation, top.validation)) top = r;
    }
    best.push_back(validation.features() == 0 ? concept_result{} : complete(top, c));
  }
}

inline void order_pairs(std::vector<concept_result>& pairs) {
  std::ranges::sort(pairs, [](const concept_result& a, const concept_result& b) {
    if (better(a.validation, b.validation)) return true;
    if (better(b.validation, a.validation)) return false;
    return a.concept_id != b.concept_id ? a.concept_id < b.concept_id : a.feature < b.feature;
  });
}

inline void check_split(const protein_split& split, std::size_t proteins) {
  std::vector<bool> seen(proteins, false);
  for (const auto* side : {&split.validation, &split.held_out}) {
    for (const std::uint32_t p : *side) {
      if (p < proteins && !seen[p]) {
        seen[p] = true;
        continue;
      }
      throw error(rules::split_proteins,
                  {.where = "split",
                   .expected = "each of " + std::to_string(proteins) + " proteins at most once",
                   .found = "protein " + std::to_string(p) + (p < proteins ? " again" : ""),
                   .remedy = "make the split from the same list of proteins"});
    }
  }
}

}  // namespace score_concepts_detail

/// Scores every feature against every concept at a grid of shares of its maximum (on validation),
/// chooses feature and threshold of every concept on the validation proteins and reports both on
/// the held-out ones. Ties go to the smaller feature id, then to the smaller threshold. Cost: two
/// passes over the sparse codes (maxima, counts); concepts x features x thresholds to choose. The
/// result does not depend on anything but the input.
template <concept_metric Metric = f1_by_domain>
concept_scores score_concepts(const sparse_activations& acts, const concept_set& concepts,
                              const protein_split& split, const score_options& options = {},
                              const Metric& metric = {}) {
  namespace detail = score_concepts_detail;
  acts.check();
  detail::check_split(split, acts.proteins());
  concept_scores out;
  out.feature_max = feature_maxima(acts, split.validation);
  const feature_thresholds thresholds(out.feature_max, options.grid);
  const std::size_t one = 2 * concept_counts::bytes(1, acts.features, thresholds.per_feature());
  const std::size_t block =
      std::max<std::size_t>(1, options.memory / std::max<std::size_t>(one, 1));
  const std::span<const concept_label> all(concepts.concepts);
  for (std::size_t first = 0; first < all.size(); first += block) {
    const auto part = all.subspan(first, std::min(block, all.size() - first));
    const label_index labels = index_labels(part, concepts.lengths);
    const auto validation = count_concepts(acts, labels, thresholds, split.validation);
    const auto held_out = count_concepts(acts, labels, thresholds, split.held_out);
    detail::choose(validation, held_out, thresholds, first, options.min_pair_score, metric,
                   out.best, out.pairs);
  }
  detail::order_pairs(out.pairs);
  return out;
}

}  // namespace plmscope::inline PLMSCOPE_ABI
