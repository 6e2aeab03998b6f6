// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/config.hpp>

#include <cstddef>
#include <cstring>
#include <type_traits>

#if defined(__FMA__)
#include <immintrin.h>
#endif

namespace plmscope::inline PLMSCOPE_ABI {
namespace cpu_kernels {

// Short vectors in the compilers' common notation (g++, clang); the widest register of the target.
#if defined(__AVX512F__)
inline constexpr std::size_t vector_bytes = 64;
#elif defined(__AVX__)
inline constexpr std::size_t vector_bytes = 32;
#else
inline constexpr std::size_t vector_bytes = 16;
#endif

template <class Real>
struct simd {
  typedef Real vec __attribute__((vector_size(vector_bytes), may_alias));
  static constexpr std::size_t lanes = vector_bytes / sizeof(Real);

  [[gnu::always_inline]] static inline void load(vec& v, const Real* p) noexcept {
    std::memcpy(&v, p, sizeof v);
  }
  [[gnu::always_inline]] static inline void store(Real* p, const vec& v) noexcept {
    std::memcpy(p, &v, sizeof v);
  }
  [[gnu::always_inline]] static inline Real total(const vec& v) noexcept {
    Real lane[lanes];
    std::memcpy(lane, &v, sizeof v);
    for (std::size_t width = lanes / 2; width > 0; width /= 2) {
      for (std::size_t i = 0; i < width; ++i) lane[i] += lane[i + width];
    }
    return lane[0];
  }
};

/// sum += a b, fused where the target can: asked for by name, because compilers fuse a sum of
/// products here and not there.
template <class T>
[[gnu::always_inline]] inline void add_product(T& sum, const T& a, const T& b) noexcept {
#if defined(__FMA__) || (defined(__FP_FAST_FMAF) && defined(__FP_FAST_FMA))
  if constexpr (std::is_same_v<T, float>) {
    sum = __builtin_fmaf(a, b, sum);
  } else if constexpr (std::is_same_v<T, double>) {
    sum = __builtin_fma(a, b, sum);
#if defined(__AVX512F__)
  } else if constexpr (sizeof(T) == 64 && sizeof(a[0]) == 4) {
    sum = (T)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)sum);
  } else if constexpr (sizeof(T) == 64) {
    sum = (T)_mm512_fmadd_pd((__m512d)a, (__m512d)b, (__m512d)sum);
#endif
#if defined(__FMA__)
  } else if constexpr (sizeof(T) == 32 && sizeof(a[0]) == 4) {
    sum = (T)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)sum);
  } else if constexpr (sizeof(T) == 32) {
    sum = (T)_mm256_fmadd_pd((__m256d)a, (__m256d)b, (__m256d)sum);
#endif
  } else {
    for (std::size_t i = 0; i < sizeof(T) / sizeof(a[0]); ++i) {
      std::remove_cvref_t<decltype(a[0])> lane = sum[i], left = a[i], right = b[i];
      add_product(lane, left, right);
      sum[i] = lane;
    }
  }
#else
  sum = a * b + sum;
#endif
}

/// Inner products of `a` with several rows, out[i] = <a, rows[i]>, each in the same fixed order
/// (four running vectors, then the tail): what stands beside a row changes no bit of it.
template <std::size_t Rows, class Real>
[[gnu::always_inline]] inline void dots(const Real* a, const Real* const* rows, std::size_t n,
                                        Real* out) noexcept {
  using s = simd<Real>;
  typename s::vec sum[Rows][4] = {};
  std::size_t j = 0;
  for (; j + 4 * s::lanes <= n; j += 4 * s::lanes) {
    for (std::size_t u = 0; u < 4; ++u) {
      typename s::vec x;
      s::load(x, a + j + u * s::lanes);
      for (std::size_t i = 0; i < Rows; ++i) {
        typename s::vec y;
        s::load(y, rows[i] + j + u * s::lanes);
        add_product(sum[i][u], x, y);
      }
    }
  }
  for (; j + s::lanes <= n; j += s::lanes) {
    typename s::vec x;
    s::load(x, a + j);
    for (std::size_t i = 0; i < Rows; ++i) {
      typename s::vec y;
      s::load(y, rows[i] + j);
      add_product(sum[i][0], x, y);
    }
  }
  for (std::size_t i = 0; i < Rows; ++i) {
    const typename s::vec all = (sum[i][0] + sum[i][1]) + (sum[i][2] + sum[i][3]);
    out[i] = s::total(all);
    for (std::size_t k = j; k < n; ++k) add_product(out[i], a[k], rows[i][k]);
  }
}

/// Inner product.
template <class Real>
inline Real dot(const Real* a, const Real* b, std::size_t n) noexcept {
  Real out;
  dots<1>(a, &b, n, &out);
  return out;
}

/// out[j] (+)= sum_e weight(e) * row(e)[j] for columns [first, first + Vectors * lanes): running
/// sums stay in registers while the rows stream by.
template <std::size_t Vectors, class Real, class Weight, class Row>
[[gnu::always_inline]] inline void weighted_sum_chunk(std::size_t n, std::size_t first,
                                                      const Weight& weight, const Row& row,
                                                      Real* out) noexcept {
  using s = simd<Real>;
  typename s::vec sum[Vectors];
  for (std::size_t u = 0; u < Vectors; ++u) s::load(sum[u], out + first + u * s::lanes);
  for (std::size_t e = 0; e < n; ++e) {
    const Real w = weight(e);
    const Real* from = row(e) + first;
    if constexpr (Vectors == 20) {  // wide rows lie all over a dictionary larger than the caches
      const Real* later = row(e + 4 < n ? e + 4 : e) + first;
      for (std::size_t u = 0; u < Vectors; ++u) __builtin_prefetch(later + u * s::lanes);
    }
    for (std::size_t u = 0; u < Vectors; ++u) {
      typename s::vec x;
      s::load(x, from + u * s::lanes);
      sum[u] += w * x;
    }
  }
  for (std::size_t u = 0; u < Vectors; ++u) s::store(out + first + u * s::lanes, sum[u]);
}

/// out[0, d) += sum over e < n, in order, of weight(e) * row(e)[0, d). `out` is initialised by the
/// caller (zeros, or a bias).
template <class Real, class Weight, class Row>
inline void add_weighted_sum(std::size_t n, std::size_t d, const Weight& weight, const Row& row,
                             Real* out) noexcept {
  constexpr std::size_t lanes = simd<Real>::lanes;
  std::size_t j = 0;
  for (; j + 20 * lanes <= d; j += 20 * lanes) weighted_sum_chunk<20>(n, j, weight, row, out);
  for (; j + 8 * lanes <= d; j += 8 * lanes) weighted_sum_chunk<8>(n, j, weight, row, out);
  for (; j + 4 * lanes <= d; j += 4 * lanes) weighted_sum_chunk<4>(n, j, weight, row, out);
  for (; j + lanes <= d; j += lanes) weighted_sum_chunk<1>(n, j, weight, row, out);
  for (; j < d; ++j) {
    Real sum = out[j];
    for (std::size_t e = 0; e < n; ++e) add_product(sum, Real{weight(e)}, Real{row(e)[j]});
    out[j] = sum;
  }
}

}  // namespace cpu_kernels
}  // namespace plmscope::inline PLMSCOPE_ABI
