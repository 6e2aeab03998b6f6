// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/io/byte_source.hpp>
#include <plmscope/io/half.hpp>
#include <plmscope/io/weights_file.hpp>
#include <plmscope/plm/esm2_config.hpp>
#include <plmscope/plm/esm2_names.hpp>
#include <plmscope/plm/model_path.hpp>
#include <plmscope/plm/rules.hpp>

#include <charconv>
#include <cmath>
#include <cstddef>
#include <filesystem>
#include <initializer_list>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

namespace plmscope::inline PLMSCOPE_ABI {

namespace esm2_detail {

/// The text of a top-level scalar in a flat JSON object such as config.json, quotes included.
inline std::optional<std::string> json_scalar(std::string_view text, std::string_view key) {
  const std::string quoted = std::string("\"").append(key).append("\"");
  const std::size_t at = text.find(quoted);
  if (at == std::string_view::npos) return {};
  constexpr std::string_view blank = " \t\r\n";
  std::size_t i = text.find_first_not_of(blank, at + quoted.size());
  if (i == std::string_view::npos || text[i] != ':') return {};
  i = text.find_first_not_of(blank, i + 1);
  if (i == std::string_view::npos) return {};
  return std::string(text.substr(i, text.find_first_of(",}\r\n", i) - i));
}

}  // namespace esm2_detail

/// The contact head of an ESM-2 model (Rao et al. 2021): a logistic regression on the attention
/// maps of all blocks and heads.
struct contact_regression {
  std::vector<float> weight;  ///< layers * heads numbers, block after block
  float bias = 0;
};

/// The files of an ESM-2 model, whatever they are (see `model_path` and `weights_file`): finds its
/// tensors under the names of Hugging Face or fair-esm, reads its shape off them. Numbers may be
/// F32, F16, BF16 or F64.
class esm2_checkpoint {
 public:
  /// A folder, a file, or a name of the hub; `model_path` says what is looked for. `config.json`
  /// beside the weights (or `NAME.config.json` beside `NAME.model.safetensors`) is used where the
  /// tensors cannot tell, and the settings in a checkpoint of fair-esm.
  static esm2_checkpoint open(const std::filesystem::path& path, const esm2_options& options = {}) {
    const model_files files = model_path::find(path);
    return {weights_file::open(files.weights), files, options};
  }

  const weights_file& file() const noexcept { return file_; }
  const esm2_config& config() const noexcept { return config_; }
  const model_identity& identity() const noexcept { return identity_; }
  bool has_head() const { return contains("lm_head.dense.weight"); }
  bool has_decoder() const { return contains("lm_head.decoder.weight"); }
  /// In the file, or in fair-esm's `NAME-contact-regression.pt` beside it.
  bool has_contact_head() const { return contacts_.has_value(); }

  /// The weights of the contact head; plm.120 where there is none.
  contact_regression contact_head() const {
    if (!contacts_) {
      throw error(rules::contact_head_missing,
                  {.where = file_.where(),
                   .found = "no contact_head.regression.weight",
                   .remedy = "with fair-esm's NAME.pt put NAME-contact-regression.pt beside it"});
    }
    const std::size_t channels = config_.layers * config_.heads;
    const auto& weight = contacts_->require(contact_weight_, {1, channels});
    const auto& bias = contacts_->require(contact_bias(), {1});
    contacts_->check_finite(weight);
    contacts_->check_finite(bias);
    return {.weight = contacts_->read_vector<float>(weight),
            .bias = contacts_->read_vector<float>(bias)[0]};
  }

  /// Reads a tensor by its name in the full layout (`esm.encoder...`); the shape is checked.
  template <class Real>
  void read(std::string_view name, std::initializer_list<std::size_t> shape,
            std::span<Real> out) const {
    file_.read(file_.require(names_(name), shape), out);
  }

  /// Rotary frequencies of a block, head_dim / 2 numbers, by the option's choice.
  std::vector<float> inv_freq(std::size_t layer) const {
    std::vector<float> out(config_.head_dim() / 2);
    if (rotary_ == plmscope::inv_freq::stored) {
      const stored_tensor* t = stored_inv_freq(layer);
      if (t == nullptr) fail_inv_freq("none for block " + std::to_string(layer));
      if (t->elements != out.size()) {
        fail_inv_freq(std::to_string(t->elements) + " numbers in " + t->name + ", " +
                      std::to_string(out.size()) + " in block 0");
      }
      file_.read(*t, std::span<float>(out));
      return out;
    }
    for (std::size_t j = 0; j < out.size(); ++j) {
      const double exponent =
          2.0 * static_cast<double>(j) / static_cast<double>(config_.head_dim());
      out[j] = static_cast<float>(std::pow(10000.0, -exponent));
      if (rotary_ == plmscope::inv_freq::half_rounded) out[j] = to_float(to_float16(out[j]));
    }
    return out;
  }

 private:
  esm2_checkpoint(weights_file file, const model_files& files, const esm2_options& options)
      : file_(std::move(file)), names_(esm2_names::of(file_)), rotary_(options.rotary) {
    if (names_.kind() == esm2_names::layout::none) {
      throw error(rules::model_architecture,
                  {.where = file_.where(),
                   .expected = "tensor \"esm.embeddings.word_embeddings.weight\"",
                   .found = "no such tensor, nor fair-esm's embed_tokens.weight",
                   .remedy = "use a checkpoint of ESM-2 (facebook/esm2_* or fair-esm's .pt)"});
    }
    const std::string table = names_("esm.embeddings.word_embeddings.weight");
    if (file_.require(table).shape.size() != 2 && names_.kind() == esm2_names::layout::fair_esm) {
      refuse("an embedding table [33, width]", "fair-esm's tensor names with a table of shape " +
                                                   shape_text(file_.require(table).shape));
    }
    const auto& words = file_.require(table, {any_extent, any_extent});
    config_.vocabulary = words.shape[0];
    config_.d_model = words.shape[1];
    while (contains(block_name(config_.layers) + "LayerNorm.weight")) {
      ++config_.layers;
    }
    if (config_.layers == 0 || config_.d_model == 0 || config_.vocabulary != 33) {
      refuse("33 tokens, a width and at least one block",
             std::to_string(config_.vocabulary) + " tokens, width " +
                 std::to_string(config_.d_model) + ", " + std::to_string(config_.layers) +
                 " blocks");
    }
    if (contains("esm.embeddings.layer_norm.weight")) {
      refuse("no layer norm on the embeddings", "embeddings.layer_norm (an ESM-1 model)");
    }
    const std::string first_linear = names_(block_name(0) + "intermediate.dense.weight");
    config_.feed_forward = file_.require(first_linear, {any_extent, config_.d_model}).shape[0];
    const std::string json = config_text(files.config);
    apply_config(json);
    apply_fair_settings();
    choose_heads(json, options);
    find_contact_head(files.contacts);
    identity_ = {.name = files.name,
                 .content_hash = options.content_hash ? file_.content_hash() : "",
                 .layers = config_.layers,
                 .d_model = config_.d_model};
  }

  static std::string block_name(std::size_t layer) {
    return "esm.encoder.layer." + std::to_string(layer) + ".";
  }
  bool contains(std::string_view name) const { return file_.contains(names_(name)); }

  // In the model's own file or in one of its own, where the names have no prefix or `model/`.
  void find_contact_head(const std::filesystem::path& beside) {
    contact_weight_ = names_("esm.contact_head.regression.weight");
    if (file_.contains(contact_weight_)) {
      contacts_ = file_;
    } else if (!beside.empty()) {
      contacts_ = weights_file::open(beside);
      contact_weight_ = "contact_head.regression.weight";
      if (!contacts_->contains(contact_weight_)) contact_weight_ = "model/" + contact_weight_;
    }
  }
  std::string contact_bias() const {
    return contact_weight_.substr(0, contact_weight_.rfind('.')) + ".bias";
  }

  // One per block (published files), or one for all (saved by transformers 5).
  const stored_tensor* stored_inv_freq(std::size_t layer) const {
    for (const std::string& name : {block_name(layer) + "attention.self.rotary_embeddings.inv_freq",
                                    std::string("esm.rotary_embeddings.inv_freq"),
                                    std::string("esm.encoder.rotary_embeddings.inv_freq")}) {
      if (const stored_tensor* t = file_.find(names_(name))) return t;
    }
    return nullptr;
  }

  void choose_heads(const std::string& json, const esm2_options& options) {
    std::size_t heads = 0;
    if (const stored_tensor* t = stored_inv_freq(0)) {
      const std::size_t head_dim = 2 * t->elements;
      if (head_dim > 0 && config_.d_model % head_dim == 0) heads = config_.d_model / head_dim;
      if (heads == 0) fail_heads("inv_freq of " + std::to_string(t->elements) + " numbers");
    } else if (rotary_ == plmscope::inv_freq::stored) {
      fail_inv_freq("no inv_freq in the file");
    } else if (options.heads > 0) {
      heads = options.heads;
    } else if (const auto stated = esm2_detail::json_scalar(json, "num_attention_heads")) {
      heads = static_cast<std::size_t>(number(*stated, "num_attention_heads"));
    } else {
      for (const auto& size : esm2_sizes) {
        if (size.layers == config_.layers && size.d_model == config_.d_model) heads = size.heads;
      }
    }
    if (heads == 0 || config_.d_model % heads != 0 || config_.d_model / heads % 2 != 0) {
      fail_heads(std::to_string(heads) + " heads");
    }
    config_.heads = heads;
  }

  void apply_config(const std::string& json) {
    const auto scalar = [&](std::string_view key) { return esm2_detail::json_scalar(json, key); };
    if (const auto v = scalar("token_dropout")) config_.token_dropout = *v != "false";
    if (const auto v = scalar("layer_norm_eps")) {
      config_.layer_norm_epsilon = number(*v, "layer_norm_eps");
    }
    const auto demand = [&](std::string_view key, std::string_view wanted) {
      if (const auto v = scalar(key); v && *v != wanted) {
        refuse(std::string(key) + " " + std::string(wanted), *v + " in config.json");
      }
    };
    demand("hidden_act", "\"gelu\"");
    demand("position_embedding_type", "\"rotary\"");
    demand("emb_layer_norm_before", "false");
  }

  // cfg.model of a checkpoint of fair-esm.
  void apply_fair_settings() {
    const auto settings = file_.root().find("cfg");
    const auto model = settings ? settings->find("model") : std::nullopt;
    const auto dropout = model ? model->find("token_dropout") : std::nullopt;
    if (dropout && dropout->is(pickle_kind::boolean)) config_.token_dropout = dropout->boolean();
  }

  double number(const std::string& text, std::string_view key) const {
    double value = 0;
    const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (failure != std::errc() || end == text.data() || !(value > 0) || !(value < 1e9)) {
      throw error(rules::config_number,
                  {.where = "config.json beside " + file_.where() + ", " + std::string(key),
                   .expected = "a positive number",
                   .found = text.substr(0, 40)});
    }
    return value;
  }

  static std::string config_text(const std::filesystem::path& json) {
    if (json.empty()) return {};
    const auto bytes = read_file(json, std::size_t{1} << 20);
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
  }

  [[noreturn]] void refuse(std::string expected, std::string found) const {
    throw error(
        rules::model_architecture,
        {.where = file_.where(), .expected = std::move(expected), .found = std::move(found)});
  }
  [[noreturn]] void fail_heads(std::string found) const {
    throw error(rules::model_heads,
                {.where = file_.where(),
                 .expected = "width " + std::to_string(config_.d_model) + " = heads x even width",
                 .found = std::move(found),
                 .remedy = "state the number of heads (esm2_options::heads)"});
  }
  [[noreturn]] void fail_inv_freq(std::string found) const {
    throw error(rules::inv_freq_missing,
                {.where = file_.where(),
                 .expected = "attention.self.rotary_embeddings.inv_freq per block, or one for all",
                 .found = std::move(found),
                 .remedy = "choose esm2_options::rotary = inv_freq::half_rounded (what official "
                           "checkpoints hold) or inv_freq::exact (trained with float values)"});
  }

  weights_file file_;
  esm2_names names_;
  plmscope::inv_freq rotary_;
  std::optional<weights_file> contacts_;
  std::string contact_weight_;
  esm2_config config_;
  model_identity identity_;
};

}  // namespace plmscope::inline PLMSCOPE_ABI
