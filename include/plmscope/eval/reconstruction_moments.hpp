// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/eval/metrics.hpp>

#include <cmath>
#include <cstddef>
#include <vector>

namespace plmscope::inline PLMSCOPE_ABI {

/// Sums over rows x [width] and their reconstructions x', with e = x' - x, from which every
/// published figure of reconstruction follows. Sums of proteins are added to sums of a corpus.
struct reconstruction_moments {
  std::size_t rows = 0;
  std::size_t width = 0;
  double squared_error = 0;            ///< sum |e|^2
  double variance = 0;                 ///< sum |x - m|^2 with m the mean row of the whole corpus
  double squares = 0;                  ///< sum |x|^2
  double rebuilt_squares = 0;          ///< sum |x'|^2
  double products = 0;                 ///< sum <x, x'>
  double cosines = 0;                  ///< sum <x, x'> / (|x| |x'|); a row of zeros counts as 0
  double length_ratios = 0;            ///< sum |x'| / |x|
  double row_shares = 0;               ///< sum 1 - |e|^2 / |x - m|^2
  double entries = 0;                  ///< active latents; NaN where the SAE shows no codes
  std::vector<double> error_sum = {};  ///< sum e [width]; empty where nobody kept it

  /// Fraction of variance unexplained, sum |e|^2 / sum |x - m|^2: 0 is perfect, 1 is no better
  /// than giving back the mean row. Right on data with a mean and unequal dimensions.
  double fvu() const noexcept { return variance > 0 ? squared_error / variance : not_defined; }
  /// Mean squared error of an element.
  double mean_squared_error() const noexcept {
    return rows * width == 0 ? not_defined : squared_error / (count() * static_cast<double>(width));
  }

  // Published kinds of "explained variance".

  /// 1 - sum_j Var(e_j) / sum_j Var(x_j). An SAE that is off by the same vector everywhere is
  /// perfect by it. `not_defined` without `error_sum`.
  double explained_up_to_an_offset() const noexcept {
    if (error_sum.size() != width || rows == 0 || !(variance > 0)) return not_defined;
    double offset = 0;
    for (const double s : error_sum) offset += s * s;
    return 1 - (squared_error - offset / count()) / variance;
  }
  /// Mean over rows of 1 - |e|^2 / |x - m|^2: rows near the mean decide; not defined where one
  /// is the mean.
  double explained_row_by_row() const noexcept {
    return rows > 0 && std::isfinite(row_shares) ? row_shares / count() : not_defined;
  }
  /// 1 - E|e|^2 / (E|x|^2 - q^2) with q the mean of the squares of all elements: a square of
  /// squares where the squared length of the mean row belongs. Depends on the scale of the data.
  double explained_by_squared_squares() const noexcept {
    if (rows * width == 0) return not_defined;
    const double square = squares / count();
    const double q = square / static_cast<double>(width);
    const double total = square - q * q;
    return total != 0 ? 1 - squared_error / count() / total : not_defined;
  }

  /// E<x, x'> over rows, each at length 1.
  double cosine() const noexcept { return rows > 0 ? cosines / count() : not_defined; }
  /// Mean |x'| / |x|: below 1 where reconstructions shrink.
  double length_ratio() const noexcept {
    return rows > 0 && std::isfinite(length_ratios) ? length_ratios / count() : not_defined;
  }
  /// E|x'|^2 / E<x, x'> (Rajamanoharan et al. 2024, "Improving dictionary learning with gated
  /// sparse autoencoders", eq. 10): below 1 where the SAE shrinks, 1 without bias.
  double relative_bias() const noexcept {
    return products != 0 ? rebuilt_squares / products : not_defined;
  }
  /// Active latents of a row.
  double l0() const noexcept { return rows > 0 ? entries / count() : not_defined; }

  /// Adds all sums but `error_sum`, so many times.
  void add(const reconstruction_moments& o, std::size_t times = 1) noexcept {
    const auto t = static_cast<double>(times);
    rows += times * o.rows;
    width = o.width > 0 ? o.width : width;
    squared_error += t * o.squared_error;
    variance += t * o.variance;
    squares += t * o.squares;
    rebuilt_squares += t * o.rebuilt_squares;
    products += t * o.products;
    cosines += t * o.cosines;
    length_ratios += t * o.length_ratios;
    row_shares += t * o.row_shares;
    entries += t * o.entries;
  }

 private:
  double count() const noexcept { return static_cast<double>(rows); }
};

}  // namespace plmscope::inline PLMSCOPE_ABI
