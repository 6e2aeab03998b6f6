// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/backend/device/group.hpp>
#include <plmscope/backend/primitives.hpp>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

namespace plmscope::inline PLMSCOPE_ABI {
namespace device_kernels {

// Formulas of one entry, for primitives whose entries have nothing to do with each other.

/// No NaN and no infinity, by bit pattern.
template <class Real>
PLMSCOPE_HD inline bool finite_bits(Real v) noexcept {
  using bits = std::conditional_t<sizeof(Real) == 4, std::uint32_t, std::uint64_t>;
  constexpr bits exponent =
      static_cast<bits>(sizeof(Real) == 4 ? 0x7f800000u : 0x7ff0000000000000u);
  bits b;
  std::memcpy(&b, &v, sizeof b);
  return (b & exponent) != exponent;
}

/// x (1 + erf(x / sqrt 2)) / 2 without cancellation for negative x; 0 at -infinity. For positive x
/// the error is little more than the rounding of the result.
template <class Real>
PLMSCOPE_HD inline Real gelu(Real x) noexcept {
  const Real size = x < Real{0} ? -x : x;
  const Real share = std::erfc(size * static_cast<Real>(0.70710678118654752440));
  const Real tail = share == Real{0} ? Real{0} : size / 2 * share;
  return x > Real{0} ? x - tail : -tail;
}

/// x / (1 + e^-x) from e^-|x|, so that nothing overflows; 0 at -infinity.
template <class Real>
PLMSCOPE_HD inline Real silu(Real x) noexcept {
  const Real power = std::exp(x < Real{0} ? x : -x);
  if (x < Real{0}) return power == Real{0} ? -power : x * power / (power + Real{1});
  return x / (power + Real{1});
}

/// One entry of Adam; `factor` scales the gradient.
template <class Real>
PLMSCOPE_HD inline void adam_entry(Real& p, Real g, Real& m, Real& v, const adam_step<Real>& s,
                                   Real root2, Real factor) noexcept {
  g *= factor;
  if (s.decay != Real{0}) p *= Real{1} - s.decay;
  m = s.beta1 * m + (Real{1} - s.beta1) * g;
  v = s.beta2 * v + (Real{1} - s.beta2) * g * g;
  p -= s.rate / s.correction1 * m / (std::sqrt(v) / root2 + s.epsilon);
}

/// Rotates the pair (col, col + half) of one row, for col in the first half of its head.
template <class Real>
PLMSCOPE_HD inline void rotate_pair(Real* row, std::size_t col, std::size_t half, Real cosine,
                                    Real sine, Real scale) noexcept {
  const Real a = row[col] * scale;
  const Real b = row[col + half] * scale;
  row[col] = a * cosine - b * sine;
  row[col + half] = b * cosine + a * sine;
}

}  // namespace device_kernels
}  // namespace plmscope::inline PLMSCOPE_ABI
