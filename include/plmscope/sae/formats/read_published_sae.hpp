// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/sae/formats/bionemo.hpp>
#include <plmscope/sae/formats/bussmann.hpp>
#include <plmscope/sae/formats/crosscoder.hpp>
#include <plmscope/sae/formats/dictionary_learning.hpp>
#include <plmscope/sae/formats/esmc_sae.hpp>
#include <plmscope/sae/formats/interplm.hpp>
#include <plmscope/sae/formats/interprot.hpp>
#include <plmscope/sae/formats/openai.hpp>
#include <plmscope/sae/formats/published_sae.hpp>
#include <plmscope/sae/formats/saelens.hpp>
#include <plmscope/sae/formats/sparsify.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <filesystem>
#include <string>
#include <string_view>
#include <system_error>
#include <tuple>
#include <vector>

namespace plmscope::inline PLMSCOPE_ABI {

/// The layouts that are read. A reader of one's own has the same members; see `sae_reading`.
using published_sae_formats =
    std::tuple<sae_formats::saelens, sae_formats::sparsify, sae_formats::dictionary_learning,
               sae_formats::reticular, sae_formats::crosscoder, sae_formats::openai,
               sae_formats::bionemo, sae_formats::interplm, sae_formats::interprot,
               sae_formats::esmc_sae, sae_formats::gujral, sae_formats::bussmann>;

namespace published_detail {

/// f(format) for every format.
template <class F>
void for_each_format(const F& f) {
  std::apply([&](auto... format) { (f(format), ...); }, published_sae_formats{});
}

inline std::string ids(const std::vector<std::string_view>& of) {
  std::string out;
  for (const std::string_view id : of) out += (out.empty() ? "" : ", ") + std::string(id);
  return out;
}

/// Refuses statements about what the file leaves no room for.
inline void check_asked(const sae_reading& r) {
  const auto refuse = [&](const char* name, bool said) {
    if (!said || r.asked.contains(name)) return;
    throw error(rules::sae_contradicted,
                {.where = r.file.where(),
                 .expected = "no statement of " + std::string(name) + ": this SAE has none",
                 .found = "one"});
  };
  refuse("k", r.stated.k.has_value());
  refuse("chosen", r.stated.chosen.has_value());
  refuse("sparsifier", !r.stated.sparsifier.empty());
  refuse("normalized", r.stated.normalized.has_value());
  refuse("transcoder",
         r.stated.transcoder.has_value() && *r.stated.transcoder != r.out.description.transcodes);
  refuse("norm_factor", r.stated.norm_factor.has_value());
  refuse("relative_variance", r.stated.relative_variance.has_value());
}

/// Puts what was stated into the record, and model and site where they belong.
inline void record_stated(sae_reading& r) {
  const stated_sae& s = r.stated;
  const auto truth = [](bool b) { return b ? "yes" : "no"; };
  r.record("stated.library", s.library);
  r.record("stated.sparsifier", s.sparsifier);
  if (s.k) r.record("stated.k", std::to_string(*s.k));
  if (s.chosen) r.record("stated.chosen", std::to_string(*s.chosen));
  if (s.normalized) r.record("stated.normalized", truth(*s.normalized));
  if (s.transcoder) r.record("stated.transcoder", truth(*s.transcoder));
  if (s.norm_factor) r.record("stated.norm_factor", sae_fields::text(*s.norm_factor));
  if (s.relative_variance) r.record("stated.relative_variance", truth(*s.relative_variance));
  if (s.layer) r.record("stated.layer", std::to_string(*s.layer));
  r.record("stated.model", s.model);
  r.record("stated.site", s.site);
  r.record("stated.target_site", s.target_site);
  activation_source& source = r.description().source;
  if (!s.model.empty()) source.model = s.model;
  if (!s.model_hash.empty()) source.model_hash = s.model_hash;
  if (!s.site.empty()) source.site = s.site;
}

}  // namespace published_detail

/// The file that is meant by a path: itself, or the one SAE of a folder. Errors: `sae_folder`.
inline std::filesystem::path published_sae_file(const std::filesystem::path& path,
                                                const stated_sae& stated = {}) {
  std::error_code failure;
  if (!std::filesystem::is_directory(path, failure)) return path;
  const std::string layer =
      stated.layer ? "layer_" + std::to_string(*stated.layer) + ".safetensors" : std::string();
  if (!layer.empty() && std::filesystem::is_regular_file(path / layer, failure)) {
    return path / layer;
  }
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(path, failure)) {
    const std::string name = entry.path().filename().string();
    const std::string ending = entry.path().extension().string();
    constexpr std::array<std::string_view, 5> endings{".safetensors", ".pt", ".pth", ".ckpt",
                                                      ".bin"};
    // What trainers of SAELens and sparsify leave beside the SAE.
    constexpr std::array<std::string_view, 4> others{"sparsity.safetensors", "trainer_state.pt",
                                                     "activations_store_state.safetensors",
                                                     "state.pt"};
    if (std::find(endings.begin(), endings.end(), ending) == endings.end()) continue;
    if (std::find(others.begin(), others.end(), name) == others.end()) names.push_back(name);
  }
  if (names.size() == 1) return path / names[0];
  std::sort(names.begin(), names.end());
  std::string found = std::to_string(names.size()) + " files of weights";
  for (std::size_t i = 0; i < std::min<std::size_t>(names.size(), 8); ++i)
    found += (i == 0 ? ": " : ", ") + names[i];
  throw error(rules::sae_folder, {.where = path.string(),
                                  .expected = "one file of weights",
                                  .found = std::move(found),
                                  .remedy = "name the file, or state the layer: --layer 12"});
}

/// The ids of the libraries whose SAEs look like this file.
inline std::vector<std::string_view> published_libraries(published_file& file) {
  std::vector<std::string_view> out;
  published_detail::for_each_format([&]<class Format>(Format) {
    if (Format::recognises(file)) out.push_back(Format::id);
  });
  return out;
}

/// Reads an SAE that another library wrote. The layout is told by the tensors and by the settings
/// beside them, never by names of files or folders. `path` is the file, or a folder that holds one.
///
/// Errors: `sae_unknown` for a file in none of the layouts; `sae_not_stated` when `stated` must say
/// something that the file does not, with what; `sae_contradicted` when both say different things,
/// or something is stated that this SAE does not have; `sae_not_expressible` names a feature that
/// this library cannot compute; `sae_settings`, `sae_finite` and the errors of weights files for
/// damage.
inline published_sae read_published_sae(const std::filesystem::path& path,
                                        const stated_sae& stated = {}) {
  namespace p = published_detail;
  published_file file = published_file::open(published_sae_file(path, stated));
  std::vector<std::string_view> found = published_libraries(file);
  if (found.empty()) {
    std::string known;
    p::for_each_format([&]<class Format>(Format) {
      known += (known.empty() ? "" : "; ") + std::string(Format::what);
    });
    throw error(rules::sae_unknown,
                {.where = file.where(),
                 .expected = std::move(known),
                 .found = std::to_string(file.weights().tensors().size()) + " other tensors"});
  }
  if (!stated.library.empty()) {
    if (std::find(found.begin(), found.end(), stated.library) == found.end()) {
      throw error(rules::sae_contradicted, {.where = file.where(),
                                            .expected = p::ids(found),
                                            .found = stated.library + ", as stated"});
    }
    found = {stated.library};
  }
  if (found.size() > 1) {
    throw error(rules::sae_not_stated,
                {.where = file.where(),
                 .expected = "a statement of the library",
                 .found = "a file as these write it: " + p::ids(found),
                 .remedy = "state which (--library ID, stated_sae::library), one of " +
                           p::ids(found) + "; or put its settings beside the file"});
  }
  sae_reading r{file, stated};
  p::for_each_format([&]<class Format>(Format) {
    if (Format::id != found[0]) return;
    Format::recognises(file);  // enters
    Format::read(r);
  });
  p::check_asked(r);
  p::record_stated(r);
  r.out.library = found[0];
  r.record("published.library", r.out.library);
  r.record("published.not_read", file.not_read());
  return std::move(r.out);
}

}  // namespace plmscope::inline PLMSCOPE_ABI
