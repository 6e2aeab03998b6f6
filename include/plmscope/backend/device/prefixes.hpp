// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/backend/device/group.hpp>
#include <plmscope/backend/device/sparse.hpp>

#include <cstddef>
#include <cstdint>

namespace plmscope::inline PLMSCOPE_ABI {
namespace device_kernels {

/// f(row, entry, feature) for every entry; a block per row.
template <class Real, class F>
struct each_entry {
  static constexpr bool cooperative = false;
  code_rows<Real> z;
  F f;

  template <class Group>
  PLMSCOPE_HD void operator()(Group& g) const {
    const std::size_t r = g.index();
    const auto end = static_cast<std::size_t>(z.offsets[r + 1]);
    for (std::size_t e = static_cast<std::size_t>(z.offsets[r]) + g.rank(); e < end;
         e += g.size()) {
      f(r, e, z.ids[e]);
    }
  }
};

/// The largest of each group of a row into row r of ids and values [rows, groups], side by side,
/// and how many there are; one thread per row.
template <class C>
struct group_max {
  using Real = typename C::value_type;
  C pre;
  std::size_t groups;
  bool zeros;
  std::uint32_t* ids;
  Real* values;
  std::uint32_t* counts;

  PLMSCOPE_HD void operator()(std::size_t, std::size_t r) const {
    const std::size_t width = pre.cols() / groups;
    const Real* a = pre.row_data(r);
    std::size_t at = r * groups;
    for (std::size_t g = 0; g < groups; ++g) {
      std::size_t best = g * width;
      Real largest = 0;
      for (std::size_t f = g * width; f < (g + 1) * width; ++f) {
        if (a[f] > largest) {
          largest = a[f];
          best = f;
        }
      }
      if (!(largest > Real{0}) && !zeros) continue;
      ids[at] = static_cast<std::uint32_t>(best);
      values[at++] = largest;
    }
    counts[r] = static_cast<std::uint32_t>(at - r * groups);
  }
};

/// offsets[r parts + g] = first entry of row r whose feature is not below ends[g - 1].
template <class Real>
struct split_rows {
  code_rows<Real> z;
  const std::uint32_t* ends;
  std::size_t parts;
  std::int64_t* offsets;

  PLMSCOPE_HD void operator()(std::size_t r, std::size_t g) const {
    std::int64_t low = z.offsets[r];
    std::int64_t high = z.offsets[r + 1];
    while (g > 0 && low < high) {
      const std::int64_t middle = low + (high - low) / 2;
      if (z.ids[middle] < ends[g - 1]) {
        low = middle + 1;
      } else {
        high = middle;
      }
    }
    offsets[r * parts + g] = low;
  }
};

/// See the page of primitives; a block per row of the batch.
template <class Real, class C, class V, class Loss>
struct prefix_errors {
  V parts;
  C target, bias, shares;
  Loss loss;
  V rows;

  template <class Group>
  PLMSCOPE_HD void operator()(Group& g) const {
    const std::size_t r = g.index();
    const std::size_t n = shares.cols();
    const std::size_t d = target.cols();
    const Real* y = target.row_data(r);
    for (std::size_t p = 0; p < n; ++p) {
      Real squares = 0;
      Real* e = parts.row_data(r * n + p);
      for (std::size_t j = g.rank(); j < d; j += g.size()) {
        e[j] += p == 0 ? (bias.empty() ? Real{0} : bias.data()[j]) - y[j]
                       : parts.row_data(r * n + p - 1)[j];
        squares += e[j] * e[j];
      }
      squares = g.sum(squares);
      if (g.rank() == 0) {
        rows.row_data(0)[r * n + p] = squares;
        rows.row_data(1)[r * n + p] = shares.data()[p] * loss.value(r, squares);
        rows.row_data(2)[r * n + p] = shares.data()[p] * loss.slope(r, squares);
      }
    }
    g.sync();
    for (std::size_t p = n; p-- > 0;) {
      const Real slope = rows.row_data(2)[r * n + p];
      Real* e = parts.row_data(r * n + p);
      for (std::size_t j = g.rank(); j < d; j += g.size()) {
        e[j] *= slope;
        if (p + 1 < n) e[j] += parts.row_data(r * n + p + 1)[j];
      }
    }
  }
};

}  // namespace device_kernels
}  // namespace plmscope::inline PLMSCOPE_ABI
