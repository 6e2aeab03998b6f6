// SPDX-License-Identifier: MIT
#pragma once

#include <tests/devices.hpp>
#include <tests/golden.hpp>
#include <tests/train/peer_run.hpp>

#include <plmscope/backend/reference.hpp>
#include <plmscope/io/safetensors.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>
#include <vector>

// Compares a run of ours with the stored trajectory of another library, step by step.
namespace peers {

struct deviation {
  double worst = 0;  // largest deviation as a share of its limit
  double value = 0;
  double limit = 1;
  void add(double v, double l) {
    if (!(v / l <= worst)) worst = v / l, value = v, limit = l;
  }
};

inline double limit_after(const json& config, bool in_double, const std::string& step) {
  const json& p = config.at("perturbation");
  if (p.contains("init_perturbed_by_1e_15")) {
    return in_double
               ? p.at("init_perturbed_by_1e_15").at("suggested_rtol_after_step_float64").at(step)
               : p.at("init_perturbed_by_1e_7").at("suggested_rtol_after_step_float32").at(step);
  }
  return p.at(in_double ? "suggested_rtol_after_step" : "suggested_rtol_float32_after_step")
      .at(step);
}

// max |a - b| / max |b|, over the stored rows
inline double relative(const std::vector<double>& ours, const std::vector<double>& theirs,
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

/// With `strict` losses and codes keep their limits even then.
/// In single precision another entry may rightly be active, where a pre-activation is nearer to its
/// threshold than rounding; what follows then differs more. `exact`, the same run in double, tells.
template <class B>
deviation follow(const std::filesystem::path& folder, const json& config, run<B>& peer,
                 run<plmscope::reference>* exact, double at_least, double unresolved_limit,
                 bool strict) {
  using real = typename B::real;
  const bool in_double = sizeof(real) == 8;
  const auto trajectory = plmscope::safetensors_file::open(folder / "trajectory.safetensors");
  const std::string data = config.at("data").at("batches");
  const auto batches = plmscope::safetensors_file::open(folder / data.substr(0, data.find(':')));
  const auto x = batches.read_vector<double>("x");
  const auto y = batches.contains("y") ? batches.read_vector<double>("y") : std::vector<double>{};
  const std::size_t m = batches.require("x").shape[1];
  const std::size_t d = batches.require("x").shape[2];
  auto& be = peer.backend();
  plmscope::matrix<real, B> batch(be, m, d);
  plmscope::matrix<real, B> target(be, y.empty() ? 0 : m, y.empty() ? 0 : y.size() / x.size() * d);
  const auto loss = trajectory.template read_vector<double>("loss");
  const auto weight_rows = trajectory.template read_vector<std::int64_t>("weight_rows");
  plmscope::reference host_backend;
  plmscope::matrix<double, plmscope::reference> same_x(host_backend, m, d);
  plmscope::matrix<double, plmscope::reference> same_y(host_backend, target.rows(), target.cols());
  bool unresolved = false;
  deviation worst;
  for (std::size_t s = 0; s < loss.size(); ++s) {
    be.upload(std::span<const double>(x).subspan(s * m * d, m * d), batch.all());
    if (!y.empty()) {
      be.upload(std::span<const double>(y).subspan(s * target.size(), target.size()), target.all());
    }
    peer.step(batch.all(), target.all(), s);
    if (exact != nullptr) {
      std::copy_n(x.begin() + static_cast<std::ptrdiff_t>(s * m * d), m * d, same_x.data());
      if (!y.empty()) {
        std::copy_n(y.begin() + static_cast<std::ptrdiff_t>(s * target.size()), target.size(),
                    same_y.data());
      }
      exact->step(same_x.all(), same_y.all(), s);
      unresolved = unresolved || exact->active() != peer.active();
    }
    const double apart = std::abs(peer.loss() - loss[s]) / std::abs(loss[s]);
    if (std::getenv("PLMSCOPE_TRACE")) std::printf("  step %zu loss %.3g\n", s, apart);
    const auto allowed = [&](const std::string& what) {
      const double limit = std::max(limit_after(config, in_double, what), at_least);
      return unresolved ? std::max(limit, unresolved_limit) : limit;
    };
    worst.add(apart, strict ? std::max(limit_after(config, in_double, "loss"), at_least)
                            : allowed("loss"));
    char prefix[16];
    std::snprintf(prefix, sizeof prefix, "step%02zu.", s + 1);
    peer.parameters([&](const std::string& name, const_view<B> ours) {
      const std::string key = prefix + peer_name(name, trajectory);
      if (!trajectory.contains(key)) return;
      const auto theirs = read(trajectory, key);
      std::vector<double> host(ours.size());
      be.download(ours, std::span<double>(host));
      const bool part = ours.rows() > 1 && theirs.size() < host.size();
      const double value = relative(host, theirs, part ? weight_rows : std::vector<std::int64_t>{},
                                    part ? ours.cols() : host.size());
      if (std::getenv("PLMSCOPE_TRACE")) std::printf("    %s %.3g\n", key.c_str(), value);
      worst.add(value, allowed(std::to_string(s + 1)));
    });
  }
  const auto theirs = trajectory.template read_vector<double>("codes");
  const double codes = relative(peer.codes(batch.all()), theirs, {}, theirs.size());
  if (!unresolved || strict) CHECK_MESSAGE(codes < (in_double ? 1e-6 : 1e-3), "codes");
  return worst;
}

/// Follows every stored run that `make(config, init)` knows. Returns how many.
template <class B, class Make>
std::size_t walk(const char* label, const Make& make) {
  std::size_t n = 0;
  for (const auto& folder : golden::folders("sae_goldens", "config.json")) {
    if (const char* only = std::getenv("PLMSCOPE_ONLY")) {
      if (folder.filename().string().find(only) == std::string::npos) continue;
    }
    std::ifstream in(folder / "config.json");
    const json config = json::parse(std::string(std::istreambuf_iterator<char>(in), {}));
    INFO(folder.string(), " on ", std::string(label));
    const auto init = plmscope::safetensors_file::open(folder / "init.safetensors");
    const std::unique_ptr<run<B>> peer = make.template operator()<B>(config, init);
    if (peer == nullptr) continue;
    ++n;
    std::unique_ptr<run<plmscope::reference>> exact;
    if (sizeof(typename B::real) < sizeof(double)) {
      exact = make.template operator()<plmscope::reference>(config, init);
    }
    double at_least = 0;
    if constexpr (requires { make.single_precision_limit(config); }) {
      if (exact != nullptr) at_least = make.single_precision_limit(config);
    }
    double unresolved_limit = 5e-2;
    bool strict = false;
    if constexpr (requires { make.unresolved_limit(); }) {
      unresolved_limit = make.unresolved_limit();
      strict = true;
    }
    const deviation d =
        follow<B>(folder, config, *peer, exact.get(), at_least, unresolved_limit, strict);
    golden::report(folder / label, d.value, d.limit);
  }
  return n;
}

}  // namespace peers
