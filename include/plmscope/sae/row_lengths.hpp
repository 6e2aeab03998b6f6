// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/config.hpp>
#include <plmscope/core/view.hpp>
#include <plmscope/tensor/codes_view.hpp>
#include <plmscope/tensor/matrix.hpp>

#include <cstddef>
#include <cstdint>

namespace plmscope::inline PLMSCOPE_ABI {

/// values[e] *= factors[feature of e].
template <class Real>
struct times_by_feature {
  Real* values;
  const Real* factors;
  PLMSCOPE_HD void operator()(std::size_t, std::size_t e, std::uint32_t f) const {
    values[e] *= factors[f];
  }
};

/// out[f] = sum over `blocks` equal parts of row f of their lengths; with one block its length.
template <class B>
void block_lengths(B& be, const_view<B> w, std::size_t blocks, view<B> out) {
  using real = typename B::real;
  const std::size_t width = w.cols() / blocks;
  be.row_norms(w.col_range(0, width), out);
  if (blocks == 1) return;
  matrix<real, B> part(be, 1, w.rows());
  for (std::size_t b = 1; b < blocks; ++b) {
    be.row_norms(w.col_range(b * width, width), part);
    be.axpy(real{1}, part, out);
  }
}

/// out_f += s_f d(length of row f) / d(row f): each part along its own direction.
template <class B>
void add_length_gradient(B& be, const_view<B> w, std::size_t blocks, const_view<B> s, view<B> out) {
  using real = typename B::real;
  const std::size_t width = w.cols() / blocks;
  matrix<real, B> factor(be, 1, w.rows());
  matrix<real, B> zero(be, 1, w.rows());
  matrix<real, B> part(be, w.rows(), width);
  for (std::size_t b = 0; b < blocks; ++b) {
    const auto columns = w.col_range(b * width, width);
    be.row_norms(columns, factor);
    be.reciprocal(real{1}, factor, factor);
    be.scale_columns(factor, s);
    be.affine_rows(columns, zero, factor, part);
    be.axpy(real{1}, part, out.col_range(b * width, width));
  }
}

/// Rows brought to length 1, and the gradient through that: u -> u / max(|u|, 1e-12).
template <class B>
struct unit_rows {
  using real = typename B::real;
  matrix<real, B> lengths, inverse, zero;

  void apply(B& be, view<B> x) {
    for (matrix<real, B>* m : {&lengths, &inverse, &zero}) m->reshape(be, 1, x.rows());
    be.fill(zero.all(), real{0});
    be.row_norms(x, lengths);
    be.reciprocal(real{1}, lengths, inverse);
    be.affine_rows(x, zero, inverse, x);
  }
  /// g: gradients with respect to the unit rows `u`; becomes those with respect to the rows.
  void pull_back(B& be, const_view<B> u, view<B> g) const {
    be.project_rows(g, u, real{0});
    be.affine_rows(g, zero, inverse, g);
  }
};

}  // namespace plmscope::inline PLMSCOPE_ABI
