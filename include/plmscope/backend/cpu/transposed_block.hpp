// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/backend/cpu/simd.hpp>

#include <cstddef>
#include <type_traits>

#if defined(__AVX512F__)
#include <immintrin.h>
#endif

#if defined(__CUDACC__)  // its front end does not know `#pragma GCC unroll`
#pragma nv_diagnostic push
#pragma nv_diag_suppress 1675
#endif

namespace plmscope::inline PLMSCOPE_ABI {
namespace cpu_kernels {

#if defined(__AVX512F__)
/// Rows r[0..16) of 16 floats become columns: unpacked within quarters, then quarters are
/// exchanged.
[[gnu::always_inline]] inline void transpose_block(simd<float>::vec (&r)[16]) noexcept {
  __m512 a[16], b[16];
  const auto ps = [](__m512d v) { return _mm512_castpd_ps(v); };
  const auto pd = [](__m512 v) { return _mm512_castps_pd(v); };
#pragma GCC unroll 8
  for (std::size_t i = 0; i < 16; i += 2) {
    a[i] = _mm512_unpacklo_ps((__m512)r[i], (__m512)r[i + 1]);
    a[i + 1] = _mm512_unpackhi_ps((__m512)r[i], (__m512)r[i + 1]);
  }
  // b[4 i + c], quarter q: column 4 q + c of rows 4 i .. 4 i + 3
#pragma GCC unroll 4
  for (std::size_t i = 0; i < 16; i += 4) {
    b[i] = ps(_mm512_unpacklo_pd(pd(a[i]), pd(a[i + 2])));
    b[i + 1] = ps(_mm512_unpackhi_pd(pd(a[i]), pd(a[i + 2])));
    b[i + 2] = ps(_mm512_unpacklo_pd(pd(a[i + 1]), pd(a[i + 3])));
    b[i + 3] = ps(_mm512_unpackhi_pd(pd(a[i + 1]), pd(a[i + 3])));
  }
#pragma GCC unroll 4
  for (std::size_t c = 0; c < 4; ++c) {
    const __m512 even0 = _mm512_shuffle_f32x4(b[c], b[4 + c], 0x88);
    const __m512 odd0 = _mm512_shuffle_f32x4(b[c], b[4 + c], 0xdd);
    const __m512 even1 = _mm512_shuffle_f32x4(b[8 + c], b[12 + c], 0x88);
    const __m512 odd1 = _mm512_shuffle_f32x4(b[8 + c], b[12 + c], 0xdd);
    r[c] = (simd<float>::vec)_mm512_shuffle_f32x4(even0, even1, 0x88);
    r[4 + c] = (simd<float>::vec)_mm512_shuffle_f32x4(odd0, odd1, 0x88);
    r[8 + c] = (simd<float>::vec)_mm512_shuffle_f32x4(even0, even1, 0xdd);
    r[12 + c] = (simd<float>::vec)_mm512_shuffle_f32x4(odd0, odd1, 0xdd);
  }
}
#endif

/// Rows r[0..lanes) become columns.
template <class Vec, std::size_t Lanes>
[[gnu::always_inline]] inline void transpose_block(Vec (&r)[Lanes]) noexcept {
  using Real = std::remove_cvref_t<decltype(r[0][0])>;
  Real block[Lanes][Lanes];
  Real turned[Lanes][Lanes];
  for (std::size_t i = 0; i < Lanes; ++i) simd<Real>::store(block[i], r[i]);
  for (std::size_t i = 0; i < Lanes; ++i) {
    for (std::size_t j = 0; j < Lanes; ++j) turned[j][i] = block[i][j];
  }
  for (std::size_t i = 0; i < Lanes; ++i) simd<Real>::load(r[i], turned[i]);
}

}  // namespace cpu_kernels
}  // namespace plmscope::inline PLMSCOPE_ABI

#if defined(__CUDACC__)
#pragma nv_diagnostic pop
#endif
