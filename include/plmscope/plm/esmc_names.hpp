// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/config.hpp>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace plmscope::inline PLMSCOPE_ABI {

/// The same tensors of ESM-C are in circulation under three sets of names.
enum class esmc_layout : std::uint8_t {
  release_2024,  ///< `transformer.blocks.0.attn.layernorm_qkv.1.weight`
  fused,         ///< `esmc.transformer.blocks.0.attn.layernorm_qkv.weight`
  split          ///< `esmc.layers.0.self_attn.q_proj.weight`
};

/// Tensors of one block. Where several are named they stand under each other, rows in this order.
struct esmc_block_names {
  std::string attention_gain, attention_bias;
  std::vector<std::string> qkv;  ///< one [3 d, d], or query, key, value [d, d]
  std::string query_gain, key_gain;
  std::string output;
  std::string feed_forward_gain, feed_forward_bias;
  std::vector<std::string> gate_up;  ///< one [2 f, d], or gate, up [f, d]; SiLU goes on the gate
  std::string down;
};

/// What the tensors of one file are called. A file of the encoder alone lacks the prefix `esmc.`
/// of the two newer layouts, and the head.
struct esmc_names {
  esmc_layout layout = esmc_layout::release_2024;
  std::string prefix;

  /// The layout of a file, or nothing where the file is no ESM-C.
  template <class File>
  static std::optional<esmc_names> find(const File& file) {
    for (const auto layout : {esmc_layout::release_2024, esmc_layout::fused, esmc_layout::split}) {
      for (const char* const prefix : {"", "esmc."}) {
        const esmc_names names{layout, prefix};
        const esmc_block_names first = names.block(0);
        if (file.contains(names.embedding()) && file.contains(first.attention_bias) &&
            file.contains(first.query_gain)) {
          return names;
        }
      }
    }
    return {};
  }

  std::string embedding() const {
    return prefix + (layout == esmc_layout::split ? "embed_tokens.weight" : "embed.weight");
  }
  /// What the names of all blocks begin with; a number and a dot follow.
  std::string blocks() const {
    return prefix + (layout == esmc_layout::split ? "layers." : "transformer.blocks.");
  }
  esmc_block_names block(std::size_t layer) const {
    const std::string at = blocks() + std::to_string(layer) + ".";
    if (layout == esmc_layout::split) {
      const std::string self = at + "self_attn.";
      return {.attention_gain = at + "input_layernorm.weight",
              .attention_bias = at + "input_layernorm.bias",
              .qkv = {self + "q_proj.weight", self + "k_proj.weight", self + "v_proj.weight"},
              .query_gain = self + "q_norm.weight",
              .key_gain = self + "k_norm.weight",
              .output = self + "o_proj.weight",
              .feed_forward_gain = at + "post_attention_layernorm.weight",
              .feed_forward_bias = at + "post_attention_layernorm.bias",
              .gate_up = {at + "mlp.gate_proj.weight", at + "mlp.up_proj.weight"},
              .down = at + "mlp.down_proj.weight"};
    }
    const bool fused = layout == esmc_layout::fused;
    const std::string norm = at + "attn.layernorm_qkv." + (fused ? "layer_norm_" : "0.");
    const std::string wide_norm = at + "ffn." + (fused ? "layer_norm_" : "0.");
    return {.attention_gain = norm + "weight",
            .attention_bias = norm + "bias",
            .qkv = {at + (fused ? "attn.layernorm_qkv.weight" : "attn.layernorm_qkv.1.weight")},
            .query_gain = at + "attn.q_ln.weight",
            .key_gain = at + "attn.k_ln.weight",
            .output = at + "attn.out_proj.weight",
            .feed_forward_gain = wide_norm + "weight",
            .feed_forward_bias = wide_norm + "bias",
            .gate_up = {at + (fused ? "ffn.fc1_weight" : "ffn.1.weight")},
            .down = at + (fused ? "ffn.fc2_weight" : "ffn.3.weight")};
  }
  std::string final_gain() const {
    return prefix + (layout == esmc_layout::split ? "norm.weight" : "transformer.norm.weight");
  }

  // The head; `.weight` or `.bias` follows.
  std::string head_dense() const { return head("0", "dense"); }
  std::string head_norm() const { return head("2", "layer_norm"); }
  std::string head_decoder() const { return head("3", "decoder"); }

 private:
  std::string head(std::string_view number, std::string_view name) const {
    const bool split = layout == esmc_layout::split;
    return std::string(layout == esmc_layout::release_2024 ? "sequence_head." : "lm_head.")
        .append(split ? name : number);
  }
};

/// Whether a file holds an ESM-C model, by its tensors' names.
template <class File>
bool is_esmc(const File& file) {
  return esmc_names::find(file).has_value();
}

}  // namespace plmscope::inline PLMSCOPE_ABI
