// SPDX-License-Identifier: MIT
#include "command.hpp"
#include "model.hpp"
#include "rules.hpp"

#include <plmscope/acts/rules.hpp>
#include <plmscope/core/progress.hpp>
#include <plmscope/io/fasta.hpp>
#include <plmscope/io/safetensors_writer.hpp>
#include <plmscope/plm/collect.hpp>
#include <plmscope/plm/windows.hpp>
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
  std::size_t window = 0;  // 0: proteins whole
  std::size_t overlap = 256;
};

// A protein, or a window of one.
struct piece {
  std::size_t protein;
  plmscope::window part;
};

std::vector<piece> pieces_of(const std::vector<plmscope::protein_sequence>& proteins,
                             const embed_options& o) {
  std::vector<piece> out;
  for (std::size_t p = 0; p < proteins.size(); ++p) {
    const std::size_t n = proteins[p].sequence.size();
    if (o.window == 0) {
      out.push_back({p, {0, n, 0, n}});
      continue;
    }
    for (const auto& w : plmscope::cut_windows(n, {o.window, o.overlap})) out.push_back({p, w});
  }
  return out;
}

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
  if (o.window > 0) out.metadata["windows"] = fmt::format("{} overlap {}", o.window, o.overlap);
  plmscope::progress_line progress("embedding", plmscope::progress_bar::on_terminal());
  auto batch = plmscope::make_batch(esm);
  plmscope::collect keep(sites);
  const auto pieces = pieces_of(proteins, o);
  std::vector<std::vector<float>> states(sites.size());  // of the protein under way
  for (std::size_t first = 0; first < pieces.size();) {
    batch.clear();
    keep.clear();
    std::size_t end = first;
    for (; end < pieces.size() && (end == first || batch.rows() < 4096); ++end) {
      const auto& [p, w] = pieces[end];
      batch.add(proteins[p].sequence.substr(w.first, w.length));
    }
    esm.forward(batch, keep);
    for (std::size_t s = 0; s < batch.sequences(); ++s) {
      const auto& [p, w] = pieces[first + s];
      const auto& protein = proteins[p];
      const bool opens = w.keep_first == 0 && o.keep_special;
      const bool closes = w.keep_first + w.keep == protein.sequence.size();
      const std::size_t row = batch.first_row(s) + w.keep_first - w.first + (opens ? 0 : 1);
      const std::size_t n = w.keep + (opens ? 1 : 0) + (closes && o.keep_special ? 1 : 0);
      for (std::size_t i = 0; i < sites.size(); ++i) {
        const std::size_t d = keep.width(sites[i]);
        const auto part = keep.states(sites[i]).subspan(row * d, n * d);
        states[i].insert(states[i].end(), part.begin(), part.end());
        if (!closes) continue;
        const std::size_t all = states[i].size() / d;
        out.add_owned<float>(protein.id + "/" + to_string(sites[i]), {all, d},
                             std::exchange(states[i], {}));
      }
    }
    first = end;
    progress.update(first, pieces.size());
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
  c->add_option("--window", o->window,
                "Cut proteins longer than this into windows that cannot see each other; 0: never")
      ->capture_default_str();
  c->add_option("--overlap", o->overlap, "Residues that neighbouring windows share")
      ->capture_default_str();
  add_common(*c, o->common,
             "plmscope embed esm2_t6_8M_UR50D proteins.fasta --sites resid_post.3,final_norm "
             "--out states.safetensors");
  c->callback([o] { embed(*o); });
}
