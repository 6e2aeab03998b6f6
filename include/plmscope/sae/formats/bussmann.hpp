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

/// bartbussmann/BatchTopK and matryoshka_sae: `sae.pt` and `config.json` with `sae_type`. With
/// `input_unit_norm` rows are normalised one by one, which is undone. The TopK kinds have an
/// encoder bias that they do not use; JumpReLU subtracts nothing from its input.
struct bussmann {
  static constexpr std::string_view id = "bussmann";
  static constexpr std::string_view what = "sae.pt and config.json with sae_type (matryoshka_sae)";

  static bool recognises(published_file& f) {
    return f.enter({""}, {"W_enc", "W_dec", "b_enc", "b_dec"}) && f.settings().has("sae_type");
  }

  static void read(sae_reading& r) {
    published_file& f = r.file;
    const sae_settings& s = f.settings();
    const std::size_t d = f.extent("W_enc", 2, 0), features = f.extent("W_enc", 2, 1);
    r.widths(d, features);
    sae_description& o = r.description();
    r.out.encoder = f.read_transposed("W_enc", features, d);
    r.out.decoder = f.read("W_dec", {features, d});
    r.out.encoder_bias = f.read("b_enc", {features});
    r.out.decoder_bias = f.read("b_dec", {d});
    if (r.normalized(s.truth("input_unit_norm"))) r.layer_norm(1, 1e-5);
    const std::string kind = *s.text("sae_type");
    r.record("published.sae_type", kind);
    r.record("published.group_sizes", s.written("group_sizes"));
    if (kind == "vanilla") {
      o.sparsifier = "relu";
    } else if (kind == "jumprelu") {
      auto thresholds = f.read("jumprelu.log_threshold", {features});
      for (float& t : thresholds) t = static_cast<float>(std::exp(static_cast<double>(t)));
      r.jump_relu(std::move(thresholds));
      o.centring = input_centring::none;
    } else {
      r.out.encoder_bias.assign(features, 0.0f);
      const std::size_t k = r.k(s.count("top_k"));
      if (kind == "topk") return r.top_k(k);
      if (kind != "batch-topk" && kind != "global-matryoshka-topk")
        r.cannot("the sae_type " + kind);
      r.batch_top_k(static_cast<double>(k), f.scalar("threshold"));
    }
  }
};

}  // namespace sae_formats
}  // namespace plmscope::inline PLMSCOPE_ABI
