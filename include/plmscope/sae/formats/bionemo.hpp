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

/// BioNeMo's sparse_autoencoders: `checkpoint_final.pt` of its trainer. TopK normalises rows one by
/// one and undoes that; ReLU brings centred rows to length 1 and does not. Checkpoints of ReLU do
/// not say whether; a mixture of experts is refused.
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
    if (f.has("router.weight"))
      r.cannot("a mixture of experts (MoESAE), whose router picks experts per row");
    const std::size_t features = f.extent("encoder.weight", 2, 0),
                      d = f.extent("encoder.weight", 2, 1);
    r.widths(d, features);
    r.out.encoder = f.read("encoder.weight", {features, d});
    r.out.decoder = f.read_transposed("decoder.weight", features, d);
    r.out.encoder_bias = f.read("latent_bias", {features});
    r.out.decoder_bias = f.read("pre_bias", {d});
    const auto config = f.root().find("model_config");
    const auto member = [&](const char* name) {
      return config ? config->find(name) : std::optional<pickle_value>();
    };
    std::optional<bool> normalized;
    if (const auto v = member("normalize_input")) normalized = v->boolean();
    normalized = r.normalized(normalized);
    if (!f.has("stats_last_nonzero")) {
      r.description().sparsifier = "relu";
      r.description().unit_input = *normalized;
      return;
    }
    std::optional<std::size_t> k;
    if (const auto v = member("top_k"))
      k = static_cast<std::size_t>(std::max<std::int64_t>(0, v->integer()));
    r.top_k(r.k(k));
    if (*normalized) r.layer_norm(1, 1e-8);
  }
};

}  // namespace sae_formats
}  // namespace plmscope::inline PLMSCOPE_ABI
