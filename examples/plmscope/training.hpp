// SPDX-License-Identifier: MIT
#pragma once

#include "command.hpp"
#include "model.hpp"
#include "program_sae.hpp"
#include "training_options.hpp"

#include <plmscope/acts/activation_store.hpp>
#include <plmscope/io/fasta.hpp>
#include <plmscope/io/uniprot_tsv.hpp>
#include <plmscope/train/metrics.hpp>

#include <string>
#include <vector>

// Training as `train` and `demo` do it.

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

/// Trains on a site of a store: `by_protein` in the order of training on the fly (the same bits
/// where the store holds f32), else in runs of rows at the speed of sequential reading.
trained train_sae(program_backend be, const plmscope::activation_store& store, bool by_protein,
                  const training_options& options, const common_options& common);

json_object metrics_json(const plmscope::training_metrics& m);
