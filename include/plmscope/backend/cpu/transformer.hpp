// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/backend/cpu/elementary.hpp>
#include <plmscope/backend/cpu/rows.hpp>
#include <plmscope/backend/cpu/simd.hpp>
#include <plmscope/core/thread_pool.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>

#if defined(__CUDACC__)  // its front end does not know `#pragma GCC unroll`
#pragma nv_diagnostic push
#pragma nv_diag_suppress 1675
#endif

namespace plmscope::inline PLMSCOPE_ABI {
namespace cpu_kernels {

template <class Table, class Tokens, class Out>
void embed(thread_pool& pool, Table table, Tokens tokens, Table row_scale, Out out) {
  for_rows(pool, out.rows(), out.cols(), [&](std::size_t first, std::size_t count) {
    for (std::size_t r = first; r < first + count; ++r) {
      const auto* from = table.row_data(static_cast<std::size_t>(tokens.data()[r]));
      const auto scale = row_scale.data()[r];
      auto* to = out.row_data(r);
      for (std::size_t j = 0; j < out.cols(); ++j) to[j] = scale * from[j];
    }
  });
}

/// Sum of term(x[i], i): four running vectors, then the tail, all in a fixed order.
template <class Real, class Vector, class Scalar>
[[gnu::always_inline]] inline Real sum_row(const Real* x, std::size_t n, const Vector& vector_term,
                                           const Scalar& scalar_term) noexcept {
  using s = simd<Real>;
  typename s::vec sum[4] = {};
  std::size_t i = 0;
  for (; i + 4 * s::lanes <= n; i += 4 * s::lanes) {
#pragma GCC unroll 4
    for (std::size_t u = 0; u < 4; ++u) {
      typename s::vec v;
      s::load(v, x + i + u * s::lanes);
      vector_term(v);
      sum[u] += v;
    }
  }
  for (; i + s::lanes <= n; i += s::lanes) {
    typename s::vec v;
    s::load(v, x + i);
    vector_term(v);
    sum[0] += v;
  }
  sum[0] = (sum[0] + sum[1]) + (sum[2] + sum[3]);
  Real rest = 0;
  for (; i < n; ++i) rest += scalar_term(x[i]);
  return s::total(sum[0]) + rest;
}

/// Variance from centred values (a second pass), so a large mean costs no accuracy.
template <class X, class Real, class Out>
void layer_norm(thread_pool& pool, X x, X gain, X bias, Real epsilon, Out out) {
  using vec = typename simd<Real>::vec;
  const std::size_t d = x.cols();
  for_rows(pool, x.rows(), d, [&](std::size_t first, std::size_t count) {
    const auto n = static_cast<Real>(d);
    const Real* g = gain.data();
    const Real* b = bias.empty() ? nullptr : bias.data();
    for (std::size_t r = first; r < first + count; ++r) {
      const Real* from = x.row_data(r);
      Real* to = out.row_data(r);
      const Real mean = sum_row(from, d, [](vec&) {}, [](Real v) { return v; }) / n;
      const Real squares = sum_row(
          from, d,
          [&](vec& v) {
            v -= mean;
            v *= v;
          },
          [&](Real v) { return (v - mean) * (v - mean); });
      const Real factor = Real{1} / std::sqrt(squares / n + epsilon);
      if (b != nullptr) {
        for (std::size_t j = 0; j < d; ++j) to[j] = (from[j] - mean) * factor * g[j] + b[j];
      } else {
        for (std::size_t j = 0; j < d; ++j) to[j] = (from[j] - mean) * factor * g[j];
      }
    }
  });
}

/// GELU in place on n contiguous entries; an entry's result does not depend on its place.
template <class Real>
void gelu_row(Real* x, std::size_t n) noexcept {
  using s = simd<Real>;
  typename s::vec v;
  std::size_t i = 0;
  for (; i + s::lanes <= n; i += s::lanes) {
    s::load(v, x + i);
    gelu_vector<Real>(v);
    s::store(x + i, v);
  }
  if (i == n) return;
  Real tail[s::lanes] = {};
  std::copy(x + i, x + n, tail);
  s::load(v, tail);
  gelu_vector<Real>(v);
  s::store(tail, v);
  std::copy(tail, tail + (n - i), x + i);
}

template <class V>
void gelu(thread_pool& pool, V x) {
  for_pieces(pool, x, [&](std::size_t r, std::size_t c, std::size_t n) {
    gelu_row(x.row_data(r) + c, n);
  });
}

/// out = silu(gate) * up on n contiguous entries; an entry's result does not depend on its place.
template <class Real>
void silu_gate_row(const Real* gate, const Real* up, Real* out, std::size_t n) noexcept {
  using s = simd<Real>;
  typename s::vec a, b;
  std::size_t i = 0;
  for (; i + s::lanes <= n; i += s::lanes) {
    s::load(a, gate + i);
    s::load(b, up + i);
    silu_vector<Real>(a);
    a *= b;
    s::store(out + i, a);
  }
  if (i == n) return;
  Real tail[2][s::lanes] = {};
  std::copy(gate + i, gate + n, tail[0]);
  std::copy(up + i, up + n, tail[1]);
  s::load(a, tail[0]);
  s::load(b, tail[1]);
  silu_vector<Real>(a);
  a *= b;
  s::store(tail[0], a);
  std::copy(tail[0], tail[0] + (n - i), out + i);
}

template <class C, class V>
void silu_gate(thread_pool& pool, C gate, C up, V out) {
  for_pieces(pool, out, [&](std::size_t r, std::size_t c, std::size_t n) {
    silu_gate_row(gate.row_data(r) + c, up.row_data(r) + c, out.row_data(r) + c, n);
  });
}

/// One row of one of the two operands: scaled, then rotated in pairs (j, j + half) of every head.
template <class Real>
inline void rotate_row(Real* x, std::size_t width, std::size_t half, const Real* cosines,
                       const Real* sines, Real scale) noexcept {
  for (std::size_t h = 0; h < width; h += 2 * half) {
    Real* a = x + h;
    Real* b = a + half;
    for (std::size_t j = 0; j < half; ++j) {
      const Real u = a[j] * scale;
      const Real w = b[j] * scale;
      a[j] = u * cosines[j] - w * sines[j];
      b[j] = w * cosines[j] + u * sines[j];
    }
  }
}

template <class V, class Positions, class Table, class Real>
void rotary(thread_pool& pool, V q, V k, std::size_t head_dim, Positions positions, Table cosines,
            Table sines, Real q_scale) {
  for_rows(pool, q.rows(), q.cols(), [&](std::size_t first, std::size_t count) {
    for (std::size_t r = first; r < first + count; ++r) {
      const auto at = static_cast<std::size_t>(positions.data()[r]);
      const Real* c = cosines.row_data(at);
      const Real* s = sines.row_data(at);
      rotate_row(q.row_data(r), q.cols(), head_dim / 2, c, s, q_scale);
      rotate_row(k.row_data(r), k.cols(), head_dim / 2, c, s, Real{1});
    }
  });
}

}  // namespace cpu_kernels
}  // namespace plmscope

#if defined(__CUDACC__)
#pragma nv_diagnostic pop
#endif
