// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/core/view.hpp>
#include <plmscope/sae/parameters.hpp>
#include <plmscope/tensor/matrix.hpp>

#include <cstddef>

namespace plmscope::inline PLMSCOPE_ABI {

/// An SAE seen with unit decoder rows: w_i = n_i u_i, encoder row n_i e_i, encoder bias n_i b_i. Its
/// codes are n_i times those of the plain SAE, its reconstructions are the same wherever the same
/// latents are selected.
template <class B>
struct decoder_scaled {
  using real = typename B::real;
  sae_parameters<B> parameters;
  matrix<real, B> norms;    ///< [1, F] n_i
  matrix<real, B> inverse;  ///< [1, F] 1 / n_i, 0 where n_i is 0

  /// Recomputes the scaled parameters. Cost: one pass over both matrices.
  void refresh(B& be, const sae_parameters<B>& p) {
    const std::size_t features = p.encoder.rows();
    if (parameters.encoder.empty()) {
      parameters = sae_parameters<B>(be, features, p.encoder.cols(), p.decoder.cols());
      norms = matrix<real, B>(be, 1, features);
      inverse = matrix<real, B>(be, 1, features);
      zero = matrix<real, B>(be, 1, features);
      work = matrix<real, B>(be, 1, features);
    }
    be.row_norms(p.decoder, norms);
    be.reciprocal(real{1}, norms, inverse);
    be.affine_rows(p.encoder, zero, norms, parameters.encoder);
    be.affine_rows(p.decoder, zero, inverse, parameters.decoder);
    be.copy(const_view<B>(p.encoder_bias), parameters.encoder_bias.all());
    be.scale_columns(parameters.encoder_bias, norms);
    be.copy(const_view<B>(p.decoder_bias), parameters.decoder_bias.all());
  }

  /// g: in, gradient with respect to the scaled parameters; out, with respect to p:
  ///   de = n de',  db = n db',  dw = (du - u <u, du>) / n + u (<de', e> + db' b).
  void pull_back(B& be, const sae_parameters<B>& p, sae_parameters<B>& g) {
    matrix<real, B> along(be, 1, norms.cols());
    be.row_dots(parameters.decoder, g.decoder, along);
    be.scale_columns(along, inverse);
    be.row_dots(g.encoder, p.encoder, work);
    be.axpy(real{-1}, along, work);
    be.copy(const_view<B>(g.encoder_bias), along.all());
    be.scale_columns(along, p.encoder_bias);
    be.axpy(real{1}, along, work);  // coefficient of u
    be.affine_rows(g.decoder, zero, inverse, g.decoder);
    matrix<real, B> part(be, g.decoder.rows(), g.decoder.cols());
    be.affine_rows(parameters.decoder, zero, work, part);
    be.axpy(real{1}, part, g.decoder);
    be.affine_rows(g.encoder, zero, norms, g.encoder);
    be.scale_columns(g.encoder_bias, norms);
  }

 private:
  matrix<real, B> zero;
  matrix<real, B> work;
};

}  // namespace plmscope
