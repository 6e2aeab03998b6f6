// SPDX-License-Identifier: MIT
// Training trajectories of other libraries' Gated, GroupMax, transcoder and random-prefix trainers.
#include <tests/train/follow_peer.hpp>

#include <plmscope/sae/sparsifiers/gated.hpp>
#include <plmscope/sae/sparsifiers/group_max.hpp>
#include <plmscope/sae/sparsifiers/relu.hpp>

namespace {

using namespace peers;
using plmscope::aux_k;
using plmscope::penalised_length;
using plmscope::unit_norm;
using dims = plmscope::mean_squared_error::dimensions;

constexpr unit_norm in_the_optimizer{.project = unit_norm::projection::after_clip,
                                     .projection_epsilon = 0};
const auto nothing = [](auto&) {};

struct make_gated {
  template <class B>
  std::unique_ptr<run<B>> operator()(const json& config,
                                     const plmscope::safetensors_file& init) const {
    if (architecture(config) != "gated") return nullptr;
    using sae = plmscope::sae<plmscope::gated, B>;
    const json& loss = config.at("neutral").at("loss");
    auto options = shape_of<sae>(config);
    const aux_k quiet{.alpha = 0};
    if (loss.contains("sparsity")) {
      const json& s = loss.at("sparsity");
      const plmscope::p_annealing penalty{
          .weight = {.value = s.at("initial_coefficient"),
                     .warmup = loss.at("sparsity_warmup_steps")},
          .p_start = s.at("p_start"),
          .p_end = s.at("p_end"),
          .first_update = s.at("update_steps").front(),
          .last_update = s.at("update_steps").back(),
          .updates = s.at("update_steps").size(),
          .memory = s.at("queue_length")};
      return start<sae>(options,
                        plmscope::trainer{.optimizer = adam_of(config),
                                          .penalty = penalty,
                                          .dead = quiet,
                                          .dictionary = in_the_optimizer},
                        config, init, nothing);
    }
    const bool saelens = from(config, "SAELens");
    const json& l1 = loss.at(saelens ? "l1" : "gate_l1");
    const plmscope::l1_penalty penalty{
        .weight = {.value = l1.at("coefficient"), .warmup = l1.at("warmup_steps")},
        .length = saelens ? penalised_length::length : penalised_length::none};
    options.sparsifier.auxiliary_trains_decoder = saelens;
    const auto with = [&](auto dictionary) {
      return start<sae>(options,
                        plmscope::trainer{.optimizer = adam_of(config),
                                          .penalty = penalty,
                                          .dead = quiet,
                                          .dictionary = dictionary},
                        config, init, nothing);
    };
    return saelens ? with(plmscope::free_norm{}) : with(in_the_optimizer);
  }
};

struct make_transcoder {
  /// Against a bias that four steps have moved by 0.01.
  double single_precision_limit(const json& config) const {
    return from(config, "Rep_SAEs") ? 3e-4 : 0;
  }

  template <class B>
  std::unique_ptr<run<B>> operator()(const json& config,
                                     const plmscope::safetensors_file& init) const {
    const std::string kind = architecture(config);
    if (kind != "topk_transcoder" && kind != "topk_skip_transcoder") return nullptr;
    using sae = plmscope::sae<plmscope::top_k, B>;
    const json& n = config.at("neutral");
    const double batch = config.at("dims").at("batch");
    auto options = shape_of<sae>(config);
    options.sparsifier.k = n.at("activation").at("k");
    options.transcodes = true;
    std::vector<std::int64_t> since;
    for (const auto& name : init.names()) {
      if (!name.starts_with("batches_since")) continue;
      for (const double v : init.read_vector<double>(name)) {
        since.push_back(static_cast<std::int64_t>((v - 1) * batch));
      }
    }
    if (kind == "topk_transcoder") {
      options.normalize = plmscope::normalizer{.kind = plmscope::normalization::token_layer_norm,
                                               .epsilon = 0,
                                               .root_epsilon = 1e-5,
                                               .inverse_epsilon = 0};
      const json& aux = n.at("loss").at("aux");
      plmscope::trainer t{
          .optimizer = adam_of(config),
          .dead = aux_k{.alpha = aux.at("coefficient"),
                        .dead_after = static_cast<std::int64_t>(
                            aux.at("dead").at("threshold").get<double>() * batch),
                        .scale = aux_k::scaling::averaged,
                        .detach_residual = false,
                        .ramp = true,
                        .with_bias = true},
          .dictionary = plmscope::free_norm{}};
      t.loss.over = dims::averaged;
      return start<sae>(options, t, config, init, [&](auto& d) {
        if (since.empty()) return;
        d.model.backend().upload(std::span<const std::int64_t>(since),
                                 d.training->dead_state().since_fired.all());
        d.training->dead_state().next_check = 0;
      });
    }
    options.skip = true;
    options.centring = plmscope::input_centring::none;
    const json& aux = n.at("loss").at("auxk");
    return start<sae>(
        options,
        plmscope::trainer{
            .optimizer =
                plmscope::signum_schedule_free{.momentum = n.at("optimizer").at("momentum")},
            .loss = plmscope::fraction_of_variance_unexplained{},
            .dead = aux_k{.alpha = aux.at("alpha"),
                          .dead_after = aux.at("dead_threshold_tokens").get<std::int64_t>() + 1,
                          .scale = aux_k::scaling::target_variance,
                          .count_first = false,
                          .reaches_encoder = false,
                          .ramp = true},
            .dictionary = plmscope::free_norm{}},
        config, init, [&](auto& d) { start_from_data(d, config); });
  }
};

struct make_group_max {
  template <class B>
  std::unique_ptr<run<B>> operator()(const json& config,
                                     const plmscope::safetensors_file& init) const {
    if (architecture(config) != "groupmax") return nullptr;
    using sae = plmscope::sae<plmscope::group_max, B>;
    const json& n = config.at("neutral");
    const json& aux = n.at("loss").at("auxk");
    auto options = shape_of<sae>(config);
    options.sparsifier.k = n.at("activation").at("k");
    options.sparsifier.empty_groups_train = true;
    return start<sae>(
        options,
        plmscope::trainer{
            .optimizer = adam_of(config),
            .loss = plmscope::fraction_of_variance_unexplained{},
            .dead = aux_k{.alpha = aux.at("alpha"),
                          .dead_after = aux.at("dead_threshold_tokens").get<std::int64_t>() + 1,
                          .fired_above = -1,
                          .scale = aux_k::scaling::target_variance,
                          .count_first = false,
                          .reaches_encoder = false,
                          .ramp = true},
            .dictionary = plmscope::unit_norm_before_forward{}},
        config, init, [&](auto& d) { start_from_data(d, config); });
  }
};

// The prefixes of each step, as they were drawn there.
struct stored_prefixes {
  std::shared_ptr<std::vector<plmscope::prefix_list>> steps;
  plmscope::prefix_list operator()(std::size_t step, std::size_t) const { return (*steps)[step]; }
};

template <class Shape>
using sought = plmscope::entry_penalty<Shape, plmscope::seeking_weight>;

struct make_nabeshima {
  template <class B>
  std::unique_ptr<run<B>> operator()(const json& config,
                                     const plmscope::safetensors_file& init) const {
    if (architecture(config) != "matryoshka_random_relu") return nullptr;
    const json& sparsity = config.at("neutral").at("loss").at("sparsity");
    return sparsity.at("type") == "log"
               ? with<B>(config, init, sought<plmscope::log_shape>{})
               : with<B>(config, init, sought<plmscope::linear_shape>{});
  }

  template <class B, class Penalty>
  std::unique_ptr<run<B>> with(const json& config, const plmscope::safetensors_file& init,
                               Penalty penalty) const {
    using sae = plmscope::sae<plmscope::relu, B>;
    const json& n = config.at("neutral");
    const json& c = n.at("loss").at("controller");
    const auto folder = std::filesystem::path(init.where()).parent_path();
    const auto file = plmscope::safetensors_file::open(folder / "trajectory.safetensors");
    const auto ends = file.read_vector<std::int64_t>("prefixes");
    const auto orders = file.read_vector<std::int64_t>("permutation");
    const std::size_t count = n.at("prefixes").at("n");
    const std::size_t features = config.at("dims").at("F");
    stored_prefixes plan{std::make_shared<std::vector<plmscope::prefix_list>>()};
    for (std::size_t i = 0; i < ends.size(); i += count) {
      plmscope::prefix_list p;
      for (std::size_t j = 0; j < count; ++j) {
        p.ends.push_back(static_cast<std::uint32_t>(ends[i + j]));
      }
      p.shares.assign(count, 1.0 / static_cast<double>(count));
      p.shares_penalty = true;
      plan.steps->push_back(p);
    }
    penalty.weight = {.start = c.at("start"),
                      .target = c.at("target_l0"),
                      .rate = c.at("eps"),
                      .warmup = c.at("warmup_steps")};
    auto options = shape_of<sae>(config);
    options.centring = plmscope::input_centring::none;
    return start<sae>(options,
                      plmscope::trainer{.optimizer = adam_of(config),
                                        .penalty = penalty,
                                        .dead = aux_k{.alpha = 0},
                                        .dictionary = plmscope::free_norm{},
                                        .plan = plan},
                      config, init, [&](auto& d) {
                        const auto mean = std::make_shared<double>(0);
                        d.before = [mean](auto& self, auto x, auto, std::size_t) {
                          *mean = 0.99 * *mean + 0.01 * mean_length(self.model.backend(), x);
                          self.model.set_normalization(
                              {.kind = plmscope::normalization::scalar,
                               .scale = std::sqrt(static_cast<double>(x.cols())) / *mean});
                        };
                        d.after = [orders, features](auto& self, auto, auto, std::size_t s) {
                          std::vector<std::uint32_t> order(features);
                          for (std::size_t f = 0; f < features; ++f) {
                            order[f] = static_cast<std::uint32_t>(orders[s * features + f]);
                          }
                          plmscope::reorder_latents(*self.training, order, false);
                        };
                      });
  }

  template <class B>
  static double mean_length(B& be, const_view<B> x) {
    plmscope::matrix<typename B::real, B> lengths(be, 1, x.rows());
    be.row_norms(x, lengths);
    std::vector<double> host(x.rows());
    be.download(const_view<B>(lengths), std::span<double>(host));
    double sum = 0;
    for (const double v : host) sum += v;
    return sum / static_cast<double>(x.rows());
  }
};

template <class B>
void all(const char* label) {
  walk<B>(label, make_gated{});
  walk<B>(label, make_transcoder{});
  walk<B>(label, make_group_max{});
  walk<B>(label, make_nabeshima{});
}

}  // namespace

TEST_CASE("gated, group and prefix trainers of other libraries: naive loops in double") {
  all<plmscope::reference>("reference");
}
TEST_CASE("gated, group and prefix trainers of other libraries: cpu kernels in double") {
  all<plmscope::basic_cpu<double, plmscope::eigen_gemm>>("cpu double");
}
TEST_CASE("gated, group and prefix trainers of other libraries: cpu kernels in float") {
  all<plmscope::cpu>("cpu");
}
TEST_CASE("gated, group and prefix trainers of other libraries: device kernels in double") {
  all<devices::twice>((std::string(devices::name) + " double").c_str());
}
