// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/backend/device/group.hpp>

#include <cmath>
#include <cstddef>
#include <cstdint>

namespace plmscope::inline PLMSCOPE_ABI {
namespace device_kernels {

/// softmax(q k^T) v per sequence and head, with nothing of size [length, length]: keys and values
/// come by in tiles of shared memory and the softmax is kept running (Milakov & Gimelshein 2018;
/// Dao et al. 2022). A block is one head and a run of queries of one sequence, a thread is a query:
/// all threads read the same key at the same time. A query's result does not depend on its
/// neighbours.
///
/// `HeadDim` is the room of a thread for its query and its sum; the true width may be smaller.
template <class C, class V, unsigned HeadDim>
struct attention {
  using Real = typename C::value_type;
  static constexpr unsigned threads = 128;
  static constexpr unsigned tile = 128 / sizeof(Real);  ///< keys at a time

  C q, k, v;
  V out;
  const std::int64_t* offsets;
  unsigned head_dim;
  unsigned heads;
  unsigned runs;  ///< runs of queries that the longest sequence needs
  unsigned run;   ///< queries of a block

  /// Queries of a block of so many threads.
  static constexpr unsigned queries(unsigned block) noexcept { return block; }
  static constexpr std::size_t shared_bytes() noexcept { return 2 * tile * HeadDim * sizeof(Real); }

  template <class Group>
  PLMSCOPE_HD void operator()(Group& g) const {
    Real* const keys = g.template shared<Real>(tile * HeadDim);
    Real* const values = g.template shared<Real>(tile * HeadDim);
    const std::size_t sequence = g.index() / (heads * runs);
    const auto head = static_cast<unsigned>(g.index() / runs % heads);
    const auto first = static_cast<std::size_t>(offsets[sequence]);
    const auto length = static_cast<unsigned>(offsets[sequence + 1] - offsets[sequence]);
    const unsigned begin = static_cast<unsigned>(g.index() % runs) * run;
    if (begin >= length) return;
    const unsigned query = begin + g.rank();
    const bool here = g.rank() < run && query < length;
    const std::size_t column = static_cast<std::size_t>(head) * head_dim;

    Real mine[HeadDim];
    Real sum[HeadDim];
    for (unsigned c = 0; c < HeadDim; ++c) {
      mine[c] = here && c < head_dim ? q.row_data(first + query)[column + c] : Real{0};
      sum[c] = 0;
    }
    Real top = 0;    // largest score so far
    Real total = 0;  // sum of e^(score - top)
    for (unsigned j = 0; j < length; j += tile) {
      const unsigned n = length - j < tile ? length - j : tile;
      g.sync();
      for (unsigned i = g.rank(); i < n * HeadDim; i += g.size()) {
        const unsigned r = i / HeadDim;
        const unsigned c = i % HeadDim;
        const bool inside = c < head_dim;
        keys[i] = inside ? k.row_data(first + j + r)[column + c] : Real{0};
        values[i] = inside ? v.row_data(first + j + r)[column + c] : Real{0};
      }
      g.sync();
      if (!here) continue;
      for (unsigned r = 0; r < n; ++r) {
        Real score = 0;
        for (unsigned c = 0; c < HeadDim; ++c) score += mine[c] * keys[r * HeadDim + c];
        if (j + r == 0) top = score;
        if (score > top) {
          const Real shrink = std::exp(top - score);
          total *= shrink;
          for (unsigned c = 0; c < HeadDim; ++c) sum[c] *= shrink;
          top = score;
        }
        const Real weight = score == top ? Real{1} : std::exp(score - top);
        total += weight;
        for (unsigned c = 0; c < HeadDim; ++c) sum[c] += weight * values[r * HeadDim + c];
      }
    }
    if (!here) return;
    Real* const to = out.row_data(first + query) + column;
    for (unsigned c = 0; c < HeadDim; ++c) {
      if (c < head_dim) to[c] = sum[c] / total;
    }
  }
};

}  // namespace device_kernels
}  // namespace plmscope::inline PLMSCOPE_ABI
