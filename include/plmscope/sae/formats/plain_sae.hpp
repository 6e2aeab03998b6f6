// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/core/view.hpp>
#include <plmscope/sae/description.hpp>
#include <plmscope/sae/rules.hpp>
#include <plmscope/sae/sae.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <map>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace plmscope::inline PLMSCOPE_ABI {

/// An SAE in the few forms that SAELens has, everything else folded into the numbers, in double:
///   fixed normalisation n = (x - m) / s:  W_e / s,  b_d s + m,  W_d s,  and b_e less W_e m where
///     b_d is not subtracted from the input;
///   a bias of one's own, or of a transcoder:  b_e less W_e b;
///   codes that carry decoder lengths n:  W_e n, b_e n, W_d / n;
///   BatchTopK, and JumpReLU ranked by lengths:  a > t / n, JumpReLU.
/// Rows that are normalised one by one stay so. The biased deviation is folded into the weights and
/// small epsilons are taken for SAELens' own, which changes a code by at most 1e-5 over the row's
/// deviation, relatively.
struct plain_sae {
  std::string architecture;
  std::string normalize_activations = "none";
  bool centred = false;  ///< b_d is subtracted from the input
  std::size_t d_in = 0, d_out = 0, features = 0;
  std::size_t k = 0;  ///< of topk and abstopk
  std::vector<double> encoder, decoder, encoder_bias, decoder_bias, skip;
  std::map<std::string, std::vector<double>> latent;  ///< by SAELens' names

  template <class S, class B>
  static plain_sae of(sae<S, B>& model) {
    const sae_description d = describe_sae(model);
    plain_sae p;
    p.d_in = d.d_model;
    p.d_out = d.d_out;
    p.features = d.features;
    std::map<std::string, std::vector<double>> numbers;
    model.parameters().for_each([&](const std::string& name, auto& m) {
      auto& to = numbers[name];
      to.resize(m.size());
      model.backend().download(const_view<B>(m), std::span<double>(to));
    });
    p.encoder = std::move(numbers["encoder"]);
    p.decoder = std::move(numbers["decoder"]);
    p.encoder_bias = std::move(numbers["encoder_bias"]);
    p.decoder_bias = std::move(numbers["decoder_bias"]);
    p.skip = std::move(numbers["skip"]);
    if (d.unit_input) refuse("rows brought to length 1 after centring (unit_input)");
    const bool transcodes = d.transcodes || d.skip;
    p.choose(d, transcodes, numbers);
    if (d.lengths == row_lengths::in_codes) p.fold_lengths();
    if (d.centring == input_centring::own_bias) p.subtract_from_input(numbers["input_bias"]);
    p.centred = d.centring == input_centring::decoder_bias && !transcodes;
    if (d.centring == input_centring::decoder_bias && transcodes) {
      p.subtract_from_input(p.decoder_bias);
    }
    p.fold(d);
    return p;
  }

 private:
  [[noreturn]] static void refuse(const std::string& feature) {
    throw error(rules::sae_not_exportable, {.found = feature});
  }

  void choose(const sae_description& d, bool transcodes,
              std::map<std::string, std::vector<double>>& numbers) {
    const std::string& s = d.sparsifier;
    const auto field = [&](const char* name) {
      return sae_fields::number<double>(d.sparsifier_fields.at(name), name);
    };
    const bool ranks = d.lengths == row_lengths::rank;
    const std::string ending = transcodes ? d.skip ? "skip_transcoder" : "transcoder" : "";
    if (s == "relu") {
      architecture = transcodes ? ending : "standard";
    } else if (s == "top_k" || s == "abs_top_k") {
      if (transcodes) refuse("a transcoder with " + s);
      if (ranks) refuse("selection of " + s + " by decoder lengths with values without them");
      if (s == "top_k" && field("negatives") != 0) refuse("top_k that keeps negative values");
      architecture = s == "top_k" ? "topk" : "abstopk";
      k = static_cast<std::size_t>(field("k"));
    } else if (s == "batch_top_k" || s == "jump_relu") {
      architecture = transcodes ? "jumprelu_" + ending : "jumprelu";
      auto& t = latent["threshold"];
      if (s == "batch_top_k") {
        t.assign(features, std::max(0.0, field("threshold")));
      } else {
        t = std::move(numbers["threshold"]);
        if (field("log_thresholds") != 0) {
          for (double& v : t) v = std::exp(v);
        }
      }
      for (const double v : t) {
        if (v < 0) refuse("thresholds below 0, which keep negative values");
      }
      if (ranks) divide_by_lengths(t, d.blocks);
    } else if (s == "gated") {
      if (transcodes) refuse("a transcoder with gated");
      architecture = "gated";
      latent["b_gate"] = std::move(numbers["gate_bias"]);
      latent["r_mag"] = std::move(numbers["gate_scale"]);
      if (ranks) refuse("gates by decoder lengths");
    } else {
      refuse("the sparsifier " + s);
    }
  }

  double length(std::size_t f, std::size_t first, std::size_t width) const {
    double squares = 0;
    for (std::size_t j = first; j < first + width; ++j) {
      squares += decoder[f * d_out + j] * decoder[f * d_out + j];
    }
    return std::sqrt(squares);
  }

  void divide_by_lengths(std::vector<double>& thresholds, std::size_t blocks) const {
    const std::size_t width = d_out / blocks;
    for (std::size_t f = 0; f < features; ++f) {
      double sum = 0;
      for (std::size_t b = 0; b < blocks; ++b) sum += length(f, b * width, width);
      thresholds[f] =
          sum > 0 ? thresholds[f] / sum : static_cast<double>(std::numeric_limits<float>::max());
    }
  }

  void fold_lengths() {
    for (std::size_t f = 0; f < features; ++f) {
      const double n = length(f, 0, d_out);
      for (std::size_t j = 0; j < d_in; ++j) encoder[f * d_in + j] *= n;
      for (std::size_t j = 0; j < d_out && n > 0; ++j) decoder[f * d_out + j] /= n;
      if (architecture != "gated") encoder_bias[f] *= n;  // a gate has its biases beside them
    }
  }

  // a = W (n - b) + b_e = W n + (b_e - W b), in both paths of a gated encoder.
  void subtract_from_input(const std::vector<double>& b) {
    for (std::size_t f = 0; f < features; ++f) {
      double sum = 0;
      for (std::size_t j = 0; j < d_in; ++j) sum += encoder[f * d_in + j] * b[j];
      if (architecture == "gated") {
        latent["b_gate"][f] -= sum;
        sum *= std::exp(latent["r_mag"][f]);
      }
      encoder_bias[f] -= sum;
    }
  }

  /// x = s n + m, dimension by dimension.
  struct affine {
    std::vector<double> s, m;
    affine(const normalizer& n, std::size_t d) : s(d, 1.0), m(d, 0.0) {
      if (n.kind == normalization::scalar) s.assign(d, 1 / n.scale);
      if (n.kind == normalization::per_dimension) s = n.deviation, m = n.mean;
    }
  };

  void fold(const sae_description& d) {
    affine in(d.normalizer, d_in);
    if (d.normalizer.kind == normalization::token_layer_norm) {
      if (d.skip) refuse("a skip map of rows that are normalised one by one");
      name_row_normalisation(d.normalizer, in);
    }
    const affine out = d.transcodes ? affine(d.normalize_out, d_out) : in;
    for (std::size_t f = 0; f < features; ++f) {
      for (std::size_t j = 0; j < d_in; ++j) encoder[f * d_in + j] /= in.s[j];
      for (std::size_t j = 0; j < d_out; ++j) decoder[f * d_out + j] *= out.s[j];
    }
    for (std::size_t j = 0; j < d_out; ++j) decoder_bias[j] = decoder_bias[j] * out.s[j] + out.m[j];
    if (!centred) subtract_from_input(in.m);
    for (std::size_t i = 0; !skip.empty() && i < d_out; ++i) {
      for (std::size_t j = 0; j < d_in; ++j) {
        double& w = skip[i * d_in + j];
        w *= out.s[i] / in.s[j];
        decoder_bias[i] -= w * in.m[j];
      }
    }
  }

  // SAELens divides by the unbiased deviation + 1e-5, or by |x| / sqrt(d).
  void name_row_normalisation(const normalizer& n, affine& in) {
    constexpr double small = 1.0001e-5;
    if (n.epsilon > small || n.root_epsilon > small || n.inverse_epsilon > small) {
      refuse("rows normalised one by one with an epsilon above 1e-5");
    }
    normalize_activations = n.centred ? "layer_norm" : "constant_norm_rescale";
    if (!n.centred || n.ddof == 1) return;
    if (n.ddof != 0 || d_in < 2) refuse("a deviation with ddof " + std::to_string(n.ddof));
    const auto d = static_cast<double>(d_in);
    in.s.assign(d_in, std::sqrt((d - 1) / d));
  }
};

}  // namespace plmscope::inline PLMSCOPE_ABI
