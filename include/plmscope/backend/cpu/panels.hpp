// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/config.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>

namespace plmscope::inline PLMSCOPE_ABI {
namespace cpu_kernels {

// The order in which weights w [n, k] of y = x w^T lie for kernels that keep a block of sums in
// registers over all of k: panels of 64 rows of w; in a panel the words of 64 rows side by side, a
// word being the neighbouring columns that one instruction takes (two of bfloat16, four of int8).
inline constexpr std::size_t panel_columns = 64;
inline constexpr std::size_t panel_rows = 6;  ///< rows of x at a time: 6 x 4 sums of 16 lanes

/// One panel of y: `width` <= 64 columns of `out` from m rows of x, `words` words long each.
/// run(row, count, ahead, to, stride) computes `count` <= 6 rows from `row` on, 64 columns wide, at
/// `to`, and asks for the 64 * words bytes at `ahead`: the first blocks of rows bring a quarter of
/// the next panel each (`next`, or null). `keep`: `to` holds what `out` held.
template <class Run>
void each_row_block(std::size_t m, std::size_t width, std::size_t words, const std::uint32_t* panel,
                    const std::uint32_t* next, bool keep, float* out, std::size_t stride,
                    const Run& run) noexcept {
  alignas(64) float padded[panel_rows * panel_columns];
  for (std::size_t r = 0; r < m; r += panel_rows) {
    const std::size_t count = std::min(panel_rows, m - r);
    const bool fetch = next != nullptr && r < 4 * panel_rows;
    const std::uint32_t* ahead = fetch ? next + r / panel_rows * words / 4 * panel_columns : panel;
    float* to = out + r * stride;
    if (width == panel_columns) {
      run(r, count, ahead, to, stride);
      continue;
    }
    for (std::size_t i = 0; keep && i < count; ++i) {
      std::copy_n(to + i * stride, width, padded + i * panel_columns);
    }
    run(r, count, ahead, padded, panel_columns);
    for (std::size_t i = 0; i < count; ++i) {
      std::copy_n(padded + i * panel_columns, width, to + i * stride);
    }
  }
}

/// A panel's part of a bias, in `padded` where 64 entries cannot be read. Null stays null.
inline const float* panel_bias(const float* bias, std::size_t width,
                               float (&padded)[panel_columns]) noexcept {
  if (bias == nullptr || width == panel_columns) return bias;
  std::fill(std::copy_n(bias, width, padded), padded + panel_columns, 0.0f);
  return padded;
}

/// Panel p of weights [n, k]: words(row, first column, columns, out) makes the words of a piece of
/// a row of w; they are written to `to`, word by word of all rows.
template <class Words>
void pack_panel(std::size_t p, std::size_t n, std::size_t k, std::size_t columns_a_word,
                std::uint32_t* to, const Words& words) {
  constexpr std::size_t step = 16;
  std::uint32_t block[panel_columns][step] = {};
  const std::size_t height = std::min(panel_columns, n - p * panel_columns);
  for (std::size_t first = 0; first < k; first += step * columns_a_word) {
    const std::size_t columns = std::min(step * columns_a_word, k - first);
    for (std::size_t r = 0; r < height; ++r) {
      words(p * panel_columns + r, first, columns, block[r]);
    }
    for (std::size_t i = 0; i * columns_a_word < columns; ++i) {
      for (std::size_t r = 0; r < panel_columns; ++r) *to++ = block[r][i];
    }
  }
}

}  // namespace cpu_kernels
}  // namespace plmscope::inline PLMSCOPE_ABI
