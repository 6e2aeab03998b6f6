// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/io/half.hpp>
#include <plmscope/plm/esmc_checkpoint.hpp>
#include <plmscope/plm/esmc_config.hpp>
#include <plmscope/plm/weight_filler.hpp>
#include <plmscope/tensor/matrix.hpp>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace plmscope::inline PLMSCOPE_ABI {

/// Parameters of one block. Weights are [out, in]: y = x w^T, no biases.
template <class Backend>
struct esmc_block {
  using vector = matrix<typename Backend::real, Backend>;
  using weight = typename Backend::packed;

  vector attention_gain, attention_bias;  ///< layer norm before attention
  weight qkv;                             ///< query, key, value stacked: [3 d, d]
  vector query_gain, key_gain;            ///< layer norms over the whole width, no bias
  weight output;
  vector feed_forward_gain, feed_forward_bias;
  weight gate_up;  ///< gate, then up: [2 feed_forward, d]
  weight down;     ///< [d, feed_forward]
};

/// All parameters of a model in the memory of a backend.
template <class Backend>
struct esmc_weights {
  using real = typename Backend::real;
  using vector = matrix<real, Backend>;
  using weight = typename Backend::packed;

  esmc_config config;
  model_identity identity;
  vector tokens;  ///< embedding table [64, d]
  std::vector<esmc_block<Backend>> blocks;
  vector final_gain;      ///< no bias
  bool has_head = false;  ///< what follows is empty without
  weight head;
  vector head_bias, head_gain, head_norm_bias;
  weight decoder;  ///< [64, d], not the embedding table
  vector decoder_bias;
  std::vector<float> inv_freq;  ///< rotary frequencies, head_dim / 2
};

/// Rotary frequencies of ESM-C in float, as its code computes them: 1 / 10000^(2j / head_dim).
inline std::vector<float> esmc_inv_freq(std::size_t head_dim,
                                        esmc_rotary rounding = esmc_rotary::exact) {
  std::vector<float> out(head_dim / 2);
  for (std::size_t j = 0; j < out.size(); ++j) {
    const float exponent = static_cast<float>(2 * j) / static_cast<float>(head_dim);
    out[j] = 1.0f / static_cast<float>(std::pow(10000.0, static_cast<double>(exponent)));
    if (rounding == esmc_rotary::bfloat16_rounded) out[j] = to_float(to_bfloat16(out[j]));
  }
  return out;
}

namespace esmc_detail {

/// Everything but identity and inv_freq.
template <class Backend, class Read>
esmc_weights<Backend> fill_weights(Backend& be, const esmc_config& config, const esmc_names& names,
                                   bool head, const Read& read) {
  weight_filler<Backend, Read> get(be, read);
  const std::size_t d = config.d_model;
  const std::size_t wide = config.feed_forward;
  esmc_weights<Backend> w;
  w.config = config;
  w.tokens = get.table(names.embedding(), config.vocabulary, d);
  w.blocks.resize(config.layers);
  for (std::size_t l = 0; l < config.layers; ++l) {
    const esmc_block_names from = names.block(l);
    auto& b = w.blocks[l];
    b.attention_gain = get.row(from.attention_gain, d);
    b.attention_bias = get.row(from.attention_bias, d);
    b.qkv = get.weight(from.qkv, 3 * d / from.qkv.size(), d);
    b.query_gain = get.row(from.query_gain, d);
    b.key_gain = get.row(from.key_gain, d);
    b.output = get.weight({from.output}, d, d);
    b.feed_forward_gain = get.row(from.feed_forward_gain, d);
    b.feed_forward_bias = get.row(from.feed_forward_bias, d);
    b.gate_up = get.weight(from.gate_up, 2 * wide / from.gate_up.size(), d);
    b.down = get.weight({from.down}, d, wide);
  }
  w.final_gain = get.row(names.final_gain(), d);
  w.has_head = head;
  if (head) {
    w.head = get.weight({names.head_dense() + ".weight"}, d, d);
    w.head_bias = get.row(names.head_dense() + ".bias", d);
    w.head_gain = get.row(names.head_norm() + ".weight", d);
    w.head_norm_bias = get.row(names.head_norm() + ".bias", d);
    w.decoder = get.exact_weight(get.table(names.head_decoder() + ".weight", config.vocabulary, d));
    w.decoder_bias = get.row(names.head_decoder() + ".bias", config.vocabulary);
  }
  return w;
}

}  // namespace esmc_detail

/// Reads a model into a backend's memory, converting to its number type. The three layouts give the
/// same weights. Errors: io.1xx for a damaged file or a missing tensor, io.127 for weights that are
/// not finite.
template <class Backend>
esmc_weights<Backend> load_esmc_weights(Backend& be, const esmc_checkpoint& from,
                                        esmc_rotary rotary = esmc_rotary::exact) {
  using real = typename Backend::real;
  from.file().check_finite();
  const auto read = [&](std::string_view name, std::initializer_list<std::size_t> shape,
                        std::span<real> out) { from.read(name, shape, out); };
  auto w = esmc_detail::fill_weights(be, from.config(), from.names(), from.has_head(), read);
  w.identity = from.identity();
  w.inv_freq = esmc_inv_freq(w.config.head_dim(), rotary);
  return w;
}

/// A model of random numbers in a given shape, for trials of speed and tests of shapes. The same
/// for the same seed on every backend.
template <class Backend>
esmc_weights<Backend> random_esmc_weights(Backend& be, const esmc_config& config,
                                          std::uint64_t seed) {
  auto w = esmc_detail::fill_weights(be, config, esmc_names{}, true, random_tensors(seed));
  w.inv_freq = esmc_inv_freq(config.head_dim());
  w.identity = {
      .name = "random", .content_hash = "", .layers = config.layers, .d_model = config.d_model};
  return w;
}

}  // namespace plmscope::inline PLMSCOPE_ABI
