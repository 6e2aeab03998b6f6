// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/core/activation_source.hpp>
#include <plmscope/core/view.hpp>
#include <plmscope/io/safetensors.hpp>
#include <plmscope/io/safetensors_writer.hpp>
#include <plmscope/sae/normalizer.hpp>
#include <plmscope/sae/rules.hpp>
#include <plmscope/sae/sae.hpp>
#include <plmscope/version.hpp>

#include <charconv>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace plmscope::inline PLMSCOPE_ABI {

// The SAE file: safetensors with `encoder` [F, d], `decoder` [F, d], `encoder_bias` [F],
// `decoder_bias` [d] (F32, or F64 from double backends), for per-dimension normalisation also
// `normalizer.mean` and `normalizer.deviation` [d] (F64), and text metadata:
//   format                plmscope.sae.1
//   source.model, source.model_hash, source.site
//   sparsifier, sparsifier.FIELD, decode.scale_by_decoder_norm
//   normalizer, normalizer.scale, .epsilon, .root_epsilon, .inverse_epsilon, .ddof
//   training.KEY          whatever the training recorded

/// What a file says about an SAE, without its numbers.
struct sae_description {
  std::size_t d_model = 0;
  std::size_t features = 0;
  std::string sparsifier;
  std::map<std::string, std::string> sparsifier_fields;
  plmscope::normalizer normalizer;
  activation_source source;
  bool scale_by_decoder_norm = false;
  std::map<std::string, std::string> training_record;
};

namespace checkpoint_detail {

inline constexpr std::string_view format = "plmscope.sae.1";

inline std::string number_text(double v) {
  char text[32];
  const auto end = std::to_chars(text, text + sizeof text, v).ptr;
  return {text, end};
}

template <class T>
T number(const safetensors_file& file, const std::string& key, std::string_view text) {
  T value{};
  const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (failure != std::errc() || end != text.data() + text.size()) {
    throw error(rules::sae_field, {.where = file.where() + ", metadata \"" + key + "\"",
                                   .expected = "a number", .found = std::string(text)});
  }
  return value;
}

inline std::string text_of(const safetensors_file& file, const std::string& key) {
  const auto at = file.metadata().find(key);
  if (at == file.metadata().end()) {
    throw error(rules::sae_field, {.where = file.where(), .expected = "metadata \"" + key + "\"",
                                   .found = "none"});
  }
  return at->second;
}

inline std::map<std::string, std::string> with_prefix(const safetensors_file& file,
                                                      std::string_view prefix) {
  std::map<std::string, std::string> out;
  for (const auto& [key, value] : file.metadata()) {
    if (key.starts_with(prefix)) out[key.substr(prefix.size())] = value;
  }
  return out;
}

inline normalizer read_normalizer(const safetensors_file& file, std::size_t d) {
  normalizer n;
  const std::string name = text_of(file, "normalizer");
  const auto real = [&](const char* key) {
    return number<double>(file, key, text_of(file, key));
  };
  bool known = false;
  for (const auto kind : {normalization::none, normalization::scalar, normalization::per_dimension,
                          normalization::token_layer_norm}) {
    if (name == normalizer::name(kind)) n.kind = kind, known = true;
  }
  if (!known) throw error(rules::sae_field, {.where = file.where() + ", normalizer", .found = name});
  if (n.kind == normalization::scalar) n.scale = real("normalizer.scale");
  if (n.kind == normalization::token_layer_norm) {
    n.epsilon = real("normalizer.epsilon");
    n.root_epsilon = real("normalizer.root_epsilon");
    n.inverse_epsilon = real("normalizer.inverse_epsilon");
    n.ddof = number<std::size_t>(file, "normalizer.ddof", text_of(file, "normalizer.ddof"));
  }
  if (n.kind == normalization::per_dimension) {
    n.mean = file.read_vector<double>("normalizer.mean", {d});
    n.deviation = file.read_vector<double>("normalizer.deviation", {d});
  }
  return n;
}

}  // namespace checkpoint_detail

/// Whether a safetensors file says that it is an SAE of ours.
inline bool is_sae(const safetensors_file& file) {
  const auto at = file.metadata().find("format");
  return at != file.metadata().end() && at->second == checkpoint_detail::format;
}

/// Reads and checks everything but the numbers. Errors: `sae_format`, `sae_field`.
inline sae_description describe_sae(const safetensors_file& file) {
  namespace c = checkpoint_detail;
  if (!is_sae(file)) {
    throw error(rules::sae_format,
                {.where = file.where(),
                 .expected = "metadata format = " + std::string(c::format),
                 .found = file.metadata().count("format") ? file.metadata().find("format")->second
                                                          : std::string("no format"),
                 .remedy = "`plmscope info FILE` says what the file is"});
  }
  const auto& shape = file.require("encoder", {any_extent, any_extent}).shape;
  sae_description d;
  d.features = shape[0];
  d.d_model = shape[1];
  if (d.features == 0 || d.d_model == 0) {
    throw error(rules::sae_format, {.where = file.where(), .found = "an empty encoder"});
  }
  file.require("decoder", {d.features, d.d_model});
  file.require("encoder_bias", {d.features});
  file.require("decoder_bias", {d.d_model});
  d.sparsifier = c::text_of(file, "sparsifier");
  d.sparsifier_fields = c::with_prefix(file, "sparsifier.");
  d.normalizer = c::read_normalizer(file, d.d_model);
  d.source = {c::text_of(file, "source.model"), c::text_of(file, "source.model_hash"),
              c::text_of(file, "source.site")};
  d.scale_by_decoder_norm = c::text_of(file, "decode.scale_by_decoder_norm") == "true";
  d.training_record = c::with_prefix(file, "training.");
  return d;
}

/// Writes the SAE with all that it needs to be understood later; atomic.
template <class Sparsifier, class Backend>
void save_sae(sae<Sparsifier, Backend>& model, const std::filesystem::path& path) {
  namespace c = checkpoint_detail;
  using real = typename Backend::real;
  safetensors_writer out;
  out.metadata["format"] = c::format;
  out.metadata["plmscope.version"] = std::to_string(PLMSCOPE_VERSION_MAJOR) + "." +
                                     std::to_string(PLMSCOPE_VERSION_MINOR) + "." +
                                     std::to_string(PLMSCOPE_VERSION_PATCH);
  out.metadata["source.model"] = model.source.model;
  out.metadata["source.model_hash"] = model.source.model_hash;
  out.metadata["source.site"] = model.source.site;
  out.metadata["sparsifier"] = Sparsifier::id;
  if constexpr (requires(Sparsifier s) { s.fields([](std::string_view, auto&) {}); }) {
    Sparsifier copy = model.sparsifier();
    copy.fields([&](std::string_view name, auto& value) {
      out.metadata["sparsifier." + std::string(name)] = c::number_text(static_cast<double>(value));
    });
  }
  out.metadata["decode.scale_by_decoder_norm"] = model.settings().lengths == row_lengths::in_codes ? "true" : "false";
  const normalizer& n = model.normalization();
  out.metadata["normalizer"] = normalizer::name(n.kind);
  out.metadata["normalizer.scale"] = c::number_text(n.scale);
  out.metadata["normalizer.epsilon"] = c::number_text(n.epsilon);
  out.metadata["normalizer.root_epsilon"] = c::number_text(n.root_epsilon);
  out.metadata["normalizer.inverse_epsilon"] = c::number_text(n.inverse_epsilon);
  out.metadata["normalizer.ddof"] = std::to_string(n.ddof);
  for (const auto& [key, value] : model.training_record) out.metadata["training." + key] = value;
  if (n.kind == normalization::per_dimension) {
    out.add_owned<double>("normalizer.mean", {n.mean.size()}, n.mean);
    out.add_owned<double>("normalizer.deviation", {n.deviation.size()}, n.deviation);
  }
  auto& be = model.backend();
  model.parameters().for_each([&](const std::string& name, auto& m) {
    std::vector<real> host(m.size());
    be.download(const_view<Backend>(m), std::span<real>(host));
    std::vector<std::size_t> shape =
        m.rows() == 1 && name.ends_with("bias") ? std::vector<std::size_t>{m.cols()}
                                                : std::vector<std::size_t>{m.rows(), m.cols()};
    out.add_owned<real>(name, std::move(shape), std::move(host));
  });
  out.write(path);
}

/// Refuses (`sae_parent`) activations of another model, site or content than the SAE was trained on.
/// Fields that either side leaves empty are not compared.
inline void check_source(const activation_source& sae, const activation_source& data,
                         const std::string& where) {
  const auto differ = [&](const char* what, const std::string& a, const std::string& b,
                          const char* remedy) {
    if (a.empty() || b.empty() || a == b) return;
    throw error(rules::sae_parent, {.where = where, .expected = std::string(what) + " " + a,
                                    .found = b, .remedy = remedy});
  };
  differ("site", sae.site, data.site, "read the site that the SAE was trained on");
  if (sae.model_hash.empty() || data.model_hash.empty()) {
    differ("model", sae.model, data.model, "use the model that the SAE was trained on");
  }
  differ("weights with hash", sae.model_hash, data.model_hash,
         "use the model that the SAE was trained on; equal names do not make equal weights");
}

/// Opens an SAE. `expect` names the activations it will be used on: another model, site or
/// normalisation is refused with the reason (`sae_parent`). Other errors: `sae_format`, `sae_field`,
/// `sae_sparsifier`, `sae_finite`.
template <class Sparsifier = top_k, class Backend = cpu>
sae<Sparsifier, Backend> load_sae(const std::filesystem::path& path,
                                  const activation_source& expect = {},
                                  const normalizer* expected_normalizer = nullptr,
                                  Backend be = Backend()) {
  namespace c = checkpoint_detail;
  using real = typename Backend::real;
  const auto file = safetensors_file::read_whole(path);
  sae_description d = describe_sae(file);
  if (d.sparsifier != Sparsifier::id) {
    throw error(rules::sae_sparsifier, {.where = file.where(),
                                        .expected = "sparsifier " + std::string(Sparsifier::id),
                                        .found = d.sparsifier});
  }
  check_source(d.source, expect, file.where());
  if (expected_normalizer != nullptr && !(*expected_normalizer == d.normalizer)) {
    throw error(rules::sae_parent,
                {.where = file.where(),
                 .expected = "normaliser " + std::string(normalizer::name(d.normalizer.kind)) +
                             " with the SAE's own numbers",
                 .found = std::string(normalizer::name(expected_normalizer->kind)),
                 .remedy = "normalise as the SAE was trained, or leave it to the SAE"});
  }
  Sparsifier sparsifier{};
  if constexpr (requires { sparsifier.fields([](std::string_view, auto&) {}); }) {
    sparsifier.fields([&](std::string_view name, auto& value) {
      using T = std::remove_reference_t<decltype(value)>;
      const std::string key = "sparsifier." + std::string(name);
      value = c::number<T>(file, key, c::text_of(file, key));
    });
  }
  sae<Sparsifier, Backend> model({.d_model = d.d_model,
                                  .features = d.features,
                                  .sparsifier = sparsifier,
                                  .normalize = std::move(d.normalizer),
                                  .lengths = d.scale_by_decoder_norm ? row_lengths::in_codes : row_lengths::free},
                                 std::move(be));
  model.source = std::move(d.source);
  model.training_record = std::move(d.training_record);
  model.parameters().for_each([&](const std::string& name, auto& m) {
    const auto host = file.read_vector<real>(name);
    model.backend().upload(std::span<const real>(host), m.all());
    if (!model.backend().all_finite(m)) {
      throw error(rules::sae_finite, {.where = file.where() + ", tensor " + name,
                                      .remedy = "the file is damaged or training diverged"});
    }
  });
  return model;
}

}  // namespace plmscope
