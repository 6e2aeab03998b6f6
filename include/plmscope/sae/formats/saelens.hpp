// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/sae/formats/published_sae.hpp>

#include <cmath>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace plmscope::inline PLMSCOPE_ABI {
namespace sae_formats {

/// SAELens: `cfg.json` and `sae_weights.safetensors` with W_enc [D, F], W_dec [F, O], b_dec [O],
/// for inference and as its trainer saves them. The file says everything but the model and site in
/// our terms; its names for both go into the record.
struct saelens {
  static constexpr std::string_view id = "saelens";
  static constexpr std::string_view what = "cfg.json and sae_weights.safetensors (SAELens)";

  static bool recognises(published_file& f) {
    return f.enter({""}, {"W_enc", "W_dec", "b_dec"}) && f.settings().has("d_sae") &&
           f.settings().has("d_in");
  }

  static void read(sae_reading& r) {
    published_file& f = r.file;
    const sae_settings& s = f.settings();
    const std::size_t d = f.extent("W_enc", 2, 0), features = f.extent("W_enc", 2, 1);
    const std::size_t d_out = f.extent("W_dec", 2, 1);
    r.widths(d, features);
    check(s, "d_in", d);
    check(s, "d_sae", features);
    check(s, "d_out", d_out);
    sae_description& o = r.description();
    o.d_out = d_out;
    const std::string kind = architecture(s);
    o.transcodes = kind.ends_with("transcoder");
    const bool centred = !o.transcodes && s.truth("apply_b_dec_to_input").value_or(true);
    o.centring = centred ? input_centring::decoder_bias : input_centring::none;
    const auto reshape = s.text("reshape_activations").value_or("none");
    if (reshape != "none") r.cannot("reshape_activations = " + reshape + " (heads side by side)");
    normalizer_of(r);

    r.out.encoder = f.read_transposed("W_enc", features, d);
    r.out.decoder = f.read("W_dec", {features, d_out});
    r.out.decoder_bias = f.read("b_dec", {d_out});
    r.out.encoder_bias = f.read(kind == "gated" ? "b_mag" : "b_enc", {features});
    if (f.has("W_skip")) {
      o.skip = true;
      if (o.normalizer.kind != normalization::none) {
        r.cannot("a skip map of rows that are not normalised beside an encoder of such that are");
      }
      r.out.skip = f.read("W_skip", {d_out, d});
    }
    selection_of(r, kind);

    for (const char* key :
         {"model_name", "hook_name", "hook_head_index", "training_architecture"}) {
      const std::string inner = std::string("metadata.") + key;
      r.record(std::string("published.") + key, s.has(inner) ? s.written(inner)
                                                : s.has(key) ? s.written(key)
                                                             : "");
    }
    r.record("published.architecture", kind);
    r.record("published.widths",
             s.written("metadata.training_architecture_details.matryoshka_widths"));
    o.source.model = o.training_record["published.model_name"];
    if (o.source.model.empty()) o.training_record.erase("published.model_name");
    // Of files that `save_saelens` wrote.
    o.source.site = s.text("metadata.plmscope_site").value_or("");
    o.source.model_hash = s.text("metadata.plmscope_model_hash").value_or("");
  }

 private:
  static std::string architecture(const sae_settings& s) {
    if (const auto a = s.text("architecture")) return *a;
    // Before version 6.
    const auto f = s.text("activation_fn_str");
    return f.value_or(s.text("activation_fn").value_or("relu")) == "topk" ? "topk" : "standard";
  }

  static void check(const sae_settings& s, const char* key, std::size_t tensor) {
    const auto said = s.count(key);
    if (said && *said != tensor) {
      s.refuse(key, std::to_string(tensor) + " as in the tensors", std::to_string(*said));
    }
  }

  static void normalizer_of(sae_reading& r) {
    const auto kind = r.file.settings().text("normalize_activations").value_or("none");
    const auto scaler = sae_settings::beside(r.file.folder() / "activation_scaler.json");
    const auto factor = scaler.number("scaling_factor");
    if (kind == "layer_norm") {
      r.layer_norm(1, 1e-5);
    } else if (kind == "constant_norm_rescale") {
      r.unit_mean_square();
    } else if (kind == "expected_average_only_in") {
      const std::optional<double> in_file =
          factor && *factor > 0 ? std::optional<double>(1 / *factor) : std::optional<double>();
      const double divisor =
          r.agree("norm_factor", in_file, r.stated.norm_factor,
                  "state what rows were divided by in training: --norm-factor 3.5 "
                  "(stated_sae::norm_factor); 1 / scaling_factor of SAELens");
      r.description().normalizer = {.kind = normalization::scalar, .scale = 1 / divisor};
    } else if (kind != "none") {
      r.cannot("normalize_activations = " + kind);
    }
  }

  static void selection_of(sae_reading& r, const std::string& kind) {
    published_file& f = r.file;
    const sae_settings& s = f.settings();
    sae_description& o = r.description();
    const std::size_t features = o.features;
    if (kind == "standard" || kind == "transcoder" || kind == "skip_transcoder") {
      o.sparsifier = "relu";
    } else if (kind == "topk" || kind == "abstopk" || kind == "batchtopk" ||
               kind == "matryoshka_batchtopk") {
      if (s.truth("rescale_acts_by_decoder_norm").value_or(false))
        o.lengths = row_lengths::in_codes;
      if (kind.ends_with("batchtopk")) {
        return r.batch_top_k(s.number("k").value_or(64), f.scalar("topk_threshold"));
      }
      r.top_k(r.k(s.has("k") ? s.count("k") : s.count("activation_fn_kwargs.k")));
      if (kind == "topk") return;
      o.sparsifier = "abs_top_k";
    } else if (kind == "jumprelu" || kind == "jumprelu_transcoder" ||
               kind == "jumprelu_skip_transcoder") {
      const bool logs = !f.has("threshold") && f.has("log_threshold");
      auto t = f.read(logs ? "log_threshold" : "threshold", {features});
      if (logs) {
        for (float& v : t) v = static_cast<float>(std::exp(static_cast<double>(v)));
      }
      r.jump_relu(std::move(t));
    } else if (kind == "gated") {
      o.sparsifier = "gated";
      r.out.latent["gate_bias"] = f.read("b_gate", {features});
      r.out.latent["gate_scale"] = f.read("r_mag", {features});
    } else {
      r.cannot("the architecture " + kind);
    }
  }
};

}  // namespace sae_formats
}  // namespace plmscope::inline PLMSCOPE_ABI
