// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/backend/cpu/aligned_buffer.hpp>
#include <plmscope/backend/cpu/simd.hpp>
#include <plmscope/core/thread_pool.hpp>
#include <plmscope/core/view.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace plmscope::inline PLMSCOPE_ABI {
namespace cpu_kernels {

/// Sums of weighted rows for many lists of entries over few rows: out[i, :] += sum over the entries
/// e of list i, in order, of weight(e) * from[row_e, :]. Where a list takes every eighth row or
/// more, rows are better read in blocks that stay in the first cache, each for all lists of a tile,
/// and the entries as one stream in the order of that walk. The order of every sum is unchanged,
/// and so are its bits. Rows ascend within a list. Scratch: an entry each, and a slab of columns a
/// thread.
template <class Real>
class streamed_sums {
  static constexpr std::size_t block = 64;   // rows
  static constexpr std::size_t tile = 128;   // lists
  static constexpr std::size_t vectors = 8;  // as many running sums as hide the latency of adding
  static constexpr std::size_t columns = vectors * simd<Real>::lanes;

 public:
  /// Whether blocks have entries enough.
  static bool pay(std::size_t lists, std::size_t rows, std::size_t entries) noexcept {
    return rows >= 2 * block && 8 * entries >= lists * rows;
  }

  /// Brings the entries of all lists into the order in which they are used.
  template <class Weight>
  void pack(thread_pool& pool, std::size_t lists, std::size_t rows, const std::int64_t* offsets,
            const std::uint32_t* ids, const Weight& weight) {
    lists_ = lists;
    blocks_ = (rows + block - 1) / block;
    offsets_ = offsets;
    const auto n = static_cast<std::size_t>(offsets[lists]);
    if (entries_.size() < n) entries_ = aligned_buffer<entry>(n);
    const std::size_t tiles = (lists + tile - 1) / tile;
    if (counts_.size() < lists * blocks_) counts_.resize(lists * blocks_);
    pool.run(tiles, [&](std::size_t t) {
      const std::size_t first = t * tile;
      const std::size_t last = std::min(lists, first + tile);
      std::size_t next[tile];
      for (std::size_t i = first; i < last; ++i) {
        next[i - first] = static_cast<std::size_t>(offsets[i]);
      }
      entry* to = entries_.get() + offsets[first];
      std::uint32_t* count = counts_.data() + first * blocks_;
      for (std::size_t b = 0; b < blocks_; ++b) {
        for (std::size_t i = first; i < last; ++i) {
          std::size_t e = next[i - first];
          const std::size_t begin = e;
          const auto end = static_cast<std::size_t>(offsets[i + 1]);
          for (; e < end && ids[e] < (b + 1) * block; ++e) *to++ = {weight(e), ids[e]};
          next[i - first] = e;
          *count++ = static_cast<std::uint32_t>(e - begin);
        }
      }
    });
  }

  /// For the lists last packed. `out` holds what the sums are added to.
  template <class C, class V>
  void add(thread_pool& pool, C from, V out) const {
    const std::size_t slabs = (out.cols() + columns - 1) / columns;
    const std::size_t tiles = (lists_ + tile - 1) / tile;
    const std::size_t parts =
        std::min(tiles, 1 + 2 * pool.threads() / std::max<std::size_t>(slabs, 1));
    pool.run(slabs * parts, [&](std::size_t t) {
      static thread_local aligned_buffer<Real> slab;
      const std::size_t column = t / parts * columns;
      const std::size_t n = std::min(columns, out.cols() - column);
      if (slab.size() < from.rows() * n) slab = aligned_buffer<Real>(from.rows() * n);
      for (std::size_t r = 0; r < from.rows(); ++r) {
        std::copy_n(from.row_data(r) + column, n, slab.get() + r * n);
      }
      for (std::size_t i = t % parts * tiles / parts; i < (t % parts + 1) * tiles / parts; ++i) {
        add_tile(i, slab.get(), out.col_range(column, n));
      }
    });
  }

 private:
  struct entry {
    Real weight;
    std::uint32_t row;
  };

  template <class V>
  void add_tile(std::size_t t, const Real* slab, V out) const {
    const std::size_t first = t * tile;
    const std::size_t last = std::min(lists_, first + tile);
    const std::size_t n = out.cols();
    const entry* e = entries_.get() + offsets_[first];
    const std::uint32_t* count = counts_.data() + first * blocks_;
    for (std::size_t b = 0; b < blocks_; ++b) {
      for (std::size_t i = first; i < last; ++i, e += *count++) {
        if (n == columns) {
          weighted_sum_chunk<vectors>(
              *count, 0, [=](std::size_t k) { return e[k].weight; },
              [=](std::size_t k) { return slab + e[k].row * columns; }, out.row_data(i));
        } else {
          add_weighted_sum(
              *count, n, [=](std::size_t k) { return e[k].weight; },
              [=](std::size_t k) { return slab + e[k].row * n; }, out.row_data(i));
        }
      }
    }
  }

  aligned_buffer<entry> entries_;      // tile by tile, block by block, list by list
  std::vector<std::uint32_t> counts_;  // in the same order
  const std::int64_t* offsets_ = nullptr;
  std::size_t lists_ = 0;
  std::size_t blocks_ = 0;
};

/// dz_e = <gradient_i, dictionary[id_e, :]> with a few rows of the dictionary at a time in the
/// first cache for all rows of a tile. Pays from every fourth place on. The bits of `dot`.
template <class Codes, class C, class V>
void streamed_dots(thread_pool& pool, const Codes& z, C gradient, C dictionary, V dz) {
  using Real = typename V::value_type;
  constexpr std::size_t tile = 64;
  constexpr std::size_t together = vector_bytes == 64 ? 4 : 2;  // as many as registers hold
  const std::size_t d = dictionary.cols();
  const std::size_t block = std::clamp<std::size_t>(40960 / (d * sizeof(Real) + 1), 4, 64);
  pool.run((z.rows() + tile - 1) / tile, [&](std::size_t t) {
    const std::size_t first = t * tile;
    const std::size_t last = std::min(z.rows(), first + tile);
    std::size_t next[tile];
    for (std::size_t r = first; r < last; ++r) {
      next[r - first] = static_cast<std::size_t>(z.offsets()[r]);
    }
    for (std::size_t f = 0; f < dictionary.rows(); f += block) {
      for (std::size_t r = first; r < last; ++r) {
        std::size_t e = next[r - first];
        std::size_t stop = e;
        const auto end = static_cast<std::size_t>(z.offsets()[r + 1]);
        while (stop < end && z.ids()[stop] < f + block) ++stop;
        next[r - first] = stop;
        const Real* g = gradient.row_data(r);
        const Real* rows[together];
        for (; e + together <= stop; e += together) {
          for (std::size_t i = 0; i < together; ++i) rows[i] = dictionary.row_data(z.ids()[e + i]);
          dots<together>(g, rows, d, dz.data() + e);
        }
        for (; e < stop; ++e) dz.data()[e] = dot(g, dictionary.row_data(z.ids()[e]), d);
      }
    }
  });
}

/// Scratch of the calling thread; its pool's threads write to it.
template <class Real>
streamed_sums<Real>& streamed_scratch() {
  static thread_local streamed_sums<Real> scratch;
  return scratch;
}

}  // namespace cpu_kernels
}  // namespace plmscope::inline PLMSCOPE_ABI
