// SPDX-License-Identifier: MIT
#include "sae_check.hpp"

#include "model.hpp"
#include "program_sae.hpp"
#include "unexplained.hpp"

#include <plmscope/acts/model_reader.hpp>
#include <plmscope/io/uniprot_tsv.hpp>

#include <fmt/format.h>

#include <algorithm>
#include <span>
#include <vector>

namespace {

// FVU of the states at one site.
double fvu_at(program_model& esm, program_sae& sae, const plmscope::site& at,
              const std::vector<std::string>& sequences) {
  auto& be = esm.backend();
  plmscope::model_reader reader(esm, at, sequences);
  plmscope::activation_batch<program_backend> batch;
  plmscope::matrix<float, program_backend> rebuilt;
  const std::size_t d = sae.d_model();
  unexplained_share unexplained(d);
  while (reader.read(be, batch)) {
    rebuilt.reshape(be, batch.rows.rows(), d);
    sae.reconstruct(batch.rows, rebuilt);
    std::vector<float> x(rebuilt.size()), y(rebuilt.size());
    be.download(batch.rows.all(), std::span(x));
    be.download(rebuilt.all(), std::span(y));
    unexplained.add(x, y);
  }
  return unexplained.value();
}

// The sites to compare with: one block before and behind, and the final norm after the last block;
// every hidden state where none is stated.
std::vector<plmscope::site> candidates(const program_model& esm, const std::string& stated) {
  std::vector<plmscope::site> out;
  if (stated.empty()) {
    for (std::size_t i = 0; i <= esm.layers(); ++i) {
      out.push_back(plmscope::hidden_state_site(i, esm.layers()));
    }
    return out;
  }
  const plmscope::site at = plmscope::parse_site(stated);
  esm.check(at);
  if (!at.in_block()) {
    out.push_back(plmscope::site(plmscope::site_kind::resid_post, esm.layers() - 1));
    if (!(out[0] == at)) out.push_back(at);
    return out;
  }
  if (at.layer() > 0) out.push_back(plmscope::site(at.kind(), at.layer() - 1));
  out.push_back(at);
  if (at.layer() + 1 < esm.layers()) {
    out.push_back(plmscope::site(at.kind(), at.layer() + 1));
  } else if (at.kind() == plmscope::site_kind::resid_post) {
    out.push_back(plmscope::final_norm{});
  }
  return out;
}

}  // namespace

plmscope::activation_source model_source(const std::filesystem::path& model,
                                         const common_options& options) {
  const auto esm = open_model(model, options);
  return {esm.identity().name, esm.identity().content_hash, ""};
}

bool check_sae(const std::filesystem::path& file, const plmscope::stated_sae& stated,
               const std::filesystem::path& model, const common_options& options, json_object& out,
               std::string& text) {
  program_model esm = open_model(model, options);
  auto sae = program_sae::open(file, stated, {}, esm.backend());
  const auto d = sae.describe();
  if (d.transcodes || d.blocks > 1 || d.d_model != esm.d_model()) {
    throw plmscope::error(
        plmscope::rules::sae_width,
        {.where = file.string(),
         .expected = fmt::format("an autoencoder of one site of width {}, as {} has", esm.d_model(),
                                 esm.identity().name),
         .found =
             fmt::format("{}{} of width {}", d.transcodes ? "a transcoder" : "an SAE",
                         d.blocks > 1 ? fmt::format(" of {} sites", d.blocks) : "", d.d_model)});
  }
  auto proteins = plmscope::read_uniprot_tsv(bundled("uniprot_demo.tsv"));
  constexpr std::size_t some = 24;
  std::vector<std::string> sequences;
  for (std::size_t i = 0; i < std::min(some, proteins.size()); ++i) {
    sequences.push_back(proteins[i].sequence.substr(0, 1022));
  }
  double best = 0, at_stated = 0;
  std::string best_site;
  for (const auto& at : candidates(esm, d.source.site)) {
    const std::string name = to_string(at);
    const double fvu = fvu_at(esm, sae, at, sequences);
    out["check"]["fvu"][name] = number_or_null(fvu);
    text += fmt::format("FVU           {:<14} {:.4f}{}\n", name, fvu,
                        name == d.source.site ? "  (stated)" : "");
    if (name == d.source.site) at_stated = fvu;
    if (best_site.empty() || fvu < best) best = fvu, best_site = name;
  }
  const bool placed = !d.source.site.empty();
  // Against a model of another width nothing runs; against other weights of the same width, or in
  // the wrong place, little is explained.
  const bool plausible = best < 0.5 && (!placed || at_stated <= best);
  out["check"]["model"] = esm.identity().name;
  out["check"]["proteins"] = sequences.size();
  out["check"]["best_site"] = best_site;
  out["check"]["plausible"] = plausible;
  text += plausible && placed ? fmt::format("plausible     on {} proteins {} explains most\n",
                                            sequences.size(), best_site)
          : plausible         ? fmt::format("best site     {}: state it with --site\n", best_site)
                              : fmt::format(
                            "IMPLAUSIBLE   best is {} with FVU {:.3f}: another model, site or "
                                    "normalisation?\n",
                            best_site, best);
  return plausible;
}
