// SPDX-License-Identifier: MIT
// A policy that was chosen while the program runs does what it does by itself, to the bit, and a
// training of choices is resumed as any other.
#include <tests/devices.hpp>
#include <tests/golden.hpp>
#include <tests/train/interrupted.hpp>
#include <tests/train/planted.hpp>

#include <plmscope/backend/cpu.hpp>
#include <plmscope/backend/reference.hpp>
#include <plmscope/sae/sae.hpp>
#include <plmscope/sae/sparsifiers/relu.hpp>
#include <plmscope/train/choice.hpp>
#include <plmscope/train/trainer.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <set>
#include <string>
#include <utility>
#include <vector>

using namespace plmscope;
using interrupted::outcome;

namespace {

constexpr std::size_t d = 24;

using optimizers = optimizer_choice<adam, signum_schedule_free, muon, averaged<muon>>;
using relu_penalties =
    penalty_choice<no_penalty, l1_penalty, entry_penalty<log_shape, seeking_weight>, p_annealing,
                   orthogonality_penalty>;
using dictionaries = dictionary_choice<free_norm, unit_norm, unit_norm_before_forward, max_norm>;
using plans = plan_choice<full_reconstruction, matryoshka, sampled_matryoshka>;

using upkeeping = upkeep_choice<no_upkeep, importance_order, resampling>;

/// Everything chosen: one type, whatever is chosen.
using choices = trainer<optimizers, warmup_decay, loss_choice, relu_penalties, aux_k, dictionaries,
                        plans, no_extra_term, upkeeping>;

choices chosen() {
  return {.steps = 24,
          .batch = 37,
          .optimizer = {.of = adam{.lr = 3e-3}},
          .loss = {},
          .penalty = {},
          .dead = {.dead_after = 150},
          .dictionary = {.of = free_norm{}}};
}

template <class B>
auto model_of(std::size_t threads, std::size_t blocks = 1) {
  return sae<relu, B>({.d_model = d, .features = 150, .blocks = blocks, .seed = 5},
                      interrupted::backend_with<B>(threads));
}

/// The same training, with the policies themselves.
template <class B, class Optimizer = adam, class Loss = mean_squared_error,
          class Penalty = no_penalty, class Dictionary = free_norm,
          class Plan = full_reconstruction, class Upkeep = no_upkeep>
outcome plain(Optimizer optimizer = {.lr = 3e-3}, Loss loss = {}, Penalty penalty = {},
              Dictionary dictionary = {}, Plan plan = {}, std::size_t blocks = 1,
              Upkeep upkeep = {}) {
  const trainer fit{.steps = 24,
                    .batch = 37,
                    .optimizer = optimizer,
                    .loss = loss,
                    .penalty = penalty,
                    .dead = aux_k{.dead_after = 150},
                    .dictionary = dictionary,
                    .plan = plan,
                    .upkeep = upkeep};
  return interrupted::whole(model_of<B>(1, blocks), planted::reader<B>({.d = d, .offset = 2}), fit);
}

template <class B>
void same(const char* what, const outcome& want, const choices& fit, std::size_t blocks = 1) {
  CAPTURE(what);
  CAPTURE(policy_detail::type_name<B>());
  const auto model = [&](std::size_t threads) { return model_of<B>(threads, blocks); };
  const auto reader = [] { return planted::reader<B>({.d = d, .offset = 2}); };
  CHECK(want.metrics.loss > 0);
  CHECK(interrupted::same(want, interrupted::whole(model(2), reader(), fit)));
  const golden::scratch_folder folder;
  CHECK(interrupted::same(want, interrupted::broken(model, reader, fit, folder / "c", 3, {10, 5})));
}

template <class B>
void check_all() {
  const adam fast{.lr = 3e-3};
  const mean_squared_error squares;
  same<B>("defaults", plain<B>(), chosen());
  {
    const signum_schedule_free signum{.lr = 1e-3};
    auto fit = chosen();
    fit.optimizer = {.of = signum};
    CHECK(fit.optimizer.lr == 1e-3);
    same<B>("signum", plain<B>(signum), fit);
  }
  {
    const averaged mean{.of = muon{.lr = 1e-2}, .decay = 0.8};
    auto fit = chosen();
    fit.optimizer = {.of = mean};
    same<B>("averaged muon", plain<B>(mean), fit);
  }
  {
    const fraction_of_variance_unexplained fvu;
    auto fit = chosen();
    fit.loss = {.of = fvu};
    same<B>("fvu", plain<B>(fast, fvu), fit);
  }
  {
    const mean_error_length length;
    auto fit = chosen();
    fit.loss = {.of = length};
    same<B>("length", plain<B>(fast, length), fit);
    same<B>("length of each site",
            plain<B>(fast, length, no_penalty{}, free_norm{}, full_reconstruction{}, 3), fit, 3);
  }
  {
    const entry_penalty<log_shape, seeking_weight> log{
        .weight = {.start = 0.05, .target = 5, .rate = 0.05, .warmup = 6}};
    auto fit = chosen();
    fit.penalty = {.of = log};
    same<B>("log", plain<B>(fast, squares, log), fit);
  }
  {
    const p_annealing annealed{
        .weight = {.value = 0.05}, .first_update = 4, .last_update = 20, .updates = 5};
    auto fit = chosen();
    fit.penalty = {.of = annealed};
    same<B>("p-annealing", plain<B>(fast, squares, annealed), fit);
  }
  {
    const orthogonality_penalty apart{.chunk = 40, .every = 2};
    auto fit = chosen();
    fit.penalty = {.of = apart};
    same<B>("orthogonality", plain<B>(fast, squares, apart), fit);
  }
  {
    const unit_norm_before_forward unit;
    auto fit = chosen();
    fit.dictionary = {.of = unit};
    same<B>("unit_norm_before_forward", plain<B>(fast, squares, no_penalty{}, unit), fit);
  }
  {
    const sampled_matryoshka drawn{.count = 4};
    auto fit = chosen();
    fit.plan = {.of = drawn};
    same<B>("drawn prefixes", plain<B>(fast, squares, no_penalty{}, free_norm{}, drawn), fit);
    const importance_order order{.every = 3};
    fit.upkeep = {.of = order};
    same<B>("in the order of importance",
            plain<B>(fast, squares, no_penalty{}, free_norm{}, drawn, 1, order), fit);
  }
  {
    const averaged mean{.of = muon{.lr = 1e-2}, .decay = 0.8};
    const resampling again{.every = 6, .dead_after = 100};
    auto fit = chosen();
    fit.optimizer = {.of = mean};
    fit.upkeep = {.of = again};
    same<B>("resampling with means",
            plain<B>(mean, squares, no_penalty{}, free_norm{}, full_reconstruction{}, 1, again),
            fit);
  }
}

}  // namespace

TEST_CASE("on the cpu") { check_all<cpu>(); }
TEST_CASE("on the reference backend") { check_all<reference>(); }
TEST_CASE("on a device") { check_all<devices::single>(); }

TEST_CASE("rows of length 1 are rescaled once more at the end") {
  auto fit = chosen();
  fit.dictionary = {.of = unit_norm{}};
  const planted::options data{.d = d, .offset = 2};
  auto a = model_of<reference>(1), b = model_of<reference>(1);
  const auto left = fit(a, planted::reader<reference>(data));
  const trainer alone{.steps = fit.steps,
                      .batch = fit.batch,
                      .optimizer = adam{.lr = 3e-3},
                      .dead = aux_k{.dead_after = 150},
                      .dictionary = unit_norm{}};
  const auto right = alone(b, planted::reader<reference>(data));
  CHECK(left.loss == right.loss);
  double worst = 0;
  for (std::size_t i = 0; i < a.parameters().decoder.size(); ++i) {
    worst = std::max(worst,
                     std::abs(a.parameters().decoder.data()[i] - b.parameters().decoder.data()[i]));
  }
  CHECK(worst < 1e-15);
}

TEST_CASE("a checkpoint knows what was chosen") {
  std::set<std::string> texts;
  const auto add = [&](const choices& fit) {
    std::string text;
    fit.settings([&](const char*, const auto& policy) { text += policy_text(policy); });
    CHECK(texts.insert(text).second);
  };
  add(chosen());
  auto fit = chosen();
  fit.optimizer = {.of = muon{}};
  add(fit);
  fit.optimizer = {.of = averaged<muon>{}};
  add(fit);
  fit.penalty = {.of = l1_penalty{.weight = {.value = 1}}};
  add(fit);
  fit.penalty = {.of = l1_penalty{.weight = {.value = 2}}};
  add(fit);
  fit.loss = {.of = mean_error_length{}};
  add(fit);
  fit.loss = {.of = fraction_of_variance_unexplained{}};
  add(fit);
  fit.dictionary = {.of = unit_norm{}};
  add(fit);
  fit.plan = {.of = matryoshka{.ends = {10}}};
  add(fit);
  fit.plan = {.of = matryoshka{.ends = {11}}};
  add(fit);
  fit.upkeep = {.of = resampling{}};
  add(fit);

  const golden::scratch_folder folder;
  const auto begin = interrupted::with(
      chosen(), checkpoint_every{.folder = folder / "c", .steps = 3, .resume = true});
  planted::reader<cpu> reader({.d = d, .offset = 2});
  interrupted::mortal<planted::reader<cpu>> dies{reader, 10};
  auto model = model_of<cpu>(1);
  CHECK_THROWS_AS(begin(model, dies), interrupted::killed);
  auto other = begin;
  other.optimizer = {.of = muon{.lr = 3e-3}};
  planted::reader<cpu> again({.d = d, .offset = 2});
  std::string id;
  try {
    auto fresh = model_of<cpu>(1);
    other(fresh, again);
  } catch (const error& e) {
    id = e.id();
  }
  CHECK(id == rules::checkpoint_other.id);
}
