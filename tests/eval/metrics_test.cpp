// SPDX-License-Identifier: MIT
#include <plmscope/eval/metrics.hpp>

#include <doctest/doctest.h>

#include <cmath>

using namespace plmscope;

TEST_CASE("the plain numbers") {
  const tally t{.tp = 6, .fp = 2, .positives = 12, .hits = 3, .instances = 4};
  CHECK(precision(t) == 0.75);
  CHECK(residue_recall(t) == 0.5);
  CHECK(domain_recall(t, concept_kind::domain) == 0.75);
  CHECK(domain_recall(t, concept_kind::residue) == 0.5);
  CHECK(domain_recall(t, concept_kind::pair) == 0.5);
  CHECK(f1_by_residue::score(t, concept_kind::domain) == doctest::Approx(0.6));
  CHECK(f1_by_domain::score(t, concept_kind::domain) == doctest::Approx(0.75));
  CHECK(f1_by_domain::score(t, concept_kind::residue) == doctest::Approx(0.6));
}

TEST_CASE("degenerate tallies have defined results") {
  const tally silent{.positives = 5, .instances = 1};
  CHECK(precision(silent) == 0.0);
  CHECK(f1_by_domain::score(silent, concept_kind::domain) == 0.0);
  CHECK(f1_by_residue::score(silent, concept_kind::residue) == 0.0);

  const tally wrong{.fp = 7, .positives = 5, .instances = 1};
  CHECK(f1_by_domain::score(wrong, concept_kind::domain) == 0.0);

  // No positives: not a zero, and not a division by zero that looks like a result.
  const tally absent{.fp = 7};
  CHECK(precision(absent) == 0.0);
  CHECK(std::isnan(residue_recall(absent)));
  CHECK(std::isnan(domain_recall(absent, concept_kind::domain)));
  CHECK(std::isnan(f1_by_domain::score(absent, concept_kind::domain)));
  CHECK(std::isnan(f1_by_residue::score(absent, concept_kind::residue)));
  CHECK(f1(0.0, 0.0) == 0.0);
  CHECK(f1(1.0, 1.0) == 1.0);
}
