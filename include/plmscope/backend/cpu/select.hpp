// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/core/thread_pool.hpp>
#include <plmscope/core/view.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <vector>

namespace plmscope::inline PLMSCOPE_ABI {
namespace cpu_kernels {

/// Scratch of one thread; lives as long as the thread.
template <class Real>
struct select_scratch {
  std::vector<Real> maxima;
  std::vector<std::uint32_t> candidates;
};

/// A value that at least k entries of `row` reach (or -infinity): the k-th largest of G >= 2k
/// maxima over disjoint groups is never above the k-th largest entry. One vectorised pass.
template <class Order, class Real>
Real lower_bound_of_kth(const Real* row, std::size_t n, std::size_t k, std::vector<Real>& maxima) {
  constexpr Real lowest = -std::numeric_limits<Real>::infinity();
  std::size_t groups = 64;
  while (groups < 2 * k) groups *= 2;
  if (n < 4 * groups) return lowest;
  maxima.assign(groups, lowest);
  constexpr std::size_t width = 64;
  for (std::size_t g = 0; g < groups; g += width) {
    Real best[width];
    std::fill_n(best, width, lowest);
    for (std::size_t i = g; i + width <= n; i += groups) {
      for (std::size_t j = 0; j < width; ++j) {
        const Real key = Order::key(row[i + j]);
        best[j] = key > best[j] ? key : best[j];  // false for NaN
      }
    }
    std::copy_n(best, width, maxima.data() + g);
  }
  const auto kth = maxima.begin() + static_cast<std::ptrdiff_t>(k - 1);
  std::nth_element(maxima.begin(), kth, maxima.end(), std::greater<Real>());
  return *kth;
}

/// Ids of all entries worth keeping with key >= bound, ascending.
template <class Order, class Real>
void collect(const Real* row, std::size_t n, Real bound, std::vector<std::uint32_t>& out) {
  out.clear();
  constexpr std::size_t width = 32;
  std::size_t i = 0;
  for (; i + width <= n; i += width) {
    int any = 0;
    for (std::size_t j = 0; j < width; ++j) {
      any |= static_cast<int>(Order::key(row[i + j]) >= bound) &
             static_cast<int>(Order::keep(row[i + j]));
    }
    if (any == 0) continue;
    for (std::size_t j = i; j < i + width; ++j) {
      if (Order::key(row[j]) >= bound && Order::keep(row[j])) {
        out.push_back(static_cast<std::uint32_t>(j));
      }
    }
  }
  for (; i < n; ++i) {
    if (Order::key(row[i]) >= bound && Order::keep(row[i])) {
      out.push_back(static_cast<std::uint32_t>(i));
    }
  }
}

/// Writes the selected entries of one row, ids ascending, and returns how many (at most k).
template <class Order, class Real>
std::size_t top_k_row(const Real* row, std::size_t n, std::size_t k, std::uint32_t* ids,
                      Real* values, select_scratch<Real>& scratch) {
  auto& found = scratch.candidates;
  collect<Order>(row, n, lower_bound_of_kth<Order>(row, n, k, scratch.maxima), found);
  if (found.size() > k) {
    const auto cut = found.begin() + static_cast<std::ptrdiff_t>(k);
    std::nth_element(found.begin(), cut, found.end(), [row](std::uint32_t a, std::uint32_t b) {
      const Real ka = Order::key(row[a]);
      const Real kb = Order::key(row[b]);
      return ka > kb || (ka == kb && a < b);
    });
    found.erase(cut, found.end());
    std::sort(found.begin(), found.end());
  }
  for (std::size_t e = 0; e < found.size(); ++e) {
    ids[e] = found[e];
    values[e] = row[found[e]];
  }
  return found.size();
}

/// Rows are selected in parallel into slots of k entries, then closed up in order.
template <class Backend, class C, class Order, class Codes>
void top_k_rows(thread_pool& pool, Backend& be, C pre, std::size_t k, Order, Codes& out) {
  using Real = typename C::value_type;
  k = std::min(k, pre.cols());
  const std::size_t rows = pre.rows();
  out.reserve_more(be, rows, rows * k);
  const std::size_t base = out.entries();
  std::vector<std::size_t> counts(rows, 0);
  constexpr std::size_t block = 8;
  if (k > 0) {
    pool.run((rows + block - 1) / block, [&](std::size_t t) {
      static thread_local select_scratch<Real> scratch;
      for (std::size_t r = t * block; r < std::min(rows, (t + 1) * block); ++r) {
        counts[r] = top_k_row<Order>(pre.row_data(r), pre.cols(), k, out.ids() + base + r * k,
                                     out.values() + base + r * k, scratch);
      }
    });
  }
  std::size_t end = base;
  std::int64_t* offsets = out.offsets() + out.rows();
  for (std::size_t r = 0; r < rows; ++r) {
    const std::size_t from = base + r * k;
    if (from != end) {
      std::copy_n(out.ids() + from, counts[r], out.ids() + end);
      std::copy_n(out.values() + from, counts[r], out.values() + end);
    }
    end += counts[r];
    offsets[r + 1] = static_cast<std::int64_t>(end);
  }
  out.append(rows, end - base);
}

}  // namespace cpu_kernels
}  // namespace plmscope
