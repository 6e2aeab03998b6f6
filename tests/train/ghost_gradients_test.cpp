// SPDX-License-Identifier: MIT
// Ghost gradients: value and gradient against the formula written out, with what it holds constant;
// every backend; a training that they bring latents back to; resumed ones; awkward numbers.
#include <tests/golden.hpp>
#include <tests/train/finite_differences.hpp>
#include <tests/train/interrupted.hpp>
#include <tests/train/planted.hpp>

#include <plmscope/sae/sparsifiers/relu.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace {

using namespace differences;
using plmscope::ghost_gradients;
using plmscope::relu;
using plmscope::top_k;

struct measured {
  double loss = 0, aux = 0;
  std::vector<numbers> gradient;
  numbers residual;
  std::vector<std::size_t> dead;
};

// One step at rate 0, in which the latents of `dead` are dead.
template <class S, class B>
measured step_of(typename plmscope::sae<S, B>::options o, ghost_gradients ghosts, double bias = 0) {
  const auto fit = still(plmscope::trainer{.dead = ghosts, .dictionary = plmscope::free_norm{}});
  bench_run<S, B, std::remove_const_t<decltype(fit)>> b(o, fit);
  B& be = b.model.backend();
  if (bias != 0)
    be.fill(b.model.parameters().encoder_bias.all(), static_cast<typename B::real>(bias));
  plmscope::training_run run(b.model, fit);
  std::vector<std::int64_t> since(features, 0);
  measured out;
  for (std::size_t f = 1; f < features; f += 3) since[f] = 1000, out.dead.push_back(f);
  be.upload(std::span<const std::int64_t>(since), run.dead_state().since_fired.all());
  run.step(b.x.all(), 0.0);
  run.gradient().for_each([&](const char*, const auto& g) {
    numbers host(g.size());
    be.download(const_view<B>(g), std::span<double>(host));
    out.gradient.push_back(host);
  });
  const auto m = run.metrics();
  out.loss = m.loss, out.aux = m.aux_loss;
  // r = x - result, by the model itself
  plmscope::matrix<typename B::real, B> y(be, rows, d);
  b.model.reconstruct(b.x.all(), y.all());
  be.scale(y, -1);
  be.axpy(1, const_view<B>(b.x), y);
  out.residual.resize(y.size());
  be.download(const_view<B>(y), std::span<double>(out.residual));
  return out;
}

const ghost_gradients by_row{.alpha = 0.7, .dead_after = 500};
const ghost_gradients by_entry{.alpha = 0.7, .dead_after = 500, .by_entry = true};

// L of parameters p; constants (lengths and weights) as at p0.
struct written_out {
  numbers encoder, decoder, encoder_bias, decoder_bias, x, residual;
  std::vector<std::size_t> dead;
  ghost_gradients ghosts;

  numbers sums() const {
    numbers g(rows * d, 0.0);
    for (std::size_t r = 0; r < rows; ++r) {
      for (const std::size_t f : dead) {
        double a = encoder_bias[f];
        for (std::size_t j = 0; j < d; ++j)
          a += encoder[f * d + j] * (x[r * d + j] - decoder_bias[j]);
        for (std::size_t j = 0; j < d; ++j) g[r * d + j] += std::exp(a) * decoder[f * d + j];
      }
    }
    return g;
  }
  static double squares(const numbers& v, std::size_t r) {
    double sum = 0;
    for (std::size_t j = 0; j < d; ++j) sum += v[r * d + j] * v[r * d + j];
    return sum;
  }
  // at0: the sums at the point where derivatives are taken
  double loss(const numbers& at0) const {
    const numbers g = sums();
    double total = 0;
    for (std::size_t r = 0; r < rows; ++r) {
      const double factor = std::sqrt(squares(residual, r)) / (2 * std::sqrt(squares(at0, r)));
      numbers e(d), e0(d);
      for (std::size_t j = 0; j < d; ++j) {
        e[j] = factor * g[r * d + j] - residual[r * d + j];
        e0[j] = factor * at0[r * d + j] - residual[r * d + j];
      }
      for (std::size_t j = 0; j < d; ++j) {
        const double was = residual[r * d + j];
        const double share = ghosts.by_entry
                                 ? was * was / (e0[j] * e0[j] + ghosts.epsilon)
                                 : squares(residual, r) / (squares(e0, 0) + ghosts.epsilon);
        total += ghosts.alpha / rows * share * e[j] * e[j];
      }
    }
    return total;
  }
};

template <class S>
void against_the_formula(S s, ghost_gradients ghosts) {
  auto o = options(s);
  const auto got = step_of<S, reference>(o, ghosts);
  ghosts.alpha = 0;
  const auto without = step_of<S, reference>(o, ghosts);
  ghosts.alpha = 0.7;
  bench_run<S, reference, plmscope::trainer<>> b(o, plmscope::trainer<>{});
  const auto host = [&](const auto& m) { return numbers(m.data(), m.data() + m.size()); };
  const auto& p = b.model.parameters();
  written_out w{host(p.encoder),
                host(p.decoder),
                host(p.encoder_bias),
                host(p.decoder_bias),
                host(b.x),
                got.residual,
                got.dead,
                ghosts};
  const numbers at0 = w.sums();
  CHECK(got.aux > 0);
  CHECK(without.aux == 0);
  CHECK(got.aux == doctest::Approx(w.loss(at0)).epsilon(1e-12));
  double largest = 0, worst = 0;
  std::size_t which = 0;
  for (numbers* m : {&w.encoder, &w.decoder, &w.encoder_bias, &w.decoder_bias}) {
    for (std::size_t i = 0; i < m->size(); ++i) {
      const double was = (*m)[i], h = 1e-6;
      (*m)[i] = was + h;
      const double up = w.loss(at0);
      (*m)[i] = was - h;
      const double down = w.loss(at0);
      (*m)[i] = was;
      const double numeric = (up - down) / (2 * h);
      const double ours = got.gradient[which][i] - without.gradient[which][i];
      largest = std::max(largest, std::abs(numeric));
      worst = std::max(worst, std::abs(ours - numeric));
    }
    ++which;
  }
  CHECK(largest > 0.01);
  CHECK(worst < 1e-7 * largest);
}

}  // namespace

TEST_CASE("value and gradient are the formula's, by row and by entry") {
  for (const auto& ghosts : {by_row, by_entry}) {
    against_the_formula(top_k{.k = 4}, ghosts);
    against_the_formula(relu{}, ghosts);
  }
}

TEST_CASE("the loss is as large as the main squared error") {
  const auto m = step_of<top_k, reference>(options(top_k{.k = 4}), {.dead_after = 500});
  CHECK(m.loss == doctest::Approx(2 * m.aux).epsilon(1e-5));
}

TEST_CASE("the same gradient from other kernels") {
  const auto same = [](auto be, double limit) {
    using B = decltype(be);
    for (const auto& ghosts : {by_row, by_entry}) {
      typename plmscope::sae<top_k, B>::options o;
      o.d_model = d, o.features = features, o.sparsifier = {.k = 4};
      const auto a = step_of<top_k, reference>(options(top_k{.k = 4}), ghosts);
      const auto b = step_of<top_k, B>(o, ghosts);
      CHECK(b.aux == doctest::Approx(a.aux).epsilon(limit));
      for (std::size_t i = 0; i < a.gradient.size(); ++i) {
        CHECK(golden::relative_l2(std::span<const double>(b.gradient[i]),
                                  std::span<const double>(a.gradient[i])) < limit);
      }
    }
  };
  same(plmscope::basic_cpu<double, plmscope::eigen_gemm>(), 1e-10);
  same(devices::twice(), 1e-10);
  same(plmscope::cpu(), 1e-3);
  same(devices::single(), 1e-3);
}

TEST_CASE("exponentials of any size, and results without error") {
  for (const double bias : {-1e4, -800.0, 800.0, 1e4}) {
    const auto m = step_of<top_k, reference>(options(top_k{.k = 4}), by_row, bias);
    CHECK(std::isfinite(m.loss));
    CHECK(m.aux > 0);
    for (const auto& g : m.gradient) {
      CHECK(std::all_of(g.begin(), g.end(), [](double v) { return std::isfinite(v); }));
    }
  }
  for (const auto& ghosts : {by_row, by_entry}) {  // zeros reconstruct zeros
    plmscope::sae<top_k, reference> model({.d_model = 4, .features = 8, .sparsifier = {.k = 2}});
    plmscope::matrix<double, reference> x(model.backend(), 5, 4);
    const auto fit = still(plmscope::trainer{.dead = ghosts});
    plmscope::training_run run(model, fit);
    for (int i = 0; i < 120; ++i) run.step(x.all(), 1e-3);
    const auto m = run.metrics();
    CHECK(m.dead_share == 1);
    CHECK(m.loss == 0);
    CHECK(m.gradient_norm == 0);
  }
}

TEST_CASE("a training with ghosts has fewer dead latents") {
  const auto dead_share = [](double alpha) {
    planted::reader<plmscope::cpu> data({.d = 32, .directions = 48});
    plmscope::sae<relu> model({.d_model = 32, .features = 256});
    const plmscope::trainer fit{.steps = 500,
                                .batch = 256,
                                .optimizer = plmscope::adam{.lr = 3e-3},
                                .penalty = plmscope::l1_penalty{.weight = {.value = 0.3}},
                                .dead = ghost_gradients{.alpha = alpha, .dead_after = 5000}};
    return fit(model, data).dead_share;
  };
  const double without = dead_share(0), with_them = dead_share(1);
  MESSAGE("dead latents: ", without, " without, ", with_them, " with");
  CHECK(with_them < 0.7 * without);
}

TEST_CASE("a training that is killed ends with the same bits") {
  const plmscope::trainer fit{.steps = 24,
                              .batch = 37,
                              .optimizer = plmscope::adam{.lr = 3e-3},
                              .dead = ghost_gradients{.dead_after = 150}};
  const auto model = [](std::size_t threads) {
    return plmscope::sae<top_k>({.d_model = 24, .features = 150, .sparsifier = {.k = 3}, .seed = 5},
                                interrupted::backend_with<plmscope::cpu>(threads));
  };
  const auto reader = [] { return planted::reader<plmscope::cpu>({.d = 24, .offset = 2}); };
  const auto want = interrupted::whole(model(1), reader(), fit);
  CHECK(want.metrics.aux_loss > 0);
  for (const auto& breaks : std::vector<std::vector<std::size_t>>{{4}, {10, 3}, {20, 2}}) {
    const golden::scratch_folder folder;
    CHECK(
        interrupted::same(want, interrupted::broken(model, reader, fit, folder / "c", 3, breaks)));
  }
}
