// SPDX-License-Identifier: MIT
// Training trajectories of other libraries' TopK trainers, from fixed weights on fixed batches,
// reproduced step by step. Each run is built from its config.json alone.
#include <tests/devices.hpp>
#include <tests/golden.hpp>
#include <tests/train/peer_topk.hpp>

#include <plmscope/backend/reference.hpp>
#include <plmscope/io/safetensors.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

namespace {

using json = nlohmann::json;

std::string golden_text(const std::filesystem::path& path) {
  std::ifstream in(path);
  return {std::istreambuf_iterator<char>(in), {}};
}

struct deviation {
  double worst = 0;  // largest deviation as a share of its limit
  double value = 0;
  double limit = 1;
  void add(double v, double l) {
    if (!(v / l <= worst)) worst = v / l, value = v, limit = l;
  }
};

double limit_after(const json& config, bool in_double, const std::string& step) {
  const json& p = config.at("perturbation");
  if (p.contains("init_perturbed_by_1e_15")) {
    return in_double ? p.at("init_perturbed_by_1e_15").at("suggested_rtol_after_step_float64").at(step).get<double>()
                     : p.at("init_perturbed_by_1e_7").at("suggested_rtol_after_step_float32").at(step).get<double>();
  }
  return p.at(in_double ? "suggested_rtol_after_step" : "suggested_rtol_float32_after_step").at(step).get<double>();
}

// max |a - b| / max |b|, over the stored rows
double relative(const std::vector<double>& ours, const std::vector<double>& theirs,
                const std::vector<std::int64_t>& rows, std::size_t width) {
  double worst = 0;
  double largest = 0;
  for (std::size_t i = 0; i < theirs.size(); ++i) {
    const std::size_t r = rows.empty() ? i / width : static_cast<std::size_t>(rows[i / width]);
    worst = std::max(worst, std::abs(ours[r * width + i % width] - theirs[i]));
    largest = std::max(largest, std::abs(theirs[i]));
  }
  return largest > 0 ? worst / largest : worst;
}

template <class Sae>
deviation follow(const std::filesystem::path& folder, const json& config) {
  using backend = typename Sae::backend_type;
  using real = typename Sae::real;
  const bool in_double = sizeof(real) == 8;
  const auto init = plmscope::safetensors_file::open(folder / "init.safetensors");
  const auto trajectory = plmscope::safetensors_file::open(folder / "trajectory.safetensors");
  const std::string data = config.at("data").at("batches");
  const auto batches =
      plmscope::safetensors_file::open(folder / data.substr(0, data.find(':')));
  const auto x = batches.read_vector<double>("x");
  const auto& shape = batches.require("x").shape;
  const std::size_t m = shape[1];
  const std::size_t d = shape[2];

  const auto peer = peer_topk::make<Sae>(config, init);
  CHECK_MESSAGE(peer != nullptr, "no composition for this library yet");
  if (peer == nullptr) return {};
  auto& be = peer->model.backend();
  plmscope::matrix<real, backend> batch(be, m, d);
  const auto loss = trajectory.template read_vector<double>("loss");
  const auto weight_rows = trajectory.template read_vector<std::int64_t>("weight_rows");
  // Where the last selected and the first rejected value differ by less than single precision
  // resolves, a run in float may rightly take the other latent; later parameters then differ more.
  const auto margins = trajectory.contains("select_margin")
                           ? trajectory.template read_vector<double>("select_margin")
                           : std::vector<double>(loss.size(), 1.0);
  bool unresolved = false;
  deviation worst;
  for (std::size_t s = 0; s < loss.size(); ++s) {
    be.upload(std::span<const double>(x).subspan(s * m * d, m * d), batch.all());
    peer->step(batch.all(), s);
    unresolved = unresolved || (!in_double && margins[s] < 2.5e-7);
    const double ours = peer->loss();
    worst.add(std::abs(ours - loss[s]) / std::abs(loss[s]), limit_after(config, in_double, "loss"));
    char prefix[16];
    std::snprintf(prefix, sizeof prefix, "step%02zu.", s + 1);
    peer->model.parameters().for_each([&](const std::string& name, const auto& ours_matrix) {
      const std::string key = prefix + peer_topk::peer_name(name, trajectory);
      if (!trajectory.contains(key)) return;
      const auto theirs = trajectory.template read_vector<double>(key);
      std::vector<double> host(ours_matrix.size());
      be.download(plmscope::const_view<backend>(ours_matrix), std::span<double>(host));
      const bool part = ours_matrix.rows() > 1 && theirs.size() < host.size();
      const double value = relative(host, theirs, part ? weight_rows : std::vector<std::int64_t>{},
                                    part ? d : host.size());
      const double limit = limit_after(config, in_double, std::to_string(s + 1));
      worst.add(value, unresolved ? std::max(limit, 1e-3) : limit);
    });
  }
  CHECK(peer->code_deviation(trajectory, batch.all()) < (in_double ? 1e-6 : 1e-3));
  return worst;
}

template <class Backend>
void walk(const char* label) {
  for (const auto& folder : golden::folders("sae_goldens", "config.json")) {
    const json config = json::parse(golden_text(folder / "config.json"));
    if (config.at("neutral").at("architecture") != "topk") continue;
    INFO(folder.string(), " on ", std::string(label));
    const deviation d = follow<plmscope::sae<plmscope::top_k, Backend>>(folder, config);
    golden::report(folder / label, d.value, d.limit);
  }
}

}  // namespace

TEST_CASE("TopK trainers of other libraries: naive loops in double") { walk<plmscope::reference>("reference"); }
TEST_CASE("TopK trainers of other libraries: cpu kernels in double") {
  walk<plmscope::basic_cpu<double, plmscope::eigen_gemm>>("cpu double");
}
TEST_CASE("TopK trainers of other libraries: cpu kernels in float") { walk<plmscope::cpu>("cpu"); }
TEST_CASE("TopK trainers of other libraries: device kernels in double") {
  walk<devices::twice>((std::string(devices::name) + " double").c_str());
}
TEST_CASE("TopK trainers of other libraries: device kernels in float") {
  walk<devices::single>(devices::name);
}
