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
#include <span>
#include <vector>

namespace plmscope::inline PLMSCOPE_ABI {
namespace cpu_kernels {

/// Scratch of one thread.
struct screening_scratch {
  std::vector<float> low, high;
  select_scratch<float> select;
  std::vector<std::uint32_t> ids;  // of the rows of a tile one after another
};

/// Appends to `ids` the entries of a row whose exact value may be among the k first in `Order`, and
/// returns how many: with t the k-th largest of key(a_j) - e_j those with key(a_j) + e_j >= t.
///
/// |key(a) - key(b)| <= |a - b| is asked of the order. Then the k entries that make t have exact
/// keys of t or more and are in the list; an entry that is not in the list has an exact key below
/// t, and key(a_j) below t as well. So whatever selects the k first entries, ties and all, selects
/// the same from the exact row and from this row once its listed entries are exact. (Rounding is
/// monotone and exact keys are floats: the computed key(a_j) - e_j does not exceed one that the
/// true one does not.)
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

/// out[i][j] = <x_i, w_j> + bias[j] for the listed entries: ids of row i are ids[i]. Latent by
/// latent, so that a row of w, of which there are more than the caches hold, is read once.
template <class X, class Out>
void recompute(thread_pool& pool, X x, X w, X bias,
               const std::vector<std::span<const std::uint32_t>>& ids, Out out) {
  std::vector<std::size_t> begin(w.rows() + 1, 0);
  for (const auto& row : ids) {
    for (const std::uint32_t j : row) ++begin[j + 1];
  }
  for (std::size_t j = 0; j < w.rows(); ++j) begin[j + 1] += begin[j];
  std::vector<std::uint32_t> rows(begin.back());
  std::vector<std::size_t> next(begin.begin(), begin.end() - 1);
  for (std::size_t i = 0; i < ids.size(); ++i) {
    for (const std::uint32_t j : ids[i]) rows[next[j]++] = static_cast<std::uint32_t>(i);
  }
  constexpr std::size_t together = 8;
  constexpr std::size_t block = 64;
  pool.run((w.rows() + block - 1) / block, [&](std::size_t t) {
    std::array<const float*, together> from;
    std::array<float, together> dots;
    for (std::size_t j = t * block; j < std::min(w.rows(), (t + 1) * block); ++j) {
      const float b = bias.empty() ? 0 : bias.data()[j];
      for (std::size_t e = begin[j]; e < begin[j + 1]; e += together) {
        const std::size_t n = std::min(together, begin[j + 1] - e);
        for (std::size_t l = 0; l < n; ++l) from[l] = x.row_data(rows[e + l]);
        ordered_product<float>::dots(n, w.row_data(j), x.cols(), from.data(), dots.data());
        for (std::size_t l = 0; l < n; ++l) {
          out.row_data(rows[e + l])[j] = bias.empty() ? dots[l] : dots[l] + b;
        }
      }
    }
  });
}

/// See `screened_linear` in backend/primitives.hpp.
template <class Order, class X, class Out>
screening_counts screened_linear(thread_pool& pool, X x, X w, X bias,
                                 const screened_weights& packed, std::size_t k, Out out) {
  const std::size_t n = out.cols();
  const std::size_t m = out.rows();
  screening_counts counts{.rows = m};
  if (m == 0 || n == 0 || k == 0) {
    linear_by_panels(pool, x, packed.rounded(), bias, out, epilogue::none);
    return counts;
  }
  k = std::min(k, n);
  // Above this an entry by itself costs more than its share of the row.
  const std::size_t most = n / screening_counts::dear;
  constexpr std::size_t none = std::numeric_limits<std::size_t>::max();
  const std::size_t tile = panel_tile_rows(m, pool.threads());
  const std::size_t tiles = (m + tile - 1) / tile;
  std::vector<std::vector<std::uint32_t>> lists(tiles);
  std::vector<std::size_t> ends(m);  // in the list of the tile
  std::vector<std::uint8_t> whole(m, 0);
  pool.run(tiles, [&](std::size_t t) {
    static thread_local screening_scratch s;
    const std::size_t first = t * tile;
    const std::size_t rows = std::min(tile, m - first);
    panel_tile(x.row_range(first, rows), packed.rounded(), bias, out.row_range(first, rows),
               epilogue::none);
    s.ids.clear();
    for (std::size_t i = first; i < first + rows; ++i) {
      const auto bound = packed.bound(x.row_data(i));
      const std::size_t before = s.ids.size();
      const std::size_t found =
          bound.holds() ? screen_row<Order>(out.row_data(i), n, k, bound, s) : none;
      if (found > most) {
        s.ids.resize(before);
        whole[i] = 1;
      }
      ends[i] = s.ids.size();
    }
    lists[t].assign(s.ids.begin(), s.ids.end());
  });
  std::vector<std::span<const std::uint32_t>> ids(m);
  std::vector<std::size_t> left;
  for (std::size_t i = 0; i < m; ++i) {
    const std::size_t begin = i % tile == 0 ? 0 : ends[i - 1];
    ids[i] = std::span(lists[i / tile]).subspan(begin, ends[i] - begin);
    counts.entries += ids[i].size();
    if (whole[i] != 0) left.push_back(i);
  }
  counts.whole = left.size();
  recompute(pool, x, w, bias, ids, out);
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
