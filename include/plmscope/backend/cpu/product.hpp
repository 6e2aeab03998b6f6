// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/backend/cpu/aligned_buffer.hpp>
#include <plmscope/backend/cpu/simd.hpp>
#include <plmscope/backend/cpu/transposed_block.hpp>
#include <plmscope/core/thread_pool.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <utility>

#if defined(__CUDACC__)  // its front end does not know `#pragma GCC unroll`
#pragma nv_diagnostic push
#pragma nv_diag_suppress 1675
#endif

namespace plmscope::inline PLMSCOPE_ABI {
namespace cpu_kernels {

/// Memory of one thread that grows and stays.
template <class Real>
Real* kept_scratch(std::size_t n) {
  static thread_local aligned_buffer<Real> memory;
  if (memory.size() < n) memory = aligned_buffer<Real>(n);
  return memory.get();
}

/// Entries of x w^T with bits of their own: <x_i, w_j> is summed over the columns in order, from 0,
/// a multiply-add at a time (fused where the target has it). Nothing else has a say: not the rows
/// beside it, the number of rows or columns, tiles or threads. `dots` computes chosen entries, the
/// rest of this class whole products, to the same bits.
///
/// 6 rows of x against a panel of rows of w stay in registers over all columns; the panel is copied
/// column by column into the second cache first and serves all rows of x of the tile.
template <class Real>
class ordered_product {
  using s = simd<Real>;
  using vec = typename s::vec;

 public:
  static constexpr std::size_t lanes = s::lanes;
  static constexpr std::size_t vectors = vector_bytes == 64 ? 4 : 2;
  static constexpr std::size_t panel = vectors * lanes;  ///< rows of w side by side
  static constexpr std::size_t row_block = 6;            ///< rows of x at a time
  /// Columns of a panel that are copied at a time; sums of wider rows are put aside between.
  static constexpr std::size_t depth = (std::size_t{400} << 10) / (panel * sizeof(Real));
  static constexpr std::size_t most_rows = 170 * row_block;  ///< of a tile

  /// store(i, j, sums, n) for all places of [m, w.rows()] in pieces of rows: sums[0, n) are the
  /// entries (i, j .. j + n). `x(i)`: where row i begins.
  template <class RowOf, class W, class Store>
  static void run(thread_pool& pool, std::size_t m, const RowOf& x, W w, const Store& store) {
    if (m == 0 || w.rows() == 0) return;
    const std::size_t panels = (w.rows() + panel - 1) / panel;
    const std::size_t together = std::clamp<std::size_t>(panels / (4 * pool.threads()), 1, 8);
    const std::size_t across = (panels + together - 1) / together;
    const std::size_t wanted = (2 * pool.threads() + across - 1) / across;
    const std::size_t most = std::min(most_rows, std::max<std::size_t>(96, (m + wanted - 1) / wanted));
    const std::size_t turns = (m + most - 1) / most;
    const std::size_t height = ((m + turns - 1) / turns + row_block - 1) / row_block * row_block;
    const std::size_t down = (m + height - 1) / height;
    pool.run(across * down, [&](std::size_t t) {
      const std::size_t row = t / across * height;
      const std::size_t first = t % across * together;
      for (std::size_t p = first; p < std::min(panels, first + together); ++p) {
        one_panel(row, std::min(m, row + height), x, w, p, store);
      }
    });
  }

  /// out[l] = <x, w[l]> for `Groups * lanes` rows of w. `ahead`: rows that will be asked for next.
  template <std::size_t Groups>
  static void dots(const Real* x, std::size_t k, const Real* const* w, const Real* const* ahead,
                   Real* out) noexcept {
    vec sum[Groups] = {};
    std::size_t c = 0;
    for (; c + lanes <= k; c += lanes) {
#pragma GCC unroll 4
      for (std::size_t g = 0; g < Groups; ++g) {
        vec r[lanes];
#pragma GCC unroll 16
        for (std::size_t l = 0; l < lanes; ++l) {
          s::load(r[l], w[g * lanes + l] + c);
          __builtin_prefetch(ahead[g * lanes + l] + c);
        }
        transpose_block(r);
#pragma GCC unroll 16
        for (std::size_t l = 0; l < lanes; ++l) sum[g] += r[l] * x[c + l];
      }
    }
    for (; c < k; ++c) {
      for (std::size_t g = 0; g < Groups; ++g) {
        Real column[lanes];
        for (std::size_t l = 0; l < lanes; ++l) column[l] = w[g * lanes + l][c];
        vec v;
        s::load(v, column);
        sum[g] += v * x[c];
      }
    }
    for (std::size_t g = 0; g < Groups; ++g) s::store(out + g * lanes, sum[g]);
  }

 private:
  template <class RowOf, class W, class Store>
  static void one_panel(std::size_t first, std::size_t last, const RowOf& x, W w, std::size_t p,
                        const Store& store) {
    const std::size_t k = w.cols();
    const std::size_t column = p * panel;
    const std::size_t width = std::min(panel, w.rows() - column);
    const std::size_t count = last - first;
    // With more than one piece of columns, sums of all rows of the tile are put aside.
    const bool pieces = k > depth;
    const std::size_t kept = pieces ? (count + row_block - 1) / row_block * row_block : row_block;
    Real* packed = kept_scratch<Real>((std::min(k, depth) + kept) * panel);
    Real* sums = packed + std::min(k, depth) * panel;
    const std::size_t lines = std::min(k, depth) / lanes;
    const std::size_t blocks = (count + row_block - 1) / row_block;
    std::size_t c = 0;
    do {
      const std::size_t n = std::min(depth, k - c);
      pack(w, column, width, c, n, packed);
      // What comes next: the following columns of these rows of w, or the next rows.
      const std::size_t next_row = c + n < k ? column : column + panel;
      const std::size_t next_column = c + n < k ? c + n : 0;
      const std::size_t share = (panel * lines + blocks - 1) / blocks;
      std::size_t fetched = 0;
      for (std::size_t i = first; i < last; i += row_block) {
        for (const std::size_t end = std::min(fetched + share, panel * lines); fetched < end;
             ++fetched) {
          const std::size_t r = next_row + fetched / lines;
          const std::size_t at = next_column + fetched % lines * lanes;
          if (r < w.rows() && at < k) __builtin_prefetch(w.row_data(r) + at, 0, 2);
        }
        const std::size_t rows = std::min(row_block, last - i);
        const Real* from[row_block];
        for (std::size_t r = 0; r < rows; ++r) from[r] = x(i + r) + c;
        Real* to = pieces ? sums + (i - first) * panel : sums;
        static constexpr std::array kernels{block<1>, block<2>, block<3>,
                                            block<4>, block<5>, block<6>};
        kernels[rows - 1](n, from, packed, c > 0, to);
        if (c + n < k) continue;
        for (std::size_t r = 0; r < rows; ++r) store(i + r, column, to + r * panel, width);
      }
      c += n;
    } while (c < k);
  }

  /// out[c][l] = w[first + l][column + c]; zeros past `width`.
  template <class W>
  static void pack(W w, std::size_t first, std::size_t width, std::size_t column, std::size_t n,
                   Real* out) noexcept {
    for (std::size_t v = 0; v < panel; v += lanes) {
      const std::size_t height = std::min(lanes, width - std::min(width, v));
      std::size_t c = 0;
      for (; height == lanes && c + lanes <= n; c += lanes) {
        vec r[lanes];
#pragma GCC unroll 16
        for (std::size_t l = 0; l < lanes; ++l) s::load(r[l], w.row_data(first + v + l) + column + c);
        transpose_block(r);
#pragma GCC unroll 16
        for (std::size_t l = 0; l < lanes; ++l) s::store(out + (c + l) * panel + v, r[l]);
      }
      for (; c < n; ++c) {
        Real* to = out + c * panel + v;
        for (std::size_t l = 0; l < height; ++l) to[l] = w.row_data(first + v + l)[column + c];
        std::fill_n(to + height, lanes - height, Real{0});
      }
    }
  }

  template <std::size_t Rows>
  static void block(std::size_t k, const Real* const* x, const Real* w, bool resume,
                    Real* sums) noexcept {
    vec sum[Rows][vectors];
    const Real* row[Rows];
#pragma GCC unroll 6
    for (std::size_t r = 0; r < Rows; ++r) {
      row[r] = x[r];
#pragma GCC unroll 4
      for (std::size_t v = 0; v < vectors; ++v) {
        sum[r][v] = vec{};
        if (resume) s::load(sum[r][v], sums + r * panel + v * lanes);
      }
    }
    for (std::size_t i = 0; i < k; ++i) {
      vec column[vectors];
#pragma GCC unroll 4
      for (std::size_t v = 0; v < vectors; ++v) s::load(column[v], w + i * panel + v * lanes);
#pragma GCC unroll 6
      for (std::size_t r = 0; r < Rows; ++r) {
        const Real entry = row[r][i];
#pragma GCC unroll 4
        for (std::size_t v = 0; v < vectors; ++v) sum[r][v] += column[v] * entry;
      }
    }
#pragma GCC unroll 6
    for (std::size_t r = 0; r < Rows; ++r) {
#pragma GCC unroll 4
      for (std::size_t v = 0; v < vectors; ++v) s::store(sums + r * panel + v * lanes, sum[r][v]);
    }
  }
};

}  // namespace cpu_kernels
}  // namespace plmscope::inline PLMSCOPE_ABI

#if defined(__CUDACC__)
#pragma nv_diagnostic pop
#endif
