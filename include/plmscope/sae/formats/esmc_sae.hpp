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

/// EsmcSaeModel of the esm package: `config.json` and `layer_N.safetensors` with W_enc [D, F],
/// W_dec [F, D], b_dec, idf, max and no encoder bias. TopK over rows normalised one by one. The
/// library leaves reconstructions in the normalised space; here they are brought back. `idf` and
/// `max`, which scale codes for search, are not kept.
struct esmc_sae {
  static constexpr std::string_view id = "esmc_sae";
  static constexpr std::string_view what = "config.json and layer_N.safetensors (EsmcSaeModel)";

  static bool recognises(published_file& f) {
    return f.enter({""}, {"W_enc", "W_dec", "b_dec", "idf", "max"});
  }

  static void read(sae_reading& r) {
    published_file& f = r.file;
    const sae_settings& s = f.settings();
    const std::size_t d = f.extent("W_enc", 2, 0), features = f.extent("W_enc", 2, 1);
    r.widths(d, features);
    r.out.encoder = f.read_transposed("W_enc", features, d);
    r.out.decoder = f.read("W_dec", {features, d});
    r.out.encoder_bias.assign(features, 0.0f);
    r.out.decoder_bias = f.read("b_dec", {d});
    r.top_k(r.k(s.count("k")));
    r.layer_norm(1, 1e-5, 1e-5);
    const bool update = s.truth("use_residual_update_instead_of_states").value_or(false);
    r.record("published.input", update ? "residual update h[i] - h[i-1]" : "state h[i]");
  }
};

}  // namespace sae_formats
}  // namespace plmscope::inline PLMSCOPE_ABI
