// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/core/error.hpp>
#include <plmscope/core/view.hpp>
#include <plmscope/sae/normalizer.hpp>
#include <plmscope/tensor/matrix.hpp>
#include <plmscope/train/losses.hpp>
#include <plmscope/train/rules.hpp>

#include <cstddef>
#include <string>

namespace plmscope::inline PLMSCOPE_ABI {

/// For losses at the scale of the activations (`loss_space::raw`) behind a normaliser that scales
/// each row. A result y' is brought back as y = factor y' + mean, so |x - y|^2 = factor^2 |x' -
/// y'|^2: rows are weighted with factor^2, and the target x' = (x - mean) / factor is what came in,
/// in the units of the result.
template <class B>
class raw_target {
 public:
  using real = typename B::real;

  /// Of the rows x [m, d] as they came in and the model that has just normalised them. False, and
  /// nothing but empty views, where the loss is formed on normalised rows, which `loss_space` says
  /// and models that transcode or do not normalise have anyway. Errors: train.109 for a normaliser
  /// whose factors differ between columns.
  template <class Sae>
  bool take(B& be, const_view<B> x, Sae& model, loss_space space) {
    const auto kind = model.normalization().kind;
    used_ = space != loss_space::normalized && !model.settings().transcodes &&
            kind != normalization::none;
    if (!used_) return false;
    if (kind != normalization::token_layer_norm) {
      throw error(rules::train_loss_space, {.found = std::string(normalizer::name(kind))});
    }
    const auto& c = model.normalizer_context();
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
    return true;
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
