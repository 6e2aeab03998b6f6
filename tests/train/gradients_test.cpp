// SPDX-License-Identifier: MIT
// Gradients of whole training steps: `reference` against finite differences of the loss written out
// (direct_loss.hpp), `cpu` against `reference`.
#include <tests/devices.hpp>
#include <tests/train/direct_loss.hpp>

#include <plmscope/backend/cpu.hpp>
#include <plmscope/backend/reference.hpp>
#include <plmscope/sae/normalizer.hpp>
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
#include <vector>

namespace {

using direct::kind;
using direct::numbers;
using direct::parameters;
using direct::problem;
using plmscope::aux_k;

const char* const names[] = {"encoder", "decoder", "encoder bias", "decoder bias"};

numbers random_numbers(std::size_t n, std::uint64_t stream, double scale, double mean = 0) {
  const plmscope::rng random(11, stream);
  numbers v(n);
  // Representable in single precision, so that every backend starts from the same numbers.
  for (std::size_t i = 0; i < n; ++i) {
    v[i] = static_cast<double>(static_cast<float>(mean + scale * random.normal(i)));
  }
  return v;
}

/// So large a k_aux that AuxK takes dense products.
constexpr std::size_t many = 40;

problem make_problem(kind loss, bool layer_norm, const aux_k& aux) {
  problem q{.loss = loss, .layer_norm = layer_norm, .aux = aux};
  q.x = random_numbers(q.m * q.d, 1, 1.5, 0.7);
  return q;
}

parameters make_parameters(const problem& q) {
  return {random_numbers(q.features * q.d, 2, 0.4), random_numbers(q.features * q.d, 3, 0.5),
          random_numbers(q.features, 4, 0.3), random_numbers(q.d, 5, 0.2)};
}

struct step_result {
  parameters gradient;
  plmscope::training_metrics metrics;
  std::vector<std::uint32_t> chosen;
  bool dense = false;  ///< AuxK's products
};

template <class Loss>
using policies = plmscope::trainer<plmscope::adam, plmscope::warmup_decay, Loss,
                                   plmscope::no_penalty, aux_k, plmscope::free_norm>;

// Gradients of one step at learning rate 0.
template <class B, class Loss>
step_result one_step(const problem& q, const parameters& p, Loss loss, bool train_bias) {
  using model_type = plmscope::sae<plmscope::top_k, B>;
  plmscope::normalizer normalize;
  if (q.layer_norm) normalize.kind = plmscope::normalization::token_layer_norm;
  model_type model({.d_model = q.d,
                    .features = q.features,
                    .sparsifier = {.k = q.k},
                    .normalize = normalize,
                    .lengths = q.by_decoder_norm ? plmscope::row_lengths::in_codes
                                                 : plmscope::row_lengths::free});
  B& be = model.backend();
  std::size_t i = 0;
  model.parameters().for_each(
      [&](const char*, auto& to) { be.upload(std::span<const double>(p[i++]), to.all()); });
  policies<Loss> with{.loss = loss, .dead = q.aux, .clip = 0, .train_encoder_bias = train_bias};
  with.dead.dead_after = 1000;
  plmscope::training_run<model_type, policies<Loss>> run(model, with);
  // Everyone has been silent for long: dead is who does not fire in this batch.
  be.fill(run.dead_state().since_fired.all(), std::int64_t{5000});
  run.dead_state().next_check = 0;
  plmscope::matrix<typename B::real, B> x(be, q.m, q.d);
  be.upload(std::span<const double>(q.x), x.all());
  run.step(x, 0.0);
  step_result out;
  out.metrics = run.metrics();
  out.dense = run.dead_state().products.dense();
  const auto& z = run.last_codes();
  out.chosen = plmscope::to_host(be, z).ids;
  i = 0;
  run.gradient().for_each([&](const char*, const auto& g) {
    out.gradient[i].resize(g.size());
    be.download(plmscope::const_view<B>(g), std::span<double>(out.gradient[i++]));
  });
  i = 0;
  model.parameters().for_each([&](const char*, auto& now) {  // rate 0: nothing moved
    std::vector<typename B::real> host(now.size());
    be.download(plmscope::const_view<B>(now), std::span(host));
    CHECK(std::equal(p[i].begin(), p[i].end(), host.begin(), host.end(),
                     [](double a, auto b) { return a == static_cast<double>(b); }));
    ++i;
  });
  return out;
}

template <class B>
step_result step_of(const problem& q, const parameters& p, bool train_bias = true) {
  using plmscope::mean_squared_error;
  using dims = mean_squared_error::dimensions;
  using plmscope::loss_space;
  switch (q.loss) {
    case kind::summed:
      return one_step<B>(q, p, mean_squared_error{}, train_bias);
    case kind::averaged:
      return one_step<B>(q, p, mean_squared_error{.over = dims::averaged}, train_bias);
    case kind::raw_summed:
      return one_step<B>(q, p, mean_squared_error{.space = loss_space::raw}, train_bias);
    case kind::raw_averaged:
      return one_step<B>(q, p, mean_squared_error{.over = dims::averaged, .space = loss_space::raw},
                         train_bias);
    case kind::fvu:
      return one_step<B>(q, p, plmscope::fraction_of_variance_unexplained{}, train_bias);
    case kind::relative_to_bias:
      return one_step<B>(q, p, plmscope::squared_error_relative_to_bias{}, train_bias);
  }
  return {};
}

double largest(const numbers& v) {
  double out = 0;
  for (const double x : v) out = std::max(out, std::abs(x));
  return out;
}

double largest_difference(const numbers& a, const numbers& b) {
  REQUIRE(a.size() == b.size());
  double out = 0;
  for (std::size_t i = 0; i < a.size(); ++i) out = std::max(out, std::abs(a[i] - b[i]));
  return out;
}

void check_against_differences(const problem& q) {
  const parameters p = make_parameters(q);
  const direct::value base = direct::loss(q, p);
  const step_result ours = step_of<plmscope::reference>(q, p);
  CHECK(ours.metrics.loss == doctest::Approx(base.total()).epsilon(1e-12));
  CHECK(ours.metrics.aux_loss == doctest::Approx(base.aux).epsilon(1e-12));
  if (q.aux.alpha != 0) CHECK(base.aux > 0);
  CHECK(ours.dense == (q.aux.k == many));

  constexpr double h = 1e-5;
  std::size_t skipped = 0;
  std::size_t tried = 0;
  for (std::size_t tensor = 0; tensor < p.size(); ++tensor) {
    const double size = largest(ours.gradient[tensor]);
    CHECK(size > 0);
    double worst = 0;
    std::size_t moved = 0;
    for (std::size_t i = 0; i < p[tensor].size(); ++i) {
      parameters up = p;
      parameters down = p;
      up[tensor][i] += h;
      down[tensor][i] -= h;
      const direct::value above = direct::loss(q, up, &base.held);
      const direct::value below = direct::loss(q, down, &base.held);
      ++tried;
      // Where the selection changes the loss has no derivative.
      if (above.chosen != base.chosen || below.chosen != base.chosen) {
        ++skipped;
        continue;
      }
      const double slope = (above.total() - below.total()) / (2 * h);
      moved += slope != 0 ? 1U : 0U;
      worst = std::max(worst, std::abs(slope - ours.gradient[tensor][i]));
    }
    INFO(std::string(names[tensor]), ": worst ", worst, " of ", size);
    CHECK(worst <= 1e-7 * size + 1e-9 * base.total());
    CHECK(moved >= std::min<std::size_t>(7, p[tensor].size()));
  }
  INFO(skipped, " of ", tried, " skipped");
  CHECK(skipped * 20 < tried);
}

template <class F>
void over_problems(const F& f) {
  const aux_k none{.alpha = 0};
  const auto tell = [&](const problem& q) {
    INFO("loss ", static_cast<int>(q.loss), ", layer norm ", q.layer_norm, ", alpha ", q.aux.alpha,
         ", scale ", static_cast<int>(q.aux.scale), ", detached ", q.aux.detach_residual,
         ", by decoder norm ", q.by_decoder_norm);
    f(q);
  };
  for (const kind loss : {kind::summed, kind::averaged, kind::raw_summed, kind::raw_averaged,
                          kind::fvu, kind::relative_to_bias}) {
    for (const bool layer_norm : {false, true}) {
      tell(make_problem(loss, layer_norm, none));
      tell(make_problem(loss, layer_norm, {.alpha = 0.5}));
      problem scaled = make_problem(loss, layer_norm, {.alpha = 0.5});
      scaled.by_decoder_norm = true;
      tell(scaled);
    }
  }
  using scaling = aux_k::scaling;
  for (const scaling scale : {scaling::residual_variance, scaling::row_residual,
                              scaling::target_variance, scaling::summed, scaling::averaged}) {
    for (const bool detached : {true, false}) {
      for (const std::size_t k : {std::size_t{4}, many}) {  // sums over sparse codes, and dense products
        const aux_k aux{.alpha = 0.7, .k = k, .scale = scale, .detach_residual = detached};
        tell(make_problem(kind::summed, false, aux));
        tell(make_problem(kind::raw_summed, true, aux));
      }
    }
  }
}

TEST_CASE("gradients of every loss, with and without AuxK, equal finite differences") {
  over_problems(check_against_differences);
}

TEST_CASE("the figures of a step are those of the formulas") {
  for (const bool layer_norm : {false, true}) {
    const problem q = make_problem(kind::summed, layer_norm, {.alpha = 0});
    const parameters p = make_parameters(q);
    const auto base = direct::loss(q, p);
    const auto ours = step_of<plmscope::reference>(q, p).metrics;
    CHECK(
        ours.fvu ==
        doctest::Approx(base.main * static_cast<double>(q.m) / base.held.variance).epsilon(1e-12));
    CHECK(ours.l0 ==
          doctest::Approx(static_cast<double>(base.chosen.size()) / static_cast<double>(q.m)));
  }
}

TEST_CASE("AuxK reaches dead encoder rows unless told not to") {
  const problem with = make_problem(kind::summed, false, {.alpha = 0.5});
  problem decoder_only = with;
  decoder_only.aux.reaches_encoder = false;
  const problem without = make_problem(kind::summed, false, {.alpha = 0});
  const parameters p = make_parameters(with);
  const auto all = step_of<plmscope::reference>(with, p).gradient;
  const auto half = step_of<plmscope::reference>(decoder_only, p).gradient;
  const auto none = step_of<plmscope::reference>(without, p).gradient;
  const auto chosen = direct::loss(without, p).chosen;

  std::size_t reached = 0;
  for (std::size_t f = 0; f < with.features; ++f) {
    const bool fired = std::find(chosen.begin(), chosen.end(), f) != chosen.end();
    for (std::size_t j = 0; j < with.d; ++j) {
      const std::size_t i = f * with.d + j;
      if (fired) {
        CHECK(all[0][i] == doctest::Approx(none[0][i]).epsilon(1e-12));
      } else {
        CHECK(none[0][i] == 0);
        reached += all[0][i] != 0 ? 1U : 0U;
      }
    }
  }
  CHECK(reached >= with.d);
  CHECK(half[0] == none[0]);
  CHECK(half[1] == all[1]);
  CHECK(half[2] == none[2]);
  CHECK(half[3] == none[3]);
  CHECK(all[1] != none[1]);
}

TEST_CASE("a frozen encoder bias has no gradient and changes no other") {
  const problem q = make_problem(kind::summed, false, {.alpha = 0.5});
  const parameters p = make_parameters(q);
  const auto trained = step_of<plmscope::reference>(q, p, true).gradient;
  const auto frozen = step_of<plmscope::reference>(q, p, false).gradient;
  CHECK(largest(trained[2]) > 0);
  CHECK(largest(frozen[2]) == 0);
  for (const std::size_t tensor : std::vector<std::size_t>{0, 1, 3}) {
    CHECK(frozen[tensor] == trained[tensor]);
  }
}

template <class B>
void check_against_reference(const problem& q, double limit) {
  const parameters p = make_parameters(q);
  const step_result want = step_of<plmscope::reference>(q, p);
  const step_result got = step_of<B>(q, p);
  REQUIRE(got.chosen == want.chosen);
  for (std::size_t tensor = 0; tensor < p.size(); ++tensor) {
    INFO(std::string(names[tensor]));
    CHECK(largest_difference(got.gradient[tensor], want.gradient[tensor]) <=
          limit * largest(want.gradient[tensor]));
  }
  const auto close = [&](double a, double b) { return std::abs(a - b) <= limit * std::abs(b); };
  CHECK(close(got.metrics.loss, want.metrics.loss));
  CHECK(close(got.metrics.aux_loss, want.metrics.aux_loss));
  CHECK(close(got.metrics.gradient_norm, want.metrics.gradient_norm));
  CHECK(close(got.metrics.fvu, want.metrics.fvu));
  CHECK(std::abs(got.metrics.cosine - want.metrics.cosine) <= limit);  // a mean of both signs
}

TEST_CASE("cpu in double has the reference's gradients") {
  over_problems([](problem q) {
    check_against_reference<plmscope::basic_cpu<double, plmscope::eigen_gemm>>(q, 1e-12);
    q.m = 130, q.d = 67, q.features = 300, q.k = 9;
    q.x = random_numbers(q.m * q.d, 1, 1.5, 0.7);
    check_against_reference<plmscope::basic_cpu<double, plmscope::eigen_gemm>>(q, 1e-12);
  });
}

TEST_CASE("cpu in single precision has the reference's gradients") {
  over_problems([](const problem& q) { check_against_reference<plmscope::cpu>(q, 1e-5); });
}

TEST_CASE("devices have the reference's gradients") {
  over_problems([](const problem& q) {
    check_against_reference<devices::twice>(q, 1e-12);
    check_against_reference<devices::single>(q, 1e-5);
  });
}

}  // namespace
