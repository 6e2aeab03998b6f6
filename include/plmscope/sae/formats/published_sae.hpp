// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/sae/description.hpp>
#include <plmscope/sae/formats/published_file.hpp>
#include <plmscope/sae/rules.hpp>

#include <cmath>
#include <cstddef>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace plmscope::inline PLMSCOPE_ABI {

/// What the user knows of a published SAE that its file does not say. What is stated is kept in the
/// SAE's record as `stated.NAME` and survives saving.
struct stated_sae {
  std::string library = {};     ///< the library that wrote it, where several write such files
  std::string sparsifier = {};  ///< which rule of selection, by our id
  std::optional<std::size_t> k = {};
  std::optional<std::size_t> chosen = {};  ///< of a mixture: blocks that see a row
  std::optional<bool> normalized =
      {};  ///< whether rows are normalised one by one, as the library does
  std::optional<bool> transcoder = {};
  std::optional<double> norm_factor = {};      ///< training divided its rows by this
  std::optional<bool> relative_variance = {};  ///< of a crosscoder: keep_relative_variance
  std::optional<std::size_t> layer = {};       ///< which file of a folder with one for each layer
  std::string model = {};
  std::string model_hash = {};
  std::string site = {};         ///< ours, for example `resid_post.23`
  std::string target_site = {};  ///< of a transcoder
};

/// A published SAE, read and understood: numbers with one row per latent, and how they are used.
struct published_sae {
  std::string library;
  sae_description description;
  std::vector<float> encoder;                        ///< [F, d_model]
  std::vector<float> decoder;                        ///< [F, d_out]
  std::vector<float> encoder_bias;                   ///< [F]
  std::vector<float> decoder_bias;                   ///< [d_out]
  std::vector<float> input_bias;                     ///< [d_model], or absent
  std::vector<float> skip;                           ///< [d_out, d_model], or absent
  std::map<std::string, std::vector<float>> latent;  ///< [F] each: the sparsifier's
};

/// One reading of a file: what readers of formats work with.
struct sae_reading {
  published_file& file;
  const stated_sae& stated;
  published_sae out = {};
  std::set<std::string, std::less<>> asked = {};

  sae_description& description() { return out.description; }
  void widths(std::size_t d, std::size_t features) {
    out.description.d_model = out.description.d_out = d;
    out.description.features = features;
  }

  /// What the file says, else what is stated. Both, and not the same: `sae_contradicted`. Neither:
  /// `sae_not_stated` with `remedy`.
  template <class T>
  T agree(const std::string& name, const std::optional<T>& in_file, const std::optional<T>& said,
          const std::string& remedy) {
    asked.insert(name);
    if (in_file && said && !(*in_file == *said)) {
      throw error(rules::sae_contradicted, {.where = file.where(),
                                            .expected = name + " " + text_of(*in_file),
                                            .found = text_of(*said) + ", as stated"});
    }
    if (in_file) return *in_file;
    if (said) return *said;
    throw error(rules::sae_not_stated, {.where = file.where(),
                                        .expected = "a statement of " + name,
                                        .found = "nothing in the file",
                                        .remedy = remedy});
  }

  std::size_t k(const std::optional<std::size_t>& in_file) {
    const std::size_t k =
        agree("k", in_file, stated.k, "state how many latents a row keeps: --k 64 (stated_sae::k)");
    if (k > 0 && k <= description().features) return k;
    throw error(rules::sae_settings, {.where = file.where() + ", k",
                                      .expected = "1 to " + std::to_string(description().features),
                                      .found = std::to_string(k)});
  }
  bool normalized(const std::optional<bool>& in_file) {
    return agree("normalized", in_file, stated.normalized,
                 "state whether its rows were normalised one by one: --normalized yes or no "
                 "(stated_sae::normalized)");
  }
  std::string sparsifier(const std::optional<std::string>& in_file, const std::string& choices) {
    const std::optional<std::string> said =
        stated.sparsifier.empty() ? std::optional<std::string>() : stated.sparsifier;
    return agree("sparsifier", in_file, said,
                 "state which: --sparsifier " + choices + " (stated_sae::sparsifier)");
  }

  void top_k(std::size_t k) {
    description().sparsifier = "top_k";
    description().sparsifier_fields = {{"k", std::to_string(k)}};
  }
  void batch_top_k(double k, double threshold) {
    description().sparsifier = "batch_top_k";
    description().sparsifier_fields = {{"k", sae_fields::text(k)},
                                       {"threshold", sae_fields::text(threshold)}};
  }
  /// z = relu(a) where a > threshold: a threshold below 0 keeps what is positive.
  void jump_relu(std::vector<float> thresholds) {
    description().sparsifier = "jump_relu";
    for (float& t : thresholds) t = t > 0 ? t : 0;
    out.latent["threshold"] = std::move(thresholds);
  }
  /// (x - mean) / (deviation + epsilon) per row and back by the plain deviation.
  void layer_norm(std::size_t ddof, double epsilon, double inverse_epsilon = 0) {
    description().normalizer = {.kind = normalization::token_layer_norm,
                                .epsilon = epsilon,
                                .inverse_epsilon = inverse_epsilon,
                                .ddof = ddof};
  }
  /// x sqrt(d) / |x| per row and back.
  void unit_mean_square() {
    description().normalizer = {.kind = normalization::token_layer_norm,
                                .epsilon = 0,
                                .inverse_epsilon = 0,
                                .centred = false};
  }
  void record(const std::string& key, const std::string& value) {
    if (!value.empty()) description().training_record[key] = value;
  }

  /// Decoder rows become unit vectors; encoder rows and biases take their lengths over, so that
  /// reconstructions stay and codes carry them. Rows of zeros stay.
  void fold_decoder_lengths() {
    const std::size_t d = description().d_model, d_out = description().d_out;
    for (std::size_t f = 0; f < description().features; ++f) {
      double squares = 0;
      for (std::size_t j = 0; j < d_out; ++j) {
        const double w = static_cast<double>(out.decoder[f * d_out + j]);
        squares += w * w;
      }
      const double length = std::sqrt(squares);
      if (!(length > 0)) continue;
      const auto times = [](float& v, double by) {
        v = static_cast<float>(static_cast<double>(v) * by);
      };
      for (std::size_t j = 0; j < d_out; ++j) times(out.decoder[f * d_out + j], 1 / length);
      for (std::size_t j = 0; j < d; ++j) times(out.encoder[f * d + j], length);
      times(out.encoder_bias[f], length);
    }
  }

  [[noreturn]] void cannot(const std::string& feature, const std::string& remedy = {}) const {
    throw error(rules::sae_not_expressible,
                {.where = file.where(), .found = feature, .remedy = remedy});
  }

 private:
  static std::string text_of(const std::string& s) { return s; }
  static std::string text_of(bool b) { return b ? "yes" : "no"; }
  static std::string text_of(std::size_t n) { return std::to_string(n); }
  static std::string text_of(double v) { return sae_fields::text(v); }
};

}  // namespace plmscope::inline PLMSCOPE_ABI
