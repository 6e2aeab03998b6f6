// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/eval/rules.hpp>
#include <plmscope/eval/sparse_activations.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace plmscope::inline PLMSCOPE_ABI {

/// At which shares of a feature's maximum it is tried as a predictor. A residue is active when its
/// value is greater (not equal), compared in single precision.
struct threshold_grid {
  std::vector<float> fractions{0.0f, 0.05f, 0.1f, 0.15f, 0.2f, 0.3f, 0.4f, 0.5f, 0.6f, 0.7f, 0.8f};

  /// The five of InterPLM.
  static threshold_grid interplm() { return {{0.0f, 0.15f, 0.5f, 0.6f, 0.8f}}; }
};

/// The thresholds of every feature, ascending: [features, per_feature].
class feature_thresholds {
 public:
  feature_thresholds() = default;

  /// The same values for all features.
  feature_thresholds(std::size_t features, std::span<const float> values)
      : per_feature_(values.size()) {
    check_ascending(values);
    for (std::size_t f = 0; f < features; ++f) {
      values_.insert(values_.end(), values.begin(), values.end());
    }
  }

  /// Shares of each feature's maximum. A feature with maximum 0 or less never fires: its thresholds
  /// are infinite.
  feature_thresholds(std::span<const float> maxima, const threshold_grid& grid)
      : per_feature_(grid.fractions.size()) {
    check_ascending(grid.fractions);
    values_.reserve(maxima.size() * per_feature_);
    for (const float maximum : maxima) {
      for (const float share : grid.fractions) {
        values_.push_back(maximum > 0.0f ? share * maximum
                                         : std::numeric_limits<float>::infinity());
      }
    }
  }

  /// Takes values [features, per_feature]; every row must ascend.
  static feature_thresholds from_rows(std::vector<float> values, std::size_t per_feature) {
    feature_thresholds out;
    out.values_ = std::move(values);
    out.per_feature_ = per_feature;
    for (std::size_t f = 0; f < out.features(); ++f) check_ascending(out.of(f));
    return out;
  }

  std::size_t per_feature() const noexcept { return per_feature_; }
  std::size_t features() const noexcept {
    return per_feature_ == 0 ? 0 : values_.size() / per_feature_;
  }
  std::span<const float> of(std::size_t feature) const noexcept {
    return std::span(values_).subspan(feature * per_feature_, per_feature_);
  }

  /// How many thresholds of `feature` lie below `value`: the value is active at the first that
  /// many.
  std::uint8_t passed(std::size_t feature, float value) const noexcept {
    const float* const limits = values_.data() + feature * per_feature_;
    unsigned count = 0;
    for (std::size_t t = 0; t < per_feature_; ++t) count += value > limits[t] ? 1u : 0u;
    return static_cast<std::uint8_t>(count);
  }

 private:
  static void check_ascending(std::span<const float> values) {
    const bool bad_value = std::ranges::any_of(values, [](float v) { return std::isnan(v); });
    if (!values.empty() && values.size() <= 250 && !bad_value && std::ranges::is_sorted(values)) {
      return;
    }
    throw error(rules::threshold_order,
                {.where = "threshold grid", .found = std::to_string(values.size()) + " entries"});
  }

  std::vector<float> values_;
  std::size_t per_feature_ = 0;
};

/// The largest activation of every feature over some proteins; 0 where it never fires there.
inline std::vector<float> feature_maxima(const sparse_activations& acts,
                                         std::span<const std::uint32_t> proteins) {
  std::vector<float> maxima(acts.features, 0.0f);
  for (const std::uint32_t p : proteins) {
    const std::size_t first = acts.row_begin(acts.protein_offsets[p]);
    const std::size_t last = acts.row_begin(acts.protein_offsets[p + 1]);
    for (std::size_t e = first; e < last; ++e) {
      maxima[acts.ids[e]] = std::max(maxima[acts.ids[e]], acts.values[e]);
    }
  }
  return maxima;
}

}  // namespace plmscope::inline PLMSCOPE_ABI
