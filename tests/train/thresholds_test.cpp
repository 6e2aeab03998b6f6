// SPDX-License-Identifier: MIT
// What has no derivative: the thresholds of JumpReLU against their published pseudo-gradients written
// out over all entries, and the gate's frozen decoder.
#include <tests/devices.hpp>
#include <tests/train/random_numbers.hpp>

#include <plmscope/backend/reference.hpp>
#include <plmscope/sae/sae.hpp>
#include <plmscope/sae/sparsifiers/batch_top_k.hpp>
#include <plmscope/sae/sparsifiers/gated.hpp>
#include <plmscope/sae/sparsifiers/jump_relu.hpp>
#include <plmscope/train/trainer.hpp>

#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <span>
#include <vector>

namespace {

using plmscope::const_view;
using plmscope::jump_kernel;
using plmscope::reference;
using numbers = std::vector<double>;
constexpr std::size_t m = 12, d = 5, F = 16;

template <class Sae>
void fill(Sae& model) {
  std::uint64_t stream = 20;
  model.parameters().for_each([&](const std::string& name, auto& p) {
    const bool small = name == "threshold" || name == "gate_bias" || name == "gate_scale";
    const auto v = random_numbers(8, p.size(), ++stream, small ? 0.1 : 0.5, name == "threshold" ? 0.3 : 0);
    model.backend().upload(std::span<const double>(v), p.all());
  });
}

template <class Sae>
numbers gradient_of(Sae& model, auto policies, const numbers& x, const std::string& name) {
  using backend = typename Sae::backend_type;
  policies.clip = 0;
  plmscope::training_run<Sae, decltype(policies)> run(model, policies);
  plmscope::matrix<typename backend::real, backend> rows(model.backend(), m, d);
  model.backend().upload(std::span<const double>(x), rows.all());
  run.step(rows.all(), 0.0);
  numbers out;
  run.gradient().for_each([&](const std::string& n, const auto& g) {
    if (n != name) return;
    out.resize(g.size());
    model.backend().download(const_view<backend>(g), std::span<double>(out));
  });
  return out;
}

double kernel(jump_kernel k, double u) {
  if (std::abs(u) >= 0.5) return 0;
  switch (k) {
    case jump_kernel::rectangle: return 1;
    case jump_kernel::triangle: return 2 - 4 * std::abs(u);
    case jump_kernel::epanechnikov: return 1.5 * (1 - 4 * u * u);
  }
  return 0;
}

}  // namespace

TEST_CASE("kernels of the thresholds integrate to 1 and are symmetric") {
  for (const auto k : {jump_kernel::rectangle, jump_kernel::triangle, jump_kernel::epanechnikov}) {
    double sum = 0;
    for (int i = 0; i < 20000; ++i) {
      const double u = (i + 0.5) / 20000 - 0.5;
      sum += plmscope::kernel_at(k, u) / 20000;
      CHECK(plmscope::kernel_at(k, u) == doctest::Approx(plmscope::kernel_at(k, -u)));
    }
    CHECK(sum == doctest::Approx(1).epsilon(1e-6));
    CHECK(plmscope::kernel_at(k, 0.5) == 0);
  }
}

TEST_CASE("JumpReLU: gradients of thresholds and encoder are the published pseudo-gradients") {
  const auto x = random_numbers(8, m * d, 1, 1.2, 0.3);
  const auto check = [&]<class B>(plmscope::jump_relu s, B) {
    using sae = plmscope::sae<plmscope::jump_relu, B>;
    typename sae::options o;
    o.d_model = d, o.features = F, o.sparsifier = s;
    sae model(o);
    fill(model);
    const double weight = 0.7;
    const plmscope::trainer with{.penalty = plmscope::l0_penalty{.weight = {weight}, .target = 3},
                                 .dead = plmscope::aux_k{.alpha = 0},
                                 .dictionary = plmscope::free_norm{}};
    // everything once more, densely
    numbers p[5];
    std::size_t at = 0;
    model.parameters().for_each([&](const char*, auto& v) {
      p[at].resize(v.size());
      model.backend().download(const_view<B>(v), std::span<double>(p[at++]));
    });
    numbers theta = p[4];
    if (s.log_thresholds) {
      for (double& t : theta) t = std::exp(t);
    }
    numbers a(m * F), z(m * F), e(m * d), dz(m * F);
    double active = 0;
    for (std::size_t r = 0; r < m; ++r) {
      for (std::size_t f = 0; f < F; ++f) {
        a[r * F + f] = p[2][f];
        for (std::size_t j = 0; j < d; ++j) {
          a[r * F + f] += (x[r * d + j] - p[3][j]) * p[0][f * d + j];
        }
        if (a[r * F + f] > theta[f]) z[r * F + f] = a[r * F + f], active += 1;
      }
      for (std::size_t j = 0; j < d; ++j) {
        e[r * d + j] = p[3][j] - x[r * d + j];
        for (std::size_t f = 0; f < F; ++f) e[r * d + j] += z[r * F + f] * p[1][f * d + j];
      }
      for (std::size_t f = 0; f < F; ++f) {
        for (std::size_t j = 0; j < d; ++j) {
          dz[r * F + f] += 2.0 / m * e[r * d + j] * p[1][f * d + j];
        }
      }
    }
    const double slope = weight * 2 * (active / m / 3 - 1) / 3 / m;
    numbers d_theta(F), d_encoder(F * d);
    for (std::size_t f = 0; f < F; ++f) {
      for (std::size_t r = 0; r < m; ++r) {
        const double u = (a[r * F + f] - theta[f]) / s.bandwidth;
        const double ste = theta[f] / s.bandwidth * kernel(s.kernel, u) * dz[r * F + f];
        const double at_value = (z[r * F + f] - theta[f]) / s.bandwidth;
        d_theta[f] -= ste + kernel(s.kernel, s.l0_of_values ? at_value : u) / s.bandwidth * slope;
        const double da = (z[r * F + f] != 0 ? dz[r * F + f] : 0) + (s.reaches_input ? ste : 0);
        for (std::size_t j = 0; j < d; ++j) d_encoder[f * d + j] += da * (x[r * d + j] - p[3][j]);
      }
      if (s.log_thresholds && !s.without_chain) d_theta[f] *= theta[f];
    }
    const auto same = [&](const std::string& name, const numbers& exact) {
      const auto ours = gradient_of(model, with, x, name);
      REQUIRE(ours.size() == exact.size());
      double moved = 0;
      for (std::size_t i = 0; i < exact.size(); ++i) {
        CHECK(ours[i] == doctest::Approx(exact[i]).epsilon(1e-9).scale(1));
        moved += std::abs(exact[i]);
      }
      CHECK(moved > 0);
    };
    same("threshold", d_theta);
    same("encoder", d_encoder);
  };
  for (const auto k : {jump_kernel::rectangle, jump_kernel::triangle, jump_kernel::epanechnikov}) {
    for (const bool reaches : {false, true}) {
      for (const bool at_values : {false, true}) {
        plmscope::jump_relu s{.bandwidth = 0.9, .kernel = k, .reaches_input = reaches,
                              .clamp_at_zero = false, .l0_of_values = at_values};
        check(s, reference());
        check(s, devices::twice());
        s.log_thresholds = true;
        check(s, reference());
      }
    }
  }
}

TEST_CASE("JumpReLU: thresholds move under Adam at its default rate, and stay at zero or above") {
  using sae = plmscope::sae<plmscope::jump_relu, reference>;
  sae::options o;
  o.d_model = d, o.features = F, o.sparsifier = {.bandwidth = 0.5, .initial_threshold = 0.01};
  sae model(o);
  const auto x = random_numbers(8, m * d, 1, 1.2, 0.3);
  const plmscope::trainer with{.penalty = plmscope::l0_penalty{.weight = {1.0}, .target = 2}};
  plmscope::training_run<sae, std::remove_const_t<decltype(with)>> run(model, with);
  plmscope::matrix<double, reference> rows(model.backend(), m, d);
  model.backend().upload(std::span<const double>(x), rows.all());
  for (int i = 0; i < 200; ++i) run.step(rows.all(), with.optimizer.lr);
  double most = 0;
  for (std::size_t f = 0; f < F; ++f) {
    const double t = model.parameters().latent[0].values.data()[f];
    most = std::max(most, t);
    CHECK(t > -1e-3);
  }
  CHECK(most > 0.03);  // 200 steps of about 2e-4
}

TEST_CASE("gated: the auxiliary reconstruction trains the gate, not the decoder") {
  using sae = plmscope::sae<plmscope::gated, reference>;
  const auto x = random_numbers(8, m * d, 1, 1.2, 0.3);
  const plmscope::trainer with{.penalty = plmscope::l1_penalty{.weight = {0.2}, .length = plmscope::penalised_length::none},
                               .dead = plmscope::aux_k{.alpha = 0},
                               .dictionary = plmscope::free_norm{}};
  const auto gradients = [&](bool trains, const std::string& name) {
    sae::options o;
    o.d_model = d, o.features = F, o.sparsifier = {.auxiliary_trains_decoder = trains};
    sae model(o);
    fill(model);
    return gradient_of(model, with, x, name);
  };
  for (const char* name : {"encoder", "encoder_bias", "gate_bias", "gate_scale"}) {
    CHECK(gradients(true, name) == gradients(false, name));
  }
  // the decoder's gradient is that of the main reconstruction alone
  sae::options o;
  o.d_model = d, o.features = F;
  sae model(o);
  fill(model);
  const auto& p = model.parameters();
  numbers exact(F * d);
  for (std::size_t r = 0; r < m; ++r) {
    numbers z(F), e(d);
    for (std::size_t f = 0; f < F; ++f) {
      double pi = 0;
      for (std::size_t j = 0; j < d; ++j) {
        pi += (x[r * d + j] - p.decoder_bias.data()[j]) * p.encoder(f, j);
      }
      const double gate = pi + p.latent[0].values.data()[f];
      const double size = std::exp(p.latent[1].values.data()[f]) * pi + p.encoder_bias.data()[f];
      z[f] = gate > 0 && size > 0 ? size : 0;
    }
    for (std::size_t j = 0; j < d; ++j) {
      e[j] = p.decoder_bias.data()[j] - x[r * d + j];
      for (std::size_t f = 0; f < F; ++f) e[j] += z[f] * p.decoder(f, j);
    }
    for (std::size_t f = 0; f < F; ++f) {
      for (std::size_t j = 0; j < d; ++j) exact[f * d + j] += 2.0 / m * z[f] * e[j];
    }
  }
  const auto ours = gradients(false, "decoder");
  for (std::size_t i = 0; i < exact.size(); ++i) {
    CHECK(ours[i] == doctest::Approx(exact[i]).epsilon(1e-10).scale(1));
  }
  CHECK(gradients(true, "decoder") != ours);
}

TEST_CASE("BatchTopK: fractional k, fewer positives than k, ties, and the running threshold") {
  plmscope::matrix<double, reference> pre;
  reference be;
  pre = plmscope::matrix<double, reference>(be, 4, 3);
  const numbers values{5, 1, -1, 4, 4, 0.5, 4, -2, -3, 0.1, 0.2, 4};
  be.upload(std::span<const double>(values), pre.all());
  const plmscope::sae_parameters<reference> none;
  for (const auto& [k, expected] : {std::pair{0.75, 3u}, {1.3, 5u}, {1.0, 4u}, {3.0, 9u}}) {
    plmscope::batch_top_k s{.k = k, .first_step = 0, .from_zero = true};
    auto state = s.start(be);
    plmscope::codes<reference> z(be, 3);
    s.candidates(be, const_view<reference>(pre), {none, 4, {}}, z, state);
    CHECK(z.entries() == expected);  // of ties at 4 the earlier rows first; nothing below zero
    s.observe(be, state);
    s.finish(be, state);
    // the smallest value kept enters with 1 - smoothing; with too few positives 0 does
    const double smallest = k == 3.0 ? 0 : 4;
    CHECK(s.threshold == doctest::Approx(0.001 * smallest));
  }
}
