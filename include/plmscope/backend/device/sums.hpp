// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/backend/device/group.hpp>

#include <cstddef>

namespace plmscope::inline PLMSCOPE_ABI {
namespace device_kernels {

// Sums over many rows: partial sums over fixed tiles, then the partial sums in order, both in
// double. The tiles depend on shapes alone, so a sum is the same bits on every device.

/// partial[tile, j] = sum over the rows of a tile of term(row, j); a block is one tile of rows
/// times one stripe of columns.
template <class Term>
struct column_partials {
  static constexpr bool cooperative = false;
  static constexpr std::size_t tile = 64;
  static constexpr std::size_t stripe = 256;

  Term term;
  double* partial;
  std::size_t rows, cols;

  std::size_t tiles() const noexcept { return divide_up(rows, tile); }
  std::size_t blocks() const noexcept { return tiles() * divide_up(cols, stripe); }

  template <class Group>
  PLMSCOPE_HD void operator()(Group& g) const {
    const std::size_t stripes = (cols + stripe - 1) / stripe;
    const std::size_t t = g.index() / stripes;
    const std::size_t first = g.index() % stripes * stripe;
    for (std::size_t j = first + g.rank(); j < at_most(cols, first + stripe); j += g.size()) {
      double sum = 0;
      for (std::size_t r = t * tile; r < at_most(rows, (t + 1) * tile); ++r) {
        sum += static_cast<double>(term(r, j));
      }
      partial[t * cols + j] = sum;
    }
  }
};

/// partial[block] = sum of term over a fixed run of entries of [rows, cols].
template <class Term>
struct entry_partials {
  static constexpr std::size_t run = 16384;

  Term term;
  double* partial;
  std::size_t rows, cols;

  std::size_t blocks() const noexcept { return divide_up(rows * cols, run); }

  template <class Group>
  PLMSCOPE_HD void operator()(Group& g) const {
    const std::size_t first = g.index() * run;
    const std::size_t end = at_most(rows * cols, first + run);
    // Lanes of a fixed number, so that the order does not depend on the size of the block.
    constexpr unsigned lanes = 256;
    double* const sums = g.template shared<double>(lanes);
    for (unsigned l = g.rank(); l < lanes; l += g.size()) {
      double sum = 0;
      for (std::size_t i = first + l; i < end; i += lanes) {
        sum += rows == 1 ? term(0, i) : term(i / cols, i % cols);
      }
      sums[l] = sum;
    }
    for (unsigned half = lanes / 2; half > 0; half /= 2) {
      g.sync();
      for (unsigned l = g.rank(); l < half; l += g.size()) sums[l] += sums[l + half];
    }
    if (g.rank() == 0) partial[g.index()] = sums[0];
  }
};

/// slot += partial[0] + partial[1] + ..., by one block.
struct add_partials {
  const double* partial;
  std::size_t count;
  double* slot;

  template <class Group>
  PLMSCOPE_HD void operator()(Group& g) const {
    constexpr unsigned lanes = 256;
    double* const sums = g.template shared<double>(lanes);
    for (unsigned l = g.rank(); l < lanes; l += g.size()) {
      double sum = 0;
      for (std::size_t i = l; i < count; i += lanes) sum += partial[i];
      sums[l] = sum;
    }
    for (unsigned half = lanes / 2; half > 0; half /= 2) {
      g.sync();
      for (unsigned l = g.rank(); l < half; l += g.size()) sums[l] += sums[l + half];
    }
    if (g.rank() == 0) *slot += sums[0];
  }
};

}  // namespace device_kernels
}  // namespace plmscope::inline PLMSCOPE_ABI
