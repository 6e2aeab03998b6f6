// SPDX-License-Identifier: MIT
// The orthogonality penalty: its value against the formula written out, its gradient against finite
// differences on every backend, how latents are dealt, and what it does to a training.
#include <tests/train/finite_differences.hpp>
#include <tests/train/planted.hpp>

#include <plmscope/sae/sparsifiers/batch_top_k.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <string>
#include <vector>

namespace {

using namespace differences;
using plmscope::orthogonality_penalty;

const orthogonality_penalty in_one{.weight = {.value = 0.7}, .chunk = 0};
const orthogonality_penalty in_parts{.weight = {.value = 0.7}, .chunk = 7, .seed = 4};

template <class Penalty>
auto with(Penalty p) {
  return plmscope::trainer{.penalty = p, .dead = quiet, .dictionary = plmscope::free_norm{}};
}

// mean over rows of the largest squared cosine with another row
double formula(const numbers& w, std::size_t rows, std::size_t d) {
  const auto dot = [&](std::size_t a, std::size_t b) {
    double sum = 0;
    for (std::size_t j = 0; j < d; ++j) sum += w[a * d + j] * w[b * d + j];
    return sum;
  };
  double sum = 0;
  for (std::size_t i = 0; i < rows; ++i) {
    double most = 0;
    for (std::size_t j = 0; j < rows; ++j) {
      const double lengths = dot(i, i) * dot(j, j);
      if (j != i && lengths > 0) most = std::max(most, std::pow(dot(i, j), 2) / lengths);
    }
    sum += most;
  }
  return sum / static_cast<double>(rows);
}

template <class B, class Penalty>
double value(const numbers& decoder, std::size_t rows, Penalty penalty, numbers* gradient = nullptr,
             std::size_t step = 0) {
  B be;
  const std::size_t width = decoder.size() / rows;
  plmscope::sae<plmscope::top_k, B> model(
      {.d_model = width, .features = rows, .sparsifier = {.k = 1}});
  auto fit = with(penalty);
  fit.clip = 0;
  model.backend().upload(std::span<const double>(decoder), model.parameters().decoder.all());
  plmscope::training_run run(model, fit);
  plmscope::matrix<typename B::real, B> x(be, 2, width);  // zeros: no other loss
  for (std::size_t i = 0; i <= step; ++i) run.step(x.all(), 0.0);
  if (gradient != nullptr) {
    gradient->resize(decoder.size());
    model.backend().download(const_view<B>(run.gradient().decoder), std::span<double>(*gradient));
  }
  return run.metrics().penalty;
}

}  // namespace

TEST_CASE("gradients are finite differences, in one chunk and in several") {
  check<plmscope::top_k>(options(plmscope::top_k{.k = 4}), with(in_one));
  check<plmscope::top_k>(options(plmscope::top_k{.k = 4}), with(in_parts));
  check<plmscope::batch_top_k>(
      options(plmscope::batch_top_k{.k = 3.7}),
      with(plmscope::penalties{plmscope::l1_penalty{.weight = {0.1}}, in_parts}));
  auto o = options(plmscope::top_k{.k = 4});
  o.transcodes = true, o.d_out = 5, o.skip = true, o.centring = plmscope::input_centring::none;
  check<plmscope::top_k>(o, with(in_parts));
  o = options(plmscope::top_k{.k = 4});
  o.lengths = plmscope::row_lengths::in_codes;
  check<plmscope::top_k>(o, with(in_one));
}

TEST_CASE("the value is the formula") {
  const auto w = random_numbers(8, 40 * 6, 1, 0.7);
  const double want = 0.7 * formula(w, 40, 6);
  CHECK(value<reference>(w, 40, in_one) == doctest::Approx(want).epsilon(1e-12));
  CHECK(value<plmscope::cpu>(w, 40, in_one) == doctest::Approx(want).epsilon(1e-5));
  CHECK(value<devices::single>(w, 40, in_one) == doctest::Approx(want).epsilon(1e-5));
  // Fewer neighbours are further away, and each step has others.
  const double parts = value<reference>(w, 40, in_parts);
  CHECK(parts > 0);
  CHECK(parts < want);
  auto often = in_parts;
  often.every = 1;
  CHECK(value<reference>(w, 40, often, nullptr, 1) != parts);
  CHECK(value<reference>(w, 40, often, nullptr, 1) == value<reference>(w, 40, often, nullptr, 1));
}

TEST_CASE("steps in between have none of it") {
  const auto w = random_numbers(8, 40 * 6, 1, 0.7);
  numbers gradient;
  for (const std::size_t step : {1u, 4u, 6u}) {
    CHECK(value<reference>(w, 40, in_one, &gradient, step) == 0);
    CHECK(std::all_of(gradient.begin(), gradient.end(), [](double v) { return v == 0; }));
  }
  CHECK(value<reference>(w, 40, in_one, &gradient, 5) > 0);
}

TEST_CASE("rows of zeros, equal rows, orthogonal rows and a single latent") {
  numbers gradient;
  const auto finite = [&] {
    return std::all_of(gradient.begin(), gradient.end(), [](double v) { return std::isfinite(v); });
  };
  CHECK(value<reference>(numbers(12, 0.0), 3, in_one, &gradient) == 0);
  CHECK(finite());
  CHECK(value<reference>({3, 0, 0, 0, 5, 0, 0, 0, 2}, 3, in_one, &gradient) == 0);
  CHECK(finite());
  CHECK(value<reference>({1, 2, 3, 4}, 1, in_one, &gradient) == 0);
  CHECK(finite());
  const double same = value<reference>({1, 2, -2, -4, 0, 0}, 3, in_one, &gradient);
  CHECK(same == doctest::Approx(0.7 * 2 / 3));  // opposite is near too; at 1 there is no slope
  for (const double v : gradient) CHECK(std::abs(v) < 1e-12);
}

TEST_CASE("directions of a training with the penalty are further apart") {
  const auto nearness = [](double weight) {
    planted::reader<plmscope::cpu> data({.d = 32, .directions = 48});
    plmscope::sae<plmscope::batch_top_k> model(
        {.d_model = 32, .features = 128, .sparsifier = {.k = 6}});
    const plmscope::trainer fit{
        .steps = 300,
        .batch = 256,
        .optimizer = plmscope::adam{.lr = 3e-3},
        .penalty = orthogonality_penalty{.weight = {.value = weight}, .chunk = 64, .every = 2}};
    fit(model, data);
    numbers w(128 * 32);
    model.backend().download(const_view<plmscope::cpu>(model.parameters().decoder),
                             std::span<double>(w));
    return formula(w, 128, 32);
  };
  const double without = nearness(0), with_it = nearness(1);
  MESSAGE("mean of the largest squared cosines: ", without, " without, ", with_it, " with");
  CHECK(with_it < 0.8 * without);
}
