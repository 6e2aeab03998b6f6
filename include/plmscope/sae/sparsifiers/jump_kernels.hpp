// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/config.hpp>

#include <cmath>
#include <cstddef>
#include <cstdint>

namespace plmscope::inline PLMSCOPE_ABI {

/// Kernels of the thresholds' pseudo-gradients, all zero outside (-1/2, 1/2) and of integral 1.
enum class jump_kernel {
  rectangle,     ///< 1 (Rajamanoharan et al. 2024)
  triangle,      ///< 2 - 4 |u|
  epanechnikov   ///< 3/2 (1 - 4 u^2)
};

/// K(u).
template <class Real>
PLMSCOPE_HD inline Real kernel_at(jump_kernel k, Real u) noexcept {
  const Real size = u < Real{0} ? -u : u;
  if (!(size < Real{0.5})) return 0;
  if (k == jump_kernel::triangle) return 2 - 4 * size;
  if (k == jump_kernel::epanechnikov) return Real{1.5} * (1 - 4 * u * u);
  return 1;
}

namespace jump_detail {

template <class Real>
struct not_below_zero {
  Real* x;
  PLMSCOPE_HD void operator()(std::size_t, std::size_t f) const {
    if (x[f] < Real{0}) x[f] = 0;
  }
};

template <class Real>
struct exponential {
  Real* x;
  PLMSCOPE_HD void operator()(std::size_t, std::size_t f) const {
    using std::exp;
    x[f] = exp(x[f]);
  }
};

/// Above this an entry is listed: where the window begins, or the threshold where that is lower.
template <class Real>
struct lower_edge {
  const Real* theta;
  Real* out;
  Real bandwidth;
  bool not_below_zero;
  PLMSCOPE_HD void operator()(std::size_t, std::size_t f) const {
    const Real edge = theta[f] - bandwidth / 2;
    out[f] = not_below_zero && edge < Real{0} ? Real{0} : edge;
  }
};

template <class Real>
struct jump {
  Real* values;
  const Real* theta;
  PLMSCOPE_HD void operator()(std::size_t, std::size_t e, std::uint32_t f) const {
    if (!(values[e] > theta[f])) values[e] = 0;
  }
};

/// The derivative with respect to one active entry: the batch's, and the latent's where there is one.
template <class Real>
struct slope_of_l0 {
  const double* batch;
  const Real* latent;  ///< [1, F], or null
  PLMSCOPE_HD Real operator()(std::size_t f) const {
    const Real slope = static_cast<Real>(*batch);
    return latent == nullptr ? slope : slope + latent[f];
  }
};

/// dz -> da, and what the entry adds to dL/dtheta.
template <class Real>
struct pull_back {
  const Real* raw;
  const Real* theta;
  Real* dz;
  Real* to_theta;
  slope_of_l0<Real> l0_slope;
  Real bandwidth;
  jump_kernel kernel;
  bool reaches_input;
  bool l0_of_values;

  PLMSCOPE_HD void operator()(std::size_t, std::size_t e, std::uint32_t f) const {
    const bool active = raw[e] > theta[f];
    const Real k = kernel_at(kernel, (raw[e] - theta[f]) / bandwidth);
    const Real through = theta[f] / bandwidth * k * dz[e];
    // L0 at values counts entries below the threshold among the zeros, see `unlisted`.
    const Real counted = l0_of_values && !active ? Real{0} : k / bandwidth;
    to_theta[e] = -through - counted * l0_slope(f);
    dz[e] = (active ? dz[e] : Real{0}) + (reaches_input ? through : Real{0});
  }
};

/// out[f]: in, the sum of dL/dz over the entries of feature f that are not in the list (used when
/// `relu_first`); out, what those entries add to dL/dtheta.
template <class Real>
struct unlisted {
  Real* out;
  const Real* theta;
  const Real* active;  ///< entries above the threshold
  slope_of_l0<Real> l0_slope;
  Real bandwidth;
  jump_kernel kernel;
  Real rows;
  bool relu_first;
  bool l0_of_values;

  PLMSCOPE_HD void operator()(std::size_t, std::size_t f) const {
    const Real k = kernel_at(kernel, -theta[f] / bandwidth);  // at a value of 0
    const Real loss = relu_first ? -theta[f] / bandwidth * k * out[f] : Real{0};
    const Real zeros = l0_of_values ? k / bandwidth * (rows - active[f]) : Real{0};
    out[f] = loss - zeros * l0_slope(f);
  }
};

}  // namespace jump_detail
}  // namespace plmscope::inline PLMSCOPE_ABI
