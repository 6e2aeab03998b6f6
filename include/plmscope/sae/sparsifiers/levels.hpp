// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/config.hpp>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>

namespace plmscope::inline PLMSCOPE_ABI {

namespace levels_detail {

/// q levels in any order.
template <class Real>
struct table {
  const Real* at;
  std::size_t count;

  PLMSCOPE_HD std::size_t nearest(Real a) const {
    std::size_t best = 0;
    for (std::size_t j = 1; j < count; ++j) {
      if (distance(a, j) < distance(a, best)) best = j;
    }
    return best;
  }
  PLMSCOPE_HD Real distance(Real a, std::size_t j) const { return (a - at[j]) * (a - at[j]); }

  /// sum_j p_j Q_j, and the largest of -(a - Q_j)^2 and the sum that p was divided by.
  struct mixture {
    Real value, top, total;
  };
  PLMSCOPE_HD mixture mix(Real a) const {
    using std::exp;
    mixture m{0, -distance(a, nearest(a)), 0};
    for (std::size_t j = 0; j < count; ++j) {
      const Real w = exp(-distance(a, j) - m.top);
      m.total += w;
      m.value += w * at[j];
    }
    m.value /= m.total;
    return m;
  }
  PLMSCOPE_HD Real share(const mixture& m, Real a, std::size_t j) const {
    using std::exp;
    return exp(-distance(a, j) - m.top) / m.total;
  }
};

/// out[0]: pre-activations above it have a nearest level above 0. With `soft` nothing is certain.
template <class Real>
struct silence {
  table<Real> levels;
  Real* out;
  bool soft;
  PLMSCOPE_HD void operator()(std::size_t, std::size_t) const {
    const Real none = std::numeric_limits<Real>::infinity();
    Real below = -none, above = none;  // the largest level that is silent, the smallest that is not
    for (std::size_t j = 0; j < levels.count; ++j) {
      const Real level = levels.at[j];
      if (level > Real{0}) {
        above = level < above ? level : above;
      } else {
        below = level > below ? level : below;
      }
    }
    if (soft || below == -none) {
      *out = -none;
    } else {
      *out = above == none ? none : below + (above - below) / 2;
    }
  }
};

/// a -> max(0, Q(a))
template <class Real>
struct quantise {
  table<Real> levels;
  Real* values;
  bool soft;
  PLMSCOPE_HD void operator()(std::size_t, std::size_t e, std::uint32_t) const {
    const Real a = values[e];
    const Real q = soft ? levels.mix(a).value : levels.at[levels.nearest(a)];
    values[e] = q > Real{0} ? q : Real{0};
  }
};

/// dz -> da: dz where z > 0 and a > 0, and with `soft` through the shares,
/// dQ/da = sum_j p_j (Q_j - Q) (-2 (a - Q_j)).
template <class Real>
struct straight_through {
  table<Real> levels;
  const Real* raw;
  const Real* values;
  Real* dz;
  Real* pull;
  bool soft;
  PLMSCOPE_HD void operator()(std::size_t, std::size_t e, std::uint32_t) const {
    const Real a = raw[e];
    pull[e] = values[e] > Real{0} ? dz[e] : Real{0};
    Real slope = a > Real{0} ? Real{1} : Real{0};
    if (soft) {
      const auto m = levels.mix(a);
      for (std::size_t j = 0; j < levels.count; ++j) {
        slope -= 2 * levels.share(m, a, j) * (levels.at[j] - m.value) * (a - levels.at[j]);
      }
    }
    dz[e] = pull[e] * slope;
  }
};

/// part[e] = pull[e] dQ/dQ_j: 1 for the nearest level, or with `soft`
/// p_j (1 + 2 (Q_j - Q) (a - Q_j)).
template <class Real>
struct to_level {
  table<Real> levels;
  const Real* raw;
  const Real* pull;
  Real* part;
  std::size_t j;
  bool soft;
  PLMSCOPE_HD void operator()(std::size_t, std::size_t e, std::uint32_t) const {
    const Real a = raw[e];
    Real slope = 0;
    if (soft) {
      const auto m = levels.mix(a);
      slope = levels.share(m, a, j) * (1 + 2 * (levels.at[j] - m.value) * (a - levels.at[j]));
    } else {
      slope = levels.nearest(a) == j ? Real{1} : Real{0};
    }
    part[e] = pull[e] * slope;
  }
};

}  // namespace levels_detail

}  // namespace plmscope::inline PLMSCOPE_ABI
