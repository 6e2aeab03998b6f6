// SPDX-License-Identifier: MIT
#pragma once

#include "fit.hpp"
#include "scoring.hpp"
#include "sweep_file.hpp"

#include <plmscope/io/uniprot_tsv.hpp>

#include <cstddef>
#include <functional>
#include <map>
#include <string>
#include <vector>

// What a sweep measures of every SAE, as its records have it.

/// A feed with so many rows in its buffer hands out every row once, or so many rows no two of which
/// are one.
inline constexpr std::size_t figure_rows = std::size_t{1} << 18;

/// FVU, L0 and the share of latents that never fire, on the first rows of a feed: all of them up to
/// `figure_rows`.
json_object measure_rows(program_backend& be, program_sae& sae, row_feed rows, std::size_t all);

/// Loss recovered and its company (`fidelity`, standard definition, against zero ablation).
json_object measure_loss(program_model& esm, program_sae& sae,
                         const std::vector<std::string>& sequences, const common_options& common,
                         const std::function<void(std::size_t, std::size_t)>& progress);

/// How many concepts have a feature: one chosen on validation proteins whose F1 on held-out ones,
/// as on validation, reaches `min-name-score` and beats the best amino acid.
json_object measure_concepts(program_model& esm, program_sae& sae,
                             const std::vector<plmscope::annotated_protein>& proteins,
                             const scoring_input& input, const sweep_concepts& asked,
                             const std::function<void(std::size_t, std::size_t)>& progress);

/// A line per run that has a record, and where there are several seeds one per policy with means
/// and standard deviations over them.
std::string comparison_table(const sweep_plan& plan,
                             const std::map<std::string, json_object>& records);
