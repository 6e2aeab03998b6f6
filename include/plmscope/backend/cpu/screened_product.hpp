// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/backend/cpu/dense.hpp>
#include <plmscope/backend/cpu/product.hpp>
#include <plmscope/backend/cpu/screening.hpp>
#include <plmscope/backend/cpu/select.hpp>
#include <plmscope/backend/primitives.hpp>
#include <plmscope/core/thread_pool.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

namespace plmscope::inline PLMSCOPE_ABI {
namespace cpu_kernels {

/// Scratch of one thread.
struct screening_scratch {
  std::vector<float> low, high;
  select_scratch<float> select;
  std::vector<std::uint32_t> ids;    // of the rows of a tile one after another
  std::vector<std::size_t> ends;
};

/// Appends to `ids` the entries of a row whose exact value may be among the k first in `Order`, and
/// returns how many: with t the k-th largest of key(a_j) - e_j those with key(a_j) + e_j >= t.
///
/// |key(a) - key(b)| <= |a - b| is asked of the order. Then the k entries that make t have exact keys
/// of t or more and are in the list; an entry that is not in the list has an exact key below t, and
/// key(a_j) below t as well. So whatever selects the k first entries, ties and all, selects the same
/// from the exact row and from this row once its listed entries are exact. (Rounding is monotone and
/// exact keys are floats: the computed key(a_j) - e_j does not exceed one that the true one does not.)
template <class Order>
std::size_t screen_row(const float* a, std::size_t n, std::size_t k,
                       const screened_weights::row_bound& bound, screening_scratch& s) {
  s.low.resize(n);
  s.high.resize(n);
  for (std::size_t j = 0; j < n; ++j) {
    const float e = bound(j);
    const float key = Order::key(a[j]);
    s.low[j] = key - e;
    s.high[j] = key + e;
  }
  auto& found = s.select.candidates;
  const float least = lower_bound_of_kth<by_raw_value>(s.low.data(), n, k, s.select.maxima);
  const std::size_t count = collect<by_raw_value>(s.high.data(), n, least, found);
  float t = least;
  if (count > k) {
    auto& keys = s.select.maxima;
    keys.resize(count);
    for (std::size_t e = 0; e < count; ++e) keys[e] = s.low[found[e]];
    t = kth_largest(keys.data(), count, k);
  }
  const std::size_t before = s.ids.size();
  s.ids.resize(before + count);
  std::uint32_t* to = s.ids.data() + before;
  for (std::size_t e = 0; e < count; ++e) {
    *to = found[e];
    to += static_cast<std::ptrdiff_t>(s.high[found[e]] >= t);
  }
  s.ids.resize(static_cast<std::size_t>(to - s.ids.data()));
  return s.ids.size() - before;
}

/// out[i][id] = <x_i, w_id> + bias[id] for the listed entries of rows: ids of row i end at ends[i].
template <class X, class Out>
void recompute(X x, X w, X bias, const std::vector<std::uint32_t>& ids,
               const std::vector<std::size_t>& ends, Out out) {
  constexpr std::size_t together = 2 * ordered_product<float>::lanes;
  std::array<const float*, together> rows, ahead;
  std::array<float, together> dots;
  std::size_t e = 0;
  for (std::size_t i = 0; i < ends.size(); ++i) {
    float* to = out.row_data(i);
    while (e < ends[i]) {
      const std::size_t n = std::min(together, ends[i] - e);
      for (std::size_t l = 0; l < together; ++l) {
        rows[l] = w.row_data(ids[e + std::min(l, n - 1)]);
        ahead[l] = w.row_data(ids[std::min(e + n + l, ids.size() - 1)]);
      }
      if (n > together / 2) {
        ordered_product<float>::template dots<2>(x.row_data(i), x.cols(), rows.data(), ahead.data(),
                                                 dots.data());
      } else {
        ordered_product<float>::template dots<1>(x.row_data(i), x.cols(), rows.data(), ahead.data(),
                                                 dots.data());
      }
      for (std::size_t l = 0; l < n; ++l) {
        const std::uint32_t id = ids[e + l];
        to[id] = bias.empty() ? dots[l] : dots[l] + bias.data()[id];
      }
      e += n;
    }
  }
}

/// See `screened_linear` in backend/primitives.hpp.
template <class Order, class X, class Out>
screening_counts screened_linear(thread_pool& pool, X x, X w, X bias, const screened_weights& packed,
                                 std::size_t k, Out out) {
  const std::size_t n = out.cols();
  const std::size_t m = out.rows();
  screening_counts counts{.rows = m};
  if (m == 0 || n == 0 || k == 0) {
    linear(pool, x, packed.rounded(), bias, out, epilogue::none);
    return counts;
  }
  k = std::min(k, n);
  // Above this an entry by itself costs more than its share of the row.
  const std::size_t most = n / screening_counts::dear;
  constexpr std::size_t whole = std::numeric_limits<std::size_t>::max();
  std::vector<std::size_t> found(m);
  const std::size_t tile = bf16_tile_rows(m, pool.threads());
  pool.run((m + tile - 1) / tile, [&](std::size_t t) {
    static thread_local screening_scratch s;
    const std::size_t first = t * tile;
    const std::size_t rows = std::min(tile, m - first);
    bf16_tile(x.row_range(first, rows), packed.rounded(), bias, out.row_range(first, rows),
              epilogue::none);
    s.ids.clear();
    s.ends.clear();
    for (std::size_t i = first; i < first + rows; ++i) {
      const auto bound = packed.bound(x.row_data(i));
      const std::size_t before = s.ids.size();
      found[i] = bound.holds() ? screen_row<Order>(out.row_data(i), n, k, bound, s) : whole;
      if (found[i] > most) {
        s.ids.resize(before);
        found[i] = whole;
      }
      s.ends.push_back(s.ids.size());
    }
    recompute(x.row_range(first, rows), w, bias, s.ids, s.ends, out.row_range(first, rows));
  });
  std::vector<std::size_t> left;
  for (std::size_t i = 0; i < m; ++i) {
    if (found[i] == whole) left.push_back(i);
    if (found[i] != whole) counts.entries += found[i];
  }
  counts.whole = left.size();
  const auto row = [&](std::size_t i) { return x.row_data(left[i]); };
  ordered_product<float>::run(
      pool, left.size(), row, w,
      [&](std::size_t i, std::size_t j, const float* sums, std::size_t width) {
        float* to = out.row_data(left[i]) + j;
        const float* b = bias.empty() ? nullptr : bias.data() + j;
        for (std::size_t c = 0; c < width; ++c) to[c] = b == nullptr ? sums[c] : sums[c] + b[c];
      });
  return counts;
}

}  // namespace cpu_kernels
}  // namespace plmscope::inline PLMSCOPE_ABI
