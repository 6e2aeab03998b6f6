// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/backend/cpu/simd.hpp>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

namespace plmscope::inline PLMSCOPE_ABI {
namespace cpu_kernels {

// Elementary functions on short vectors, in place. No step relies on the order of rounding, so they
// survive -ffast-math. The double versions go entry by entry through the standard library.

/// x[i] = e^x[i] for x <= 0, to 1 unit in the last place. Below -87.3 (where float ends) the result
/// stays at 1.2e-38. NaN stays NaN.
template <class Real>
[[gnu::always_inline]] inline void exp_nonpositive(typename simd<Real>::vec& x) noexcept {
  if constexpr (std::is_same_v<Real, float>) {
    using vec = typename simd<float>::vec;
    typedef std::int32_t ivec __attribute__((vector_size(vector_bytes), may_alias));
    const vec none{};
    const vec lowest = none - 87.3f;
    x = x < lowest ? lowest : x;
    // x = n ln 2 + r, |r| <= ln 2 / 2; ln 2 in two pieces, the first with trailing zeros.
    ivec n = __builtin_convertvector(x * 1.442695041f - 0.5f, ivec);
    const vec whole = __builtin_convertvector(n, vec);
    vec r = x - whole * 0.693145752f;
    r = r - whole * 1.42860677e-6f;
    // Minimax polynomial of (e^r - 1 - r) / r^2; relative error of e^r 3e-9.
    vec p = r * 1.381456503e-03f + 8.368737064e-03f;
    p = p * r + 4.166838899e-02f;
    p = p * r + 1.666652113e-01f;
    p = p * r + 4.999999404e-01f;
    p = p * (r * r) + r;
    n = (n + 127) << 23;
    vec power;
    std::memcpy(&power, &n, sizeof power);
    x = p * power + power;
  } else {
    for (std::size_t i = 0; i < simd<Real>::lanes; ++i) x[i] = std::exp(x[i]);
  }
}

/// x[i] = x[i] (1 + erf(x[i] / sqrt 2)) / 2, computed as max(x, 0) - |x| erfc(|x| / sqrt 2) / 2:
/// no cancellation, so negative tails keep relative accuracy. Absolute error in float below
/// 2.5e-8 plus the rounding of the result. NaN stays NaN.
template <class Real>
[[gnu::always_inline]] inline void gelu_vector(typename simd<Real>::vec& x) noexcept {
  if constexpr (std::is_same_v<Real, float>) {
    using vec = typename simd<float>::vec;
    const vec zero{};
    const vec largest = zero + 13.0f;  // erfc(13 / sqrt 2) is the last normal number
    vec a = x < zero ? -x : x;
    a = a < largest ? a : largest;
    // -ln erfc(a / sqrt 2) = a p(a): minimax in the error of a erfc / 2 over [0, 13].
    // Even and odd powers apart: half the waiting of one Horner chain.
    const vec a2 = a * a;
    vec odd = a2 * 3.350053568e-11f + 6.082110815e-08f;
    vec even = a2 * -2.176621328e-09f - 9.586065062e-07f;
    odd = odd * a2 + 9.363438949e-06f;
    even = even * a2 - 5.766914182e-05f;
    odd = odd * a2 + 1.993135229e-04f;
    even = even * a2 + 2.537804448e-06f;
    odd = odd * a2 - 4.830092657e-03f;
    even = even * a2 + 3.636559099e-02f;
    odd = odd * a2 + 3.183007240e-01f;
    even = even * a2 + 7.978855968e-01f;
    const vec p = odd * a + even;
    vec tail = -(p * a);
    exp_nonpositive<float>(tail);
    x = (x < zero ? zero : x) - (a * 0.5f) * tail;
  } else {
    for (std::size_t i = 0; i < simd<Real>::lanes; ++i) {
      x[i] = x[i] / 2 * std::erfc(-x[i] * Real(0.70710678118654752440));
    }
  }
}

/// x[i] = x[i] / (1 + e^-x[i]) (SiLU), from e^-|x| so that nothing overflows and negative tails
/// keep relative accuracy: 2 units in the last place in float down to -87, at most 1e-35 in size
/// below. NaN stays NaN.
template <class Real>
[[gnu::always_inline]] inline void silu_vector(typename simd<Real>::vec& x) noexcept {
  using vec = typename simd<Real>::vec;
  const vec zero{};
  const vec largest = zero + static_cast<Real>(sizeof(Real) == 4 ? 87 : 708);
  vec a = x < zero ? -x : x;
  a = a < largest ? a : largest;
  vec power = -a;
  exp_nonpositive<Real>(power);
  x = (x < zero ? -a * power : x) / (power + static_cast<Real>(1));
}

}  // namespace cpu_kernels
}  // namespace plmscope
