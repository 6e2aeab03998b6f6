// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/backend/cpu/aligned_buffer.hpp>
#include <plmscope/backend/cpu/panels.hpp>
#include <plmscope/backend/rules.hpp>
#include <plmscope/core/error.hpp>
#include <plmscope/core/thread_pool.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#if defined(__CUDACC__)  // its front end does not know `#pragma GCC unroll`
#pragma nv_diagnostic push
#pragma nv_diag_suppress 1675
#endif

namespace plmscope::inline PLMSCOPE_ABI {

/// Weights w [n, k] of y = x w^T in 8 bits, in panels (`cpu_kernels::panel_columns`). A quarter of
/// the bytes of the weights.
///
/// Every row of w, and every row of x when it comes, is divided by its scale (largest size / 127)
/// and rounded (Dettmers et al. 2022, "LLM.int8()", section 2.1, without outliers apart):
///   y[i][j] = scale_x[i] scale_w[j] sum_c q_x[i][c] q_w[j][c] + bias[j].
/// The sum is one of integers, exact in 32 bits up to k = 66,000, so its order does not matter. A
/// row with an entry that is not finite gives a row (column) of NaN. The product needs AVX512-VNNI.
class int8_weights : public cpu_kernels::panel_words<4> {
 public:
  static constexpr std::size_t longest = 66'000;

  /// Rows of x, quantised, `words()` words each, filled up with zeros.
  struct operand {
    std::vector<std::uint32_t> words;
    std::vector<float> scales;
    std::vector<std::int32_t> offsets;  // 128 sum_c q_x[i][c]: weights are stored with 128 added
  };

  /// Whether this processor multiplies 8-bit integers.
  static bool available() noexcept {
#if defined(__x86_64__)
    return __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bw");
#else
    return false;
#endif
  }

  int8_weights() = default;
  /// Quantises w [n, k], rows `stride` apart. Errors: backend.106 for k beyond `longest`.
  int8_weights(thread_pool& pool, const float* w, std::size_t n, std::size_t k,
               std::size_t stride) {
    if (k > longest) {
      throw error(rules::products_missing,
                  {.where = "int8", .found = "sums of " + std::to_string(k) + " products"});
    }
    reshape(n, k);
    scales_ = aligned_buffer<float>(panels() * cpu_kernels::panel_columns);
    pool.run(panels(), [&](std::size_t p) {
      static thread_local std::vector<std::uint32_t> scratch;
      cpu_kernels::pack_panel(p, n, words(), scratch, panel(p),
                              [&](std::size_t row, std::uint32_t* out) {
                                const float* from = w + row * stride;
                                scales_.get()[row] = scale_of(from, k);
                                quantise(from, k, scales_.get()[row], out);
                                for (std::size_t i = 0; i < words(); ++i) out[i] ^= 0x80808080u;
                              });
    });
  }

  /// The quantised weights as floats.
  void unpack(float* w, std::size_t stride) const noexcept {
    for (std::size_t r = 0; r < rows(); ++r) {
      for (std::size_t c = 0; c < cols(); ++c) {
        const auto q = static_cast<int>(word(r, c) >> (8 * (c % 4)) & 0xffu) - 128;
        w[r * stride + c] = static_cast<float>(q) * scales_.get()[r];
      }
    }
  }

  /// m rows of x [m, k] as `product` takes them.
  void round(const float* x, std::size_t stride, std::size_t m, operand& out) const {
    out.words.resize(std::max(out.words.size(), m * words()));
    out.scales.resize(std::max(out.scales.size(), m));
    out.offsets.resize(std::max(out.offsets.size(), m));
    for (std::size_t r = 0; r < m; ++r) {
      out.scales[r] = scale_of(x + r * stride, cols());
      out.offsets[r] =
          128 * quantise(x + r * stride, cols(), out.scales[r], out.words.data() + r * words());
    }
  }

  /// out[i][j] (+)= bias[j] + sum_c x[i][c] w[64 p + j][c] for m rows of x and the panel p, which
  /// is 64 columns of `out`, or those that are left. `bias`: of this panel, or null.
  void product(const operand& x, std::size_t m, std::size_t p, const float* bias, bool add,
               float* out, std::size_t stride) const noexcept {
    static constexpr std::array kernels{block<1>, block<2>, block<3>, block<4>, block<5>, block<6>};
    float padded[cpu_kernels::panel_columns];
    const float* b = cpu_kernels::panel_bias(bias, width(p), padded);
    const float* scales = scales_.get() + p * cpu_kernels::panel_columns;
    cpu_kernels::each_row_block(m, width(p), words(), panel(p), next_panel(p), add, out, stride,
                                [&](std::size_t row, std::size_t count, const std::uint32_t* ahead,
                                    float* to, std::size_t to_stride) {
                                  kernels[count - 1](words(), x, row, panel(p), scales, ahead, b,
                                                     add, to, to_stride);
                                });
  }

 private:
  /// Largest size / 127; 0 for zeros, NaN where an entry is not finite.
  static float scale_of(const float* x, std::size_t k) noexcept {
    float largest = 0;
    bool finite = true;
    for (std::size_t c = 0; c < k; ++c) {
      const float size = std::abs(x[c]);
      largest = size > largest ? size : largest;
      finite &= size <= std::numeric_limits<float>::max();
    }
    return finite ? largest / 127 : std::numeric_limits<float>::quiet_NaN();
  }

  /// Words of k entries divided by `scale`, and the sum of what is in them.
  static std::int32_t quantise(const float* x, std::size_t k, float scale,
                               std::uint32_t* out) noexcept {
    const float inverse = scale > 1e-37f ? 1 / scale : 0.0f;  // NaN, or nothing to keep
    std::int32_t sum = 0;
    std::int8_t piece[64];
    for (std::size_t c = 0; c < k; c += 64) {
      const std::size_t n = std::min<std::size_t>(64, k - c);
      if (n < 64) std::memset(piece, 0, sizeof piece);
      for (std::size_t i = 0; i < n; ++i) {
        // The sum of a small number and 1.5 * 2^23 is rounded to an integer, ties to even.
        const float whole = std::clamp(x[c + i] * inverse, -127.0f, 127.0f) + 12582912.0f;
        std::int32_t bits;
        std::memcpy(&bits, &whole, sizeof bits);
        const std::int32_t q = inverse == 0 ? 0 : bits - 0x4b400000;
        piece[i] = static_cast<std::int8_t>(q);
        sum += q;
      }
      std::memcpy(out + c / 4, piece, (n + 3) / 4 * sizeof(std::uint32_t));
    }
    return sum;
  }

#if defined(__x86_64__)
  // sum += u8 * s8, four products a lane. As an instruction: with the intrinsic g++ 12 keeps the
  // sums in memory, at half the speed.
  [[gnu::target("avx512f,avx512bw,avx512vnni"), gnu::always_inline]] static inline void
  multiply_add(__m512i& sum, __m512i unsigned_bytes, __m512i signed_bytes) noexcept {
    __asm__("{vpdpbusd %2, %1, %0|vpdpbusd %0, %1, %2}"
            : "+v"(sum)
            : "v"(unsigned_bytes), "v"(signed_bytes));
  }

  template <std::size_t Rows>
  [[gnu::target("avx512f,avx512bw,avx512vnni"), gnu::noinline]] static void block(
      std::size_t quads, const operand& x, std::size_t row, const std::uint32_t* w,
      const float* scales, const std::uint32_t* ahead, const float* bias, bool add, float* out,
      std::size_t stride) noexcept {
    const std::uint32_t* words = x.words.data() + row * quads;
    __m512i sum[Rows][4];
#pragma GCC unroll 6
    for (std::size_t r = 0; r < Rows; ++r) {
#pragma GCC unroll 4
      for (std::size_t v = 0; v < 4; ++v) sum[r][v] = _mm512_set1_epi32(-x.offsets[row + r]);
    }
    for (std::size_t i = 0; i < quads; ++i) {
      __m512i column[4];
#pragma GCC unroll 4
      for (std::size_t v = 0; v < 4; ++v) column[v] = _mm512_load_si512(w + (4 * i + v) * 16);
      _mm_prefetch(reinterpret_cast<const char*>(ahead + 16 * i), _MM_HINT_T1);
#pragma GCC unroll 6
      for (std::size_t r = 0; r < Rows; ++r) {
        const __m512i entry = _mm512_set1_epi32(static_cast<int>(words[r * quads + i]));
#pragma GCC unroll 4
        for (std::size_t v = 0; v < 4; ++v) {
          multiply_add(sum[r][v], column[v], entry);
        }
      }
    }
    // The masked conversion: g++ 12 warns of the plain one (GCC bug 105593).
#pragma GCC unroll 4
    for (std::size_t v = 0; v < 4; ++v) {
      const __m512 scale = _mm512_loadu_ps(scales + 16 * v);
      const __m512 start = bias != nullptr ? _mm512_loadu_ps(bias + 16 * v) : _mm512_setzero_ps();
#pragma GCC unroll 6
      for (std::size_t r = 0; r < Rows; ++r) {
        float* to = out + r * stride + 16 * v;
        const __m512 both = _mm512_mul_ps(scale, _mm512_set1_ps(x.scales[row + r]));
        const __m512 y = _mm512_fmadd_ps(_mm512_maskz_cvtepi32_ps(0xffff, sum[r][v]), both, start);
        _mm512_storeu_ps(to, add ? _mm512_add_ps(_mm512_loadu_ps(to), y) : y);
      }
    }
  }
#else
  template <std::size_t>
  static void block(std::size_t, const operand&, std::size_t, const std::uint32_t*, const float*,
                    const std::uint32_t*, const float*, bool, float*, std::size_t) noexcept {
  }  // available() is false
#endif

  aligned_buffer<float> scales_;  // of the rows of w
};

}  // namespace plmscope::inline PLMSCOPE_ABI

#if defined(__CUDACC__)
#pragma nv_diagnostic pop
#endif
