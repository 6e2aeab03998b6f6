// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/core/error.hpp>
#include <plmscope/core/view.hpp>
#include <plmscope/tensor/matrix.hpp>
#include <plmscope/train/losses.hpp>
#include <plmscope/train/rules.hpp>
#include <plmscope/train/whole_results.hpp>

#include <cstddef>
#include <span>
#include <string>

namespace plmscope::inline PLMSCOPE_ABI {

/// What a model makes of the results is the loss (end-to-end SAEs; Braun et al. 2024, "Identifying
/// functionally important features with end-to-end sparse dictionary learning"):
///
///   L = weight D(results) + reconstruction mean over rows |y - y'|^2,
///
/// where D is what lies behind the SAE. `behind` answers
///
///   double operator()(B& be, const_view<B> rows, view<B> gradient)
///
/// for the results of the batch at the scale of the activations, [m, d]: it fills the gradient of D
/// with respect to them and returns D. `model_behind` (steer/model_behind.hpp) is a reader of whole
/// proteins that answers with the divergence of a model's predictions, in nats per residue. The
/// second term is at the dictionary's scale, like `mean_squared_error`.
///
/// With `balanced` D counts weight |y - y'|^2 / D times, with a factor that is held constant: both
/// terms weigh the same whatever their units, as when an SAE that has learned to reconstruct is
/// tuned by a divergence (Karvonen 2025, "Revisiting end-to-end sparse autoencoder training").
///
/// Takes full reconstructions. Waits for the device. `behind` must outlive the training. Errors:
/// train.111 without one.
template <class Behind>
struct end_to_end {
  static constexpr loss_space space = loss_space::normalized;
  Behind* behind = nullptr;
  double weight = 1;
  double reconstruction = 0;
  bool balanced = false;

  /// The squared error, for terms beside the main result (a gated SAE's second one).
  template <class B>
  weighted_squares<typename B::real> prepare(B&, const loss_inputs<B>& in) const {
    return {.scale = static_cast<typename B::real>(1.0 / static_cast<double>(in.target.rows()))};
  }

  /// Fills g [m, d] with the derivative with respect to each result; the loss.
  template <class B>
  double pull(B& be, const whole_results<B>& in, view<B> g) const {
    using real = typename B::real;
    if (behind == nullptr) {
      throw error(rules::train_behind, {.where = "end_to_end", .found = "none"});
    }
    const double distance = (*behind)(be, in.raw(be), g);
    in.pull_back(be, g);
    const const_view<B> e = in.error(be);
    const auto rows = static_cast<double>(e.rows());
    matrix<double, B> slot(be, 1, 1);
    be.add_sum_squares(e, slot.all());
    double squares = 0;
    be.download(const_view<B, double>(slot), std::span<double>(&squares, 1));
    squares /= rows;
    const double factor = !balanced ? weight : distance > 0 ? weight * squares / distance : 0;
    be.scale(g, static_cast<real>(factor));
    if (reconstruction != 0) be.axpy(static_cast<real>(2 * reconstruction / rows), e, g);
    return factor * distance + reconstruction * squares;
  }

  template <class F>
  void settings(const F& f) const {
    if constexpr (requires { behind->identity(); }) {
      f(behind == nullptr ? std::string() : behind->identity());
    }
    f(weight);
    f(reconstruction);
    f(balanced);
  }
};

}  // namespace plmscope::inline PLMSCOPE_ABI
