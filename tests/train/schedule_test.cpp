// SPDX-License-Identifier: MIT
#include <plmscope/train/schedule.hpp>

#include <doctest/doctest.h>

#include <cmath>
#include <cstddef>

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

}  // namespace
