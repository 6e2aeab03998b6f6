// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/backend/device/group.hpp>
#include <plmscope/backend/device/rows.hpp>

#include <cmath>
#include <cstddef>

namespace plmscope::inline PLMSCOPE_ABI {
namespace device_kernels {

// Softmax and the gradients of a transformer's functions of a row. One block per row.

/// The maximum over the block of what every thread found, to every thread; NaN wins.
template <class Group, class Real>
PLMSCOPE_HD Real block_max(Group& g, Real mine) {
  Real* const all = g.template shared<Real>(g.size());
  all[g.rank()] = mine;
  g.sync();
  Real top = all[0];
  for (unsigned t = 1; t < g.size(); ++t) top = all[t] > top || all[t] != all[t] ? all[t] : top;
  return top;
}

template <class V>
struct softmax_rows {
  V x;

  static constexpr std::size_t shared_bytes() noexcept { return 1024 * sizeof(double); }

  template <class Group>
  PLMSCOPE_HD void operator()(Group& g) const {
    using Real = typename V::value_type;
    Real* const row = x.row_data(g.index());
    Real top = row[0];
    for (std::size_t j = g.rank(); j < x.cols(); j += g.size()) {
      top = row[j] > top || row[j] != row[j] ? row[j] : top;
    }
    top = block_max(g, top);
    double total = 0;
    for (std::size_t j = g.rank(); j < x.cols(); j += g.size()) {
      row[j] = std::exp(row[j] - top);
      total += static_cast<double>(row[j]);
    }
    total = g.sum(total);
    for (std::size_t j = g.rank(); j < x.cols(); j += g.size()) {
      row[j] = static_cast<Real>(static_cast<double>(row[j]) / total);
    }
  }
};

template <class C, class V>
struct softmax_backward {
  C p;
  V gradient;

  template <class Group>
  PLMSCOPE_HD void operator()(Group& g) const {
    const auto* const a = p.row_data(g.index());
    auto* const b = gradient.row_data(g.index());
    const auto along = row_dot(g, p, C(gradient), g.index());
    for (std::size_t j = g.rank(); j < p.cols(); j += g.size()) b[j] = a[j] * (b[j] - along);
  }
};

/// See the page of primitives; `out` may be the gradient: a thread writes what only it reads.
template <class C, class V>
struct layer_norm_backward {
  C x, gain, gradient;
  V out;
  double epsilon;

  template <class Group>
  PLMSCOPE_HD void operator()(Group& g) const {
    using Real = typename V::value_type;
    double mean;
    double squares;
    mean_and_squares(g, x, g.index(), mean, squares);
    const auto* const from = x.row_data(g.index());
    const auto* const above = gradient.row_data(g.index());
    double h_sum = 0;
    double h_along = 0;
    for (std::size_t j = g.rank(); j < x.cols(); j += g.size()) {
      const double h = static_cast<double>(gain.data()[j]) * static_cast<double>(above[j]);
      h_sum += h;
      h_along += h * (static_cast<double>(from[j]) - mean);
    }
    h_sum = g.sum(h_sum);
    h_along = g.sum(h_along);
    const auto n = static_cast<double>(x.cols());
    const double variance = squares / n + epsilon;
    const double factor = 1.0 / std::sqrt(variance);
    Real* const to = out.row_data(g.index());
    for (std::size_t j = g.rank(); j < x.cols(); j += g.size()) {
      const double u = static_cast<double>(from[j]) - mean;
      const double h = static_cast<double>(gain.data()[j]) * static_cast<double>(above[j]);
      to[j] = static_cast<Real>((h - h_sum / n - u * (h_along / n) / variance) * factor);
    }
  }
};

/// d gelu(x) / dx = Phi(x) + x phi(x).
PLMSCOPE_HD inline double gelu_slope(double x) noexcept {
  return 0.5 * std::erfc(-x * 0.70710678118654752440) +
         x * 0.39894228040143267794 * std::exp(-0.5 * x * x);
}

}  // namespace device_kernels
}  // namespace plmscope::inline PLMSCOPE_ABI
