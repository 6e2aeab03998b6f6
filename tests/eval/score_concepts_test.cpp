// SPDX-License-Identifier: MIT
#include "tests/eval/brute_force.hpp"

#include <plmscope/eval/score_concepts.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <vector>

using namespace plmscope;

namespace {

bool same(double a, double b) { return a == b || (std::isnan(a) && std::isnan(b)); }

// Maxima, thresholds, counts, choice and report from their definitions.
template <class Metric>
void compare(const brute_force::problem& problem) {
  const sparse_activations acts = problem.acts();
  score_options options;
  options.grid = {{0.0f, 0.25f, 0.5f, 0.75f}};
  options.min_pair_score = 0.3;
  const auto scores = score_concepts<Metric>(acts, problem.concepts, problem.split, options);
  std::vector<float> maxima(problem.features, 0.0f);
  for (const auto p : problem.split.validation) {
    for (auto row = problem.protein_offsets[p]; row < problem.protein_offsets[p + 1]; ++row) {
      for (std::uint32_t f = 0; f < problem.features; ++f) {
        maxima[f] = std::max(maxima[f], problem.value(row, f));
      }
    }
  }
  CHECK(scores.feature_max == maxima);
  REQUIRE(scores.best.size() == problem.concepts.size());
  std::size_t pairs = 0;
  for (std::size_t c = 0; c < problem.concepts.size(); ++c) {
    const auto& label = problem.concepts.concepts[c];
    double best = -1.0;
    double best_residue = -1.0;
    std::uint32_t best_feature = 0;
    float best_threshold = 0.0f;
    const auto on_side = [&](const std::vector<std::uint32_t>& side, std::uint32_t f, float limit) {
      return brute_force::count(label, problem.concepts.lengths, side, [&](auto p, auto position) {
        return maxima[f] > 0.0f &&
               problem.value(problem.protein_offsets[p] + position - 1, f) > limit;
      });
    };
    for (std::uint32_t f = 0; f < problem.features; ++f) {
      double best_of_feature = -1.0;
      for (const float share : options.grid.fractions) {
        const tally t = on_side(problem.split.validation, f, share * maxima[f]);
        const double score = Metric::score(t, label.kind);
        const double residue = f1_by_residue::score(t, label.kind);
        best_of_feature = std::max(best_of_feature, score);
        if (score > best || (score == best && residue > best_residue)) {
          best = score;
          best_residue = residue;
          best_feature = f;
          best_threshold = share * maxima[f];
        }
      }
      pairs += best_of_feature >= options.min_pair_score ? 1 : 0;
    }
    const concept_result& found = scores.best[c];
    CHECK(found.concept_id == c);
    if (best < 0.0) {  // no positives on validation
      CHECK_FALSE(found.validation.defined());
      CHECK_FALSE(found.found());
      continue;
    }
    CHECK(found.validation.score == best);
    CHECK(found.found() == (best > 0.0));
    if (!found.found()) continue;
    CHECK(found.feature == best_feature);
    CHECK(found.threshold == best_threshold);
    CHECK(found.validation.counts ==
          on_side(problem.split.validation, best_feature, best_threshold));
    const tally held = on_side(problem.split.held_out, best_feature, best_threshold);
    CHECK(found.held_out.counts == held);
    CHECK(same(found.held_out.score, Metric::score(held, label.kind)));
    CHECK(found.held_out.defined() == (held.positives > 0));
  }
  CHECK(scores.pairs.size() == pairs);
  for (std::size_t i = 0; i + 1 < scores.pairs.size(); ++i) {
    CHECK(scores.pairs[i].validation.score >= scores.pairs[i + 1].validation.score);
  }
  // In blocks of one concept the result is the same.
  options.memory = 1;
  const auto blocks = score_concepts<Metric>(acts, problem.concepts, problem.split, options);
  REQUIRE(blocks.pairs.size() == scores.pairs.size());
  for (std::size_t i = 0; i < blocks.pairs.size(); ++i) {
    CHECK(blocks.pairs[i].feature == scores.pairs[i].feature);
    CHECK(blocks.pairs[i].held_out.counts == scores.pairs[i].held_out.counts);
  }
}

}  // namespace

TEST_CASE("a thousand small problems, by definition") {
  for (std::uint64_t seed = 0; seed < 1000; ++seed) {
    CAPTURE(seed);
    compare<f1_by_domain>(brute_force::make(seed));
    compare<f1_by_residue>(brute_force::make(seed));
  }
}

TEST_CASE("held-out proteins do not touch what is chosen") {
  for (std::uint64_t seed = 0; seed < 100; ++seed) {
    auto problem = brute_force::make(seed);
    const auto before = score_concepts(problem.acts(), problem.concepts, problem.split);
    for (const auto p : problem.split.held_out) {
      for (auto row = problem.protein_offsets[p]; row < problem.protein_offsets[p + 1]; ++row) {
        for (auto e = problem.offsets[row]; e < problem.offsets[row + 1]; ++e) {
          problem.values[static_cast<std::size_t>(e)] = 1e6f;
        }
      }
    }
    const auto after = score_concepts(problem.acts(), problem.concepts, problem.split);
    REQUIRE(after.pairs.size() == before.pairs.size());
    CHECK(after.feature_max == before.feature_max);
    for (std::size_t c = 0; c < before.best.size(); ++c) {
      CHECK(after.best[c].feature == before.best[c].feature);
      CHECK(after.best[c].threshold == before.best[c].threshold);
    }
  }
}

TEST_CASE("a planted feature is found, shuffled labels are chance") {
  const rng random(9);
  const std::size_t proteins = 80;
  const std::size_t length = 200;
  brute_force::problem problem;
  problem.features = 200;
  concept_label planted{.name = "planted", .column = "planted"};
  planted.kind = concept_kind::domain;
  concept_label shuffled = planted;
  shuffled.name = "shuffled";
  std::uint64_t n = 0;
  for (std::uint32_t p = 0; p < proteins; ++p) {
    const auto begin = static_cast<std::uint32_t>(1 + random.below(n++, 170));
    planted.instances.push_back({p, begin, begin + 19});
    const auto elsewhere = static_cast<std::uint32_t>(1 + random.below(n++, 170));
    shuffled.instances.push_back({p, elsewhere, elsewhere + 19});
    for (std::size_t i = 1; i <= length; ++i) {
      const bool inside = i >= begin && i < begin + 20;
      for (std::uint32_t f = 0; f < problem.features; ++f) {
        const bool on = f == 123 && inside ? random.uniform(n++) < 0.7 : random.uniform(n++) < 0.02;
        if (!on) continue;
        problem.ids.push_back(f);
        problem.values.push_back(0.1f + static_cast<float>(random.uniform(n++)));
      }
      problem.offsets.push_back(static_cast<std::int64_t>(problem.ids.size()));
    }
    problem.protein_offsets.push_back(problem.rows());
    problem.concepts.lengths.push_back(static_cast<std::uint32_t>(length));
    (p % 2 == 0 ? problem.split.validation : problem.split.held_out).push_back(p);
  }
  problem.concepts.concepts = {planted, shuffled};
  const auto scores =
      score_concepts<f1_by_residue>(problem.acts(), problem.concepts, problem.split);
  CHECK(scores.best[0].feature == 123);
  CHECK(scores.best[0].held_out.score > 0.7);
  // A tenth of the residues is labelled and features fire on one in fifty: a feature that knows
  // nothing has precision 0.1 and recall 0.02 (F1 0.033).
  CHECK(scores.best[1].held_out.precision < 0.2);
  CHECK(scores.best[1].held_out.score < 0.1);
  const auto names = scores.name_of_feature();
  REQUIRE(names[123] < scores.pairs.size());
  CHECK(scores.pairs[names[123]].concept_id == 0);
  CHECK(names[5] == scores.pairs.size());
}

TEST_CASE("broken input is refused") {
  auto problem = brute_force::make(17);
  while (problem.ids.size() < 10 || problem.concepts.size() == 0) {
    problem = brute_force::make(problem.ids.size() + 18 + problem.offsets.size());
  }
  const auto score = [&] {
    return score_concepts(problem.acts(), problem.concepts, problem.split);
  };
  CHECK_NOTHROW(score());
  const auto good = problem;
  problem.values[3] = std::numeric_limits<float>::quiet_NaN();
  CHECK_THROWS_WITH_AS(score(), doctest::Contains("eval.103"), error);
  problem = good;
  problem.ids[4] = static_cast<std::uint32_t>(problem.features);
  CHECK_THROWS_WITH_AS(score(), doctest::Contains("eval.102"), error);
  problem = good;
  problem.offsets.back() += 5;
  CHECK_THROWS_WITH_AS(score(), doctest::Contains("eval.101"), error);
  problem = good;
  problem.offsets[1] = -1;
  CHECK_THROWS_WITH_AS(score(), doctest::Contains("eval.101"), error);
  problem = good;
  problem.protein_offsets.back() += 1;
  CHECK_THROWS_WITH_AS(score(), doctest::Contains("eval.104"), error);
  problem = good;
  problem.concepts.lengths.back() += 1;
  CHECK_THROWS_WITH_AS(score(), doctest::Contains("eval.105"), error);
  problem = good;
  problem.split.validation = problem.split.held_out = {0};
  CHECK_THROWS_WITH_AS(score(), doctest::Contains("eval.105"), error);
  problem = good;
  score_options falling;
  falling.grid.fractions = {0.5f, 0.1f};
  CHECK_THROWS_WITH_AS(score_concepts(problem.acts(), problem.concepts, problem.split, falling),
                       doctest::Contains("eval.107"), error);
}
