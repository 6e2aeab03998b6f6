// SPDX-License-Identifier: MIT
// What instructions on floats have in common.
#pragma once

#include "machine.hpp"

#include <cfenv>
#include <cmath>
#include <type_traits>

namespace simulator {

/// The host's rounding for the duration of an instruction.
class rounding {
 public:
  explicit rounding(char to) : changed_(to != 'n') {
    if (!changed_) return;
    before_ = std::fegetround();
    std::fesetround(to == 'z' ? FE_TOWARDZERO : to == 'm' ? FE_DOWNWARD : FE_UPWARD);
  }
  rounding(const rounding&) = delete;
  rounding& operator=(const rounding&) = delete;
  ~rounding() {
    if (changed_) std::fesetround(before_);
  }

 private:
  bool changed_;
  int before_ = FE_TONEAREST;
};

template <class T>
T flushed(T x, const instruction& in) {
  if constexpr (std::is_same_v<T, float>) {
    if (in.flushes && std::fpclassify(x) == FP_SUBNORMAL) return std::copysign(0.0f, x);
  }
  return x;
}
template <class T>
T finished(T x, const instruction& in) {
  if constexpr (std::is_floating_point_v<T>) {
    if (in.saturates) return std::isnan(x) ? T{0} : std::clamp(x, T{0}, T{1});
  }
  return flushed(x, in);
}

}  // namespace simulator
