// SPDX-License-Identifier: MIT
// The contrast between pairs of rows: gradients against finite differences on every backend, its
// value against the formula, batches of neighbours, and what a training with it learns.
#include <tests/train/finite_differences.hpp>

#include <plmscope/acts/adjacent_rows.hpp>
#include <plmscope/acts/read_activations.hpp>
#include <plmscope/acts/shuffled_rows.hpp>
#include <plmscope/core/rng.hpp>
#include <plmscope/plm/esm2.hpp>
#include <plmscope/sae/sparsifiers/batch_top_k.hpp>
#include <plmscope/sae/sparsifiers/gated.hpp>
#include <plmscope/sae/sparsifiers/jump_relu.hpp>
#include <plmscope/sae/sparsifiers/relu.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <string>
#include <vector>

namespace {

using namespace differences;
using plmscope::contrastive_penalty;

template <class Penalty>
auto with(Penalty p) {
  return plmscope::trainer{.penalty = p, .dead = quiet, .dictionary = plmscope::free_norm{}};
}

// The formula over dense codes [2 n, latents].
double formula(const numbers& h, std::size_t n, std::size_t latents, const contrastive_penalty& p) {
  const auto dot = [&](std::size_t a, std::size_t b) {
    double sum = 0;
    for (std::size_t f = 0; f < latents; ++f) sum += h[a * latents + f] * h[b * latents + f];
    return sum;
  };
  const auto similarity = [&](std::size_t a, std::size_t b) {
    const double lengths = std::sqrt(dot(a, a) * dot(b, b));
    return (p.cosine ? (lengths > 0 ? dot(a, b) / lengths : 0) : dot(a, b)) / p.temperature;
  };
  double sum = 0;
  for (std::size_t i = 0; i < n; ++i) {
    double forth = 0, back = 0;
    for (std::size_t j = 0; j < n; ++j) {
      forth += std::exp(similarity(i, j + n));
      back += std::exp(similarity(j, i + n));
    }
    sum += std::log(forth) + std::log(back) - 2 * similarity(i, i + n);
  }
  return p.weight.value * sum / static_cast<double>(2 * n);
}

template <class B>
void value_is_the_formula(const contrastive_penalty& p, double limit) {
  bench_run<plmscope::relu, B, decltype(with(p))> b(
      {.d_model = d, .features = features, .sparsifier = {}}, with(p));
  auto& be = b.model.backend();
  plmscope::training_run run(b.model, b.policies);
  run.step(const_view<B>(b.x), 0.0);
  const auto z = plmscope::to_host(be, run.last_codes());
  const std::size_t n = rows / 2;
  const auto latents = static_cast<std::size_t>(std::round(p.share * features));
  numbers h(2 * n * latents);
  for (std::size_t r = 0; r < 2 * n; ++r) {
    for (auto e = static_cast<std::size_t>(z.offsets[r]);
         e < static_cast<std::size_t>(z.offsets[r + 1]); ++e) {
      if (z.ids[e] < latents) h[r * latents + z.ids[e]] = static_cast<double>(z.values[e]);
    }
  }
  CHECK(std::count_if(h.begin(), h.end(), [](double v) { return v > 0; }) > 4);
  CHECK(run.metrics().penalty == doctest::Approx(formula(h, n, latents, p)).epsilon(limit));
}

}  // namespace

TEST_CASE("gradients are finite differences, for cosines and products") {
  const contrastive_penalty cosines{.weight = {0.7}, .share = 0.6, .temperature = 0.5};
  const contrastive_penalty products{.weight = {0.7}, .share = 0.3, .cosine = false};
  for (const auto& p : {cosines, products}) {
    check<plmscope::relu>(options(plmscope::relu{}), with(p));
    check<plmscope::top_k>(options(plmscope::top_k{.k = 5}), with(p));
    check<plmscope::batch_top_k>(
        options(plmscope::batch_top_k{.k = 3.7}),
        with(plmscope::penalties{plmscope::l1_penalty{.weight = {0.1}}, p}));
    check<plmscope::gated>(options(plmscope::gated{.auxiliary_trains_decoder = true}), with(p));
    check<plmscope::jump_relu>(options(plmscope::jump_relu{.bandwidth = 0.2}), with(p),
                               {"threshold"});
    auto nested = plmscope::trainer{.penalty = p,
                                    .dead = quiet,
                                    .dictionary = plmscope::free_norm{},
                                    .plan = plmscope::matryoshka{.ends = {7}}};
    check<plmscope::top_k>(options(plmscope::top_k{.k = 5}), nested);
  }
}

TEST_CASE("the value is the formula") {
  for (const bool cosine : {true, false}) {
    for (const double share : {0.2, 0.5, 1.0}) {
      const contrastive_penalty p{.share = share, .temperature = 0.7, .cosine = cosine};
      value_is_the_formula<reference>(p, 1e-12);
      value_is_the_formula<plmscope::cpu>(p, 1e-5);
      value_is_the_formula<devices::single>(p, 1e-5);
    }
  }
}

TEST_CASE("rows without general latents, single rows and no latents at all give no trouble") {
  for (const double share : {0.0, 0.01, 0.04, -1.0, 5.0}) {
    for (const std::size_t count : {1u, 2u, 3u}) {
      plmscope::sae<plmscope::top_k, reference> model(
          {.d_model = d, .features = features, .sparsifier = {.k = 2}});
      plmscope::matrix<double, reference> x(model.backend(), count, d);
      model.backend().upload(std::span<const double>(random_numbers(3, count * d, 1, 1.0)),
                             x.all());
      plmscope::training_run run(
          model, plmscope::trainer{.penalty = contrastive_penalty{.share = share}, .dead = quiet});
      run.step(const_view<reference>(x), 1e-3);
      const auto m = run.metrics();
      CHECK(std::isfinite(m.loss));
      CHECK(std::isfinite(m.gradient_norm));
      if (count == 1 || share <= 0.01) CHECK(m.penalty == 0);  // 0.01 of 24 is no latent
      if (count == 2) CHECK(m.penalty == doctest::Approx(0));  // one pair has no others
    }
  }
}

TEST_CASE("neighbours stay together through shuffling and batches") {
  using plmscope::cpu;
  const std::vector<std::string> sequences{"MKTAYIAKQRQISFVKSHFSRQ", "ACDE", "", "G",
                                           "WYVTSRQPNMLKIHGFEDCA"};
  auto esm = plmscope::esm2<>::random({.layers = 2, .d_model = 16, .heads = 2, .feed_forward = 64},
                                      7, cpu(2));
  using reader = plmscope::esm2_reader<>;
  cpu& be = esm.backend();
  reader plain(esm, plmscope::resid_post{1}, sequences, 3, 30);
  plmscope::activation_batch<cpu> batch;
  std::vector<std::vector<float>> states;  // of all residues, with their proteins
  std::vector<std::uint32_t> proteins;
  while (plain.read(be, batch)) {
    for (std::size_t r = 0; r < batch.origins.size(); ++r) {
      states.emplace_back(batch.rows.data() + r * 16, batch.rows.data() + (r + 1) * 16);
      proteins.push_back(batch.origins[r].protein);
    }
  }
  plain.rewind(0);
  using pairs = plmscope::adjacent_rows<reader, cpu>;
  plmscope::paired_rows<plmscope::shuffled_rows<pairs, cpu>, cpu> data(
      plmscope::shuffled_rows<pairs, cpu>(pairs(plain), 5));
  CHECK(data.width() == 16);
  CHECK(data.identity().find("with neighbours") != std::string::npos);
  const auto place = [&](const float* row) {
    return static_cast<std::size_t>(
        std::find(states.begin(), states.end(), std::vector<float>(row, row + 16)) -
        states.begin());
  };
  std::size_t alone = 0;
  for (int i = 0; i < 4; ++i) {
    const auto x = data.next(be, 21);
    REQUIRE(x.rows() == 20);
    for (std::size_t r = 0; r < 10; ++r) {
      const std::size_t a = place(x.row_data(r)), b = place(x.row_data(r + 10));
      REQUIRE(a < states.size());
      REQUIRE(b < states.size());
      CHECK(proteins[a] == proteins[b]);
      const bool last = a + 1 == states.size() || proteins[a + 1] != proteins[a];
      const bool only = last && (a == 0 || proteins[a - 1] != proteins[a]);
      CHECK(b == (only ? a : last ? a - 1 : a + 1));
      alone += only;
    }
  }
  CHECK(alone == 1);  // one epoch is 47 pairs: 40 of them
  const std::size_t at = data.position();
  const auto next = data.next(be, 6);
  const std::vector<float> want(next.data(), next.data() + next.size());
  data.seek(be, at);
  const auto again = data.next(be, 6);
  CHECK(std::equal(want.begin(), want.end(), again.data()));
}

TEST_CASE("a training with it gives general latents that neighbours share") {
  // A row is what its pair has in common and something of its own.
  struct common_and_own {
    std::size_t at = 0;
    plmscope::matrix<float, plmscope::cpu> out;
    const_view<plmscope::cpu> next(plmscope::cpu& be, std::size_t count) {
      const plmscope::rng random(9, 1);
      const std::size_t n = count / 2;
      numbers x(2 * n * 32, 0.0);
      const numbers w = random_numbers(9, 48 * 32, 5, 1 / std::sqrt(32.0));
      for (std::size_t r = 0; r < 2 * n; ++r) {
        const std::size_t pair = at + r % n, row = 2 * pair + r / n;
        const std::size_t shared = random.below(8 * pair, 24),
                          own = 24 + random.below(8 * row + 1, 24);
        for (std::size_t j = 0; j < 32; ++j) x[r * 32 + j] = w[shared * 32 + j] + w[own * 32 + j];
      }
      at += n;
      out.reshape(be, 2 * n, 32);
      be.upload(std::span<const double>(x), out.all());
      return out;
    }
  };
  const auto agreement = [](double weight) {
    plmscope::sae<plmscope::top_k> model({.d_model = 32, .features = 96, .sparsifier = {.k = 4}});
    const plmscope::trainer fit{
        .steps = 400,
        .batch = 256,
        .optimizer = plmscope::adam{.lr = 3e-3},
        .penalty = contrastive_penalty{.weight = {weight}, .share = 1.0 / 3, .temperature = 0.2},
        .plan = plmscope::matryoshka{.ends = {32}}};
    common_and_own data;
    fit(model, data);
    auto& be = model.backend();
    const auto x = data.next(be, 256);
    plmscope::codes<plmscope::cpu> z;
    model.encode(x, z);
    const auto h = plmscope::to_host(be, z);
    std::vector<numbers> rows_of(256, numbers(32, 0.0));
    for (std::size_t r = 0; r < 256; ++r) {
      for (auto e = h.offsets[r]; e < h.offsets[r + 1]; ++e) {
        const auto i = static_cast<std::size_t>(e);
        if (h.ids[i] < 32) rows_of[r][h.ids[i]] = h.values[i];
      }
    }
    double sum = 0;
    for (std::size_t r = 0; r < 128; ++r) {
      double ab = 0, aa = 0, bb = 0;
      for (std::size_t f = 0; f < 32; ++f) {
        ab += rows_of[r][f] * rows_of[r + 128][f];
        aa += std::pow(rows_of[r][f], 2), bb += std::pow(rows_of[r + 128][f], 2);
      }
      if (aa * bb > 0) sum += ab / std::sqrt(aa * bb);
    }
    return sum / 128;
  };
  const double without = agreement(0), with_it = agreement(0.3);
  MESSAGE("cosine of neighbours over general latents: ", without, " without, ", with_it, " with");
  CHECK(with_it > without + 0.15);
}
