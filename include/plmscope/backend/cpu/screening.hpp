// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/backend/bfloat16.hpp>
#include <plmscope/backend/cpu/aligned_buffer.hpp>
#include <plmscope/backend/cpu/bf16_weights.hpp>
#include <plmscope/core/thread_pool.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

namespace plmscope::inline PLMSCOPE_ABI {
namespace cpu_kernels {

/// How far a sum of `n` rounded terms can be from the exact one, relative to the sum of sizes: n u
/// / (1 - n u) for a unit roundoff u (Higham 2002, "Accuracy and Stability of Numerical
/// Algorithms", lemma 3.1), in any order, fused or not. Infinite where it says nothing.
inline double summation_error(std::size_t n, double u) noexcept {
  const double nu = static_cast<double>(n) * u;
  return nu < 0.25 ? nu / (1 - nu) : std::numeric_limits<double>::infinity();
}

/// Euclidean lengths of a row and of what its rounding to bfloat16 leaves out, none too small.
struct row_lengths_bound {
  double whole = 0;    ///< |x|
  double rounded = 0;  ///< |xb|
  double rest = 0;     ///< |x - xb|, with what is lost where numbers below 2^-126 count as 0
};

inline row_lengths_bound bound_lengths(const float* x, std::size_t k) noexcept {
  constexpr std::size_t width = 64;
  float whole[width] = {};
  float rounded[width] = {};
  float rest[width] = {};
  const auto add = [&](const float* from, std::size_t n) {
    for (std::size_t j = 0; j < n; ++j) {
      std::uint32_t bits;
      std::memcpy(&bits, from + j, sizeof bits);
      // To nearest even. A NaN may become anything here; the sum of squares is NaN all the same.
      bits = (bits + 0x7fffu + ((bits >> 16) & 1u)) & 0xffff0000u;
      float b;
      std::memcpy(&b, &bits, sizeof b);
      const float d = from[j] - b;  // exact
      whole[j] += from[j] * from[j];
      rounded[j] += b * b;
      rest[j] += d * d;
    }
  };
  std::size_t c = 0;
  for (; c + width <= k; c += width) add(x + c, width);
  add(x + c, k - c);
  // Squares below 2^-126 may have been lost, and k + 7 roundings made each sum smaller.
  const double lost = std::ldexp(static_cast<double>(k) + 1, -125);
  const double factor = 1 + 2 * summation_error(k + 7, 0x1p-24);
  const auto length = [&](const float* parts) {
    double sum = 0;
    for (std::size_t j = 0; j < width; ++j) sum += static_cast<double>(parts[j]);
    return std::sqrt((sum + lost) * factor);
  };
  return {length(whole), length(rounded),
          length(rest) + std::sqrt(static_cast<double>(k)) * 0x1p-125};
}

/// Weights w [n, k] and a bias in bfloat16 with what bounds the error of a product with them.
///
/// a_ij = b_j + <xb_i, wb_j>, computed in bfloat16, is no further from fp32's fl(fl<x_i, w_j> +
/// b_j) than
///   e_ij = |dx_i| |w_j| + |xb_i| |dw_j| + (g + 1.01 g') |x_i| |w_j| + (g + g') |b_j| + tiny
/// where x = xb + dx splits a number into its bfloat16 rounding and the rest. For
///   <x, w> - <xb, wb> = <dx, w> + <xb, dw>,
/// of which Cauchy and Schwarz bound both terms by the products of lengths. Then the sums: of k
/// terms and a bias in fp32 (g, unit roundoff 2^-24), and of a bias and k exact products in
/// bfloat16's instruction (g', with 2^-23, so that its intermediate roundings may be of any kind);
/// sizes of the terms are at most |x| |w| by Cauchy and Schwarz again, (1 + 2^-8)^2 < 1.01 times
/// that once rounded. The instruction takes numbers below 2^-126 for 0: dx and dw contain them; 2
/// (k + 2) results that might be flushed on either side are `tiny`. Everything is rounded up: 2^-18
/// covers the few operations in fp32 that put e_ij together.
class screened_weights {
 public:
  screened_weights() = default;

  /// w [n, k], rows `stride` apart; `bias` of n numbers, or null. Keeps its memory for the next
  /// weights of this size.
  void assign(thread_pool& pool, const float* w, std::size_t n, std::size_t k, std::size_t stride,
              const float* bias) {
    if (lengths_.size() < 3 * n) lengths_ = aligned_buffer<float>(3 * n);
    const std::size_t panels = (n + panel_columns - 1) / panel_columns;
    largest_.resize(3 * panels);
    const double sums = summation_error(k + 16, 0x1p-24) + summation_error(k + 16, 0x1p-23);
    const double tiny = std::ldexp(8 * (static_cast<double>(k) + 4), -126);
    rounded_.assign(pool, w, n, k, stride, [&](std::size_t j) {
      const row_lengths_bound l = bound_lengths(w + j * stride, k);
      const double b = bias == nullptr ? 0 : std::abs(static_cast<double>(bias[j]));
      lengths_.get()[j] = up(l.whole);
      lengths_.get()[n + j] = up(l.rest);
      lengths_.get()[2 * n + j] = up(sums * b + tiny);
    });
    most_ = 0;
    for (std::size_t i = 0; i < 3 * panels; ++i) {
      const float* from = lengths_.get() + i / panels * n;
      float largest = 0;
      for (std::size_t j = i % panels * panel_columns;
           j < std::min(n, (i % panels + 1) * panel_columns); ++j) {
        largest = std::max(largest, from[j] < infinity ? from[j] : infinity);  // NaN: infinity
      }
      largest_[i] = largest;
      most_ = std::max(most_, largest);
    }
  }

  const bf16_weights& rounded() const noexcept { return rounded_; }
  bool empty() const noexcept { return rounded_.empty(); }
  std::size_t rows() const noexcept { return rounded_.rows(); }
  std::size_t cols() const noexcept { return rounded_.cols(); }

  /// e_ij of one row i, for all j.
  class row_bound {
   public:
    /// False where sums may overflow or are not numbers: then there is no bound.
    bool holds() const noexcept { return holds_; }
    float operator()(std::size_t j) const noexcept {
      return whole_ * w_[j] + rounded_ * w_[n_ + j] + w_[2 * n_ + j];
    }
    /// No e_ij of the 64 columns of a panel is larger.
    float of_panel(std::size_t p) const noexcept {
      return whole_ * largest_[p] + rounded_ * largest_[panels_ + p] + largest_[2 * panels_ + p];
    }

   private:
    friend screened_weights;
    float whole_, rounded_;
    bool holds_;
    const float* w_;
    const float* largest_;
    std::size_t n_, panels_;
  };
  row_bound bound(const float* x) const noexcept {
    const std::size_t k = cols();
    const row_lengths_bound l = bound_lengths(x, k);
    const double sums = summation_error(k + 16, 0x1p-24) + 1.01 * summation_error(k + 16, 0x1p-23);
    row_bound out;
    out.whole_ = up(l.rest + sums * l.whole);
    out.rounded_ = up(l.rounded);
    const double most = static_cast<double>(most_);
    out.holds_ = (l.whole + 1) * (most + 1) < 1e30 && l.rounded < 1e30;
    out.w_ = lengths_.get();
    out.largest_ = largest_.data();
    out.n_ = rows();
    out.panels_ = largest_.size() / 3;
    return out;
  }

 private:
  static constexpr float infinity = std::numeric_limits<float>::infinity();
  static float up(double v) noexcept { return static_cast<float>(v * (1 + 0x1p-18)); }

  bf16_weights rounded_;
  aligned_buffer<float> lengths_;  // |w_j|, |dw_j|, what b_j adds: n numbers each
  std::vector<float> largest_;     // of the 64 of a panel
  float most_ = 0;                 // of all
};

}  // namespace cpu_kernels
}  // namespace plmscope::inline PLMSCOPE_ABI
