// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/backend/cpu/elementary.hpp>
#include <plmscope/backend/cpu/simd.hpp>
#include <plmscope/core/thread_pool.hpp>

#include <algorithm>
#include <cstddef>
#include <limits>
#include <vector>

#if defined(__CUDACC__)  // its front end does not know `#pragma GCC unroll`
#pragma nv_diagnostic push
#pragma nv_diag_suppress 1675
#endif

namespace plmscope::inline PLMSCOPE_ABI {
namespace cpu_kernels {

// Queries stand in the lanes: scores are kept as [key][query], so maximum, exponential and sum run
// down whole vectors, no step mixes two queries, and a query's bits depend on its own sequence only
// (not on the block it falls in). Memory per thread: keys x 64 scores, never [S, S] for all heads.
//
// Sums over keys are taken in chunks of `key_chunk`, chunk sums in order: the rounding error of a
// long sequence grows with the number of chunks and the chunk, not with their product.
#if defined(__AVX512F__)
inline constexpr std::size_t query_vectors = 4;  // 6 x 4 running sums in 32 registers
#else
inline constexpr std::size_t query_vectors = 2;
#endif
inline constexpr std::size_t key_chunk = 64;

template <class Real>
struct attention_scratch {
  std::vector<Real> queries;   // [head_dim][block]
  std::vector<Real> scores;    // [keys][block]
  std::vector<Real> contexts;  // [head_dim][block]

  static attention_scratch& of_thread(std::size_t head_dim, std::size_t keys, std::size_t block) {
    static thread_local attention_scratch scratch;
    const auto grow = [](std::vector<Real>& v, std::size_t n) {
      if (v.size() < n) v.resize(n);
    };
    grow(scratch.queries, head_dim * block);
    grow(scratch.scores, keys * block);
    grow(scratch.contexts, head_dim * block);
    return scratch;
  }
};

/// One block of Vectors x lanes queries of one head.
template <class Real, std::size_t Vectors>
struct attention_block {
  using s = simd<Real>;
  using vec = typename s::vec;
  static constexpr std::size_t width = Vectors * s::lanes;

  std::size_t head_dim;
  std::size_t keys;
  const Real* k;  ///< first key of this head
  const Real* v;
  std::size_t k_stride;
  std::size_t v_stride;
  Real* queries;
  Real* scores;
  Real* contexts;

  /// scores[j][:] = sum_c k[j][c] queries[c][:] for Keys keys from `first`; raises `top`.
  template <std::size_t Keys>
  [[gnu::always_inline]] void score(std::size_t first, vec (&top)[Vectors]) const noexcept {
    vec sum[Keys][Vectors] = {};
    const Real* key = k + first * k_stride;
    for (std::size_t c = 0; c < head_dim; ++c) {
      vec q[Vectors];
#pragma GCC unroll 8
      for (std::size_t u = 0; u < Vectors; ++u) s::load(q[u], queries + c * width + u * s::lanes);
#pragma GCC unroll 8
      for (std::size_t j = 0; j < Keys; ++j) {
        const Real entry = key[j * k_stride + c];
#pragma GCC unroll 8
        for (std::size_t u = 0; u < Vectors; ++u) sum[j][u] += q[u] * entry;
      }
    }
#pragma GCC unroll 8
    for (std::size_t j = 0; j < Keys; ++j) {
#pragma GCC unroll 8
      for (std::size_t u = 0; u < Vectors; ++u) {
        top[u] = sum[j][u] > top[u] ? sum[j][u] : top[u];
        s::store(scores + (first + j) * width + u * s::lanes, sum[j][u]);
      }
    }
  }

  /// contexts[c][:] += sum over keys [first, last) of scores[j][:] v[j][c], for Dims columns.
  template <std::size_t Dims>
  [[gnu::always_inline]] void mix(std::size_t first, std::size_t last,
                                  std::size_t c) const noexcept {
    vec sum[Dims][Vectors] = {};
    for (std::size_t j = first; j < last; ++j) {
      const Real* value = v + j * v_stride + c;
      vec p[Vectors];
#pragma GCC unroll 8
      for (std::size_t u = 0; u < Vectors; ++u) s::load(p[u], scores + j * width + u * s::lanes);
#pragma GCC unroll 8
      for (std::size_t i = 0; i < Dims; ++i) {
        const Real entry = value[i];
#pragma GCC unroll 8
        for (std::size_t u = 0; u < Vectors; ++u) sum[i][u] += p[u] * entry;
      }
    }
#pragma GCC unroll 8
    for (std::size_t i = 0; i < Dims; ++i) {
#pragma GCC unroll 8
      for (std::size_t u = 0; u < Vectors; ++u) {
        Real* to = contexts + (c + i) * width + u * s::lanes;
        vec old;
        s::load(old, to);
        old += sum[i][u];
        s::store(to, old);
      }
    }
  }

  /// Rows [0, count) of q and out, count <= width.
  void run(const Real* q, std::size_t q_stride, Real* out, std::size_t out_stride,
           std::size_t count) const noexcept {
    for (std::size_t c = 0; c < head_dim; ++c) {
      Real* to = queries + c * width;
      for (std::size_t i = 0; i < count; ++i) to[i] = q[i * q_stride + c];
      std::fill(to + count, to + width, Real{0});
    }
    vec top[Vectors];
    vec total[Vectors] = {};
    for (std::size_t u = 0; u < Vectors; ++u) top[u] = total[u] - std::numeric_limits<Real>::max();
    std::size_t j = 0;
    for (; j + 6 <= keys; j += 6) score<6>(j, top);
    for (; j + 2 <= keys; j += 2) score<2>(j, top);
    if (j < keys) score<1>(j, top);

    std::fill_n(contexts, head_dim * width, Real{0});
    for (std::size_t first = 0; first < keys; first += key_chunk) {
      const std::size_t last = std::min(keys, first + key_chunk);
      vec sum[Vectors] = {};
      for (j = first; j < last; ++j) {
        for (std::size_t u = 0; u < Vectors; ++u) {
          vec p;
          s::load(p, scores + j * width + u * s::lanes);
          p -= top[u];
          exp_nonpositive<Real>(p);
          sum[u] += p;
          s::store(scores + j * width + u * s::lanes, p);
        }
      }
      for (std::size_t u = 0; u < Vectors; ++u) total[u] += sum[u];
      std::size_t c = 0;
      for (; c + 6 <= head_dim; c += 6) mix<6>(first, last, c);
      if (c + 4 <= head_dim) mix<4>(first, last, c), c += 4;
      if (c + 2 <= head_dim) mix<2>(first, last, c), c += 2;
      if (c < head_dim) mix<1>(first, last, c);
    }

    Real inverse[width];
    for (std::size_t u = 0; u < Vectors; ++u) {
      const vec zero{};
      const vec one = zero + Real{1};
      s::store(inverse + u * s::lanes, one / total[u]);
    }
    for (std::size_t i = 0; i < count; ++i) {
      Real* to = out + i * out_stride;
      for (std::size_t c = 0; c < head_dim; ++c) to[c] = contexts[c * width + i] * inverse[i];
    }
  }
};

/// All queries of one head of one sequence of n tokens, whose rows begin at `first`.
template <class X, class Out>
void attend(X q, X k, X v, std::size_t head_dim, std::size_t head, std::size_t first, std::size_t n,
            Out out) {
  using Real = typename Out::value_type;
  constexpr std::size_t lanes = simd<Real>::lanes;
  const std::size_t column = head * head_dim;
  auto& scratch = attention_scratch<Real>::of_thread(head_dim, n, query_vectors * lanes);
  const auto block = [&]<std::size_t Vectors>(std::size_t row, std::size_t count) {
    const attention_block<Real, Vectors> one{head_dim,
                                             n,
                                             k.row_data(first) + column,
                                             v.row_data(first) + column,
                                             k.stride(),
                                             v.stride(),
                                             scratch.queries.data(),
                                             scratch.scores.data(),
                                             scratch.contexts.data()};
    one.run(q.row_data(first + row) + column, q.stride(), out.row_data(first + row) + column,
            out.stride(), count);
  };
  std::size_t row = 0;
  for (; row + (query_vectors - 1) * lanes < n; row += query_vectors * lanes) {
    block.template operator()<query_vectors>(row, std::min(query_vectors * lanes, n - row));
  }
  for (; row + lanes < n; row += 2 * lanes) {
    block.template operator()<2>(row, std::min(2 * lanes, n - row));
  }
  if (row < n) block.template operator()<1>(row, n - row);
}

/// One tile per sequence and head.
template <class X, class Offsets, class Out>
void attention(thread_pool& pool, X q, X k, X v, std::size_t head_dim, Offsets offsets,
               std::size_t /*longest*/, Out out) {
  if (head_dim == 0 || offsets.size() < 2) return;
  const std::size_t heads = out.cols() / head_dim;
  pool.run((offsets.size() - 1) * heads, [&](std::size_t tile) {
    const std::size_t sequence = tile / heads;
    const auto first = static_cast<std::size_t>(offsets.data()[sequence]);
    const auto last = static_cast<std::size_t>(offsets.data()[sequence + 1]);
    attend(q, k, v, head_dim, tile % heads, first, last - first, out);
  });
}

}  // namespace cpu_kernels
}  // namespace plmscope

#if defined(__CUDACC__)
#pragma nv_diagnostic pop
#endif
