// SPDX-License-Identifier: MIT
#include "sae_file.hpp"
#include "scoring.hpp"

#include <plmscope/sae/checkpoint.hpp>

#include <fmt/format.h>

#include <memory>

namespace {

struct concepts_command {
  common_options common;
  scoring_options scoring;
  std::string model;
  std::string sae;
  std::string proteins;
  std::string out = "concepts";
};

void run_concepts(const concepts_command& o) {
  plmscope::uniprot_report read;
  const auto proteins = plmscope::read_uniprot_tsv(std::filesystem::path(o.proteins), {}, &read);
  program_model esm = open_model(o.model, o.common);
  const auto description = plmscope::describe_sae(plmscope::safetensors_file::open(o.sae));
  const auto site = site_read_by(description, o.sae);
  esm.check(site);
  program_sae model = program_sae::open(o.sae, {}, esm.source(site), esm.backend());
  json_object result{{"model", o.model}, {"sae", o.sae}, {"proteins", proteins.size()},
                     {"residues", read.residues}, {"out", o.out}};
  if (o.common.dry_run) {
    return print_result(o.common, result,
                        fmt::format("would score {} features on {} proteins and write to {}\n",
                                    model.features(), proteins.size(), o.out));
  }
  const scored s = score_sae(esm, model, proteins, o.scoring, o.common);
  const auto report = make_report(
      s, esm, model, proteins, o.scoring,
      {.title = "Features of " + esm.identity().name,
       .model_description = fmt::format("{} layers, width {}", esm.layers(), esm.d_model()),
       .dataset = std::filesystem::path(o.proteins).filename().string()});
  write_results(o.out, report, s, o.scoring, o.sae);
  result["concepts"] = concept_json(s);
  result["report"] = (std::filesystem::path(o.out) / "report.html").string();
  print_result(o.common, result,
               concept_table(s, 40) +
                   fmt::format("\n{} concepts, {} clusters; wrote {}/report.html, concepts.tsv, "
                               "features.json\n",
                               s.concepts.size(), s.split.clusters, o.out));
}

}  // namespace

void add_concepts(CLI::App& app) {
  auto o = std::make_shared<concepts_command>();
  CLI::App* c = app.add_subcommand(
      "concepts", "Score an SAE's features against UniProt annotation, name them, write a report");
  c->add_option("model", o->model,
                "Folder, file or name (facebook/esm2_t6_8M_UR50D) of an ESM-2 or ESM-C model")
      ->required();
  c->add_option("sae", o->sae, "SAE file")->required();
  c->add_option("proteins", o->proteins, "UniProt TSV(.gz) with feature columns")->required();
  add_scoring_flags(*c, o->scoring);
  c->add_option("--out", o->out, "Folder for report.html, concepts.tsv and features.json")
      ->capture_default_str();
  add_common(*c, o->common,
             "plmscope concepts esm2_t6_8M_UR50D sae.safetensors uniprot_sprot.tsv.gz --out "
             "concepts");
  c->callback([o] { run_concepts(*o); });
}
