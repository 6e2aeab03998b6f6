// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/backend/cpu/compact.hpp>
#include <plmscope/core/thread_pool.hpp>
#include <plmscope/core/view.hpp>

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <type_traits>
#include <vector>

#if defined(__AVX512F__)
#include <immintrin.h>
#endif

namespace plmscope::inline PLMSCOPE_ABI {
namespace cpu_kernels {

/// Scratch of one thread; lives as long as the thread.
template <class Real>
struct select_scratch {
  std::vector<Real> maxima;
  std::vector<std::uint32_t> candidates;
  std::vector<Real> values;
};

/// The k-th largest of `n` values, none of them NaN: a bisection over their ordered bit patterns.
/// Counting is branch-free, where std::nth_element mispredicts at every step.
template <class Real>
Real kth_largest(const Real* values, std::size_t n, std::size_t k) {
  using bits = std::conditional_t<sizeof(Real) == 4, std::int32_t, std::int64_t>;
  constexpr bits magnitude = std::numeric_limits<bits>::max();
  // Bit patterns of negative numbers fall as the number rises: flipped, integers order as reals.
  const auto ordered = [](bits b) { return b < 0 ? b ^ magnitude : b; };
  bits low = std::numeric_limits<bits>::max();
  bits high = std::numeric_limits<bits>::min();
  for (std::size_t i = 0; i < n; ++i) {
    const bits v = ordered(std::bit_cast<bits>(values[i]));
    low = v < low ? v : low;
    high = v > high ? v : high;
  }
  // invariant: at least k values are >= low, fewer than k are > high
  while (low < high) {
    const bits middle = (low | high) - ((low ^ high) >> 1);  // upper middle, without overflow
    bits count = 0;
    for (std::size_t i = 0; i < n; ++i) {
      count += static_cast<bits>(ordered(std::bit_cast<bits>(values[i])) >= middle);
    }
    if (static_cast<std::size_t>(count) >= k) {
      low = middle;
    } else {
      high = middle - 1;
    }
  }
  return std::bit_cast<Real>(ordered(low));
}

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
  return kth_largest(maxima.data(), groups, k);
}

/// Ids of all entries with key >= bound, ascending, never NaN; returns how many. `out` grows to
/// n + 16 and is not cut, so that no row pays for clearing it again.
template <class Order, class Real>
std::size_t collect(const Real* row, std::size_t n, Real bound, std::vector<std::uint32_t>& out) {
  if (out.size() < n + 16) out.resize(n + 16);
  std::uint32_t* to = out.data();
  std::size_t i = 0;
#if defined(__AVX512F__)
  if constexpr (std::is_same_v<Real, float>) {
    const __m512 limit = _mm512_set1_ps(bound);
    __m512i ids = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    for (; i + 16 <= n; i += 16) {
      float keys[16];
      for (std::size_t j = 0; j < 16; ++j) keys[j] = Order::key(row[i + j]);
      const auto hits = _mm512_cmp_ps_mask(_mm512_loadu_ps(keys), limit, _CMP_GE_OQ);
      _mm512_storeu_si512(to, _mm512_maskz_compress_epi32(hits, ids));
      to += std::popcount(static_cast<unsigned>(hits));
      ids = _mm512_add_epi32(ids, _mm512_set1_epi32(16));
    }
  }
#endif
  for (; i < n; ++i) {
    *to = static_cast<std::uint32_t>(i);
    to += static_cast<std::ptrdiff_t>(Order::key(row[i]) >= bound);
  }
  return static_cast<std::size_t>(to - out.data());
}

/// For a k that is a large part of the row: ranks what the order keeps, if that is more than k.
template <class Order, class Real>
std::size_t top_k_of_kept(const Real* row, std::size_t n, std::size_t k, std::uint32_t* ids,
                          Real* values, select_scratch<Real>& scratch) {
  auto& found = scratch.candidates;
  auto& kept_values = scratch.values;
  if (found.size() < n + compact_spill) found.resize(n + compact_spill);
  if (kept_values.size() < n + compact_spill) kept_values.resize(n + compact_spill);
  std::size_t count =
      compact_row(row, every_feature{}, n, kept<Order>{}, found.data(), kept_values.data());
  if (count > k) {
    auto& keys = scratch.maxima;
    keys.resize(count);
    for (std::size_t e = 0; e < count; ++e) keys[e] = Order::key(kept_values[e]);
    const Real last = kth_largest(keys.data(), count, k);
    std::size_t above = 0;
    std::size_t equals = 0;
    for (const Real key : keys) {
      above += static_cast<std::size_t>(key > last);
      equals += static_cast<std::size_t>(key == last);
    }
    if (equals == 1 || above + equals == k) {
      count = compact_row(kept_values.data(), listed_features{found.data()}, count,
                          kept_from<Order, Real>{last}, found.data(), kept_values.data());
    } else {  // of its equals those of the lowest index
      equals = k - above;
      std::size_t to = 0;
      for (std::size_t e = 0; e < count; ++e) {
        const bool equal = keys[e] == last && equals > 0;
        equals -= static_cast<std::size_t>(equal);
        found[to] = found[e];
        kept_values[to] = kept_values[e];
        to += static_cast<std::size_t>(keys[e] > last || equal);
      }
      count = to;
    }
  }
  std::copy_n(found.data(), count, ids);
  std::copy_n(kept_values.data(), count, values);
  return count;
}

/// Writes the selected entries of one row, ids ascending, and returns how many (at most k).
template <class Order, class Real>
std::size_t top_k_row(const Real* row, std::size_t n, std::size_t k, std::uint32_t* ids,
                      Real* values, select_scratch<Real>& scratch) {
  auto& found = scratch.candidates;
  const Real bound = lower_bound_of_kth<Order>(row, n, k, scratch.maxima);
  if constexpr (requires { Order::keeps_the_first; }) {
    if (bound == -std::numeric_limits<Real>::infinity()) {
      return top_k_of_kept<Order>(row, n, k, ids, values, scratch);
    }
  }
  std::size_t count = collect<Order>(row, n, bound, found);
  if (count > k) {  // all above the k-th, then its equals from the lowest index on
    auto& keys = scratch.maxima;
    keys.resize(count);
    for (std::size_t e = 0; e < count; ++e) keys[e] = Order::key(row[found[e]]);
    const Real last = kth_largest(keys.data(), count, k);
    std::size_t equals = k;
    for (const Real key : keys) equals -= static_cast<std::size_t>(key > last);
    std::size_t kept = 0;
    for (std::size_t e = 0; e < count; ++e) {
      const bool equal = keys[e] == last && equals > 0;
      equals -= static_cast<std::size_t>(equal);
      found[kept] = found[e];
      kept += static_cast<std::size_t>(keys[e] > last || equal);
    }
    count = kept;
  }
  std::size_t written = 0;
  for (std::size_t e = 0; e < count; ++e) {
    ids[written] = found[e];
    values[written] = row[found[e]];
    written += static_cast<std::size_t>(Order::keep(row[found[e]]));
  }
  return written;
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
}  // namespace plmscope::inline PLMSCOPE_ABI
