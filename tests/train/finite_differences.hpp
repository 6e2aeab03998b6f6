// SPDX-License-Identifier: MIT
#pragma once

#include <tests/devices.hpp>
#include <tests/train/random_numbers.hpp>

#include <plmscope/backend/cpu.hpp>
#include <plmscope/backend/reference.hpp>
#include <plmscope/sae/sae.hpp>
#include <plmscope/tensor/host_codes.hpp>
#include <plmscope/train/trainer.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

// The gradient of a whole training step against finite differences of its loss, in double, and the
// same gradient from other kernels.
namespace differences {

using plmscope::const_view;
using plmscope::reference;
using numbers = std::vector<double>;

inline constexpr std::size_t rows = 9, d = 6, features = 24;

// A model with random numbers everywhere, and one step of it at rate 0.
template <class S, class B, class Policies>
struct bench_run {
  using sae = plmscope::sae<S, B>;
  sae model;
  Policies policies;
  plmscope::matrix<typename B::real, B> x, y;

  bench_run(typename sae::options o, Policies p)
      : model(std::move(o)),
        policies(std::move(p)),
        x(model.backend(), rows, model.d_model()),
        y(model.backend(), rows, model.d_out()) {
    B& be = model.backend();
    std::uint64_t stream = 10;
    model.parameters().for_each([&](const std::string& name, auto& m) {
      const bool threshold = name == "threshold";
      const auto v = random_numbers(5, m.size(), ++stream, threshold ? 0.05 : 0.4, threshold ? 0.3 : 0);
      be.upload(std::span<const double>(v), m.all());
    });
    be.upload(std::span<const double>(random_numbers(5, x.size(), 1, 1.3, 0.4)), x.all());
    be.upload(std::span<const double>(random_numbers(5, y.size(), 2, 0.8, -0.2)), y.all());
  }

  using run_type = plmscope::training_run<sae, Policies>;
  std::vector<numbers> gradient;
  std::vector<std::int64_t> list;

  double loss() {
    run_type run(model, policies);
    run.step(x.all(), 0.0, model.settings().transcodes ? const_view<B>(y) : const_view<B>());
    gradient.clear();
    run.gradient().for_each([&](const char*, const auto& g) {
      numbers host(g.size());
      model.backend().download(const_view<B>(g), std::span<double>(host));
      gradient.push_back(host);
    });
    const auto z = plmscope::to_host(model.backend(), run.last_codes());
    list.assign(z.ids.begin(), z.ids.end());
    list.insert(list.end(), z.offsets.begin(), z.offsets.end());
    for (const auto v : z.values) list.push_back(v != 0);
    return run.metrics().loss;
  }
};

template <class Policies>
Policies still(Policies p) {
  p.clip = 0;
  return p;
}

// The largest |analytic - numeric| / (|numeric| + scale) over some entries of every parameter but
// those named.
template <class S, class Policies>
double worst_against_differences(typename plmscope::sae<S, reference>::options o, Policies p,
                                 const std::vector<std::string>& without = {}) {
  bench_run<S, reference, Policies> b(o, still(p));
  b.loss();
  const auto gradient = b.gradient;
  const auto list = b.list;
  CHECK(list.size() > rows + 1);
  double largest = 0;
  for (const auto& g : gradient) {
    for (const double v : g) largest = std::max(largest, std::abs(v));
  }
  double worst = 0;
  std::size_t i = 0;
  std::size_t tried = 0;
  b.model.parameters().for_each([&](const std::string& name, auto& m) {
    const numbers& g = gradient[i++];
    if (std::find(without.begin(), without.end(), name) != without.end()) return;
    const std::size_t stride = std::max<std::size_t>(1, m.size() / 40);
    for (std::size_t k = 0; k < m.size(); k += stride) {
      const double at = m.data()[k];
      const double h = 1e-5;
      m.data()[k] = at + h;
      const double up = b.loss();
      const bool same_up = b.list == list;
      m.data()[k] = at - h;
      const double down = b.loss();
      const bool same_down = b.list == list;
      m.data()[k] = at;
      if (!same_up || !same_down) continue;  // another selection: not differentiable there
      ++tried;
      const double numeric = (up - down) / (2 * h);
      const double off = std::abs(g[k] - numeric) / (std::abs(numeric) + 1e-3 * largest);
      CAPTURE(name);
      CAPTURE(k);
      CAPTURE(numeric);
      CAPTURE(g[k]);
      CHECK(off < 1e-5);
      worst = std::max(worst, off);
    }
  });
  CHECK(tried > (without.size() > 1 ? 40 : 60));
  return worst;
}

// The same gradient from other kernels.
template <class S, class B, class Policies>
void same_as_reference(typename plmscope::sae<S, reference>::options o, Policies p) {
  bench_run<S, reference, Policies> exact(o, still(p));
  exact.loss();
  typename plmscope::sae<S, B>::options other;
  other.d_model = o.d_model, other.features = o.features, other.sparsifier = o.sparsifier;
  other.normalize = o.normalize, other.d_out = o.d_out, other.normalize_out = o.normalize_out;
  other.centring = o.centring, other.unit_input = o.unit_input, other.skip = o.skip;
  other.transcodes = o.transcodes, other.lengths = o.lengths, other.blocks = o.blocks;
  bench_run<S, B, Policies> same(other, still(p));
  same.loss();
  for (std::size_t i = 0; i < exact.gradient.size(); ++i) {
    double apart = 0, size = 0;
    for (std::size_t k = 0; k < exact.gradient[i].size(); ++k) {
      apart = std::max(apart, std::abs(exact.gradient[i][k] - same.gradient[i][k]));
      size = std::max(size, std::abs(exact.gradient[i][k]));
    }
    CHECK(apart <= 1e-11 * (size + 1));
  }
}

template <class S, class Policies>
void check(typename plmscope::sae<S, reference>::options o, Policies p,
           const std::vector<std::string>& without = {}) {
  worst_against_differences<S>(o, p, without);
  same_as_reference<S, plmscope::basic_cpu<double, plmscope::eigen_gemm>>(o, p);
  same_as_reference<S, devices::twice>(o, p);
}

template <class S>
typename plmscope::sae<S, reference>::options options(S s = {}) {
  typename plmscope::sae<S, reference>::options o;
  o.d_model = d, o.features = features, o.sparsifier = s;
  return o;
}

inline const plmscope::aux_k quiet{.alpha = 0};

}  // namespace differences
