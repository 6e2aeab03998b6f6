// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/backend/cpu/rows.hpp>
#include <plmscope/backend/primitives.hpp>
#include <plmscope/core/thread_pool.hpp>
#include <plmscope/core/view.hpp>

#include <Eigen/Core>

#include <algorithm>
#include <cmath>
#include <cstddef>

namespace plmscope::inline PLMSCOPE_ABI {
namespace cpu_kernels {

/// Adam over up to 1024 entries at a time, which stay in the first cache. The moments are those of
/// the gradient times `factor`.
template <class Real>
class adam_entries {
 public:
  static constexpr std::size_t run = 1024;

  template <class Factor>
  adam_entries(const adam_step<Real>& s, Factor factor)
      : step_(s),
        factor_(factor.empty() ? Real{1} : static_cast<Real>(factor.data()[0])),
        rate_(s.rate / s.correction1),
        root2_(std::sqrt(s.correction2)) {}

  void operator()(Real* parameters, const Real* gradient, Real* m, Real* v, std::size_t n) const {
    using array = Eigen::Array<Real, Eigen::Dynamic, 1>;
    const auto size = static_cast<Eigen::Index>(n);
    Eigen::Map<array> p(parameters, size);
    Eigen::Map<const array> g(gradient, size);
    Eigen::Map<array> first(m, size);
    Eigen::Map<array> second(v, size);
    const Real a = Real{1} - step_.beta1;
    const Real b = Real{1} - step_.beta2;
    if (step_.decay != Real{0}) p *= Real{1} - step_.decay;
    first = step_.beta1 * first + (a * factor_) * g;
    second = step_.beta2 * second + (b * factor_ * factor_) * g.square();
    p -= rate_ * first / (second.sqrt() / root2_ + step_.epsilon);
  }

 private:
  adam_step<Real> step_;
  Real factor_;
  Real rate_;
  Real root2_;
};

template <class V, class C, class Factor, class Real>
void adam(thread_pool& pool, V parameters, C gradient, V m, V v, const adam_step<Real>& s,
          Factor factor) {
  const adam_entries<Real> move(s, factor);
  for_pieces(pool, parameters, [&](std::size_t r, std::size_t c, std::size_t n) {
    for (std::size_t i = c; i < c + n; i += move.run) {
      move(parameters.row_data(r) + i, gradient.row_data(r) + i, m.row_data(r) + i,
           v.row_data(r) + i, std::min(move.run, c + n - i));
    }
  });
}

/// With the bits of project_rows, adam and normalize_rows: a row stays in the second cache.
template <class V, class C, class Factor, class Real>
void adam_unit_rows(thread_pool& pool, V parameters, C gradient, V m, V v, const adam_step<Real>& s,
                    const unit_length_rule& rows, Factor factor) {
  const adam_entries<Real> move(s, factor);
  const std::size_t d = parameters.cols();
  for_rows(pool, parameters.rows(), d, [&](std::size_t first, std::size_t count) {
    for (std::size_t r = first; r < first + count; ++r) {
      Real* p = parameters.row_data(r);
      const Real* g = gradient.row_data(r);
      const projected_row<Real> row =
          rows.project ? projected_row<Real>(g, p, d, static_cast<Real>(rows.projection_epsilon))
                       : projected_row<Real>();
      Real left[adam_entries<Real>::run];
      for (std::size_t i = 0; i < d; i += move.run) {
        const std::size_t size = std::min(move.run, d - i);
        row.take(g + i, p + i, left, size);
        move(p + i, left, m.row_data(r) + i, v.row_data(r) + i, size);
      }
      rescale_row(p, d, static_cast<Real>(rows.length_epsilon));
    }
  });
}

template <class V, class C, class Real>
void sign_step(thread_pool& pool, V parameters, C gradient, Real rate) {
  for_pieces(pool, parameters, [&](std::size_t r, std::size_t c, std::size_t n) {
    Real* p = parameters.row_data(r) + c;
    const Real* g = gradient.row_data(r) + c;
    for (std::size_t j = 0; j < n; ++j) {
      p[j] -= g[j] > Real{0} ? rate : g[j] < Real{0} ? -rate : Real{0};
    }
  });
}

}  // namespace cpu_kernels
}  // namespace plmscope
