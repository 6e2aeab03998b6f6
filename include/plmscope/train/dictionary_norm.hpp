// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/backend/primitives.hpp>
#include <plmscope/sae/parameters.hpp>
#include <plmscope/tensor/matrix.hpp>

#include <cmath>
#include <cstddef>
#include <limits>
#include <span>
#include <vector>

namespace plmscope::inline PLMSCOPE_ABI {

namespace dictionary_detail {

/// Lengths become factors that bring them down to a limit.
template <class Real>
struct shrink {
  Real* lengths;
  Real limit;
  PLMSCOPE_HD void operator()(std::size_t, std::size_t f) const {
    lengths[f] = lengths[f] > limit ? limit / lengths[f] : Real{1};
  }
};

/// Sets entries to 0 that join a latent with a layer before its own, and, unless `later`, after it.
template <class Real>
struct layer_mask {
  Real* values;
  std::size_t width;
  std::size_t latents_a_layer;
  std::size_t columns_a_layer;
  bool later;
  PLMSCOPE_HD void operator()(std::size_t f, std::size_t j) const {
    const std::size_t from = f / latents_a_layer;
    const std::size_t to = j / columns_a_layer;
    if (to < from || (to > from && !later)) values[f * width + j] = 0;
  }
};

}  // namespace dictionary_detail

// What keeps the decoder's scale in check; `dictionary_training` says when they are called.

/// Leaves the decoder as it is.
struct free_norm {};

/// Keeps every decoder row at length 1, so that a latent's activation is the length it writes: the
/// gradient loses its part along the row, and rows are rescaled after the step. Without the
/// projection Adam's moments would fill with a component that the rescaling undoes (Bricken et al.
/// 2023). `adam` does all of it in the pass that moves the decoder: the run's gradient is then the
/// one before the projection.
struct unit_norm {
  enum class projection { before_clip, after_clip, none };
  projection project = projection::before_clip;
  double projection_epsilon = 1e-6;  ///< added to the row length when projecting

  /// What the members below do, for optimizers that do it themselves.
  template <class B>
  unit_length_rule rows() const {
    return {.project = project != projection::none,
            .clip_projected = project == projection::before_clip,
            .projection_epsilon = projection_epsilon,
            .length_epsilon = std::numeric_limits<typename B::real>::epsilon()};
  }

  template <class B>
  void before_clip(B& be, sae_parameters<B>& p, sae_parameters<B>& g) const {
    if (project == projection::before_clip) along(be, p, g);
  }
  template <class B>
  void after_clip(B& be, sae_parameters<B>& p, sae_parameters<B>& g) const {
    if (project == projection::after_clip) along(be, p, g);
  }
  template <class B>
  void after_step(B& be, sae_parameters<B>& p) const {
    be.normalize_rows(p.decoder, std::numeric_limits<typename B::real>::epsilon());
  }

 private:
  template <class B>
  void along(B& be, sae_parameters<B>& p, sae_parameters<B>& g) const {
    be.project_rows(g.decoder, p.decoder, static_cast<typename B::real>(projection_epsilon));
  }
};

/// No decoder row longer than `limit`, whatever the gradient says: rows above it are scaled back after
/// the step, shorter ones are left alone.
struct max_norm {
  double limit = 1;

  template <class B>
  void after_step(B& be, sae_parameters<B>& p) const {
    using real = typename B::real;
    matrix<real, B> factor(be, 1, p.decoder.rows());
    matrix<real, B> zero(be, 1, p.decoder.rows());
    be.row_norms(p.decoder, factor);
    be.entries(1, factor.cols(),
               dictionary_detail::shrink<real>{factor.data(), static_cast<real>(limit)});
    be.affine_rows(p.decoder, zero, factor, p.decoder);
  }
};

/// The decoder stays as it is: only the encoder learns.
struct fixed_decoder {
  template <class B>
  void before_clip(B& be, sae_parameters<B>&, sae_parameters<B>& g) const {
    be.fill(g.decoder.all(), typename B::real{0});
  }
};

/// Cross-layer transcoder (Ameisen et al. 2025) over `layers` sites side by side in a row: latents
/// stand in as many equal groups; group l reads the states of layer l only and writes to the targets
/// of layers l and above. The other entries of encoder and decoder stay 0. (The encoder's product
/// still multiplies them: `layers` times the work of encoders of their own.)
struct cross_layer {
  std::size_t layers = 1;

  template <class B>
  void before_forward(B& be, sae_parameters<B>& p) const {
    keep(be, p);
  }
  template <class B>
  void before_clip(B& be, sae_parameters<B>&, sae_parameters<B>& g) const {
    keep(be, g);
  }

 private:
  template <class B>
  void keep(B& be, sae_parameters<B>& p) const {
    using real = typename B::real;
    using dictionary_detail::layer_mask;
    const std::size_t f = p.encoder.rows();
    be.entries(f, p.encoder.cols(),
               layer_mask<real>{p.encoder.data(), p.encoder.cols(), f / layers,
                                p.encoder.cols() / layers, false});
    be.entries(f, p.decoder.cols(),
               layer_mask<real>{p.decoder.data(), p.decoder.cols(), f / layers,
                                p.decoder.cols() / layers, true});
  }
};

/// As matryoshka_sae does it: after clipping, and rows are rescaled before the step, so that saved
/// rows are not exactly of length 1.
struct unit_norm_before_step {
  template <class B>
  void after_clip(B& be, sae_parameters<B>& p, sae_parameters<B>& g) const {
    be.project_rows(g.decoder, p.decoder, typename B::real{0});
    be.normalize_rows(p.decoder, typename B::real{0});
  }
};

/// As sparsify does it: rows are rescaled at the start of every forward pass.
struct unit_norm_before_forward {
  template <class B>
  void before_forward(B& be, sae_parameters<B>& p) const {
    be.normalize_rows(p.decoder, std::numeric_limits<typename B::real>::epsilon());
  }
  template <class B>
  void before_clip(B& be, sae_parameters<B>& p, sae_parameters<B>& g) const {
    be.project_rows(g.decoder, p.decoder, typename B::real{0});
  }
};

/// Unit length on the other axis: every model dimension over all latents. Latent directions are NOT
/// of length 1 then. A defect of BioNeMo (after the step, no projection) and of InterProt (before
/// the step, with projection), here to reproduce their files.
struct unit_norm_per_dimension {
  bool before_step = false;

  template <class B>
  void before_clip(B& be, sae_parameters<B>& p, sae_parameters<B>& g) const {
    using real = typename B::real;
    if (!before_step) return;
    rescale(be, p);
    matrix<real, B> along(be, 1, g.decoder.cols());
    be.column_dots(p.decoder, g.decoder, along);
    matrix<real, B> part(be, p.decoder.rows(), p.decoder.cols());
    be.copy(const_view<B>(p.decoder), part.all());
    be.scale_columns(part, along);
    be.axpy(real{-1}, part, g.decoder);
  }
  template <class B>
  void after_step(B& be, sae_parameters<B>& p) const {
    if (!before_step) rescale(be, p);
  }

 private:
  template <class B>
  static void rescale(B& be, sae_parameters<B>& p) {
    using real = typename B::real;
    matrix<real, B> factors(be, 1, p.decoder.cols());
    be.column_dots(p.decoder, p.decoder, factors);
    std::vector<double> host(factors.cols());
    be.download(const_view<B>(factors), std::span<double>(host));
    for (double& v : host) v = v > 0 ? 1 / std::sqrt(v) : 1;
    be.upload(std::span<const double>(host), factors.all());
    be.scale_columns(p.decoder, factors);
  }
};

}  // namespace plmscope
