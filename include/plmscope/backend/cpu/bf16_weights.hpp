// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/backend/bfloat16.hpp>
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
class bf16_weights : public cpu_kernels::panel_words<2> {
 public:
  /// Rows of x, rounded, `words()` words each; an odd last column is paired with zero.
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
    assign(pool, w, n, k, stride, [](std::size_t) {});
  }
  /// Other weights in the same memory where it suffices. also(row) is called for every row of w on
  /// the thread that has just read it.
  template <class Also>
  void assign(thread_pool& pool, const float* w, std::size_t n, std::size_t k, std::size_t stride,
              const Also& also) {
    reshape(n, k);
    pool.run(panels(), [&](std::size_t p) {
      static thread_local std::vector<std::uint32_t> scratch;
      cpu_kernels::pack_panel(p, n, words(), scratch, panel(p),
                              [&](std::size_t row, std::uint32_t* out) {
                                round_row(w + row * stride, k, out);
                                also(row);
                              });
    });
  }

  /// The transpose of w [k, n], rows `stride` apart, likewise.
  void assign_transposed(thread_pool& pool, const float* w, std::size_t n, std::size_t k,
                         std::size_t stride) {
    constexpr std::size_t wide = cpu_kernels::panel_columns;
    reshape(n, k);
    pool.run(words(), [&](std::size_t i) {
      const float* even = w + 2 * i * stride;
      const float* odd = 2 * i + 1 < k ? even + stride : nullptr;
      for (std::size_t p = 0; p < panels(); ++p) {
        std::uint32_t* to = panel(p) + i * wide;
        pair_words(even + p * wide, odd == nullptr ? odd : odd + p * wide, width(p), to);
        std::fill(to + width(p), to + wide, 0u);
      }
    });
  }

  /// The rounded weights as floats.
  void unpack(float* w, std::size_t stride) const noexcept {
    for (std::size_t r = 0; r < this->rows(); ++r) {
      for (std::size_t c = 0; c < cols(); ++c) {
        const std::uint32_t bits = c % 2 == 0 ? word(r, c) << 16 : word(r, c) & 0xffff0000u;
        std::memcpy(w + r * stride + c, &bits, sizeof bits);
      }
    }
  }

  /// The transpose of x [k, m], likewise.
  void round_transposed(const float* x, std::size_t stride, std::size_t m, operand& out) const {
    using vec = cpu_kernels::simd<float>::vec;
    constexpr std::size_t lanes = cpu_kernels::simd<float>::lanes;
    out.words.resize(std::max(out.words.size(), m * words()));
    for (std::size_t i = 0; i < words(); i += lanes) {
      const std::size_t pairs = std::min(lanes, words() - i);
      for (std::size_t r = 0; r < m; r += lanes) {
        const std::size_t rows = std::min(lanes, m - r);
        std::uint32_t line[lanes] = {};
        vec side[lanes] = {};
        for (std::size_t l = 0; l < pairs; ++l) {
          const float* even = x + 2 * (i + l) * stride + r;
          pair_words(even, 2 * (i + l) + 1 < cols() ? even + stride : nullptr, rows, line);
          std::memcpy(&side[l], line, sizeof line);
        }
        cpu_kernels::transpose_block(side);
        for (std::size_t l = 0; l < rows; ++l) {
          std::memcpy(out.words.data() + (r + l) * words() + i, &side[l],
                      pairs * sizeof(std::uint32_t));
        }
      }
    }
  }

  /// m rows of x [m, k] as `product` takes them.
  void round(const float* x, std::size_t stride, std::size_t m, operand& out) const {
    out.words.resize(std::max(out.words.size(), m * words()));
    for (std::size_t r = 0; r < m; ++r) {
      round_row(x + r * stride, cols(), out.words.data() + r * words());
    }
  }

  /// out[i][j] (+)= bias[j] + sum_c x[i][c] w[64 p + j][c] for m rows of x and the panel p, which
  /// is 64 columns of `out`, or those that are left. `bias`: of this panel, or null.
  void product(const operand& x, std::size_t m, std::size_t p, const float* bias, bool add,
               float* out, std::size_t stride) const noexcept {
    static constexpr std::array kernels{block<1>, block<2>, block<3>, block<4>, block<5>, block<6>};
    float padded[cpu_kernels::panel_columns];
    const float* b = cpu_kernels::panel_bias(bias, width(p), padded);
    cpu_kernels::each_row_block(m, width(p), words(), panel(p), next_panel(p), add, out, stride,
                                [&](std::size_t row, std::size_t count, const std::uint32_t* ahead,
                                    float* to, std::size_t to_stride) {
                                  kernels[count - 1](words(), x.words.data() + row * words(),
                                                     panel(p), ahead, b, add, to, to_stride);
                                });
  }

 private:
  static void round_row(const float* x, std::size_t k, std::uint32_t* out) noexcept {
    std::uint16_t piece[128];
    for (std::size_t c = 0; c < k; c += 128) {
      const std::size_t n = std::min<std::size_t>(128, k - c);
      to_bfloat16(x + c, piece, n);
      if (n % 2 != 0) piece[n] = 0;
      std::memcpy(out + c / 2, piece, (n + 1) / 2 * sizeof(std::uint32_t));
    }
  }

  /// out[j] = even[j] and odd[j] (0 where there is none), rounded, n <= 64 of them.
  static void pair_words(const float* even, const float* odd, std::size_t n,
                         std::uint32_t* out) noexcept {
    std::uint16_t low[cpu_kernels::panel_columns];
    std::uint16_t high[cpu_kernels::panel_columns] = {};
    to_bfloat16(even, low, n);
    if (odd != nullptr) to_bfloat16(odd, high, n);
    for (std::size_t j = 0; j < n; ++j) {
      out[j] = static_cast<std::uint32_t>(low[j]) | static_cast<std::uint32_t>(high[j]) << 16;
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
};

}  // namespace plmscope::inline PLMSCOPE_ABI

#if defined(__CUDACC__)
#pragma nv_diagnostic pop
#endif
