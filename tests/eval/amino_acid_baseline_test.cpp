// SPDX-License-Identifier: MIT
#include "tests/eval/brute_force.hpp"

#include <plmscope/eval/amino_acid_baseline.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

using namespace plmscope;

TEST_CASE("the amino-acid baseline is the best set of amino acids on validation") {
  for (std::uint64_t seed = 0; seed < 1000; ++seed) {
    CAPTURE(seed);
    const auto problem = brute_force::make(seed);
    const std::vector<std::string_view> sequences(problem.sequences.begin(),
                                                  problem.sequences.end());
    const auto found =
        amino_acid_baseline<f1_by_residue>(sequences, problem.concepts, problem.split);
    REQUIRE(found.size() == problem.concepts.size());
    for (std::size_t c = 0; c < found.size(); ++c) {
      const auto& label = problem.concepts.concepts[c];
      const auto with = [&](const std::vector<std::uint32_t>& side, std::string_view letters) {
        return brute_force::count(
            label, problem.concepts.lengths, side, [&](auto p, auto position) {
              const char letter = problem.sequences[p][position - 1];
              return letters.find(letter == '*' ? '?' : letter) != letters.npos;
            });
      };
      // All 32 sets.
      double best = -1.0;
      for (unsigned set = 0; set < 32; ++set) {
        std::string letters;
        for (unsigned k = 0; k < 5; ++k) {
          if ((set >> k & 1u) != 0) letters += "ACDX?"[k];
        }
        best = std::max(best,
                        f1_by_residue::score(with(problem.split.validation, letters), label.kind));
      }
      if (best < 0.0) {
        CHECK_FALSE(found[c].validation.defined());
      } else {
        CHECK(found[c].validation.score == doctest::Approx(best).epsilon(1e-12));
      }
      CHECK(found[c].validation.counts == with(problem.split.validation, found[c].letters));
      CHECK(found[c].held_out.counts == with(problem.split.held_out, found[c].letters));
    }
    // The other protocol: the same predictor, its own counts.
    const auto by_domain = amino_acid_baseline(sequences, problem.concepts, problem.split);
    for (std::size_t c = 0; c < by_domain.size(); ++c) {
      const auto& label = problem.concepts.concepts[c];
      const tally t = brute_force::count(
          label, problem.concepts.lengths, problem.split.held_out, [&](auto p, auto position) {
            const char letter = problem.sequences[p][position - 1];
            return by_domain[c].letters.find(letter == '*' ? '?' : letter) != std::string::npos;
          });
      CHECK(by_domain[c].held_out.counts == t);
    }
  }
}

TEST_CASE("a concept that is one amino acid is fully explained by it") {
  concept_set concepts;
  concepts.lengths = {6, 6};
  concept_label c{.name = "c", .column = "c", .kind = concept_kind::residue};
  for (const std::uint32_t p : {0u, 1u}) {
    c.instances.push_back({p, 2, 2});
    c.instances.push_back({p, 5, 5});
  }
  concepts.concepts = {c};
  protein_split split;
  split.validation = {0};
  split.held_out = {1};
  const std::vector<std::string_view> sequences{"ACAACA", "GCGGCG"};
  const auto found = amino_acid_baseline(sequences, concepts, split);
  CHECK(found[0].letters == "C");
  CHECK(found[0].held_out.score == 1.0);
  const std::vector<std::string_view> other{"ACAACA", "GCGGC"};
  CHECK_THROWS_WITH_AS(amino_acid_baseline(other, concepts, split), doctest::Contains("eval.105"),
                       error);
}
