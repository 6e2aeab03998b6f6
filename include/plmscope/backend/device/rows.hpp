// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/backend/device/group.hpp>

#include <cmath>
#include <cstddef>

namespace plmscope::inline PLMSCOPE_ABI {
namespace device_kernels {

// One block per row; g.index() is the row.

/// sum over j of a[row, j] b[row, j], to every thread.
template <class Group, class C>
PLMSCOPE_HD auto row_dot(Group& g, C a, C b, std::size_t row) {
  typename C::value_type sum = 0;
  const auto* x = a.row_data(row);
  const auto* y = b.row_data(row);
  for (std::size_t j = g.rank(); j < a.cols(); j += g.size()) sum += x[j] * y[j];
  return g.sum(sum);
}

template <class C, class V>
struct row_dots {
  C a, b;
  V out;
  bool root;  ///< the square root of the sum

  template <class Group>
  PLMSCOPE_HD void operator()(Group& g) const {
    const auto sum = row_dot(g, a, b, g.index());
    if (g.rank() == 0) out.data()[g.index()] = root ? std::sqrt(sum) : sum;
  }
};

template <class V, class Real>
struct normalize_rows {
  V x;
  Real epsilon;

  template <class Group>
  PLMSCOPE_HD void operator()(Group& g) const {
    Real* row = x.row_data(g.index());
    const Real norm = std::sqrt(row_dot(g, x, x, g.index())) + epsilon;
    if (!(norm > Real{0})) return;
    for (std::size_t j = g.rank(); j < x.cols(); j += g.size()) row[j] /= norm;
  }
};

/// The part of a row along another.
template <class Real>
struct row_projection {
  Real norm = 0;
  Real along = 0;

  /// What is left of the entry g of one row, with the entry w of the other.
  PLMSCOPE_HD Real left(Real g, Real w) const {
    return norm > Real{0} ? g - along * (w / norm) : g;
  }
};

template <class Group, class C, class Real>
PLMSCOPE_HD row_projection<Real> project_row(Group& g, C gradient, C direction, std::size_t row,
                                             Real epsilon) {
  row_projection<Real> to{std::sqrt(row_dot(g, direction, direction, row)) + epsilon, Real{0}};
  const Real sum = row_dot(g, gradient, direction, row);
  if (to.norm > Real{0}) to.along = sum / to.norm;
  return to;
}

template <class V, class C, class Real>
struct project_rows {
  V gradient;
  C direction;
  Real epsilon;

  template <class Group>
  PLMSCOPE_HD void operator()(Group& g) const {
    Real* out = gradient.row_data(g.index());
    const Real* w = direction.row_data(g.index());
    const auto along = project_row(g, C(gradient), direction, g.index(), epsilon);
    for (std::size_t j = g.rank(); j < gradient.cols(); j += g.size()) {
      out[j] = along.left(out[j], w[j]);
    }
  }
};

/// In double, and the variance from centred values, so that a large mean costs no accuracy.
template <class Group, class C>
PLMSCOPE_HD void mean_and_squares(Group& g, C x, std::size_t row, double& mean, double& squares) {
  const auto* from = x.row_data(row);
  double sum = 0;
  for (std::size_t j = g.rank(); j < x.cols(); j += g.size()) sum += static_cast<double>(from[j]);
  sum = g.sum(sum);
  mean = x.cols() == 0 ? 0.0 : sum / static_cast<double>(x.cols());
  squares = 0;
  for (std::size_t j = g.rank(); j < x.cols(); j += g.size()) {
    const double c = static_cast<double>(from[j]) - mean;
    squares += c * c;
  }
  squares = g.sum(squares);
}

template <class C, class V>
struct row_moments {
  C x;
  V mean, deviation;
  std::size_t ddof;
  double epsilon;

  template <class Group>
  PLMSCOPE_HD void operator()(Group& g) const {
    using Real = typename V::value_type;
    double m;
    double squares;
    mean_and_squares(g, x, g.index(), m, squares);
    if (g.rank() != 0) return;
    const auto freedom = static_cast<double>(x.cols() > ddof ? x.cols() - ddof : 1);
    mean.data()[g.index()] = static_cast<Real>(m);
    deviation.data()[g.index()] = static_cast<Real>(std::sqrt(squares / freedom + epsilon));
  }
};

/// `out` may be x: a thread writes what only it reads, after the sums.
template <class C, class V>
struct layer_norm {
  C x, gain, bias;
  V out;
  double epsilon;

  template <class Group>
  PLMSCOPE_HD void operator()(Group& g) const {
    using Real = typename V::value_type;
    double mean;
    double squares;
    mean_and_squares(g, x, g.index(), mean, squares);
    const double factor = 1.0 / std::sqrt(squares / static_cast<double>(x.cols()) + epsilon);
    const Real* from = x.row_data(g.index());
    Real* to = out.row_data(g.index());
    for (std::size_t j = g.rank(); j < x.cols(); j += g.size()) {
      const auto normal = static_cast<Real>((static_cast<double>(from[j]) - mean) * factor);
      to[j] = normal * gain.data()[j] + (bias.empty() ? Real{0} : bias.data()[j]);
    }
  }
};

}  // namespace device_kernels
}  // namespace plmscope::inline PLMSCOPE_ABI
