// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/sae/formats/published_sae.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace plmscope::inline PLMSCOPE_ABI {
namespace sae_formats {

/// BioNeMo's sparse_autoencoders: `checkpoint_final.pt` of its trainer. TopK and mixtures of it
/// (MoESAE) normalise rows one by one and undo that; ReLU brings centred rows to length 1 and does
/// not. Checkpoints of ReLU do not say whether, those of mixtures not how many blocks see a row and
/// how many latents of each; the codes of mixtures, here, carry the gates that BioNeMo multiplies
/// into its results.
struct bionemo {
  static constexpr std::string_view id = "bionemo";
  static constexpr std::string_view what = "checkpoint_final.pt (BioNeMo sparse_autoencoders)";

  static bool recognises(published_file& f) {
    return f.enter({"model_state_dict/", "model_state_dict/module."},
                   {"pre_bias", "latent_bias", "encoder.weight", "decoder.weight"}) ||
           f.enter({"model_state_dict/", "model_state_dict/module."},
                   {"router.weight", "expert_encoders.0.weight"});
  }

  static void read(sae_reading& r) {
    published_file& f = r.file;
    const auto config = f.root().find("model_config");
    const auto member = [&](const char* name) {
      return config ? config->find(name) : std::optional<pickle_value>();
    };
    const auto count = [&](const char* name) {
      const auto v = member(name);
      return v ? std::optional(static_cast<std::size_t>(std::max<std::int64_t>(0, v->integer())))
               : std::optional<std::size_t>();
    };
    std::optional<bool> normalized;
    if (const auto v = member("normalize_input")) normalized = v->boolean();
    if (f.has("router.weight")) {
      if (const auto v = member("expert_mode"); v && v->text() != "topk") {
        r.cannot("a mixture of " + v->text() + " experts");
      }
      return read_mixture(r, count("top_k"), count("k_experts"), normalized);
    }
    const std::size_t features = f.extent("encoder.weight", 2, 0),
                      d = f.extent("encoder.weight", 2, 1);
    r.widths(d, features);
    r.out.encoder = f.read("encoder.weight", {features, d});
    r.out.decoder = f.read_transposed("decoder.weight", features, d);
    r.out.encoder_bias = f.read("latent_bias", {features});
    r.out.decoder_bias = f.read("pre_bias", {d});
    normalized = r.normalized(normalized);
    if (!f.has("stats_last_nonzero")) {
      r.description().sparsifier = "relu";
      r.description().unit_input = *normalized;
      return;
    }
    r.top_k(r.k(count("top_k")));
    if (*normalized) r.layer_norm(1, 1e-8);
  }

 private:
  static void read_mixture(sae_reading& r, const std::optional<std::size_t>& k,
                           const std::optional<std::size_t>& chosen,
                           const std::optional<bool>& normalized) {
    published_file& f = r.file;
    for (const auto& tensor : f.weights().tensors()) {
      if (tensor.name.find("shared") != std::string::npos) {
        r.cannot("a mixture of experts beside a dictionary that all rows share (d_shared)");
      }
    }
    const std::size_t experts = f.extent("router.weight", 2, 0);
    const std::size_t d = f.extent("router.weight", 2, 1);
    const std::size_t width = f.extent("expert_encoders.0.weight", 2, 0);
    auto& out = r.out;
    const auto append = [](std::vector<float>& to, const std::vector<float>& more) {
      to.insert(to.end(), more.begin(), more.end());
    };
    for (std::size_t e = 0; e < experts; ++e) {
      const std::string i = std::to_string(e);
      append(out.encoder, f.read("expert_encoders." + i + ".weight", {width, d}));
      append(out.decoder, f.read_transposed("expert_decoders." + i + ".weight", width, d));
      append(out.encoder_bias, f.read("expert_latent_biases." + i, {width}));
      append(out.latent["block_bias"], f.read("expert_pre_biases." + i, {d}));
    }
    out.latent["router"] = f.read("router.weight", {experts, d});
    out.decoder_bias.assign(d, 0);
    r.widths(d, out.encoder_bias.size());
    auto& fields = r.description().sparsifier_fields;
    fields["k"] = std::to_string(r.k(k));
    const std::size_t blocks =
        r.agree("chosen", chosen, r.stated.chosen,
                "state how many blocks see a row: --chosen 2 (stated_sae::chosen)");
    if (blocks == 0 || blocks > experts) {
      throw error(rules::sae_settings, {.where = f.where() + ", chosen",
                                        .expected = "1 to " + std::to_string(experts),
                                        .found = std::to_string(blocks)});
    }
    fields["chosen"] = std::to_string(blocks);
    fields["experts"] = std::to_string(experts);
    fields["router_bias"] = "0";
    fields["share_gates"] = "1";
    fields["block_biases"] = "1";
    r.description().sparsifier = "routed";
    r.description().centring = input_centring::none;
    if (r.normalized(normalized)) r.layer_norm(1, 1e-8, 1e-8);
  }
};

}  // namespace sae_formats
}  // namespace plmscope::inline PLMSCOPE_ABI
