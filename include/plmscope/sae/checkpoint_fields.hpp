// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/io/safetensors.hpp>
#include <plmscope/io/safetensors_writer.hpp>
#include <plmscope/sae/description.hpp>
#include <plmscope/sae/normalizer.hpp>
#include <plmscope/sae/rules.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>

namespace plmscope::inline PLMSCOPE_ABI {

// The text fields of an SAE file, see checkpoint.hpp.
namespace checkpoint_fields {

inline constexpr std::string_view first_format = "plmscope.sae.1";
inline constexpr std::string_view format = "plmscope.sae.2";

/// Reads fields; one that is missing or ill-formed is `sae_field` with its name.
struct reader {
  const safetensors_file& file;

  std::string at(const std::string& key) const {
    return file.where() + ", metadata \"" + key + "\"";
  }
  const std::string& text(const std::string& key) const {
    const auto found = file.metadata().find(key);
    if (found == file.metadata().end()) {
      throw error(rules::sae_field,
                  {.where = file.where(), .expected = "metadata \"" + key + "\"", .found = "none"});
    }
    return found->second;
  }
  template <class T>
  T number(const std::string& key) const {
    return sae_fields::number<T>(text(key), at(key));
  }
  bool truth(const std::string& key) const {
    const std::string& t = text(key);
    if (t == "true" || t == "false") return t == "true";
    throw error(rules::sae_field, {.where = at(key), .expected = "true or false", .found = t});
  }
  /// Which of the names; as the enumeration that has them in this order.
  template <class Enum, std::size_t N>
  Enum one_of(const std::string& key, const std::array<std::string_view, N>& names) const {
    const std::string& t = text(key);
    const auto found = std::find(names.begin(), names.end(), t);
    if (found != names.end()) return static_cast<Enum>(found - names.begin());
    std::string known;
    for (const std::string_view n : names) known += (known.empty() ? "" : ", ") + std::string(n);
    throw error(rules::sae_field, {.where = at(key), .expected = known, .found = t});
  }
  std::map<std::string, std::string> with_prefix(std::string_view prefix) const {
    std::map<std::string, std::string> out;
    for (const auto& [key, value] : file.metadata()) {
      if (key.starts_with(prefix)) out[key.substr(prefix.size())] = value;
    }
    return out;
  }
};

inline normalizer read_normalizer(const reader& in, const std::string& name, std::size_t d,
                                  bool first_version) {
  normalizer n{.kind = in.one_of<normalization>(name, sae_names::normalizer)};
  const auto positive = [&](const std::string& key) {
    const auto v = in.number<double>(key);
    if (v >= 0 && std::isfinite(v)) return v;
    throw error(rules::sae_field,
                {.where = in.at(key), .expected = "at least 0, finite", .found = in.text(key)});
  };
  if (n.kind == normalization::scalar) n.scale = positive(name + ".scale");
  if (n.kind == normalization::token_layer_norm) {
    n.epsilon = positive(name + ".epsilon");
    n.root_epsilon = positive(name + ".root_epsilon");
    n.inverse_epsilon = positive(name + ".inverse_epsilon");
    n.ddof = in.number<std::size_t>(name + ".ddof");
    if (!first_version) n.centred = in.truth(name + ".centred");
  }
  if (n.kind == normalization::per_dimension) {
    n.mean = in.file.read_vector<double>(name + ".mean", {d});
    n.deviation = in.file.read_vector<double>(name + ".deviation", {d});
    for (std::size_t j = 0; j < d; ++j) {
      if (std::isfinite(n.mean[j]) && std::isfinite(n.deviation[j]) && n.deviation[j] > 0) continue;
      throw error(rules::sae_finite, {.where = in.file.where() + ", tensor " + name + ".deviation",
                                      .expected = "finite means and deviations above 0"});
    }
  }
  return n;
}

inline void write_normalizer(safetensors_writer& out, const std::string& name,
                             const normalizer& n) {
  out.metadata[name] = normalizer::name(n.kind);
  if (n.kind == normalization::scalar) out.metadata[name + ".scale"] = sae_fields::text(n.scale);
  if (n.kind == normalization::token_layer_norm) {
    out.metadata[name + ".epsilon"] = sae_fields::text(n.epsilon);
    out.metadata[name + ".root_epsilon"] = sae_fields::text(n.root_epsilon);
    out.metadata[name + ".inverse_epsilon"] = sae_fields::text(n.inverse_epsilon);
    out.metadata[name + ".ddof"] = std::to_string(n.ddof);
    out.metadata[name + ".centred"] = n.centred ? "true" : "false";
  }
  if (n.kind == normalization::per_dimension) {
    out.add_owned<double>(name + ".mean", {n.mean.size()}, n.mean);
    out.add_owned<double>(name + ".deviation", {n.deviation.size()}, n.deviation);
  }
}

/// Everything but widths and number of features, which the tensors say.
inline void read(const reader& in, sae_description& d) {
  const bool first = in.text("format") == first_format;
  d.source = {in.text("source.model"), in.text("source.model_hash"), in.text("source.site")};
  d.training_record = in.with_prefix("training.");
  d.sparsifier = in.text("sparsifier");
  d.sparsifier_fields = in.with_prefix("sparsifier.");
  d.normalizer = read_normalizer(in, "normalizer", d.d_model, first);
  if (first) {
    if (in.truth("decode.scale_by_decoder_norm")) d.lengths = row_lengths::in_codes;
    return;
  }
  d.normalize_out = read_normalizer(in, "normalize_out", d.d_out, first);
  d.centring = in.one_of<input_centring>("centring", sae_names::centring);
  d.lengths = in.one_of<row_lengths>("lengths", sae_names::lengths);
  d.unit_input = in.truth("unit_input");
  d.skip = in.truth("skip");
  d.transcodes = in.truth("transcodes");
  d.blocks = in.number<std::size_t>("blocks");
  d.seed = in.number<std::uint64_t>("seed");
}

inline void write(safetensors_writer& out, const sae_description& d) {
  const auto truth = [](bool b) { return b ? "true" : "false"; };
  out.metadata["format"] = format;
  out.metadata["source.model"] = d.source.model;
  out.metadata["source.model_hash"] = d.source.model_hash;
  out.metadata["source.site"] = d.source.site;
  out.metadata["sparsifier"] = d.sparsifier;
  for (const auto& [key, value] : d.sparsifier_fields) out.metadata["sparsifier." + key] = value;
  for (const auto& [key, value] : d.training_record) out.metadata["training." + key] = value;
  write_normalizer(out, "normalizer", d.normalizer);
  write_normalizer(out, "normalize_out", d.normalize_out);
  out.metadata["centring"] = name_of(d.centring);
  out.metadata["lengths"] = name_of(d.lengths);
  out.metadata["unit_input"] = truth(d.unit_input);
  out.metadata["skip"] = truth(d.skip);
  out.metadata["transcodes"] = truth(d.transcodes);
  out.metadata["blocks"] = std::to_string(d.blocks);
  out.metadata["seed"] = std::to_string(d.seed);
}

}  // namespace checkpoint_fields
}  // namespace plmscope::inline PLMSCOPE_ABI
