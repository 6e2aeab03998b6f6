// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/io/weights_file.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <string>
#include <string_view>
#include <utility>

namespace plmscope::inline PLMSCOPE_ABI {

/// What a file calls the tensors of an ESM-2 model. The names asked for are always those of the
/// full Hugging Face layout (`esm.encoder.layer.3.LayerNorm.weight`); three ways to store them are
/// known:
///
/// | layout | example of a name in the file |
/// | --- | --- |
/// | Hugging Face, with LM head | `esm.encoder.layer.3.LayerNorm.weight` |
/// | Hugging Face, saved from EsmModel | `encoder.layer.3.LayerNorm.weight` |
/// | fair-esm | `model/encoder.sentence_encoder.layers.3.final_layer_norm.weight` |
///
/// In fair-esm's checkpoints the body has the prefix `encoder.sentence_encoder.` and the head
/// `encoder.`, below the key `model`; a state dict of its loaded model has none of these.
class esm2_names {
 public:
  enum class layout { none, hugging_face, fair_esm };

  static esm2_names of(const weights_file& file) {
    constexpr std::string_view table = "embeddings.word_embeddings.weight";
    constexpr std::string_view fair_table = "embed_tokens.weight";
    constexpr std::string_view body = "encoder.sentence_encoder.";
    for (const std::string_view prefix : {"esm.", ""}) {
      if (file.contains(std::string(prefix).append(table))) {
        return {layout::hugging_face, std::string(prefix), ""};
      }
    }
    for (const std::string_view below : {"model/", ""}) {
      for (const std::string_view prefix : {body, std::string_view("")}) {
        std::string full = std::string(below).append(prefix);
        if (!file.contains(full + std::string(fair_table))) continue;
        return {layout::fair_esm, std::move(full),
                std::string(below).append(prefix.empty() ? "" : "encoder.")};
      }
    }
    return {};
  }

  layout kind() const noexcept { return kind_; }

  /// The file's name for a tensor of the full Hugging Face layout.
  std::string operator()(std::string_view name) const {
    const bool in_body = name.starts_with("esm.");
    if (kind_ != layout::fair_esm) {
      return in_body ? body_ + std::string(name.substr(4)) : std::string(name);
    }
    constexpr std::string_view contacts = "esm.contact_head.";
    if (name.starts_with(contacts)) return head_ + std::string(name.substr(4));
    if (!in_body) {
      return head_ + (name == "lm_head.decoder.weight" ? "lm_head.weight" : std::string(name));
    }
    return body_ + fair_name(name.substr(4));
  }

 private:
  esm2_names() = default;
  esm2_names(layout kind, std::string body, std::string head)
      : kind_(kind), body_(std::move(body)), head_(std::move(head)) {}

  // Of the body, without `esm.`: the longest name of a part that fits is replaced.
  static std::string fair_name(std::string_view name) {
    constexpr std::string_view block = "encoder.layer.";
    if (!name.starts_with(block)) {
      if (name == "embeddings.word_embeddings.weight") return "embed_tokens.weight";
      constexpr std::string_view early = "embeddings.layer_norm.";
      if (name.starts_with(early)) {
        return "emb_layer_norm_before." + std::string(name.substr(early.size()));
      }
      constexpr std::string_view encoder = "encoder.";
      return std::string(name.starts_with(encoder) ? name.substr(encoder.size()) : name);
    }
    constexpr std::array<std::pair<std::string_view, std::string_view>, 9> parts{{
        {"attention.self.query.", "self_attn.q_proj."},
        {"attention.self.key.", "self_attn.k_proj."},
        {"attention.self.value.", "self_attn.v_proj."},
        {"attention.self.rotary_embeddings.", "self_attn.rot_emb."},
        {"attention.output.dense.", "self_attn.out_proj."},
        {"attention.LayerNorm.", "self_attn_layer_norm."},
        {"LayerNorm.", "final_layer_norm."},
        {"intermediate.dense.", "fc1."},
        {"output.dense.", "fc2."},
    }};
    const std::string_view rest = name.substr(block.size());
    const std::size_t dot = std::min(rest.find('.'), rest.size() - 1);
    const std::string_view part = rest.substr(dot + 1);
    std::string out = "layers." + std::string(rest.substr(0, dot + 1));
    for (const auto& [theirs, fair] : parts) {
      if (part.starts_with(theirs)) {
        return out.append(fair).append(part.substr(theirs.size()));
      }
    }
    return out.append(part);
  }

  layout kind_ = layout::none;
  std::string body_;
  std::string head_;
};

}  // namespace plmscope::inline PLMSCOPE_ABI
