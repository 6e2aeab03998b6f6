// SPDX-License-Identifier: MIT
#include "ask.hpp"
#include "rules.hpp"
#include "scoring.hpp"

#include <plmscope/sae/checkpoint.hpp>

#include <fmt/format.h>

#include <chrono>
#include <cstdio>
#include <memory>

namespace {

struct demo_command {
  common_options common;
  training_options training{.site = "resid_post.3",
                            .features = 512,
                            .k = 16,
                            .steps = 3000,
                            .lr = 5e-4,
                            .dead_after = 60'000,
                            .normalize = "token_layer_norm",
                            .metrics = {}};
  scoring_options scoring;
  std::string out = "out/demo";
  // Bacteriorhodopsin of Halobacterium salinarum (UniProt P02945): seven membrane helices.
  std::string sequence =
      "MLELLPTAVEGVSQAQITGRPEWIWLALGTALMGLGTLYFLVKGMGVSDPDAKKFYAITTLVPAIAFTMYLSMLLGYGLTMVPFGGEQNPIY"
      "WARYADWLFTTPLLLLDLALLVDADQGTILALVGADGIMIGTGLVGALTKVYSYRFVWWAISTAAMLYILYVLFFGFTSKAESMRPEVASTFK"
      "VLRNVTVVLWSAYPVVWLIGSEGAGIVPLNIETLLFMVLDVSAKVGFGLILLRSRAIFGEAEAPEPSAGDGAAATSD";
};

std::string split_text(const scoring_options& o) {
  return o.split == "alternate" ? "every second one held out, relatives or not" : "split by homology";
}

void run_demo(const demo_command& o) {
  if (o.training.sites().size() > 1) {
    throw plmscope::error(plmscope::rules::cli_sites, {.where = "--site",
                                                       .expected = "one site in the demo",
                                                       .found = o.training.site});
  }
  check_training(o.training);
  const auto start = std::chrono::steady_clock::now();
  const auto model_folder = bundled("esm2_mini");
  const auto table = bundled("uniprot_demo.tsv");
  const std::filesystem::path out(o.out);
  if (o.common.dry_run) {
    return print_result(o.common, {{"model", model_folder.string()}, {"out", o.out}},
                        fmt::format("would train {} steps on {} and write to {}\n",
                                    o.training.steps, table.string(), o.out));
  }
  const auto say = [](const std::string& line) { fmt::print(stderr, "{}\n", line); };
  say("The model is a small ESM-2 (2.7 million parameters) trained for this project, not one of "
      "Meta's: it shows how things work. For science, use the official weights (README).");
  std::filesystem::create_directories(out);
  program_model esm = open_model(model_folder, o.common);
  const auto proteins = plmscope::read_uniprot_tsv(table);
  std::vector<std::string> sequences;
  for (const auto& p : proteins) sequences.push_back(p.sequence);

  training_options training = o.training;
  training.metrics = (out / "metrics.jsonl").string();
  say(fmt::format("[1/4] training a {} SAE: {} proteins, {} at {}, {} features, k = {}",
                  sparsifier_name(training.sparsifier), proteins.size(), esm.identity().name, training.site,
                  training.features, training.k));
  trained t = train_sae(esm, sequences, training, o.common);
  const auto sae_file = out / "sae.safetensors";
  t.model.save(sae_file);

  say(fmt::format("[2/4] scoring features against UniProt annotation, {}", split_text(o.scoring)));
  const scored s = score_sae(esm, t.model, proteins, o.scoring, o.common);
  say("[3/4] writing the report");
  const auto report = make_report(
      s, esm, t.model, proteins, o.scoring,
      {.title = "What a small ESM-2 knows",
       .model_description = "6 layers, width 192, 2.7 million parameters; trained for this project",
       .dataset = "469 reviewed proteins of UniProt (Swiss-Prot)",
       .bundled_model = true});
  write_results(out, report, s, o.scoring, sae_file);
  say("[4/4] asking about one sequence");
  const answer a = ask_sequence(esm, t.model, sae_file, out, o.sequence, 0.3);

  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  json_object result{{"training", metrics_json(t.last)},
                     {"fvu", s.fvu},
                     {"clusters", s.split.clusters},
                     {"dead_share", report.sae.dead_share},
                     {"concepts", concept_json(s)},
                     {"ask", a.object},
                     {"report", (out / "report.html").string()},
                     {"seconds", seconds}};
  const std::string overall = a.text.substr(0, a.text.find("\nper residue"));
  print_result(
      o.common, result,
      fmt::format("SAE: FVU {:.3f}, L0 {:.1f}, dead {:.1f} %\n\nBest features; each was chosen on validation "
                  "proteins, {}\n{}\n"
                  "Asked about bacteriorhodopsin: {}\n"
                  "Report: {}\nAsk it anything: ./run plmscope ask SEQUENCE\nTime: {:.0f} s\n",
                  s.fvu, report.sae.l0, 100 * report.sae.dead_share, split_text(o.scoring),
                  concept_table(s, 14), overall,
                  std::filesystem::absolute(out / "report.html").string(), seconds));
}

}  // namespace

void add_demo(CLI::App& app) {
  auto o = std::make_shared<demo_command>();
  CLI::App* c = app.add_subcommand(
      "demo", "Train, score, report and ask on the bundled small model and proteins");
  add_training_flags(*c, o->training);
  add_scoring_flags(*c, o->scoring);
  c->add_option("--out", o->out, "Folder for everything it writes")->capture_default_str();
  c->add_option("--sequence", o->sequence, "What to ask at the end");
  add_common(*c, o->common, "plmscope demo --out out/demo");
  c->callback([o] { run_demo(*o); });
}
