// SPDX-License-Identifier: MIT
#include "training_policies.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>

namespace {

/// Weights rise over the first twentieth of a run.
std::size_t warmup_of(const training_options& o) { return std::max<std::size_t>(o.steps / 20, 1); }

/// Penalties are weighed against a loss that is averaged over dimensions.
plmscope::seeking_weight seeking(const training_options& o) {
  return {.start = 1e-3, .target = o.k, .rate = 0.01, .warmup = warmup_of(o)};
}

plmscope::warmed_weight warmed(const training_options& o, double value) {
  return {.value = value, .warmup = warmup_of(o)};
}

std::int64_t dead_after_of(const training_options& o) {
  if (o.dead_after > 0) return o.dead_after;
  const auto total = static_cast<std::int64_t>(o.steps * o.batch);
  return std::min<std::int64_t>(10'000'000, std::max<std::int64_t>(total / 10, 1));
}

}  // namespace

chosen_optimizer optimizer_of(const training_options& o, std::size_t features) {
  if (o.optimizer == "signum_schedule_free") {
    plmscope::signum_schedule_free signum;
    if (o.lr > 0) signum.lr = o.lr;
    return {.of = signum};
  }
  if (o.optimizer == "muon") {
    plmscope::muon muon;
    if (o.lr > 0) muon.lr = o.lr;
    if (o.average > 0) return {.of = plmscope::averaged{.of = muon, .decay = o.average}};
    return {.of = muon};
  }
  const plmscope::adam adam{
      .lr = o.lr > 0 ? o.lr : 2e-4 / std::sqrt(static_cast<double>(features) / 16384.0)};
  if (o.average > 0) return {.of = plmscope::averaged{.of = adam, .decay = o.average}};
  return {.of = adam};
}

plmscope::loss_choice loss_of(const training_options& o) {
  if (o.loss == "fvu") return {.of = plmscope::fraction_of_variance_unexplained{}};
  if (o.loss == "length") return {.of = plmscope::mean_error_length{}};
  // Averaged over dimensions, the main loss is of the order of the unexplained variance, which is
  // what the weight of AuxK in Gao et al. 2024 refers to.
  return {.of = plmscope::mean_squared_error{
              .over = plmscope::mean_squared_error::dimensions::averaged}};
}

chosen_dictionary dictionary_of(const training_options& o) {
  if (o.decoder == "free") return {.of = plmscope::free_norm{}};
  if (o.decoder == "max") return {.of = plmscope::max_norm{}};
  return {.of = plmscope::unit_norm{}};
}

chosen_plan plan_of(const training_options& o, std::uint64_t seed) {
  if (o.sampled_matryoshka > 0) {
    return {.of = plmscope::sampled_matryoshka{.count = o.sampled_matryoshka, .seed = seed}};
  }
  if (o.matryoshka.empty()) return {};
  plmscope::matryoshka plan;
  for (const std::size_t end : o.matryoshka) plan.ends.push_back(static_cast<std::uint32_t>(end));
  return {.of = plan};
}

chosen_orthogonality orthogonality_of(const training_options& o, std::uint64_t seed) {
  if (o.orthogonality == 0) return {};
  return {.of =
              plmscope::orthogonality_penalty{.weight = {.value = o.orthogonality}, .seed = seed}};
}

chosen_value_penalty value_penalty_of(const training_options& o) {
  const std::string penalty = o.which_penalty();
  if (penalty == "log") {
    if (o.penalty_weight == 0) {
      return {.of = plmscope::entry_penalty<plmscope::log_shape, plmscope::seeking_weight>{
                  .weight = seeking(o)}};
    }
    return {.of = plmscope::log_penalty{.weight = warmed(o, o.penalty_weight)}};
  }
  if (penalty == "tanh") {
    return {.of = plmscope::tanh_penalty{.weight = warmed(o, o.penalty_weight)}};
  }
  if (penalty == "p_annealing") {
    // The paper's run of 100,000 steps begins at 15,000 and ends at 80,000.
    return {.of = plmscope::p_annealing{.weight = warmed(o, o.penalty_weight),
                                        .p_end = o.p_end,
                                        .first_update = o.steps * 15 / 100,
                                        .last_update = o.steps * 80 / 100}};
  }
  if (o.l1 > 0) return {.of = plmscope::l1_penalty{.weight = warmed(o, o.l1)}};
  return {.of = plmscope::entry_penalty<plmscope::linear_shape, plmscope::seeking_weight>{
              .weight = seeking(o)}};
}

chosen_threshold_penalty threshold_penalty_of(const training_options& o) {
  if (o.which_penalty() == "tanh") {
    return {.of = plmscope::tanh_penalty{.weight = warmed(o, o.penalty_weight)}};
  }
  return {.of = plmscope::l0_penalty{.weight = warmed(o, o.l0), .target = o.k}};
}

chosen_pre_activation pre_activation_of(const training_options& o) {
  if (o.pre_activation == 0) return {};
  return {.of = plmscope::pre_activation_penalty{.weight = {.value = o.pre_activation},
                                                 .only_dead = false}};
}

plmscope::aux_k aux_k_of(const training_options& o) {
  const bool on = o.which_dead() == "aux_k";
  // A pursuit's encoder is its decoder.
  const bool pursuit = o.sparsifier.ends_with("_pursuit");
  return {.alpha = on ? o.aux_alpha : 0,
          .k = o.k_aux,
          .dead_after = dead_after_of(o),
          .reaches_encoder = !pursuit,
          .product = o.encoder == "bf16" ? plmscope::product_precision::bf16
                                         : plmscope::product_precision::fp32};
}

plmscope::resampling resampling_of(const training_options& o, std::uint64_t seed) {
  plmscope::resampling r;
  r.every = 0;
  if (o.which_dead() != "resampling") return r;
  r.every = o.resample_every > 0 ? o.resample_every : std::max<std::size_t>(o.steps / 8, 1);
  r.dead_after = dead_after_of(o);
  r.blocks = o.sites().size();
  r.seed = seed;
  return r;
}

chosen_order order_of(const training_options& o) {
  if (o.importance_order) return {.of = plmscope::importance_order{}};
  return {};
}

chosen_firing_rate firing_rate_of(const training_options& o) {
  if (o.firing_rate > 0) return {.of = plmscope::initial_firing_rate{.rate = o.firing_rate}};
  return {};
}

plmscope::multi_top_k multi_top_k_of(const training_options& o) {
  plmscope::multi_top_k multi;
  multi.levels.clear();
  for (const double factor : o.multi_k) multi.levels.push_back({.factor = factor});
  return multi;
}
