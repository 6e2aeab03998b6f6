// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/backend/bfloat16.hpp>
#include <plmscope/backend/cpu/aligned_buffer.hpp>
#include <plmscope/backend/cpu/panels.hpp>
#include <plmscope/core/thread_pool.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#if defined(__CUDACC__)  // its front end does not know `#pragma GCC unroll`
#pragma nv_diagnostic push
#pragma nv_diag_suppress 1675
#endif

namespace plmscope::inline PLMSCOPE_ABI {

/// Weights w [n, k] of y = x w^T in bfloat16, in panels (`cpu_kernels::panel_columns`). Half the
/// bytes of the weights.
///
/// The product needs AVX512-BF16, whatever the program is compiled for: 95 % of the peak measured
/// on Zen 5 (docs/rationale.md compares it with oneDNN). An entry of y is the sum over pairs of
/// columns in order, from the bias on, so its bits depend on its own row of x and row of w alone.
class bf16_weights {
 public:
  /// Rows of x, rounded, `pairs()` words each; an odd last column is paired with zero.
  struct operand {
    std::vector<std::uint32_t> words;
  };

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
    constexpr std::size_t wide = cpu_kernels::panel_columns;
    n_ = n;
    k_ = k;
    const std::size_t words = panels() * wide * pairs();
    if (words_.size() < words) words_ = aligned_buffer<std::uint32_t>(words);
    pool.run(panels(), [&](std::size_t p) {
      cpu_kernels::pack_panel(
          p, n, k, 2, words_.get() + p * wide * pairs(),
          [&](std::size_t row, std::size_t first, std::size_t columns, std::uint32_t* out) {
            round_row(w + row * stride + first, columns, out);
          });
      rows(p * wide, std::min(wide, n - p * wide));
    });
  }

  bool empty() const noexcept { return n_ == 0; }
  std::size_t rows() const noexcept { return n_; }
  std::size_t cols() const noexcept { return k_; }
  std::size_t panels() const noexcept {
    return (n_ + cpu_kernels::panel_columns - 1) / cpu_kernels::panel_columns;
  }
  std::size_t pairs() const noexcept { return (k_ + 1) / 2; }

  /// The rounded weights as floats.
  void unpack(float* w, std::size_t stride) const noexcept {
    for (std::size_t r = 0; r < n_; ++r) {
      const std::uint32_t* from = panel(r / cpu_kernels::panel_columns);
      for (std::size_t c = 0; c < k_; ++c) {
        const std::uint32_t word =
            from[c / 2 * cpu_kernels::panel_columns + r % cpu_kernels::panel_columns];
        const std::uint32_t bits = c % 2 == 0 ? word << 16 : word & 0xffff0000u;
        std::memcpy(w + r * stride + c, &bits, sizeof bits);
      }
    }
  }

  /// m rows of x [m, k] as `product` takes them.
  void round(const float* x, std::size_t stride, std::size_t m, operand& out) const {
    out.words.resize(std::max(out.words.size(), m * pairs()));
    for (std::size_t r = 0; r < m; ++r) {
      round_row(x + r * stride, k_, out.words.data() + r * pairs());
    }
  }

  /// out[i][j] (+)= bias[j] + sum_c x[i][c] w[64 p + j][c] for m rows of x and the panel p, which
  /// is 64 columns of `out`, or those that are left. `bias`: of this panel, or null.
  void product(const operand& x, std::size_t m, std::size_t p, const float* bias, bool add,
               float* out, std::size_t stride) const noexcept {
    static constexpr std::array kernels{block<1>, block<2>, block<3>, block<4>, block<5>, block<6>};
    const std::size_t width =
        std::min(cpu_kernels::panel_columns, n_ - p * cpu_kernels::panel_columns);
    float padded[cpu_kernels::panel_columns];
    const float* b = cpu_kernels::panel_bias(bias, width, padded);
    cpu_kernels::each_row_block(m, width, pairs(), panel(p),
                                p + 1 < panels() ? panel(p + 1) : nullptr, add, out, stride,
                                [&](std::size_t row, std::size_t count, const std::uint32_t* ahead,
                                    float* to, std::size_t to_stride) {
                                  kernels[count - 1](pairs(), x.words.data() + row * pairs(),
                                                     panel(p), ahead, b, add, to, to_stride);
                                });
  }

 private:
  const std::uint32_t* panel(std::size_t p) const noexcept {
    return words_.get() + p * cpu_kernels::panel_columns * pairs();
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
        column[v] = (__m512bh)_mm512_load_si512(w + (4 * i + v) * 16);
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
#else
  template <std::size_t>
  static void block(std::size_t, const std::uint32_t*, const std::uint32_t*, const std::uint32_t*,
                    const float*, bool, float*, std::size_t) noexcept {}  // available() is false
#endif

  std::size_t n_ = 0;
  std::size_t k_ = 0;
  aligned_buffer<std::uint32_t> words_;  // the left column of a pair in the low half
};

}  // namespace plmscope::inline PLMSCOPE_ABI

#if defined(__CUDACC__)
#pragma nv_diagnostic pop
#endif
