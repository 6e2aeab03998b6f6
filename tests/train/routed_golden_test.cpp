// SPDX-License-Identifier: MIT
// The training trajectory of BioNeMo's mixture of SAEs, and what its router does.
#include <tests/train/follow_peer.hpp>

#include <plmscope/sae/sparsifiers/routed.hpp>

namespace {

using namespace peers;

std::vector<double> numbers_of(auto& be, const auto& m) {
  std::vector<double> host(m.size());
  be.download(m.all(), std::span<double>(host));
  return host;
}

// The gates of each row [m, experts], written out.
std::vector<double> gates_of(const std::vector<double>& x, const std::vector<double>& router,
                             std::size_t d, std::size_t chosen) {
  const std::size_t n = router.size() / d;
  std::vector<double> gates;
  for (std::size_t r = 0; r < x.size() / d; ++r) {
    double mean = 0, squares = 0, all = 0, sum = 1e-8;
    for (std::size_t j = 0; j < d; ++j) mean += x[r * d + j] / static_cast<double>(d);
    for (std::size_t j = 0; j < d; ++j) squares += std::pow(x[r * d + j] - mean, 2);
    const double deviation = std::sqrt(squares / static_cast<double>(d - 1)) + 1e-8;
    std::vector<double> p(n), sorted;
    for (std::size_t e = 0; e < n; ++e) {
      double logit = 0;
      for (std::size_t j = 0; j < d; ++j) {
        logit += router[e * d + j] * (x[r * d + j] - mean) / deviation;
      }
      all += p[e] = std::exp(logit);
    }
    sorted = p;
    std::sort(sorted.rbegin(), sorted.rend());
    for (std::size_t c = 0; c < chosen; ++c) sum += sorted[c] / all;
    for (std::size_t e = 0; e < n; ++e) {
      gates.push_back(p[e] >= sorted[chosen - 1] ? p[e] / all / sum : 0.0);
    }
  }
  return gates;
}

struct make_routed {
  template <class B>
  std::unique_ptr<run<B>> operator()(const json& config,
                                     const plmscope::safetensors_file& init) const {
    if (architecture(config) != "moe") return nullptr;
    using sae = plmscope::sae<plmscope::routed, B>;
    plmscope::trainer t{
        .optimizer = adam_of(config),
        .loss =
            plmscope::mean_squared_error{.over = plmscope::mean_squared_error::dimensions::averaged,
                                         .space = plmscope::loss_space::raw},
        .dead = plmscope::aux_k{.alpha = 0},
        .dictionary = plmscope::unit_norm{.project = plmscope::unit_norm::projection::none}};
    return start<sae>(options<sae>(config), t, config, init, [](auto& d) {
      // Their codes are without gates.
      d.encode = [](auto& self, auto x, auto& codes) { without_gates(self.model, x, codes); };
    });
  }

  template <class sae>
  static typename sae::options options(const json& config) {
    const json& n = config.at("neutral");
    auto options = shape_of<sae>(config);
    options.sparsifier =
        plmscope::routed{.k = n.at("activation").at("k"),
                         .experts = n.at("experts").at("n"),
                         .chosen = n.at("experts").at("active"),
                         .router_bias = false,
                         .share_gates = true,
                         .block_biases = true,
                         .balance = n.at("loss").at("load_balance").at("coefficient"),
                         .entropy = n.at("loss").at("router_entropy").at("coefficient")};
    options.centring = plmscope::input_centring::none;
    options.normalize = plmscope::normalizer{.kind = plmscope::normalization::token_layer_norm,
                                             .epsilon = 1e-8,
                                             .inverse_epsilon = 1e-8,
                                             .ddof = 1};
    return options;
  }

  template <class Model, class View, class Codes>
  static void without_gates(Model& model, View x, Codes& codes) {
    using B = typename Model::backend_type;
    auto& be = model.backend();
    model.encode(x, codes);
    std::vector<double> rows(x.size());
    be.download(x, std::span<double>(rows));
    const auto& s = model.sparsifier();
    const auto gates =
        gates_of(rows, numbers_of(be, model.parameters().latent[0].values), x.cols(), s.chosen);
    const auto z = plmscope::to_host(be, codes);
    std::vector<double> values(z.values.begin(), z.values.end());
    const std::size_t width = z.features / s.experts;
    for (std::size_t r = 0; r < z.rows(); ++r) {
      for (auto e = static_cast<std::size_t>(z.offsets[r]);
           e < static_cast<std::size_t>(z.offsets[r + 1]); ++e) {
        values[e] /= gates[r * s.experts + z.ids[e] / width];
      }
    }
    be.upload(std::span<const double>(values), plmscope::view<B>(codes.values(), values.size()));
  }
};

// The trained model, and the start of its biases.
template <class B>
void computes_theirs() {
  for (const auto& folder : golden::folders("sae_goldens", "config.json")) {
    std::ifstream in(folder / "config.json");
    const json config = json::parse(std::string(std::istreambuf_iterator<char>(in), {}));
    if (architecture(config) != "moe") continue;
    INFO(folder.string());
    const auto init = plmscope::safetensors_file::open(folder / "init.safetensors");
    const auto last = plmscope::safetensors_file::open(folder / "trajectory.safetensors");
    const auto batches = plmscope::safetensors_file::open(folder / "../batches.safetensors");
    using sae = plmscope::sae<plmscope::routed, B>;
    sae model(make_routed::options<sae>(config));
    auto& be = model.backend();
    const auto all = batches.read_vector<double>("x");
    const std::size_t d = model.d_model(), m = batches.require("x").shape[1];
    plmscope::matrix<typename B::real, B> x(be, m, d), y(be, m, d);
    be.upload(std::span<const double>(all).first(m * d), x.all());
    plmscope::initialize_bias(model, const_view<B>(x), plmscope::start_bias::geometric_median);
    const auto start = numbers_of(be, model.parameters().latent.back().values);
    CHECK(relative(start, init.read_vector<double>("b_pre"), {}, start.size()) < 1e-5);
    for (const double v : numbers_of(be, model.parameters().decoder_bias)) CHECK(v == 0);

    char prefix[16];
    std::snprintf(prefix, sizeof prefix, "step%02d.", config.at("dims").at("steps").get<int>());
    model.parameters().for_each([&](const std::string& name, auto& to) {
      const std::string key = prefix + peer_name(name, last);
      if (!last.contains(key)) return;
      be.upload(std::span<const double>(last.read_vector<double>(key)), to.all());
    });
    be.upload(std::span<const double>(all).last(m * d), x.all());
    model.reconstruct(x, y);
    CHECK(relative(numbers_of(be, y), last.read_vector<double>("recon_eval"), {}, m * d) < 1e-6);
  }
}

template <class B>
void follow_routed(const char* label) {
  walk<B>(label, make_routed{});
}

}  // namespace

TEST_CASE("a mixture of SAEs as BioNeMo trains it: naive loops in double") {
  follow_routed<plmscope::reference>("reference");
}
TEST_CASE("a mixture of SAEs as BioNeMo trains it: cpu kernels in double") {
  follow_routed<plmscope::basic_cpu<double, plmscope::eigen_gemm>>("cpu double");
}
TEST_CASE("a mixture of SAEs as BioNeMo trains it: cpu kernels in float") {
  follow_routed<plmscope::cpu>("cpu");
}
TEST_CASE("a mixture of SAEs as BioNeMo trains it: device kernels in double") {
  follow_routed<devices::twice>((std::string(devices::name) + " double").c_str());
}
TEST_CASE("a mixture of SAEs as BioNeMo trains it: device kernels in float") {
  follow_routed<devices::single>(devices::name);
}
TEST_CASE("the mixture that BioNeMo trained computes what it did there") {
  computes_theirs<plmscope::reference>();
  computes_theirs<plmscope::cpu>();
  computes_theirs<devices::single>();
}
