// SPDX-License-Identifier: MIT
// Training trajectories of other libraries' TopK trainers, from fixed weights on fixed batches,
// reproduced step by step. Each run is built from its config.json alone.
#include <tests/train/follow_peer.hpp>

namespace {

using namespace peers;
using plmscope::aux_k;
using plmscope::mean_squared_error;
using plmscope::normalization;

// AuxK's weight, under either name.
double coefficient(const json& aux) {
  return aux.contains("alpha") ? aux.at("alpha").get<double>()
                               : aux.at("coefficient").get<double>();
}

// k falls from the width to its target over some steps; the first step has the target already.
plmscope::k_annealing annealing_of(const json& config) {
  const json& n = config.at("neutral");
  const bool falls = n.contains("k_anneal") && !n["k_anneal"].is_null();
  return {.to = n.at("activation").at("k"),
          .over = falls ? n.at("k_anneal").at("steps").get<std::size_t>() : 0,
          .late = true};
}

/// Builds the run, or returns nullptr for a library whose policies are not known here.
struct make_topk {
  /// Other latents than the exact run's may not move a parameter further than this.
  double unresolved_limit() const { return 1e-3; }

  template <class B>
  std::unique_ptr<run<B>> operator()(const json& config,
                                     const plmscope::safetensors_file& init) const {
    using Sae = plmscope::sae<plmscope::top_k, B>;
    if (architecture(config) != "topk") return nullptr;
    const json& n = config.at("neutral");
    const json& loss = n.at("loss");
    const json& aux = loss.contains("aux") ? loss.at("aux") : loss.at("auxk");
    const auto from = [&](const char* text) { return peers::from(config, text); };
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
      return start<Sae>(options, policies, config, init, [&](auto& d) {
        start_from_data(d, config);
        if (since.empty()) return;
        d.model.backend().upload(std::span<const std::int64_t>(since),
                                 d.training->dead_state().since_fired.all());
        d.training->dead_state().next_check = 0;
      });
    };
    const auto averaged = mean_squared_error::dimensions::averaged;

    if (from("dictionary_learning") || from("InterPLM")) {
      plmscope::trainer t{.optimizer = adam_of(config), .upkeep = annealing_of(config)};
      t.dead =
          plmscope::aux_k{.alpha = coefficient(aux), .dead_after = aux.at("dead_threshold_tokens")};
      if (aux.contains("k_aux") && aux["k_aux"].is_number()) t.dead.k = aux["k_aux"];
      return built(t);
    }
    if (from("matryoshka_sae")) {
      options.normalize = plmscope::normalizer{.kind = normalization::token_layer_norm,
                                               .epsilon = 1e-5,
                                               .inverse_epsilon = 0,
                                               .ddof = 1};
      plmscope::trainer t{.optimizer = adam_of(config),
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
        return built(plmscope::trainer{
            .optimizer = adam_of(config),
            .loss = raw,
            .dead = dead,
            .dictionary = plmscope::unit_norm_per_dimension{.before_step = true}});
      }
      return built(plmscope::trainer{.optimizer = adam_of(config),
                                     .loss = raw,
                                     .dead = dead,
                                     .dictionary = plmscope::free_norm{}});
    }
    if (from("bionemo")) {
      options.normalize = plmscope::normalizer{.kind = normalization::token_layer_norm,
                                               .epsilon = 1e-8,
                                               .inverse_epsilon = 1e-8,
                                               .ddof = 1};
      plmscope::trainer t{.optimizer = adam_of(config),
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
      plmscope::trainer t{.optimizer = adam_of(config), .dictionary = plmscope::free_norm{}};
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
      t.dead =
          plmscope::aux_k{.alpha = coefficient(aux),
                          .dead_after = aux.at("dead_threshold_tokens").get<std::int64_t>() + 1,
                          .scale = aux_k::scaling::target_variance,
                          .count_first = false,
                          .reaches_encoder = false,
                          .ramp = true};
      return built(t);
    }
    FAIL("no composition for this library yet");
    return nullptr;
  }
};

}  // namespace

TEST_CASE("TopK trainers of other libraries: naive loops in double") {
  walk<plmscope::reference>("reference", make_topk{});
}
TEST_CASE("TopK trainers of other libraries: cpu kernels in double") {
  walk<plmscope::basic_cpu<double, plmscope::eigen_gemm>>("cpu double", make_topk{});
}
TEST_CASE("TopK trainers of other libraries: cpu kernels in float") {
  walk<plmscope::cpu>("cpu", make_topk{});
}
TEST_CASE("TopK trainers of other libraries: device kernels in double") {
  walk<devices::twice>((std::string(devices::name) + " double").c_str(), make_topk{});
}
TEST_CASE("TopK trainers of other libraries: device kernels in float") {
  walk<devices::single>(devices::name, make_topk{});
}
