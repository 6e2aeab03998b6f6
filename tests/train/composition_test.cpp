// SPDX-License-Identifier: MIT
// Every sparsifier with every penalty, plan and model option: the gradient of a whole training step
// against finite differences of its loss, in double; and the kernels against the naive loops.
#include <tests/train/finite_differences.hpp>

#include <plmscope/sae/sparsifiers/batch_top_k.hpp>
#include <plmscope/sae/sparsifiers/gated.hpp>
#include <plmscope/sae/sparsifiers/group_max.hpp>
#include <plmscope/sae/sparsifiers/jump_relu.hpp>
#include <plmscope/sae/sparsifiers/relu.hpp>
#include <plmscope/train/trainer.hpp>

#include <doctest/doctest.h>

#include <string>
#include <vector>

namespace {

using namespace differences;
using plmscope::input_centring;
using plmscope::penalised_length;
using plmscope::row_lengths;

template <class Penalty>
auto with(Penalty penalty) {
  return plmscope::trainer{.penalty = penalty, .dead = quiet, .dictionary = plmscope::free_norm{}};
}
const auto plain = with(plmscope::no_penalty{});

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
void every_model(S s, const std::vector<std::string>& without = {}) {
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
  o.lengths = row_lengths::rank;
  check<S>(o, with(plmscope::l1_penalty{.weight = {0.3}}), without);
}

}  // namespace

TEST_CASE("ReLU: gradients of every penalty, plan and model") {
  every_penalty(plmscope::relu{});
  every_plan_and_loss(plmscope::relu{});
  every_model(plmscope::relu{});
}
TEST_CASE("TopK: gradients of every penalty, plan and model") {
  every_penalty(plmscope::top_k{.k = 4});
  every_plan_and_loss(plmscope::top_k{.k = 4});
  every_model(plmscope::top_k{.k = 4});
}
TEST_CASE("AbsTopK: gradients of every plan and model") {
  check<plmscope::abs_top_k>(options(plmscope::abs_top_k{.k = 4}), plain);
  every_plan_and_loss(plmscope::abs_top_k{.k = 4});
}
TEST_CASE("BatchTopK: gradients of every penalty, plan and model, with a fractional k") {
  every_penalty(plmscope::batch_top_k{.k = 3.7});
  every_plan_and_loss(plmscope::batch_top_k{.k = 3.7});
  every_model(plmscope::batch_top_k{.k = 3.7});
}
TEST_CASE("GroupMax: gradients of every plan and model") {
  check<plmscope::group_max>(options(plmscope::group_max{.k = 6}), plain);
  every_plan_and_loss(plmscope::group_max{.k = 6});
  every_model(plmscope::group_max{.k = 6});
}
TEST_CASE("JumpReLU: gradients of every penalty, plan and model but the thresholds'") {
  const plmscope::jump_relu s{.bandwidth = 0.2};
  every_penalty(s, {"threshold"});
  every_plan_and_loss(s, {"threshold"});
  every_model(s, {"threshold"});
}
TEST_CASE("Gated with a trained auxiliary: gradients of every penalty, plan and model") {
  const plmscope::gated s{.auxiliary_trains_decoder = true};
  every_penalty(s);
  every_model(s);
}
TEST_CASE("Multi-TopK: gradients reach the encoder") {
  check<plmscope::top_k>(
      options(plmscope::top_k{.k = 3}),
      plmscope::trainer{.dead = quiet, .dictionary = plmscope::free_norm{},
                        .extra = plmscope::multi_top_k{.levels = {{2, 0.5}, {4, 0.25}}}});
  auto o = options(plmscope::top_k{.k = 3});
  o.transcodes = true, o.skip = true, o.centring = input_centring::none, o.d_out = 5;
  check<plmscope::top_k>(
      o, plmscope::trainer{.dead = quiet, .dictionary = plmscope::free_norm{},
                           .extra = plmscope::multi_top_k{.levels = {{2, 0.5}}}});
}
