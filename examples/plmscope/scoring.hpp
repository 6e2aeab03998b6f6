// SPDX-License-Identifier: MIT
#pragma once

#include "scoring_options.hpp"
#include "training.hpp"

#include <plmscope/acts/activation_memory.hpp>
#include <plmscope/eval/amino_acid_baseline.hpp>
#include <plmscope/eval/labels.hpp>
#include <plmscope/eval/neuron_baseline.hpp>
#include <plmscope/eval/score_concepts.hpp>
#include <plmscope/eval/split.hpp>
#include <plmscope/io/uniprot_tsv.hpp>
#include <plmscope/report/feature_report.hpp>

#include <cstddef>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

// Scoring and naming as `concepts` and `demo` do it.

/// Sparse codes of annotated proteins on the host, protein by protein.
struct encoded_proteins {
  std::size_t features = 0;
  std::vector<std::int64_t> offsets{0};
  std::vector<std::uint32_t> ids;
  std::vector<float> values;
  std::vector<std::size_t> protein_offsets{0};
  std::vector<float> neurons;  // [rows, d], or empty

  plmscope::sparse_activations view() const {
    return {features, offsets, ids, values, protein_offsets};
  }
};

/// Scores and baselines under one definition of F1.
struct protocol_scores {
  plmscope::concept_scores scores;
  std::vector<plmscope::amino_acid_result> amino_acids;
  std::vector<plmscope::neuron_result> neurons;  // empty without the neuron baseline
};

struct scored {
  plmscope::concept_set concepts;
  plmscope::protein_split split;
  protocol_scores by_domain;   // precision per residue, recall per domain
  protocol_scores by_residue;  // both per residue
  encoded_proteins codes;
  double fvu = 0;  // on all residues of the proteins
};

/// What SAEs that are scored on the same proteins share.
struct scoring_input {
  plmscope::concept_set concepts;
  plmscope::protein_split split;
  /// States of the proteins at the SAE's site; without, the model runs.
  std::shared_ptr<const plmscope::activation_memory> states = {};
};

scoring_input prepare_scoring(const std::vector<plmscope::annotated_protein>& proteins,
                              const scoring_options& options, const common_options& common);

scored score_sae(program_model& esm, program_sae& model,
                 const std::vector<plmscope::annotated_protein>& proteins,
                 const scoring_options& options, const common_options& common);
/// `report(rows done, rows to do)` in place of a line on the terminal.
scored score_sae(program_model& esm, program_sae& model,
                 const std::vector<plmscope::annotated_protein>& proteins,
                 const scoring_input& input, const scoring_options& options,
                 const std::function<void(std::size_t, std::size_t)>& report);

struct report_texts {
  std::string title;
  std::string model_description;
  std::string dataset;
  bool bundled_model = false;
};

plmscope::feature_report make_report(const scored& s, const program_model& esm,
                                     const program_sae& model,
                                     const std::vector<plmscope::annotated_protein>& proteins,
                                     const scoring_options& options, const report_texts& texts);

/// concepts.tsv, report.html and features.json into `folder`.
void write_results(const std::filesystem::path& folder, const plmscope::feature_report& report,
                   const scored& s, const scoring_options& options,
                   const std::filesystem::path& sae_file);

/// The best rows as text, both definitions of F1 side by side with their baselines.
std::string concept_table(const scored& s, std::size_t rows);
json_object concept_json(const scored& s);

/// How people write a sparsifier's name.
std::string sparsifier_name(const std::string& id);

/// Which of `s.scores.pairs` names each feature, or pairs.size(): chosen on validation alone, and only
/// above the amino-acid baseline there.
std::vector<std::size_t> feature_names(const protocol_scores& s, const scoring_options& options);

/// The definition of F1 that the report uses.
const protocol_scores& chosen(const scored& s, const scoring_options& options);
