// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/core/rng.hpp>

#include <cstddef>
#include <cstdint>
#include <vector>

/// Normal numbers in double, the same ones for the same seed and stream.
inline std::vector<double> random_numbers(std::uint64_t seed, std::size_t n, std::uint64_t stream,
                                          double scale, double mean = 0) {
  const plmscope::rng random(seed, stream);
  std::vector<double> v(n);
  for (std::size_t i = 0; i < n; ++i) v[i] = mean + scale * random.normal(i);
  return v;
}
