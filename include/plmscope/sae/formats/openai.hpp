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

/// openai/sparse_autoencoder: a state dict with pre_bias, latent_bias, encoder.weight [F, D],
/// decoder.weight [D, F] and `activation` as a text. Rows are normalised if and only if it is TopK,
/// as its loader has it. TopK with postact_fn Identity keeps negative values.
struct openai {
  static constexpr std::string_view id = "openai";
  static constexpr std::string_view what = "autoencoder.pt (openai/sparse_autoencoder)";

  static bool recognises(published_file& f) {
    return f.enter({""}, {"pre_bias", "latent_bias", "encoder.weight", "decoder.weight"}) &&
           f.root().find("activation").has_value();
  }

  static void read(sae_reading& r) {
    published_file& f = r.file;
    const std::size_t features = f.extent("encoder.weight", 2, 0),
                      d = f.extent("encoder.weight", 2, 1);
    r.widths(d, features);
    r.out.encoder = f.read("encoder.weight", {features, d});
    r.out.decoder = f.read_transposed("decoder.weight", features, d);
    r.out.encoder_bias = f.read("latent_bias", {features});
    r.out.decoder_bias = f.read("pre_bias", {d});
    const std::string activation = f.root().at("activation").text();
    r.record("published.activation", activation);
    if (activation == "ReLU") {
      r.description().sparsifier = "relu";
      return;
    }
    if (activation != "TopK") r.cannot("the activation " + activation);
    const pickle_value state = f.root().at("activation_state_dict");
    const auto k = state.at("k").integer();
    const std::string after = state.at("postact_fn").text();
    r.top_k(r.k(k < 0 ? std::size_t{0} : static_cast<std::size_t>(k)));
    if (after == "Identity") {
      r.description().sparsifier_fields["negatives"] = "1";
    } else if (after != "ReLU") {
      r.cannot("TopK followed by " + after);
    }
    r.layer_norm(1, 1e-5);
  }
};

}  // namespace sae_formats
}  // namespace plmscope::inline PLMSCOPE_ABI
