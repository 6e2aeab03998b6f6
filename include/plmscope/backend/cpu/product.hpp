// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/backend/cpu/aligned_buffer.hpp>
#include <plmscope/backend/cpu/simd.hpp>
#include <plmscope/backend/cpu/transposed_block.hpp>
#include <plmscope/core/thread_pool.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <type_traits>

#if defined(__CUDACC__)  // its front end does not know `#pragma GCC unroll`
#pragma nv_diagnostic push
#pragma nv_diag_suppress 1675
#endif

namespace plmscope::inline PLMSCOPE_ABI {
namespace cpu_kernels {

/// Memory of one thread that grows and stays.
template <class Real, int Which>
Real* kept_scratch(std::size_t n) {
  static thread_local aligned_buffer<Real> memory;
  if (memory.size() < n) memory = aligned_buffer<Real>(n);
  return memory.get();
}

/// Entries of x w^T with bits of their own. <x_i, w_j> is summed in `strands` parts, part s over
/// the columns s, s + strands, .. in order, from 0, a multiply-add at a time (fused where the
/// target has it); then the parts in order. Nothing else has a say: not the rows beside it, the
/// number of rows or columns, tiles, threads or the width of the target's vectors. `dots` computes
/// chosen entries, with a vector of strands; `run` whole products, strand by strand; to the same
/// bits.
///
/// 6 rows of x against a panel of rows of w stay in registers over a strand; the panel is copied
/// column by column into the second cache first and serves all rows of x of the tile.
template <class Real>
class ordered_product {
  using s = simd<Real>;
  using vec = typename s::vec;

 public:
  static constexpr std::size_t lanes = s::lanes;
  static constexpr std::size_t vectors = vector_bytes == 64 ? 4 : 2;
  static constexpr std::size_t panel = vectors * lanes;      ///< rows of w side by side
  static constexpr std::size_t row_block = 6;                ///< rows of x at a time
  static constexpr std::size_t most_rows = 170 * row_block;  ///< of a tile

  /// Of a row of k columns. Short rows are not worth parts.
  static constexpr std::size_t strands(std::size_t k) noexcept {
    return k < 256 ? 1 : most_strands;
  }

  /// store(i, j, sums, n) for all places of [m, w.rows()] in pieces of rows: sums[0, n) are the
  /// entries (i, j .. j + n). `x(i)`: where row i begins.
  template <class RowOf, class W, class Store>
  static void run(thread_pool& pool, std::size_t m, const RowOf& x, W w, const Store& store) {
    if (w.rows() == 0) return;
    for (std::size_t first = 0; first < m; first += most_rows) {
      tile(pool, first, std::min(most_rows, m - first), x, w, store);
    }
  }

  /// out[e] = <x, w[e]> for n rows of w; the same bits for rows of x and one of w.
  static void dots(std::size_t n, const Real* x, std::size_t k, const Real* const* w,
                   Real* out) noexcept {
    std::size_t e = 0;
    for (; e + 8 <= n; e += 8) dot<8>(x, k, w + e, out + e);
    if (e + 4 <= n) {
      dot<4>(x, k, w + e, out + e);
      e += 4;
    }
    if (e + 2 <= n) {
      dot<2>(x, k, w + e, out + e);
      e += 2;
    }
    if (e < n) dot<1>(x, k, w + e, out + e);
  }

 private:
  static constexpr std::size_t most_strands = 8;

  template <std::size_t Count>
  static void dot(const Real* x, std::size_t k, const Real* const* w, Real* out) noexcept {
    if (strands(k) == 1) {
      for (std::size_t e = 0; e < Count; ++e) {
        Real sum = 0;
        for (std::size_t c = 0; c < k; ++c) add_product(sum, w[e][c], x[c]);
        out[e] = sum;
      }
      return;
    }
    typedef Real parts __attribute__((vector_size(most_strands * sizeof(Real)), may_alias));
    parts sum[Count] = {};
    std::size_t c = 0;
    for (; c + most_strands <= k; c += most_strands) {
      parts entry;
      std::memcpy(&entry, x + c, sizeof entry);
#pragma GCC unroll 8
      for (std::size_t e = 0; e < Count; ++e) {
        parts v;
        std::memcpy(&v, w[e] + c, sizeof v);
        add_product(sum[e], v, entry);
      }
    }
    for (std::size_t e = 0; e < Count; ++e) {
      Real part[most_strands];
      std::memcpy(part, &sum[e], sizeof part);
      for (std::size_t l = 0; c + l < k; ++l) {
        add_product(part[l], w[e][c + l], x[c + l]);
      }
      out[e] = part[0];
      for (std::size_t l = 1; l < most_strands; ++l) out[e] += part[l];
    }
  }

  /// Where strand s of a row begins when its strands lie one after another.
  static std::size_t begin(std::size_t k, std::size_t strand) noexcept {
    const std::size_t n = strands(k);
    return strand * (k / n) + std::min(strand, k % n);
  }

  template <class RowOf, class W, class Store>
  static void tile(thread_pool& pool, std::size_t first, std::size_t m, const RowOf& x, W w,
                   const Store& store) {
    const std::size_t k = w.cols();
    const std::size_t parts = strands(k);
    Real* sorted = parts == 1 ? nullptr : kept_scratch<Real, 1>(m * k);
    if (parts > 1) {
      pool.run((m + 15) / 16, [&](std::size_t t) {
        for (std::size_t i = t * 16; i < std::min(m, (t + 1) * 16); ++i) {
          const Real* from = x(first + i);
          for (std::size_t l = 0; l < parts; ++l) {
            Real* to = sorted + i * k + begin(k, l);
            for (std::size_t c = l; c < k; c += parts) *to++ = from[c];
          }
        }
      });
    }
    const auto row_of = [&](std::size_t i) { return parts == 1 ? x(first + i) : sorted + i * k; };
    const std::size_t panels = (w.rows() + panel - 1) / panel;
    const std::size_t together = std::clamp<std::size_t>(panels / (4 * pool.threads()), 1, 8);
    const std::size_t across = (panels + together - 1) / together;
    const std::size_t turns =
        std::clamp<std::size_t>((2 * pool.threads() + across - 1) / across, 1, (m + 95) / 96);
    const std::size_t height = ((m + turns - 1) / turns + row_block - 1) / row_block * row_block;
    pool.run(across * ((m + height - 1) / height), [&](std::size_t t) {
      const std::size_t row = t / across * height;
      const std::size_t p = t % across * together;
      const auto keep = [&](std::size_t i, std::size_t j, const Real* sums, std::size_t n) {
        store(first + i, j, sums, n);
      };
      for (std::size_t i = p; i < std::min(panels, p + together); ++i) {
        one_panel(row, std::min(m, row + height), row_of, w, i * panel, keep);
      }
    });
  }

  template <class RowOf, class W, class Store>
  static void one_panel(std::size_t first, std::size_t last, const RowOf& x, W w,
                        std::size_t column, const Store& store) {
    const std::size_t k = w.cols();
    const std::size_t parts = strands(k);
    const std::size_t width = std::min(panel, w.rows() - column);
    const std::size_t blocks = (last - first + row_block - 1) / row_block;
    // As many strands at a time as the second cache holds; sums of all rows are put aside between.
    constexpr std::size_t room = (std::size_t{700} << 10) / (panel * sizeof(Real));
    const std::size_t longest = (k + parts - 1) / parts;
    const std::size_t together =
        std::clamp<std::size_t>(room / std::max<std::size_t>(longest, 1), 1, parts);
    const std::size_t kept = together == parts ? row_block : blocks * row_block;
    Real* packed = kept_scratch<Real, 0>((together * longest + kept) * panel);
    Real* sums = packed + together * longest * panel;
    for (std::size_t part = 0; part < parts; part += together) {
      const std::size_t end = std::min(parts, part + together);
      const std::size_t base = begin(k, part);
      pack(w, column, width, part, end, packed);
      // Rows of the next panel are asked for on the way.
      const std::size_t lines = (k + lanes - 1) / lanes;
      const std::size_t share = (panel * lines + blocks - 1) / blocks;
      std::size_t fetched = 0;
      for (std::size_t i = first; i < last; i += row_block) {
        for (const std::size_t until = std::min(fetched + share, panel * lines); fetched < until;
             ++fetched) {
          const std::size_t r = column + panel + fetched / lines;
          if (end == parts && r < w.rows()) {
            __builtin_prefetch(w.row_data(r) + fetched % lines * lanes, 0, 2);
          }
        }
        const std::size_t rows = std::min(row_block, last - i);
        Real* to = together == parts ? sums : sums + (i - first) * panel;
        static constexpr std::array kernels{block<1>, block<2>, block<3>,
                                            block<4>, block<5>, block<6>};
        for (std::size_t l = part; l < end; ++l) {
          const Real* from[row_block];
          for (std::size_t r = 0; r < rows; ++r) from[r] = x(i + r) + begin(k, l);
          kernels[rows - 1](begin(k, l + 1) - begin(k, l), from,
                            packed + (begin(k, l) - base) * panel, l > 0, to);
        }
        if (end < parts) continue;
        for (std::size_t r = 0; r < rows; ++r) store(i + r, column, to + r * panel, width);
      }
    }
  }

  /// Strands [part, end) of a panel, [column][row of w]; zeros past `width`.
  template <class W>
  static void pack(W w, std::size_t first, std::size_t width, std::size_t part, std::size_t end,
                   Real* out) noexcept {
    const std::size_t k = w.cols();
    const std::size_t parts = strands(k);
    std::array<std::size_t, most_strands> starts = {};
    for (std::size_t l = part; l < end; ++l) starts[l] = begin(k, l) - begin(k, part);
    const auto inside = [&](std::size_t c) {
      const std::size_t l = c % most_strands;
      return parts == 1 || (l >= part && l < end);
    };
    const auto place = [&](std::size_t c) {
      return out + (parts == 1 ? c : starts[c % most_strands] + c / most_strands) * panel;
    };
    for (std::size_t v = 0; v < panel; v += lanes) {
      const std::size_t height = std::min(lanes, width - std::min(width, v));
      std::size_t c = 0;
      for (; height == lanes && c + lanes <= k; c += lanes) {
        vec r[lanes];
#pragma GCC unroll 16
        for (std::size_t l = 0; l < lanes; ++l) s::load(r[l], w.row_data(first + v + l) + c);
        transpose_block(r);
#pragma GCC unroll 16
        for (std::size_t l = 0; l < lanes; ++l) {
          if (inside(c + l)) s::store(place(c + l) + v, r[l]);
        }
      }
      for (; c < k; ++c) {
        if (!inside(c)) continue;
        Real* to = place(c);
        for (std::size_t l = 0; l < height; ++l) to[v + l] = w.row_data(first + v + l)[c];
        std::fill_n(to + v + height, lanes - height, Real{0});
      }
    }
  }

  /// sums[r][j] (+)= sum over i, in order, of x[r][i] w[i][j].
  template <std::size_t Rows>
  static void block(std::size_t k, const Real* const* x, const Real* w, bool add,
                    Real* sums) noexcept {
    vec sum[Rows][vectors] = {};
    const Real* row[Rows];
#pragma GCC unroll 6
    for (std::size_t r = 0; r < Rows; ++r) row[r] = x[r];
    for (std::size_t i = 0; i < k; ++i) {
      vec column[vectors];
#pragma GCC unroll 4
      for (std::size_t v = 0; v < vectors; ++v) s::load(column[v], w + i * panel + v * lanes);
#pragma GCC unroll 6
      for (std::size_t r = 0; r < Rows; ++r) {
        const vec entry = row[r][i] - vec{};  // in every lane
#pragma GCC unroll 4
        for (std::size_t v = 0; v < vectors; ++v) {
          add_product(sum[r][v], column[v], entry);
        }
      }
    }
#pragma GCC unroll 6
    for (std::size_t r = 0; r < Rows; ++r) {
#pragma GCC unroll 4
      for (std::size_t v = 0; v < vectors; ++v) {
        Real* to = sums + r * panel + v * lanes;
        vec before = {};
        if (add) {
          s::load(before, to);
          sum[r][v] = before + sum[r][v];
        }
        s::store(to, sum[r][v]);
      }
    }
  }
};

}  // namespace cpu_kernels
}  // namespace plmscope::inline PLMSCOPE_ABI

#if defined(__CUDACC__)
#pragma nv_diagnostic pop
#endif
