// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/backend/device/elementwise.hpp>
#include <plmscope/backend/device/group.hpp>
#include <plmscope/backend/device/rows.hpp>
#include <plmscope/backend/device/sums.hpp>
#include <plmscope/backend/primitives.hpp>

#include <cmath>
#include <cstddef>

namespace plmscope::inline PLMSCOPE_ABI {
namespace device_kernels {

template <class Device, class V, class C, class Real, class Factor>
void launch_adam(Device& be, V p, C g, V m, V v, const adam_step<Real>& s, Factor factor) {
  const Real root2 = std::sqrt(s.correction2);
  be.each(p, [=] PLMSCOPE_DEVICE(std::size_t r, std::size_t c) {
    const Real f = factor.empty() ? Real{1} : static_cast<Real>(factor.data()[0]);
    adam_entry(p.row_data(r)[c], g.row_data(r)[c], m.row_data(r)[c], v.row_data(r)[c], s, root2, f);
  });
}

template <class Device, class V, class C, class Real>
void launch_sign_step(Device& be, V p, C g, Real rate) {
  be.each(p, [=] PLMSCOPE_DEVICE(std::size_t r, std::size_t c) {
    const Real v = g.row_data(r)[c];
    p.row_data(r)[c] -= v > Real{0} ? rate : v < Real{0} ? -rate : Real{0};
  });
}

/// One block per row: projection, Adam and rescaling. A thread's entries are its own throughout.
template <class V, class C, class Real, class Factor>
struct adam_unit_rows {
  V p;
  C g;
  V m, v;
  adam_step<Real> step;
  Real root2;
  Factor factor;
  bool project;
  Real projection_epsilon, length_epsilon;

  template <class Group>
  PLMSCOPE_HD void operator()(Group& group) const {
    const std::size_t row = group.index();
    Real* const to = p.row_data(row);
    const Real f = factor.empty() ? Real{1} : static_cast<Real>(factor.data()[0]);
    const row_projection<Real> along =
        project ? project_row(group, g, C(p), row, projection_epsilon) : row_projection<Real>{};
    Real squares = 0;
    for (std::size_t j = group.rank(); j < p.cols(); j += group.size()) {
      adam_entry(to[j], along.left(g.row_data(row)[j], to[j]), m.row_data(row)[j],
                 v.row_data(row)[j], step, root2, f);
      squares += to[j] * to[j];
    }
    const Real norm = std::sqrt(group.sum(squares)) + length_epsilon;
    if (!(norm > Real{0})) return;
    for (std::size_t j = group.rank(); j < p.cols(); j += group.size()) to[j] /= norm;
  }
};

template <class Device, class V, class C, class Real, class Factor>
void launch_adam_unit_rows(Device& be, V p, C g, V m, V v, const adam_step<Real>& s,
                           const unit_length_rule& rule, Factor factor) {
  be.rows(p.rows(), adam_unit_rows<V, C, Real, Factor>{p, g, m, v, s, std::sqrt(s.correction2),
                                                       factor, rule.project,
                                                       static_cast<Real>(rule.projection_epsilon),
                                                       static_cast<Real>(rule.length_epsilon)});
}

/// partial[row] = |what a projection leaves of g's row|^2.
template <class C, class Real>
struct projected_squares {
  C gradient, direction;
  Real epsilon;
  double* partial;

  template <class Group>
  PLMSCOPE_HD void operator()(Group& g) const {
    const std::size_t row = g.index();
    const row_projection<Real> along = project_row(g, gradient, direction, row, epsilon);
    double squares = 0;
    for (std::size_t j = g.rank(); j < gradient.cols(); j += g.size()) {
      const auto left =
          static_cast<double>(along.left(gradient.row_data(row)[j], direction.row_data(row)[j]));
      squares += left * left;
    }
    squares = g.sum(squares);
    if (g.rank() == 0) partial[row] = squares;
  }
};

template <class Device, class C, class Real, class Slot>
void launch_projected_squares(Device& be, C g, C w, Real epsilon, Slot slot) {
  if (g.empty()) return;
  auto partial = be.template scratch<double>(g.rows());
  be.rows(g.rows(), projected_squares<C, Real>{g, w, epsilon, partial.get()});
  be.launch(1, 256 * sizeof(double), add_partials{partial.get(), g.rows(), slot.data()});
}

}  // namespace device_kernels
}  // namespace plmscope::inline PLMSCOPE_ABI
