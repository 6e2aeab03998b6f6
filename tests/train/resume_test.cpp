// SPDX-License-Identifier: MIT
// Trainings that are killed at any step and resumed end with the bits of one that was not.
#include <tests/devices.hpp>
#include <tests/golden.hpp>
#include <tests/train/interrupted.hpp>
#include <tests/train/planted.hpp>

#include <plmscope/backend/cpu.hpp>
#include <plmscope/backend/reference.hpp>
#include <plmscope/sae/sae.hpp>
#include <plmscope/sae/sparsifiers/batch_top_k.hpp>
#include <plmscope/sae/sparsifiers/gated.hpp>
#include <plmscope/sae/sparsifiers/jump_relu.hpp>
#include <plmscope/sae/sparsifiers/matching_pursuit.hpp>
#include <plmscope/sae/sparsifiers/orthogonal_pursuit.hpp>
#include <plmscope/sae/sparsifiers/relu.hpp>
#include <plmscope/sae/sparsifiers/routed.hpp>
#include <plmscope/train/trainer.hpp>

#include <doctest/doctest.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <type_traits>
#include <vector>

using namespace plmscope;
using interrupted::outcome;

namespace {

constexpr std::size_t d = 24;
constexpr std::size_t features = 150;

template <class S, class B>
sae<S, B> new_model(S sparsifier, std::size_t threads = 2) {
  return sae<S, B>({.d_model = d, .features = features, .sparsifier = sparsifier, .seed = 5},
                   interrupted::backend_with<B>(threads));
}

// The run without a break, and broken and resumed runs: after every number of batches read in
// `breaks`, the process is as good as dead.
template <class B, class S, class Trainer>
void check(const char* what, S sparsifier, Trainer fit,
           const std::vector<std::vector<std::size_t>>& all_breaks) {
  CAPTURE(what);
  CAPTURE(policy_detail::type_name<B>());
  const auto model = [&](std::size_t threads) { return new_model<S, B>(sparsifier, threads); };
  const auto reader = [] { return planted::reader<B>({.d = d, .offset = 2}); };
  const outcome want = interrupted::whole(model(1), reader(), fit);
  // What is resumed is at work: latents are dead, thresholds have been averaged.
  if constexpr (std::is_same_v<S, top_k>) CHECK(want.metrics.aux_loss > 0);
  if constexpr (requires { sparsifier.threshold; }) CHECK(want.threshold > 0);
  for (const auto& breaks : all_breaks) {
    CAPTURE(breaks.front());
    const golden::scratch_folder folder;
    const outcome got = interrupted::broken(model, reader, fit, folder / "c", 3, breaks);
    CHECK(interrupted::same(want, got));
  }
}

const std::vector<std::vector<std::size_t>> anywhere{{1}, {4}, {10, 3}, {14, 5, 5, 2}, {22, 2}};

template <class B>
void check_all(const std::vector<std::vector<std::size_t>>& breaks) {
  const aux_k dying{.dead_after = 150};
  l0_penalty to_four;
  to_four.weight = {0.05, 10};
  to_four.target = 4;
  pre_activation_penalty revive;
  revive.weight = {1e-3, 0};
  l1_penalty l1;
  l1.weight = {0.06, 8};
  l1.length = penalised_length::none;
  entry_penalty<tanh_shape, seeking_weight> seeking;
  seeking.weight = {.start = 0.05, .target = 5, .rate = 0.05, .warmup = 6};
  check<B>("top_k, AuxK", top_k{.k = 3},
           trainer{.steps = 24,
                   .batch = 37,
                   .optimizer = adam{.lr = 3e-3},
                   .schedule = warmup_decay{.warmup = 5, .decay_start = 15},
                   .dead = dying,
                   .log_every = 4},
           breaks);
  check<B>(
      "batch_top_k", batch_top_k{.k = 3, .smoothing = 0.9, .first_step = 7},
      trainer{
          .steps = 24, .batch = 37, .optimizer = adam{.lr = 3e-3}, .dead = dying, .log_every = 5},
      breaks);
  check<B>("jump_relu, penalties", jump_relu{.bandwidth = 0.1, .initial_threshold = 0.05},
           trainer{.steps = 24,
                   .batch = 37,
                   .optimizer = adam{.lr = 3e-3},
                   .penalty = penalties(to_four, revive),
                   .dead = dying,
                   .log_every = 5},
           breaks);
  check<B>("gated", gated{},
           trainer{.steps = 24,
                   .batch = 37,
                   .optimizer = adam{.lr = 3e-3},
                   .penalty = l1,
                   .dead = dying,
                   .log_every = 5},
           breaks);
  check<B>("routed", routed{.k = 2, .experts = 5, .chosen = 2, .balance = 0.1},
           trainer{.steps = 24, .batch = 37, .optimizer = adam{.lr = 3e-3}, .dead = dying},
           breaks);
  const aux_k quiet{.alpha = 0};
  check<B>("matching_pursuit", matching_pursuit{.k = 3},
           trainer{.steps = 24, .batch = 37, .optimizer = adam{.lr = 3e-3}, .dead = quiet},
           breaks);
  check<B>("orthogonal_pursuit", orthogonal_pursuit{.k = 3},
           trainer{.steps = 24, .batch = 37, .optimizer = adam{.lr = 3e-3}, .dead = quiet},
           breaks);
  check<B>(
      "signum", top_k{.k = 3},
      trainer{
          .steps = 24, .batch = 37, .optimizer = signum_schedule_free{.lr = 1e-3}, .dead = dying},
      breaks);
  check<B>("muon, averaged, orthogonality", top_k{.k = 3},
           trainer{.steps = 24,
                   .batch = 37,
                   .optimizer = averaged{.of = muon{.lr = 1e-2}, .decay = 0.8},
                   .schedule = warmup_decay{.warmup = 5},
                   .penalty = orthogonality_penalty{.chunk = 40, .every = 2},
                   .dead = dying},
           breaks);
  std::vector<double> points(60 * d);
  for (std::size_t i = 0; i < points.size(); ++i) points[i] = rng(1, 1).normal(i);
  check<B>("archetypal", top_k{.k = 3},
           trainer{.steps = 24,
                   .batch = 37,
                   .optimizer = adam{.lr = 1e-2},
                   .dead = dying,
                   .dictionary = archetypal{.points = points, .delta = 0.1}},
           breaks);
  check<B>("seeking_weight", relu{},
           trainer{.steps = 24,
                   .batch = 37,
                   .optimizer = adam{.lr = 3e-3},
                   .penalty = penalties(seeking),
                   .dead = dying,
                   .plan = sampled_matryoshka{.count = 4}},
           breaks);
}

}  // namespace

TEST_CASE("on the cpu") { check_all<cpu>(anywhere); }
TEST_CASE("on the reference backend") { check_all<reference>({{10, 3}}); }
TEST_CASE("on a device") { check_all<devices::single>({{10, 3}, {22}}); }
TEST_CASE("on a device in double") { check_all<devices::twice>({{14, 5}}); }

TEST_CASE("resumed at every single step") {
  std::vector<std::vector<std::size_t>> breaks;
  for (std::size_t b = 1; b < 20; ++b) breaks.push_back({b});
  check<cpu>("every step", batch_top_k{.k = 3, .smoothing = 0.9, .first_step = 4},
             trainer{.steps = 20,
                     .batch = 37,
                     .optimizer = adam{.lr = 3e-3},
                     .dead = aux_k{.dead_after = 150},
                     .extra = multi_top_k{}},
             breaks);
}
