// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/tensor/matrix.hpp>

#include <cstddef>

namespace plmscope::inline PLMSCOPE_ABI {

/// The trainable numbers of an SAE; gradients and optimizer moments have the same shape. Both
/// matrices are [features, width]: a latent's encoder and decoder directions are rows.
template <class B>
struct sae_parameters {
  using real = typename B::real;
  matrix<real, B> encoder;       ///< [F, d]
  matrix<real, B> decoder;       ///< [F, d]
  matrix<real, B> encoder_bias;  ///< [1, F]
  matrix<real, B> decoder_bias;  ///< [1, d]; subtracted from the input and added to the output

  sae_parameters() = default;
  sae_parameters(B& be, std::size_t features, std::size_t d)
      : encoder(be, features, d),
        decoder(be, features, d),
        encoder_bias(be, 1, features),
        decoder_bias(be, 1, d) {}

  /// f(name, matrix), in file order.
  template <class F>
  void for_each(const F& f) {
    f("encoder", encoder);
    f("decoder", decoder);
    f("encoder_bias", encoder_bias);
    f("decoder_bias", decoder_bias);
  }
  template <class F>
  void for_each(const F& f) const {
    f("encoder", encoder);
    f("decoder", decoder);
    f("encoder_bias", encoder_bias);
    f("decoder_bias", decoder_bias);
  }
};

}  // namespace plmscope
