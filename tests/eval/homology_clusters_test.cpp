// SPDX-License-Identifier: MIT
#include <plmscope/core/rng.hpp>
#include <plmscope/eval/homology_clusters.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

using namespace plmscope;

namespace {

std::string random_protein(const rng& random, std::uint64_t first, std::size_t length) {
  std::string out;
  for (std::size_t i = 0; i < length; ++i) out += residue_order[random.below(first + i, 20)];
  return out;
}

// Keeps about `identity` of the residues and drops a few.
std::string relative(const rng& random, std::uint64_t first, const std::string& of,
                     double identity) {
  std::string out;
  for (std::size_t i = 0; i < of.size(); ++i) {
    if (random.uniform(first + 3 * i) < 0.01) continue;
    const bool keep = random.uniform(first + 3 * i + 1) < identity;
    out += keep ? of[i] : residue_order[random.below(first + 3 * i + 2, 20)];
  }
  return out;
}

// Three full matrices, written from the recurrences.
int naive_score(std::string_view a, std::string_view b) {
  constexpr int low = -100'000;
  std::vector<std::vector<int>> h(a.size() + 1, std::vector<int>(b.size() + 1, 0));
  auto e = h;
  auto f = h;
  int best = 0;
  for (std::size_t i = 0; i <= a.size(); ++i) e[i][0] = f[i][0] = low;
  for (std::size_t j = 0; j <= b.size(); ++j) e[0][j] = f[0][j] = low;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    for (std::size_t j = 1; j <= b.size(); ++j) {
      e[i][j] = std::max(e[i][j - 1] - 1, h[i][j - 1] - 12);
      f[i][j] = std::max(f[i - 1][j] - 1, h[i - 1][j] - 12);
      const int s = blosum62(residue_code(a[i - 1]), residue_code(b[j - 1]));
      h[i][j] = std::max({0, h[i - 1][j - 1] + s, e[i][j], f[i][j]});
      best = std::max(best, h[i][j]);
    }
  }
  return best;
}

local_alignment align(std::string_view a, std::string_view b) {
  return local_aligner()(encode_residues(a), encode_residues(b));
}

}  // namespace

TEST_CASE("BLOSUM62 is symmetric and knows unknown residues") {
  int trace = 0;
  for (std::uint8_t a = 0; a < 20; ++a) {
    for (std::uint8_t b = 0; b < 20; ++b) CHECK(blosum62(a, b) == blosum62(b, a));
    trace += blosum62(a, a);
  }
  CHECK(trace == 116);
  CHECK(blosum62(residue_code('W'), residue_code('W')) == 11);
  CHECK(blosum62(residue_code('I'), residue_code('V')) == 3);
  CHECK(blosum62(residue_code('X'), residue_code('X')) == -1);
  CHECK(residue_code('u') == residue_code('C'));
}

TEST_CASE("alignments") {
  const auto same = align("MKTAYIAKQR", "MKTAYIAKQR");
  CHECK(same.identity() == 1.0);
  CHECK(same.coverage(10, 10) == 1.0);
  CHECK(same.columns == 10);
  CHECK(align("", "MKT").score == 0);
  CHECK(align("W", "P").columns == 0);
  CHECK(align("XXXX", "XXXX").score == 0);

  // One gap of three, worth taking: 14 columns, 11 equal.
  const auto gap = align("WWWWWWHHHCCCCC", "WWWWWWCCCCC");
  CHECK(gap.score == 6 * 11 + 5 * 9 - 14);
  CHECK(gap.columns == 14);
  CHECK(gap.matches == 11);
  CHECK(gap.begin_a == 0);
  CHECK(gap.end_a == 14);
  CHECK(gap.end_b == 11);

  const rng random(5);
  for (std::uint64_t n = 0; n < 200; ++n) {
    const auto a = random_protein(random, 10'000 * n, 5 + random.below(n, 60));
    const auto b = n % 2 == 0 ? relative(random, 10'000 * n + 500, a, 0.6)
                              : random_protein(random, 10'000 * n + 900, 40);
    const auto found = align(a, b);
    CHECK(found.score == naive_score(a, b));
    CHECK(found.end_a - found.begin_a <= found.columns);
    CHECK(found.end_b - found.begin_b <= found.columns);
    CHECK(found.matches <= found.columns);
    // The same alignment from its own two parts.
    const auto part = align(a.substr(found.begin_a, found.end_a - found.begin_a),
                            b.substr(found.begin_b, found.end_b - found.begin_b));
    CHECK(part.score == found.score);
  }
  const std::vector<std::uint8_t> huge(70'000, 0);
  local_aligner aligner;
  CHECK_THROWS_WITH_AS(aligner(huge, huge), doctest::Contains("eval.109"), error);
}

TEST_CASE("relatives are found, strangers stay apart") {
  const rng random(11);
  std::vector<std::string> store;
  for (std::uint64_t family = 0; family < 20; ++family) {
    const auto root = random_protein(random, family * 100'000, 150 + 10 * family);
    store.push_back(root);
    for (std::uint64_t n = 1; n < 4; ++n) {
      store.push_back(relative(random, family * 100'000 + n * 20'000, root, 0.55));
    }
  }
  const std::vector<std::string_view> sequences(store.begin(), store.end());
  const auto found = cluster_by_homology(sequences);
  CHECK(found.count == 20);
  for (std::size_t p = 0; p < store.size(); ++p) CHECK(found.of_protein[p] == p / 4);

  // Names join what sequences do not; an empty name joins nothing.
  std::vector<std::string_view> groups(store.size());
  groups[0] = groups[79] = "kinase family";
  CHECK(cluster_by_homology(sequences, groups).count == 19);
}

TEST_CASE("equal sequences are together, however short or odd") {
  const std::vector<std::string_view> sequences{"MK", "", "XXXXXXX", "MK", "", "XXXXXXX", "MKA"};
  const auto found = cluster_by_homology(sequences);
  CHECK(found.of_protein == std::vector<std::uint32_t>{0, 1, 2, 0, 1, 2, 3});
  CHECK(cluster_by_homology({}).count == 0);
  CHECK_THROWS_WITH_AS(cluster_by_homology(sequences, {}, {.min_identity = 1.5}),
                       doctest::Contains("eval.108"), error);
}
