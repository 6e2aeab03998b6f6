// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/backend/cpu/bf16_weights.hpp>
#include <plmscope/backend/cpu/dense.hpp>
#include <plmscope/core/thread_pool.hpp>

#include <algorithm>
#include <cstddef>

namespace plmscope::inline PLMSCOPE_ABI {
namespace cpu_kernels {

/// c = op(a) op(b) + beta c with both operands rounded to bfloat16 on the way, sums in fp32: the
/// right one is packed as weights are, the left one tile by tile of rows. The rounding costs what
/// reading the operands costs.
class bf16_product {
 public:
  /// c[m, n] = a[m, k] b[n, k]^T + beta c
  template <class A, class C>
  static void nt(thread_pool& pool, A a, A b, C c, float beta) {
    auto& w = weights();
    w.assign(pool, b.data(), b.rows(), b.cols(), b.stride(), [](std::size_t) {});
    multiply(pool, w, c, beta, [&](std::size_t first, std::size_t rows, auto& out) {
      w.round(a.row_data(first), a.stride(), rows, out);
    });
  }
  /// c[m, n] = a[m, k] b[k, n] + beta c
  template <class A, class C>
  static void nn(thread_pool& pool, A a, A b, C c, float beta) {
    auto& w = weights();
    w.assign_transposed(pool, b.data(), b.cols(), b.rows(), b.stride());
    multiply(pool, w, c, beta, [&](std::size_t first, std::size_t rows, auto& out) {
      w.round(a.row_data(first), a.stride(), rows, out);
    });
  }
  /// c[m, n] = a[k, m]^T b[k, n] + beta c
  template <class A, class C>
  static void tn(thread_pool& pool, A a, A b, C c, float beta) {
    auto& w = weights();
    w.assign_transposed(pool, b.data(), b.cols(), b.rows(), b.stride());
    multiply(pool, w, c, beta, [&](std::size_t first, std::size_t rows, auto& out) {
      w.round_transposed(a.data() + first, a.stride(), rows, out);
    });
  }

 private:
  static bf16_weights& weights() {
    static thread_local bf16_weights kept;
    return kept;
  }

  template <class C, class Round>
  static void multiply(thread_pool& pool, const bf16_weights& w, C c, float beta,
                       const Round& round) {
    const std::size_t tile = panel_tile_rows(c.rows(), pool.threads());
    pool.run((c.rows() + tile - 1) / tile, [&](std::size_t t) {
      static thread_local bf16_weights::operand rounded;
      const std::size_t first = t * tile;
      const std::size_t rows = std::min(tile, c.rows() - first);
      round(first, rows, rounded);
      for (std::size_t i = first; beta != 0 && beta != 1 && i < first + rows; ++i) {
        float* y = c.row_data(i);
        for (std::size_t j = 0; j < c.cols(); ++j) y[j] *= beta;
      }
      for (std::size_t p = 0; p < w.panels(); ++p) {
        w.product(rounded, rows, p, nullptr, beta != 0, c.row_data(first) + p * panel_columns,
                  c.stride());
      }
    });
  }
};

}  // namespace cpu_kernels
}  // namespace plmscope::inline PLMSCOPE_ABI
