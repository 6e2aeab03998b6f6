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

/// InterProt: safetensors with w_enc [D, F], w_dec [F, D], b_enc, b_pre, or a Lightning checkpoint
/// of the same. TopK over rows normalised one by one by the unbiased deviation, which is undone.
/// The checkpoint holds k, safetensors do not: the layers that were published are of runs with k =
/// 64, although the library opens them with 128.
struct interprot {
  static constexpr std::string_view id = "interprot";
  static constexpr std::string_view what = "w_enc, w_dec, b_enc, b_pre (InterProt)";

  static bool recognises(published_file& f) {
    return f.enter({"", "state_dict/sae_model.", "state_dict/"},
                   {"w_enc", "w_dec", "b_enc", "b_pre"});
  }

  static void read(sae_reading& r) {
    published_file& f = r.file;
    const std::size_t d = f.extent("w_enc", 2, 0), features = f.extent("w_enc", 2, 1);
    r.widths(d, features);
    r.out.encoder = f.read_transposed("w_enc", features, d);
    r.out.decoder = f.read("w_dec", {features, d});
    r.out.encoder_bias = f.read("b_enc", {features});
    r.out.decoder_bias = f.read("b_pre", {d});
    std::optional<std::size_t> k;
    if (const auto settings = f.root().find("hyper_parameters")) {
      const auto inner = settings->find("args");
      const pickle_value& of = inner ? *inner : *settings;
      if (const auto v = of.find("k"))
        k = v->integer() < 0 ? 0 : static_cast<std::size_t>(v->integer());
      if (const auto v = of.find("layer_to_use"))
        r.record("published.layer", std::to_string(v->integer()));
    }
    r.asked.insert("k");
    r.top_k(r.k(k));
    r.layer_norm(1, 1e-5);
  }

  /// What is to be stated of the files published as InterProt-ESM2-SAEs.
  static stated_sae published() { return {.library = std::string(id), .k = 64}; }
};

/// Rep_SAEs_PLMs (Gujral et al. 2025): a Lightning checkpoint with model.weights.0 W_enc [D, F], .1
/// W_dec [F, D], .2 b_enc, .3 b_dec. TopK over rows normalised one by one by the biased deviation.
/// SAE and transcoder have the same file; the SAE brings its result back, the transcoder does not.
struct gujral {
  static constexpr std::string_view id = "gujral";
  static constexpr std::string_view what =
      "a Lightning checkpoint of Rep_SAEs_PLMs (Gujral et al.)";

  static bool recognises(published_file& f) {
    return f.enter({"state_dict/model.", "state_dict/", ""},
                   {"weights.0", "weights.1", "weights.2", "weights.3"});
  }

  static void read(sae_reading& r) {
    published_file& f = r.file;
    const std::size_t d = f.extent("weights.0", 2, 0), features = f.extent("weights.0", 2, 1);
    r.widths(d, features);
    r.out.encoder = f.read_transposed("weights.0", features, d);
    r.out.decoder = f.read("weights.1", {features, d});
    r.out.encoder_bias = f.read("weights.2", {features});
    r.out.decoder_bias = f.read("weights.3", {d});
    std::optional<std::size_t> k;
    if (const auto settings = f.root().find("hyper_parameters")) {
      if (const auto v = settings->find("k"))
        k = v->integer() < 0 ? 0 : static_cast<std::size_t>(v->integer());
    }
    r.top_k(r.k(k));
    r.description().transcodes =
        r.agree("transcoder", std::optional<bool>(), r.stated.transcoder,
                "state whether it is a transcoder to the next layer: --transcoder yes or no "
                "(stated_sae::transcoder)");
    r.layer_norm(0, 0);
    r.description().normalizer.root_epsilon = 1e-5;
  }
};

}  // namespace sae_formats
}  // namespace plmscope::inline PLMSCOPE_ABI
