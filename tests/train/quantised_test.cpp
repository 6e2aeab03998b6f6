// SPDX-License-Identifier: MIT
// Codes of a few learned levels: gradients against finite differences of a step written out with
// the straight-through estimator in it, steps of overcomplete's QSAE (golden/quantised.py), files,
// and what is refused.
#include <tests/golden.hpp>
#include <tests/train/composition.hpp>
#include <tests/train/interrupted.hpp>
#include <tests/train/planted.hpp>

#include <plmscope/io/safetensors.hpp>
#include <plmscope/io/safetensors_writer.hpp>
#include <plmscope/sae/any_sae.hpp>
#include <plmscope/sae/sparsifiers/quantised.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <fstream>
#include <iterator>
#include <limits>
#include <map>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace {

using namespace composition;
using plmscope::quantised;

constexpr std::size_t q = 4;

template <class B>
numbers host(B& be, const auto& m) {
  numbers v(m.size());
  be.download(const_view<B>(m), std::span<double>(v));
  return v;
}

std::size_t nearest(double a, const numbers& levels) {
  std::size_t best = 0;
  for (std::size_t j = 1; j < levels.size(); ++j) {
    if (std::abs(a - levels[j]) < std::abs(a - levels[best])) best = j;
  }
  return best;
}
double mixed(double a, const numbers& levels) {
  double sum = 0, total = 0;
  for (const double level : levels) {
    const double w = std::exp(-(a - level) * (a - level));
    sum += w * level;
    total += w;
  }
  return sum / total;
}

// The loss of a step, where codes are relu(a) - relu(a0) + Q(a): the value and the slope of the
// estimator. a0: pre-activations of the point that slopes are taken at.
struct written_out {
  numbers encoder, decoder, encoder_bias, decoder_bias, levels;
  numbers x;
  bool soft = false;
  double l1 = 0;

  numbers pre() const {
    numbers a(rows * features);
    for (std::size_t r = 0; r < rows; ++r) {
      for (std::size_t f = 0; f < features; ++f) {
        double& v = a[r * features + f] = encoder_bias[f];
        for (std::size_t j = 0; j < d; ++j) {
          v += encoder[f * d + j] * (x[r * d + j] - decoder_bias[j]);
        }
      }
    }
    return a;
  }
  double loss(const numbers& a0) const {
    const numbers a = pre();
    double sum = 0;
    for (std::size_t r = 0; r < rows; ++r) {
      numbers e(d);
      for (std::size_t j = 0; j < d; ++j) e[j] = decoder_bias[j] - x[r * d + j];
      for (std::size_t f = 0; f < features; ++f) {
        const std::size_t i = r * features + f;
        const double level = soft ? mixed(a[i], levels) : levels[nearest(a0[i], levels)];
        const bool silent = !soft && level <= 0;  // the ReLU's slope at 0 is taken to be 0
        const double z =
            silent ? 0 : std::max(0.0, std::max(0.0, a[i]) - std::max(0.0, a0[i]) + level);
        sum += l1 * z;
        for (std::size_t j = 0; j < d; ++j) e[j] += z * decoder[f * d + j];
      }
      for (const double v : e) sum += v * v;
    }
    return sum / static_cast<double>(rows);
  }
};

void against_the_formula(bool soft, bool ordered) {
  INFO("soft ", soft, ", ordered ", ordered);
  auto policies =
      still(with(plmscope::l1_penalty{.weight = {0.3}, .length = penalised_length::none}));
  bench_run<quantised, reference, decltype(policies)> b(
      options(quantised{.levels = q, .soft = soft}), policies);
  reference& be = b.model.backend();
  auto& p = b.model.parameters();
  if (ordered) {
    const numbers even{0, 0.4, 0.9, 1.7};
    be.upload(std::span<const double>(even), p.latent[0].values.all());
  }
  written_out w{host(be, p.encoder),
                host(be, p.decoder),
                host(be, p.encoder_bias),
                host(be, p.decoder_bias),
                host(be, p.latent[0].values),
                host(be, b.x),
                soft,
                0.3};
  const numbers a0 = w.pre();
  CHECK(b.loss() == doctest::Approx(w.loss(a0)).epsilon(1e-12));
  double largest = 0;
  for (const auto& g : b.gradient) {
    for (const double v : g) largest = std::max(largest, std::abs(v));
  }
  std::size_t which = 0;
  double worst = 0;
  for (numbers* m : {&w.encoder, &w.decoder, &w.encoder_bias, &w.decoder_bias, &w.levels}) {
    const numbers& g = b.gradient[which++];
    REQUIRE(g.size() == m->size());
    for (std::size_t i = 0; i < m->size(); ++i) {
      const double at = (*m)[i], h = 1e-6;
      (*m)[i] = at + h;
      const double up = w.loss(a0);
      (*m)[i] = at - h;
      const double down = w.loss(a0);
      (*m)[i] = at;
      const double numeric = (up - down) / (2 * h);
      const bool silent = m == &w.levels && !soft && at == 0;
      if (silent) CHECK(g[i] == 0);
      if (silent) continue;
      worst = std::max(worst, std::abs(g[i] - numeric) / (std::abs(numeric) + 1e-3 * largest));
    }
  }
  CHECK(worst < 1e-5);
  CHECK(largest > 0.1);
}

// Steps of Adam from stored parameters on stored rows.
template <class B>
double worst_against_overcomplete(const plmscope::safetensors_file& file, const std::string& name,
                                  bool soft) {
  const auto read = [&](const std::string& n) { return file.read_vector<double>(name + '.' + n); };
  const auto& shape = file.require(name + ".encoder").shape;
  const std::size_t steps = shape[0] - 1, latents = shape[1], width = shape[2];
  typename plmscope::sae<quantised, B>::options o;
  o.d_model = width, o.features = latents;
  o.sparsifier = {.levels = file.require(name + ".levels").shape[1], .soft = soft};
  o.centring = input_centring::none;
  plmscope::sae<quantised, B> model(o);
  auto fit = with(plmscope::l1_penalty{.weight = {0.02}, .length = penalised_length::none});
  fit.clip = 0;
  B& be = model.backend();
  const auto each = [&](const auto& f) {
    model.parameters().for_each([&](const std::string& n, auto& m) { f(read(n), m); });
  };
  each([&](const numbers& all, auto& m) {
    be.upload(std::span<const double>(all).first(m.size()), m.all());
  });
  plmscope::training_run run(model, fit);
  const auto x = file.read_vector<double>("x");
  const std::size_t m = file.require("x").shape[1];
  plmscope::matrix<typename B::real, B> batch(be, m, width);
  double worst = 0;
  for (std::size_t s = 0; s < steps; ++s) {
    be.upload(std::span<const double>(x).subspan(s * batch.size(), batch.size()), batch.all());
    run.step(batch.all(), 0.01);
    each([&](const numbers& all, auto& mine) {
      const auto got = host(be, mine);
      for (std::size_t i = 0; i < got.size(); ++i) {
        worst = golden::worse(worst, std::abs(got[i] - all[(s + 1) * got.size() + i]));
      }
    });
  }
  return worst;
}

template <class F>
std::string thrown(const F& f) {
  try {
    f();
  } catch (const plmscope::error& e) {
    return std::string(e.id());
  }
  return "nothing";
}

}  // namespace

TEST_CASE("gradients are those of the straight-through estimator") {
  for (const bool soft : {false, true}) {
    for (const bool ordered : {false, true}) against_the_formula(soft, ordered);
  }
}

TEST_CASE(
    "decoder and levels: finite differences with every penalty, plan and model; every backend") {
  for (const bool soft : {false, true}) {
    const quantised s{.levels = q, .soft = soft};
    // What centres the rows moves pre-activations, whose slope is another than the value's.
    const std::vector<std::string> without{"encoder", "encoder_bias", "decoder_bias", "input_bias"};
    every_penalty(s, without);
    every_plan_and_loss(s, without);
    every_model(s, without, false);
  }
}

TEST_CASE("six steps of overcomplete's trainer") {
  const auto file = plmscope::safetensors_file::open(golden::repository() /
                                                     "tests/train/golden/quantised.safetensors");
  for (const bool soft : {false, true}) {
    const std::string name = soft ? "soft" : "hard";
    INFO(name);
    CHECK(worst_against_overcomplete<reference>(file, name, soft) < 1e-12);
    CHECK(worst_against_overcomplete<plmscope::basic_cpu<double, plmscope::eigen_gemm>>(
              file, name, soft) < 1e-12);
    CHECK(worst_against_overcomplete<devices::twice>(file, name, soft) < 1e-12);
    CHECK(worst_against_overcomplete<plmscope::cpu>(file, name, soft) < 1e-4);
    CHECK(worst_against_overcomplete<devices::single>(file, name, soft) < 1e-4);
  }
}

TEST_CASE("codes: levels that are silent, that cross, that are all alike") {
  const auto codes = [](const numbers& levels, const numbers& a, bool soft = false) {
    plmscope::sae<quantised, reference> model(
        {.d_model = 1, .features = 1, .sparsifier = {.levels = levels.size(), .soft = soft}});
    reference& be = model.backend();
    const double one = 1;
    be.upload(std::span<const double>(&one, 1), model.parameters().encoder.all());
    be.upload(std::span<const double>(levels), model.parameters().latent[0].values.all());
    plmscope::matrix<double, reference> x(be, a.size(), 1);
    be.upload(std::span<const double>(a), x.all());
    plmscope::codes<reference> z;
    model.encode(x, z);
    const auto h = plmscope::to_host(be, z);
    numbers out(a.size(), 0.0);
    for (std::size_t r = 0; r < a.size(); ++r) {
      for (auto e = h.offsets[r]; e < h.offsets[r + 1]; ++e)
        out[r] = h.values[static_cast<std::size_t>(e)];
    }
    return out;
  };
  const numbers a{-9, -0.3, 0.2, 0.24, 0.26, 0.6, 0.75, 5};
  CHECK(codes({0, 0.5, 1}, a) == numbers{0, 0, 0, 0, 0.5, 0.5, 0.5, 1});
  CHECK(codes({1, 0, 0.5}, a) == numbers{0, 0, 0, 0, 0.5, 0.5, 1, 1});
  CHECK(codes({-0.5, -1}, a) == numbers(8, 0.0));
  CHECK(codes({0.5, 2}, a) == numbers{0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 2});
  CHECK(codes({0.25, 0.25}, a) == numbers(8, 0.25));
  const double nan = std::numeric_limits<double>::quiet_NaN();
  CHECK(codes({0, 1}, {nan, 1}) == numbers{0, 1});
  const auto soft = codes({0, 0.5, 1}, a, true);
  for (std::size_t i = 0; i < a.size(); ++i) {
    CHECK(soft[i] == doctest::Approx(mixed(a[i], {0, 0.5, 1})).epsilon(1e-12));
  }
  CHECK(codes({0, 1}, {-1e6, 1e6}, true) == numbers{0, 1});  // no exponential overflows
}

TEST_CASE("a training learns its levels") {
  planted::reader<plmscope::cpu> data({.d = 32, .directions = 48});
  plmscope::sae<quantised> model({.d_model = 32, .features = 96, .sparsifier = {.levels = 5}});
  const auto levels = [&] { return host(model.backend(), model.parameters().latent[0].values); };
  CHECK(levels() == numbers{0, 0.25, 0.5, 0.75, 1});
  plmscope::trainer fit{.steps = 400,
                        .batch = 256,
                        .optimizer = plmscope::adam{.lr = 3e-3},
                        .penalty = plmscope::l1_penalty{.weight = {.value = 0.01}}};
  std::vector<double> fvu;
  const auto last = fit(model, data, [&](const auto& m) { fvu.push_back(m.fvu); });
  MESSAGE("FVU ", fvu.front(), " to ", last.fvu, ", L0 ", last.l0, ", top level ", levels().back());
  CHECK(last.fvu < 0.5 * fvu.front());
  CHECK(levels().front() == 0);
  CHECK(levels().back() != 1);
}

TEST_CASE("a training that is killed ends with the same bits, whatever the threads") {
  for (const bool soft : {false, true}) {
    const plmscope::trainer fit{.steps = 24,
                                .batch = 37,
                                .optimizer = plmscope::adam{.lr = 3e-3},
                                .penalty = plmscope::l1_penalty{.weight = {.value = 0.01}}};
    const auto model = [&](std::size_t threads) {
      return plmscope::sae<quantised>(
          {.d_model = 24, .features = 60, .sparsifier = {.levels = 3, .soft = soft}, .seed = 5},
          interrupted::backend_with<plmscope::cpu>(threads));
    };
    const auto reader = [] { return planted::reader<plmscope::cpu>({.d = 24, .offset = 2}); };
    const auto want = interrupted::whole(model(1), reader(), fit);
    for (const auto& breaks : std::vector<std::vector<std::size_t>>{{4}, {10, 3}}) {
      const golden::scratch_folder folder;
      CHECK(interrupted::same(want,
                              interrupted::broken(model, reader, fit, folder / "c", 3, breaks)));
    }
  }
}

TEST_CASE("levels are not thresholds: a penalty that needs those is refused") {
  const auto trained = [](auto sparsifier) {
    using S = decltype(sparsifier);
    planted::reader<plmscope::cpu> data({.d = 16, .directions = 24});
    plmscope::sae<S> model({.d_model = 16, .features = 48, .sparsifier = sparsifier});
    const plmscope::trainer fit{
        .steps = 2,
        .batch = 32,
        .penalty = plmscope::pre_activation_penalty{.weight = {.value = 1}}};
    return thrown([&] { fit(model, data); });
  };
  CHECK(trained(quantised{}) == "train.112");
  CHECK(trained(plmscope::relu{}) == "train.112");
}

TEST_CASE("files come back, and broken ones are refused") {
  const golden::scratch_folder folder;
  plmscope::sae<quantised> a(
      {.d_model = 8, .features = 24, .sparsifier = {.levels = 3, .soft = true}});
  const numbers levels{0.125, -0.5, 2.25};
  a.backend().upload(std::span<const double>(levels), a.parameters().latent[0].values.all());
  plmscope::save_sae(a, folder / "a.safetensors");
  auto b = plmscope::any_sae<>::open(folder / "a.safetensors");
  auto* back = b.get_if<quantised>();
  REQUIRE(back != nullptr);
  CHECK(back->sparsifier().levels == 3);
  CHECK(back->sparsifier().soft);
  CHECK(host(back->backend(), back->parameters().latent[0].values) == levels);
  b.save(folder / "b.safetensors");
  const auto bytes = [&](const char* name) {
    std::ifstream in(folder / name, std::ios::binary);
    return std::string(std::istreambuf_iterator<char>(in), {});
  };
  CHECK(bytes("a.safetensors") == bytes("b.safetensors"));
  CHECK(thrown([&] { save_saelens(b, folder / "saelens"); }) == "sae.116");

  const auto opened = [&](const auto& change) {
    const auto file = plmscope::safetensors_file::open(folder / "a.safetensors");
    std::map<std::string, std::string> metadata;
    for (const auto& [key, value] : file.metadata()) metadata[key] = value;
    std::map<std::string, std::pair<std::vector<std::size_t>, std::vector<float>>> tensors;
    for (const auto& name : file.names()) {
      tensors[name] = {file.require(name).shape, file.read_vector<float>(name)};
    }
    change(metadata, tensors);
    plmscope::safetensors_writer out;
    for (const auto& [key, value] : metadata) out.metadata[key] = value;
    for (const auto& [name, t] : tensors) out.add_owned<float>(name, t.first, t.second);
    out.write(folder / "c.safetensors");
    return thrown([&] { plmscope::any_sae<>::open(folder / "c.safetensors"); });
  };
  const auto field = [&](const char* name, const char* value) {
    return opened([&](auto& m, auto&) { m[std::string("sparsifier.") + name] = value; });
  };
  CHECK(opened([](auto&, auto&) {}) == "nothing");
  for (const char* n : {"0", "1", "257", "18446744073709551615"})
    CHECK(field("levels", n) == "sae.101");
  for (const char* n : {"", "-3", "3.5", "many"}) CHECK(field("levels", n) == "sae.108");
  CHECK(field("levels", "4").starts_with("io."));
  CHECK(field("soft", "2") == "sae.108");
  CHECK(opened([](auto& m, auto&) { m.erase("sparsifier.levels"); }) == "sae.108");
  CHECK(opened([](auto& m, auto&) { m["lengths"] = "in_codes"; }) == "sae.101");
  CHECK(opened([](auto&, auto& t) { t.erase("levels"); }).starts_with("io."));
  CHECK(opened([](auto&, auto& t) { t["levels"].first = {1, 3}; }).starts_with("io."));
  CHECK(opened([](auto&, auto& t) { t["levels"].second[1] = std::nanf(""); }) == "sae.106");
}
