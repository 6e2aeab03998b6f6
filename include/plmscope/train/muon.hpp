// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/core/view.hpp>
#include <plmscope/sae/parameters.hpp>
#include <plmscope/tensor/matrix.hpp>
#include <plmscope/train/optimizer.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <utility>

namespace plmscope::inline PLMSCOPE_ABI {

namespace muon_detail {

// m = momentum m + (1 - momentum) g, and what is orthogonalised: m itself, or a look ahead.
template <class Real>
struct accumulate {
  const Real* gradient;
  Real* m;
  Real* ahead;
  const double* factor;
  std::size_t columns;
  Real momentum;
  bool nesterov;
  PLMSCOPE_HD void operator()(std::size_t row, std::size_t column) const {
    const std::size_t i = row * columns + column;
    const Real g = static_cast<Real>(*factor) * gradient[i];
    const Real now = momentum * m[i] + (1 - momentum) * g;
    m[i] = now;
    ahead[i] = nesterov ? momentum * now + (1 - momentum) * g : now;
  }
};

template <class Real>
struct divide_by_norm {
  Real* x;
  const double* sum_squares;
  double least;
  std::size_t columns;
  PLMSCOPE_HD void operator()(std::size_t row, std::size_t column) const {
    using std::sqrt;
    const double norm = sqrt(*sum_squares);
    x[row * columns + column] /= static_cast<Real>(norm > least ? norm : least);
  }
};

// out = a I + b s + c s^2
template <class Real>
struct polynomial {
  const Real* s;
  const Real* s_squared;
  Real* out;
  std::size_t columns;
  Real a, b, c;
  PLMSCOPE_HD void operator()(std::size_t row, std::size_t column) const {
    const std::size_t i = row * columns + column;
    out[i] = (row == column ? a : Real{0}) + b * s[i] + c * s_squared[i];
  }
};

}  // namespace muon_detail

/// Muon (Jordan et al. 2024): momentum, made nearly orthogonal, for matrices; Adam for vectors.
///
///   m = momentum m + (1 - momentum) g,   u = nesterov ? momentum m + (1 - momentum) g : m
///   x_0 = u / max(|u|_F, epsilon),   x_(i+1) = a x_i + b x_i s + c x_i s^2,   s = x_i^T x_i
///   w = w - rate weight_decay w - rate scale x_n
///
/// Newton and Schulz's iteration moves every singular value of u to about 1 (0.68 to 1.14 with
/// these coefficients and 5 iterations), so that a step writes as much along directions that few
/// rows of the batch have as along common ones. Matrices are the encoder, the decoder and the skip
/// map; all else moves by `vectors`, at its own base rate under the same schedule.
///
/// The numbers are in the backend's precision; torch.optim.Muon iterates in bfloat16. Cost: about
/// 2 iterations F d min(F, d) multiplications per matrix and step, whatever the batch: for d = 1280
/// and 4096 rows six times the encoder's product in all. Kept per matrix: one moment, half of
/// Adam's; for the work two copies of the largest.
struct muon {
  /// What makes up for the shape of a matrix.
  enum class scaling {
    adam_rms,  ///< 0.2 sqrt(max(rows, columns)): steps as long as Adam's (Liu et al. 2025)
    outputs,   ///< sqrt(max(1, outputs / inputs)) of the map (Jordan et al. 2024)
    none
  };
  double lr = 2e-3;
  double momentum = 0.95;
  bool nesterov = true;
  double weight_decay = 0.1;
  scaling scale = scaling::adam_rms;
  std::size_t iterations = 5;
  std::array<double, 3> coefficients = {3.4445, -4.7750, 2.0315};  ///< a, b, c
  double epsilon = 1e-7;
  adam vectors = {};

  /// Moments as Adam's; `v` of the vectors alone, its matrices are empty.
  template <class B>
  struct state : adam::state<B> {
    using real = typename B::real;
    matrix<real, B> x, next, s, s_squared, factor;
    matrix<double, B> slot;
  };

  template <class B>
  state<B> start(B& be, const sae_parameters<B>& p) const {
    state<B> s;
    s.m = p.zeros_like(be);
    s.v = p.vectors_like(be);
    s.slot = matrix<double, B>(be, 1, 1);
    return s;
  }

  /// One update at learning rate `rate`; gradients are multiplied by factor[0] (clipping).
  template <class B>
  void step(B& be, sae_parameters<B>& p, const sae_parameters<B>& g, state<B>& s, double rate,
            const_view<B, double> factor) const {
    using real = typename B::real;
    ++s.t;
    const auto numbers = vectors.template numbers<real>(s.t, lr == 0 ? 0 : vectors.lr * rate / lr);
    for_each_together(
        [&](auto& w, const auto& gradient, auto& m, auto& v) {
          if (!v.empty()) {
            be.adam(w, gradient, m, v, numbers, factor);
            return;
          }
          s.x.reshape(be, w.rows(), w.cols());
          be.entries(
              w.rows(), w.cols(),
              muon_detail::accumulate<real>{gradient.data(), m.data(), s.x.data(), factor.data(),
                                            w.cols(), static_cast<real>(momentum), nesterov});
          orthogonalize(be, s);
          const double length = rate * shape_factor(w.rows(), w.cols(), &w == &p.decoder);
          be.scale(w, static_cast<real>(1 - rate * weight_decay));
          be.axpy(static_cast<real>(-length), s.x, w);
        },
        p, g, s.m, s.v);
  }

 private:
  // The products are on the shorter side.
  template <class B>
  void orthogonalize(B& be, state<B>& t) const {
    using real = typename B::real;
    const std::size_t rows = t.x.rows(), columns = t.x.cols(), n = std::min(rows, columns);
    be.fill(t.slot.all(), 0.0);
    be.add_sum_squares(const_view<B>(t.x), t.slot.all());
    be.entries(rows, columns,
               muon_detail::divide_by_norm<real>{t.x.data(), t.slot.data(), epsilon, columns});
    t.next.reshape(be, rows, columns);
    for (auto* square : {&t.s, &t.s_squared, &t.factor}) square->reshape(be, n, n);
    for (std::size_t i = 0; i < iterations; ++i) {
      if (rows > columns) {
        be.gemm_tn(t.x, t.x, t.s);
      } else {
        be.gemm_nt(t.x, t.x, t.s);
      }
      be.gemm_nn(t.s, t.s, t.s_squared);
      be.entries(n, n,
                 muon_detail::polynomial<real>{t.s.data(), t.s_squared.data(), t.factor.data(), n,
                                               static_cast<real>(coefficients[0]),
                                               static_cast<real>(coefficients[1]),
                                               static_cast<real>(coefficients[2])});
      if (rows > columns) {
        be.gemm_nn(t.x, t.factor, t.next);
      } else {
        be.gemm_nn(t.factor, t.x, t.next);
      }
      std::swap(t.x, t.next);
    }
  }

  // Rows of the encoder and of the skip map are outputs, rows of the decoder inputs.
  double shape_factor(std::size_t rows, std::size_t columns, bool decodes) const {
    const auto r = static_cast<double>(rows), c = static_cast<double>(columns);
    if (scale == scaling::adam_rms) return 0.2 * std::sqrt(std::max(r, c));
    if (scale == scaling::outputs) return std::sqrt(std::max(1.0, decodes ? c / r : r / c));
    return 1;
  }
};

}  // namespace plmscope::inline PLMSCOPE_ABI
