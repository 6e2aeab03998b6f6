// SPDX-License-Identifier: MIT
#include "tests/golden.hpp"

#include <plmscope/eval/label_index.hpp>
#include <plmscope/eval/labels.hpp>
#include <plmscope/io/uniprot_tsv.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

using namespace plmscope;

namespace {

feature_span feature(std::string_view column, std::size_t begin, std::size_t end,
                     std::string note = "", std::string ligand = "", bool linked = false) {
  feature_span f;
  f.column = column;
  f.begin = begin;
  f.end = end;
  f.linked_ends = linked;
  f.note = std::move(note);
  f.ligand = std::move(ligand);
  return f;
}

annotated_protein protein(std::size_t length, std::vector<feature_span> features) {
  annotated_protein p;
  p.sequence = std::string(length, 'A');
  p.features = std::move(features);
  return p;
}

concept_options everything() {
  return {.min_instances = 1, .min_residues = 1, .min_proteins = 1, .mixed_columns = {}};
}

}  // namespace

TEST_CASE("names fold what UniProt numbers and keep what belongs to the name") {
  CHECK(fold_ordinal("EF-hand 1") == "EF-hand");
  CHECK(fold_ordinal("WD 12") == "WD");
  CHECK(fold_ordinal("C2H2-type 3") == "C2H2-type");
  CHECK(fold_ordinal("SH3") == "SH3");
  CHECK(fold_ordinal("Peptidase S8") == "Peptidase S8");
  CHECK(fold_ordinal("3").empty());
  CHECK(fold_ordinal("").empty());
  CHECK(concept_text("Helical; Name=1", true) == "Helical");
  CHECK(concept_text("PHD-type 1; degenerate", true) == "PHD-type");
  CHECK(concept_text("PHD-type 1; degenerate", false) == "PHD-type 1");
  CHECK(concept_text("  ; x", true).empty());
  CHECK(concept_column("Domain [FT]") == "Domain");
  CHECK(concept_column("Region") == "Region");
}

TEST_CASE("concepts of a hand-made set") {
  const std::vector<annotated_protein> proteins{
      protein(60, {feature("Signal peptide", 1, 20), feature("Binding site", 30, 30, "", "ATP"),
                   feature("Binding site", 30, 30, "", "Mg(2+)"),
                   feature("Binding site", 40, 40, "", "ATP"),
                   feature("Disulfide bond", 22, 50, "", "", true),
                   feature("Disulfide bond", 22, 58, "", "", true),
                   feature("Domain [FT]", 25, 35, "EF-hand 1"),
                   feature("Domain [FT]", 33, 45, "EF-hand 2"), feature("Chain", 1, 60)}),
      protein(10,
              {feature("Signal peptide", 1, 4), feature("Region", 5, 11, "Disordered"),
               feature("Region", 0, 4, "Disordered"), feature("Binding site", 2, 6, "", "GTP")})};
  const concept_set set = make_concepts(proteins, everything());
  CHECK(set.skipped_entries == 2);
  CHECK(set.find("Chain") == set.size());

  const auto& signal = set.concepts.at(set.find("Signal peptide"));
  CHECK(signal.kind == concept_kind::domain);
  CHECK(signal.instances == std::vector<concept_instance>{{0, 1, 20}, {1, 1, 4}});
  CHECK(signal.residues == 24);
  CHECK(signal.proteins == 2);

  const auto& binding = set.concepts.at(set.find("Binding site"));
  CHECK(binding.kind == concept_kind::residue);
  CHECK(binding.entries == 4);
  CHECK(binding.instances.size() == 3);  // residue 30 binds two ligands and is one place
  CHECK(set.concepts.at(set.find("Binding site: ATP")).instances.size() == 2);
  CHECK(set.concepts.at(set.find("Binding site: GTP")).kind == concept_kind::domain);

  const auto& bond = set.concepts.at(set.find("Disulfide bond"));
  CHECK(bond.kind == concept_kind::pair);
  CHECK(bond.instances.size() == 2);
  CHECK(bond.residues == 3);  // 22, 50, 58

  // The only sub-concept says what the column says: one of them is enough.
  const auto& domain = set.concepts.at(set.find("Domain"));
  CHECK(set.find("Domain: EF-hand") == set.size());
  CHECK(domain.instances.size() == 2);
  CHECK(domain.residues == 21);

  auto unfolded = everything();
  unfolded.fold_ordinals = false;
  const auto numbered = make_concepts(proteins, unfolded);
  CHECK(numbered.find("Domain: EF-hand 2") < numbered.size());
  auto mixed = everything();
  mixed.mixed_columns = {"Domain"};
  const auto without = make_concepts(proteins, mixed);
  CHECK(without.find("Domain") == without.size());
  CHECK(without.find("Domain: EF-hand") < without.size());
  auto dropped = everything();
  dropped.unnamed_entries = false;
  const auto named = make_concepts(proteins, dropped);
  CHECK(named.find("Signal peptide") == named.size());
}

TEST_CASE("limits: instances or residues, and proteins") {
  std::vector<annotated_protein> proteins;
  for (int p = 0; p < 10; ++p) {
    proteins.push_back(
        protein(100, {feature("Motif", 3, 5, "short"), feature("Coiled coil", 1, 90)}));
  }
  proteins.push_back(protein(100, {feature("Repeat", 1, 9), feature("Repeat", 11, 19)}));
  concept_options o{.min_instances = 11, .min_residues = 900, .min_proteins = 10};
  concept_set set = make_concepts(proteins, o);
  REQUIRE(set.size() == 1);
  CHECK(set.concepts[0].name == "Coiled coil");
  o = {.min_instances = 2, .min_residues = 10'000, .min_proteins = 2};
  set = make_concepts(proteins, o);
  CHECK(set.find("Motif: short") < set.size());
  CHECK(set.find("Repeat") == set.size());  // one protein only
}

TEST_CASE("the index turns positions from 1 into rows from 0") {
  const std::vector<annotated_protein> proteins{
      protein(5, {feature("Helix", 2, 3), feature("Helix", 3, 5)}),
      protein(4, {feature("Helix", 1, 1), feature("Disulfide bond", 1, 4, "", "", true)})};
  const concept_set set = make_concepts(proteins, everything());
  REQUIRE(set.size() == 2);
  const label_index index = index_labels(set.concepts, set.lengths);
  REQUIRE(index.rows() == 9);
  const auto bond = static_cast<std::uint32_t>(set.find("Disulfide bond"));
  const auto helix = static_cast<std::uint32_t>(set.find("Helix"));
  std::vector<std::vector<std::uint32_t>> rows;
  for (std::size_t r = 0; r < 9; ++r)
    rows.emplace_back(index.at_row(r).begin(), index.at_row(r).end());
  const std::vector<std::uint32_t> h{helix}, none{}, both{bond, helix}, b{bond};
  CHECK(rows == std::vector<std::vector<std::uint32_t>>{none, h, h, h, h, both, none, none, b});
  CHECK(index.proteins() == 2);
  CHECK(index.protein_offsets == std::vector<std::uint32_t>{0, 2, 4});

  auto broken = set.concepts;
  broken[helix].instances.push_back({1, 4, 5});
  CHECK_THROWS_WITH_AS(index_labels(broken, set.lengths), doctest::Contains("eval.105"), error);
}

TEST_CASE("Swiss-Prot annotations fall on the residues they must fall on") {
  for (const auto& path : golden::files("demo", "uniprot_demo.tsv")) {
    const auto proteins = read_uniprot_tsv(path);
    auto all = everything();
    const concept_set set = make_concepts(proteins, all);
    CHECK(set.skipped_entries == 0);
    const auto residues = [&](std::string_view name) {
      std::string out;
      const std::size_t at = set.find(name);
      if (at == set.size()) return out;
      for (const auto& i : set.concepts[at].instances) {
        out += proteins[i.protein].sequence[i.begin - 1];
        if (set.concepts[at].kind == concept_kind::pair) {
          out += proteins[i.protein].sequence[i.end - 1];
        }
      }
      return out;
    };
    const auto outside = [&](std::string_view name, std::string_view allowed) {
      const std::string all_of = residues(name);
      CHECK(all_of.size() > 20);
      return static_cast<double>(std::ranges::count_if(
                 all_of, [&](char c) { return allowed.find(c) == allowed.npos; })) /
             static_cast<double>(all_of.size());
    };
    double worst = outside("Disulfide bond", "C");
    worst = std::max(worst, outside("Modified residue: Phosphoserine", "S"));
    worst = std::max(worst, outside("Modified residue: N6-acetyllysine", "K"));
    worst = std::max(worst, outside("Glycosylation: N-linked (GlcNAc...) asparagine", "N"));
    // A few entries are numbered after another version of the sequence; a shift by one would
    // put nearly all of them elsewhere.
    golden::report(path, worst, 0.03);
    const auto& signal = set.concepts.at(set.find("Signal peptide"));
    for (const auto& i : signal.instances) CHECK(i.begin == 1);

    // Every whole-column concept against a count made by hand from the features.
    std::map<std::string, std::size_t> entries;
    std::map<std::string, std::set<std::size_t>> carriers;
    for (std::size_t p = 0; p < proteins.size(); ++p) {
      for (const auto& f : proteins[p].features) {
        ++entries[std::string(concept_column(f.column))];
        carriers[std::string(concept_column(f.column))].insert(p);
      }
    }
    std::size_t columns = 0;
    for (const auto& c : set.concepts) {
      if (c.name != c.column) continue;
      ++columns;
      CHECK(c.entries == entries.at(c.name));
      CHECK(c.proteins == carriers.at(c.name).size());
    }
    CHECK(columns > 10);
    const concept_set chosen = make_concepts(proteins);
    CHECK(chosen.size() > 10);
    CHECK(chosen.size() < set.size());
    std::cout << path.filename().string() << ": " << chosen.size() << " concepts\n";
  }
}
