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

/// The largest keys of disjoint groups of a row, gathered 64 columns at a time: the k-th largest of
/// G >= 2k maxima is never above the k-th largest key of the row.
class group_maxima {
 public:
  static constexpr std::size_t width = 64;
  /// How many groups rows of n entries take, or 0 where the row is too short to gain by them.
  static constexpr std::size_t groups(std::size_t n, std::size_t k) noexcept {
    std::size_t g = width;
    while (g < 2 * k) g *= 2;
    return n < 4 * g ? 0 : g;
  }
  /// maxima[j] = max(maxima[j], key(j)) for 64 columns; a NaN is passed over.
  template <class Real, class Key>
  static void add(const Key& key, Real* maxima) {
    for (std::size_t j = 0; j < width; ++j) {
      const Real v = key(j);
      maxima[j] = v > maxima[j] ? v : maxima[j];
    }
  }
};

/// A value that at least k entries of `row` reach (or -infinity). One vectorised pass.
template <class Order, class Real>
Real lower_bound_of_kth(const Real* row, std::size_t n, std::size_t k, std::vector<Real>& maxima) {
  constexpr Real lowest = -std::numeric_limits<Real>::infinity();
  constexpr std::size_t width = group_maxima::width;
  const std::size_t groups = group_maxima::groups(n, k);
  if (groups == 0) return lowest;
  maxima.resize(groups);
  for (std::size_t g = 0; g < groups; g += width) {
    Real best[width];
    std::fill_n(best, width, lowest);
    for (std::size_t i = g; i + width <= n; i += groups) {
      group_maxima::add([&](std::size_t j) { return Order::key(row[i + j]); }, best);
    }
    std::copy_n(best, width, maxima.data() + g);
  }
  return kth_largest(maxima.data(), groups, k);
}

/// The first <= i < last with key(i) >= bound, ascending, never those of NaN, from `to` on; returns
/// the end of them. Up to 16 places behind it are written, too.
template <class Real, class Key>
std::uint32_t* collect(std::size_t first, std::size_t last, Real bound, const Key& key,
                       std::uint32_t* to) {
  std::size_t i = first;
#if defined(__AVX512F__)
  if constexpr (std::is_same_v<Real, float>) {
    const __m512 limit = _mm512_set1_ps(bound);
    __m512i ids =
        _mm512_add_epi32(_mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15),
                         _mm512_set1_epi32(static_cast<int>(first)));
    for (; i + 16 <= last; i += 16) {
      float keys[16];
      for (std::size_t j = 0; j < 16; ++j) keys[j] = key(i + j);
      const auto hits = _mm512_cmp_ps_mask(_mm512_loadu_ps(keys), limit, _CMP_GE_OQ);
      _mm512_storeu_si512(to, _mm512_maskz_compress_epi32(hits, ids));
      to += std::popcount(static_cast<unsigned>(hits));
      ids = _mm512_add_epi32(ids, _mm512_set1_epi32(16));
    }
  }
#endif
  for (; i < last; ++i) {
    *to = static_cast<std::uint32_t>(i);
    to += static_cast<std::ptrdiff_t>(key(i) >= bound);
  }
  return to;
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

/// Of `count` entries with ascending ids the k first in `Order`, of equals those of the lowest ids:
/// writes those that the order keeps and returns how many.
template <class Order, class Real>
std::size_t first_of_listed(const std::uint32_t* found, const Real* found_values, std::size_t count,
                            std::size_t k, std::uint32_t* ids, Real* values,
                            std::vector<Real>& keys) {
  Real last = -std::numeric_limits<Real>::infinity();
  std::size_t equals = k;  // how many of those at `last` are taken
  if (count > k) {
    keys.resize(count);
    for (std::size_t e = 0; e < count; ++e) keys[e] = Order::key(found_values[e]);
    last = kth_largest(keys.data(), count, k);
    for (const Real key : keys) equals -= static_cast<std::size_t>(key > last);
  }
  std::size_t written = 0;
  for (std::size_t e = 0; e < count && written < k; ++e) {
    const Real key = Order::key(found_values[e]);
    const bool equal = key == last && equals > 0;
    equals -= static_cast<std::size_t>(equal);
    ids[written] = found[e];
    values[written] = found_values[e];
    written += static_cast<std::size_t>((key > last || equal) && Order::keep(found_values[e]));
  }
  return written;
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
  if (found.size() < n + 16) found.resize(n + 16);
  const auto key = [row](std::size_t i) { return Order::key(row[i]); };
  const auto count =
      static_cast<std::size_t>(collect(0, n, bound, key, found.data()) - found.data());
  auto& found_values = scratch.values;
  found_values.resize(std::max(found_values.size(), count));
  for (std::size_t e = 0; e < count; ++e) found_values[e] = row[found[e]];
  return first_of_listed<Order>(found.data(), found_values.data(), count, k, ids, values,
                                scratch.maxima);
}

/// Appends rows that lie in slots of k entries behind the codes, row r with counts[r] of them:
/// closes them up in order.
template <class Codes>
void append_slots(Codes& out, std::size_t k, const std::vector<std::size_t>& counts) {
  const std::size_t base = out.entries();
  std::size_t end = base;
  std::int64_t* offsets = out.offsets() + out.rows();
  for (std::size_t r = 0; r < counts.size(); ++r) {
    const std::size_t from = base + r * k;
    if (from != end) {
      std::copy_n(out.ids() + from, counts[r], out.ids() + end);
      std::copy_n(out.values() + from, counts[r], out.values() + end);
    }
    end += counts[r];
    offsets[r + 1] = static_cast<std::int64_t>(end);
  }
  out.append(counts.size(), end - base);
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
  append_slots(out, k, counts);
}

}  // namespace cpu_kernels
}  // namespace plmscope::inline PLMSCOPE_ABI
