// SPDX-License-Identifier: MIT
// Training trajectories of other libraries' BatchTopK, Matryoshka and JumpReLU trainers.
#include <tests/train/follow_peer.hpp>

#include <plmscope/sae/sparsifiers/batch_top_k.hpp>
#include <plmscope/sae/sparsifiers/jump_relu.hpp>

namespace {

using namespace peers;
using plmscope::aux_k;
using dims = plmscope::mean_squared_error::dimensions;

plmscope::normalizer token_norm(const json& n) {
  if (!n.contains("normaliser") || n["normaliser"].is_null()) return {};
  return {.kind = plmscope::normalization::token_layer_norm,
          .epsilon = 1e-5,
          .inverse_epsilon = 0,
          .ddof = 1};
}

double coefficient(const json& aux) {
  if (aux.contains("alpha")) return aux.at("alpha");
  return aux.value("coefficient", 1.0);
}

plmscope::batch_top_k batch_top_k_of(const json& n) {
  plmscope::batch_top_k s{.k = n.at("activation").at("k")};
  const json& t = n.at("running_threshold");
  if (t.contains("beta")) {  // from a step on, beginning with the value there
    s.smoothing = t.at("beta");
    s.first_step = t.at("threshold_start_step");
  } else {
    s.smoothing = t.contains("lr") ? 1 - t.at("lr").get<double>() : 0.99;
    s.first_step = 0;
    s.from_zero = true;
  }
  return s;
}

// Ends and shares of a Matryoshka's results.
plmscope::matryoshka matryoshka_of(const json& config) {
  const json& n = config.at("neutral");
  const json& loss = n.at("loss");
  plmscope::matryoshka m;
  std::vector<std::size_t> sizes;
  if (loss.contains("prefixes")) {  // plain sum
    m.ends = loss.at("prefixes").get<std::vector<std::uint32_t>>();
    m.shares.assign(m.ends.size(), 1.0);
    return m;
  }
  if (n.contains("groups")) {
    sizes = n.at("groups").at("sizes").get<std::vector<std::size_t>>();
  } else {
    sizes = loss.at("reconstruction").at("group_sizes").get<std::vector<std::size_t>>();
  }
  const bool empty_prefix = says(loss, "reconstruction", "empty prefix");
  if (empty_prefix) m.ends.push_back(0);
  std::uint32_t end = 0;
  for (const std::size_t size : sizes) m.ends.push_back(end += static_cast<std::uint32_t>(size));
  const auto count = static_cast<double>(m.ends.size());
  // 1 / n twice, but for the trainer with the empty prefix
  m.shares.assign(m.ends.size(), empty_prefix ? 1 / count : 1 / (count * count));
  return m;
}

plmscope::aux_k aux_of(const json& config) {
  const json& n = config.at("neutral");
  const json& aux = n.at("loss").at("aux");
  const double batch = config.at("dims").at("batch");
  aux_k a{.alpha = coefficient(aux)};
  if (aux.contains("k_aux") && aux["k_aux"].is_number()) a.k = aux["k_aux"];
  if (from(config, "matryoshka_sae")) {
    a.dead_after = static_cast<std::int64_t>(aux.at("dead_batches").get<double>() * batch);
    a.scale = aux_k::scaling::averaged;
    a.detach_residual = false;
  } else if (from(config, "SAELens")) {
    a.dead_after =
        static_cast<std::int64_t>((n.at("dead").at("window").get<double>() + 1) * batch);
    a.scale = aux_k::scaling::summed;
    a.count_first = false;
    a.positive = false;
    a.ramp = true;
  } else {
    a.dead_after = aux.at("dead_threshold_tokens");
  }
  return a;
}

struct make_batch {
  template <class B>
  std::unique_ptr<run<B>> operator()(const json& config,
                                     const plmscope::safetensors_file& init) const {
    const std::string kind = architecture(config);
    const bool matryoshka = kind == "matryoshka_batchtopk";
    if (kind != "batchtopk" && kind != "crosscoder_batchtopk" && !matryoshka) return nullptr;
    using sae = plmscope::sae<plmscope::batch_top_k, B>;
    const json& n = config.at("neutral");
    auto options = shape_of<sae>(config);
    options.sparsifier = batch_top_k_of(n);
    options.normalize = token_norm(n);
    if (n.at("activation").value("rescale_acts_by_decoder_norm", false)) {
      options.lengths = plmscope::row_lengths::in_codes;
    }
    // train-mode selection, as stored
    const auto hooks = [&](auto& d) {
      start_from_data(d, config);
      d.encode = [](auto& self, auto x, auto& out) {
        using state = typename plmscope::batch_top_k::template state<B>;
        auto& be = self.model.backend();
        state s = self.model.sparsifier().start(be);
        const auto rows = self.model.centred(x);
        const plmscope::selection<B> in{self.model.parameters(), rows.rows(),
                                        self.model.rank_scale()};
        out.clear(be, self.model.features());
        self.model.for_each_tile(rows, [&](auto pre) {
          self.model.sparsifier().candidates(be, pre, in, out, s);
        });
        self.model.unscale(out);
      };
    };
    const auto with = [&](auto dictionary, auto plan, bool averaged) {
      plmscope::trainer t{.optimizer = adam_of(config),
                          .dead = aux_of(config),
                          .dictionary = dictionary,
                          .plan = plan};
      if (averaged) t.loss.over = dims::averaged;
      t.train_encoder_bias = !says(n, "pre_bias", "no encoder bias");
      return start<sae>(options, t, config, init, hooks);
    };
    const auto either = [&](auto dictionary, bool averaged) {
      return matryoshka ? with(dictionary, matryoshka_of(config), averaged)
                        : with(dictionary, plmscope::full_reconstruction{}, averaged);
    };
    if (kind == "crosscoder_batchtopk") return crosscoder<B>(config, init, options, hooks);
    if (from(config, "matryoshka_sae")) {
      if (n.at("loss").contains("l1") && !matryoshka) {
        const json& l1 = n.at("loss").at("l1");
        plmscope::trainer t{.optimizer = adam_of(config),
                            .penalty = plmscope::l1_penalty{.weight = {.value = l1["coefficient"]},
                                                            .length = plmscope::penalised_length::none},
                            .dead = aux_of(config),
                            .dictionary = plmscope::unit_norm_before_step{}};
        t.loss.over = dims::averaged;
        t.train_encoder_bias = false;
        return start<sae>(options, t, config, init, hooks);
      }
      return either(plmscope::unit_norm_before_step{}, true);
    }
    if (from(config, "SAELens")) {
      if (matryoshka) {
        const auto plan = matryoshka_of(config);
        const auto aux = aux_of(config);
        return start<sae>(options,
                          plmscope::trainer{.optimizer = adam_of(config),
                                            .dead = plmscope::aux_k_by_level{.each = aux,
                                                                             .ends = plan.ends},
                                            .dictionary = plmscope::free_norm{},
                                            .plan = plan},
                          config, init, hooks);
      }
      return either(plmscope::free_norm{}, false);
    }
    return either(plmscope::unit_norm{}, false);
  }

  template <class B, class Options, class Hooks>
  std::unique_ptr<run<B>> crosscoder(const json& config, const plmscope::safetensors_file& init,
                                     Options options, const Hooks& hooks) const {
    using sae = plmscope::sae<plmscope::batch_top_k, B>;
    const json& n = config.at("neutral");
    const std::size_t sites = n.at("sites").at("layers");
    const std::size_t d = options.d_model / sites;
    options.blocks = sites;
    options.lengths = plmscope::row_lengths::rank;
    options.centring = plmscope::input_centring::none;
    options.normalize.kind = plmscope::normalization::per_dimension;
    options.normalize.mean = init.read_vector<double>("act_mean");
    const auto scale = init.read_vector<double>("act_scale");
    for (std::size_t j = 0; j < options.d_model; ++j) {
      options.normalize.deviation.push_back(1 / scale[j / d]);
    }
    plmscope::trainer t{.optimizer = adam_of(config),
                        .loss = plmscope::mean_error_length{},
                        .dead = aux_of(config),
                        .dictionary = plmscope::free_norm{}};
    const json anneal = n.at("k_anneal");
    return start<sae>(options, t, config, init, [&](auto& driven) {
      hooks(driven);
      driven.before = [=](auto& self, auto x, auto, std::size_t s) {
        if (s == 0) medians(self, x, sites);
        const double k0 = anneal.at("k_initial");
        const double k1 = anneal.at("k_target");
        const double steps = anneal.at("steps");
        const double at = static_cast<double>(s);
        self.model.sparsifier().k =
            at < steps ? std::max(1.0, std::nearbyint(k0 - (k0 - k1) * at / steps)) : k1;
      };
    });
  }

  // The geometric median of each site, iterated until all of them stand still.
  template <class Driven, class Rows>
  static void medians(Driven& self, Rows x, std::size_t sites) {
    auto& be = self.model.backend();
    static_cast<void>(self.model.centred(x));
    const auto rows = self.model.normalized();
    std::vector<double> host(rows.size());
    be.download(rows, std::span<double>(host));
    const std::size_t width = rows.cols() / sites;
    std::vector<std::vector<double>> part(sites);
    for (std::size_t r = 0; r < rows.rows(); ++r) {
      for (std::size_t j = 0; j < rows.cols(); ++j) {
        part[j / width].push_back(host[r * rows.cols() + j]);
      }
    }
    std::vector<std::vector<double>> g(sites);
    for (std::size_t l = 0; l < sites; ++l) g[l] = plmscope::geometric_median(part[l], width, 0);
    for (std::size_t i = 1; i <= 100; ++i) {
      bool still = true;
      for (std::size_t l = 0; l < sites; ++l) {
        const auto next = plmscope::geometric_median(part[l], width, i, 0);
        double moved = 0;
        for (std::size_t j = 0; j < width; ++j) moved += std::pow(next[j] - g[l][j], 2);
        still = still && std::sqrt(moved) < 1e-5;
        g[l] = next;
      }
      if (still) break;
    }
    std::vector<double> all;
    for (const auto& v : g) all.insert(all.end(), v.begin(), v.end());
    be.upload(std::span<const double>(all), self.model.parameters().decoder_bias.all());
  }
};

struct make_jump {
  /// Where a ReLU before the jump puts zeros into the window, their part of the thresholds' gradient is
  /// a difference of two sums that almost cancel.
  double single_precision_limit(const json& config) const {
    return from(config, "matryoshka_sae") ? 1e-3 : 0;
  }

  template <class B>
  std::unique_ptr<run<B>> operator()(const json& config,
                                     const plmscope::safetensors_file& init) const {
    if (architecture(config) != "jumprelu") return nullptr;
    using sae = plmscope::sae<plmscope::jump_relu, B>;
    const json& n = config.at("neutral");
    const json& loss = n.at("loss");
    const json& activation = n.at("activation");
    auto options = shape_of<sae>(config);
    options.sparsifier.bandwidth = activation.at("bandwidth");
    options.normalize = token_norm(n);
    if (says(n, "pre_bias", "none")) options.centring = plmscope::input_centring::none;
    const auto quiet = aux_k{.alpha = 0};
    const auto nothing = [](auto&) {};
    if (from(config, "SAELens")) {
      const json& sparsity = loss.at("sparsity");
      const plmscope::warmed_weight weight{.value = sparsity.at("coefficient"),
                                           .warmup = sparsity.at("warmup_steps")};
      options.sparsifier.reaches_input = says(activation, "ste", "ste_to_input true");
      if (sparsity.at("mode") == "step") {
        return start<sae>(options,
                          plmscope::trainer{.optimizer = adam_of(config),
                                            .penalty = plmscope::l0_penalty{.weight = weight},
                                            .dead = quiet,
                                            .dictionary = plmscope::free_norm{}},
                          config, init, nothing);
      }
      aux_k dead = quiet;
      dead.count_first = false;
      dead.dead_after = static_cast<std::int64_t>(
          (n.at("dead").at("window").get<double>() + 1) *
          config.at("dims").at("batch").get<double>());
      return start<sae>(
          options,
          plmscope::trainer{
              .optimizer = adam_of(config),
              .penalty = plmscope::penalties{
                  plmscope::tanh_penalty{.weight = weight, .shape = {.c = sparsity.at("scale")}},
                  plmscope::pre_activation_penalty{
                      .weight = {.value = loss.at("pre_act").at("coefficient")}}},
              .dead = dead,
              .dictionary = plmscope::free_norm{}},
          config, init, nothing);
    }
    const json& l0 = loss.at("l0");
    plmscope::l0_penalty penalty{.weight = {.value = l0.at("coefficient")}};
    penalty.weight.warmup = l0.value("warmup_steps", std::size_t{0});
    penalty.target = l0.value("target", 0.0);
    options.sparsifier.l0_of_values = true;
    if (from(config, "matryoshka_sae")) {
      options.sparsifier.log_thresholds = true;
      options.sparsifier.relu_first = true;
      options.sparsifier.without_chain = true;
      plmscope::trainer t{.optimizer = adam_of(config),
                          .penalty = penalty,
                          .dead = quiet,
                          .dictionary = plmscope::unit_norm_before_step{}};
      t.loss.over = dims::averaged;
      return start<sae>(options, t, config, init, nothing);
    }
    options.sparsifier.clamp_at_zero = false;
    return start<sae>(options,
                      plmscope::trainer{.optimizer = adam_of(config),
                                        .penalty = penalty,
                                        .dead = quiet},
                      config, init, nothing);
  }
};

template <class B>
void both(const char* label) {
  walk<B>(label, make_batch{});
  walk<B>(label, make_jump{});
}

}  // namespace

TEST_CASE("threshold trainers of other libraries: naive loops in double") {
  both<plmscope::reference>("reference");
}
TEST_CASE("threshold trainers of other libraries: cpu kernels in double") {
  both<plmscope::basic_cpu<double, plmscope::eigen_gemm>>("cpu double");
}
TEST_CASE("threshold trainers of other libraries: cpu kernels in float") {
  both<plmscope::cpu>("cpu");
}
TEST_CASE("threshold trainers of other libraries: device kernels in double") {
  both<devices::twice>((std::string(devices::name) + " double").c_str());
}
