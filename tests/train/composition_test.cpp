// SPDX-License-Identifier: MIT
// Every sparsifier with every penalty, plan and model option: the gradient of a whole training step
// against finite differences of its loss, in double; and the kernels against the naive loops.
#include <tests/train/composition.hpp>

#include <plmscope/sae/sparsifiers/batch_top_k.hpp>
#include <plmscope/sae/sparsifiers/gated.hpp>
#include <plmscope/sae/sparsifiers/group_max.hpp>
#include <plmscope/sae/sparsifiers/jump_relu.hpp>
#include <plmscope/sae/sparsifiers/relu.hpp>

using namespace composition;

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
TEST_CASE("cross-layer transcoders: gradients of what a layer may read and write, and of nothing else") {
  auto o = options(plmscope::relu{});
  o.transcodes = true, o.d_out = 4, o.centring = input_centring::none;
  check<plmscope::relu>(o, plmscope::trainer{.penalty = plmscope::tanh_penalty{.weight = {0.2}},
                                             .dead = quiet,
                                             .dictionary = plmscope::cross_layer{.layers = 2}});
}
