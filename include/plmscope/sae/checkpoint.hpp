// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/core/activation_source.hpp>
#include <plmscope/core/view.hpp>
#include <plmscope/io/safetensors.hpp>
#include <plmscope/io/safetensors_writer.hpp>
#include <plmscope/sae/checkpoint_fields.hpp>
#include <plmscope/sae/description.hpp>
#include <plmscope/sae/rules.hpp>
#include <plmscope/sae/sae.hpp>
#include <plmscope/version.hpp>

#include <cstddef>
#include <filesystem>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace plmscope::inline PLMSCOPE_ABI {

// The SAE file: safetensors with `encoder` [F, d], `decoder` [F, d_out], `encoder_bias` [F],
// `decoder_bias` [d_out]; where there are such, `input_bias` [d], `skip` [d_out, d], one [F] for each
// vector of the sparsifier and its matrices as they are, those of one row as vectors (F32, or F64 from double backends); for per-dimension normalisation
// also `normalizer.mean` and `normalizer.deviation` [d] and those of `normalize_out` [d_out] (F64);
// no other tensors; and text metadata:
//   format                plmscope.sae.2
//   source.model, source.model_hash, source.site
//   sparsifier, sparsifier.FIELD
//   normalizer, normalizer.scale, .epsilon, .root_epsilon, .inverse_epsilon, .ddof, .centred
//   normalize_out, normalize_out.FIELD
//   centring (decoder_bias, own_bias, none), lengths (free, in_codes, rank), blocks, seed
//   unit_input, skip, transcodes (true, false)
//   training.KEY          whatever the training recorded, and what was stated of a published SAE
// Files of format plmscope.sae.1 have `decode.scale_by_decoder_norm` (true: lengths = in_codes) in
// place of the lines from normalize_out to transcodes, and may lack fields of their sparsifier.

/// Whether a safetensors file says that it is an SAE of ours.
inline bool is_sae(const safetensors_file& file) {
  const auto at = file.metadata().find("format");
  return at != file.metadata().end() &&
         (at->second == checkpoint_fields::format || at->second == checkpoint_fields::first_format);
}

/// Reads and checks everything but the numbers. Errors: `sae_format`, `sae_field`, `sae_finite`.
inline sae_description describe_sae(const safetensors_file& file) {
  namespace c = checkpoint_fields;
  if (!is_sae(file)) {
    throw error(rules::sae_format,
                {.where = file.where(),
                 .expected = "metadata format = " + std::string(c::format),
                 .found = file.metadata().count("format") ? file.metadata().find("format")->second
                                                          : std::string("no format"),
                 .remedy = "`plmscope info FILE` says what the file is"});
  }
  const auto& shape = file.require("encoder", {any_extent, any_extent}).shape;
  const auto& written = file.require("decoder", {shape[0], any_extent}).shape;
  sae_description d;
  d.features = shape[0];
  d.d_model = shape[1];
  d.d_out = written[1];
  if (d.features == 0 || d.d_model == 0 || d.d_out == 0) {
    throw error(rules::sae_format, {.where = file.where(), .found = "an empty encoder or decoder"});
  }
  file.require("encoder_bias", {d.features});
  file.require("decoder_bias", {d.d_out});
  c::read(c::reader{file}, d);
  if (d.centring == input_centring::own_bias) file.require("input_bias", {d.d_model});
  if (d.skip) file.require("skip", {d.d_out, d.d_model});
  return d;
}

namespace checkpoint_detail {

/// Whether a file has the rows of a parameter as rows: the rest are vectors.
inline bool is_matrix(const std::string& name, std::size_t rows) {
  return name == "encoder" || name == "decoder" || name == "skip" || rows > 1;
}

}  // namespace checkpoint_detail

/// Writes the SAE with all that it needs to be understood later; atomic.
template <class Sparsifier, class Backend>
void save_sae(sae<Sparsifier, Backend>& model, const std::filesystem::path& path) {
  using real = typename Backend::real;
  safetensors_writer out;
  out.metadata["plmscope.version"] = std::to_string(PLMSCOPE_VERSION_MAJOR) + "." +
                                     std::to_string(PLMSCOPE_VERSION_MINOR) + "." +
                                     std::to_string(PLMSCOPE_VERSION_PATCH);
  checkpoint_fields::write(out, describe_sae(model));
  auto& be = model.backend();
  model.parameters().for_each([&](const std::string& name, auto& m) {
    std::vector<real> host(m.size());
    be.download(const_view<Backend>(m), std::span<real>(host));
    const bool matrix = checkpoint_detail::is_matrix(name, m.rows());
    std::vector<std::size_t> shape =
        matrix ? std::vector<std::size_t>{m.rows(), m.cols()} : std::vector<std::size_t>{m.cols()};
    out.add_owned<real>(name, std::move(shape), std::move(host));
  });
  out.write(path);
}

/// Refuses (`sae_parent`) activations of another model, site or content than the SAE was trained
/// on. Fields that either side leaves empty are not compared.
inline void check_source(const activation_source& sae, const activation_source& data,
                         const std::string& where) {
  const auto differ = [&](const char* what, const std::string& a, const std::string& b,
                          const char* remedy) {
    if (a.empty() || b.empty() || a == b) return;
    throw error(
        rules::sae_parent,
        {.where = where, .expected = std::string(what) + " " + a, .found = b, .remedy = remedy});
  };
  differ("site", sae.site, data.site, "read the site that the SAE was trained on");
  if (sae.model_hash.empty() || data.model_hash.empty()) {
    differ("model", sae.model, data.model, "use the model that the SAE was trained on");
  }
  differ("weights with hash", sae.model_hash, data.model_hash,
         "use the model that the SAE was trained on; equal names do not make equal weights");
}

namespace checkpoint_detail {

/// Refuses (`sae_field`) a file that lacks a field of the sparsifier. Files of the first format had
/// fewer.
template <class S>
void require_fields(const safetensors_file& file, const sae_description& d) {
  const bool first = file.metadata().find("format")->second == checkpoint_fields::first_format;
  for (const auto& [name, value] : sae_fields::of(S{})) {
    const bool always = name == "k" || name == "threshold" || name == "log_thresholds";
    if (d.sparsifier != S::id || d.sparsifier_fields.contains(name) || (first && !always)) continue;
    throw error(rules::sae_field, {.where = file.where(),
                                   .expected = "metadata \"sparsifier." + name + "\"",
                                   .found = "none"});
  }
}

}  // namespace checkpoint_detail

/// Opens an SAE. `expect` names the activations it will be used on: another model, site or
/// normalisation is refused with the reason (`sae_parent`). Other errors: `sae_format`,
/// `sae_field`, `sae_sparsifier`, `sae_finite`, and those of safetensors for tensors of other
/// shapes.
template <class Sparsifier = top_k, class Backend = cpu>
sae<Sparsifier, Backend> load_sae(const std::filesystem::path& path,
                                  const activation_source& expect = {},
                                  const normalizer* expected_normalizer = nullptr,
                                  Backend be = Backend()) {
  using real = typename Backend::real;
  const auto file = safetensors_file::read_whole(path);
  const sae_description d = describe_sae(file);
  check_source(d.source, expect, file.where());
  if (expected_normalizer != nullptr && !(*expected_normalizer == d.normalizer)) {
    throw error(rules::sae_parent,
                {.where = file.where(),
                 .expected = "normaliser " + std::string(normalizer::name(d.normalizer.kind)) +
                             " with the SAE's own numbers",
                 .found = std::string(normalizer::name(expected_normalizer->kind)),
                 .remedy = "normalise as the SAE was trained, or leave it to the SAE"});
  }
  checkpoint_detail::require_fields<Sparsifier>(file, d);
  auto model = sae_as_described<Sparsifier>(d, file.where(), std::move(be));
  std::size_t used = 0;
  model.parameters().for_each([&](const std::string& name, auto& m) {
    const bool matrix = checkpoint_detail::is_matrix(name, m.rows());
    const auto& t =
        matrix ? file.require(name, {m.rows(), m.cols()}) : file.require(name, {m.cols()});
    ++used;
    const auto host = file.read_vector<real>(t);
    model.backend().upload(std::span<const real>(host), m.all());
    if (!model.backend().all_finite(m)) {
      throw error(rules::sae_finite, {.where = file.where() + ", tensor " + name,
                                      .remedy = "the file is damaged or training diverged"});
    }
  });
  for (const normalizer* n : {&d.normalizer, &d.normalize_out}) {
    if (n->kind == normalization::per_dimension) used += 2;
  }
  if (used != file.tensors().size()) {
    throw error(rules::sae_format, {.where = file.where(),
                                    .expected = std::to_string(used) + " tensors",
                                    .found = std::to_string(file.tensors().size())});
  }
  return model;
}

}  // namespace plmscope::inline PLMSCOPE_ABI
