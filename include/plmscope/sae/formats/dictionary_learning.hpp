// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/sae/formats/published_sae.hpp>

#include <cstddef>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace plmscope::inline PLMSCOPE_ABI {
namespace sae_formats {

/// saprmarks/dictionary_learning: `ae.pt` and `config.json`, every class of the library; and
/// reticular-sae, which trains with a copy of it and saves `ae.pt` alone or in a Lightning
/// checkpoint. Which class it is is told by its tensors, TopK from BatchTopK by config.json.
struct dictionary_learning {
  static constexpr std::string_view id = "dictionary_learning";
  static constexpr std::string_view what = "ae.pt with config.json (dictionary_learning)";

  static bool recognises(published_file& f) {
    return (f.settings().has("trainer.dict_class") || f.settings().empty()) && enters(f, {""});
  }

  /// Whether the tensors are those of one of its classes.
  static bool enters(published_file& f, std::initializer_list<std::string_view> beginnings) {
    const bool linear = f.enter(beginnings, {"encoder.weight", "decoder.weight"}) &&
                        f.shape("encoder.weight").size() == 2;
    if (linear && !f.has("activation_rescale_factor")) {
      return (f.has("encoder.bias") &&
              (f.has("bias") || f.has("decoder.bias") || (f.has("b_dec") && f.has("k")))) ||
             f.has("gate_bias");
    }
    return f.enter(beginnings, {"W_enc", "b_enc", "W_dec", "b_dec", "threshold"}) &&
           (f.has("k") || f.shape("threshold").size() == 1);
  }

  static void read(sae_reading& r) {
    const sae_settings& s = r.file.settings();
    r.record("published.class", s.written("trainer.dict_class"));
    r.record("published.trainer", s.written("trainer.trainer_class"));
    r.record("published.layer", s.written("trainer.layer"));
    r.record("published.submodule",
             s.has("trainer.submodule_name") ? s.written("trainer.submodule_name") : "");
    r.description().source.model = s.has("trainer.lm_name") ? s.written("trainer.lm_name") : "";
    read_class(r, s.text("trainer.dict_class"));
  }

  /// Any class; `name` where the file says it.
  static void read_class(sae_reading& r, const std::optional<std::string>& name) {
    published_file& f = r.file;
    sae_description& o = r.description();
    const bool by_rows = f.has("encoder.weight");
    const char* const encoder = by_rows ? "encoder.weight" : "W_enc";
    const std::size_t features = f.extent(encoder, 2, by_rows ? 0 : 1);
    const std::size_t d = f.extent(encoder, 2, by_rows ? 1 : 0);
    r.widths(d, features);
    if (by_rows) {
      r.out.encoder = f.read("encoder.weight", {features, d});
      r.out.decoder = f.read_transposed("decoder.weight", features, d);
    } else {
      r.out.encoder = f.read_transposed("W_enc", features, d);
      r.out.decoder = f.read("W_dec", {features, d});
    }
    if (f.has("gate_bias")) {
      r.out.decoder_bias = f.read("decoder_bias", {d});
      r.out.encoder_bias = f.read("mag_bias", {features});
      r.out.latent["gate_bias"] = f.read("gate_bias", {features});
      r.out.latent["gate_scale"] = f.read("r_mag", {features});
      o.sparsifier = "gated";
      return;
    }
    r.out.encoder_bias = f.read(by_rows ? "encoder.bias" : "b_enc", {features});
    if (f.has("bias")) {  // AutoEncoder, whose loader folds
      r.out.decoder_bias = f.read("bias", {d});
      o.sparsifier = "relu";
      r.fold_decoder_lengths();
    } else if (f.has("decoder.bias")) {  // AutoEncoderNew
      r.out.decoder_bias = f.read("decoder.bias", {d});
      o.centring = input_centring::none;
      o.sparsifier = "relu";
    } else if (f.shape("threshold").size() == 1) {  // JumpReluAutoEncoder
      r.out.decoder_bias = f.read("b_dec", {d});
      o.centring = input_centring::none;
      r.jump_relu(f.read("threshold", {features}));
    } else {
      read_top_k(r, name);
    }
  }

 private:
  // AutoEncoderTopK selects by rank or, if asked, by its threshold; the others by the threshold.
  static void read_top_k(sae_reading& r, const std::optional<std::string>& name) {
    published_file& f = r.file;
    r.out.decoder_bias = f.read("b_dec", {r.description().d_model});
    const std::size_t k = r.k(f.count("k"));
    const double threshold = f.scalar("threshold");
    std::optional<std::string> rule;
    if (f.has("group_sizes")) {
      rule = "batch_top_k";
      r.record("published.group_sizes", f.counts_text("group_sizes"));
    } else if (name == "AutoEncoderTopK") {
      // Both are ways of inference that the library offers for it.
      rule = r.stated.sparsifier == "batch_top_k" ? "batch_top_k" : "top_k";
    } else if (name == "BatchTopKSAE") {
      rule = "batch_top_k";
    }
    const std::string chosen = r.sparsifier(rule, "top_k or batch_top_k");
    if (chosen == "top_k") return r.top_k(k);
    if (chosen != "batch_top_k") r.cannot("selection by " + chosen + " with these tensors");
    r.batch_top_k(static_cast<double>(k), threshold);
  }
};

/// reticular-sae: the classes of dictionary_learning, trained on rows divided by a number that the
/// file does not hold. As its `scale_biases` does, biases and threshold are multiplied by it, so
/// that the SAE takes rows as they are.
struct reticular {
  static constexpr std::string_view id = "reticular";
  static constexpr std::string_view what = "ae.pt alone, or a Lightning checkpoint (reticular-sae)";

  static bool recognises(published_file& f) {
    return f.settings().empty() && dictionary_learning::enters(f, {"", "state_dict/ae."});
  }

  static void read(sae_reading& r) {
    dictionary_learning::read_class(r, {});
    const double factor =
        r.agree("norm_factor", std::optional<double>(), r.stated.norm_factor,
                "state what rows were divided by in training, 1 if nothing: --norm-factor 3.5 "
                "(stated_sae::norm_factor)");
    if (!(factor > 0)) r.cannot("a norm_factor of " + sae_fields::text(factor));
    const auto times = [&](std::vector<float>& v) {
      for (float& x : v) x = static_cast<float>(static_cast<double>(x) * factor);
    };
    times(r.out.encoder_bias);
    times(r.out.decoder_bias);
    for (const char* name : {"gate_bias", "threshold"}) {
      if (r.out.latent.contains(name)) times(r.out.latent[name]);
    }
    const auto at = r.description().sparsifier_fields.find("threshold");
    if (at == r.description().sparsifier_fields.end()) return;
    const double threshold = sae_fields::number<double>(at->second, r.file.where());
    at->second = sae_fields::text(threshold > 0 ? threshold * factor : threshold);  // -1: never set
  }
};

}  // namespace sae_formats
}  // namespace plmscope::inline PLMSCOPE_ABI
