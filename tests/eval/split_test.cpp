// SPDX-License-Identifier: MIT
#include "tests/golden.hpp"

#include <plmscope/eval/split.hpp>
#include <plmscope/io/uniprot_tsv.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <chrono>
#include <iostream>
#include <set>
#include <string>
#include <vector>

using namespace plmscope;

namespace {

concept_set lengths_only(std::vector<std::uint32_t> lengths) {
  concept_set out;
  out.lengths = std::move(lengths);
  return out;
}

// Whether every protein is on exactly one side, and every cluster too.
bool whole(const protein_split& s, std::size_t proteins) {
  std::vector<std::uint32_t> all = s.validation;
  all.insert(all.end(), s.held_out.begin(), s.held_out.end());
  std::ranges::sort(all);
  if (all.size() != proteins || std::ranges::adjacent_find(all) != all.end()) return false;
  std::set<std::uint32_t> left;
  for (const auto p : s.validation) left.insert(s.cluster[p]);
  return std::ranges::none_of(s.held_out, [&](auto p) { return left.contains(s.cluster[p]); });
}

}  // namespace

TEST_CASE("clusters are dealt whole, balanced and by seed") {
  const std::vector<std::uint32_t> cluster{0, 0, 1, 1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 10, 11};
  concept_set concepts = lengths_only(std::vector<std::uint32_t>(cluster.size(), 100));
  concept_label rare{.name = "rare", .column = "rare"};
  for (const std::uint32_t p : {6u, 7u, 8u, 9u}) rare.instances.push_back({p, 1, 10});
  concepts.concepts.push_back(rare);
  std::set<std::vector<std::uint32_t>> seen;
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    const auto s = deal_clusters(cluster, 12, concepts, 0.5, seed);
    CHECK(whole(s, cluster.size()));
    CHECK(s.validation_residues + s.held_out_residues == 1600);
    CHECK(s.held_out_residues >= 500);
    CHECK(s.held_out_residues <= 1100);
    const auto rare_held =
        std::ranges::count_if(s.held_out, [](auto p) { return p >= 6 && p <= 9; });
    CHECK(rare_held == 2);
    CHECK(s.validation_clusters + s.held_out_clusters == 12);
    CHECK(deal_clusters(cluster, 12, concepts, 0.5, seed).held_out == s.held_out);
    seen.insert(s.held_out);
  }
  CHECK(seen.size() > 5);

  const auto fifth = deal_clusters(cluster, 12, lengths_only(concepts.lengths), 0.2, 1);
  CHECK(fifth.held_out_residues >= 200);
  CHECK(fifth.held_out_residues <= 500);
  CHECK_THROWS_WITH_AS(deal_clusters(cluster, 12, concepts, 1.0, 0), doctest::Contains("eval.106"),
                       error);
  CHECK_THROWS_WITH_AS(deal_clusters(cluster, 12, lengths_only({1, 2}), 0.5, 0),
                       doctest::Contains("eval.105"), error);
  const auto none = deal_clusters({}, 0, {}, 0.5, 0);
  CHECK(none.held_out.empty());
  CHECK(none.validation.empty());
}

TEST_CASE("no held-out protein has a relative among the validation proteins") {
  for (const auto& path : golden::files("demo", "uniprot_demo.tsv")) {
    const auto proteins = read_uniprot_tsv(path);
    const concept_set concepts = make_concepts(proteins);
    split_options options;
    options.join_families = false;  // sequences alone have to do it
    const auto start = std::chrono::steady_clock::now();
    const auto s = homology_split(proteins, concepts, options);
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    CHECK(whole(s, proteins.size()));
    std::cout << path.filename().string() << ": " << proteins.size() << " proteins, " << s.clusters
              << " clusters, " << s.validation_residues << " + " << s.held_out_residues
              << " residues, " << seconds.count() << " s\n";

    // Every pair across the split would be half a minute: short proteins and a sample of the
    // others.
    std::size_t residues = 0;
    std::vector<std::vector<std::uint8_t>> codes;
    for (const auto& p : proteins) {
      codes.push_back(encode_residues(p.sequence));
      residues += p.sequence.size();
    }
    local_aligner align;
    std::size_t leaks = 0;
    std::size_t checked = 0;
    const rng random(3);
    for (const auto v : s.validation) {
      for (const auto h : s.held_out) {
        const auto& a = codes[v];
        const auto& b = codes[h];
        const bool sampled = random.uniform(std::uint64_t{v} * 100'000 + h) < 0.05;
        if (a.size() * b.size() > 10'000 && !sampled) continue;
        ++checked;
        leaks += related(align(a, b), a.size(), b.size(), residues, options.homology) ? 1u : 0u;
      }
    }
    CHECK(checked > 1000);
    std::cout << checked << " pairs across the split aligned\n";
    golden::report(path, static_cast<double>(leaks), 0.0);

    const double share = static_cast<double>(s.held_out_residues) / static_cast<double>(residues);
    CHECK(share > 0.4);
    CHECK(share < 0.6);
    // With families the clusters can only grow.
    const auto with_families = homology_split(proteins, concepts);
    CHECK(whole(with_families, proteins.size()));
    CHECK(with_families.clusters <= s.clusters);
    std::size_t one_sided = 0;
    for (const auto& c : concepts.concepts) {
      const auto held = static_cast<std::size_t>(std::ranges::count_if(c.instances, [&](auto& i) {
        return std::ranges::binary_search(with_families.held_out, i.protein);
      }));
      one_sided += held == 0 || held == c.instances.size() ? 1u : 0u;
    }
    std::cout << with_families.clusters << " clusters with families; " << one_sided << " of "
              << concepts.size() << " concepts stand on one side only\n";
    CHECK(one_sided * 4 < concepts.size());
  }
}

TEST_CASE("the alternating split holds out every second protein") {
  plmscope::concept_set concepts;
  concepts.lengths = {10, 20, 30, 40, 50};
  const auto s = plmscope::alternating_split(concepts);
  CHECK(s.validation == std::vector<std::uint32_t>{0, 2, 4});
  CHECK(s.held_out == std::vector<std::uint32_t>{1, 3});
  CHECK(s.validation_residues == 90);
  CHECK(s.held_out_residues == 60);
  CHECK(s.clusters == 5);
  CHECK(s.held_out_clusters == 2);
  CHECK(plmscope::alternating_split({}).validation.empty());
}
