// SPDX-License-Identifier: MIT
#pragma once

#include "command.hpp"
#include "model.hpp"
#include "program_sae.hpp"

#include <plmscope/acts/activation_store.hpp>
#include <plmscope/io/fasta.hpp>
#include <plmscope/io/uniprot_tsv.hpp>
#include <plmscope/train/metrics.hpp>

#include <functional>
#include <string>
#include <vector>

// Training as `train` and `demo` do it.

struct training_options {
  std::string site = "resid_post.3";
  std::size_t features = 0;  // 0: 8 per dimension
  std::string sparsifier = "top_k";
  double k = 32;                     // active latents a row: kept, or aimed at
  double l1 = 0;                     // weight; 0: it seeks k
  double l0 = 0.05;                  // weight of (L0 / k - 1)^2
  double bandwidth = 0.1;
  std::vector<std::size_t> matryoshka = {};  // ends of prefixes; empty: one reconstruction
  std::string decoder = "unit";
  std::size_t steps = 5000;
  std::size_t batch = 2048;
  double lr = 0;  // 0: 2e-4 / sqrt(features / 16,384)
  std::size_t k_aux = 0;
  double aux_alpha = 1.0 / 32;
  std::int64_t dead_after = 0;  // 0: a tenth of the rows of the run, at most 10 million
  std::string normalize = "scalar";
  std::size_t buffer_rows = std::size_t{1} << 18;
  std::string metrics;  // metrics.jsonl; empty: none
  std::size_t checkpoint_every = 0;  // steps; 0: never
  std::string checkpoints = {};      // folder of checkpoints
  bool resume = false;
  /// Told of every logged step instead of the progress bar.
  std::function<void(const plmscope::training_metrics&)> report = {};
};

/// Refuses (cli.112) options that do not fit each other.
void check_training(const training_options& options);

/// Adds the flags of `training_options`.
void add_training_flags(CLI::App& command, training_options& options);

/// The proteins of a FASTA file or a UniProt table (decided by content), with id and sequence.
std::vector<plmscope::protein_sequence> read_proteins(const std::string& file);
/// The sequences of a FASTA file or a UniProt table (decided by content).
std::vector<std::string> read_sequences(const std::string& file);

struct trained {
  program_sae model;
  plmscope::training_metrics last;
};

/// Trains and fills source and training record.
trained train_sae(program_model& esm, const std::vector<std::string>& sequences,
                  const training_options& options, const common_options& common);

/// Trains on a site of a store: `by_protein` in the order of training on the fly (the same bits where
/// the store holds f32), else in runs of rows at the speed of sequential reading.
trained train_sae(program_backend be, const plmscope::activation_store& store, bool by_protein,
                  const training_options& options, const common_options& common);

json_object metrics_json(const plmscope::training_metrics& m);
