// SPDX-License-Identifier: MIT
#pragma once

#include "command.hpp"

#include <cstddef>
#include <string>

struct scoring_options {
  double held_out = 0.5;
  double min_name_score = 0.25;  // validation F1 from which on a feature bears a concept's name
  std::size_t min_instances = 15;
  std::string protocol = "domain";
  std::string split = "homology";
  bool neurons = true;
};

void add_scoring_flags(CLI::App& command, scoring_options& options);
