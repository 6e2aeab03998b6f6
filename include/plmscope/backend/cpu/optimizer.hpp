// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/backend/cpu/rows.hpp>
#include <plmscope/backend/primitives.hpp>
#include <plmscope/core/thread_pool.hpp>
#include <plmscope/core/view.hpp>

#include <Eigen/Core>

#include <algorithm>
#include <cstddef>

namespace plmscope::inline PLMSCOPE_ABI {
namespace cpu_kernels {

/// m and v hold the moments of the scaled gradient. Pieces of 1024 entries stay in the first cache.
template <class V, class C, class Factor, class Real>
void adam(thread_pool& pool, V parameters, C gradient, V m, V v, const adam_step<Real>& s,
          Factor factor) {
  using array = Eigen::Array<Real, Eigen::Dynamic, 1>;
  const Real g_scale = factor.empty() ? Real{1} : static_cast<Real>(factor.data()[0]);
  const Real rate = s.rate / s.correction1;
  const Real root2 = std::sqrt(s.correction2);
  for_pieces(pool, parameters, [&](std::size_t r, std::size_t c, std::size_t n) {
    for (std::size_t i = 0; i < n; i += 1024) {
      const auto size = static_cast<Eigen::Index>(std::min<std::size_t>(1024, n - i));
      Eigen::Map<array> p(parameters.row_data(r) + c + i, size);
      Eigen::Map<const array> g(gradient.row_data(r) + c + i, size);
      Eigen::Map<array> first(m.row_data(r) + c + i, size);
      Eigen::Map<array> second(v.row_data(r) + c + i, size);
      if (s.decay != Real{0}) p *= Real{1} - s.decay;
      first = s.beta1 * first + ((Real{1} - s.beta1) * g_scale) * g;
      second = s.beta2 * second + ((Real{1} - s.beta2) * g_scale * g_scale) * g.square();
      p -= rate * first / (second.sqrt() / root2 + s.epsilon);
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
