// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/io/weights_file.hpp>
#include <plmscope/plm/esmc_alphabet.hpp>
#include <plmscope/plm/esmc_config.hpp>
#include <plmscope/plm/esmc_names.hpp>
#include <plmscope/plm/model_config_file.hpp>
#include <plmscope/plm/model_path.hpp>
#include <plmscope/plm/rules.hpp>

#include <charconv>
#include <cstddef>
#include <filesystem>
#include <initializer_list>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

namespace plmscope::inline PLMSCOPE_ABI {

/// The files of an ESM-C model, whatever they are (see `weights_file`), under any of the three sets
/// of names, with or without a head; its shape is read off the tensors. Numbers may be F32, F16,
/// BF16 or F64. Tensors of other names are ignored.
class esmc_checkpoint {
 public:
  /// A folder, a file, or a name of the hub; `model_path` says what is looked for. The number of
  /// heads is in no tensor: it comes from the options, else from the `config.json` beside the file,
  /// else heads are taken to be 64 numbers wide as in every published size (`heads_assumed`).
  /// Errors: plm.109 to plm.111, plm.118, plm.119, plm.150 to plm.152.
  static esmc_checkpoint open(const std::filesystem::path& path, const esmc_options& options = {}) {
    const model_files files = model_path::find(path);
    return {weights_file::open(files.weights), files, options};
  }

  const weights_file& file() const noexcept { return file_; }
  const esmc_names& names() const noexcept { return names_; }
  const esmc_config& config() const noexcept { return config_; }
  const model_identity& identity() const noexcept { return identity_; }
  bool has_head() const noexcept { return file_.contains(names_.head_dense() + ".weight"); }
  /// Nothing stated the number of heads.
  bool heads_assumed() const noexcept { return heads_assumed_; }

  /// Reads a tensor by its name in this file; the shape is checked.
  template <class Real>
  void read(std::string_view name, std::initializer_list<std::size_t> shape,
            std::span<Real> out) const {
    file_.read(file_.require(name, shape), out);
  }

 private:
  esmc_checkpoint(weights_file file, const model_files& files, const esmc_options& options)
      : file_(std::move(file)) {
    const auto names = esmc_names::find(file_);
    if (!names) {
      refuse(
          "embed.weight and transformer.blocks.0.*, or esmc.embed_tokens.weight and "
          "esmc.layers.0.*",
          file_.tensors().empty() ? "no tensor" : "\"" + file_.tensors().front().name + "\" ...");
    }
    names_ = *names;
    const auto& table = file_.require(names_.embedding(), {any_extent, any_extent});
    config_.vocabulary = table.shape[0];
    config_.d_model = table.shape[1];
    if (config_.vocabulary < esmc_alphabet::size || config_.d_model == 0) {
      refuse("an embedding of at least " + std::to_string(esmc_alphabet::size) + " tokens",
             shape_text(table.shape));
    }
    count_layers();
    config_.feed_forward =
        file_.require(names_.block(0).down, {config_.d_model, any_extent}).shape[1];
    if (config_.feed_forward == 0) refuse("a feed-forward layer", "width 0");
    choose_heads(model_config_file::beside(files.weights), options);
    identity_ = {.name = files.name,
                 .content_hash = options.content_hash ? file_.content_hash() : "",
                 .layers = config_.layers,
                 .d_model = config_.d_model};
  }

  // Blocks stand without a gap: a file that lost one is no smaller model.
  void count_layers() {
    while (file_.contains(names_.block(config_.layers).query_gain)) ++config_.layers;
    const std::string begin = names_.blocks();
    for (const stored_tensor& t : file_.tensors()) {
      if (!t.name.starts_with(begin)) continue;
      std::size_t layer = 0;
      const char* const last = t.name.data() + t.name.size();
      const auto [end, failure] = std::from_chars(t.name.data() + begin.size(), last, layer);
      if (failure != std::errc() || end == last || *end != '.' || layer < config_.layers) continue;
      refuse("tensor \"" + names_.block(config_.layers).query_gain + "\"",
             "\"" + t.name + "\" behind " + std::to_string(config_.layers) + " whole blocks");
    }
  }

  void choose_heads(const model_config_file& json, const esmc_options& options) {
    const auto agree = [&](const char* what, std::size_t have,
                           std::initializer_list<std::string_view> keys) {
      const auto stated = json.count(keys);
      if (!stated || *stated == have) return;
      throw error(rules::config_model, {.where = json.where(),
                                        .expected = std::to_string(have) + " " + what,
                                        .found = std::to_string(*stated)});
    };
    agree("blocks", config_.layers, {"num_hidden_layers", "n_layers"});
    agree("numbers a state", config_.d_model, {"hidden_size", "d_model"});
    const auto stated = json.count({"num_attention_heads", "n_heads"});
    heads_assumed_ = options.heads == 0 && !stated;
    config_.heads = options.heads > 0 ? options.heads : stated.value_or(config_.d_model / 64);
    const std::size_t head_dim = config_.heads == 0 ? 0 : config_.d_model / config_.heads;
    if (head_dim * config_.heads != config_.d_model || head_dim % 2 != 0 || head_dim == 0 ||
        (heads_assumed_ && head_dim != 64)) {
      throw error(
          rules::model_heads,
          {.where = file_.where(),
           .expected = "width " + std::to_string(config_.d_model) + " = heads x even width",
           .found = heads_assumed_ ? "no config.json, and heads of 64 do not fit"
                                   : std::to_string(config_.heads) + " heads",
           .remedy =
               "put config.json with \"n_heads\" beside the file, or set esmc_options::heads"});
    }
  }

  [[noreturn]] void refuse(std::string expected, std::string found) const {
    throw error(
        rules::esmc_architecture,
        {.where = file_.where(), .expected = std::move(expected), .found = std::move(found)});
  }

  weights_file file_;
  esmc_names names_;
  esmc_config config_;
  model_identity identity_;
  bool heads_assumed_ = false;
};

/// Whether what a user named is an ESM-C model; false where nothing is found.
inline bool holds_esmc(const std::filesystem::path& path) {
  try {
    return is_esmc(weights_file::open(model_path::find(path).weights));
  } catch (const error&) {
    return false;  // opening it as the model it should be says what is wrong
  }
}

}  // namespace plmscope::inline PLMSCOPE_ABI
