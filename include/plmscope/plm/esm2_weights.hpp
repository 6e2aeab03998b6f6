// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/core/view.hpp>
#include <plmscope/plm/esm2_checkpoint.hpp>
#include <plmscope/plm/esm2_config.hpp>
#include <plmscope/plm/weight_filler.hpp>
#include <plmscope/tensor/matrix.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace plmscope::inline PLMSCOPE_ABI {

/// Parameters of one block. Weights are [out, in]: y = x w^T + b.
template <class Backend>
struct esm2_block {
  using vector = matrix<typename Backend::real, Backend>;
  using weight = typename Backend::packed;

  vector attention_gain, attention_bias;  ///< layer norm before attention
  weight qkv;                             ///< query, key, value stacked: [3 d, d]
  vector qkv_bias;
  weight output;
  vector output_bias;
  vector feed_forward_gain, feed_forward_bias;
  weight expand;  ///< [feed_forward, d]
  vector expand_bias;
  weight contract;
  vector contract_bias;
  std::size_t rotary = 0;  ///< index into esm2_weights::inv_freq
};

/// All parameters of a model in the memory of a backend.
template <class Backend>
struct esm2_weights {
  using real = typename Backend::real;
  using vector = matrix<real, Backend>;
  using weight = typename Backend::packed;

  esm2_config config;
  model_identity identity;
  vector tokens;  ///< embedding table [33, d]
  std::vector<esm2_block<Backend>> blocks;
  vector final_gain, final_bias;
  bool has_head = false;  ///< what follows is empty without
  weight head;
  vector head_bias, head_gain, head_norm_bias;
  weight decoder;  ///< the embedding table again, as a linear map
  vector decoder_bias;
  contact_regression contacts;  ///< without weights where the files have no contact head
  std::vector<std::vector<float>> inv_freq;  ///< distinct sets of rotary frequencies, mostly one
};

namespace esm2_detail {

/// Everything but identity and inv_freq.
template <class Backend, class Read>
esm2_weights<Backend> fill_weights(Backend& be, const esm2_config& config, bool head,
                                   const Read& read) {
  weight_filler<Backend, Read> get(be, read);
  const std::size_t d = config.d_model;
  const std::size_t wide = config.feed_forward;
  esm2_weights<Backend> w;
  w.config = config;
  w.tokens = get.table("esm.embeddings.word_embeddings.weight", config.vocabulary, d);
  w.blocks.resize(config.layers);
  for (std::size_t l = 0; l < config.layers; ++l) {
    const std::string at = "esm.encoder.layer." + std::to_string(l) + ".";
    const std::string self = at + "attention.self.";
    auto& b = w.blocks[l];
    b.attention_gain = get.row(at + "attention.LayerNorm.weight", d);
    b.attention_bias = get.row(at + "attention.LayerNorm.bias", d);
    b.qkv = get.weight({self + "query.weight", self + "key.weight", self + "value.weight"}, d, d);
    b.qkv_bias = get.stacked({self + "query.bias", self + "key.bias", self + "value.bias"}, d, 0);
    b.output = get.weight({at + "attention.output.dense.weight"}, d, d);
    b.output_bias = get.row(at + "attention.output.dense.bias", d);
    b.feed_forward_gain = get.row(at + "LayerNorm.weight", d);
    b.feed_forward_bias = get.row(at + "LayerNorm.bias", d);
    b.expand = get.weight({at + "intermediate.dense.weight"}, wide, d);
    b.expand_bias = get.row(at + "intermediate.dense.bias", wide);
    b.contract = get.weight({at + "output.dense.weight"}, d, wide);
    b.contract_bias = get.row(at + "output.dense.bias", d);
  }
  w.final_gain = get.row("esm.encoder.emb_layer_norm_after.weight", d);
  w.final_bias = get.row("esm.encoder.emb_layer_norm_after.bias", d);
  w.has_head = head;
  if (head) {
    w.head = get.weight({"lm_head.dense.weight"}, d, d);
    w.head_bias = get.row("lm_head.dense.bias", d);
    w.head_gain = get.row("lm_head.layer_norm.weight", d);
    w.head_norm_bias = get.row("lm_head.layer_norm.bias", d);
    w.decoder = get.exact_weight(w.tokens);
    w.decoder_bias = get.row("lm_head.bias", config.vocabulary);
  }
  return w;
}

}  // namespace esm2_detail

/// Reads a model into a backend's memory, converting to its number type. Errors: plm.109 to
/// plm.113, io.1xx for a damaged file or a missing tensor, io.127 for weights that are not finite.
template <class Backend>
esm2_weights<Backend> load_esm2_weights(Backend& be, const esm2_checkpoint& from) {
  using real = typename Backend::real;
  from.file().check_finite();
  const auto read = [&](std::string_view name, std::initializer_list<std::size_t> shape,
                        std::span<real> out) { from.read(name, shape, out); };
  auto w = esm2_detail::fill_weights(be, from.config(), from.has_head(), read);
  w.identity = from.identity();
  for (std::size_t l = 0; l < w.blocks.size(); ++l) {
    auto frequencies = from.inv_freq(l);
    const auto same = std::ranges::find(w.inv_freq, frequencies);
    w.blocks[l].rotary = static_cast<std::size_t>(same - w.inv_freq.begin());
    if (same == w.inv_freq.end()) w.inv_freq.push_back(std::move(frequencies));
  }
  if (from.has_contact_head()) w.contacts = from.contact_head();
  if (from.has_head() && from.has_decoder()) {
    const std::size_t n = from.config().vocabulary * from.config().d_model;
    std::vector<real> table(n);
    std::vector<real> decoder(n);
    const auto shape = {from.config().vocabulary, from.config().d_model};
    from.read("esm.embeddings.word_embeddings.weight", shape, std::span<real>(table));
    from.read("lm_head.decoder.weight", shape, std::span<real>(decoder));
    if (table != decoder) {
      throw error(rules::decoder_not_tied,
                  {.where = from.file().where(), .found = "different numbers"});
    }
  }
  return w;
}

/// A model of random numbers in a given shape, for trials of speed and tests of shapes. The same
/// for the same seed on every backend.
template <class Backend>
esm2_weights<Backend> random_esm2_weights(Backend& be, const esm2_config& config,
                                          std::uint64_t seed) {
  random_tensors read{seed};
  auto w = esm2_detail::fill_weights(be, config, true, read);
  std::vector<float> frequencies;
  for (std::size_t j = 0; j < config.head_dim() / 2; ++j) {
    const double exponent = 2.0 * static_cast<double>(j) / static_cast<double>(config.head_dim());
    frequencies.push_back(to_float(to_float16(static_cast<float>(std::pow(10000.0, -exponent)))));
  }
  w.inv_freq = {std::move(frequencies)};
  w.identity = {
      .name = "random", .content_hash = "", .layers = config.layers, .d_model = config.d_model};
  return w;
}

}  // namespace plmscope::inline PLMSCOPE_ABI
