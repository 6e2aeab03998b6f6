// SPDX-License-Identifier: MIT
#pragma once

#include "sweep_file.hpp"

#include <plmscope/io/fasta.hpp>
#include <plmscope/io/uniprot_tsv.hpp>

#include <cstddef>
#include <string>
#include <vector>

/// What a sweep file names, read and checked before anything is trained, and what its runs will
/// cost.
class sweep_input {
 public:
  /// Errors: those of `read_sweep` and of the files; plm.107, plm.108 for a site that a model
  /// lacks; cli.112 for more active latents than features.
  sweep_input(const std::string& file, const common_options& common);

  const sweep_plan& plan() const noexcept { return plan_; }
  const std::vector<plmscope::protein_sequence>& proteins() const noexcept { return proteins_; }
  const std::vector<std::string>& loss_sequences() const noexcept { return loss_sequences_; }
  const std::vector<plmscope::annotated_protein>& annotated() const noexcept { return annotated_; }
  std::size_t residues() const noexcept { return residues_; }
  const training_options& training(const sweep_run& run) const {
    return plan_.policies[run.policy].training;
  }
  std::size_t features(const sweep_run& run) const;

  /// All that decides the bytes of a run's SAE.
  json_object asked(const sweep_run& run) const;
  /// All that decides its figures beside that.
  json_object measured() const;

  /// Of an SAE file, about: encoder, decoder, biases and thresholds.
  std::size_t sae_bytes(const sweep_run& run) const;
  /// Of the activations of a model at all sites.
  std::size_t activation_bytes(std::size_t model) const;

  // Multiplications and additions, about.
  double forward_operations(std::size_t model) const;
  double training_operations(const sweep_run& run) const;
  double figure_operations(const sweep_run& run) const;

 private:
  struct opened_model {
    std::string hash;
    std::size_t layers;
    std::size_t d_model;
    std::vector<std::size_t> widths;  // of the sites
  };
  std::size_t width(const sweep_run& run) const;
  double forward_operations(std::size_t model, std::size_t residues) const;

  common_options common_;
  sweep_plan plan_;
  std::vector<plmscope::protein_sequence> proteins_;
  std::string proteins_hash_;
  std::size_t residues_ = 0;
  std::vector<std::string> loss_sequences_;
  std::string loss_hash_;
  std::vector<plmscope::annotated_protein> annotated_;
  std::string concepts_hash_;
  std::vector<opened_model> models_;
};

/// Of dense products on this backend, measured for a third of a second.
double operations_a_second(const common_options& common);
