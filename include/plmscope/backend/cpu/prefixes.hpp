// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/backend/cpu/simd.hpp>
#include <plmscope/backend/cpu/sparse.hpp>
#include <plmscope/core/thread_pool.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace plmscope::inline PLMSCOPE_ABI {
namespace cpu_kernels {

/// f(row, entry, feature); entries of one row in order, rows in no order.
template <class Codes, class F>
void each_entry(thread_pool& pool, const Codes& z, const F& f) {
  for_blocks(pool, z.rows(), [&](std::size_t r) {
    const auto end = static_cast<std::size_t>(z.offsets()[r + 1]);
    for (auto e = static_cast<std::size_t>(z.offsets()[r]); e < end; ++e) f(r, e, z.ids()[e]);
  });
}

template <class Backend, class C, class Codes>
void group_max(thread_pool& pool, Backend& be, C pre, std::size_t groups, bool zeros, Codes& out) {
  using Real = typename C::value_type;
  const std::size_t width = pre.cols() / groups;
  const std::size_t rows = pre.rows();
  out.reserve_more(be, rows, rows * groups);
  const std::size_t first = out.entries();
  const std::size_t first_row = out.rows();
  std::vector<std::uint32_t> kept(rows);
  // Every row writes to places of its own; rows without all groups are then closed up.
  for_blocks(pool, rows, [&](std::size_t r) {
    const Real* a = pre.row_data(r);
    std::size_t at = first + r * groups;
    for (std::size_t g = 0; g < groups; ++g) {
      std::size_t best = g * width;
      Real largest = 0;
      for (std::size_t f = g * width; f < (g + 1) * width; ++f) {
        if (a[f] > largest) largest = a[f], best = f;
      }
      if (!(largest > Real{0}) && !zeros) continue;
      out.ids()[at] = static_cast<std::uint32_t>(best);
      out.values()[at++] = largest;
    }
    kept[r] = static_cast<std::uint32_t>(at - first - r * groups);
  });
  std::size_t end = first;
  for (std::size_t r = 0; r < rows; ++r) {
    const std::size_t from = first + r * groups;
    std::copy_n(out.ids() + from, kept[r], out.ids() + end);
    std::copy_n(out.values() + from, kept[r], out.values() + end);
    end += kept[r];
    out.offsets()[first_row + r + 1] = static_cast<std::int64_t>(end);
  }
  out.append(rows, end - first);
}

template <class Codes, class Ends, class Offsets>
void split_rows(thread_pool& pool, const Codes& z, Ends ends, Offsets offsets) {
  const std::size_t parts = ends.cols();
  for_blocks(pool, z.rows(), [&](std::size_t r) {
    const std::uint32_t* const begin = z.ids() + z.offsets()[r];
    const std::uint32_t* const end = z.ids() + z.offsets()[r + 1];
    const std::uint32_t* at = begin;
    for (std::size_t g = 0; g < parts; ++g) {
      offsets.data()[r * parts + g] = z.offsets()[r] + (at - begin);
      at = std::lower_bound(at, end, ends.data()[g]);
    }
  });
  offsets.data()[z.rows() * parts] = z.offsets()[z.rows()];
}

template <class V, class C, class Loss>
void prefix_errors(thread_pool& pool, V parts, C target, C bias, C shares, const Loss& loss,
                   V rows) {
  using Real = typename V::value_type;
  const std::size_t n = shares.cols();
  const std::size_t d = target.cols();
  for_blocks(pool, target.rows(), [&](std::size_t r) {
    const Real* y = target.row_data(r);
    for (std::size_t g = 0; g < n; ++g) {
      Real* e = parts.row_data(r * n + g);
      if (g == 0) {
        for (std::size_t j = 0; j < d; ++j) {
          e[j] += (bias.empty() ? Real{0} : bias.data()[j]) - y[j];
        }
      } else {
        const Real* before = parts.row_data(r * n + g - 1);
        for (std::size_t j = 0; j < d; ++j) e[j] += before[j];
      }
      rows.row_data(0)[r * n + g] = dot(e, e, d);
    }
    for (std::size_t g = n; g-- > 0;) {
      Real* e = parts.row_data(r * n + g);
      const Real squares = rows.row_data(0)[r * n + g];
      const Real share = shares.data()[g];
      const Real slope = share * loss.slope(r, squares);
      rows.row_data(1)[r * n + g] = share * loss.value(r, squares);
      rows.row_data(2)[r * n + g] = slope;
      for (std::size_t j = 0; j < d; ++j) e[j] *= slope;
      if (g + 1 == n) continue;
      const Real* later = parts.row_data(r * n + g + 1);
      for (std::size_t j = 0; j < d; ++j) e[j] += later[j];
    }
  });
}

}  // namespace cpu_kernels
}  // namespace plmscope::inline PLMSCOPE_ABI
