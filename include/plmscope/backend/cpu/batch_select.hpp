// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/backend/cpu/compact.hpp>
#include <plmscope/core/thread_pool.hpp>

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <type_traits>
#include <vector>

namespace plmscope::inline PLMSCOPE_ABI {
namespace cpu_kernels {

/// Unsigned integers that order as the keys of values do; -0 and 0 are equal.
template <class Order, class Real>
struct key_bits {
  using type = std::conditional_t<sizeof(Real) == 4, std::uint32_t, std::uint64_t>;
  static constexpr type sign = type{1} << (8 * sizeof(Real) - 1);

  [[gnu::always_inline]] static type of(Real value) noexcept {
    const type b = std::bit_cast<type>(Order::key(value) + Real{0});
    return b ^ ((type{0} - (b >> (8 * sizeof(Real) - 1))) | sign);
  }
  static Real key(type b) noexcept { return std::bit_cast<Real>((b & sign) != 0 ? b ^ sign : ~b); }
};

/// The n-th largest key of `count` >= n >= 1 values, none of them NaN. The range of the keys is cut
/// into 2048 parts, the keys in each are counted, and those of the part with the n-th are the next,
/// far smaller set: where keys crowd, three rounds for float and six for double at most.
template <class Order, class Real>
Real nth_largest_key(thread_pool& pool, const Real* values, std::size_t count, std::size_t n) {
  using keys = key_bits<Order, Real>;
  using bits = typename keys::type;
  constexpr unsigned digits = 11;
  constexpr std::size_t parts = std::size_t{1} << digits;
  struct buffers {
    std::vector<bits> now, next;
    std::vector<std::size_t> counts;
  };
  static thread_local buffers scratch;  // of the caller; its threads write to it
  buffers& s = scratch;
  const auto tile_of = [](std::size_t m) { return std::max<std::size_t>(32'768, (m + 63) / 64); };
  std::size_t tile = tile_of(count);
  std::size_t tiles = (count + tile - 1) / tile;

  if (s.now.size() < count) s.now.resize(count);
  std::vector<bits> lows(tiles), highs(tiles);
  pool.run(tiles, [&](std::size_t t) {
    bits* const now = s.now.data();
    bits lowest = std::numeric_limits<bits>::max();
    bits highest = 0;
    for (std::size_t i = t * tile; i < std::min(count, (t + 1) * tile); ++i) {
      const bits b = keys::of(values[i]);
      now[i] = b;
      lowest = b < lowest ? b : lowest;
      highest = b > highest ? b : highest;
    }
    lows[t] = lowest, highs[t] = highest;
  });
  bits low = *std::min_element(lows.begin(), lows.end());
  bits high = *std::max_element(highs.begin(), highs.end());
  if (count == n) return keys::key(low);

  while (low < high) {  // the n-th lies in [low, high], and so does all that is left in `now`
    const auto width = static_cast<unsigned>(std::bit_width(static_cast<bits>(high - low)));
    const unsigned shift = width > digits ? width - digits : 0;
    s.counts.assign((tiles + 1) * parts, 0);
    const auto counts_up_to = [&](std::size_t t) { return s.counts.data() + t * parts; };
    pool.run(tiles, [&](std::size_t t) {
      std::size_t* const counts = counts_up_to(t + 1);
      const bits* const now = s.now.data();
      for (std::size_t i = t * tile; i < std::min(count, (t + 1) * tile); ++i) {
        ++counts[(now[i] - low) >> shift];
      }
    });
    for (std::size_t t = 1; t < tiles; ++t) {
      for (std::size_t p = 0; p < parts; ++p) counts_up_to(t + 1)[p] += counts_up_to(t)[p];
    }
    const std::size_t* const totals = counts_up_to(tiles);
    std::size_t p = parts - 1;
    for (; totals[p] < n; --p) n -= totals[p];  // the n-th of what is not above part p
    low += static_cast<bits>(p) << shift;
    high = low + std::min<bits>(high - low, (bits{1} << shift) - 1);
    if (low >= high) break;

    if (s.next.size() < totals[p]) s.next.resize(totals[p]);
    pool.run(tiles, [&](std::size_t t) {
      bits* to = s.next.data() + counts_up_to(t)[p];
      bits* const stop = s.next.data() + counts_up_to(t + 1)[p];
      for (const bits* from = s.now.data() + t * tile; to != stop; ++from) {
        *to = *from;
        to += static_cast<std::ptrdiff_t>((*from - low) >> shift == 0);  // wraps where below
      }
    });
    std::swap(s.now, s.next);
    count = totals[p];
    tile = tile_of(count);
    tiles = (count + tile - 1) / tile;
  }
  return keys::key(low);
}

/// Entries of codes whose key is at least `last`, or with `Above` above it.
template <class Order, class Real, bool Above>
struct reaches {
  Real last;
  static Real key(Real a) noexcept { return Order::key(a); }
  bool operator()(std::size_t, Real key) const noexcept { return Above ? key > last : key >= last; }
#if defined(__AVX512F__)
  __mmask16 sixteen(std::size_t, __m512 key) const noexcept {
    return _mm512_cmp_ps_mask(key, _mm512_set1_ps(last), Above ? _CMP_GT_OQ : _CMP_GE_OQ);
  }
#endif
};

/// Leaves in z, which has more than n >= 1 entries, the n largest, of equal ones the first; returns
/// the n-th largest key. Tiles of rows close up where they are, side by side, then move together.
template <class Order, class Codes>
typename Codes::real shrink(thread_pool& pool, Codes& z, std::size_t n) {
  using Real = typename Codes::real;
  std::uint32_t* const ids = z.ids();
  Real* const values = z.values();
  std::int64_t* const offsets = z.offsets();
  const Real last = nth_largest_key<Order>(pool, values, z.entries(), n);

  const std::size_t rows = z.rows();
  const std::size_t height = std::max<std::size_t>(8, (rows + 63) / 64);
  const std::size_t tiles = (rows + height - 1) / height;
  const auto first_row = [&](std::size_t t) { return std::min(rows, t * height); };
  const auto first_entry = [&](std::size_t t) {
    return static_cast<std::size_t>(offsets[first_row(t)]);
  };
  std::vector<std::size_t> above_last(tiles), equal(tiles), left(tiles);
  pool.run(tiles, [&](std::size_t t) {
    for (std::size_t r = first_row(t); r < first_row(t + 1); ++r) {
      std::uint32_t higher = 0;
      std::uint32_t same = 0;
      for (std::int64_t e = offsets[r]; e < offsets[r + 1]; ++e) {
        const Real key = Order::key(values[e]);
        higher += key > last ? 1u : 0u;
        same += key == last ? 1u : 0u;
      }
      above_last[t] += higher, equal[t] += same;
    }
  });
  std::size_t equals = n;  // that stay: the first ones
  for (const std::size_t m : above_last) equals -= m;
  for (std::size_t t = 0; t < tiles; ++t) {
    left[t] = std::min(equals, equal[t]);
    equals -= left[t];
  }

  std::vector<std::int64_t> kept_of(rows);
  pool.run(tiles, [&](std::size_t t) {
    std::size_t to = first_entry(t);
    std::size_t ties = left[t];
    for (std::size_t r = first_row(t); r < first_row(t + 1); ++r) {
      const auto from = static_cast<std::size_t>(offsets[r]);
      const std::size_t m = static_cast<std::size_t>(offsets[r + 1]) - from;
      const listed_features features{ids + from};
      std::size_t written = 0;
      if (left[t] == equal[t]) {
        written = compact_row(values + from, features, m, reaches<Order, Real, false>{last},
                              ids + to, values + to);
      } else if (left[t] == 0) {
        written = compact_row(values + from, features, m, reaches<Order, Real, true>{last},
                              ids + to, values + to);
      } else {  // the one tile in which the ties end
        for (std::size_t e = from; e < from + m; ++e) {
          const Real key = Order::key(values[e]);
          const bool tie = key == last && ties > 0;
          ties -= static_cast<std::size_t>(tie);
          ids[to + written] = ids[e];
          values[to + written] = values[e];
          written += static_cast<std::size_t>(key > last || tie);
        }
      }
      kept_of[r] = static_cast<std::int64_t>(written);
      to += written;
    }
  });
  std::size_t end = 0;
  for (std::size_t t = 0; t < tiles; ++t) {
    const std::size_t from = first_entry(t);
    const std::size_t m = above_last[t] + left[t];
    std::copy_n(ids + from, m, ids + end);
    std::copy_n(values + from, m, values + end);
    end += m;
  }
  for (std::size_t r = 0; r < rows; ++r) offsets[r + 1] = offsets[r] + kept_of[r];
  z.close_up(n);
  return last;
}

/// The bound rises while rows stream by: what is not above the n-th largest so far cannot be among
/// the n largest, and an equal one comes later than n others. Every step looks at as many rows as
/// all before it, so that about n entries pass in each, and n ln(entries / n) in all.
template <class Backend, class C, class Order, class Codes, class V>
void batch_top_n(thread_pool& pool, Backend& be, C pre, std::size_t n, Order, Codes& out, V last) {
  using Real = typename C::value_type;
  Real bound = std::numeric_limits<Real>::infinity();  // nothing is above it
  bool full = false;                                   // n entries with keys of at least the bound
  const auto shrink_to_n = [&] {
    if (out.entries() < n) return;
    if (out.entries() > n) {
      bound = shrink<Order>(pool, out, n);
    } else {
      bound = nth_largest_key<Order>(pool, out.values(), n, n);
    }
    full = true;
  };
  if (n > 0) {
    shrink_to_n();
  } else {
    full = true;
    if (out.entries() > 0) std::fill_n(out.offsets(), out.rows() + 1, std::int64_t{0});
    out.close_up(0);
  }
  const wave_shape wave(pre.cols());
  const std::size_t rows_of_n = n / std::max<std::size_t>(pre.cols(), 1);  // where all pass
  for (std::size_t first = 0; first < pre.rows();) {
    const std::size_t step = std::clamp(std::max(2 * rows_of_n, out.rows()), wave.block, wave.rows);
    const C part = pre.row_range(first, std::min(step, pre.rows() - first));
    if (full) {
      append_wave(pool, be, part, wave.block, kept_above<Order, Real>{bound}, out);
    } else {
      append_wave(pool, be, part, wave.block, kept<Order>{}, out);
    }
    first += part.rows();
    if (first == pre.rows() ? out.entries() > n : out.entries() / 2 > n) shrink_to_n();
  }
  if (!last.empty() && out.entries() == n) {
    if (!full) shrink_to_n();
    last[0] = bound;
  }
}

}  // namespace cpu_kernels
}  // namespace plmscope::inline PLMSCOPE_ABI
