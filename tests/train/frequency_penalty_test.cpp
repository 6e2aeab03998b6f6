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

#include <cmath>
#include <cstddef>
#include <span>
#include <vector>

namespace {

using namespace composition;
using plmscope::frequency_penalty;

const frequency_penalty<> often{.weight = {0.4}, .turn = 0.2};
const frequency_penalty<> plainly{
    .weight = {0.4}, .turn = 0.3, .length = penalised_length::none, .shape = {.c = 1.5}};
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
