// SPDX-License-Identifier: MIT
#include "fit.hpp"
#include "rules.hpp"
#include "training.hpp"

#include <plmscope/acts/activation_store_reader.hpp>
#include <plmscope/acts/model_reader.hpp>
#include <plmscope/acts/shuffled_rows.hpp>
#include <plmscope/acts/store_rows.hpp>
#include <plmscope/io/byte_source.hpp>
#include <plmscope/io/fasta.hpp>
#include <plmscope/io/line_reader.hpp>
#include <plmscope/io/tsv.hpp>
#include <plmscope/io/uniprot_tsv.hpp>

#include <fmt/format.h>

#include <filesystem>
#include <memory>

namespace {

struct train_command {
  common_options common;
  training_options training;
  std::string model;
  std::string proteins;
  std::string store;
  std::string order = "runs";
  std::string out = "sae.safetensors";
};

void finish_train(const train_command& o, trained t, json_object out) {
  t.model.save(o.out);
  out["last"] = metrics_json(t.last);
  print_result(o.common, out,
               fmt::format("FVU {:.4f}, explained variance {:.4f}, cosine {:.4f}, L0 {:.1f}, dead "
                           "{:.1f} %\nwrote {}\n",
                           t.last.fvu, t.last.explained_variance, t.last.cosine, t.last.l0,
                           100 * t.last.dead_share, o.out));
}

void train_on_model(const train_command& o) {
  const auto sequences = read_sequences(o.proteins);
  program_model esm = open_model(o.model, o.common);
  const auto site = plmscope::parse_site(o.training.site);
  esm.check(site);
  std::size_t residues = 0;
  for (const auto& s : sequences) residues += s.size();
  json_object out{{"model", o.model},        {"proteins", sequences.size()}, {"residues", residues},
                  {"site", o.training.site}, {"steps", o.training.steps},    {"out", o.out}};
  if (o.common.dry_run) {
    return print_result(o.common, out,
                        fmt::format("would train on {} residues of {} proteins at {}, {} steps of "
                                    "{} rows, and write {}\n",
                                    residues, sequences.size(), o.training.site, o.training.steps,
                                    o.training.batch, o.out));
  }
  finish_train(o, train_sae(esm, sequences, o.training, o.common), out);
}

void train_on_store(const train_command& o) {
  const auto store = plmscope::activation_store::open(o.store);
  static_cast<void>(store.manifest().find(o.training.site));
  json_object out{{"store", o.store},
                  {"model", store.manifest().model},
                  {"proteins", store.proteins()},
                  {"residues", store.rows()},
                  {"site", o.training.site},
                  {"steps", o.training.steps},
                  {"out", o.out}};
  if (o.common.dry_run) {
    return print_result(o.common, out,
                        fmt::format("would train on {} residues of {} proteins at {} from {}, {} "
                                    "steps of {} rows, and write {}\n",
                                    store.rows(), store.proteins(), o.training.site, o.store,
                                    o.training.steps, o.training.batch, o.out));
  }
  finish_train(
      o, train_sae(open_backend(o.common), store, o.order == "proteins", o.training, o.common),
      out);
}

void run_train(const train_command& o) {
  const bool from_model = !o.model.empty() && !o.proteins.empty();
  const bool from_store = !o.store.empty() && o.model.empty();
  if (from_model == from_store || (from_model && !o.store.empty())) {
    throw plmscope::error(plmscope::rules::cli_train_input,
                          {.expected = "MODEL PROTEINS, or --store STORE",
                           .found = o.store.empty() ? "neither" : "both",
                           .remedy = "see `plmscope train --help`"});
  }
  // Before hours of work, not after.
  const auto folder = std::filesystem::absolute(o.out).parent_path();
  if (!o.common.dry_run) std::filesystem::create_directories(folder);
  from_model ? train_on_model(o) : train_on_store(o);
}

}  // namespace

json_object metrics_json(const plmscope::training_metrics& m) {
  return {{"step", m.step},
          {"tokens", m.tokens},
          {"loss", number_or_null(m.loss)},
          {"aux_loss", number_or_null(m.aux_loss)},
          {"fvu", number_or_null(m.fvu)},
          {"explained_variance", number_or_null(m.explained_variance)},
          {"cosine", number_or_null(m.cosine)},
          {"l0", m.l0},
          {"dead_share", m.dead_share},
          {"learning_rate", m.learning_rate},
          {"gradient_norm", number_or_null(m.gradient_norm)},
          {"seconds", m.seconds}};
}

std::vector<plmscope::protein_sequence> read_proteins(const std::string& file) {
  plmscope::line_reader lines{std::filesystem::path(file)};
  if (!lines.begins_with("Entry\t")) return plmscope::read_fasta(std::move(lines));
  std::vector<plmscope::protein_sequence> out;
  for (auto& p : plmscope::read_uniprot_tsv(plmscope::tsv_reader(std::move(lines)))) {
    out.push_back({std::move(p.accession), {}, std::move(p.sequence)});
  }
  return out;
}

std::vector<std::string> read_sequences(const std::string& file) {
  std::vector<std::string> out;
  for (auto& p : read_proteins(file)) out.push_back(std::move(p.sequence));
  return out;
}

trained train_sae(program_model& esm, const std::vector<std::string>& sequences,
                  const training_options& o, const common_options& common) {
  using reader_type = plmscope::model_reader<program_model>;
  plmscope::shuffled_rows<reader_type, program_backend> rows(
      reader_type(esm, plmscope::parse_site(o.site), sequences, common.seed), common.seed,
      o.buffer_rows);
  return fit_sae(esm.backend(), row_feed(rows), o, common);
}

trained train_sae(program_backend be, const plmscope::activation_store& store, bool by_protein,
                  const training_options& o, const common_options& common) {
  if (by_protein) {
    using reader_type = plmscope::activation_store_reader<program_backend>;
    plmscope::shuffled_rows<reader_type, program_backend> rows(
        reader_type(store, o.site, common.seed), common.seed, o.buffer_rows);
    return fit_sae(be, row_feed(rows), o, common);
  }
  plmscope::store_rows<program_backend> rows(store, o.site, common.seed,
                                             {.buffer_rows = o.buffer_rows});
  return fit_sae(be, row_feed(rows), o, common);
}

void add_training_flags(CLI::App& c, training_options& o) {
  c.add_option("--site", o.site, "Where in the model: embeddings, resid_post.L, final_norm")
      ->capture_default_str();
  c.add_option("--features", o.features, "Latents; 0 means 8 per dimension")->capture_default_str();
  c.add_option("--sparsifier", o.sparsifier,
               "How codes become sparse:\n"
               "top_k: the k largest of each residue (Gao et al. 2024)\n"
               "abs_top_k: the k of largest magnitude, with their signs\n"
               "batch_top_k: k a residue on average over the batch (Bussmann et al. 2024)\n"
               "jump_relu: learned thresholds that aim at k (Rajamanoharan et al. 2024, \"Jumping "
               "ahead\")\n"
               "relu: an L1 penalty that aims at k (Bricken et al. 2023)\n"
               "gated: gates with an L1 penalty that aims at k (Rajamanoharan et al. 2024, \"Gated "
               "SAEs\")\n"
               "group_max: the largest of each of k groups of latents (sparsify)")
      ->check(CLI::IsMember(
          {"top_k", "abs_top_k", "batch_top_k", "jump_relu", "relu", "gated", "group_max"}))
      ->capture_default_str();
  c.add_option("--k", o.k, "Active latents per residue; of batch_top_k any number, else a whole one")
      ->check(CLI::Range(0.1, 1024.0))
      ->capture_default_str();
  c.add_option("--l1", o.l1,
               "Weight of the L1 penalty of relu and gated; 0: it seeks k (Nabeshima 2024)")
      ->check(CLI::NonNegativeNumber);
  c.add_option("--l0", o.l0, "Weight of (L0 / k - 1)^2 for jump_relu (Lieberum et al. 2024)")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  c.add_option("--bandwidth", o.bandwidth, "Of the thresholds' pseudo-gradients of jump_relu")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  c.add_option("--matryoshka", o.matryoshka,
               "Ends of prefixes that reconstruct on their own, for top_k and batch_top_k, such as "
               "256 1024 (Bussmann et al. 2025)");
  c.add_option("--decoder", o.decoder, "Length of decoder rows: unit (Bricken et al. 2023) or free")
      ->check(CLI::IsMember({"unit", "free"}))
      ->capture_default_str();
  c.add_option("--steps", o.steps, "Updates")->check(CLI::PositiveNumber)->capture_default_str();
  c.add_option("--batch", o.batch, "Residues an update")
      ->check(CLI::Range(2, 1 << 20))
      ->capture_default_str();
  c.add_option("--lr", o.lr, "Adam's learning rate; 0 means 2e-4 / sqrt(features / 16384)")
      ->check(CLI::NonNegativeNumber);
  c.add_option("--aux-k", o.k_aux, "Dead latents per residue in AuxK; 0 means half the width");
  c.add_option("--aux-alpha", o.aux_alpha, "Weight of the AuxK loss; 0 turns it off")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  c.add_option("--dead-after", o.dead_after,
               "Residues without firing until a latent counts as dead; 0 means a tenth of the run");
  c.add_option("--normalize", o.normalize, "How rows are scaled; kept in the SAE file")
      ->check(CLI::IsMember({"none", "scalar", "per_dimension", "token_layer_norm"}))
      ->capture_default_str();
  c.add_option("--buffer", o.buffer_rows, "Rows of the shuffle buffer")->capture_default_str();
  c.add_option("--metrics", o.metrics, "Write metrics.jsonl, one object a logged step");
}

void add_train(CLI::App& app) {
  auto o = std::make_shared<train_command>();
  CLI::App* c = app.add_subcommand("train", "Train a sparse autoencoder on the activations of a model");
  c->add_option("model", o->model,
                "Folder, file or name (facebook/esm2_t6_8M_UR50D) of an ESM-2 or ESM-C model");
  c->add_option("proteins", o->proteins, "FASTA(.gz) or UniProt TSV(.gz)");
  c->add_option("--store", o->store,
                "Train on a store of `plmscope harvest` instead of model and proteins");
  c->add_option("--order", o->order,
                "Of rows of a store: runs (sequential speed), or proteins (as without --store)")
      ->check(CLI::IsMember({"runs", "proteins"}))
      ->capture_default_str();
  add_training_flags(*c, o->training);
  c->add_option("--out", o->out, "SAE file to write")->capture_default_str();
  auto* every = c->add_option("--checkpoint-every", o->training.checkpoint_every,
                              "Save all that is needed to go on, every so many steps")
                    ->check(CLI::PositiveNumber);
  c->add_option("--checkpoints", o->training.checkpoints,
                "Folder for that; else the name of the SAE file with .checkpoints")
      ->needs(every);
  c->add_flag("--resume", o->training.resume,
              "Go on from the newest checkpoint, or begin where there is none: a run that was "
              "killed ends with the bytes of one that was not")
      ->needs(every);
  add_common(
      *c, o->common,
      "plmscope train esm2_t6_8M_UR50D uniref50.fasta.gz --site resid_post.3 --features 4096 "
      "--k 64 --out sae.safetensors --checkpoint-every 1000 --resume");
  c->callback([o] {
    if (o->training.checkpoints.empty()) o->training.checkpoints = o->out + ".checkpoints";
    run_train(*o);
  });
}
