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

/// Scratch of one thread: for the rows of a tile.
struct screening_scratch {
  bf16_weights::operand rounded;
  std::vector<screened_weights::row_bound> bounds;
  std::vector<float> maxima;  // of groups of key(a_j) - e_j
  std::vector<float> low;
  std::vector<std::uint32_t> found;
  std::vector<std::uint32_t> ids;  // of the rows one after another
};

/// Appends to `ids` the entries of a row whose exact value may be among the k first in `Order`, and
/// returns how many: with t the k-th largest of key(a_j) - e_j those with key(a_j) + e_j >= t.
/// `maxima`: of `groups` groups of key(a_j) - e_j.
///
/// |key(a) - key(b)| <= |a - b| is asked of the order. Then the k entries that make t have exact
/// keys of t or more and are in the list; an entry that is not in the list has an exact key below
/// t, and key(a_j) below t as well. So whatever selects the k first entries, ties and all, selects
/// the same from the exact row and from this row once its listed entries are exact. (Rounding is
/// monotone and exact keys are floats: the computed key(a_j) - e_j does not exceed one that the
/// true one does not.)
template <class Order>
std::size_t screen_row(const float* a, std::size_t n, std::size_t k,
                       const screened_weights::row_bound& bound, const float* maxima,
                       std::size_t groups, screening_scratch& s) {
  const float least =
      groups == 0 ? -std::numeric_limits<float>::infinity() : kth_largest(maxima, groups, k);
  const auto high = [&](std::size_t j) { return Order::key(a[j]) + bound(j); };
  if (s.found.size() < n + 16) s.found.resize(n + 16);
  std::uint32_t* end = s.found.data();
  for (std::size_t p = 0; p * panel_columns < n; ++p) {  // more than those: e_j of a whole panel
    const float e = bound.of_panel(p);
    end = collect(
        p * panel_columns, std::min(n, (p + 1) * panel_columns), least,
        [&](std::size_t j) { return Order::key(a[j]) + e; }, end);
  }
  const auto count = static_cast<std::size_t>(end - s.found.data());
  float t = least;
  if (count > k) {
    s.low.resize(count);
    for (std::size_t e = 0; e < count; ++e) {
      s.low[e] = Order::key(a[s.found[e]]) - bound(s.found[e]);
    }
    t = kth_largest(s.low.data(), count, k);
  }
  const std::size_t before = s.ids.size();
  s.ids.resize(before + count);
  std::uint32_t* to = s.ids.data() + before;
  for (std::size_t e = 0; e < count; ++e) {
    *to = s.found[e];
    to += static_cast<std::ptrdiff_t>(high(s.found[e]) >= t);
  }
  s.ids.resize(static_cast<std::size_t>(to - s.ids.data()));
  return s.ids.size() - before;
}

/// The product of the rows x in bfloat16, `pitch` apart, with the bounds of the rows; while a panel
/// of it is near, the maxima of its groups.
template <class Order, class X>
void screened_tile(X x, X bias, const screened_weights& packed, std::size_t groups, float* out,
                   std::size_t pitch, screening_scratch& s) {
  const auto& w = packed.rounded();
  const std::size_t m = x.rows();
  constexpr std::size_t wide = panel_columns;
  static_assert(wide == group_maxima::width);
  s.bounds.resize(m);
  for (std::size_t r = 0; r < m; ++r) s.bounds[r] = packed.bound(x.row_data(r));
  s.maxima.assign(m * groups, -std::numeric_limits<float>::infinity());
  w.round(x.data(), x.stride(), m, s.rounded);
  for (std::size_t p = 0; p < w.panels(); ++p) {
    const std::size_t column = p * wide;
    w.product(s.rounded, m, p, bias.empty() ? nullptr : bias.data() + column, false, out + column,
              pitch);
    if (groups == 0 || column + wide > w.rows()) continue;
    for (std::size_t r = 0; r < m; ++r) {
      const float* a = out + r * pitch + column;
      const auto& bound = s.bounds[r];
      group_maxima::add([&](std::size_t j) { return Order::key(a[j]) - bound(column + j); },
                        s.maxima.data() + r * groups + column % groups);
    }
  }
}

/// Entries of a product by row, values beside ids.
struct listed_entries {
  std::vector<std::size_t> begin;  // of row i; rows + 1 of them
  std::vector<std::uint32_t> ids;
  std::vector<float> values;
};

/// values = <x_i, w_j> + bias[j] for all entries. Latent by latent, so that a row of w, of which
/// there are more than the caches hold, is read once.
template <class X>
void compute_entries(thread_pool& pool, X x, X w, X bias, listed_entries& list) {
  struct place {
    std::uint32_t row;
    std::uint32_t entry;
  };
  std::vector<std::size_t> begin(w.rows() + 1, 0);
  for (const std::uint32_t j : list.ids) ++begin[j + 1];
  for (std::size_t j = 0; j < w.rows(); ++j) begin[j + 1] += begin[j];
  std::vector<place> places(list.ids.size());
  std::vector<std::size_t> next(begin.begin(), begin.end() - 1);
  for (std::size_t i = 0; i + 1 < list.begin.size(); ++i) {
    for (std::size_t e = list.begin[i]; e < list.begin[i + 1]; ++e) {
      places[next[list.ids[e]]++] = {static_cast<std::uint32_t>(i), static_cast<std::uint32_t>(e)};
    }
  }
  list.values.resize(list.ids.size());
  constexpr std::size_t together = 8;
  constexpr std::size_t block = 64;
  pool.run((w.rows() + block - 1) / block, [&](std::size_t t) {
    std::array<const float*, together> from;
    std::array<float, together> dots;
    for (std::size_t j = t * block; j < std::min(w.rows(), (t + 1) * block); ++j) {
      for (std::size_t e = begin[j]; e < begin[j + 1]; e += together) {
        const std::size_t n = std::min(together, begin[j + 1] - e);
        for (std::size_t l = 0; l < n; ++l) from[l] = x.row_data(places[e + l].row);
        ordered_product<float>::dots(n, w.row_data(j), x.cols(), from.data(), dots.data());
        for (std::size_t l = 0; l < n; ++l) {
          list.values[places[e + l].entry] = bias.empty() ? dots[l] : dots[l] + bias.data()[j];
        }
      }
    }
  });
}

/// Rows of a tile: few enough that a tile of the product stays in the last cache.
inline std::size_t screened_tile_rows(std::size_t m, std::size_t n, std::size_t threads) noexcept {
  constexpr std::size_t bytes = std::size_t{12} << 20;
  const std::size_t most = std::max<std::size_t>(8, bytes / (sizeof(float) * panel_rows * n));
  return std::min(panel_tile_rows(m, threads), most * panel_rows);
}

/// See `top_k_rows` of `screened_rows` in backend/primitives.hpp.
template <class Order, class Backend, class X, class Codes>
screening_counts screened_top_k(thread_pool& pool, Backend& be, X x, X w, X bias,
                                const screened_weights& packed, std::size_t k, Codes& out) {
  const std::size_t n = w.rows();
  const std::size_t m = x.rows();
  screening_counts counts{.rows = m};
  k = std::min(k, n);
  // Above this an entry by itself costs more than its share of the row.
  const std::size_t most = n / screening_counts::dear;
  const std::size_t groups = group_maxima::groups(n, std::max<std::size_t>(k, 1));
  constexpr std::size_t none = std::numeric_limits<std::size_t>::max();
  const std::size_t tile = screened_tile_rows(m, n, pool.threads());
  const std::size_t tiles = k == 0 ? 0 : (m + tile - 1) / tile;
  const std::size_t pitch = (n + panel_columns - 1) / panel_columns * panel_columns;
  std::vector<std::vector<std::uint32_t>> lists(tiles);
  listed_entries list;
  list.begin.resize(m + 1);
  std::vector<std::uint8_t> whole(m, 0);
  pool.run(tiles, [&](std::size_t t) {
    static thread_local screening_scratch s;
    const std::size_t first = t * tile;
    const std::size_t rows = std::min(tile, m - first);
    float* product = kept_scratch<float, 2>(rows * pitch);
    screened_tile<Order>(x.row_range(first, rows), bias, packed, groups, product, pitch, s);
    s.ids.clear();
    for (std::size_t i = 0; i < rows; ++i) {
      const std::size_t before = s.ids.size();
      const std::size_t found = s.bounds[i].holds()
                                    ? screen_row<Order>(product + i * pitch, n, k, s.bounds[i],
                                                        s.maxima.data() + i * groups, groups, s)
                                    : none;
      if (found > most) {
        s.ids.resize(before);
        whole[first + i] = 1;
      }
      list.begin[first + i + 1] = s.ids.size() - before;
    }
    lists[t].assign(s.ids.begin(), s.ids.end());
  });
  for (std::size_t i = 0; i < m; ++i) list.begin[i + 1] += list.begin[i];
  list.ids.reserve(list.begin.back());
  for (const auto& ids : lists) list.ids.insert(list.ids.end(), ids.begin(), ids.end());
  counts.entries = list.ids.size();
  compute_entries(pool, x, w, bias, list);

  out.reserve_more(be, m, m * k);
  std::uint32_t* ids = out.ids() + out.entries();
  float* values = out.values() + out.entries();
  std::vector<std::size_t> sizes(m, 0);
  constexpr std::size_t block = 32;
  pool.run(k == 0 ? 0 : (m + block - 1) / block, [&](std::size_t t) {
    static thread_local std::vector<float> keys;
    for (std::size_t i = t * block; i < std::min(m, (t + 1) * block); ++i) {
      const std::size_t from = list.begin[i];
      sizes[i] =
          first_of_listed<Order>(list.ids.data() + from, list.values.data() + from,
                                 list.begin[i + 1] - from, k, ids + i * k, values + i * k, keys);
    }
  });
  for (std::size_t i = 0; i < m;) {  // what could not be screened, as much at a time as a tile
    std::vector<std::size_t> left;
    for (; i < m && left.size() < tile; ++i) {
      if (whole[i] != 0) left.push_back(i);
    }
    counts.whole += left.size();
    float* product = kept_scratch<float, 2>(left.size() * n);
    ordered_product<float>::run(
        pool, left.size(), [&](std::size_t r) { return x.row_data(left[r]); }, w,
        [&](std::size_t r, std::size_t j, const float* sums, std::size_t width) {
          for (std::size_t c = j; c < j + width; ++c) {
            product[r * n + c] = bias.empty() ? sums[c - j] : sums[c - j] + bias.data()[c];
          }
        });
    pool.run(left.size(), [&](std::size_t r) {
      static thread_local select_scratch<float> scratch;
      sizes[left[r]] =
          top_k_row<Order>(product + r * n, n, k, ids + left[r] * k, values + left[r] * k, scratch);
    });
  }
  append_slots(out, k, sizes);
  return counts;
}

}  // namespace cpu_kernels
}  // namespace plmscope::inline PLMSCOPE_ABI
