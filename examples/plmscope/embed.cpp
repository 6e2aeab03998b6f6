// SPDX-License-Identifier: MIT
#include "command.hpp"
#include "model.hpp"
#include "rules.hpp"

#include <plmscope/acts/rules.hpp>
#include <plmscope/core/progress.hpp>
#include <plmscope/io/fasta.hpp>
#include <plmscope/io/safetensors_writer.hpp>
#include <plmscope/plm/collect.hpp>
#include <plmscope/train/progress_bar.hpp>

#include <fmt/format.h>

#include <memory>

namespace {

struct embed_options {
  common_options common;
  std::string model;
  std::string sequences;
  std::vector<std::string> sites{"final_norm"};
  std::string out;
  bool keep_special = false;
  std::string gaps = "refuse";
};

plmscope::gap_policy gap_policy_of(const std::string& name) {
  return name == "keep"    ? plmscope::gap_policy::keep
         : name == "strip" ? plmscope::gap_policy::strip
                           : plmscope::gap_policy::refuse;
}

void embed(const embed_options& o) {
  std::vector<plmscope::site> sites;
  for (const auto& name : o.sites) sites.push_back(plmscope::parse_site(name));
  plmscope::fasta_report report;
  const auto proteins =
      plmscope::read_fasta(std::filesystem::path(o.sequences),
                           {.gaps = gap_policy_of(o.gaps), .allow_mask = true}, &report);
  auto esm = open_model(o.model, o.common);
  std::size_t width = 0;
  for (const auto& site : sites) {
    esm.check(site);
    if (site.kind() == plmscope::site_kind::attn_map) {
      throw plmscope::error(plmscope::rules::acts_site,
                            {.where = "embed",
                             .found = to_string(site),
                             .remedy = "attention maps are for hooks and `plmscope contacts`"});
    }
    width += esm.width(site);
  }
  const std::size_t rows = report.residues + (o.keep_special ? 2 * proteins.size() : 0);
  json_object result{{"sequences", proteins.size()},
                     {"residues", report.residues},
                     {"sites", o.sites},
                     {"bytes", rows * width * sizeof(float)},
                     {"out", o.out}};
  if (o.common.dry_run) {
    return print_result(
        o.common, result,
        fmt::format("would write {} tensors, {:.1f} MB, to {}\n", proteins.size() * sites.size(),
                    static_cast<double>(rows * width) * 4e-6, o.out));
  }
  plmscope::safetensors_writer out;
  out.metadata["model"] = esm.identity().name;
  out.metadata["model_hash"] = esm.identity().content_hash;
  out.metadata["rows"] = o.keep_special ? "cls, residues, eos" : "residues";
  plmscope::progress_line progress("embedding", plmscope::progress_bar::on_terminal());
  auto batch = plmscope::make_batch(esm);
  plmscope::collect keep(sites);
  const std::size_t skip = o.keep_special ? 0 : 1;
  for (std::size_t first = 0; first < proteins.size();) {
    batch.clear();
    keep.clear();
    std::size_t end = first;
    while (end < proteins.size() && (end == first || batch.rows() < 4096)) {
      batch.add(proteins[end++].sequence);
    }
    esm.forward(batch, keep);
    for (std::size_t s = 0; s < batch.sequences(); ++s) {
      const std::size_t n = batch.length(s) - 2 * skip;
      for (const auto& site : sites) {
        const std::size_t d = keep.width(site);
        const auto states = keep.states(site).subspan((batch.first_row(s) + skip) * d, n * d);
        out.add_owned<float>(proteins[first + s].id + "/" + to_string(site), {n, d},
                             std::vector<float>(states.begin(), states.end()));
      }
    }
    first = end;
    progress.update(first, proteins.size());
  }
  out.write(o.out);
  print_result(
      o.common, result,
      fmt::format("{} sequences, {} residues -> {}\n", proteins.size(), report.residues, o.out));
}

}  // namespace

void add_embed(CLI::App& app) {
  auto o = std::make_shared<embed_options>();
  CLI::App* c = app.add_subcommand("embed",
                                   "Write hidden states of sequences, one tensor ID/SITE "
                                   "of shape [residues, width] each");
  c->add_option("model", o->model,
                "Folder, file or name (facebook/esm2_t6_8M_UR50D) of an ESM-2 or ESM-C model")
      ->required();
  c->add_option("sequences", o->sequences,
                "FASTA or FASTA.gz, - for standard input; <mask> is a masked residue")
      ->required();
  c->add_option("--sites", o->sites,
                "embeddings, resid_pre.L, resid_post.L (block L from 0), final_norm, logits")
      ->delimiter(',')
      ->capture_default_str();
  c->add_option("--out", o->out, "Safetensors file to write")->required();
  c->add_flag("--keep-special", o->keep_special, "Also the rows of <cls> and <eos>");
  c->add_option("--gaps", o->gaps, "What - and . in a sequence mean")
      ->check(CLI::IsMember({"refuse", "strip", "keep"}))
      ->capture_default_str();
  add_common(*c, o->common,
             "plmscope embed esm2_t6_8M_UR50D proteins.fasta --sites resid_post.3,final_norm "
             "--out states.safetensors");
  c->callback([o] { embed(*o); });
}
