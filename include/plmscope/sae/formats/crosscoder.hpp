// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/sae/formats/published_sae.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace plmscope::inline PLMSCOPE_ABI {
namespace sae_formats {

/// Crosscoders of science-of-finetuning/dictionary_learning, over L sites: encoder.weight [L, D,
/// F], decoder.weight [L, F, D], decoder.bias [L, D]; rows are the sites side by side. Selection
/// ranks by the sum of decoder lengths (code_normalization CROSSCODER), by the length of the whole
/// row (SAE) or by plain values (NONE).
struct crosscoder {
  static constexpr std::string_view id = "crosscoder";
  static constexpr std::string_view what =
      "a crosscoder (science-of-finetuning/dictionary_learning)";

  static bool recognises(published_file& f) {
    return f.enter({""}, {"encoder.weight", "encoder.bias", "decoder.weight", "decoder.bias"}) &&
           f.shape("encoder.weight").size() == 3;
  }

  static void read(sae_reading& r) {
    published_file& f = r.file;
    const std::size_t sites = f.extent("encoder.weight", 3, 0);
    const std::size_t width = f.extent("encoder.weight", 3, 1);
    const std::size_t features = f.extent("encoder.weight", 3, 2);
    const std::size_t d = sites * width;
    r.widths(d, features);
    sae_description& o = r.description();
    o.centring = input_centring::none;
    o.blocks = sites;
    const std::size_t kind = f.count("code_normalization_id").value_or(crosscoder_lengths);
    if (kind == decoupled)
      r.cannot("decoupled codes, one for each site and feature (code_normalization 5)");
    if (f.shape("threshold").size() > 1) r.cannot("a threshold for each site");
    const bool selects = f.has("threshold");
    if (selects && kind != crosscoder_lengths && kind != whole_row && kind != plain) {
      r.cannot(
          "ranks by a mixture of lengths whose weights the file does not hold "
          "(code_normalization " +
          std::to_string(kind) + ")");
    }

    const auto encoder = f.read("encoder.weight", {sites, width, features});
    const auto decoder = f.read("decoder.weight", {sites, features, width});
    r.out.encoder.resize(encoder.size());
    r.out.decoder.resize(decoder.size());
    for (std::size_t l = 0; l < sites; ++l) {
      for (std::size_t j = 0; j < width; ++j) {
        for (std::size_t i = 0; i < features; ++i) {
          r.out.encoder[i * d + l * width + j] = encoder[(l * width + j) * features + i];
        }
      }
      for (std::size_t i = 0; i < features; ++i) {
        for (std::size_t j = 0; j < width; ++j) {
          r.out.decoder[i * d + l * width + j] = decoder[(l * features + i) * width + j];
        }
      }
    }
    r.out.encoder_bias = f.read("encoder.bias", {features});
    r.out.decoder_bias = f.read("decoder.bias", {sites, width});
    normalizer_of(r, sites, width);
    if (!selects) {
      o.sparsifier = "relu";
      return;
    }
    if (kind == whole_row) o.blocks = 1;
    if (kind != plain) o.lengths = row_lengths::rank;
    r.batch_top_k(static_cast<double>(r.k(f.count("k"))), f.scalar("threshold"));
  }

 private:
  static constexpr std::size_t crosscoder_lengths = 1, whole_row = 2, plain = 4, decoupled = 5;

  // (x - mean) * scale of the site; buffers of NaN say that there is none.
  static void normalizer_of(sae_reading& r, std::size_t sites, std::size_t width) {
    published_file& f = r.file;
    if (!f.has("activation_mean")) return;
    const auto raw = f.read_raw("activation_mean", {sites, width});
    if (std::any_of(raw.begin(), raw.end(), [](float v) { return std::isnan(v); })) return;
    const bool relative =
        r.agree("relative_variance", std::optional<bool>(), r.stated.relative_variance,
                "state whether its normaliser kept relative variances (keep_relative_variance, by "
                "default true): --relative-variance yes (stated_sae::relative_variance)");
    if (!relative) r.cannot("an activation normaliser without keep_relative_variance");
    const auto mean = f.read("activation_mean", {sites, width});
    const auto scale = f.read("activation_global_scale", {sites});
    normalizer& n = r.description().normalizer;
    n.kind = normalization::per_dimension;
    n.mean.assign(mean.begin(), mean.end());
    for (const float s : scale) {
      if (!(s > 0)) f.settings().refuse("activation_global_scale", "above 0", std::to_string(s));
      n.deviation.insert(n.deviation.end(), width, 1 / static_cast<double>(s));
    }
  }
};

}  // namespace sae_formats
}  // namespace plmscope::inline PLMSCOPE_ABI
