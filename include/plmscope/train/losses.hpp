// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/core/view.hpp>
#include <plmscope/sae/parameters.hpp>
#include <plmscope/tensor/matrix.hpp>

#include <cmath>
#include <cstddef>
#include <functional>

namespace plmscope::inline PLMSCOPE_ABI {

/// A loss sum_r scale w_r |e_r|^2 / denominator over the rows of a batch. The weights and the
/// denominator are constants for the gradient; both live in backend memory and may be absent.
/// A denominator of zero makes the loss and its gradient zero.
template <class Real>
struct weighted_squares {
  Real scale = 1;
  const Real* weights = nullptr;
  const double* denominator = nullptr;

  PLMSCOPE_HD Real factor(std::size_t r) const noexcept {
    Real f = scale;
    if (weights != nullptr) f *= weights[r];
    if (denominator != nullptr) {
      f = *denominator > 0 ? static_cast<Real>(static_cast<double>(f) / *denominator) : Real{0};
    }
    return f;
  }
  PLMSCOPE_HD Real value(std::size_t r, Real squared_error) const noexcept {
    return factor(r) * squared_error;
  }
  PLMSCOPE_HD Real slope(std::size_t r, Real) const noexcept { return 2 * factor(r); }
};

/// Where a reconstruction loss is measured: on normalised rows, or after undoing the per-row
/// normalisation (which weighs each row by its squared deviation).
enum class loss_space { normalized, raw };

/// slot = sum of squared distances of the rows of x from their mean. Waits for nothing.
template <class B>
void scatter_around_mean(B& be, const_view<B> x, matrix<typename B::real, B>& work,
                         view<B, double> slot) {
  using real = typename B::real;
  matrix<real, B> mean(be, 1, x.cols());
  be.column_sums(x, mean);
  work.reshape(be, x.rows(), x.cols());
  be.copy(x, work.all());
  be.add_row(work, mean, real{-1} / static_cast<real>(x.rows()));
  be.fill(slot, 0.0);
  be.add_sum_squares(work, slot);
}

/// What a reconstruction loss may look at, and its workspace. Lives as long as the step.
template <class B>
struct loss_inputs {
  const_view<B> x;             ///< [m, d] rows as they came
  const_view<B> target;        ///< [m, d] what the reconstruction aims at, normalised
  const_view<B> row_weights;   ///< [1, m] squared deviations at raw scale, or empty
  const sae_parameters<B>& parameters;
  matrix<typename B::real, B>& work;
  matrix<typename B::real, B>& row_work;
  view<B, double> slot;
  std::size_t blocks = 1;      ///< sites side by side in a row
};

/// L = mean over rows of |y - y'|^2, summed over dimensions (the default of dictionary_learning and
/// SAELens), averaged over them (OpenAI, matryoshka_sae), or averaged over the sites of a crosscoder's
/// row.
struct mean_squared_error {
  enum class dimensions { summed, averaged, averaged_over_sites };
  dimensions over = dimensions::summed;
  loss_space space = loss_space::normalized;

  template <class B>
  weighted_squares<typename B::real> prepare(B&, const loss_inputs<B>& in) const {
    using real = typename B::real;
    const auto n = static_cast<double>(in.target.rows()) *
                   (over == dimensions::averaged              ? static_cast<double>(in.target.cols())
                    : over == dimensions::averaged_over_sites ? static_cast<double>(in.blocks)
                                                              : 1.0);
    return {.scale = static_cast<real>(1 / n), .weights = in.row_weights.data()};
  }
};

/// A loss sum_r scale |e_r|: an unsquared length. A row without error has no gradient.
template <class Real>
struct scaled_length {
  Real scale = 1;
  PLMSCOPE_HD Real value(std::size_t, Real squared_error) const noexcept {
    using std::sqrt;
    return scale * sqrt(squared_error);
  }
  PLMSCOPE_HD Real slope(std::size_t, Real squared_error) const noexcept {
    using std::sqrt;
    return squared_error > Real{0} ? scale / sqrt(squared_error) : Real{0};
  }
};

/// L = mean over rows, and over the sites of a crosscoder's row, of |y - y'|, not squared (InterPLM's
/// ReLU trainer, the crosscoders of Minder et al. 2025).
struct mean_error_length {
  static constexpr loss_space space = loss_space::normalized;
  static constexpr bool per_block = true;

  template <class B>
  scaled_length<typename B::real> prepare(B&, const loss_inputs<B>& in) const {
    using real = typename B::real;
    return {static_cast<real>(1.0 / static_cast<double>(in.target.rows() * in.blocks))};
  }
};

/// Any loss of the results as a whole, such as what a language model makes of them (end-to-end SAEs,
/// Braun et al. 2024): `pull(be, result [m, d], target [m, d], g [m, d])` fills g with the derivative
/// of the loss with respect to each result and returns the loss. Rows come as the reader gives them,
/// so a loss that needs whole proteins wants a reader that gives whole proteins.
template <class B>
struct loss_of_results {
  static constexpr loss_space space = loss_space::normalized;
  std::function<double(B&, const_view<B>, const_view<B>, view<B>)> pull;

  weighted_squares<typename B::real> prepare(B&, const loss_inputs<B>&) const { return {}; }
};

/// L = sum |y - y'|^2 / sum |y - mean(y)|^2 of the batch: the fraction of variance unexplained,
/// with the denominator held constant (sparsify).
struct fraction_of_variance_unexplained {
  static constexpr loss_space space = loss_space::normalized;

  template <class B>
  weighted_squares<typename B::real> prepare(B& be, const loss_inputs<B>& in) const {
    scatter_around_mean(be, in.target, in.work, in.slot);
    return {.scale = 1, .denominator = in.slot.data()};
  }
};

/// L = mean over rows of mean_d (x - x')^2 / (mean_d (x - b)^2 + 1e-8), with the decoder bias b of
/// normalised space against raw x and a gradient through the denominator, which rewards moving b
/// away from the data. A defect of BioNeMo's TopK, here to reproduce its training.
struct squared_error_relative_to_bias {
  static constexpr loss_space space = loss_space::raw;

  template <class B>
  weighted_squares<typename B::real> prepare(B& be, const loss_inputs<B>& in) const {
    using real = typename B::real;
    const std::size_t m = in.x.rows();
    denominators(be, in);
    be.reciprocal(real{1}, in.row_work, in.row_work);
    if (!in.row_weights.empty()) be.scale_columns(in.row_work, in.row_weights);
    return {.scale = static_cast<real>(1.0 / static_cast<double>(m)),
            .weights = in.row_work.data()};
  }

  /// The part of the bias gradient that comes from the denominators; `values` [1, m] are the rows'
  /// losses.
  template <class B>
  void add_bias_gradient(B& be, const loss_inputs<B>& in, const_view<B> values,
                         view<B> gradient) const {
    using real = typename B::real;
    denominators(be, in);
    be.reciprocal(real{2}, in.row_work, in.row_work);
    be.scale_columns(in.row_work, values);
    be.weighted_row_sum(in.work, in.row_work, gradient, real{1});
  }

 private:
  // work = x - b, row_work = |x - b|^2 + d 1e-8
  template <class B>
  static void denominators(B& be, const loss_inputs<B>& in) {
    using real = typename B::real;
    in.work.reshape(be, in.x.rows(), in.x.cols());
    be.copy(in.x, in.work.all());
    be.add_row(in.work, in.parameters.decoder_bias, real{-1});
    in.row_work.reshape(be, 1, in.x.rows());
    be.row_dots(in.work, in.work, in.row_work);
    matrix<real, B> floor(be, 1, in.x.rows());
    be.fill(floor.all(), static_cast<real>(1e-8 * static_cast<double>(in.x.cols())));
    be.axpy(real{1}, floor, in.row_work);
  }
};

}  // namespace plmscope
