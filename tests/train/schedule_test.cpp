// SPDX-License-Identifier: MIT
// Schedules: what torch and transformers compute (golden/schedules.py), closed formulas, the edges.
#include <tests/golden.hpp>

#include <plmscope/train/schedule.hpp>

#include <doctest/doctest.h>

#include <cmath>
#include <cstddef>
#include <fstream>
#include <map>
#include <sstream>
#include <string>
#include <vector>

namespace {

TEST_CASE("warmup_decay: up, level, down") {
  const plmscope::warmup_decay s{.warmup = 10, .decay_start = 80, .final_factor = 0.1};
  CHECK(s(0, 100) == doctest::Approx(0.1));
  CHECK(s(4, 100) == doctest::Approx(0.5));
  CHECK(s(9, 100) == doctest::Approx(1.0));
  for (std::size_t step = 10; step <= 80; ++step) CHECK(s(step, 100) == doctest::Approx(1.0));
  CHECK(s(90, 100) == doctest::Approx(0.55));
  CHECK(s(99, 100) == doctest::Approx(0.1 + 0.9 / 20));
  CHECK(s(100, 100) == doctest::Approx(0.1));
  CHECK(s(500, 100) == doctest::Approx(0.1));
  for (std::size_t step = 81; step < 100; ++step) CHECK(s(step, 100) < s(step - 1, 100));
}

TEST_CASE("warmup_decay from zero, without warm-up, without decay") {
  const plmscope::warmup_decay zero{.warmup = 4, .counts_from_one = false};
  CHECK(zero(0, 9) == 0);
  CHECK(zero(2, 9) == doctest::Approx(0.5));
  CHECK(zero(4, 9) == 1);
  const plmscope::warmup_decay level;
  for (std::size_t step = 0; step < 5; ++step) CHECK(level(step, 5) == 1);
  const plmscope::warmup_decay late{.decay_start = 5};  // begins at the end: never
  CHECK(late(4, 5) == 1);
  CHECK(late(7, 5) == 1);
}

TEST_CASE("warmup_cosine: half a cosine to the final factor") {
  const plmscope::warmup_cosine s{.warmup = 10, .final_factor = 0.2};
  CHECK(s(0, 110) == 0);
  CHECK(s(5, 110) == doctest::Approx(0.5));
  CHECK(s(10, 110) == doctest::Approx(1));
  CHECK(s(60, 110) == doctest::Approx(0.6));
  CHECK(s(35, 110) == doctest::Approx(0.2 + 0.4 * (1 + std::sqrt(0.5))));
  CHECK(s(110, 110) == doctest::Approx(0.2));
  for (std::size_t step = 11; step <= 110; ++step) CHECK(s(step, 110) < s(step - 1, 110));
  const plmscope::warmup_cosine only{.warmup = 5, .final_factor = 0.3};  // no room for the cosine
  CHECK(only(4, 5) == doctest::Approx(0.8));
  CHECK(only(5, 5) == doctest::Approx(0.3));
}

TEST_CASE("schedules of torch and transformers, step by step") {
  std::ifstream file(golden::repository() / "tests/train/golden/schedules.tsv");
  std::map<std::string, std::vector<double>> want;
  for (std::string line; std::getline(file, line);) {
    std::istringstream in(line);
    std::string name;
    in >> name;
    for (double v = 0; in >> v;) want[name].push_back(v);
  }
  CHECK(want.size() == 6);
  const auto compare = [&](const char* name, const auto& schedule) {
    INFO(name);
    REQUIRE(want[name].size() == 60);
    for (std::size_t s = 0; s < 60; ++s) {
      CHECK(std::abs(schedule(s, 60) - want[name][s]) < 1e-12);
    }
  };
  using plmscope::decay_shape, plmscope::warmup_stable_decay;
  compare("cosine", plmscope::warmup_cosine{.final_factor = 0.1});
  compare("warmup_cosine", plmscope::warmup_cosine{.warmup = 10});
  compare("restarts", plmscope::cosine_restarts{.cycles = 3, .final_factor = 0.05});
  compare("wsd_linear", warmup_stable_decay{.warmup = 10, .decay = 20});
  compare("wsd_cosine",
          warmup_stable_decay{.warmup = 10, .decay = 20, .shape = decay_shape::cosine});
  compare("wsd_one_minus_sqrt",
          warmup_stable_decay{.warmup = 10, .decay = 20, .shape = decay_shape::one_minus_sqrt});
}

TEST_CASE("warmup_stable_decay: a fifth by itself, a last factor, no room") {
  const plmscope::warmup_stable_decay s{.final_factor = 0.2};
  CHECK(s(79, 100) == 1);
  CHECK(s(80, 100) == 1);
  CHECK(s(90, 100) == doctest::Approx(0.6));
  CHECK(s(100, 100) == doctest::Approx(0.2));
  CHECK(s(1000, 100) == doctest::Approx(0.2));
  const plmscope::warmup_stable_decay crowded{.warmup = 8, .decay = 50};  // two steps are left
  CHECK(crowded(7, 10) == doctest::Approx(7.0 / 8));
  CHECK(crowded(8, 10) == doctest::Approx(1));
  CHECK(crowded(9, 10) == doctest::Approx(0.5));
  const plmscope::warmup_stable_decay none{.warmup = 10, .final_factor = 0.3};
  CHECK(none(9, 10) == doctest::Approx(0.9));
  CHECK(none(10, 10) == doctest::Approx(0.3));
  CHECK(s(0, 0) == doctest::Approx(0.2));
  CHECK(s(2, 4) == 1);  // a fifth of four steps is none
}

TEST_CASE("cosine_restarts: equal cycles behind a warm-up, also where they do not divide") {
  const plmscope::cosine_restarts s{.warmup = 4, .cycles = 2, .final_factor = 0.5};
  CHECK(s(2, 24) == doctest::Approx(0.5));
  CHECK(s(4, 24) == 1);
  CHECK(s(9, 24) == doctest::Approx(0.75));
  CHECK(s(14, 24) == 1);
  CHECK(s(24, 24) == 0.5);
  CHECK(s(4, 4) == 0.5);
  const plmscope::cosine_restarts uneven{.cycles = 3};
  std::size_t tops = 0;
  for (std::size_t step = 1; step < 100; ++step) tops += uneven(step, 100) > uneven(step - 1, 100);
  CHECK(tops == 2);
  const plmscope::cosine_restarts zero{.cycles = 0};
  CHECK(zero(50, 100) == doctest::Approx(0.5));
}

TEST_CASE("exponential_warmup and the law of widths") {
  const plmscope::exponential_warmup<> s{.tau = 50};
  CHECK(s(0, 1000) == doctest::Approx(1 - std::exp(-0.02)).epsilon(1e-14));
  CHECK(s(49, 1000) == doctest::Approx(1 - std::exp(-1.0)).epsilon(1e-14));
  CHECK(s(10'000, 20'000) == 1);
  const plmscope::exponential_warmup<plmscope::warmup_stable_decay> both{.tau = 5,
                                                                         .then = {.decay = 10}};
  CHECK(both(95, 100) == doctest::Approx(0.5).epsilon(1e-7));
  CHECK(plmscope::sqrt_width_law(2e-4, 16'384) == 2e-4);
  CHECK(plmscope::sqrt_width_law(2e-4, 4096) == doctest::Approx(4e-4));
  CHECK(plmscope::sqrt_width_law(5e-3, 10'240) == doctest::Approx(6.3e-3).epsilon(0.01));
  CHECK(plmscope::sqrt_width_law(3e-4, 2048, 2048) == 3e-4);
}

}  // namespace
