// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/io/safetensors.hpp>
#include <plmscope/sae/sae.hpp>
#include <plmscope/tensor/host_codes.hpp>
#include <plmscope/train/trainer.hpp>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <functional>
#include <memory>
#include <string>
#include <vector>

// Other libraries' TopK trainers as compositions of our policies, chosen by what config.json says.
namespace peer_topk {

using json = nlohmann::json;
using plmscope::aux_k;
using plmscope::mean_squared_error;
using plmscope::normalization;
using plmscope::unit_norm;

inline std::string peer_name(const std::string& ours, const plmscope::safetensors_file& file) {
  if (ours == "encoder") return "W_enc";
  if (ours == "decoder") return "W_dec";
  if (ours == "encoder_bias") return "b_enc";
  for (const auto& name : file.names()) {
    if (name.ends_with("b_pre")) return "b_pre";
  }
  return "b_dec";
}

inline bool says(const json& config, const char* key, const char* text) {
  return config.contains(key) && config.at(key).is_string() &&
         config.at(key).get<std::string>().find(text) != std::string::npos;
}

/// One run: the model, one training step at a time, and the loss of the last step.
template <class Sae>
struct peer {
  explicit peer(typename Sae::options o) : model(std::move(o)) {}
  Sae model;
  std::function<void(plmscope::const_view<typename Sae::backend_type>, std::size_t)> step;
  std::function<double()> loss;

  /// Codes of the last batch with the final parameters equal the stored ones (f32) up to `limit`.
  double code_deviation(const plmscope::safetensors_file& trajectory,
                        plmscope::const_view<typename Sae::backend_type> x) {
    const auto theirs = trajectory.read_vector<double>("codes");
    plmscope::codes<typename Sae::backend_type> codes;
    model.encode(x, codes);
    const auto z = plmscope::to_host(model.backend(), codes);
    std::vector<double> ours(theirs.size(), 0.0);
    for (std::size_t r = 0; r < z.rows(); ++r) {
      for (auto e = static_cast<std::size_t>(z.offsets[r]);
           e < static_cast<std::size_t>(z.offsets[r + 1]); ++e) {
        ours[r * z.features + z.ids[e]] = static_cast<double>(z.values[e]);
      }
    }
    double worst = 0;
    double largest = 0;
    for (std::size_t i = 0; i < ours.size(); ++i) {
      worst = std::max(worst, std::abs(ours[i] - theirs[i]));
      largest = std::max(largest, std::abs(theirs[i]));
    }
    return worst / largest;
  }
};

inline std::function<double(std::size_t)> rate_of(const json& lr) {
  const double base = lr.at("base");
  const std::size_t warmup = lr.value("warmup_steps", std::size_t{0});
  const std::size_t steps = lr.value("total_steps", std::size_t{0});
  if (lr.contains("decay_start") && lr["decay_start"].is_number()) {
    const plmscope::warmup_decay s{
        .warmup = warmup, .decay_start = lr["decay_start"], .counts_from_one = false};
    return [=](std::size_t step) { return base * s(step, steps); };
  }
  if (lr.contains("decay_steps")) {
    const plmscope::warmup_decay s{.warmup = warmup,
                                   .decay_start = steps - lr["decay_steps"].get<std::size_t>()};
    return [=](std::size_t step) { return base * s(step, steps); };
  }
  if (says(lr, "schedule", "cosine")) {
    const plmscope::warmup_cosine s{.warmup = warmup,
                                    .final_factor = lr.at("lr_min").get<double>() / base};
    const std::size_t total = lr.value("run_steps", std::size_t{0});
    return [=](std::size_t step) { return base * s(step, total); };
  }
  return [=](std::size_t) { return base; };
}

template <class Sae, class Policies>
void drive(peer<Sae>& p, Policies policies, const json& config,
           const std::vector<std::int64_t>& since) {
  using run_type = plmscope::training_run<Sae, Policies>;
  const json& n = config.at("neutral");
  json lr = n.at("lr");
  lr["run_steps"] = config.at("dims").at("steps");
  const auto rate = rate_of(lr);
  const auto run = std::make_shared<std::unique_ptr<run_type>>();
  const std::string init =
      n.contains("data_init") && n["data_init"].is_string() ? n["data_init"] : "";
  const json anneal = n.contains("k_anneal") ? n["k_anneal"] : json();
  const std::size_t k = n.at("activation").at("k");
  p.step = [&p, run, policies, init, anneal, k, rate, since](auto x, std::size_t s) {
    if (s == 0) {
      *run = std::make_unique<run_type>(p.model, policies);
      if (!since.empty()) {
        p.model.backend().upload(std::span<const std::int64_t>(since),
                                 (*run)->dead_state().since_fired.all());
        (*run)->dead_state().next_check = 0;
      }
      const bool stored = init.find("stored in init") != std::string::npos;
      const bool median = init.find("geometric median") != std::string::npos;
      if (!stored && (median || init.find("mean") != std::string::npos)) {
        plmscope::initialize_bias(
            p.model, x,
            median ? plmscope::start_bias::geometric_median : plmscope::start_bias::mean);
      }
    }
    if (!anneal.is_null() && s > 0) {
      const double steps = anneal.at("steps");
      const double r = std::min(static_cast<double>(s - 1), steps) / steps;
      p.model.sparsifier().k = static_cast<std::size_t>(
          static_cast<double>(p.model.d_model()) * (1 - r) + static_cast<double>(k) * r);
    }
    (*run)->step(x, rate(s));
  };
  p.loss = [run] { return (*run)->metrics().loss; };
}

inline double coefficient(const json& aux) {
  return aux.contains("alpha") ? aux.at("alpha").get<double>()
                               : aux.at("coefficient").get<double>();
}

inline plmscope::adam adam_of(const json& o) {
  return {.beta1 = o.at("beta1"),
          .beta2 = o.at("beta2"),
          .epsilon = o.at("eps"),
          .weight_decay = o.value("weight_decay", 0.0)};
}

/// Builds the run, or returns nullptr for a library whose policies are not known here.
template <class Sae>
std::unique_ptr<peer<Sae>> make(const json& config, const plmscope::safetensors_file& init) {
  const json& n = config.at("neutral");
  const json& loss = n.at("loss");
  const json& aux = loss.contains("aux") ? loss.at("aux") : loss.at("auxk");
  const std::string library = config.at("library");
  const auto from = [&](const char* text) { return library.find(text) != std::string::npos; };
  const double batch = config.at("dims").at("batch");
  const auto tokens = [&](const json& batches) {
    return static_cast<std::int64_t>(batches.get<double>() * batch);
  };
  typename Sae::options options{.d_model = config.at("dims").at("D"),
                                .features = config.at("dims").at("F"),
                                .sparsifier = {.k = n.at("activation").at("k")}};
  // Counters at the start, in our unit (tokens since the latent fired). A counter of batches that
  // is 1 after firing is ours plus one.
  std::vector<std::int64_t> since;
  for (const auto& name : init.names()) {
    if (name.find("_since_") == std::string::npos) continue;
    const bool in_batches = name.starts_with("batches");
    for (const double v : init.read_vector<double>(name)) {
      since.push_back(static_cast<std::int64_t>(in_batches ? (v - 1) * batch : v));
    }
  }
  const auto built = [&](auto policies) {
    policies.clip = n.at("clip").value("max", 0.0);
    auto p = std::make_unique<peer<Sae>>(options);
    p->model.parameters().for_each([&](const std::string& name, auto& m) {
      const auto values = init.read_vector<double>(peer_name(name, init));
      p->model.backend().upload(std::span<const double>(values), m.all());
    });
    drive(*p, policies, config, since);
    return p;
  };
  const auto averaged = mean_squared_error::dimensions::averaged;

  if (from("dictionary_learning") || from("InterPLM")) {
    plmscope::trainer<> t{.optimizer = adam_of(n.at("optimizer"))};
    t.dead =
        plmscope::aux_k{.alpha = coefficient(aux), .dead_after = aux.at("dead_threshold_tokens")};
    if (aux.contains("k_aux") && aux["k_aux"].is_number()) t.dead.k = aux["k_aux"];
    return built(t);
  }
  if (from("matryoshka_sae")) {
    options.normalize = plmscope::normalizer{
        .kind = normalization::token_layer_norm, .epsilon = 1e-5, .inverse_epsilon = 0, .ddof = 1};
    plmscope::trainer t{.optimizer = adam_of(n.at("optimizer")),
                        .dictionary = plmscope::unit_norm_before_step{}};
    t.loss.over = averaged;
    t.train_encoder_bias = false;
    t.dead = plmscope::aux_k{.alpha = coefficient(aux),
                             .k = aux.at("k_aux"),
                             .dead_after = tokens(aux.at("dead_batches")),
                             .scale = aux_k::scaling::averaged,
                             .detach_residual = false};
    return built(t);
  }
  if (from("interprot") || from("Rep_SAEs")) {
    const bool interprot = from("interprot");
    options.normalize = plmscope::normalizer{.kind = normalization::token_layer_norm,
                                             .epsilon = interprot ? 1e-5 : 0,
                                             .root_epsilon = interprot ? 0 : 1e-5,
                                             .inverse_epsilon = 0,
                                             .ddof = interprot ? std::size_t{1} : std::size_t{0}};
    // their counter is ours plus one batch
    const aux_k dead{.alpha = coefficient(aux),
                     .dead_after = tokens(aux.at("dead").at("threshold")),
                     .scale = aux_k::scaling::averaged,
                     .detach_residual = false,
                     .ramp = !interprot,
                     .with_bias = true};
    const mean_squared_error raw{.over = averaged, .space = plmscope::loss_space::raw};
    if (interprot) {
      plmscope::adam decayed = adam_of(n.at("optimizer"));
      return built(plmscope::trainer{.optimizer = decayed,
                                     .loss = raw,
                                     .dead = dead,
                                     .dictionary = plmscope::unit_norm_per_dimension{.before_step = true}});
    }
    return built(plmscope::trainer{.optimizer = adam_of(n.at("optimizer")),
                                   .loss = raw,
                                   .dead = dead,
                                   .dictionary = plmscope::free_norm{}});
  }
  if (from("bionemo")) {
    options.normalize = plmscope::normalizer{.kind = normalization::token_layer_norm,
                                             .epsilon = 1e-8,
                                             .inverse_epsilon = 1e-8,
                                             .ddof = 1};
    plmscope::trainer t{.optimizer = adam_of(n.at("optimizer")),
                        .loss = plmscope::squared_error_relative_to_bias{},
                        .dictionary = plmscope::unit_norm_per_dimension{}};
    t.dead = plmscope::aux_k{.alpha = coefficient(aux),
                             .k = aux.at("auxk"),
                             .dead_after = aux.at("dead").at("threshold").get<std::int64_t>() + 1,
                             .fired_above = 1e-3,
                             .scale = aux_k::scaling::row_residual};
    return built(t);
  }
  if (from("SAELens")) {
    if (n.at("activation").value("rescale_acts_by_decoder_norm", false)) {
      options.lengths = plmscope::row_lengths::in_codes;
    }
    plmscope::trainer t{.optimizer = adam_of(n.at("optimizer")),
                        .dictionary = plmscope::free_norm{}};
    t.dead = plmscope::aux_k{.alpha = coefficient(aux),
                             .dead_after = tokens(n.at("dead").at("window").get<double>() + 1),
                             .scale = aux_k::scaling::summed,
                             .count_first = false,
                             .positive = false,
                             .ramp = true};
    return built(t);
  }
  if (from("sparsify")) {
    plmscope::trainer t{
        .optimizer = plmscope::signum_schedule_free{.momentum = n.at("optimizer").at("momentum")},
        .loss = plmscope::fraction_of_variance_unexplained{},
        .dictionary = plmscope::unit_norm_before_forward{},
        .extra = plmscope::multi_top_k{.reaches_encoder = false, .decides_fired = true}};
    if (!n.contains("multi_topk")) t.extra.levels.clear();
    t.dead = plmscope::aux_k{.alpha = coefficient(aux),
                             .dead_after = aux.at("dead_threshold_tokens").get<std::int64_t>() + 1,
                             .scale = aux_k::scaling::target_variance,
                             .count_first = false,
                             .reaches_encoder = false,
                             .ramp = true};
    return built(t);
  }
  return nullptr;
}

}  // namespace peer_topk
