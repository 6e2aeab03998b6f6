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
    const json& n = config.at("neutral");
    auto options = shape_of<sae>(config);
    options.sparsifier = {.k = n.at("activation").at("k"),
                          .experts = n.at("experts").at("n"),
                          .chosen = n.at("experts").at("active"),
                          .router_bias = false,
                          .share_gates = true,
                          .block_biases = true,
                          .balance = n.at("loss").at("load_balance").at("coefficient"),
                          .entropy = n.at("loss").at("router_entropy").at("coefficient")};
    options.centring = plmscope::input_centring::none;
    options.normalize = {.kind = plmscope::normalization::token_layer_norm,
                         .epsilon = 1e-8,
                         .inverse_epsilon = 1e-8,
                         .ddof = 1};
    plmscope::trainer t{
        .optimizer = adam_of(config),
        .loss =
            plmscope::mean_squared_error{.over = plmscope::mean_squared_error::dimensions::averaged,
                                         .space = plmscope::loss_space::raw},
        .dead = plmscope::aux_k{.alpha = 0},
        .dictionary = plmscope::unit_norm{.project = plmscope::unit_norm::projection::none}};
    return start<sae>(options, t, config, init, [](auto& d) {
      // Their codes are without gates.
      d.encode = [](auto& self, auto x, auto& codes) {
        auto& be = self.model.backend();
        self.model.encode(x, codes);
        std::vector<double> rows(x.size());
        be.download(x, std::span<double>(rows));
        const auto& s = self.model.sparsifier();
        const auto gates = gates_of(rows, numbers_of(be, self.model.parameters().latent[0].values),
                                    x.cols(), s.chosen);
        const auto z = plmscope::to_host(be, codes);
        std::vector<double> values(z.values.begin(), z.values.end());
        const std::size_t width = z.features / s.experts;
        for (std::size_t r = 0; r < z.rows(); ++r) {
          for (auto e = static_cast<std::size_t>(z.offsets[r]);
               e < static_cast<std::size_t>(z.offsets[r + 1]); ++e) {
            values[e] /= gates[r * s.experts + z.ids[e] / width];
          }
        }
        be.upload(std::span<const double>(values),
                  plmscope::view<B>(codes.values(), values.size()));
      };
    });
  }
};

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
