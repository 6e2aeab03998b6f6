// SPDX-License-Identifier: MIT
// The archetypal dictionary against overcomplete's (golden/archetypal.py), its gradients against
// finite differences of a whole step, what it keeps to, and what it refuses.
#include <tests/devices.hpp>
#include <tests/golden.hpp>
#include <tests/train/planted.hpp>
#include <tests/train/random_numbers.hpp>
#include <tests/train/stored_numbers.hpp>

#include <plmscope/backend/cpu.hpp>
#include <plmscope/backend/reference.hpp>
#include <plmscope/io/safetensors.hpp>
#include <plmscope/train/policy_text.hpp>
#include <plmscope/train/trainer.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace {

using namespace plmscope;
using stored::host;
using stored::numbers;
using stored::read;
using in_double = basic_cpu<double, eigen_gemm>;
constexpr std::size_t d = 6, features = 12, count = 20;

// The largest distance of a dictionary to that of overcomplete before every step and at the end.
template <class B>
double worst(const safetensors_file& file, const std::string& name, double rate,
             archetypal policy) {
  B be;
  policy.points = read(file, "points");
  const auto gradients = read(file, "gradients"), want = read(file, name);
  sae_parameters<B> p(be, features, d), g(be, features, d);
  dictionary_training<archetypal, B> run(be, policy, p);
  double off = 0;
  const auto compare = [&](std::size_t step) {
    const auto got = host(be, p.decoder);
    for (std::size_t i = 0; i < got.size(); ++i) {
      off = golden::worse(off, std::abs(got[i] - want[step * got.size() + i]));
    }
  };
  const std::size_t steps = gradients.size() / (features * d);
  for (std::size_t step = 0; step < steps; ++step) {
    run.before_forward(policy, be, p);
    compare(step);
    be.upload(std::span<const double>(gradients).subspan(step * features * d, features * d),
              g.decoder.all());
    run.before_clip(policy, be, p, g);
    for (const double v : host(be, g.decoder)) CHECK(v == 0);
    run.step(policy, be, rate, {});
    run.after_step(policy, be, p);
  }
  compare(steps);
  return off;
}

// One step of a model at rate 0 with the dictionary's parameters as they are given.
struct one_step {
  double loss = 0;
  numbers weights, relaxation, log_scale;  // gradients
};
template <class B>
one_step step_of(const numbers& weights, const numbers& relaxation, double log_scale) {
  sae<top_k, B> model({.d_model = d, .features = features, .sparsifier = {.k = 3}});
  auto& be = model.backend();
  be.upload(std::span<const double>(random_numbers(5, features * d, 3, 0.4)),
            model.parameters().encoder.all());
  matrix<typename B::real, B> x(be, 9, d);
  be.upload(std::span<const double>(random_numbers(5, x.size(), 1, 1.3, 0.4)), x.all());
  training_run run(
      model, trainer{.penalty = l1_penalty{.weight = {0.2}},
                     .dead = aux_k{.alpha = 0},
                     .dictionary = archetypal{.points = random_numbers(5, count * d, 2, 1.0)}});
  auto& s = run.dictionary_state();
  be.upload(std::span<const double>(weights), s.weights.value.all());
  be.upload(std::span<const double>(relaxation), s.relaxation.value.all());
  be.upload(std::span<const double>(&log_scale, 1), s.log_scale.value.all());
  run.step(x.all(), 0.0);
  return {run.metrics().loss, host(be, s.weights.gradient), host(be, s.relaxation.gradient),
          host(be, s.log_scale.gradient)};
}

}  // namespace

TEST_CASE("dictionaries are those of overcomplete") {
  const auto path = golden::repository() / "tests/train/golden/archetypal.safetensors";
  const auto file = safetensors_file::open(path);
  const auto each = [&](const std::string& name, double rate, const archetypal& policy) {
    const auto on = [&]<class B>(B*, double limit) {
      golden::report(path.string() + " " + name + " " + std::string(B::id),
                     worst<B>(file, name, rate, policy), limit);
    };
    // Theirs divides weights by their sum and 1e-8 more.
    on(static_cast<reference*>(nullptr), 2e-7);
    on(static_cast<in_double*>(nullptr), 2e-7);
    on(static_cast<devices::twice*>(nullptr), 2e-7);
    on(static_cast<cpu*>(nullptr), 1e-5);
    on(static_cast<devices::single*>(nullptr), 1e-5);
  };
  each("relaxed", 0.02, {.delta = 0.05});
  each("wide", 0.01, {});
  each("plain", 0.03, {.delta = 0.1, .multiplier = false});
}

TEST_CASE("gradients are finite differences of a training step, on every backend") {
  const auto weights = random_numbers(7, features * count, 1, 0.2, 0.1);
  const auto relaxation = random_numbers(7, features * d, 2, 0.3);
  const double log_scale = 0.3, h = 1e-6;
  const auto at = step_of<reference>(weights, relaxation, log_scale);
  const auto near = [](double analytic, double up, double down, double step) {
    const double numeric = (up - down) / (2 * step);
    CHECK(std::abs(analytic - numeric) < 1e-6 * (std::abs(numeric) + 1e-2));
  };
  for (std::size_t i = 0; i < weights.size(); i += 5) {
    auto up = weights, down = weights;
    up[i] += h, down[i] -= h;
    near(at.weights[i], step_of<reference>(up, relaxation, log_scale).loss,
         step_of<reference>(down, relaxation, log_scale).loss, h);
  }
  for (std::size_t i = 0; i < relaxation.size(); i += 3) {
    auto up = relaxation, down = relaxation;
    up[i] += h, down[i] -= h;
    near(at.relaxation[i], step_of<reference>(weights, up, log_scale).loss,
         step_of<reference>(weights, down, log_scale).loss, h);
  }
  near(at.log_scale[0], step_of<reference>(weights, relaxation, log_scale + h).loss,
       step_of<reference>(weights, relaxation, log_scale - h).loss, h);
  const auto same = [&](const one_step& other) {
    for (std::size_t i = 0; i < weights.size(); ++i) {
      CHECK(other.weights[i] == doctest::Approx(at.weights[i]).epsilon(1e-10));
    }
    for (std::size_t i = 0; i < relaxation.size(); ++i) {
      CHECK(other.relaxation[i] == doctest::Approx(at.relaxation[i]).epsilon(1e-10));
    }
    CHECK(other.log_scale[0] == doctest::Approx(at.log_scale[0]).epsilon(1e-10));
  };
  same(step_of<in_double>(weights, relaxation, log_scale));
  same(step_of<devices::twice>(weights, relaxation, log_scale));
}

TEST_CASE("a training learns within the hull of its points") {
  for (const double delta : {0.0, 0.2}) {
    planted::reader<in_double> data({.d = 32, .directions = 48});
    in_double be;
    const auto rows = data.next(be, 200);
    const auto points = host(be, rows);
    sae<top_k, in_double> model({.d_model = 32, .features = 96, .sparsifier = {.k = 3}});
    const trainer fit{.optimizer = adam{.lr = 5e-3},
                      .dictionary = archetypal{.points = points, .delta = delta}};
    training_run run(model, fit);
    double first = 0, last = 0;
    for (int step = 0; step < 300; ++step) {
      run.step(data.next(be, 256), fit.optimizer.lr);
      if (step == 0) first = run.metrics().fvu;
      if (step == 299) last = run.metrics().fvu;
    }
    CHECK(last < 0.7 * first);
    auto& s = run.dictionary_state();
    const auto a = host(be, s.weights.value), relaxed = host(be, s.relaxation.value);
    const auto w = host(be, model.parameters().decoder);
    const double scale = std::exp(host(be, s.log_scale.value)[0]);
    CHECK(scale != 1);
    for (std::size_t f = 0; f < 96; ++f) {
      double sum = 0, length = 0;
      for (std::size_t i = 0; i < 200; ++i) {
        CHECK(a[f * 200 + i] >= 0);
        sum += a[f * 200 + i];
      }
      CHECK(sum == doctest::Approx(1).epsilon(1e-12));
      for (std::size_t j = 0; j < 32; ++j) {
        length += std::pow(relaxed[f * 32 + j], 2);
        double inside = relaxed[f * 32 + j];
        for (std::size_t i = 0; i < 200; ++i) inside += a[f * 200 + i] * points[i * 32 + j];
        CHECK(w[f * 32 + j] == doctest::Approx(scale * inside).epsilon(1e-9));
      }
      CHECK(std::sqrt(length) <= delta * (1 + 1e-12));
    }
  }
}

TEST_CASE("fewer points than latents start at every point in turn") {
  reference be;
  const archetypal policy{.points = {1, 2, 3, 4}};
  sae_parameters<reference> p(be, 3, 2);
  dictionary_training<archetypal, reference> run(be, policy, p);
  run.before_forward(policy, be, p);
  CHECK(host(be, p.decoder) == numbers{1, 2, 3, 4, 1, 2});
}

TEST_CASE("points that are none, or of another width, are refused") {
  for (const numbers& points : {numbers{}, numbers(d + 1, 1.0)}) {
    sae<top_k> model({.d_model = d, .features = features, .sparsifier = {.k = 3}});
    try {
      training_run run(model, trainer{.dictionary = archetypal{.points = points}});
      FAIL("no error");
    } catch (const error& e) {
      const std::string text = e.what();
      CHECK(text.find("sae.102") != std::string::npos);
      CHECK(text.find("points of width 6") != std::string::npos);
    }
  }
}

TEST_CASE("a checkpoint tells points apart") {
  const archetypal a{.points = {1, 2, 3, 4}}, b{.points = {1, 2, 3, 4.000001}};
  CHECK(policy_text(a) == policy_text(archetypal{a}));
  CHECK(policy_text(a) != policy_text(b));
  CHECK(policy_text(a) != policy_text(archetypal{.points = {1, 2, 3, 4}, .delta = 0.5}));
  CHECK(policy_text(a).find("4 numbers, ") != std::string::npos);
}
