// SPDX-License-Identifier: MIT
// A k that falls: its values, what a training does with it, resumed ones, what is refused.
// (dictionary_learning's own run with one is followed in topk_golden_test.cpp.)
#include <tests/golden.hpp>
#include <tests/train/interrupted.hpp>
#include <tests/train/planted.hpp>

#include <plmscope/sae/sparsifiers/batch_top_k.hpp>
#include <plmscope/train/trainer.hpp>

#include <doctest/doctest.h>

#include <cmath>
#include <cstddef>
#include <limits>
#include <string>
#include <vector>

using namespace plmscope;

TEST_CASE("values: linear, geometric, and as dictionary_learning has them") {
  const k_annealing linear{.to = 4, .over = 10, .from = 24};
  CHECK(linear(0, 99) == 24);
  CHECK(linear(5, 99) == 14);
  CHECK(linear(10, 99) == 4);
  CHECK(linear(11, 99) == 4);
  const k_annealing geometric{.to = 4, .over = 10, .geometric = true};
  CHECK(geometric(0, 64) == doctest::Approx(64));
  CHECK(geometric(5, 64) == doctest::Approx(16));
  CHECK(geometric(10, 64) == doctest::Approx(4));
  const k_annealing late{.to = 4, .over = 10, .from = 24, .late = true};
  CHECK(late(0, 99) == 4);
  CHECK(late(1, 99) == 24);
  CHECK(late(11, 99) == 4);
  CHECK(k_annealing{.to = 7, .over = 0}(0, 99) == 7);
  const k_annealing rising{.to = 8, .over = 4, .from = 2};
  CHECK(rising(2, 99) == 5);
}

namespace {

template <class S>
std::vector<double> l0_of(S sparsifier, k_annealing falls) {
  planted::reader<cpu> data({.d = 32, .directions = 48});
  sae<S> model({.d_model = 32, .features = 128, .sparsifier = sparsifier});
  const trainer fit{.steps = 13, .batch = 128, .upkeep = falls, .log_every = 1};
  std::vector<double> l0;
  fit(model, data, [&](const auto& m) { l0.push_back(m.l0); });
  CHECK(model.sparsifier().k == falls.to);
  return l0;
}

template <class F>
std::string thrown(const F& f) {
  try {
    f();
  } catch (const error& e) {
    return std::string(e.id());
  }
  return "nothing";
}

}  // namespace

TEST_CASE("a training keeps as many latents as its step says") {
  const k_annealing falls{.to = 5, .over = 10, .from = 16};
  const auto top = l0_of(top_k{.k = 99}, falls);
  const auto batch = l0_of(batch_top_k{.k = 99}, falls);
  REQUIRE(top.size() == 13);
  for (std::size_t s = 0; s < 13; ++s) {
    const double k = falls(s, 32);
    CHECK(top[s] == doctest::Approx(std::floor(k)));
    CHECK(batch[s] == doctest::Approx(std::floor(k * 128) / 128));
  }
  CHECK(top[3] == 12);
  CHECK(batch[3] > 12.69);  // 12.7 per row
}

TEST_CASE("a training that is killed while k falls ends with the same bits") {
  const trainer fit{.steps = 24, .batch = 37, .upkeep = k_annealing{.to = 3, .over = 15}};
  const auto model = [](std::size_t threads) {
    return sae<top_k>({.d_model = 24, .features = 150, .sparsifier = {.k = 9}, .seed = 5},
                      interrupted::backend_with<cpu>(threads));
  };
  const auto reader = [] { return planted::reader<cpu>({.d = 24, .offset = 2}); };
  const auto want = interrupted::whole(model(1), reader(), fit);
  for (const auto& breaks : std::vector<std::vector<std::size_t>>{{4}, {10, 3}, {20, 2}}) {
    const golden::scratch_folder folder;
    CHECK(
        interrupted::same(want, interrupted::broken(model, reader, fit, folder / "c", 3, breaks)));
  }
}

TEST_CASE("numbers that are no k are refused") {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const double far = std::numeric_limits<double>::infinity();
  for (const double k : {0.0, -1.0, nan, far}) {
    CHECK(thrown([&] { l0_of(top_k{}, {.to = k}); }) == "train.110");
  }
  for (const double k : {-1.0, nan, far}) {
    CHECK(thrown([&] { l0_of(top_k{}, {.to = 3, .from = k}); }) == "train.110");
  }
}
