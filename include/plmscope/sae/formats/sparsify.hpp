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

/// EleutherAI/sparsify: `cfg.json` and `sae.safetensors` with encoder.weight [F, D], W_dec [F, O],
/// b_dec [O]. An SAE subtracts b_dec from its input, a transcoder does not. Rows are not
/// normalised. `multi_topk` changes the training loss only.
struct sparsify {
  static constexpr std::string_view id = "sparsify";
  static constexpr std::string_view what = "cfg.json and sae.safetensors (sparsify)";

  static bool recognises(published_file& f) {
    return f.enter({""}, {"encoder.weight", "encoder.bias", "W_dec", "b_dec"});
  }

  static void read(sae_reading& r) {
    published_file& f = r.file;
    const sae_settings& s = f.settings();
    const std::size_t features = f.extent("encoder.weight", 2, 0),
                      d = f.extent("encoder.weight", 2, 1);
    const std::size_t d_out = f.extent("W_dec", 2, 1);
    r.widths(d, features);
    sae_description& o = r.description();
    o.d_out = d_out;
    r.out.encoder = f.read("encoder.weight", {features, d});
    r.out.encoder_bias = f.read("encoder.bias", {features});
    r.out.decoder = f.read("W_dec", {features, d_out});
    r.out.decoder_bias = f.read("b_dec", {d_out});
    o.skip = f.has("W_skip");
    if (o.skip) r.out.skip = f.read("W_skip", {d_out, d});
    o.transcodes =
        r.agree("transcoder", s.truth("transcode"), r.stated.transcoder,
                "state whether it is a transcoder: --transcoder yes or no "
                "(stated_sae::transcoder); cfg.json says it where it lies beside the file");
    if (o.transcodes) o.centring = input_centring::none;
    const std::size_t k = r.k(s.count("k"));
    const auto activation = s.text("activation");
    const std::optional<std::string> rule = !activation ? std::optional<std::string>()
                                            : *activation == "groupmax" ? "group_max"
                                            : *activation == "topk"     ? "top_k"
                                                                        : *activation;
    const std::string chosen = r.sparsifier(rule, "top_k or group_max");
    if (chosen == "top_k") return r.top_k(k);
    if (chosen != "group_max") r.cannot("the activation " + chosen);
    o.sparsifier = "group_max";
    o.sparsifier_fields = {{"k", std::to_string(k)}};
  }
};

}  // namespace sae_formats
}  // namespace plmscope::inline PLMSCOPE_ABI
