// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/eval/label_index.hpp>
#include <plmscope/eval/metrics.hpp>
#include <plmscope/eval/sparse_activations.hpp>
#include <plmscope/eval/threshold_grid.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace plmscope::inline PLMSCOPE_ABI {

/// Counts of every concept with every feature at every threshold, over the proteins that were
/// added. Each activation is put in the bin of the highest threshold that it passes, per label of
/// its residue and once over all; sums from the right then give the counts of every threshold.
/// False positives are what is active and not true, so residues without a label cost one step an
/// entry. Memory: 8 bytes per concept, feature and threshold.
class concept_counts {
 public:
  concept_counts(const label_index& labels, std::size_t features, std::size_t thresholds)
      : labels_(&labels),
        features_(features),
        thresholds_(thresholds),
        active_(features * thresholds, 0),
        tp_(labels.concepts * features * thresholds, 0),
        hits_(labels.concepts * features * thresholds, 0),
        positives_(labels.concepts, 0),
        instances_(labels.concepts, 0),
        best_(features, 0) {}

  /// Bytes that the counts of that many concepts need.
  static std::size_t bytes(std::size_t concepts, std::size_t features, std::size_t thresholds) {
    return (2 * concepts + 1) * features * thresholds * sizeof(std::uint32_t);
  }

  /// Adds one protein whose rows begin at `first_row`. Row r of it has the entries
  /// offsets[r]..offsets[r + 1] with feature `ids` and the number of thresholds `passed`.
  void add_protein(std::size_t protein, std::size_t first_row,
                   std::span<const std::uint32_t> offsets, std::span<const std::uint32_t> ids,
                   std::span<const std::uint8_t> passed) {
    for (std::size_t r = 0; r + 1 < offsets.size(); ++r) {
      const auto concepts = labels_->at_row(first_row + r);
      for (const std::uint32_t c : concepts) ++positives_[c];
      for (std::size_t e = offsets[r]; e < offsets[r + 1]; ++e) {
        if (passed[e] > 0) ++active_[ids[e] * thresholds_ + passed[e] - 1];
      }
      for (const std::uint32_t c : concepts) {
        std::uint32_t* const bins = tp_.data() + c * features_ * thresholds_;
        for (std::size_t e = offsets[r]; e < offsets[r + 1]; ++e) {
          if (passed[e] > 0) ++bins[ids[e] * thresholds_ + passed[e] - 1];
        }
      }
    }
    for (std::size_t i = labels_->protein_offsets[protein];
         i < labels_->protein_offsets[protein + 1]; ++i) {
      add_instance(i, first_row, offsets, ids, passed);
    }
  }

  /// Turns bins into counts per threshold. Call once, after the last protein.
  void finish() {
    sum_from_right(active_);
    sum_from_right(tp_);
    sum_from_right(hits_);
  }

  std::size_t concepts() const noexcept { return positives_.size(); }
  std::size_t features() const noexcept { return features_; }
  std::size_t thresholds() const noexcept { return thresholds_; }
  concept_kind kind(std::size_t c) const noexcept { return labels_->kinds[c]; }

  /// Residues where the feature is active.
  std::uint32_t active(std::size_t feature, std::size_t threshold) const noexcept {
    return active_[feature * thresholds_ + threshold];
  }
  tally at(std::size_t c, std::size_t feature, std::size_t threshold) const noexcept {
    const std::size_t cell = (c * features_ + feature) * thresholds_ + threshold;
    return {.tp = tp_[cell],
            .fp = active(feature, threshold) - tp_[cell],
            .positives = positives_[c],
            .hits = hits_[cell],
            .instances = instances_[c]};
  }

 private:
  // A feature finds an instance at as many thresholds as its largest value in it passes.
  void add_instance(std::size_t instance, std::size_t first_row,
                    std::span<const std::uint32_t> offsets, std::span<const std::uint32_t> ids,
                    std::span<const std::uint8_t> passed) {
    const std::uint32_t c = labels_->instance_concepts[instance];
    ++instances_[c];
    if (labels_->kinds[c] != concept_kind::domain) return;
    touched_.clear();
    for (const std::uint32_t row : labels_->rows_of(instance)) {
      const std::size_t r = row - first_row;
      for (std::size_t e = offsets[r]; e < offsets[r + 1]; ++e) {
        if (passed[e] == 0) continue;
        std::uint8_t& best = best_[ids[e]];
        if (best == 0) touched_.push_back(ids[e]);
        best = std::max(best, passed[e]);
      }
    }
    std::uint32_t* const bins = hits_.data() + c * features_ * thresholds_;
    for (const std::uint32_t feature : touched_) {
      ++bins[feature * thresholds_ + best_[feature] - 1];
      best_[feature] = 0;
    }
  }

  void sum_from_right(std::vector<std::uint32_t>& bins) const noexcept {
    for (std::size_t first = 0; first < bins.size(); first += thresholds_) {
      for (std::size_t t = thresholds_ - 1; t > 0; --t) bins[first + t - 1] += bins[first + t];
    }
  }

  const label_index* labels_;
  std::size_t features_;
  std::size_t thresholds_;
  std::vector<std::uint32_t> active_;
  std::vector<std::uint32_t> tp_;
  std::vector<std::uint32_t> hits_;
  std::vector<std::uint32_t> positives_;
  std::vector<std::uint32_t> instances_;
  std::vector<std::uint8_t> best_;
  std::vector<std::uint32_t> touched_;
};

/// Counts over some proteins in one pass over their sparse codes. Labels and activations are about
/// the same proteins (eval.105). Cost: entries x (1 + labels of their residue).
inline concept_counts count_concepts(const sparse_activations& acts, const label_index& labels,
                                     const feature_thresholds& thresholds,
                                     std::span<const std::uint32_t> proteins) {
  if (labels.rows() != acts.rows() || labels.proteins() != acts.proteins() ||
      thresholds.features() != acts.features) {
    throw error(rules::split_proteins,
                {.where = "activations",
                 .expected = std::to_string(labels.rows()) + " residues of " +
                             std::to_string(labels.proteins()) + " proteins",
                 .found = std::to_string(acts.rows()) + " rows of " +
                          std::to_string(acts.proteins()) + " proteins",
                 .remedy = "make labels and activations from the same list of proteins"});
  }
  concept_counts counts(labels, acts.features, thresholds.per_feature());
  std::vector<std::uint32_t> offsets;
  std::vector<std::uint8_t> passed;
  for (const std::uint32_t p : proteins) {
    const std::size_t first_row = acts.protein_offsets[p];
    const std::size_t last_row = acts.protein_offsets[p + 1];
    const std::size_t first = acts.row_begin(first_row);
    const std::size_t count = acts.row_begin(last_row) - first;
    offsets.clear();
    for (std::size_t row = first_row; row <= last_row; ++row) {
      offsets.push_back(static_cast<std::uint32_t>(acts.row_begin(row) - first));
    }
    passed.resize(count);
    const auto ids = acts.ids.subspan(first, count);
    for (std::size_t e = 0; e < count; ++e) {
      passed[e] = thresholds.passed(ids[e], acts.values[first + e]);
    }
    counts.add_protein(p, first_row, offsets, ids, passed);
  }
  counts.finish();
  return counts;
}

}  // namespace plmscope::inline PLMSCOPE_ABI
