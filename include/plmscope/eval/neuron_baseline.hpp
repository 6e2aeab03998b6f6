// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/eval/score_concepts.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace plmscope::inline PLMSCOPE_ABI {

/// Activations of a model's own neurons, row-major [rows, neurons], a row per residue, rows ordered
/// protein by protein as in `sparse_activations`.
struct dense_activations {
  std::size_t neurons = 0;
  std::span<const float> values;
  std::span<const std::size_t> protein_offsets;  ///< proteins + 1

  std::size_t rows() const noexcept { return neurons == 0 ? 0 : values.size() / neurons; }
  std::size_t proteins() const noexcept {
    return protein_offsets.empty() ? 0 : protein_offsets.size() - 1;
  }
};

struct neuron_options {
  /// Thresholds of a neuron: these quantiles of its values on validation residues. A neuron has no
  /// natural zero, so both of its signs are tried.
  std::vector<double> quantiles{0.5, 0.75, 0.9, 0.95, 0.975, 0.99, 0.995, 0.999};
  std::size_t max_sample = 20'000;  ///< residues, evenly spaced, from which quantiles are taken
};

/// A neuron as a predictor; `result.feature` counts neuron 0 upwards, then 1, ...: it is
/// 2 * neuron, plus 1 when the predictor is "below minus the threshold".
struct neuron_result {
  concept_result result;
  std::size_t neuron() const noexcept { return result.feature / 2; }
  bool negative() const noexcept { return result.feature % 2 == 1; }
};

namespace neuron_baseline_detail {

inline void check(const dense_activations& acts, const concept_set& concepts) {
  bool good = acts.neurons > 0 && acts.values.size() % acts.neurons == 0 &&
              acts.proteins() == concepts.lengths.size() && !acts.protein_offsets.empty() &&
              acts.protein_offsets.front() == 0 && acts.protein_offsets.back() == acts.rows();
  for (std::size_t p = 0; good && p < acts.proteins(); ++p) {
    good = acts.protein_offsets[p] + concepts.lengths[p] == acts.protein_offsets[p + 1];
  }
  if (!good) {
    throw error(rules::activations_proteins,
                {.where = "neuron activations",
                 .expected = std::to_string(concepts.lengths.size()) + " proteins of the labels",
                 .found = std::to_string(acts.proteins()) + " proteins, " +
                          std::to_string(acts.values.size()) + " values"});
  }
  for (std::size_t i = 0; i < acts.values.size(); ++i) {
    if (std::isfinite(acts.values[i])) continue;
    throw error(rules::activations_value, {.where = "row " + std::to_string(i / acts.neurons) +
                                                    ", neuron " + std::to_string(i % acts.neurons),
                                           .found = std::to_string(acts.values[i])});
  }
}

inline feature_thresholds quantile_thresholds(const dense_activations& acts,
                                              std::span<const std::uint32_t> proteins,
                                              const neuron_options& options) {
  std::vector<std::size_t> rows;
  for (const std::uint32_t p : proteins) {
    for (std::size_t r = acts.protein_offsets[p]; r < acts.protein_offsets[p + 1]; ++r) {
      rows.push_back(r);
    }
  }
  const std::size_t step = rows.size() / std::max<std::size_t>(options.max_sample, 1) + 1;
  const std::size_t n = (rows.size() + step - 1) / step;
  std::vector<float> out;
  std::vector<float> column(n);
  for (std::size_t d = 0; d < acts.neurons; ++d) {
    for (std::size_t i = 0; i < n; ++i) column[i] = acts.values[rows[i * step] * acts.neurons + d];
    std::ranges::sort(column);
    for (const bool negative : {false, true}) {
      for (const double q : options.quantiles) {
        if (n == 0) {
          out.push_back(0.0f);
          continue;
        }
        const auto at = std::min(n - 1, static_cast<std::size_t>(q * static_cast<double>(n)));
        out.push_back(negative ? -column[n - 1 - at] : column[at]);
      }
    }
  }
  return feature_thresholds::from_rows(std::move(out), options.quantiles.size());
}

inline concept_counts count(const dense_activations& acts, const label_index& labels,
                            const feature_thresholds& thresholds,
                            std::span<const std::uint32_t> proteins) {
  concept_counts counts(labels, 2 * acts.neurons, thresholds.per_feature());
  std::vector<std::uint32_t> offsets;
  std::vector<std::uint32_t> ids;
  std::vector<std::uint8_t> passed;
  for (const std::uint32_t p : proteins) {
    offsets.assign(1, 0);
    ids.clear();
    passed.clear();
    for (std::size_t r = acts.protein_offsets[p]; r < acts.protein_offsets[p + 1]; ++r) {
      const float* const row = acts.values.data() + r * acts.neurons;
      for (std::uint32_t f = 0; f < 2 * acts.neurons; ++f) {
        const std::uint8_t n = thresholds.passed(f, f % 2 == 0 ? row[f / 2] : -row[f / 2]);
        if (n == 0) continue;
        ids.push_back(f);
        passed.push_back(n);
      }
      offsets.push_back(static_cast<std::uint32_t>(ids.size()));
    }
    counts.add_protein(p, acts.protein_offsets[p], offsets, ids, passed);
  }
  counts.finish();
  return counts;
}

}  // namespace neuron_baseline_detail

/// The best single neuron of every concept: the scoring of `score_concepts`, with the model's dense
/// activations in place of features, both signs, and quantiles in place of shares of the maximum.
/// Cost: rows x neurons x quantiles comparisons, and what `score_concepts` costs for codes of which
/// every second entry is active.
template <concept_metric Metric = f1_by_domain>
std::vector<neuron_result> neuron_baseline(const dense_activations& acts,
                                           const concept_set& concepts, const protein_split& split,
                                           const neuron_options& options = {},
                                           const Metric& metric = {}) {
  namespace detail = neuron_baseline_detail;
  detail::check(acts, concepts);
  score_concepts_detail::check_split(split, acts.proteins());
  const auto thresholds = detail::quantile_thresholds(acts, split.validation, options);
  const label_index labels = index_labels(concepts.concepts, concepts.lengths);
  const auto validation = detail::count(acts, labels, thresholds, split.validation);
  const auto held_out = detail::count(acts, labels, thresholds, split.held_out);
  std::vector<concept_result> best;
  std::vector<concept_result> pairs;
  score_concepts_detail::choose(validation, held_out, thresholds, 0, 2.0, metric, best, pairs);
  std::vector<neuron_result> out;
  for (const concept_result& r : best) out.push_back({r});
  return out;
}

}  // namespace plmscope::inline PLMSCOPE_ABI
