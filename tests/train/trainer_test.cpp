// SPDX-License-Identifier: MIT
#include <tests/train/planted.hpp>

#include <plmscope/backend/cpu.hpp>
#include <plmscope/backend/reference.hpp>
#include <plmscope/sae/normalizer.hpp>
#include <plmscope/sae/sae.hpp>
#include <plmscope/sae/sparsifiers/gated.hpp>
#include <plmscope/train/averaged.hpp>
#include <plmscope/train/choice.hpp>
#include <plmscope/train/trainer.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

namespace {

using plmscope::const_view;
using plmscope::cpu;
using plmscope::training_metrics;
using model_type = plmscope::sae<plmscope::top_k>;

// Mean over planted directions of the largest cosine with any decoder row.
double recovery(model_type& model, const planted::options& o) {
  const auto planted_rows = planted::dictionary(o);
  const auto& w = model.parameters().decoder;
  double sum = 0;
  for (std::size_t f = 0; f < o.directions; ++f) {
    double best = -1;
    for (std::size_t g = 0; g < w.rows(); ++g) {
      double dot = 0;
      double squares = 0;
      for (std::size_t j = 0; j < o.d; ++j) {
        const auto v = static_cast<double>(w(g, j));
        dot += v * planted_rows[f * o.d + j];
        squares += v * v;
      }
      best = std::max(best, dot / std::sqrt(squares));
    }
    sum += best;
  }
  return sum / static_cast<double>(o.directions);
}

TEST_CASE("training finds the dictionary that the data was made from") {
  for (const double offset : {0.0, 5.0}) {  // with an offset only the bias saves it
    const planted::options o{.offset = offset};
    model_type model({.d_model = o.d, .features = 64, .sparsifier = {.k = 3}}, cpu(2));
    CHECK(recovery(model, o) < 0.8);
    plmscope::trainer fit{.steps = 2500,
                          .batch = 256,
                          .optimizer = plmscope::adam{.lr = 3e-3},
                          .schedule = plmscope::warmup_decay{.warmup = 50, .decay_start = 2000},
                          .dead = plmscope::aux_k{.dead_after = 10'000}};
    const auto last = fit(model, planted::reader<cpu>(o));
    INFO("offset ", offset);
    CHECK(recovery(model, o) >= 0.95);
    CHECK(last.fvu < 0.1);
    CHECK(last.explained_variance > 0.9);
    CHECK(last.dead_share < 0.5);
    CHECK(last.l0 <= 3.0);
  }
}

TEST_CASE("64 rows are learned by heart") {
  const planted::options o{.d = 16, .noise = 1.0};
  model_type model({.d_model = o.d, .features = 256, .sparsifier = {.k = 8}}, cpu(2));
  plmscope::trainer fit{.steps = 1500,
                        .batch = 64,
                        .optimizer = plmscope::adam{.lr = 3e-3},
                        .schedule = plmscope::warmup_decay{.decay_start = 1000},
                        .dead = plmscope::aux_k{.dead_after = 6400}};
  const auto last = fit(model, planted::reader<cpu>(o, 64));
  CHECK(last.fvu < 1e-3);
  CHECK(last.cosine > 0.999);
}

// FVU, explained variance and cosine of stored reconstructions, by their formulas.
struct figures {
  double fvu, explained_variance, cosine;
};
figures direct_figures(const std::vector<double>& y, const std::vector<double>& z, std::size_t m,
                       std::size_t d) {
  std::vector<double> mean(d), mean_error(d);
  for (std::size_t i = 0; i < y.size(); ++i) {
    mean[i % d] += y[i] / static_cast<double>(m);
    mean_error[i % d] += (z[i] - y[i]) / static_cast<double>(m);
  }
  double total = 0, squares = 0, scatter = 0, cosine = 0;
  for (std::size_t r = 0; r < m; ++r) {
    double yy = 0, zz = 0, yz = 0;
    for (std::size_t j = 0; j < d; ++j) {
      const double a = y[r * d + j];
      const double b = z[r * d + j];
      total += std::pow(a - mean[j], 2);
      squares += std::pow(b - a, 2);
      scatter += std::pow(b - a - mean_error[j], 2);
      yy += a * a, zz += b * b, yz += a * b;
    }
    cosine += yz / std::sqrt(yy * zz) / static_cast<double>(m);
  }
  return {squares / total, 1 - scatter / total, cosine};
}

// Rows with other variances in every dimension, correlated, and far from the origin.
std::vector<double> anisotropic(std::size_t m, std::size_t d) {
  const plmscope::rng random(3, 3);
  std::vector<double> x(m * d);
  for (std::size_t r = 0; r < m; ++r) {
    const double common = random.normal(1'000'000 + r);
    for (std::size_t j = 0; j < d; ++j) {
      const auto scale = static_cast<double>(j + 1);
      x[r * d + j] = 4 - scale + scale * random.normal(r * d + j) + 2 * common;
    }
  }
  return x;
}

template <class B>
using free_trainer =
    plmscope::trainer<plmscope::adam, plmscope::warmup_decay, plmscope::mean_squared_error,
                      plmscope::no_penalty, plmscope::aux_k, plmscope::free_norm>;

TEST_CASE("metrics of a step equal direct formulas on anisotropic data with a mean") {
  const auto check = []<class B>(B be, double limit) {
    for (const auto kind :
         {plmscope::normalization::none, plmscope::normalization::scalar,
          plmscope::normalization::per_dimension, plmscope::normalization::token_layer_norm}) {
      constexpr std::size_t m = 150;
      constexpr std::size_t d = 12;
      const auto x = anisotropic(m, d);
      using sae_type = plmscope::sae<plmscope::top_k, B>;
      sae_type model({.d_model = d,
                      .features = 40,
                      .sparsifier = {.k = 4},
                      .normalize = plmscope::fit_normalizer<double>(kind, x, d)},
                     be);
      plmscope::matrix<typename B::real, B> rows(be, m, d);
      be.upload(std::span<const double>(x), rows.all());
      plmscope::initialize_bias(model, const_view<B>(rows), plmscope::start_bias::mean);
      const free_trainer<B> policies{.dead = {.alpha = 0}};
      plmscope::training_run<sae_type, free_trainer<B>> run(model, policies);
      // The reconstruction of normalised rows before the step, which moves nothing at rate 0.
      run.step(rows, 0.0);
      std::vector<double> y(m * d), z(m * d);
      be.download(model.normalized(), std::span<double>(y));
      plmscope::matrix<typename B::real, B> out(be, m, d);
      be.decode(run.last_codes(), model.parameters().decoder, model.parameters().decoder_bias, out);
      be.download(const_view<B>(out), std::span<double>(z));
      const figures want = direct_figures(y, z, m, d);
      const training_metrics got = run.metrics();
      INFO("normaliser ", std::string(plmscope::normalizer::name(kind)));
      CHECK(got.fvu == doctest::Approx(want.fvu).epsilon(limit));
      CHECK(got.explained_variance == doctest::Approx(want.explained_variance).epsilon(limit));
      CHECK(got.cosine == doctest::Approx(want.cosine).epsilon(limit));
      CHECK(got.l0 == doctest::Approx(static_cast<double>(run.last_codes().entries()) / m));
      CHECK(got.fvu > 0.01);  // not a trivial case
      CHECK(got.fvu != doctest::Approx(1 - got.explained_variance).epsilon(1e-3));

      // Asking changes nothing, and asking twice says the same.
      const training_metrics again = run.metrics();
      CHECK(again.loss == got.loss);
      CHECK(again.aux_loss == got.aux_loss);
      CHECK(again.fvu == got.fvu);
      CHECK(again.explained_variance == got.explained_variance);
      CHECK(again.cosine == got.cosine);
      CHECK(again.gradient_norm == got.gradient_norm);
      CHECK(again.dead_share == got.dead_share);
    }
  };
  check(cpu(2), 1e-5);
  check(plmscope::reference(), 1e-11);
}

TEST_CASE("decoder rows have length 1 after every step") {
  const planted::options o{};
  model_type model({.d_model = o.d, .features = 70, .sparsifier = {.k = 3}}, cpu(2));
  using policies = plmscope::trainer<>;
  plmscope::training_run<model_type, policies> run(model, policies{});
  planted::reader<cpu> reader(o);
  auto& be = model.backend();
  plmscope::matrix<float, cpu> norms(be, 1, 70);
  for (int s = 0; s < 20; ++s) {
    run.step(reader.next(be, 100), 0.01);
    be.row_norms(model.parameters().decoder, norms);
    for (std::size_t f = 0; f < 70; ++f) REQUIRE(std::abs(norms(0, f) - 1) < 1e-6f);
  }
}

TEST_CASE("the projected gradient is orthogonal to the decoder rows") {
  const planted::options o{};
  model_type model({.d_model = o.d, .features = 70, .sparsifier = {.k = 3}}, cpu(1));
  const plmscope::trainer policies{.optimizer =
                                       plmscope::averaged<>{}};  // leaves rows to unit_norm
  plmscope::training_run<model_type, std::remove_const_t<decltype(policies)>> run(model, policies);
  planted::reader<cpu> reader(o);
  run.step(reader.next(model.backend(), 100), 0.0);
  plmscope::matrix<float, cpu> along(model.backend(), 1, 70), norms(model.backend(), 1, 70);
  model.backend().row_dots(run.gradient().decoder, model.parameters().decoder, along);
  model.backend().row_norms(run.gradient().decoder, norms);
  double largest = 0;
  for (std::size_t f = 0; f < 70; ++f) {
    largest = std::max(largest, static_cast<double>(norms(0, f)));
    CHECK(std::abs(along(0, f)) <= 3e-6f * std::max(1.0f, norms(0, f)));
  }
  CHECK(largest > 0.01);
}

TEST_CASE("Adam with projection and rescaling in its pass leaves the bits of one after the other") {
  const planted::options o{};
  using projection = plmscope::unit_norm::projection;
  const auto trained = [&](const auto& policies) {
    model_type model({.d_model = o.d, .features = 70, .sparsifier = {.k = 3}}, cpu(2));
    plmscope::training_run<model_type, std::remove_cvref_t<decltype(policies)>> run(model,
                                                                                    policies);
    planted::reader<cpu> reader(o);
    for (int s = 0; s < 20; ++s) run.step(reader.next(model.backend(), 100), 0.01);
    std::vector<float> numbers{static_cast<float>(run.metrics().gradient_norm)};
    model.parameters().for_each([&](const char*, const auto& x) {
      numbers.insert(numbers.end(), x.data(), x.data() + x.rows() * x.cols());
    });
    return numbers;
  };
  for (const projection p : {projection::before_clip, projection::after_clip, projection::none}) {
    for (const double clip : {0.0, 0.05}) {
      const plmscope::unit_norm rows{.project = p};
      const auto one_pass = trained(plmscope::trainer{.dictionary = rows, .clip = clip});
      const auto apart = trained(
          plmscope::trainer{.optimizer = plmscope::averaged<>{}, .dictionary = rows, .clip = clip});
      CHECK(one_pass == apart);
    }
  }
}

struct twice_as_long : plmscope::unit_norm {
  template <class B>
  void after_step(B& be, plmscope::sae_parameters<B>& p) const {
    unit_norm::after_step(be, p);
    be.scale(p.decoder, typename B::real{2});
  }
};

TEST_CASE("a policy that inherits a rule for rows is asked for its own moments") {
  const planted::options o{};
  const auto lengths = [&](const auto& policies) {
    model_type model({.d_model = o.d, .features = 70, .sparsifier = {.k = 3}}, cpu(1));
    plmscope::training_run<model_type, std::remove_cvref_t<decltype(policies)>> run(model,
                                                                                    policies);
    planted::reader<cpu> reader(o);
    run.step(reader.next(model.backend(), 100), 0.01);
    plmscope::matrix<float, cpu> norms(model.backend(), 1, 70);
    model.backend().row_norms(model.parameters().decoder, norms);
    return norms(0, 0);
  };
  CHECK(lengths(plmscope::trainer{.dictionary = twice_as_long{}}) == doctest::Approx(2));
  using chosen = plmscope::dictionary_choice<plmscope::unit_norm, twice_as_long>;
  CHECK(lengths(plmscope::trainer{.dictionary = chosen{.of = twice_as_long{}}}) ==
        doctest::Approx(2));
  CHECK(lengths(plmscope::trainer{.dictionary = chosen{}}) == doctest::Approx(1));
}

TEST_CASE("dead latents are counted in tokens") {
  model_type model({.d_model = 8, .features = 20, .sparsifier = {.k = 2}}, cpu(1));
  auto& be = model.backend();
  plmscope::trainer<> policies{.dead = {.dead_after = 250}};
  plmscope::training_run<model_type, plmscope::trainer<>> run(model, policies);
  // One row again and again: at most two latents fire.
  plmscope::matrix<float, cpu> x(be, 100, 8);
  be.fill(x.all().col_range(2, 1), 1.0f);
  std::vector<std::size_t> dead;
  for (int s = 0; s < 4; ++s) {
    run.step(x, 0.0);
    const auto m = run.metrics();
    CHECK(m.tokens == 100 * (s + 1));
    dead.push_back(static_cast<std::size_t>(std::lround(20 * m.dead_share)));
    const auto& since = run.dead_state().since_fired;
    const auto& z = run.last_codes();
    for (std::size_t f = 0; f < 20; ++f) {
      const bool fired = std::find(z.ids(), z.ids() + z.entries(), f) != z.ids() + z.entries();
      CHECK(since(0, f) == (fired ? 0 : 100 * (s + 1)));
    }
  }
  CHECK(dead[0] == 0);
  CHECK(dead[1] == 0);  // 200 tokens are not yet 250
  CHECK(dead[2] >= 18);
  CHECK(dead[3] == dead[2]);
}

TEST_CASE("clipping limits the norm that the optimizer sees and reports the one before") {
  const planted::options o{};
  const auto moved = [&](double clip) {
    model_type model({.d_model = o.d, .features = 70, .sparsifier = {.k = 3}}, cpu(1));
    plmscope::trainer<> policies{.clip = clip};
    plmscope::training_run<model_type, plmscope::trainer<>> run(model, policies);
    planted::reader<cpu> reader(o);
    run.step(reader.next(model.backend(), 100), 0.0);
    double squares = 0;
    const auto add = [&](const char*, auto& m) {
      for (std::size_t i = 0; i < m.size(); ++i) {
        squares += static_cast<double>(m.data()[i]) * static_cast<double>(m.data()[i]);
      }
    };
    run.optimizer_state().m.for_each(add);  // (1 - beta1) times what the optimizer saw
    return std::pair(std::sqrt(squares) / 0.1, run.metrics().gradient_norm);
  };
  const auto [free, norm] = moved(0);
  CHECK(free == doctest::Approx(norm).epsilon(1e-4));
  const auto [clipped, same] = moved(norm / 4);
  CHECK(clipped == doctest::Approx(norm / 4).epsilon(1e-4));
  CHECK(same == norm);
  CHECK(moved(norm * 4).first == doctest::Approx(norm).epsilon(1e-4));
}

template <class F>
std::string id_of(const F& f) {
  try {
    f();
  } catch (const plmscope::error& e) {
    return std::string(e.id());
  }
  return "nothing thrown";
}

struct fixed_rows {
  plmscope::matrix<float, cpu> rows;
  const_view<cpu> next(cpu&, std::size_t) { return rows; }
};

TEST_CASE("what training refuses") {
  model_type model({.d_model = 4, .features = 8, .sparsifier = {.k = 2}}, cpu(1));
  auto& be = model.backend();
  const planted::options o{.d = 4};
  const auto train = [&](const auto& fit, auto&& reader) {
    return id_of([&] { fit(model, reader); });
  };
  CHECK(train(plmscope::trainer{.steps = 0}, planted::reader<cpu>(o)) == "train.101");
  CHECK(train(plmscope::trainer{.batch = 1}, planted::reader<cpu>(o)) == "train.101");
  fixed_rows bad{plmscope::matrix<float, cpu>(be, 16, 4)};
  bad.rows(3, 1) = std::numeric_limits<float>::quiet_NaN();
  CHECK(train(plmscope::trainer{.steps = 3}, bad) == "train.102");
  CHECK(train(plmscope::trainer{.steps = 3}, fixed_rows{plmscope::matrix<float, cpu>(be, 0, 4)}) ==
        "train.103");
  CHECK(train(plmscope::trainer{.steps = 3}, fixed_rows{plmscope::matrix<float, cpu>(be, 9, 5)}) ==
        "sae.102");
  const plmscope::mean_squared_error raw{.space = plmscope::loss_space::raw};
  model_type scaled({.d_model = 4,
                     .features = 8,
                     .sparsifier = {.k = 2},
                     .normalize = {.kind = plmscope::normalization::scalar, .scale = 2}},
                    cpu(1));
  plmscope::trainer<plmscope::adam, plmscope::warmup_decay, plmscope::mean_squared_error> fit{
      .steps = 2, .batch = 8, .loss = raw};
  CHECK(id_of([&] { fit(scaled, planted::reader<cpu>(o)); }) == "train.104");
}

TEST_CASE("reports come every log_every steps and after the last") {
  const planted::options o{.d = 6};
  model_type model({.d_model = 6, .features = 12, .sparsifier = {.k = 2}}, cpu(1));
  std::vector<std::size_t> seen;
  plmscope::trainer fit{.steps = 25, .batch = 32, .log_every = 10};
  const auto last = fit(model, planted::reader<cpu>(o), [&](const training_metrics& m) {
    CHECK(m.steps == 25);
    CHECK(m.tokens == static_cast<std::int64_t>(32 * (m.step + 1)));
    CHECK(m.learning_rate == doctest::Approx(2e-4));
    seen.push_back(m.step);
  });
  CHECK(seen == std::vector<std::size_t>{0, 10, 20, 24});
  CHECK(last.step == 24);
  CHECK(last.seconds >= 0);
}

}  // namespace

TEST_CASE("lengths in codes are not trained with parameters of the sparsifier's own") {
  plmscope::sae<plmscope::gated> model(
      {.d_model = 8, .features = 24, .lengths = plmscope::row_lengths::in_codes});
  const plmscope::trainer<> fit;
  using run = plmscope::training_run<plmscope::sae<plmscope::gated>, plmscope::trainer<>>;
  CHECK_THROWS_WITH_AS((run{model, fit}), doctest::Contains("train.106"), plmscope::error);
}
