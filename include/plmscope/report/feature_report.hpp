// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/config.hpp>

#include <cstddef>
#include <limits>
#include <optional>
#include <string>
#include <vector>

// What a report says, as plain data: nothing here knows a model, a sparse autoencoder or a page.
// Counts are exact, shares are fractions in [0, 1]. A number that was not computed is
// `not_available` and is shown as "n/a", never as zero.

namespace plmscope::inline PLMSCOPE_ABI {

/// The value of a number that was not computed.
inline constexpr double not_available = std::numeric_limits<double>::quiet_NaN();

/// Precision is counted per residue. Recall is counted per residue for a residue concept and per
/// annotated instance for a domain concept; F1 is their harmonic mean.
struct report_scores {
  double f1 = not_available;
  double precision = not_available;
  double recall = not_available;
};

/// How the recall of a concept is counted.
enum class report_concept_kind { residue, domain };

/// One row of the table of concepts: the feature chosen for it on validation proteins, and how that
/// choice fares on held-out proteins.
struct report_concept {
  std::string name;
  report_concept_kind kind = report_concept_kind::residue;
  std::optional<std::size_t> feature;      ///< empty: no feature fires inside the concept
  double threshold = not_available;        ///< a residue is called when its activation exceeds this
  report_scores validation;
  report_scores held_out;
  std::size_t held_out_positives = 0;      ///< residues of held-out proteins with the annotation
  std::size_t held_out_instances = 0;      ///< annotated spans in held-out proteins
  double amino_acid_f1 = not_available;    ///< held-out F1 from the identity of the residue alone
  double best_neuron_f1 = not_available;   ///< held-out F1 of the best neuron of the same layer
};

struct report_activation {
  std::size_t position = 0;  ///< 0-based; the page shows 1-based positions
  float value = 0.0f;
};

/// Residues [begin, end), 0-based.
struct report_span {
  std::size_t begin = 0;
  std::size_t end = 0;
};

/// A protein in which a feature is strong.
struct report_protein {
  std::string accession;
  std::string name;
  std::string organism;
  std::string split;                            ///< for example "held-out"; may be empty
  std::string sequence;                         ///< one letter per residue
  std::vector<report_activation> activations;   ///< active residues only, by increasing position
  std::vector<report_span> annotations;         ///< where the feature's best concept is annotated
};

/// A concept that a feature says something about.
struct report_association {
  std::string name;
  double held_out_f1 = not_available;
  double validation_f1 = not_available;
};

struct report_feature {
  std::size_t id = 0;
  std::string name;                          ///< best concept; empty: no concept fits
  std::vector<report_association> concepts;  ///< strongest first, the best one included
  double max_activation = not_available;     ///< over the whole data set; 0: it never fired
  double residue_share = not_available;      ///< share of residues where it is active
  double protein_share = not_available;      ///< share of proteins with at least one such residue
  std::vector<report_protein> top_proteins;  ///< strongest first
};

struct report_model {
  std::string name;
  std::string description;  ///< for example "6 layers, width 192, 2.7 million parameters"
  bool bundled = false;     ///< the small model of plmscope: the page says what that means
  std::string site;         ///< for example "resid_post.4"
};

struct report_sae {
  std::string sparsifier;
  std::size_t k = 0;  ///< 0: the sparsifier has no k
  std::size_t features = 0;
  std::size_t d_model = 0;
  std::size_t training_rows = 0;      ///< residues seen in training, repeats included
  double fvu = not_available;         ///< fraction of variance unexplained
  double l0 = not_available;          ///< mean number of active features per residue
  double dead_share = not_available;  ///< share of features that never fire
};

struct report_split {
  std::string name;
  std::size_t proteins = 0;
  std::size_t residues = 0;
};

struct report_dataset {
  std::string name;
  std::size_t proteins = 0;
  std::size_t residues = 0;
  std::vector<report_split> splits;
  bool split_by_homology = false;  ///< false: the page warns that the scores may flatter
  std::string split_method;        ///< one phrase, for example "clusters at 30 % identity"
};

struct feature_report {
  std::string title = "Features of a protein language model";
  report_model model;
  report_sae sae;
  report_dataset dataset;
  std::vector<report_concept> concepts;
  std::vector<report_feature> features;
  std::vector<std::string> notes;  ///< further sentences for the reader, shown as they are
  std::string made_by;             ///< program, version and command line; may be empty
};

}  // namespace plmscope
