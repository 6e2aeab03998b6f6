// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/sae/parameters.hpp>
#include <plmscope/tensor/matrix.hpp>

#include <cmath>
#include <cstddef>
#include <limits>
#include <span>
#include <vector>

namespace plmscope::inline PLMSCOPE_ABI {

// What keeps the decoder's scale in check. A policy has four moments, in the order of a step:
// before_forward(be, p), before_clip(be, p, g), after_clip(be, p, g), after_step(be, p).

/// Leaves the decoder as it is.
struct free_norm {
  template <class B>
  void before_forward(B&, sae_parameters<B>&) const {}
  template <class B>
  void before_clip(B&, sae_parameters<B>&, sae_parameters<B>&) const {}
  template <class B>
  void after_clip(B&, sae_parameters<B>&, sae_parameters<B>&) const {}
  template <class B>
  void after_step(B&, sae_parameters<B>&) const {}
};

/// Keeps every decoder row at length 1, so that a latent's activation is the length it writes: the
/// gradient loses its part along the row, and rows are rescaled after the step. Without the
/// projection Adam's moments would fill with a component that the rescaling undoes (Bricken et al.
/// 2023).
struct unit_norm : free_norm {
  double projection_epsilon = 1e-6;  ///< added to the row length when projecting

  template <class B>
  void before_clip(B& be, sae_parameters<B>& p, sae_parameters<B>& g) const {
    be.project_rows(g.decoder, p.decoder, static_cast<typename B::real>(projection_epsilon));
  }
  template <class B>
  void after_step(B& be, sae_parameters<B>& p) const {
    be.normalize_rows(p.decoder, std::numeric_limits<typename B::real>::epsilon());
  }
};

/// As matryoshka_sae does it: after clipping, and rows are rescaled before the step, so that saved
/// rows are not exactly of length 1.
struct unit_norm_before_step : free_norm {
  template <class B>
  void after_clip(B& be, sae_parameters<B>& p, sae_parameters<B>& g) const {
    be.project_rows(g.decoder, p.decoder, typename B::real{0});
    be.normalize_rows(p.decoder, typename B::real{0});
  }
};

/// As sparsify does it: rows are rescaled at the start of every forward pass.
struct unit_norm_before_forward : free_norm {
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
struct unit_norm_per_dimension : free_norm {
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
