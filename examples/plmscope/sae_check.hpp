// SPDX-License-Identifier: MIT
#pragma once

#include "backend.hpp"

#include <plmscope/sae/formats/published_sae.hpp>

#include <filesystem>
#include <string>

/// Runs a model on some bundled proteins and measures how much of the states at the SAE's site, and
/// beside it, the SAE leaves unexplained (FVU). Gives whether the site is the best of them and
/// below one half. Without a site it tries every hidden state and says which is best.
bool check_sae(const std::filesystem::path& file, const plmscope::stated_sae& stated,
               const std::filesystem::path& model, const common_options& options, json_object& out,
               std::string& text);

/// Name and hash of a model's weights.
plmscope::activation_source model_source(const std::filesystem::path& model,
                                         const common_options& options);
