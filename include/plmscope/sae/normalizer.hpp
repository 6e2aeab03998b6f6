// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/core/view.hpp>
#include <plmscope/sae/rules.hpp>
#include <plmscope/tensor/matrix.hpp>

#include <cmath>
#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace plmscope::inline PLMSCOPE_ABI {

enum class normalization {
  none,              ///< x
  scalar,            ///< x * scale; `fit` makes the mean squared norm of a row equal to its width
  per_dimension,     ///< (x - mean) / deviation, dimension by dimension
  token_layer_norm   ///< (x - mean(x)) / (deviation(x) + epsilon), row by row, no learned gain;
                     ///< without `centred` x sqrt(d) / |x|
};

/// How activations are brought to the scale an SAE is trained at. Part of the SAE and of its file:
/// an SAE read with another normalisation computes other features.
struct normalizer {
  normalization kind = normalization::none;
  double scale = 1;                ///< scalar
  std::vector<double> mean = {};       ///< per_dimension, [d]
  std::vector<double> deviation = {};  ///< per_dimension, [d], all > 0
  double epsilon = 1e-5;           ///< token_layer_norm: added to the deviation
  double root_epsilon = 0;         ///< token_layer_norm: added to the variance under the root
  double inverse_epsilon = 1e-5;   ///< token_layer_norm: added to the deviation when inverting
  std::size_t ddof = 0;            ///< token_layer_norm: 1 for the unbiased deviation
  /// token_layer_norm: false subtracts no mean and divides by the root of the mean square (+ epsilon),
  /// so that rows have length sqrt(d) (InterPLM's sqrt_d, SAELens' constant_norm_rescale).
  bool centred = true;

  /// What one batch needs to be brought back: per-row mean and deviation for token_layer_norm.
  template <class B>
  struct context {
    matrix<typename B::real, B> mean, factor, inverse_factor, zero;
  };

  /// out = normalised x; [m, d] both.
  template <class B>
  void apply(B& be, const_view<B> x, view<B> out, context<B>& c) const {
    using real = typename B::real;
    if (kind == normalization::token_layer_norm) {
      matrix<real, B>& deviations = c.inverse_factor;
      c.mean.reshape(be, 1, x.rows());
      c.factor.reshape(be, 1, x.rows());
      deviations.reshape(be, 1, x.rows());
      if (centred) {
        be.row_moments(x, c.mean, c.factor, ddof, static_cast<real>(root_epsilon));
        be.row_moments(x, c.mean, deviations, ddof, real{0});
      } else {
        be.fill(c.mean.all(), real{0});
        be.row_norms(x, deviations);
        be.scale(deviations, static_cast<real>(1 / std::sqrt(static_cast<double>(x.cols()))));
        be.copy(const_view<B>(deviations), c.factor.all());
      }
      be.axpy(real{1}, constant(be, x.rows(), epsilon), c.factor);
      be.reciprocal(real{1}, c.factor, c.factor);
      be.scale(c.mean, real{-1});
      be.affine_rows(x, c.mean, c.factor, out);
      be.scale(c.mean, real{-1});
      be.axpy(real{1}, constant(be, x.rows(), inverse_epsilon), deviations);
      return;
    }
    be.copy(x, out);
    if (kind == normalization::scalar) {
      be.scale(out, static_cast<real>(scale));
    } else if (kind == normalization::per_dimension) {
      be.add_row(out, row(be, mean), real{-1});
      be.scale_columns(out, row(be, inverse(deviation)));
    }
  }

  /// Brings reconstructions of the batch of `c` back to the scale of the activations, in place.
  template <class B>
  void invert(B& be, view<B> y, context<B>& c) const {
    using real = typename B::real;
    if (kind == normalization::token_layer_norm) {
      c.zero.reshape(be, 1, y.rows());
      be.fill(c.zero.all(), real{0});
      be.affine_rows(const_view<B>(y), c.zero, c.inverse_factor, y);
      const matrix<real, B> ones = constant(be, y.rows(), 1);
      be.affine_rows(const_view<B>(y), c.mean, ones, y);
    } else if (kind == normalization::scalar) {
      be.scale(y, static_cast<real>(1 / scale));
    } else if (kind == normalization::per_dimension) {
      be.scale_columns(y, row(be, deviation));
      be.add_row(y, row(be, mean));
    }
  }

  /// From the derivative with respect to what `invert` gives to that with respect to what it takes,
  /// in place.
  template <class B>
  void pull_back(B& be, view<B> g, context<B>& c) const {
    using real = typename B::real;
    if (kind == normalization::token_layer_norm) {
      c.zero.reshape(be, 1, g.rows());
      be.fill(c.zero.all(), real{0});
      be.affine_rows(const_view<B>(g), c.zero, c.inverse_factor, g);
    } else if (kind == normalization::scalar) {
      be.scale(g, static_cast<real>(1 / scale));
    } else if (kind == normalization::per_dimension) {
      be.scale_columns(g, row(be, deviation));
    }
  }

  static std::string_view name(normalization k) noexcept {
    switch (k) {
      case normalization::none: return "none";
      case normalization::scalar: return "scalar";
      case normalization::per_dimension: return "per_dimension";
      case normalization::token_layer_norm: return "token_layer_norm";
    }
    return "?";
  }

  /// Refuses (`normalizer_shape`) numbers that do not fit rows of width d.
  void check(std::size_t d) const {
    const bool per_row = kind == normalization::per_dimension;
    const bool good = per_row ? mean.size() == d && deviation.size() == d
                              : kind != normalization::scalar || scale > 0;
    if (!centred && (ddof != 0 || root_epsilon != 0)) {
      throw error(rules::normalizer_shape,
                  {.where = std::string(name(kind)),
                   .expected = "ddof 0 and root_epsilon 0 where no mean is subtracted",
                   .found = std::to_string(ddof) + " and " + std::to_string(root_epsilon)});
    }
    if (good) return;
    throw error(rules::normalizer_shape,
                {.where = std::string(name(kind)),
                 .expected = per_row ? std::to_string(d) + " means and deviations" : "a scale above 0",
                 .found = per_row ? std::to_string(mean.size()) + " and " +
                                        std::to_string(deviation.size())
                                  : std::to_string(scale)});
  }

  friend bool operator==(const normalizer&, const normalizer&) = default;

 private:
  template <class B>
  static matrix<typename B::real, B> row(B& be, const std::vector<double>& values) {
    matrix<typename B::real, B> m(be, 1, values.size());
    be.upload(std::span<const double>(values), m.all());
    return m;
  }
  template <class B>
  static matrix<typename B::real, B> constant(B& be, std::size_t n, double value) {
    matrix<typename B::real, B> m(be, 1, n);
    be.fill(m.all(), static_cast<typename B::real>(value));
    return m;
  }
  static std::vector<double> inverse(std::vector<double> v) {
    for (double& x : v) x = 1 / x;
    return v;
  }
};

/// Fits `kind` on sample rows [m, d] (host numbers, row-major). Errors: `normalizer_fit`.
/// Dimensions without variance get deviation 1.
template <class Real>
normalizer fit_normalizer(normalization kind, std::span<const Real> rows, std::size_t d) {
  normalizer n{.kind = kind};
  const std::size_t m = d == 0 ? 0 : rows.size() / d;
  if (kind == normalization::none || kind == normalization::token_layer_norm) return n;
  std::vector<double> sum(d, 0.0);
  std::vector<double> squares(d, 0.0);
  for (std::size_t r = 0; r < m; ++r) {
    for (std::size_t j = 0; j < d; ++j) sum[j] += static_cast<double>(rows[r * d + j]);
  }
  for (double& s : sum) s /= static_cast<double>(m);
  double norm = 0;
  for (std::size_t r = 0; r < m; ++r) {
    for (std::size_t j = 0; j < d; ++j) {
      const double v = static_cast<double>(rows[r * d + j]);
      norm += v * v;
      squares[j] += (v - sum[j]) * (v - sum[j]);
    }
  }
  if (m < 2 || !(norm > 0) || !std::isfinite(norm)) {
    throw error(rules::normalizer_fit,
                {.where = std::string(normalizer::name(kind)),
                 .found = std::to_string(m) + " rows, squared norm " + std::to_string(norm)});
  }
  if (kind == normalization::scalar) {
    n.scale = std::sqrt(static_cast<double>(d) * static_cast<double>(m) / norm);
  } else {
    n.mean = sum;
    n.deviation.resize(d);
    for (std::size_t j = 0; j < d; ++j) {
      const double v = std::sqrt(squares[j] / static_cast<double>(m - 1));
      n.deviation[j] = v > 1e-7 * std::abs(sum[j]) ? v : 1;  // below: rounding of a constant
    }
  }
  return n;
}

}  // namespace plmscope
