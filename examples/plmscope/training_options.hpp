// SPDX-License-Identifier: MIT
#pragma once

#include "command.hpp"

#include <plmscope/train/metrics.hpp>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

/// One field a flag, in the words of the policies that they become (training_policies.hpp). An
/// empty text is decided by other fields.
struct training_options {
  std::string site = "resid_post.3";  // several with commas: a crosscoder
  std::string target = {};            // a transcoder's second site
  bool target_update = false;         // it aims at the second less the first
  bool skip = false;
  std::size_t features = 0;  // 0: 8 per dimension
  std::string sparsifier = "top_k";
  double k = 32;            // active latents a row: kept, or aimed at
  std::size_t experts = 8;  // routed
  std::size_t chosen = 1;
  double tolerance = 0;       // matching_pursuit
  std::string penalty = {};   // relu, gated: l1; jump_relu: l0
  double penalty_weight = 0;  // of log, tanh, p_annealing
  double l1 = 0;              // weight; 0: it seeks k
  double l0 = 0.05;           // weight of (L0 / k - 1)^2
  double p_end = 0.2;         // p_annealing
  double pre_activation = 0;  // weight
  double orthogonality = 0;   // weight
  double bandwidth = 0.1;
  double threshold = 0.5;
  double firing_rate = 0;  // share of rows a latent of jump_relu fires on at first; 0: as it comes
  std::vector<std::size_t> matryoshka = {};  // ends of prefixes; empty: one reconstruction
  std::size_t sampled_matryoshka = 0;        // prefixes drawn a step; 0: none
  bool importance_order = false;
  std::vector<double> multi_k = {};  // factors of k of further reconstructions
  std::string decoder = "unit";
  std::string centring = {};  // of one site decoder_bias, else none
  std::string lengths = "free";
  std::string encoder = "fp32";
  std::string loss = "mse";
  std::size_t steps = 5000;
  std::size_t batch = 2048;
  std::string optimizer = "adam";
  double lr = 0;       // 0: adam 2e-4 / sqrt(features / 16,384), else that of the policy
  double average = 0;  // decay of the mean of the parameters; 0: none
  double clip = 1;
  std::string dead = {};  // aux_k where it fits the sparsifier, else none
  std::size_t k_aux = 0;
  double aux_alpha = 1.0 / 32;
  std::size_t resample_every = 0;  // 0: an eighth of the steps
  std::int64_t dead_after = 0;     // 0: a tenth of the rows of the run, at most 10 million
  std::string normalize = "scalar";
  std::size_t buffer_rows = std::size_t{1} << 18;
  std::string metrics;               // metrics.jsonl; empty: none
  std::size_t checkpoint_every = 0;  // steps; 0: never
  std::string checkpoints = {};      // folder of checkpoints
  bool resume = false;
  /// Told of every logged step instead of the progress bar.
  std::function<void(const plmscope::training_metrics&)> report = {};

  /// Of the rows that come in, with their full names. Errors: plm.107; cli.128 for one named twice.
  std::vector<std::string> sites() const;
  /// The sites of `sites`, and the target.
  std::vector<std::string> all_sites() const;
  /// What an empty `centring`, `penalty` and `dead` stand for.
  std::string which_centring() const;
  std::string which_penalty() const;
  std::string which_dead() const;
};

/// Refuses (cli.112, cli.128, plm.107) options that do not fit each other, and flags that the
/// others leave nothing to do.
void check_training(const training_options& options);

/// Adds the flags of `training_options`, without those of checkpoints and of `add_pair_flags`.
void add_training_flags(CLI::App& command, training_options& options);
/// Those that make a transcoder.
void add_pair_flags(CLI::App& command, training_options& options);
