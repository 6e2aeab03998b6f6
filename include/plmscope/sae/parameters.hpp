// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/tensor/matrix.hpp>

#include <cstddef>
#include <string>
#include <utility>
#include <vector>

namespace plmscope::inline PLMSCOPE_ABI {

/// What a sparsifier learns: one number per latent, such as its threshold, [1, F], or a matrix of its
/// own, such as a router.
template <class B>
struct latent_vector {
  std::string name;
  matrix<typename B::real, B> values;
};

/// The trainable numbers of an SAE; gradients and optimizer moments have the same shape. Both
/// matrices have one row per latent: its encoder and its decoder direction.
template <class B>
struct sae_parameters {
  using real = typename B::real;
  matrix<real, B> encoder;       ///< [F, d_in]
  matrix<real, B> decoder;       ///< [F, d_out]
  matrix<real, B> encoder_bias;  ///< [1, F]
  matrix<real, B> decoder_bias;  ///< [1, d_out]
  matrix<real, B> input_bias;    ///< [1, d_in], or absent
  matrix<real, B> skip;          ///< [d_out, d_in], or absent
  std::vector<latent_vector<B>> latent;  ///< the sparsifier's

  sae_parameters() = default;
  sae_parameters(B& be, std::size_t features, std::size_t d)
      : sae_parameters(be, features, d, d) {}
  sae_parameters(B& be, std::size_t features, std::size_t d_in, std::size_t d_out)
      : encoder(be, features, d_in),
        decoder(be, features, d_out),
        encoder_bias(be, 1, features),
        decoder_bias(be, 1, d_out) {}

  /// Zeros in the shape of these.
  sae_parameters zeros_like(B& be) const {
    sae_parameters z = vectors_like(be);
    z.encoder = matrix<real, B>(be, encoder.rows(), encoder.cols());
    z.decoder = matrix<real, B>(be, decoder.rows(), decoder.cols());
    if (!skip.empty()) z.skip = matrix<real, B>(be, skip.rows(), skip.cols());
    return z;
  }

  /// Zeros in the shape of the vectors; the matrices are empty.
  sae_parameters vectors_like(B& be) const {
    sae_parameters z;
    z.encoder_bias = matrix<real, B>(be, 1, encoder_bias.cols());
    z.decoder_bias = matrix<real, B>(be, 1, decoder_bias.cols());
    if (!input_bias.empty()) z.input_bias = matrix<real, B>(be, 1, input_bias.cols());
    for (const auto& v : latent) {
      z.latent.push_back({v.name, matrix<real, B>(be, v.values.rows(), v.values.cols())});
    }
    return z;
  }

  /// f(name, matrix) for what there is, in file order.
  template <class F>
  void for_each(const F& f) {
    visit(*this, f);
  }
  template <class F>
  void for_each(const F& f) const {
    visit(*this, f);
  }

 private:
  template <class Self, class F>
  static void visit(Self& p, const F& f) {
    if (!p.encoder.empty()) f("encoder", p.encoder);
    if (!p.decoder.empty()) f("decoder", p.decoder);
    f("encoder_bias", p.encoder_bias);
    f("decoder_bias", p.decoder_bias);
    if (!p.input_bias.empty()) f("input_bias", p.input_bias);
    if (!p.skip.empty()) f("skip", p.skip);
    for (auto& v : p.latent) f(v.name.c_str(), v.values);
  }
};

/// f(a.x, b.x, ..) for every matrix x of sets of parameters of one shape.
template <class F, class First, class... More>
void for_each_together(const F& f, First& first, More&... more) {
  f(first.encoder, more.encoder...);
  f(first.decoder, more.decoder...);
  f(first.encoder_bias, more.encoder_bias...);
  f(first.decoder_bias, more.decoder_bias...);
  if (!first.input_bias.empty()) f(first.input_bias, more.input_bias...);
  if (!first.skip.empty()) f(first.skip, more.skip...);
  for (std::size_t i = 0; i < first.latent.size(); ++i) {
    f(first.latent[i].values, more.latent[i].values...);
  }
}

}  // namespace plmscope::inline PLMSCOPE_ABI
