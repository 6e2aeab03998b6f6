// SPDX-License-Identifier: MIT
#include "tests/eval/brute_force.hpp"

#include <plmscope/eval/neuron_baseline.hpp>

#include <doctest/doctest.h>

#include <limits>
#include <vector>

using namespace plmscope;

TEST_CASE("the neuron baseline finds a neuron by either sign") {
  const rng random(4);
  const std::size_t neurons = 7;
  const std::size_t proteins = 40;
  const std::uint32_t length = 100;
  std::vector<float> values;
  std::vector<std::size_t> offsets{0};
  concept_set concepts;
  concept_label low{.name = "low", .column = "low", .kind = concept_kind::domain};
  concept_label high = low;
  high.name = "high";
  protein_split split;
  std::uint64_t n = 0;
  for (std::uint32_t p = 0; p < proteins; ++p) {
    const auto begin = static_cast<std::uint32_t>(1 + random.below(n++, 40));
    low.instances.push_back({p, begin, begin + 9});
    high.instances.push_back({p, begin + 30, begin + 39});
    for (std::uint32_t i = 1; i <= length; ++i) {
      for (std::size_t d = 0; d < neurons; ++d) {
        double v = random.normal(n++);
        if (d == 5 && i >= begin && i <= begin + 9) v = -6.0 + 0.1 * v;
        if (d == 2 && i >= begin + 30 && i <= begin + 39) v = 6.0 + 0.1 * v;
        values.push_back(static_cast<float>(v));
      }
    }
    offsets.push_back(values.size() / neurons);
    concepts.lengths.push_back(length);
    (p % 2 == 0 ? split.validation : split.held_out).push_back(p);
  }
  concepts.concepts = {low, high};
  const dense_activations acts{neurons, values, offsets};
  const auto found = neuron_baseline<f1_by_residue>(acts, concepts, split);
  REQUIRE(found.size() == 2);
  CHECK(found[0].neuron() == 5);
  CHECK(found[0].negative());
  CHECK(found[0].result.held_out.score > 0.9);
  CHECK(found[1].neuron() == 2);
  CHECK_FALSE(found[1].negative());
  CHECK(found[1].result.held_out.score > 0.9);
  // The counts of what was chosen, by definition.
  for (std::size_t c = 0; c < 2; ++c) {
    const auto& r = found[c];
    const tally t = brute_force::count(
        concepts.concepts[c], concepts.lengths, split.held_out, [&](auto p, auto position) {
          const float v = values[(offsets[p] + position - 1) * neurons + r.neuron()];
          return (r.negative() ? -v : v) > r.result.threshold;
        });
    CHECK(r.result.held_out.counts == t);
  }
  values[11] = std::numeric_limits<float>::infinity();
  CHECK_THROWS_WITH_AS(neuron_baseline(acts, concepts, split), doctest::Contains("eval.103"),
                       error);
  concepts.lengths[0] = 99;
  CHECK_THROWS_WITH_AS(neuron_baseline(acts, concepts, split), doctest::Contains("eval.104"),
                       error);
}
