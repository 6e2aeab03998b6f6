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

#include <deque>
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

/// "resid_post.1", "resid_post.1, resid_post.3", "resid_post.1 to resid_post.3".
std::string site_text(const training_options& o) {
  const std::string from = fmt::format("{}", fmt::join(o.sites(), ", "));
  return o.target.empty() ? from : from + " to " + o.all_sites().back();
}

void describe_sites(const training_options& o, json_object& out) {
  out["site"] = o.site;
  if (!o.target.empty()) out["target"] = o.all_sites().back();
}

/// One pass of the model, or one file, gives all of them side by side.
template <class Width>
void require_one_width(const std::vector<std::string>& sites, const Width& width) {
  for (const auto& name : sites) {
    if (width(name) == width(sites.front())) continue;
    throw plmscope::error(
        plmscope::rules::cli_sites,
        {.expected = fmt::format("the width {} of {}", width(sites.front()), sites.front()),
         .found = fmt::format("{} at {}", width(name), name)});
  }
}

void train_on_model(const train_command& o) {
  const auto sequences = read_sequences(o.proteins);
  program_model esm = open_model(o.model, o.common);
  require_one_width(o.training.all_sites(), [&](const std::string& name) {
    const auto at = plmscope::parse_site(name);
    esm.check(at);
    return esm.width(at);
  });
  std::size_t residues = 0;
  for (const auto& s : sequences) residues += s.size();
  json_object out{{"model", o.model}, {"proteins", sequences.size()}, {"residues", residues}};
  describe_sites(o.training, out);
  out["steps"] = o.training.steps;
  out["out"] = o.out;
  if (o.common.dry_run) {
    return print_result(o.common, out,
                        fmt::format("would train on {} residues of {} proteins at {}, {} steps of "
                                    "{} rows, and write {}\n",
                                    residues, sequences.size(), site_text(o.training),
                                    o.training.steps, o.training.batch, o.out));
  }
  finish_train(o, train_sae(esm, sequences, o.training, o.common), out);
}

void train_on_store(const train_command& o) {
  const auto store = plmscope::activation_store::open(o.store);
  require_one_width(o.training.all_sites(), [&](const std::string& name) {
    return store.manifest().sites[store.manifest().find(name)].width;
  });
  json_object out{{"store", o.store},
                  {"model", store.manifest().model},
                  {"proteins", store.proteins()},
                  {"residues", store.rows()}};
  describe_sites(o.training, out);
  out["steps"] = o.training.steps;
  out["out"] = o.out;
  if (o.common.dry_run) {
    return print_result(o.common, out,
                        fmt::format("would train on {} residues of {} proteins at {} from {}, {} "
                                    "steps of {} rows, and write {}\n",
                                    store.rows(), store.proteins(), site_text(o.training), o.store,
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
  check_training(o.training);
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
  std::vector<plmscope::site> sites;
  for (const auto& name : o.all_sites()) sites.push_back(plmscope::parse_site(name));
  const std::size_t target_width = o.target.empty() ? 0 : esm.width(sites.back());
  plmscope::shuffled_rows<reader_type, program_backend> rows(
      reader_type(esm, std::move(sites), sequences, common.seed), common.seed, o.buffer_rows);
  return fit_sae(esm.backend(), row_feed(rows), o, common, target_width);
}

trained train_sae(program_backend be, const plmscope::activation_store& store, bool by_protein,
                  const training_options& o, const common_options& common) {
  using reader_type = plmscope::activation_store_reader<program_backend>;
  // The order of rows depends on seed and sizes alone, so that it is the same at every site.
  std::deque<plmscope::shuffled_rows<reader_type, program_backend>> by_proteins;
  std::deque<plmscope::store_rows<program_backend>> by_runs;
  std::vector<row_feed> sites;
  for (const auto& name : o.all_sites()) {
    if (by_protein) {
      sites.emplace_back(by_proteins.emplace_back(reader_type(store, name, common.seed),
                                                  common.seed, o.buffer_rows));
    } else {
      sites.emplace_back(by_runs.emplace_back(
          store, name, common.seed, plmscope::store_rows_options{.buffer_rows = o.buffer_rows}));
    }
  }
  const std::size_t target_width = o.target.empty() ? 0 : sites.back().width();
  joined_rows rows(std::move(sites));
  return fit_sae(be, row_feed(rows), o, common, target_width);
}

void add_train(CLI::App& app) {
  auto o = std::make_shared<train_command>();
  CLI::App* c = app.add_subcommand("train",
                                   "Train a sparse autoencoder, transcoder or crosscoder on the "
                                   "activations of a model");
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
  add_pair_flags(*c, o->training);
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
