// SPDX-License-Identifier: MIT
// The frequency penalty: its value against the formula written out, gradients against finite
// differences on every backend, and what it does to a training.
#include <tests/train/composition.hpp>
#include <tests/train/planted.hpp>

#include <plmscope/sae/sparsifiers/batch_top_k.hpp>
#include <plmscope/sae/sparsifiers/gated.hpp>
#include <plmscope/sae/sparsifiers/jump_relu.hpp>
#include <plmscope/sae/sparsifiers/relu.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <span>
#include <type_traits>
#include <vector>

namespace {

using namespace composition;
using plmscope::frequency_penalty;

const frequency_penalty<> often{.weight = {0.4}, .turn = 0.2};
const frequency_penalty<> plainly{
    .weight = {0.4}, .turn = 0.3, .lengths = false, .shape = {.c = 1.5}};
const frequency_penalty<plmscope::log_shape> slowly{.weight = {0.2}, .turn = 2};

template <class S>
void each_penalty(S s, const std::vector<std::string>& without = {}) {
  check<S>(options(s), with(often), without);
  check<S>(options(s), with(plainly), without);
  check<S>(options(s), with(slowly), without);
  auto o = options(s);
  o.centring = input_centring::none, o.transcodes = true, o.d_out = 5;
  check<S>(o, with(plmscope::penalties{often, plmscope::l1_penalty{.weight = {0.1}}}), without);
  o = options(s);
  o.blocks = 2;
  check<S>(o, with(often), without);
}

// weight sum_i f_i (1 + f_i / turn) from the codes of a step
template <class B>
void value_is_the_formula(double epsilon) {
  plmscope::sae<plmscope::relu, B> model({.d_model = 6, .features = 24, .seed = 4});
  B& be = model.backend();
  numbers long_rows(24 * 6);
  be.download(const_view<B>(model.parameters().decoder), std::span<double>(long_rows));
  for (std::size_t i = 0; i < long_rows.size(); ++i) long_rows[i] *= 1 + 0.1 * double(i / 6);
  be.upload(std::span<const double>(long_rows), model.parameters().decoder.all());
  plmscope::matrix<typename B::real, B> x(be, 11, 6);
  be.upload(std::span<const double>(random_numbers(9, 66, 1, 1.0)), x.all());
  const auto fit = with(often);
  plmscope::training_run run(model, fit);
  run.step(x.all(), 0.0);
  const auto z = plmscope::to_host(be, run.last_codes());
  numbers f(24, 0.0);
  for (std::size_t e = 0; e < z.values.size(); ++e) {
    const std::size_t i = z.ids[e];
    f[i] += std::tanh(4 * static_cast<double>(z.values[e]) * (1 + 0.1 * double(i))) / 11;
  }
  double want = 0;
  for (const double v : f) want += 0.4 * v * (1 + v / 0.2);
  CHECK(run.metrics().penalty == doctest::Approx(want).epsilon(epsilon));
}

}  // namespace

TEST_CASE("gradients are finite differences, for every kind of sparsifier") {
  each_penalty(plmscope::relu{});
  each_penalty(plmscope::top_k{.k = 4});
  each_penalty(plmscope::batch_top_k{.k = 3.7});
  each_penalty(plmscope::jump_relu{.bandwidth = 0.2}, {"threshold"});
  each_penalty(plmscope::gated{.auxiliary_trains_decoder = true});
}

TEST_CASE("true frequencies move thresholds, each by its own slope") {
  const auto gradient = [](auto be, auto penalty, plmscope::jump_relu s, numbers* f = nullptr) {
    using B = decltype(be);
    typename plmscope::sae<plmscope::jump_relu, B>::options o;
    o.d_model = d, o.features = features, o.sparsifier = s;
    const auto fit = still(with(penalty));
    bench_run<plmscope::jump_relu, B, std::remove_const_t<decltype(fit)>> b(o, fit);
    b.loss();
    if (f != nullptr) {
      plmscope::codes<B> z;
      b.model.encode(b.x.all(), z);
      f->assign(features, 0.0);
      for (const auto i : plmscope::to_host(b.model.backend(), z).ids) (*f)[i] += 1.0 / rows;
    }
    return b.gradient.back();
  };
  for (const bool of_values : {false, true}) {
    const plmscope::jump_relu s{.bandwidth = 0.8, .l0_of_values = of_values};
    // without the quadratic term it is L0
    const plmscope::firing_frequency_penalty linear{.weight = {0.7}, .turn = 1e30};
    const plmscope::firing_frequency_penalty squared{.weight = {0.7}, .turn = 0.25};
    numbers f;
    const auto none = gradient(reference(), plmscope::no_penalty{}, s, &f);
    const auto l0 = gradient(reference(), plmscope::l0_penalty{.weight = {0.7}}, s);
    const auto same = gradient(reference(), linear, s);
    const auto got = gradient(reference(), squared, s);
    double largest = 0;
    for (std::size_t i = 0; i < features; ++i) {
      CHECK(same[i] == doctest::Approx(l0[i]).epsilon(1e-12));
      const double want = none[i] + (l0[i] - none[i]) * (1 + 2 * f[i] / 0.25);
      CHECK(got[i] == doctest::Approx(want).epsilon(1e-11));
      largest = std::max(largest, std::abs(got[i] - l0[i]));
    }
    CHECK(largest > 0.01);
    const auto near = [&](const numbers& other, double limit) {
      for (std::size_t i = 0; i < features; ++i) CHECK(std::abs(other[i] - got[i]) < limit);
    };
    near(gradient(plmscope::basic_cpu<double, plmscope::eigen_gemm>(), squared, s), 1e-11);
    near(gradient(devices::twice(), squared, s), 1e-11);
    near(gradient(plmscope::cpu(), squared, s), 1e-3);
    near(gradient(devices::single(), squared, s), 1e-3);
  }
  check<plmscope::jump_relu>(options(plmscope::jump_relu{.bandwidth = 0.2}),
                             with(plmscope::firing_frequency_penalty{.weight = {0.7}}),
                             {"threshold"});
}

TEST_CASE("the value is the formula") {
  value_is_the_formula<reference>(1e-12);
  value_is_the_formula<plmscope::cpu>(1e-5);
  value_is_the_formula<devices::single>(1e-5);
}

TEST_CASE("a training with it has fewer latents that fire on most rows") {
  struct outcome {
    double l0, often;
  };
  const auto train = [](auto penalty) {
    planted::reader<plmscope::cpu> data({.d = 32, .directions = 48});
    plmscope::sae<plmscope::relu> model({.d_model = 32, .features = 96});
    plmscope::trainer fit{.steps = 300,
                          .batch = 256,
                          .optimizer = plmscope::adam{.lr = 3e-3},
                          .penalty = penalty,
                          .dead = quiet};
    const auto m = fit(model, data);
    auto& be = model.backend();
    plmscope::codes<plmscope::cpu> z;
    model.encode(data.next(be, 2000), z);
    const auto h = plmscope::to_host(be, z);
    std::vector<std::size_t> fired(96, 0);
    for (const auto i : h.ids) ++fired[i];
    double many = 0;
    for (const auto n : fired) many = std::max(many, static_cast<double>(n) / 2000);
    return outcome{m.l0, many};
  };
  const auto without = train(plmscope::tanh_penalty{.weight = {.value = 0.02}});
  const auto with_it = train(frequency_penalty<>{.weight = {.value = 0.02}, .turn = 0.05});
  MESSAGE("most frequent latent: ", without.often, " of the rows by tanh, ", with_it.often,
          " by the quadratic; L0 ", without.l0, " and ", with_it.l0);
  CHECK(with_it.often < 0.8 * without.often);
}
