// SPDX-License-Identifier: MIT
#pragma once

#include "training.hpp"

#include <plmscope/train/choice.hpp>
#include <plmscope/train/trainer.hpp>

#include <cstddef>

// The policies of a training, chosen by flags. Choices are made when the program runs, so that one
// trainer is compiled for each sparsifier and not for each combination.

using chosen_optimizer =
    plmscope::optimizer_choice<plmscope::adam, plmscope::signum_schedule_free, plmscope::muon,
                               plmscope::averaged<plmscope::adam>,
                               plmscope::averaged<plmscope::muon>>;
using chosen_dictionary =
    plmscope::dictionary_choice<plmscope::unit_norm, plmscope::free_norm, plmscope::max_norm>;
using chosen_plan = plmscope::plan_choice<plmscope::full_reconstruction, plmscope::matryoshka,
                                          plmscope::sampled_matryoshka>;

/// Of any sparsifier.
using chosen_orthogonality =
    plmscope::penalty_choice<plmscope::no_penalty, plmscope::orthogonality_penalty>;
/// Of sparsifiers that keep every positive value.
using chosen_value_penalty = plmscope::penalty_choice<
    plmscope::entry_penalty<plmscope::linear_shape, plmscope::seeking_weight>, plmscope::l1_penalty,
    plmscope::entry_penalty<plmscope::log_shape, plmscope::seeking_weight>, plmscope::log_penalty,
    plmscope::tanh_penalty, plmscope::p_annealing>;
/// Of learned thresholds.
using chosen_threshold_penalty =
    plmscope::penalty_choice<plmscope::l0_penalty, plmscope::tanh_penalty>;
using chosen_pre_activation =
    plmscope::penalty_choice<plmscope::no_penalty, plmscope::pre_activation_penalty>;

using chosen_order = plmscope::upkeep_choice<plmscope::no_upkeep, plmscope::importance_order>;
using chosen_firing_rate =
    plmscope::upkeep_choice<plmscope::no_upkeep, plmscope::initial_firing_rate>;

chosen_optimizer optimizer_of(const training_options& o, std::size_t features);
plmscope::loss_choice loss_of(const training_options& o);
chosen_dictionary dictionary_of(const training_options& o);
chosen_plan plan_of(const training_options& o, std::uint64_t seed);
chosen_orthogonality orthogonality_of(const training_options& o, std::uint64_t seed);
chosen_value_penalty value_penalty_of(const training_options& o);
chosen_threshold_penalty threshold_penalty_of(const training_options& o);
chosen_pre_activation pre_activation_of(const training_options& o);
plmscope::aux_k aux_k_of(const training_options& o);
plmscope::resampling resampling_of(const training_options& o, std::uint64_t seed);
chosen_order order_of(const training_options& o);
chosen_firing_rate firing_rate_of(const training_options& o);
plmscope::multi_top_k multi_top_k_of(const training_options& o);
