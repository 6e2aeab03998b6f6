// SPDX-License-Identifier: MIT
#pragma once

#include "training.hpp"

#include <filesystem>
#include <string>

// What `ask` (and the end of `demo`) answers: the named features that fire in one sequence.

struct answer {
  json_object object;
  std::string text;
};

/// `folder` holds features.json, made for `sae_file`. Errors: cli.103, cli.105.
answer ask_sequence(program_model& esm, program_sae& model, const std::filesystem::path& sae_file,
                    const std::filesystem::path& folder, const std::string& sequence,
                    double min_score);
