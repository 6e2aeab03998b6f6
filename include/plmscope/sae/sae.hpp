// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/backend/cpu.hpp>
#include <plmscope/core/activation_source.hpp>
#include <plmscope/core/rng.hpp>
#include <plmscope/sae/concepts.hpp>
#include <plmscope/sae/decoder_scaled.hpp>
#include <plmscope/sae/normalizer.hpp>
#include <plmscope/sae/parameters.hpp>
#include <plmscope/sae/rules.hpp>
#include <plmscope/sae/sparsifiers/top_k.hpp>
#include <plmscope/tensor/codes.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

namespace plmscope::inline PLMSCOPE_ABI {

/// A sparse autoencoder: n = normalise(x), a = W_e (n - b_d) + b_e, z = sparsify(a),
/// n' = W_d^T z + b_d, x' = invert(n') (Cunningham et al. 2023; Gao et al. 2024). It knows nothing
/// of where rows come from; any activation matrix will do.
template <class Sparsifier = top_k, class Backend = cpu>
class sae {
  static_assert(require_sparsifier<Sparsifier, Backend>::value);

 public:
  using real = typename Backend::real;
  using backend_type = Backend;
  using sparsifier_type = Sparsifier;

  struct options {
    std::size_t d_model = 0;
    std::size_t features = 0;
    Sparsifier sparsifier = {};
    normalizer normalize = {};
    /// Codes carry the length of their decoder row: selection ranks a_i |w_i|, and x' is built from
    /// unit rows (SAELens). Gradients flow through the lengths.
    bool scale_by_decoder_norm = false;
    std::uint64_t seed = 0;
  };

  /// Decoder rows are random unit vectors, the encoder starts as a copy of the decoder, biases at
  /// zero. Equal seeds give equal bits on every backend of the same precision.
  explicit sae(options o, Backend be = Backend()) : be_(std::move(be)), options_(std::move(o)) {
    if (options_.d_model == 0 || options_.features == 0) {
      throw error(rules::sae_options, {.found = "d_model " + std::to_string(options_.d_model) +
                                                ", features " + std::to_string(options_.features)});
    }
    options_.normalize.check(options_.d_model);
    parameters_ = sae_parameters<Backend>(be_, options_.features, options_.d_model);
    const rng random(options_.seed, 0x5ae);
    std::vector<double> directions(options_.features * options_.d_model);
    for (std::size_t i = 0; i < directions.size(); ++i) directions[i] = random.normal(i);
    be_.upload(std::span<const double>(directions), parameters_.decoder.all());
    be_.normalize_rows(parameters_.decoder, real{0});
    be_.copy(const_view<Backend>(parameters_.decoder), parameters_.encoder.all());
  }

  std::size_t d_model() const noexcept { return options_.d_model; }
  std::size_t features() const noexcept { return options_.features; }
  Backend& backend() noexcept { return be_; }
  Sparsifier& sparsifier() noexcept { return options_.sparsifier; }
  const Sparsifier& sparsifier() const noexcept { return options_.sparsifier; }
  const normalizer& normalization() const noexcept { return options_.normalize; }
  bool scales_by_decoder_norm() const noexcept { return options_.scale_by_decoder_norm; }
  void set_normalization(normalizer n) {
    n.check(options_.d_model);
    options_.normalize = std::move(n);
  }
  sae_parameters<Backend>& parameters() noexcept { return parameters_; }
  const sae_parameters<Backend>& parameters() const noexcept { return parameters_; }

  /// Parent of the activations it was trained on; checked when files are opened.
  activation_source source;
  /// What is known of the training, for people: written to the file as `training.KEY`.
  std::map<std::string, std::string> training_record;

  /// Rows of the batch -> sparse codes. Cost: one dense product [m, d] x [d, F]; memory: one tile of
  /// pre-activations, never [m, F].
  void encode(const_view<Backend> x, codes<Backend>& out) {
    centred(x);
    select(centred_, options_.sparsifier, out);
  }

  /// Codes of the batch last encoded -> reconstructions at the scale of the activations, [m, d].
  /// With per-row normalisation these must be the codes of the batch last encoded (`sae_codes`).
  void decode(const codes<Backend>& z, view<Backend> out) {
    const bool per_row = options_.normalize.kind == plmscope::normalization::token_layer_norm;
    if (z.features() != features() || out.cols() != d_model() || out.rows() != z.rows() ||
        (per_row && context_.mean.cols() != z.rows())) {
      throw error(rules::sae_codes,
                  {.expected = "codes over " + std::to_string(features()) + " features into [" +
                               std::to_string(z.rows()) + ", " + std::to_string(d_model()) + "]",
                   .found = std::to_string(z.features()) + " features into [" +
                            std::to_string(out.rows()) + ", " + std::to_string(out.cols()) + "]"});
    }
    if (options_.scale_by_decoder_norm) scaled_.refresh(be_, parameters_);
    be_.decode(z, directions().decoder, parameters_.decoder_bias, out);
    options_.normalize.invert(be_, out, context_);
  }

  /// x' of each row. `z`, when given, receives the codes.
  void reconstruct(const_view<Backend> x, view<Backend> out, codes<Backend>* z = nullptr) {
    codes<Backend>& used = z == nullptr ? codes_ : *z;
    encode(x, used);
    decode(used, out);
  }

  // Pieces of the forward pass, for training.

  /// n of the last batch handed to `centred`.
  const_view<Backend> normalized() const noexcept { return normalized_; }
  normalizer::context<Backend>& normalizer_context() noexcept { return context_; }

  /// The parameters as the forward pass uses them: their own, or scaled by decoder row lengths.
  const sae_parameters<Backend>& directions() const noexcept {
    return options_.scale_by_decoder_norm ? scaled_.parameters : parameters_;
  }

  /// Turns a gradient with respect to `directions()` into one with respect to `parameters()`.
  void pull_back(sae_parameters<Backend>& gradient) {
    if (options_.scale_by_decoder_norm) scaled_.pull_back(be_, parameters_, gradient);
  }

  /// n - b_d, [m, d]; valid until the next call.
  const_view<Backend> centred(const_view<Backend> x) {
    if (x.cols() != d_model()) {
      throw error(rules::sae_width, {.expected = "rows of width " + std::to_string(d_model()),
                                     .found = "width " + std::to_string(x.cols())});
    }
    if (options_.scale_by_decoder_norm) scaled_.refresh(be_, parameters_);
    normalized_.reshape(be_, x.rows(), x.cols());
    options_.normalize.apply(be_, x, normalized_.all(), context_);
    centred_.reshape(be_, x.rows(), x.cols());
    be_.copy(const_view<Backend>(normalized_), centred_.all());
    be_.add_row(centred_, parameters_.decoder_bias, real{-1});
    return centred_;
  }

  /// Codes of centred rows, tile by tile of pre-activations.
  void select(const_view<Backend> centred_rows, const Sparsifier& sparsify, codes<Backend>& out) {
    out.clear(be_, features());
    constexpr std::size_t tile_bytes = std::size_t{48} << 20;
    const std::size_t tile =
        std::clamp<std::size_t>(tile_bytes / (features() * sizeof(real)) / 512 * 512, 512, 8192);
    for (std::size_t first = 0; first < centred_rows.rows(); first += tile) {
      const std::size_t rows = std::min(tile, centred_rows.rows() - first);
      pre_.reshape(be_, rows, features());
      be_.gemm_nt(centred_rows.row_range(first, rows), directions().encoder, pre_);
      be_.add_row(pre_, directions().encoder_bias);
      sparsify.select(be_, const_view<Backend>(pre_), out);
    }
  }

 private:
  Backend be_;
  options options_;
  sae_parameters<Backend> parameters_;
  decoder_scaled<Backend> scaled_;
  matrix<real, Backend> normalized_;
  matrix<real, Backend> centred_;
  matrix<real, Backend> pre_;
  normalizer::context<Backend> context_;
  codes<Backend> codes_;
};

}  // namespace plmscope
