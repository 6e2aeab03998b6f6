// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/backend/cpu/aligned_buffer.hpp>
#include <plmscope/backend/cpu/simd.hpp>
#include <plmscope/backend/cpu/transposed_block.hpp>
#include <plmscope/config.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

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

/// Panel p of weights [n, k] with `words` words a row: row_words(row, out) makes those of a row of
/// w; they are written to `to`, word by word of all rows. `scratch` grows to the words of a panel.
template <class RowWords>
void pack_panel(std::size_t p, std::size_t n, std::size_t words,
                std::vector<std::uint32_t>& scratch, std::uint32_t* to, const RowWords& row_words) {
  constexpr std::size_t lanes = simd<float>::lanes;  // words as floats, for their sizes are equal
  const std::size_t pitch = (words + lanes - 1) / lanes * lanes;
  const std::size_t height = std::min(panel_columns, n - p * panel_columns);
  scratch.resize(std::max(scratch.size(), panel_columns * pitch));
  for (std::size_t r = 0; r < height; ++r) {
    row_words(p * panel_columns + r, scratch.data() + r * pitch);
  }
  std::fill(scratch.data() + height * pitch, scratch.data() + panel_columns * pitch, 0u);
  for (std::size_t i = 0; i < words; i += lanes) {
    for (std::size_t r = 0; r < panel_columns; r += lanes) {
      simd<float>::vec side[lanes];
      for (std::size_t l = 0; l < lanes; ++l) {
        std::memcpy(&side[l], scratch.data() + (r + l) * pitch + i, sizeof side[l]);
      }
      transpose_block(side);
      for (std::size_t l = 0; l < std::min(lanes, words - i); ++l) {
        std::memcpy(to + (i + l) * panel_columns + r, &side[l], sizeof side[l]);
      }
    }
  }
}

/// Weights [n, k] in panels, `ColumnsAWord` columns in a word; the columns that fill up a row's
/// last word are zero.
template <std::size_t ColumnsAWord>
class panel_words {
 public:
  bool empty() const noexcept { return n_ == 0; }
  std::size_t rows() const noexcept { return n_; }
  std::size_t cols() const noexcept { return k_; }
  std::size_t panels() const noexcept { return (n_ + panel_columns - 1) / panel_columns; }
  /// Words of a row.
  std::size_t words() const noexcept { return (k_ + ColumnsAWord - 1) / ColumnsAWord; }

 protected:
  panel_words() = default;

  /// Another shape, in the same memory where it suffices.
  void reshape(std::size_t n, std::size_t k) {
    n_ = n;
    k_ = k;
    const std::size_t all = panels() * panel_columns * words();
    if (memory_.size() < all) memory_ = aligned_buffer<std::uint32_t>(all);
  }
  std::uint32_t* panel(std::size_t p) noexcept {
    return memory_.get() + p * panel_columns * words();
  }
  const std::uint32_t* panel(std::size_t p) const noexcept {
    return memory_.get() + p * panel_columns * words();
  }
  /// Null after the last panel.
  const std::uint32_t* next_panel(std::size_t p) const noexcept {
    return p + 1 < panels() ? panel(p + 1) : nullptr;
  }
  std::size_t width(std::size_t p) const noexcept {
    return std::min(panel_columns, n_ - p * panel_columns);
  }
  /// The word that holds column c of row r.
  std::uint32_t word(std::size_t r, std::size_t c) const noexcept {
    return panel(r / panel_columns)[c / ColumnsAWord * panel_columns + r % panel_columns];
  }

 private:
  std::size_t n_ = 0;
  std::size_t k_ = 0;
  aligned_buffer<std::uint32_t> memory_;
};

}  // namespace cpu_kernels
}  // namespace plmscope::inline PLMSCOPE_ABI
