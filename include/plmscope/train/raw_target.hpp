// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/core/view.hpp>
#include <plmscope/tensor/matrix.hpp>

#include <cstddef>

namespace plmscope::inline PLMSCOPE_ABI {

/// For losses at the scale of the activations (`loss_space::raw`) behind a normaliser that scales each
/// row. A result y' is brought back as y = factor y' + mean, so |x - y|^2 = factor^2 |x' - y'|^2: rows
/// are weighted with factor^2, and the target x' = (x - mean) / factor is what came in, in the units of
/// the result.
template <class B>
class raw_target {
 public:
  using real = typename B::real;

  void clear() noexcept { used_ = false; }

  /// x [m, d] as it came in; `c`: what the normaliser took from its rows, mean [1, m] and the
  /// factor by which a row is brought back, `inverse_factor` [1, m].
  template <class Context>
  void take(B& be, const_view<B> x, const Context& c) {
    const std::size_t m = x.rows();
    weights_.reshape(be, 1, m);
    offset_.reshape(be, 1, m);
    inverse_.reshape(be, 1, m);
    be.reciprocal(real{1}, c.inverse_factor, inverse_);
    be.copy(const_view<B>(c.mean), offset_.all());
    be.scale(offset_, real{-1});
    target_.reshape(be, m, x.cols());
    be.affine_rows(x, offset_, inverse_, target_);
    be.copy(const_view<B>(c.mean), offset_.all());
    be.scale_columns(offset_, inverse_);
    be.copy(const_view<B>(c.inverse_factor), weights_.all());
    be.scale_columns(weights_, c.inverse_factor);
    used_ = true;
  }

  /// Empty where the loss is formed on normalised rows.
  const_view<B> weights() const { return used_ ? const_view<B>(weights_) : const_view<B>(); }
  const_view<B> offset() const { return used_ ? const_view<B>(offset_) : const_view<B>(); }
  const_view<B> target() const { return target_; }

 private:
  bool used_ = false;
  matrix<real, B> weights_, offset_, inverse_, target_;
};

}  // namespace plmscope::inline PLMSCOPE_ABI
