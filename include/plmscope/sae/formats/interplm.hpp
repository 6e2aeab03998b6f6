// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/sae/formats/published_sae.hpp>

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace plmscope::inline PLMSCOPE_ABI {
namespace sae_formats {

/// InterPLM: `ae.pt` or `ae_normalized.pt` with `config.yaml`, and the older files of four tensors
/// (`ae_normalized.pt`, `ae_unnormalized.pt`), whose maxima are folded into the weights. Codes are
/// those of `encode`: not divided by `activation_rescale_factor`. With `normalize_to_sqrt_d` rows
/// are brought to length sqrt(d), as in training (the library's `encode` forgets to).
struct interplm {
  static constexpr std::string_view id = "interplm";
  static constexpr std::string_view what = "ae.pt or ae_normalized.pt (InterPLM)";

  static bool recognises(published_file& f) {
    if (!f.enter({""}, {"encoder.weight", "encoder.bias", "decoder.weight"})) return false;
    return f.has("activation_rescale_factor") || (f.has("bias") && f.settings().empty());
  }

  static void read(sae_reading& r) {
    published_file& f = r.file;
    const std::size_t features = f.extent("encoder.weight", 2, 0),
                      d = f.extent("encoder.weight", 2, 1);
    r.widths(d, features);
    sae_description& o = r.description();
    r.out.encoder = f.read("encoder.weight", {features, d});
    r.out.encoder_bias = f.read("encoder.bias", {features});
    r.out.decoder = f.read_transposed("decoder.weight", features, d);
    if (f.count("normalize_to_sqrt_d").value_or(0) != 0) r.unit_mean_square();
    if (f.has("bias")) {
      r.out.decoder_bias = f.read("bias", {d});
      o.sparsifier = "relu";
    } else if (f.has("decoder.bias")) {
      r.out.decoder_bias = f.read("decoder.bias", {d});
      o.centring = input_centring::none;
      if (f.has("threshold")) {
        r.jump_relu(f.read("threshold", {features}));
      } else {
        o.sparsifier = "relu";
      }
    } else {
      r.out.decoder_bias = f.read("b_dec", {d});
      const std::size_t k = r.k(f.count("k"));
      const double threshold = f.scalar("threshold");
      // Only the settings of TopK name their trainer.
      std::optional<std::string> rule;
      if (f.yaml().has("trainer_cfg.k")) {
        rule = f.yaml().text("trainer_cfg.trainer_name") == "TopKTrainer" ? "top_k" : "batch_top_k";
      }
      const std::string chosen = r.sparsifier(rule, "top_k or batch_top_k");
      if (chosen == "top_k") return r.top_k(k);
      if (chosen != "batch_top_k") r.cannot("selection by " + chosen + " with these tensors");
      r.batch_top_k(static_cast<double>(k), threshold);
    }
  }
};

}  // namespace sae_formats
}  // namespace plmscope::inline PLMSCOPE_ABI
