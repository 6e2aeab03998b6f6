// SPDX-License-Identifier: MIT
// Training trajectories of other libraries' ReLU trainers: L1 with and without decoder lengths,
// p-annealing, resampling, crosscoders.
#include <tests/train/follow_peer.hpp>

#include <plmscope/sae/sparsifiers/relu.hpp>

namespace {

using namespace peers;
using plmscope::penalised_length;
using plmscope::unit_norm;

template <class B>
using relu_sae = plmscope::sae<plmscope::relu, B>;
using dims = plmscope::mean_squared_error::dimensions;

plmscope::l1_penalty l1_of(const json& loss) {
  const json& l1 = loss.at("l1");
  plmscope::l1_penalty p{.weight = {.value = l1.at("coefficient"), .warmup = 0}};
  if (l1.contains("warmup_steps") && l1["warmup_steps"].is_number()) {
    p.weight.warmup = l1["warmup_steps"];
  }
  const char* key = l1.contains("term") ? "term" : "penalty";
  const bool length = says(l1, key, "|w_i|") || says(l1, key, "n_i");
  p.length = says(l1, key, "|w_i|^2") ? penalised_length::squared
             : length                 ? penalised_length::length
                                      : penalised_length::none;
  if (says(l1, key, "no decoder norm")) p.length = penalised_length::none;
  return p;
}

plmscope::p_annealing p_annealing_of(const json& loss) {
  const json& s = loss.at("sparsity");
  return {.weight = {.value = s.at("initial_coefficient"),
                     .warmup = loss.at("sparsity_warmup_steps")},
          .p_start = s.at("p_start"),
          .p_end = s.at("p_end"),
          .first_update = s.at("update_steps").front(),
          .last_update = s.at("update_steps").back(),
          .updates = s.at("update_steps").size(),
          .memory = s.at("queue_length"),
          .root = s.at("function") == "Lp"};
}

constexpr unit_norm in_the_optimizer{.project = unit_norm::projection::after_clip,
                                     .projection_epsilon = 0};

// Resampling with the rows that were drawn there.
template <class Driven>
void resample_as_stored(Driven& d, const json& config, const std::filesystem::path& folder,
                        const plmscope::resampling& how) {
  const json& r = config.at("neutral").at("resample");
  const auto file = std::make_shared<plmscope::safetensors_file>(
      plmscope::safetensors_file::open(folder / "trajectory.safetensors"));
  const std::size_t every = r.at("every");
  const std::size_t batch = config.at("dims").at("batch");
  plmscope::resampling policy = how;
  policy.dead_after = static_cast<std::int64_t>((every / 2 + 1) * batch);
  d.after = [=](Driven& self, auto x, auto, std::size_t s) {
    using backend = typename Driven::backend_type;
    char event[16];
    std::snprintf(event, sizeof event, "resample%02zu.", s);
    const std::string key = std::string(event) + "batch_rows_drawn";
    if (!file->contains(key)) return;
    auto& be = self.model.backend();
    typename plmscope::resampling::template state<backend> state;
    const auto dead = policy.dead_ids(*self.training, state);
    CHECK(dead.size() ==
          file->template read_vector<std::int64_t>(std::string(event) + "latents_considered_dead")
              .size());
    std::vector<std::uint32_t> rows;
    for (const auto row : file->template read_vector<std::int64_t>(key)) {
      rows.push_back(static_cast<std::uint32_t>(row));
    }
    if (!file->contains(std::string(event) + "noise")) {
      policy.revive(*self.training, x, dead, rows);
      return;
    }
    // drawn rows with noise, as rows of their own
    const auto noise = file->template read_vector<double>(std::string(event) + "noise");
    std::vector<double> host(x.size()), noisy(noise.size());
    be.download(x, std::span<double>(host));
    for (std::size_t i = 0; i < noise.size(); ++i) {
      noisy[i] = host[rows[i / x.cols()] * x.cols() + i % x.cols()] + 0.01 * noise[i];
    }
    plmscope::matrix<typename backend::real, backend> drawn(be, rows.size(), x.cols());
    be.upload(std::span<const double>(noisy), drawn.all());
    for (std::size_t i = 0; i < rows.size(); ++i) rows[i] = static_cast<std::uint32_t>(i);
    policy.revive(*self.training, const_view<backend>(drawn), dead, rows);
  };
}

// What dictionary_learning's p-annealing calls resampling: only optimizer moments are forgotten.
template <class Driven>
void forget_moments(Driven& d, const json& config) {
  const json& r = config.at("neutral").at("resample");
  const std::size_t every = r.at("every");
  plmscope::resampling policy;
  policy.dead_after =
      static_cast<std::int64_t>((every / 2 + 1) * config.at("dims").at("batch").get<std::size_t>());
  d.after = [=](Driven& self, auto, auto, std::size_t s) {
    using backend = typename Driven::backend_type;
    if (s % every != every - 1) return;
    typename plmscope::resampling::template state<backend> state;
    policy.forget(*self.training, policy.dead_ids(*self.training, state));
  };
}

struct make_relu {
  template <class B>
  std::unique_ptr<run<B>> operator()(const json& config,
                                     const plmscope::safetensors_file& init) const {
    const std::string kind = architecture(config);
    if (kind != "relu" && kind != "relu_l1" && kind != "crosscoder_relu") return nullptr;
    using sae = relu_sae<B>;
    const json& n = config.at("neutral");
    const json& loss = n.at("loss");
    const std::filesystem::path folder = std::filesystem::path(init.where()).parent_path();
    auto options = shape_of<sae>(config);
    if (says(n, "pre_bias", "none")) options.centring = plmscope::input_centring::none;
    const auto quiet = plmscope::aux_k{.alpha = 0};
    const auto nothing = [](auto&) {};

    if (kind == "crosscoder_relu") {
      if (says(loss, "reconstruction", "|^2")) {  // lengths are those of the whole row
        const plmscope::trainer t{.optimizer = adam_of(config),
                                  .loss = mean_of_two_sites{},
                                  .penalty = l1_of(loss),
                                  .dead = quiet,
                                  .dictionary = plmscope::free_norm{}};
        return start<sae>(options, t, config, init, nothing);
      }
      options.blocks = n.at("sites").at("layers");
      return start<sae>(options,
                        plmscope::trainer{.optimizer = adam_of(config),
                                          .loss = plmscope::mean_error_length{},
                                          .penalty = l1_of(loss),
                                          .dead = quiet,
                                          .dictionary = plmscope::free_norm{}},
                        config, init, [&](auto& d) {
                          resample_as_stored(d, config, folder,
                                             {.encoder_scale = 0.05,
                                              .unit_encoder = false,
                                              .centred = false,
                                              .clear_counters = false,
                                              .blocks = 2});
                        });
    }
    if (from(config, "matryoshka_sae")) {
      options.normalize = plmscope::normalizer{.kind = plmscope::normalization::token_layer_norm,
                                               .epsilon = 1e-5,
                                               .inverse_epsilon = 0,
                                               .ddof = 1};
      plmscope::trainer t{.optimizer = adam_of(config),
                          .penalty = l1_of(loss),
                          .dead = quiet,
                          .dictionary = plmscope::unit_norm_before_step{}};
      t.loss.over = dims::averaged;
      return start<sae>(options, t, config, init, nothing);
    }
    if (from(config, "bionemo")) {
      options.unit_input = true;
      plmscope::l1_penalty l1{.weight = {.value = loss.at("l1_coeff")},
                              .length = penalised_length::none};
      plmscope::trainer t{.optimizer = adam_of(config),
                          .penalty = l1,
                          .dead = quiet,
                          .dictionary = unit_norm{.project = unit_norm::projection::none}};
      t.loss.over = dims::averaged;
      return start<sae>(options, t, config, init, nothing);
    }
    if (from(config, "SAELens")) {
      options.normalize = plmscope::normalizer{.kind = plmscope::normalization::scalar,
                                               .scale = n.at("input_scaling").at("factor")};
      return start<sae>(options,
                        plmscope::trainer{.optimizer = adam_of(config),
                                          .penalty = l1_of(loss),
                                          .dead = quiet,
                                          .dictionary = plmscope::free_norm{}},
                        config, init, nothing);
    }
    if (loss.contains("sparsity")) {
      return start<sae>(options,
                        plmscope::trainer{.optimizer = adam_of(config),
                                          .penalty = p_annealing_of(loss),
                                          .dead = quiet,
                                          .dictionary = in_the_optimizer},
                        config, init, [&](auto& d) {
                          if (n.contains("resample")) forget_moments(d, config);
                        });
    }
    if (from(config, "InterPLM")) {
      return start<sae>(options,
                        plmscope::trainer{.optimizer = adam_of(config),
                                          .loss = plmscope::mean_error_length{},
                                          .penalty = l1_of(loss),
                                          .dead = quiet,
                                          .dictionary = in_the_optimizer},
                        config, init, [&](auto& d) {
                          resample_as_stored(d, config, folder,
                                             {.encoder_scale = 1,
                                              .relative = false,
                                              .centred = false,
                                              .reset_moments = false});
                        });
    }
    const bool free = n.value("decoder_constraint", json()).is_null();
    const auto with = [&](auto dictionary) {
      return start<sae>(options,
                        plmscope::trainer{.optimizer = adam_of(config),
                                          .penalty = l1_of(loss),
                                          .dead = quiet,
                                          .dictionary = dictionary},
                        config, init, [&](auto& d) {
                          if (!n.contains("resample") || n["resample"].is_null()) return;
                          resample_as_stored(d, config, folder,
                                             {.unit_encoder = false,
                                              .centred = false,
                                              .clear_counters = false});
                        });
    };
    return free ? with(plmscope::free_norm{}) : with(in_the_optimizer);
  }

  struct mean_of_two_sites : plmscope::mean_squared_error {
    template <class B>
    auto prepare(B& be, const plmscope::loss_inputs<B>& in) const {
      auto l = plmscope::mean_squared_error::prepare(be, in);
      l.scale /= 2;
      return l;
    }
  };
};

}  // namespace

TEST_CASE("ReLU trainers of other libraries: naive loops in double") {
  walk<plmscope::reference>("reference", make_relu{});
}
TEST_CASE("ReLU trainers of other libraries: cpu kernels in double") {
  walk<plmscope::basic_cpu<double, plmscope::eigen_gemm>>("cpu double", make_relu{});
}
TEST_CASE("ReLU trainers of other libraries: cpu kernels in float") {
  walk<plmscope::cpu>("cpu", make_relu{});
}
TEST_CASE("ReLU trainers of other libraries: device kernels in double") {
  walk<devices::twice>((std::string(devices::name) + " double").c_str(), make_relu{});
}
