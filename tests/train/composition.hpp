// SPDX-License-Identifier: MIT
#pragma once

#include <tests/train/finite_differences.hpp>

#include <plmscope/sae/sae.hpp>
#include <plmscope/train/trainer.hpp>

#include <string>
#include <vector>

// What every sparsifier is trained with: penalties, plans, losses and options of the model.
namespace composition {

using namespace differences;
using plmscope::input_centring;
using plmscope::penalised_length;
using plmscope::row_lengths;

template <class Penalty>
auto with(Penalty penalty) {
  return plmscope::trainer{.penalty = penalty, .dead = quiet, .dictionary = plmscope::free_norm{}};
}
inline const auto plain = with(plmscope::no_penalty{});

template <class S>
void every_penalty(S s, const std::vector<std::string>& without = {}) {
  check<S>(options(s), plain, without);
  for (const auto length :
       {penalised_length::none, penalised_length::length, penalised_length::squared}) {
    check<S>(options(s), with(plmscope::l1_penalty{.weight = {0.3}, .length = length}), without);
    check<S>(options(s), with(plmscope::log_penalty{.weight = {0.2}, .length = length}), without);
    check<S>(options(s), with(plmscope::tanh_penalty{.weight = {0.2}, .length = length}), without);
    check<S>(options(s), with(plmscope::power_penalty{.weight = {0.2}, .length = length}), without);
  }
  check<S>(options(s), with(plmscope::p_annealing{.weight = {0.2}, .p_start = 0.7}), without);
  check<S>(options(s), with(plmscope::p_annealing{.weight = {0.2}, .p_start = 0.7, .root = true}),
           without);
  check<S>(options(s), with(plmscope::penalties{plmscope::l1_penalty{.weight = {0.1}},
                                                plmscope::log_penalty{.weight = {0.2}}}),
           without);
}

template <class S>
void every_plan_and_loss(S s, const std::vector<std::string>& without = {}) {
  const plmscope::matryoshka nested{.ends = {4, 10}, .shares = {0.2, 0.5, 1.5}};
  check<S>(options(s), plmscope::trainer{.dead = quiet, .dictionary = plmscope::free_norm{},
                                         .plan = nested}, without);
  check<S>(options(s), plmscope::trainer{.dead = quiet, .dictionary = plmscope::free_norm{},
                                         .plan = plmscope::matryoshka{.ends = {0, 7}}}, without);
  check<S>(options(s),
           plmscope::trainer{.penalty = plmscope::l1_penalty{.weight = {0.2}}, .dead = quiet,
                             .dictionary = plmscope::free_norm{},
                             .plan = plmscope::sampled_matryoshka{.count = 4}}, without);
  check<S>(options(s), plmscope::trainer{.loss = plmscope::mean_error_length{}, .dead = quiet,
                                         .dictionary = plmscope::free_norm{}}, without);
  check<S>(options(s),
           plmscope::trainer{.loss = plmscope::fraction_of_variance_unexplained{}, .dead = quiet,
                             .dictionary = plmscope::free_norm{}}, without);
}

template <class S>
void every_model(S s, const std::vector<std::string>& without = {}, bool ranks = true) {
  auto o = options(s);
  for (const auto centring : {input_centring::own_bias, input_centring::none}) {
    o = options(s);
    o.centring = centring;
    check<S>(o, plain, without);
    o.transcodes = true, o.d_out = 5;
    check<S>(o, plain, without);
    o.skip = true;
    check<S>(o, plain, without);
    check<S>(o, plmscope::trainer{.dead = quiet, .dictionary = plmscope::free_norm{},
                                  .plan = plmscope::matryoshka{.ends = {8}}}, without);
  }
  o = options(s);
  o.unit_input = true;
  check<S>(o, plain, without);
  o.normalize.kind = plmscope::normalization::token_layer_norm;
  check<S>(o, plain, without);
  o = options(s);
  o.blocks = 2;
  check<S>(o, with(plmscope::l1_penalty{.weight = {0.3}}), without);
  check<S>(o, plmscope::trainer{.loss = plmscope::mean_error_length{},
                                .penalty = plmscope::l1_penalty{.weight = {0.3}}, .dead = quiet,
                                .dictionary = plmscope::free_norm{}}, without);
  if (!ranks) return;
  o.lengths = row_lengths::rank;
  check<S>(o, with(plmscope::l1_penalty{.weight = {0.3}}), without);
}

}  // namespace composition
