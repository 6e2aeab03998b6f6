// SPDX-License-Identifier: MIT
#pragma once

#include "scoring_options.hpp"
#include "training_options.hpp"

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

// What a sweep file asks for: every policy on every site of every model with every seed.

struct sweep_model {
  std::string name;  // in names of files
  std::string path;  // as `train` takes it
};

struct sweep_policy {
  std::string name;
  training_options training;
  json_object settings;  // by the names of the flags, defaults included
};

struct sweep_fidelity {
  std::string proteins;  // empty: those of the training
  std::size_t first = 100;
  json_object settings;
};

struct sweep_concepts {
  std::string proteins;
  scoring_options scoring;
  json_object settings;
};

/// One SAE.
struct sweep_run {
  std::size_t model;
  std::string site;
  std::size_t policy;
  std::uint64_t seed;
  std::string name;  // MODEL-SITE-POLICY-seedN: of its files
};

struct sweep_plan {
  std::string proteins;
  std::size_t checkpoint_every = 1000;
  std::vector<sweep_model> models;
  std::vector<std::string> sites;
  std::vector<sweep_policy> policies;
  std::vector<std::uint64_t> seeds{1};
  std::optional<sweep_fidelity> fidelity;
  std::optional<sweep_concepts> concepts;
  std::vector<sweep_run> runs;  // the product, in the order of the file

  static constexpr std::size_t max_runs = 10'000;
};

/// Reads and checks all that can be checked without opening another file. Every error says line and
/// column. Errors: cli.120 to cli.124, io.504 above 1 MiB, plm.107 for a site without a name, and
/// those of options that do not fit each other.
sweep_plan read_sweep(const std::filesystem::path& file);
