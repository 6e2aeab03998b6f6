// SPDX-License-Identifier: MIT
#include "sae_file.hpp"

#include "rules.hpp"

#include <plmscope/sae/formats/read_published_sae.hpp>

#include <fmt/format.h>

#include <cmath>
#include <string_view>
#include <system_error>
#include <vector>

namespace {

std::string normalizer_text(const plmscope::normalizer& n) {
  using plmscope::normalization;
  std::string out(plmscope::normalizer::name(n.kind));
  if (n.kind == normalization::scalar) out += fmt::format(" {}", n.scale);
  if (n.kind == normalization::token_layer_norm) {
    out += n.centred ? fmt::format(" (ddof {}, epsilon {}, under the root {})", n.ddof, n.epsilon,
                                   n.root_epsilon)
                     : std::string(" (rows of length sqrt(d), not centred)");
  }
  return out;
}

// Whether a file of a folder is an SAE that another library wrote.
bool holds_saes(const std::filesystem::path& folder) {
  std::error_code no;
  for (const auto& entry : std::filesystem::directory_iterator(folder, no)) {
    const auto ending = entry.path().extension();
    if (ending != ".safetensors" && ending != ".pt" && ending != ".ckpt") continue;
    try {
      auto file = plmscope::published_file::open(entry.path());
      if (!plmscope::published_libraries(file).empty()) return true;
    } catch (const plmscope::error&) {
      continue;
    }
  }
  return false;
}

// The file of weights in a folder, when there is one.
std::optional<std::filesystem::path> file_of(const std::filesystem::path& path,
                                             const plmscope::stated_sae& stated) {
  std::error_code no;
  if (std::filesystem::is_regular_file(path, no)) return path;
  if (!std::filesystem::is_directory(path, no)) return {};
  try {
    return plmscope::published_sae_file(path, stated);
  } catch (const plmscope::error&) {
    if (holds_saes(path)) throw;
    return {};  // a sharded model, or nothing
  }
}

}  // namespace

void add_stated_flags(CLI::App& command, plmscope::stated_sae& stated) {
  auto* group = command.add_option_group("What the file of another library does not say");
  const auto yes_or_no = [&](const char* flag, std::optional<bool>& to, const char* help) {
    group
        ->add_option_function<std::string>(
            flag, [&to](const std::string& s) { to = s == "yes"; }, help)
        ->check(CLI::IsMember({"yes", "no"}))
        ->type_name("yes|no");
  };
  group->add_option("--library", stated.library,
                    "The library that wrote it, where several could have");
  group->add_option("--sparsifier", stated.sparsifier,
                    "Its rule of selection: top_k, batch_top_k, ..");
  group->add_option("--k", stated.k, "Latents that a row keeps");
  group->add_option("--chosen", stated.chosen, "Blocks of a mixture that see a row");
  yes_or_no("--normalized", stated.normalized, "Whether its rows were normalised one by one");
  yes_or_no("--transcoder", stated.transcoder, "Whether it is a transcoder");
  group->add_option("--norm-factor", stated.norm_factor,
                    "What rows were divided by in training (1: nothing)");
  yes_or_no("--relative-variance", stated.relative_variance,
            "Whether a crosscoder's normaliser kept relative variances");
  group->add_option("--layer", stated.layer, "Which file, in a folder with layer_N.safetensors");
  group->add_option("--site", stated.site, "Where in the model its rows come from: resid_post.23");
  group->add_option("--target-site", stated.target_site,
                    "Where the results of a transcoder belong");
}

void describe_sae_text(const plmscope::sae_description& d, json_object& out, std::string& text) {
  out["kind"] = "sae";
  out["d_model"] = d.d_model;
  if (d.d_out != d.d_model) out["d_out"] = d.d_out;
  out["features"] = d.features;
  out["sparsifier"] = d.sparsifier;
  for (const auto& [key, value] : d.sparsifier_fields) out["sparsifier_fields"][key] = value;
  out["normalizer"] = plmscope::normalizer::name(d.normalizer.kind);
  out["centring"] = name_of(d.centring);
  out["lengths"] = name_of(d.lengths);
  out["transcodes"] = d.transcodes;
  out["skip"] = d.skip;
  out["unit_input"] = d.unit_input;
  out["blocks"] = d.blocks;
  out["model"] = d.source.model;
  out["model_hash"] = d.source.model_hash;
  out["site"] = d.source.site;
  for (const auto& [key, value] : d.training_record) out["training"][key] = value;

  text += fmt::format("kind          {}{}\nwidth         {} -> {} features", d.skip ? "skip " : "",
                      d.transcodes ? "transcoder" : "sparse autoencoder", d.d_model, d.features);
  text += d.d_out == d.d_model ? "\n" : fmt::format(" -> {}\n", d.d_out);
  text += "sparsifier    " + d.sparsifier;
  for (const auto& [key, value] : d.sparsifier_fields) text += fmt::format(" {} {}", key, value);
  text += "\nnormaliser    " + normalizer_text(d.normalizer);
  if (d.transcodes) text += ", of results " + normalizer_text(d.normalize_out);
  text += fmt::format("\ncentring      {}{}\n", name_of(d.centring),
                      d.unit_input ? ", then rows of length 1" : "");
  if (d.lengths != plmscope::row_lengths::free) {
    text += fmt::format("row lengths   {}\n", name_of(d.lengths));
  }
  if (d.blocks > 1) text += fmt::format("sites         {} side by side\n", d.blocks);
  const auto said = [](const std::string& s) { return s.empty() ? std::string("not stated") : s; };
  text += fmt::format("model         {}\nweights hash  {}\nsite          {}\n",
                      said(d.source.model), said(d.source.model_hash), said(d.source.site));
  for (const auto& [key, value] : d.training_record) {
    text += fmt::format("training      {} = {}\n", key, value.substr(0, 200));
  }
}

plmscope::site site_read_by(const plmscope::sae_description& d,
                            const std::filesystem::path& file) {
  if (d.blocks > 1) {
    throw plmscope::error(
        plmscope::rules::cli_autoencoder,
        {.where = file.string(),
         .expected = "an SAE that reads one site",
         .found = fmt::format("a crosscoder of {} sites, {}", d.blocks, d.source.site)});
  }
  return plmscope::parse_site(d.source.site);
}

plmscope::site site_rebuilt_by(const plmscope::sae_description& d,
                               const std::filesystem::path& file) {
  if (d.transcodes) {
    throw plmscope::error(plmscope::rules::cli_autoencoder,
                          {.where = file.string(),
                           .expected = "an autoencoder, whose results belong where its rows came from",
                           .found = "a transcoder from " + d.source.site});
  }
  return site_read_by(d, file);
}

bool describe_published(const std::filesystem::path& path, const plmscope::stated_sae& stated,
                        json_object& out, std::string& text) {
  const auto name = file_of(path, stated);
  if (!name) return false;
  auto file = plmscope::published_file::open(*name);
  const auto libraries = plmscope::published_libraries(file);
  if (libraries.empty()) return false;
  out["published_by"] = libraries;
  text += fmt::format("written by    {}\n", fmt::join(libraries, " or "));
  try {
    const auto p = plmscope::read_published_sae(*name, stated);
    describe_sae_text(p.description, out, text);
  } catch (const plmscope::error& e) {
    const bool open = e.id() == plmscope::rules::sae_not_stated.id;
    if (!open && e.id() != plmscope::rules::sae_not_expressible.id) throw;
    out["kind"] = "sae";
    out[open ? "not_stated" : "not_readable"] = {{"id", e.id()},
                                                 {"expected", e.details().expected},
                                                 {"found", e.details().found},
                                                 {"remedy", e.details().remedy}};
    text += "kind          sparse autoencoder\n";
    text += open ? fmt::format("not stated    {}\n", e.details().remedy)
                 : fmt::format("not readable  {}\n", e.details().found);
  }
  return true;
}
