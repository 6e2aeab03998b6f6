// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/backend/cpu.hpp>
#include <plmscope/backend/precision.hpp>
#include <plmscope/core/activation_source.hpp>
#include <plmscope/core/rng.hpp>
#include <plmscope/sae/concepts.hpp>
#include <plmscope/sae/decoder_scaled.hpp>
#include <plmscope/sae/encoder_tiles.hpp>
#include <plmscope/sae/normalizer.hpp>
#include <plmscope/sae/parameters.hpp>
#include <plmscope/sae/row_encoder.hpp>
#include <plmscope/sae/row_lengths.hpp>
#include <plmscope/sae/rules.hpp>
#include <plmscope/sae/screening.hpp>
#include <plmscope/sae/selection.hpp>
#include <plmscope/sae/sparsifiers/top_k.hpp>
#include <plmscope/tensor/codes.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace plmscope::inline PLMSCOPE_ABI {

/// What is subtracted from the input before it is encoded.
enum class input_centring {
  decoder_bias,  ///< the decoder's bias, shared (Bricken et al. 2023)
  own_bias,      ///< a bias of its own
  none
};

/// What the length of a decoder row does besides writing.
enum class row_lengths {
  free,     ///< nothing
  in_codes, ///< codes carry it: selection ranks a_i |w_i|, the result is built from unit rows, and
            ///< gradients flow through the lengths (SAELens)
  rank      ///< selection ranks a_i |w_i|, values stay a_i, no gradient (crosscoders)
};

/// A sparse autoencoder or transcoder: n = normalise(x), a = W_e (n - b) + b_e, z = sparsify(a),
/// n' = W_d^T z + b_d (+ W_s n), y' = invert(n') (Cunningham et al. 2023; Gao et al. 2024; Dunefsky
/// et al. 2024). It knows nothing of where rows come from; any activation matrix will do.
template <class Sparsifier = top_k, class Backend = cpu>
class sae {
  static_assert(require_sparsifier<Sparsifier, Backend>::value);

 public:
  using real = typename Backend::real;
  using backend_type = Backend;
  using sparsifier_type = Sparsifier;

  struct options {
    std::size_t d_model = 0;   ///< width of the rows that come in
    std::size_t features = 0;
    Sparsifier sparsifier = {};
    normalizer normalize = {};
    std::size_t d_out = 0;     ///< width of the rows that come out; 0: d_model
    /// How the rows that come out are scaled. Transcoders have their own; an autoencoder's results
    /// are brought back by `normalize`.
    normalizer normalize_out = {};
    input_centring centring = input_centring::decoder_bias;
    bool unit_input = false;   ///< centred rows are brought to length 1 (BioNeMo's ReLU SAE)
    bool skip = false;         ///< adds a linear map of n (skip transcoder)
    bool transcodes = false;   ///< the result is measured against rows of another site
    row_lengths lengths = row_lengths::free;
    /// Sites side by side in a row (crosscoder): the length of a decoder row is then the sum of the
    /// lengths of that many equal parts.
    std::size_t blocks = 1;
    /// Of the encoder's product; parameters, selection and everything else stay as they are. With bf16
    /// codes differ in the third digit, and rows of a batch do not share a rounding with fp32 codes.
    product_precision encoder_product = product_precision::fp32;
    /// fp32 codes to the bit, faster: a product in bf16 with a proven error finds the entries that can
    /// be selected, and those alone are computed in fp32. For sparsifiers with `reads()` (TopK) on
    /// processors with AVX512-BF16; elsewhere the product is what it is without.
    bool screen = false;
    std::uint64_t seed = 0;
  };

  /// Decoder rows are random unit vectors, the encoder starts as a copy of the decoder (of its own
  /// random rows where the widths differ), biases and the skip map at zero. Equal seeds give equal
  /// bits on every backend of the same precision.
  explicit sae(options o, Backend be = Backend()) : be_(std::move(be)), options_(std::move(o)) {
    if (options_.d_out == 0) options_.d_out = options_.d_model;
    check();
    parameters_ = sae_parameters<Backend>(be_, features(), d_model(), d_out());
    if (options_.centring == input_centring::own_bias) {
      parameters_.input_bias = matrix<real, Backend>(be_, 1, d_model());
    }
    if (options_.skip) parameters_.skip = matrix<real, Backend>(be_, d_out(), d_model());
    own_parameters();
    random_rows(parameters_.decoder, 0x5ae);
    if (d_out() == d_model()) {
      be_.copy(const_view<Backend>(parameters_.decoder), parameters_.encoder.all());
    } else {
      random_rows(parameters_.encoder, 0x5af);
    }
  }

  std::size_t d_model() const noexcept { return options_.d_model; }
  std::size_t d_out() const noexcept { return options_.d_out; }
  std::size_t features() const noexcept { return options_.features; }
  const options& settings() const noexcept { return options_; }
  Backend& backend() noexcept { return be_; }
  Sparsifier& sparsifier() noexcept { return options_.sparsifier; }
  const Sparsifier& sparsifier() const noexcept { return options_.sparsifier; }
  const normalizer& normalization() const noexcept { return options_.normalize; }
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
    select(centred(x), options_.sparsifier, out);
  }

  /// Codes of the batch last encoded -> its results at the scale of the rows that come out [m, d_out].
  /// With per-row normalisation or a skip map these must be the codes of the batch last encoded
  /// (`sae_codes`).
  void decode(const codes<Backend>& z, view<Backend> out) {
    const bool per_row = options_.skip || adds_offset || (!options_.transcodes &&
                                           options_.normalize.kind ==
                                               plmscope::normalization::token_layer_norm);
    if (z.features() != features() || out.cols() != d_out() || out.rows() != z.rows() ||
        (per_row && normalized_.rows() != z.rows())) {
      throw error(rules::sae_codes,
                  {.expected = "codes over " + std::to_string(features()) + " features into [" +
                               std::to_string(z.rows()) + ", " + std::to_string(d_out()) + "]",
                   .found = std::to_string(z.features()) + " features into [" +
                            std::to_string(out.rows()) + ", " + std::to_string(out.cols()) + "]"});
    }
    refresh();
    be_.decode(z, directions().decoder, parameters_.decoder_bias, out);
    if (options_.skip) be_.gemm_nt(normalized_, parameters_.skip, out, real{1});
    if constexpr (adds_offset) {
      const auto beside = options_.sparsifier.offset(be_, directions(), encoded_);
      if (!beside.empty()) be_.axpy(real{1}, beside, out);
    }
    result_normalizer().invert(be_, out, result_context());
  }

  /// The result for each row. `z`, when given, receives the codes.
  void reconstruct(const_view<Backend> x, view<Backend> out, codes<Backend>* z = nullptr) {
    codes<Backend>& used = z == nullptr ? codes_ : *z;
    encode(x, used);
    decode(used, out);
  }

  // Pieces of the forward pass, for training.

  /// n of the last batch handed to `centred`.
  const_view<Backend> normalized() const noexcept { return normalized_; }
  normalizer::context<Backend>& normalizer_context() noexcept { return context_; }
  /// What brings results back to the scale of the rows that come out, and what it needs of the batch.
  const normalizer& result_normalizer() const noexcept {
    return options_.transcodes ? options_.normalize_out : options_.normalize;
  }
  normalizer::context<Backend>& result_context() noexcept {
    return options_.transcodes ? out_context_ : context_;
  }

  /// What the result should be, at the scale of the dictionary: n itself, or the normalised rows of
  /// the other site.
  const_view<Backend> target(const_view<Backend> y) {
    if (!options_.transcodes) return normalized_;
    if (y.cols() != d_out() || y.rows() != normalized_.rows()) {
      throw error(rules::sae_width,
                  {.expected = "target rows of width " + std::to_string(d_out()),
                   .found = "[" + std::to_string(y.rows()) + ", " + std::to_string(y.cols()) + "]"});
    }
    target_.reshape(be_, y.rows(), y.cols());
    options_.normalize_out.apply(be_, y, target_.all(), out_context_);
    return target_;
  }

  /// The parameters as the forward pass uses them: their own, or scaled by decoder row lengths.
  const sae_parameters<Backend>& directions() const noexcept {
    return options_.lengths == row_lengths::in_codes ? scaled_.parameters : parameters_;
  }

  /// Turns a gradient with respect to `directions()` into one with respect to `parameters()`.
  void pull_back(sae_parameters<Backend>& gradient) {
    if (options_.lengths == row_lengths::in_codes) scaled_.pull_back(be_, parameters_, gradient);
  }

  /// Lengths of the decoder's rows as selection sees them, [1, F]; empty unless `lengths` is `rank`.
  const_view<Backend> rank_scale() const noexcept { return rank_; }
  const unit_rows<Backend>& input_lengths() const noexcept { return unit_; }

  /// n - b, [m, d]; valid until the next call.
  const_view<Backend> centred(const_view<Backend> x) {
    if (x.cols() != d_model()) {
      throw error(rules::sae_width, {.expected = "rows of width " + std::to_string(d_model()),
                                     .found = "width " + std::to_string(x.cols())});
    }
    refresh();
    normalized_.reshape(be_, x.rows(), x.cols());
    options_.normalize.apply(be_, x, normalized_.all(), context_);
    if (options_.centring == input_centring::none && !options_.unit_input) return normalized_;
    centred_.reshape(be_, x.rows(), x.cols());
    be_.copy(const_view<Backend>(normalized_), centred_.all());
    if (options_.centring == input_centring::decoder_bias) {
      be_.add_row(centred_, parameters_.decoder_bias, real{-1});
    } else if (options_.centring == input_centring::own_bias) {
      be_.add_row(centred_, parameters_.input_bias, real{-1});
    }
    if (options_.unit_input) unit_.apply(be_, centred_);
    return centred_;
  }

  /// Codes of centred rows, tile by tile of pre-activations.
  template <class S>
  void select(const_view<Backend> centred_rows, const S& sparsify, codes<Backend>& out) {
    out.clear(be_, features());
    if constexpr (row_encoder_for<S, Backend>) {
      static_assert(std::is_same_v<S, Sparsifier>);
      sparsify.encode(be_, encoder_rows(centred_rows), out, encoded_);
      return;
    } else {
      select_tiles(centred_rows, sparsify, out);
    }
  }

  /// What an encoder of its own reads of the batch last handed to `centred`.
  encoder_input<Backend> encoder_rows(const_view<Backend> centred_rows) const {
    return {directions(), normalized_, centred_rows, encoder_tiles<Backend>::rows(features())};
  }

  /// f(pre) for the pre-activations of centred rows, tile by tile [.., F], in order; with `rank`, times
  /// the lengths of the decoder's rows.
  template <class F>
  void for_each_tile(const_view<Backend> centred_rows, const F& f) {
    tiles_.each(be_, encoder(), centred_rows, f);
  }

  /// The same where f does nothing with a tile but let an S select from it: with `screen` it may be
  /// the backend's `screened_rows`.
  template <class S, class F>
  void for_each_tile_for(const_view<Backend> centred_rows, const F& f) {
    if constexpr (sae_concepts::selects_screened<S, Backend>) {
      if (options_.screen) return tiles_.each_screened(be_, encoder(), centred_rows, f);
    }
    for_each_tile(centred_rows, f);
  }

  /// What `screen` has cost since the start.
  const screening_record& screening() const noexcept { return tiles_.record(); }

  /// Values of entries selected from tiles, as the decoder takes them.
  void unscale(codes<Backend>& z) {
    if (rank_.empty()) return;
    be_.each_entry(z, times_by_feature<real>{z.values(), rank_inverse_.data()});
  }

 private:
  static constexpr bool adds_offset = sae_concepts::has_offset<Sparsifier, Backend>;

  typename encoder_tiles<Backend>::encoder encoder() const {
    const auto& p = directions();
    const bool biased = sae_concepts::adds_encoder_bias<Sparsifier>;
    return {p.encoder, biased ? const_view<Backend>(p.encoder_bias) : const_view<Backend>(), rank_,
            options_.encoder_product};
  }

  // What the sparsifier learns beside the dictionary.
  void own_parameters() {
    auto& s = options_.sparsifier;
    const auto add = [&](std::string_view name, std::size_t rows, std::size_t cols, bool random) {
      parameters_.latent.push_back({std::string(name), matrix<real, Backend>(be_, rows, cols)});
      if (random) {
        random_rows(parameters_.latent.back().values, 0x5b0 + parameters_.latent.size());
      }
    };
    if constexpr (requires { Sparsifier::vectors; }) {
      for (const auto& v : Sparsifier::vectors) add(v, 1, features(), false);
    }
    if constexpr (sae_concepts::has_matrices<Sparsifier, options>) s.matrices(options_, add);
    if constexpr (requires { s.start(be_, parameters_); }) s.start(be_, parameters_);
  }

  template <class S>
  void select_tiles(const_view<Backend> centred_rows, const S& sparsify, codes<Backend>& out) {
    const selection<Backend> in{parameters_, centred_rows.rows(), rank_};
    for_each_tile_for<S>(centred_rows,
                         [&](const auto& pre) { select_rows(be_, sparsify, pre, in, out); });
    unscale(out);
    if constexpr (requires { sparsify.activate(be_, parameters_, out); }) {
      sparsify.activate(be_, parameters_, out);
    }
  }

  void check() {
    const auto refuse = [&](const std::string& found) {
      throw error(rules::sae_options, {.found = found});
    };
    const auto& o = options_;
    if (o.d_model == 0 || o.features == 0) {
      refuse("d_model " + std::to_string(o.d_model) + ", features " + std::to_string(o.features));
    }
    if (o.d_out != o.d_model && !o.transcodes) refuse("two widths without `transcodes`");
    if (o.d_out != o.d_model && o.centring == input_centring::decoder_bias) {
      refuse("centring by a decoder bias of another width");
    }
    if (o.blocks == 0 || o.d_out % o.blocks != 0) {
      refuse(std::to_string(o.blocks) + " blocks of a width of " + std::to_string(o.d_out));
    }
    if (o.blocks > 1 && o.lengths == row_lengths::in_codes) refuse("blocks with lengths in codes");
    if (o.normalize_out.kind == plmscope::normalization::token_layer_norm) {
      refuse("results that only their own targets could bring back");
    }
    if constexpr (!requires { be_.with(product_precision::bf16); }) {
      if (o.encoder_product != product_precision::fp32) refuse("a backend with one precision only");
    } else if (o.encoder_product != product_precision::fp32) {
      static_cast<void>(be_.with(o.encoder_product));  // refuses what the processor lacks
    }
    options_.normalize.check(o.d_model);
    options_.normalize_out.check(o.d_out);
    if constexpr (requires { options_.sparsifier.check(std::size_t{}); }) {
      options_.sparsifier.check(o.features);
    } else if constexpr (requires { options_.sparsifier.check(o); }) {
      options_.sparsifier.check(o);
    }
    if (row_encoder_for<Sparsifier, Backend> && o.encoder_product != product_precision::fp32) {
      refuse("another precision for an encoder of its own");
    }
  }

  void random_rows(view<Backend> to, std::uint64_t stream) {
    const rng random(options_.seed, stream);
    std::vector<double> directions(to.size());
    for (std::size_t i = 0; i < directions.size(); ++i) directions[i] = random.normal(i);
    be_.upload(std::span<const double>(directions), to);
    be_.normalize_rows(to, real{0});
  }

  void refresh() {
    if (options_.lengths == row_lengths::in_codes) scaled_.refresh(be_, parameters_);
    if (options_.lengths != row_lengths::rank) return;
    rank_.reshape(be_, 1, features());
    rank_inverse_.reshape(be_, 1, features());
    block_lengths(be_, const_view<Backend>(parameters_.decoder), options_.blocks, rank_.all());
    be_.reciprocal(real{1}, rank_, rank_inverse_);
  }

  Backend be_;
  options options_;
  sae_parameters<Backend> parameters_;
  decoder_scaled<Backend> scaled_;
  unit_rows<Backend> unit_;
  matrix<real, Backend> normalized_, centred_, target_, rank_, rank_inverse_;
  normalizer::context<Backend> context_, out_context_;
  codes<Backend> codes_;
  // Of the batch last encoded, where the sparsifier encodes rows by itself.
  struct nothing {};
  std::conditional_t<row_encoder_for<Sparsifier, Backend>,
                     typename sae_concepts::state_of<Sparsifier, Backend>::type, nothing>
      encoded_;
  encoder_tiles<Backend> tiles_;
};

}  // namespace plmscope::inline PLMSCOPE_ABI
