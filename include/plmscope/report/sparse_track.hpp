// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/config.hpp>
#include <plmscope/report/feature_report.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

// A protein's activations as short text for the page: per active residue the distance to the one
// before (1 for neighbours; base 32, least significant digit first, 32 added to every digit but the
// last), then two digits of base 64 for the level. Level 2048 is zero, 1 and 4095 are minus and
// plus `scale`, so a value is kept to 1/2047 of the scale. Three characters a residue in a run.

namespace plmscope::inline PLMSCOPE_ABI {

namespace sparse_track {

/// Digits that need no escape in JSON or HTML.
inline constexpr std::string_view digits =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
inline constexpr int zero_level = 2048;

/// The level of a value; never the level of zero unless the value is zero.
inline int level(double value, double scale) noexcept {
  if (value == 0.0 || scale <= 0.0) return zero_level;
  const int steps = static_cast<int>(std::lround(std::clamp(value / scale, -1.0, 1.0) * 2047.0));
  if (steps == 0) return value > 0.0 ? zero_level + 1 : zero_level - 1;
  return zero_level + steps;
}

/// Positions must increase (checked where a report becomes a page).
inline std::string encode(const std::vector<report_activation>& activations, double scale) {
  std::string out;
  out.reserve(activations.size() * 3);
  std::size_t next = 0;  // one before the smallest distance counts from here
  for (const report_activation& a : activations) {
    std::size_t gap = a.position + 1 - next;
    next = a.position + 1;
    for (; gap >= 32; gap /= 32) out += digits[32 + gap % 32];
    out += digits[gap];
    const auto l = static_cast<std::size_t>(level(static_cast<double>(a.value), scale));
    out += digits[l / 64];
    out += digits[l % 64];
  }
  return out;
}

}  // namespace sparse_track

}  // namespace plmscope
