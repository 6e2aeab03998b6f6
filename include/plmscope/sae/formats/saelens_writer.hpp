// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/io/atomic_file.hpp>
#include <plmscope/io/safetensors_writer.hpp>
#include <plmscope/sae/formats/plain_sae.hpp>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

namespace plmscope::inline PLMSCOPE_ABI {

namespace saelens_detail {

inline void append_json(std::string& out, std::string_view text) {
  constexpr std::string_view hex = "0123456789abcdef";
  out += '"';
  for (const char c : text) {
    const auto u = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      out += {'\\', c};
    } else if (u < 0x20) {
      out += {'\\', 'u', '0', '0', hex[u >> 4], hex[u & 15]};
    } else {
      out += c;
    }
  }
  out += '"';
}

inline void append_member(std::string& out, std::string_view key, std::string_view text) {
  if (out.back() != '{') out += ", ";
  append_json(out, key);
  out += ": ";
  append_json(out, text);
}
/// A number or a truth, as it stands.
inline void append_plain(std::string& out, std::string_view key, const std::string& value) {
  if (out.back() != '{') out += ", ";
  append_json(out, key);
  out += ": " + value;
}

inline std::string text_of(const sae_description& d, const plain_sae& p) {
  std::string out = "{";
  append_plain(out, "d_in", std::to_string(p.d_in));
  append_plain(out, "d_sae", std::to_string(p.features));
  if (p.architecture.ends_with("transcoder")) append_plain(out, "d_out", std::to_string(p.d_out));
  append_member(out, "dtype", "float32");
  append_member(out, "device", "cpu");
  append_plain(out, "apply_b_dec_to_input", p.centred ? "true" : "false");
  append_member(out, "normalize_activations", p.normalize_activations);
  append_member(out, "reshape_activations", "none");
  if (p.k > 0) {
    append_plain(out, "k", std::to_string(p.k));
    append_plain(out, "rescale_acts_by_decoder_norm", "false");
  }
  append_member(out, "architecture", p.architecture);
  std::string more = "{";
  append_member(more, "sae_lens_version", "6.54.12");  // whose layout this is
  const auto record = [&](const char* key) {
    const auto at = d.training_record.find(key);
    return at == d.training_record.end() ? std::string() : at->second;
  };
  append_member(more, "model_name", d.source.model);
  const std::string hook = record("published.hook_name");
  append_member(more, "hook_name", hook.empty() ? d.source.site : hook);
  append_member(more, "plmscope_model_hash", d.source.model_hash);
  append_member(more, "plmscope_site", d.source.site);
  std::string kept = "{";
  for (const auto& [key, value] : d.training_record) append_member(kept, key, value);
  append_plain(more, "plmscope_record", kept + "}");
  append_plain(out, "metadata", more + "}");
  return out + "}\n";
}

inline std::vector<float> as_floats(const std::vector<double>& v) {
  std::vector<float> out;
  out.reserve(v.size());
  for (const double x : v) out.push_back(static_cast<float>(x));
  return out;
}

/// As float32, [columns, rows] of a [rows, columns].
inline std::vector<float> transposed(const std::vector<double>& m, std::size_t rows,
                                     std::size_t columns) {
  std::vector<float> out(m.size());
  for (std::size_t r = 0; r < rows; ++r) {
    for (std::size_t c = 0; c < columns; ++c) {
      out[c * rows + r] = static_cast<float>(m[r * columns + c]);
    }
  }
  return out;
}

}  // namespace saelens_detail

/// Writes `cfg.json` and `sae_weights.safetensors` into `folder`, as `SAE.load_from_disk` of
/// SAELens (6.54) reads them; each file appears whole or not at all, weights first. Normalisation
/// by fixed numbers, biases of one's own and decoder lengths are folded into the weights, BatchTopK
/// becomes JumpReLU with its threshold; see `plain_sae` for what that changes. Model and site are
/// written as `model_name` and `hook_name`. Errors: `sae_not_exportable` names what SAELens cannot
/// hold.
template <class S, class B>
void save_saelens(sae<S, B>& model, const std::filesystem::path& folder) {
  namespace s = saelens_detail;
  const plain_sae p = plain_sae::of(model);
  safetensors_writer out;
  const auto add = [&](std::string name, std::vector<std::size_t> shape,
                       const std::vector<double>& numbers) {
    out.add_owned<float>(std::move(name), std::move(shape), s::as_floats(numbers));
  };
  out.add_owned<float>("W_enc", {p.d_in, p.features}, s::transposed(p.encoder, p.features, p.d_in));
  add("W_dec", {p.features, p.d_out}, p.decoder);
  add("b_dec", {p.d_out}, p.decoder_bias);
  add(p.architecture == "gated" ? "b_mag" : "b_enc", {p.features}, p.encoder_bias);
  if (!p.skip.empty()) add("W_skip", {p.d_out, p.d_in}, p.skip);
  for (const auto& [name, numbers] : p.latent) add(name, {p.features}, numbers);
  const std::string settings = s::text_of(describe_sae(model), p);
  std::error_code failure;
  std::filesystem::create_directories(folder, failure);
  if (failure || !std::filesystem::is_directory(folder, failure)) {
    throw error(rules::file_write, {.where = folder.string(),
                                    .expected = "a folder to write two files into",
                                    .found = failure ? failure.message() : "a file"});
  }
  out.write(folder / "sae_weights.safetensors");
  write_file_atomically(folder / "cfg.json", settings);
}

}  // namespace plmscope::inline PLMSCOPE_ABI
