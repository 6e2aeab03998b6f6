// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/backend/bfloat16.hpp>
#include <plmscope/backend/cpu/aligned_buffer.hpp>
#include <plmscope/core/thread_pool.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#if defined(__CUDACC__)  // its front end does not know `#pragma GCC unroll`
#pragma nv_diagnostic push
#pragma nv_diag_suppress 1675
#endif

namespace plmscope::inline PLMSCOPE_ABI {

/// Weights w [n, k] of y = x w^T in bfloat16, in the order in which the product reads them: panels
/// of 64 rows of w, in a panel the pairs of neighbouring columns one after another. Half the bytes
/// of the weights.
///
/// The product needs AVX512-BF16, whatever the program is compiled for. It keeps 6 rows of x and
/// one panel, 24 running sums, in registers over all of k: measured on Zen 5, 95 % of the
/// processor's peak (docs/rationale.md compares it with oneDNN). An entry of y is the sum over
/// pairs of columns in order, from the bias on, so its bits depend on its own row of x and row of w
/// alone.
class bf16_weights {
 public:
  static constexpr std::size_t panel = 64;     ///< rows of w side by side
  static constexpr std::size_t row_block = 6;  ///< rows of x at a time

  /// Whether this processor multiplies bfloat16.
  static bool available() noexcept {
#if defined(__x86_64__)
    return __builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("avx512bw");
#else
    return false;
#endif
  }

  bf16_weights() = default;
  /// Rounds w [n, k], rows `stride` apart, to nearest even.
  bf16_weights(thread_pool& pool, const float* w, std::size_t n, std::size_t k,
               std::size_t stride) {
    assign(pool, w, n, k, stride, [](std::size_t, std::size_t) {});
  }
  /// Other weights in the same memory where it suffices. rows(first, count) is called for every
  /// panel on the thread that has just read its rows of w.
  template <class Rows>
  void assign(thread_pool& pool, const float* w, std::size_t n, std::size_t k, std::size_t stride,
              const Rows& rows) {
    n_ = n;
    k_ = k;
    const std::size_t words = panels() * panel * pairs();
    if (words_.size() < words) words_ = aligned_buffer<std::uint32_t>(words);
    pool.run(panels(), [&](std::size_t p) {
      pack_panel(p, w, stride);
      rows(p * panel, std::min(panel, n_ - p * panel));
    });
  }

  std::size_t rows() const noexcept { return n_; }
  std::size_t cols() const noexcept { return k_; }
  bool empty() const noexcept { return n_ == 0; }
  std::size_t panels() const noexcept { return (n_ + panel - 1) / panel; }
  /// Pairs of columns; an odd last column is paired with zeros.
  std::size_t pairs() const noexcept { return (k_ + 1) / 2; }

  /// The rounded weights as floats.
  void unpack(float* w, std::size_t stride) const noexcept {
    for (std::size_t r = 0; r < n_; ++r) {
      for (std::size_t c = 0; c < k_; ++c) {
        const std::uint32_t word = word_of(r / panel, c / 2)[r % panel];
        const std::uint32_t bits = c % 2 == 0 ? word << 16 : word & 0xffff0000u;
        std::memcpy(w + r * stride + c, &bits, sizeof bits);
      }
    }
  }

  /// x [m, k] in bfloat16 as `product` takes it: m rows of `pairs()` words.
  void round_rows(const float* x, std::size_t stride, std::size_t m,
                  std::uint32_t* out) const noexcept {
    for (std::size_t r = 0; r < m; ++r) round_row(x + r * stride, k_, out + r * pairs());
  }

  /// out[i][j] (+)= bias[j] + sum_c x[i][c] w[64 p + j][c] for m rows of x and the panel p, which
  /// is 64 columns of `out`, or those that are left. `x`: words of `round_rows`. `bias`: of this
  /// panel, or null.
  void product(const std::uint32_t* x, std::size_t m, std::size_t p, const float* bias, bool add,
               float* out, std::size_t stride) const noexcept {
    const std::size_t width = std::min(panel, n_ - p * panel);
    alignas(64) float padded[row_block][panel];
    alignas(64) float padded_bias[panel] = {};
    if (width < panel && bias != nullptr) {
      std::copy_n(bias, width, padded_bias);
      bias = padded_bias;
    }
    const std::uint32_t* w = word_of(p, 0);
    for (std::size_t r = 0; r < m; r += row_block) {
      const std::size_t count = std::min(row_block, m - r);
      // The first blocks of rows ask for a quarter of the next panel each.
      const bool fetch = r < 4 * row_block && p + 1 < panels();
      const std::uint32_t* ahead = fetch ? word_of(p + 1, r / row_block * pairs() / 4) : w;
      float* to = out + r * stride;
      if (width == panel) {
        run(count, x + r * pairs(), w, ahead, bias, add, to, stride);
        continue;
      }
      for (std::size_t i = 0; add && i < count; ++i) std::copy_n(to + i * stride, width, padded[i]);
      run(count, x + r * pairs(), w, ahead, bias, add, padded[0], panel);
      for (std::size_t i = 0; i < count; ++i) std::copy_n(padded[i], width, to + i * stride);
    }
  }

 private:
  const std::uint32_t* word_of(std::size_t p, std::size_t pair) const noexcept {
    return words_.get() + (p * pairs() + pair) * panel;
  }

  static void round_row(const float* x, std::size_t k, std::uint32_t* out) noexcept {
    std::uint16_t piece[128];
    for (std::size_t c = 0; c < k; c += 128) {
      const std::size_t n = std::min<std::size_t>(128, k - c);
      to_bfloat16(x + c, piece, n);
      if (n % 2 != 0) piece[n] = 0;
      std::memcpy(out + c / 2, piece, (n + 1) / 2 * sizeof(std::uint32_t));
    }
  }

  // 16 pairs of 64 rows at a time are rounded row by row and written pair by pair.
  void pack_panel(std::size_t p, const float* w, std::size_t stride) noexcept {
    constexpr std::size_t step = 16;
    std::uint32_t block[panel][step] = {};
    const std::size_t height = std::min(panel, n_ - p * panel);
    for (std::size_t first = 0; first < pairs(); first += step) {
      const std::size_t n = std::min(step, pairs() - first);
      for (std::size_t r = 0; r < height; ++r) {
        const float* row = w + (p * panel + r) * stride;
        round_row(row + 2 * first, std::min(k_ - 2 * first, 2 * step), block[r]);
      }
      std::uint32_t* to = words_.get() + (p * pairs() + first) * panel;
      for (std::size_t i = 0; i < n; ++i) {
        for (std::size_t r = 0; r < panel; ++r) to[i * panel + r] = block[r][i];
      }
    }
  }

#if defined(__x86_64__)
  template <std::size_t Rows>
  [[gnu::target("avx512f,avx512bw,avx512bf16"), gnu::noinline]] static void block(
      std::size_t pairs, const std::uint32_t* x, const std::uint32_t* w, const std::uint32_t* ahead,
      const float* bias, bool add, float* out, std::size_t stride) noexcept {
    __m512 sum[Rows][4];
#pragma GCC unroll 4
    for (std::size_t v = 0; v < 4; ++v) {
      sum[0][v] = bias != nullptr ? _mm512_loadu_ps(bias + 16 * v) : _mm512_setzero_ps();
#pragma GCC unroll 6
      for (std::size_t r = 1; r < Rows; ++r) sum[r][v] = sum[0][v];
    }
    for (std::size_t i = 0; i < pairs; ++i) {
      __m512bh column[4];
#pragma GCC unroll 4
      for (std::size_t v = 0; v < 4; ++v) {
        column[v] = (__m512bh)_mm512_load_si512(w + i * panel + 16 * v);
      }
      _mm_prefetch(reinterpret_cast<const char*>(ahead + 16 * i), _MM_HINT_T1);
#pragma GCC unroll 6
      for (std::size_t r = 0; r < Rows; ++r) {
        const __m512bh entry = (__m512bh)_mm512_set1_epi32(static_cast<int>(x[r * pairs + i]));
#pragma GCC unroll 4
        for (std::size_t v = 0; v < 4; ++v) {
          sum[r][v] = _mm512_dpbf16_ps(sum[r][v], column[v], entry);
        }
      }
    }
#pragma GCC unroll 6
    for (std::size_t r = 0; r < Rows; ++r) {
#pragma GCC unroll 4
      for (std::size_t v = 0; v < 4; ++v) {
        float* to = out + r * stride + 16 * v;
        _mm512_storeu_ps(to, add ? _mm512_add_ps(_mm512_loadu_ps(to), sum[r][v]) : sum[r][v]);
      }
    }
  }

  // `ahead`: 64 * pairs bytes that will be read soon.
  void run(std::size_t rows, const std::uint32_t* x, const std::uint32_t* w,
           const std::uint32_t* ahead, const float* bias, bool add, float* out,
           std::size_t stride) const noexcept {
    static constexpr std::array kernels{block<1>, block<2>, block<3>, block<4>, block<5>, block<6>};
    kernels[rows - 1](pairs(), x, w, ahead, bias, add, out, stride);
  }
#else
  void run(std::size_t, const std::uint32_t*, const std::uint32_t*, const std::uint32_t*,
           const float*, bool, float*, std::size_t) const noexcept {}  // available() is false
#endif

  std::size_t n_ = 0;
  std::size_t k_ = 0;
  aligned_buffer<std::uint32_t>
      words_;  // [panel][pair][64], the left column of a pair in the low half
};

}  // namespace plmscope::inline PLMSCOPE_ABI

#if defined(__CUDACC__)
#pragma nv_diagnostic pop
#endif
