// SPDX-License-Identifier: MIT
#include "fit.hpp"

#include "checkpoints.hpp"
#include "rules.hpp"

#include <plmscope/sae/any_sae.hpp>
#include <plmscope/train/progress_bar.hpp>
#include <plmscope/train/trainer.hpp>

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <span>
#include <utility>
#include <vector>

namespace {

plmscope::normalization normalization_of(const std::string& name) {
  for (const auto kind : {plmscope::normalization::none, plmscope::normalization::scalar,
                          plmscope::normalization::per_dimension}) {
    if (name == plmscope::normalizer::name(kind)) return kind;
  }
  return plmscope::normalization::token_layer_norm;
}

/// What every training of a run shares.
struct shared_settings {
  std::size_t features = 0;
  double lr = 0;
  plmscope::normalizer normalize;
};

plmscope::aux_k aux_k_of(const training_options& o) {
  plmscope::aux_k dead;
  dead.alpha = o.aux_alpha;
  dead.k = o.k_aux;
  const auto total = static_cast<std::int64_t>(o.steps * o.batch);
  dead.dead_after = o.dead_after > 0
                        ? o.dead_after
                        : std::min<std::int64_t>(10'000'000, std::max<std::int64_t>(total / 10, 1));
  return dead;
}

std::size_t whole_k(const training_options& o) {
  if (o.k == std::floor(o.k) && o.k >= 1) return static_cast<std::size_t>(o.k);
  throw plmscope::error(plmscope::rules::cli_option,
                        {.where = "--k", .expected = "a whole number for " + o.sparsifier,
                         .found = fmt::format("{}", o.k)});
}

/// Penalties are weighed against a loss that is averaged over dimensions.
plmscope::entry_penalty<plmscope::linear_shape, plmscope::seeking_weight> seeking(
    const training_options& o) {
  return {.weight = {.start = 1e-3,
                     .target = o.k,
                     .rate = 0.01,
                     .warmup = std::max<std::size_t>(o.steps / 20, 1)}};
}

template <class S, class Policies>
trained run(program_backend& be, row_feed& rows, const training_options& o,
            const common_options& common, const shared_settings& shared, S sparsifier,
            Policies fit) {
  plmscope::sae<S, program_backend> model({.d_model = rows.width,
                                           .features = shared.features,
                                           .sparsifier = sparsifier,
                                           .normalize = shared.normalize,
                                           .seed = common.seed},
                                          be);
  model.source = rows.source;
  metrics_file log(o.metrics, o.resume);
  plmscope::progress_bar bar;
  const auto last = fit(model, rows, [&](const plmscope::training_metrics& m) {
    if (o.report) o.report(m);
    else bar(m);
    log.add(m);
  });
  auto& record = model.training_record;
  record["steps"] = std::to_string(o.steps);
  record["batch"] = std::to_string(o.batch);
  record["learning_rate"] = fmt::format("{}", shared.lr);
  record["seed"] = std::to_string(common.seed);
  record["rows"] = std::to_string(last.tokens);
  record["fvu"] = fmt::format("{:.6f}", last.fvu);
  record["l0"] = fmt::format("{:.3f}", last.l0);
  record["dead_share"] = fmt::format("{:.5f}", last.dead_share);
  return {program_sae(std::make_unique<plmscope::any_sae<program_backend>>(std::move(model))), last};
}

/// The trainer with the flags' numbers, around the policies that differ.
template <class Penalty, class Plan, class Dictionary>
auto trainer_of(const training_options& o, const shared_settings& shared, Penalty penalty,
                Plan plan, Dictionary dictionary) {
  plmscope::trainer fit{.steps = o.steps,
                        .batch = o.batch,
                        .optimizer = plmscope::adam{.lr = shared.lr},
                        .penalty = penalty,
                        .dead = aux_k_of(o),
                        .dictionary = dictionary,
                        .plan = plan,
                        .checkpoints = checkpoints_of(o)};
  // Averaged over dimensions, the main loss is of the order of the unexplained variance, which is
  // what the weight of AuxK in Gao et al. 2024 refers to.
  fit.loss.over = plmscope::mean_squared_error::dimensions::averaged;
  fit.schedule = {.warmup = std::max<std::size_t>(o.steps / 20, 1), .decay_start = o.steps * 4 / 5};
  fit.log_every = std::max<std::size_t>(o.steps / 200, 1);
  if (o.sparsifier == "gated") fit.dead.alpha = 0;  // a gate's bias is not the encoder's
  return fit;
}

}  // namespace

void check_training(const training_options& o) {
  // Ids of features are 32 bits wide; rows are counted in 64.
  const auto require_at_most = [](const char* flag, std::size_t value, std::size_t most) {
    if (value <= most) return;
    throw plmscope::error(plmscope::rules::cli_option, {.where = flag,
                                                        .expected = fmt::format("up to {}", most),
                                                        .found = fmt::format("{}", value)});
  };
  require_at_most("--features", o.features, (std::size_t{1} << 31) - 1);
  require_at_most("--steps", o.steps, std::size_t{1} << 42);
  if (o.sparsifier == "top_k" || o.sparsifier == "abs_top_k" || o.sparsifier == "group_max") {
    static_cast<void>(whole_k(o));
  }
  if (!o.matryoshka.empty() && o.sparsifier != "top_k" && o.sparsifier != "batch_top_k") {
    throw plmscope::error(plmscope::rules::cli_option,
                          {.where = "--matryoshka",
                           .expected = "--sparsifier top_k or batch_top_k",
                           .found = o.sparsifier});
  }
}

trained fit_sae(program_backend& be, row_feed rows, const training_options& o,
                const common_options& common) {
  check_training(o);
  shared_settings shared;
  shared.features = o.features == 0 ? 8 * rows.width : o.features;
  shared.lr =
      o.lr > 0 ? o.lr : 2e-4 / std::sqrt(static_cast<double>(shared.features) / 16384.0);
  const auto sample_view = rows.next(be, std::max<std::size_t>(o.batch, 4096));
  std::vector<float> sample(sample_view.size());
  be.download(sample_view, std::span<float>(sample));
  shared.normalize = plmscope::fit_normalizer(normalization_of(o.normalize),
                                              std::span<const float>(sample), rows.width);

  const auto with = [&](auto sparsifier, auto penalty, auto plan) {
    if (o.decoder == "free") {
      return run(be, rows, o, common, shared, sparsifier,
                 trainer_of(o, shared, penalty, plan, plmscope::free_norm{}));
    }
    return run(be, rows, o, common, shared, sparsifier,
               trainer_of(o, shared, penalty, plan, plmscope::unit_norm{}));
  };
  const auto plain = [&](auto sparsifier) {
    return with(sparsifier, plmscope::no_penalty{}, plmscope::full_reconstruction{});
  };
  const auto nested = [&](auto sparsifier) {
    if (o.matryoshka.empty()) return plain(sparsifier);
    plmscope::matryoshka plan;
    for (const std::size_t end : o.matryoshka) {
      plan.ends.push_back(static_cast<std::uint32_t>(end));
    }
    return with(sparsifier, plmscope::no_penalty{}, plan);
  };
  const auto penalised = [&](auto sparsifier) {
    if (o.l1 > 0) {
      return with(sparsifier,
                  plmscope::l1_penalty{.weight = {.value = o.l1,
                                                  .warmup = std::max<std::size_t>(o.steps / 20, 1)}},
                  plmscope::full_reconstruction{});
    }
    return with(sparsifier, seeking(o), plmscope::full_reconstruction{});
  };

  if (o.sparsifier == "top_k") return nested(plmscope::top_k{.k = whole_k(o)});
  if (o.sparsifier == "batch_top_k") {
    return nested(plmscope::batch_top_k{.k = o.k, .first_step = std::min<std::size_t>(
                                                      1000, o.steps / 10)});
  }
  if (o.sparsifier == "abs_top_k") return plain(plmscope::abs_top_k{.k = whole_k(o)});
  if (o.sparsifier == "group_max") return plain(plmscope::group_max{.k = whole_k(o)});
  if (o.sparsifier == "relu") return penalised(plmscope::relu{});
  if (o.sparsifier == "gated") return penalised(plmscope::gated{});
  return with(plmscope::jump_relu{.bandwidth = o.bandwidth, .initial_threshold = 0.5},
              plmscope::l0_penalty{.weight = {.value = o.l0,
                                              .warmup = std::max<std::size_t>(o.steps / 20, 1)},
                                   .target = o.k},
              plmscope::full_reconstruction{});
}
