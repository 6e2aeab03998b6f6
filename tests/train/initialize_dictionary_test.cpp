// SPDX-License-Identifier: MIT
// Lengths and biases that a training may start from.
#include <tests/devices.hpp>
#include <tests/train/random_numbers.hpp>
#include <tests/train/stored_numbers.hpp>

#include <plmscope/backend/cpu.hpp>
#include <plmscope/backend/reference.hpp>
#include <plmscope/sae/sparsifiers/jump_relu.hpp>
#include <plmscope/sae/sparsifiers/relu.hpp>
#include <plmscope/tensor/host_codes.hpp>
#include <plmscope/train/trainer.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <span>
#include <string>
#include <vector>

namespace {

using namespace plmscope;
using stored::host;
using stored::numbers;
constexpr std::size_t rows = 200, d = 6, features = 30;

template <class S, class B>
sae<S, B> model_of(S s = {}, std::size_t d_out = 0) {
  typename sae<S, B>::options o;
  o.d_model = d, o.features = features, o.sparsifier = s;
  if (d_out != 0) o.d_out = d_out, o.transcodes = true, o.centring = input_centring::none;
  sae<S, B> model(o);
  auto& be = model.backend();
  if (d_out == 0) {
    be.upload(std::span<const double>(random_numbers(2, d, 9, 0.5)),
              model.parameters().decoder_bias.all());
  }
  return model;
}
template <class B>
matrix<typename B::real, B> rows_of(B& be, std::size_t width = d, std::uint64_t stream = 1) {
  matrix<typename B::real, B> x(be, rows, width);
  be.upload(std::span<const double>(random_numbers(3, rows * width, stream, 1.3, 0.4)), x.all());
  return x;
}

// How often each latent fires.
template <class Sae, class Rows>
std::vector<std::size_t> fired(Sae& model, const Rows& x) {
  using B = typename Sae::backend_type;
  codes<B> z;
  model.encode(const_view<B>(x), z);
  const auto h = to_host(model.backend(), z);
  std::vector<std::size_t> n(features);
  for (std::size_t e = 0; e < h.ids.size(); ++e) n[h.ids[e]] += h.values[e] > 0;
  return n;
}

template <class B>
void firing_rates() {
  CAPTURE(std::string(B::id));
  for (const std::size_t want : {0u, 1u, 17u, 120u, 199u}) {
    const double rate = static_cast<double>(want) / rows;
    auto plain = model_of<relu, B>();
    const auto x = rows_of(plain.backend());
    initialize_firing_rate(plain, const_view<B>(x), rate);
    for (const auto n : fired(plain, x)) CHECK(n == want);
    for (const bool logs : {false, true}) {
      auto jump = model_of<jump_relu, B>({.initial_threshold = 0.3, .log_thresholds = logs});
      initialize_firing_rate(jump, const_view<B>(x), rate);
      for (const auto n : fired(jump, x)) CHECK(n == want);
    }
  }
}

}  // namespace

TEST_CASE("latents fire as often as they should, with thresholds or without") {
  firing_rates<reference>();
  firing_rates<basic_cpu<double, eigen_gemm>>();
  firing_rates<devices::twice>();
}

TEST_CASE("rates out of range, and rows that are all equal") {
  auto model = model_of<relu, reference>();
  auto x = rows_of(model.backend());
  for (const double rate : {1.0, 7.0, 1e300, std::numeric_limits<double>::infinity()}) {
    initialize_firing_rate(model, const_view<reference>(x), rate);
    for (const auto n : fired(model, x)) CHECK(n == rows - 1);
  }
  for (const double rate : {0.0, -1.0, std::numeric_limits<double>::quiet_NaN()}) {
    initialize_firing_rate(model, const_view<reference>(x), rate);
    for (const auto n : fired(model, x)) CHECK(n == 0);
  }
  const auto before = host(model.backend(), model.parameters().encoder_bias);
  initialize_firing_rate(model, const_view<reference>(x).row_range(0, 0), 0.5);
  CHECK(host(model.backend(), model.parameters().encoder_bias) == before);
  model.backend().fill(x.all(), 0.7);
  initialize_firing_rate(model, const_view<reference>(x), 0.5);
  for (const auto n : fired(model, x)) CHECK(n == 0);
}

TEST_CASE("a training sets them once, from its first batch") {
  auto model = model_of<relu, reference>();
  const auto x = rows_of(model.backend());
  training_run run(model, trainer{.upkeep = initial_firing_rate{.rate = 0.1}});
  run.step(const_view<reference>(x), 0.0);
  const auto first = host(model.backend(), model.parameters().encoder_bias);
  CHECK(run.metrics().l0 == doctest::Approx(0.1 * features));
  const auto other = rows_of(model.backend(), d, 7);
  run.step(const_view<reference>(other), 0.0);
  CHECK(host(model.backend(), model.parameters().encoder_bias) == first);
}

TEST_CASE("lengths are what was asked for, and directions stay") {
  for (const std::size_t d_out : {0u, 5u}) {
    auto model = model_of<relu, cpu>({}, d_out);
    auto& p = model.parameters();
    const auto directions = host(model.backend(), p.decoder);
    initialize_lengths(model, 0.1, 0.25);
    const auto w = host(model.backend(), p.decoder), e = host(model.backend(), p.encoder);
    for (std::size_t i = 0; i < w.size(); ++i) CHECK(w[i] == doctest::Approx(0.1 * directions[i]));
    for (std::size_t f = 0; f < features; ++f) {
      double squares = 0;
      for (std::size_t j = 0; j < d; ++j) squares += std::pow(e[f * d + j], 2);
      CHECK(std::sqrt(squares) == doctest::Approx(0.025).epsilon(1e-5));
    }
    if (d_out == 0) CHECK(e[7] == doctest::Approx(0.25 * w[7]));
    initialize_lengths(model, 0);
    for (const double v : host(model.backend(), p.decoder)) CHECK(v == 0);
    CHECK(host(model.backend(), p.encoder) == e);
  }
}

TEST_CASE("the best length is the best of those tried") {
  const auto search = []<class B>(B*, std::size_t d_out) {
    auto model = model_of<relu, B>({}, d_out);
    const auto x = rows_of(model.backend()),
               y = rows_of(model.backend(), d_out == 0 ? d : d_out, 4);
    const auto to = d_out == 0 ? const_view<B>() : const_view<B>(y);
    const double best = search_length(model, const_view<B>(x), to);
    const double least = reconstruction_error(model, const_view<B>(x), to);
    CHECK(std::abs(std::sqrt(std::pow(host(model.backend(), model.parameters().decoder)[0], 2)) /
                       std::abs(host(model.backend(),
                                     model_of<relu, B>({}, d_out).parameters().decoder)[0]) -
                   best) < 1e-5);
    for (const double length : {best - 0.01, best + 0.01, 0.1, 1.0, 3.0}) {
      initialize_lengths(model, length);
      CHECK(reconstruction_error(model, const_view<B>(x), to) >= least);
    }
    return best;
  };
  const double best = search(static_cast<reference*>(nullptr), 0);
  CHECK(search(static_cast<cpu*>(nullptr), 0) == best);
  CHECK(search(static_cast<devices::single*>(nullptr), 0) == best);
  CHECK(best > 0.1);
  CHECK(best < 1);
  CHECK(search(static_cast<reference*>(nullptr), 5) > 0);
}

TEST_CASE("the error of a reconstruction is that of the run") {
  auto model = model_of<relu, reference>();
  const auto x = rows_of(model.backend());
  const double error = reconstruction_error(model, const_view<reference>(x));
  training_run run(model, trainer{.dead = aux_k{.alpha = 0}, .dictionary = free_norm{}});
  run.step(const_view<reference>(x), 0.0);
  CHECK(run.metrics().loss == doctest::Approx(error).epsilon(1e-12));
}

TEST_CASE("rows become orthonormal, and those that depend on others zero") {
  numbers q = random_numbers(4, 5 * 8, 1, 3.0);
  for (std::size_t j = 0; j < 8; ++j) q[3 * 8 + j] = 2 * q[j] - q[8 + j];
  orthonormalize(q, 8);
  for (std::size_t a = 0; a < 5; ++a) {
    for (std::size_t b = 0; b < 5; ++b) {
      double dot = 0;
      for (std::size_t j = 0; j < 8; ++j) dot += q[a * 8 + j] * q[b * 8 + j];
      CHECK(dot == doctest::Approx(a == b && a != 3 ? 1 : 0));
    }
  }
  orthonormalize({}, 0);
}

TEST_CASE("decoder rows lie where the rows are") {
  const auto on = []<class B>(B*, double limit) {
    constexpr std::size_t wide = 24, r = 5;
    sae<relu, B> model({.d_model = wide, .features = 60});
    auto& be = model.backend();
    const numbers basis = random_numbers(6, r * wide, 1, 1.0);
    numbers host_rows(rows * wide);
    const numbers mix = random_numbers(6, rows * r, 2, 1.0),
                  noise = random_numbers(6, rows * wide, 3, 1e-3);
    for (std::size_t i = 0; i < rows; ++i) {
      for (std::size_t j = 0; j < wide; ++j) {
        host_rows[i * wide + j] = noise[i * wide + j];
        for (std::size_t k = 0; k < r; ++k)
          host_rows[i * wide + j] += mix[i * r + k] * basis[k * wide + j];
      }
    }
    matrix<typename B::real, B> x(be, rows, wide);
    be.upload(std::span<const double>(host_rows), x.all());
    const double held = initialize_in_subspace(model, const_view<B>(x), r);
    CHECK(held > 0.99999);
    CHECK(held <= 1 + 1e-6);
    numbers q = basis;
    orthonormalize(q, wide);
    const auto w = host(be, model.parameters().decoder);
    CHECK(host(be, model.parameters().encoder) == w);
    double least_spread = 1;
    for (std::size_t f = 0; f < 60; ++f) {
      double inside = 0, length = 0, along = 0;
      for (std::size_t j = 0; j < wide; ++j) length += w[f * wide + j] * w[f * wide + j];
      for (std::size_t k = 0; k < r; ++k) {
        double dot = 0;
        for (std::size_t j = 0; j < wide; ++j) dot += w[f * wide + j] * q[k * wide + j];
        inside += dot * dot;
        if (k == 0) along = dot * dot;
      }
      CHECK(length == doctest::Approx(1).epsilon(1e-5));
      CHECK(inside == doctest::Approx(1).epsilon(limit));
      least_spread = std::min(least_spread, along);
    }
    CHECK(least_spread < 0.1);  // not all along one of them
    // Fewer directions hold less, all of them everything.
    const double fewer = initialize_in_subspace(model, const_view<B>(x), 2);
    CHECK(fewer > 0.3);
    CHECK(fewer < 0.95);
    CHECK(initialize_in_subspace(model, const_view<B>(x), 1000) ==
          doctest::Approx(1).epsilon(1e-5));
    CHECK(initialize_in_subspace(model, const_view<B>(x), 0) == 0);
    CHECK(initialize_in_subspace(model, const_view<B>(x).row_range(0, 0), 3) == 0);
  };
  on(static_cast<reference*>(nullptr), 1e-4);
  on(static_cast<cpu*>(nullptr), 1e-4);
  on(static_cast<devices::single*>(nullptr), 1e-4);
  auto transcoder = model_of<relu, reference>({}, 5);
  const auto x = rows_of(transcoder.backend());
  CHECK_THROWS_AS(initialize_in_subspace(transcoder, const_view<reference>(x), 2), error);
}
