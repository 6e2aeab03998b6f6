// SPDX-License-Identifier: MIT
#pragma once

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

/// The key of an entry that the order keeps, else NaN: nothing compares with it.
template <class Order, class Real>
[[gnu::always_inline]] inline Real kept_key(Real a) noexcept {
  return Order::keep(a) ? Order::key(a) : std::numeric_limits<Real>::quiet_NaN();
}

// What lets an entry pass: its place in the row and its value; 16 of them as a mask. None lets NaN
// pass.

template <class Order>
struct kept {
  template <class Real>
  static Real key(Real a) noexcept {
    return kept_key<Order>(a);
  }
  template <class Real>
  bool operator()(std::size_t, Real key) const noexcept {
    return key == key;
  }
#if defined(__AVX512F__)
  __mmask16 sixteen(std::size_t, __m512 key) const noexcept {
    return _mm512_cmp_ps_mask(key, key, _CMP_ORD_Q);
  }
#endif
};
template <class Order, class Real>
struct kept_above {
  Real bound;
  static Real key(Real a) noexcept { return kept_key<Order>(a); }
  bool operator()(std::size_t, Real key) const noexcept { return key > bound; }
#if defined(__AVX512F__)
  __mmask16 sixteen(std::size_t, __m512 key) const noexcept {
    return _mm512_cmp_ps_mask(key, _mm512_set1_ps(bound), _CMP_GT_OQ);
  }
#endif
};
template <class Order, class Real>
struct kept_from {
  Real bound;
  static Real key(Real a) noexcept { return kept_key<Order>(a); }
  bool operator()(std::size_t, Real key) const noexcept { return key >= bound; }
#if defined(__AVX512F__)
  __mmask16 sixteen(std::size_t, __m512 key) const noexcept {
    return _mm512_cmp_ps_mask(key, _mm512_set1_ps(bound), _CMP_GE_OQ);
  }
#endif
};
template <class Order, class Real>
struct kept_above_each {
  const Real* bounds;
  static Real key(Real a) noexcept { return kept_key<Order>(a); }
  bool operator()(std::size_t j, Real key) const noexcept { return key > bounds[j]; }
#if defined(__AVX512F__)
  __mmask16 sixteen(std::size_t j, __m512 key) const noexcept {
    return _mm512_cmp_ps_mask(key, _mm512_loadu_ps(bounds + j), _CMP_GT_OQ);
  }
#endif
};

/// The features of a whole row of pre-activations: entry j is feature j.
struct every_feature {
  std::uint32_t operator[](std::size_t j) const noexcept { return static_cast<std::uint32_t>(j); }
#if defined(__AVX512F__)
  __m512i sixteen(std::size_t j) const noexcept {
    return _mm512_add_epi32(
        _mm512_set1_epi32(static_cast<int>(j)),
        _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15));
  }
#endif
};
/// The features of a row of codes.
struct listed_features {
  const std::uint32_t* ids;
  std::uint32_t operator[](std::size_t j) const noexcept { return ids[j]; }
#if defined(__AVX512F__)
  __m512i sixteen(std::size_t j) const noexcept { return _mm512_loadu_si512(ids + j); }
#endif
};

/// How many entries `compact_row` may write behind the last one that passes, with any content.
inline constexpr std::size_t compact_spill = 16;

/// Writes the entries that pass, in order, and returns how many. `ids` and `values` may be where
/// the entries come from, or before it. One vectorised pass.
template <class Real, class Ids, class Passes>
std::size_t compact_row(const Real* row, Ids features, std::size_t n, Passes passes,
                        std::uint32_t* ids, Real* values) {
  constexpr std::size_t piece = 256;
  constexpr std::size_t run = 32;
  Real keys[piece];
  std::size_t written = 0;
  for (std::size_t first = 0; first < n; first += piece) {
    const std::size_t end = std::min(n, first + piece);
    for (std::size_t i = first; i < end; ++i) keys[i - first] = Passes::key(row[i]);
    std::size_t i = first;
#if defined(__AVX512F__)
    if constexpr (std::is_same_v<Real, float>) {
      for (; i + 16 <= end; i += 16) {
        const __mmask16 hits = passes.sixteen(i, _mm512_loadu_ps(keys + (i - first)));
        if (hits == 0) continue;  // mostly: two stores across lines cost more than a wrong guess
        const __m512 a = _mm512_loadu_ps(row + i);
        const __m512i f = features.sixteen(i);
        _mm512_storeu_ps(values + written, _mm512_maskz_compress_ps(hits, a));
        _mm512_storeu_si512(ids + written, _mm512_maskz_compress_epi32(hits, f));
        written += static_cast<std::size_t>(std::popcount(static_cast<unsigned>(hits)));
      }
    }
#endif
    while (i < end) {
      const std::size_t stop = std::min(end, i + run);
      unsigned any = 0;
      for (std::size_t j = i; j < stop; ++j) any |= passes(j, keys[j - first]) ? 1u : 0u;
      for (; any != 0 && i < stop; ++i) {
        const Real a = row[i];
        ids[written] = features[i];
        values[written] = a;
        written += static_cast<std::size_t>(passes(i, keys[i - first]));
      }
      i = stop;
    }
  }
  return written;
}

/// Appends the entries of a few rows that pass: blocks of rows into slots of scratch, side by side,
/// then in order to their place, which is known only now. Slots are as large as the rows, but no
/// more of them is touched than what passes.
template <class Backend, class C, class Passes, class Codes>
void append_wave(thread_pool& pool, Backend& be, C pre, std::size_t height, const Passes& passes,
                 Codes& out) {
  using Real = typename C::value_type;
  struct slots {
    std::vector<std::uint32_t> ids;
    std::vector<Real> values;
  };
  static thread_local slots scratch;  // of the caller; its threads write to it
  const std::size_t rows = pre.rows();
  const std::size_t blocks = (rows + height - 1) / height;
  const std::size_t slot = height * pre.cols() + compact_spill;
  if (scratch.ids.size() < blocks * slot) {
    scratch.ids.resize(blocks * slot);
    scratch.values.resize(blocks * slot);
  }
  std::uint32_t* const slot_ids = scratch.ids.data();
  Real* const slot_values = scratch.values.data();

  out.reserve_more(be, rows, 0);
  std::int64_t* const offsets = out.offsets() + out.rows();
  pool.run(blocks, [&](std::size_t t) {
    std::size_t to = t * slot;
    for (std::size_t r = t * height; r < std::min(rows, (t + 1) * height); ++r) {
      const std::size_t n = compact_row(pre.row_data(r), every_feature{}, pre.cols(), passes,
                                        slot_ids + to, slot_values + to);
      offsets[r + 1] = static_cast<std::int64_t>(n);
      to += n;
    }
  });
  for (std::size_t r = 0; r < rows; ++r) offsets[r + 1] += offsets[r];
  const std::size_t more = static_cast<std::size_t>(offsets[rows]) - out.entries();
  out.reserve_more(be, rows, more);
  pool.run(more == 0 ? 0 : blocks, [&](std::size_t t) {
    const auto begin = static_cast<std::size_t>(offsets[t * height]);
    const auto n = static_cast<std::size_t>(offsets[std::min(rows, (t + 1) * height)]) - begin;
    std::copy_n(slot_ids + t * slot, n, out.ids() + begin);
    std::copy_n(slot_values + t * slot, n, out.values() + begin);
  });
  out.append(rows, more);
}

/// Rows of a block and of a wave: enough work for a thread, and scratch of bounded size.
struct wave_shape {
  std::size_t block, rows;
  explicit wave_shape(std::size_t cols) noexcept
      : block(std::clamp<std::size_t>(65'536 / std::max<std::size_t>(cols, 1), 1, 512)),
        rows(block * std::clamp<std::size_t>((std::size_t{1} << 22) / (block * cols + 1), 1, 64)) {}
};

/// Calls f(passes) with what lets an entry pass a bound of no, of one, or of one number a feature.
template <class Order, class C, class F>
void with_bound(C bound, const F& f) {
  using Real = typename C::value_type;
  if (bound.empty()) {
    f(kept<Order>{});
  } else if (bound.cols() == 1) {
    f(kept_above<Order, Real>{bound[0]});
  } else {
    f(kept_above_each<Order, Real>{bound.data()});
  }
}

template <class Backend, class C, class Order, class Codes>
void keep_above(thread_pool& pool, Backend& be, C pre, C bound, Order, Codes& out) {
  const wave_shape wave(pre.cols());
  with_bound<Order>(bound, [&](const auto& passes) {
    for (std::size_t first = 0; first < pre.rows(); first += wave.rows) {
      append_wave(pool, be, pre.row_range(first, std::min(wave.rows, pre.rows() - first)),
                  wave.block, passes, out);
    }
  });
}

}  // namespace cpu_kernels
}  // namespace plmscope::inline PLMSCOPE_ABI
