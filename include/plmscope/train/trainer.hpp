// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/core/progress.hpp>
#include <plmscope/core/view.hpp>
#include <plmscope/train/archetypal.hpp>
#include <plmscope/train/averaged.hpp>
#include <plmscope/train/checkpoint_every.hpp>
#include <plmscope/train/contrastive_penalty.hpp>
#include <plmscope/train/dead_latents/aux_k.hpp>
#include <plmscope/train/dead_latents/aux_k_by_level.hpp>
#include <plmscope/train/dead_latents/ghost_gradients.hpp>
#include <plmscope/train/dead_latents/resampling.hpp>
#include <plmscope/train/dictionary_norm.hpp>
#include <plmscope/train/end_to_end.hpp>
#include <plmscope/train/extra_terms.hpp>
#include <plmscope/train/frequency_penalty.hpp>
#include <plmscope/train/initialize.hpp>
#include <plmscope/train/initialize_dictionary.hpp>
#include <plmscope/train/initialize_firing_rate.hpp>
#include <plmscope/train/initialize_subspace.hpp>
#include <plmscope/train/k_annealing.hpp>
#include <plmscope/train/losses.hpp>
#include <plmscope/train/l0_penalty.hpp>
#include <plmscope/train/metrics.hpp>
#include <plmscope/train/muon.hpp>
#include <plmscope/train/optimizer.hpp>
#include <plmscope/train/orthogonality_penalty.hpp>
#include <plmscope/train/p_annealing.hpp>
#include <plmscope/train/paired_rows.hpp>
#include <plmscope/train/penalties.hpp>
#include <plmscope/train/plans.hpp>
#include <plmscope/train/pre_activation_penalty.hpp>
#include <plmscope/train/row_pair.hpp>
#include <plmscope/train/rules.hpp>
#include <plmscope/train/schedule.hpp>
#include <plmscope/train/training_run.hpp>
#include <plmscope/train/upkeep.hpp>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <string>

namespace plmscope::inline PLMSCOPE_ABI {

/// Trains an SAE on the rows of a reader. A plain struct: every field has a default, every policy
/// field takes any type of the same shape.
///
///   plmscope::trainer fit{.steps = 50'000, .optimizer = plmscope::adam{.lr = 2e-4}};
///   fit(sae, reader, plmscope::progress_bar{});
///
/// A reader has `const_view<B> next(B&, std::size_t rows)`: the next rows [rows, d], in random
/// order, without end; for a transcoder it returns a `row_pair<B>` (`transcoded_rows`), and for
/// checkpoints it has `position`, `seek` and `identity` as well. A callback is called with
/// `training_metrics` every `log_every` steps and after the last.
template <class Optimizer = adam, class Schedule = warmup_decay, class Loss = mean_squared_error,
          class Penalty = no_penalty, class Dead = aux_k, class Dictionary = unit_norm,
          class Plan = full_reconstruction, class Extra = no_extra_term, class Upkeep = no_upkeep,
          class Checkpoints = no_checkpoints>
struct trainer {
  std::size_t steps = 10'000;
  std::size_t batch = 2048;                       ///< rows a step
  Optimizer optimizer = {};
  Schedule schedule = {};
  Loss loss = {};
  Penalty penalty = {};
  Dead dead = {};
  Dictionary dictionary = {};
  Plan plan = {};                                 ///< results from prefixes of the dictionary
  Extra extra = {};
  Upkeep upkeep = {};                             ///< what is done to the latents between steps
  double clip = 1.0;                              ///< limit of the global gradient norm; 0: none
  bool train_encoder_bias = true;
  start_bias bias = start_bias::geometric_median; ///< decoder bias before the first step
  std::size_t log_every = 100;
  Checkpoints checkpoints = {};                   ///< `checkpoint_every` saves the state, and resumes

  /// Errors: `train_options`, `train_not_finite` (the step, at a logged step).
  template <class Sae, class Reader, class Callback = no_progress>
  training_metrics operator()(Sae& model, Reader&& reader, Callback&& report = {}) const {
    if (steps == 0 || batch < 2) {
      throw error(rules::train_options, {.found = std::to_string(steps) + " steps of " +
                                                  std::to_string(batch) + " rows"});
    }
    auto& be = model.backend();
    training_run<Sae, trainer> run(model, *this);
    const auto start = clock::now();
    training_metrics last;
    auto checkpoint = checkpoints.start(*this, run, reader);
    for (std::size_t s = run.steps(); s < steps; ++s) {
      const auto [rows, target] = pair_of(reader.next(be, batch));
      if (rows.rows() == 0) throw error(rules::train_no_rows, {.remedy = "give at least one protein"});
      if (s == 0) initialize_bias(model, rows, bias, target);
      const double rate = optimizer.lr * schedule(s, steps);
      run.step(rows, rate, target);
      const bool final = s + 1 == steps;
      const bool logged = final || (log_every != 0 && s % log_every == 0);
      if (logged) {
        last = measured(run, s, rate, start);
        if (!final) report(last);
      }
      if (!final) checkpoint.after_step(run, reader);
    }
    run.finish();
    report(last);
    return last;
  }

  /// f(name, value) for every field that the result depends on.
  template <class F>
  void settings(const F& f) const {
    f("steps", steps);
    f("batch", batch);
    f("optimizer", optimizer);
    f("schedule", schedule);
    f("loss", loss);
    f("penalty", penalty);
    f("dead", dead);
    f("dictionary", dictionary);
    f("plan", plan);
    f("extra", extra);
    f("upkeep", upkeep);
    f("clip", clip);
    f("train_encoder_bias", train_encoder_bias);
    f("bias", bias);
  }

 private:
  using clock = std::chrono::steady_clock;

  template <class Run>
  training_metrics measured(Run& run, std::size_t step, double rate, clock::time_point start) const {
    training_metrics m = run.metrics();
    m.step = step;
    m.steps = steps;
    m.learning_rate = rate;
    m.seconds = std::chrono::duration<double>(clock::now() - start).count();
    if (!std::isfinite(m.loss) || !std::isfinite(m.gradient_norm)) {
      throw error(rules::train_not_finite,
                  {.where = "step " + std::to_string(step),
                   .found = "loss " + std::to_string(m.loss),
                   .remedy = "lower the learning rate; look for NaN in the activations"});
    }
    return m;
  }
};

}  // namespace plmscope
