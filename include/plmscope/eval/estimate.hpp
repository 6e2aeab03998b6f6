// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/core/rng.hpp>
#include <plmscope/eval/metrics.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

namespace plmscope::inline PLMSCOPE_ABI {

/// A number with the interval in which 95 % of resampled corpora have it, or why there is none.
struct estimate {
  double value = not_defined;
  double low = not_defined;  ///< `not_defined`, as `high`, where no interval was computed
  double high = not_defined;
  std::string_view why = {};  ///< why the value is not defined; empty where it is

  bool defined() const noexcept { return !std::isnan(value); }
};

/// Bootstrap over proteins (Efron 1979): draws `samples` corpora of n proteins with replacement
/// and calls f(sample, times) for each, where times[p] says how often protein p is in it. A pure
/// function of n, samples and seed, so two SAEs meet the same corpora.
template <class F>
void resample_proteins(std::size_t n, std::size_t samples, std::uint64_t seed, const F& f) {
  std::vector<std::uint32_t> times(n);
  for (std::size_t b = 0; b < samples; ++b) {
    std::ranges::fill(times, 0u);
    const rng random(seed, 0xb007000000000000u + b);
    for (std::size_t i = 0; i < n; ++i) ++times[random.below(i, n)];
    f(b, times);
  }
}

/// The 2.5 and 97.5 percentiles of `values`, between neighbours by distance; `not_defined` where
/// one of the values is. Reorders the values.
inline void set_interval(estimate& of, std::vector<double>& values) {
  if (values.empty() || !of.defined()) return;
  for (const double v : values) {
    if (!std::isfinite(v)) return;
  }
  std::ranges::sort(values);
  const auto percentile = [&](double share) {
    const double at = share * static_cast<double>(values.size() - 1);
    const auto below = static_cast<std::size_t>(at);
    const std::size_t above = std::min(below + 1, values.size() - 1);
    const double part = at - static_cast<double>(below);
    return values[below] + part * (values[above] - values[below]);
  };
  of.low = percentile(0.025);
  of.high = percentile(0.975);
}

}  // namespace plmscope::inline PLMSCOPE_ABI
