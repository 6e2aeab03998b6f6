// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/backend/cpu/elementary.hpp>
#include <plmscope/backend/cpu/rows.hpp>
#include <plmscope/backend/cpu/simd.hpp>
#include <plmscope/backend/cpu/transformer.hpp>
#include <plmscope/core/thread_pool.hpp>

#include <cmath>
#include <cstddef>
#include <limits>

namespace plmscope::inline PLMSCOPE_ABI {
namespace cpu_kernels {

/// Every row on its own: maximum, exponentials in whole vectors, sum in a fixed order.
template <class V>
void softmax_rows(thread_pool& pool, V x) {
  using Real = typename V::value_type;
  using s = simd<Real>;
  using vec = typename s::vec;
  for_rows(pool, x.rows(), x.cols(), [&](std::size_t first, std::size_t count) {
    const std::size_t n = x.cols();
    for (std::size_t r = first; r < first + count; ++r) {
      Real* row = x.row_data(r);
      Real top = -std::numeric_limits<Real>::infinity();
      for (std::size_t j = 0; j < n; ++j) top = row[j] > top ? row[j] : top;
      vec v;
      std::size_t j = 0;
      for (; j + s::lanes <= n; j += s::lanes) {
        s::load(v, row + j);
        v -= top;
        exp_nonpositive<Real>(v);
        s::store(row + j, v);
      }
      if (j < n) {
        Real tail[s::lanes];
        for (std::size_t i = 0; i < s::lanes; ++i) tail[i] = i < n - j ? row[j + i] - top : Real{0};
        s::load(v, tail);
        exp_nonpositive<Real>(v);
        s::store(tail, v);
        for (std::size_t i = 0; i < n - j; ++i) row[j + i] = tail[i];
      }
      const Real total = sum_row(row, n, [](vec&) {}, [](Real a) { return a; });
      const Real inverse = Real{1} / total;
      for (j = 0; j < n; ++j) row[j] *= inverse;
    }
  });
}

/// g = p o (g - <p, g>) row by row: the Jacobian of softmax is diag(p) - p p^T.
template <class C, class V>
void softmax_backward(thread_pool& pool, C p, V g) {
  using Real = typename V::value_type;
  for_rows(pool, g.rows(), g.cols(), [&](std::size_t first, std::size_t count) {
    for (std::size_t r = first; r < first + count; ++r) {
      const Real* a = p.row_data(r);
      Real* b = g.row_data(r);
      const Real along = dot(a, static_cast<const Real*>(b), g.cols());
      for (std::size_t j = 0; j < g.cols(); ++j) b[j] = a[j] * (b[j] - along);
    }
  });
}

/// With u = (x - mean) / s, s = sqrt(variance + eps), and h = gain o g:
/// out = (h - mean(h) - u mean(h o u)) / s. `out` may be g.
template <class C, class Real, class V>
void layer_norm_backward(thread_pool& pool, C x, C gain, C g, Real epsilon, V out) {
  const std::size_t d = x.cols();
  for_rows(pool, x.rows(), d, [&](std::size_t first, std::size_t count) {
    const auto n = static_cast<double>(d);
    const Real* w = gain.data();
    for (std::size_t r = first; r < first + count; ++r) {
      const Real* from = x.row_data(r);
      const Real* above = g.row_data(r);
      double mean = 0;
      for (std::size_t j = 0; j < d; ++j) mean += static_cast<double>(from[j]);
      mean /= n;
      double squares = 0;
      double h_sum = 0;
      double h_along = 0;
      for (std::size_t j = 0; j < d; ++j) {
        const double u = static_cast<double>(from[j]) - mean;
        const double h = static_cast<double>(w[j]) * static_cast<double>(above[j]);
        squares += u * u;
        h_sum += h;
        h_along += h * u;
      }
      const double variance = squares / n + static_cast<double>(epsilon);
      const double factor = 1 / std::sqrt(variance);
      Real* to = out.row_data(r);
      for (std::size_t j = 0; j < d; ++j) {
        const double u = static_cast<double>(from[j]) - mean;
        const double h = static_cast<double>(w[j]) * static_cast<double>(above[j]);
        to[j] = static_cast<Real>((h - h_sum / n - u * (h_along / n) / variance) * factor);
      }
    }
  });
}

/// g *= d gelu(x) / dx = Phi(x) + x phi(x), with the distribution function and density of the
/// standard normal distribution.
template <class C, class V>
void gelu_backward(thread_pool& pool, C x, V g) {
  using Real = typename V::value_type;
  for_pieces(pool, g, [&](std::size_t r, std::size_t c, std::size_t n) {
    const Real* a = x.row_data(r) + c;
    Real* b = g.row_data(r) + c;
    for (std::size_t j = 0; j < n; ++j) {
      const auto v = static_cast<double>(a[j]);
      const double below = 0.5 * std::erfc(-v * 0.70710678118654752440);
      const double density = 0.39894228040143267794 * std::exp(-0.5 * v * v);
      b[j] = static_cast<Real>(static_cast<double>(b[j]) * (below + v * density));
    }
  });
}

}  // namespace cpu_kernels
}  // namespace plmscope::inline PLMSCOPE_ABI
