// SPDX-License-Identifier: MIT
#include <plmscope/io/uniprot_tsv.hpp>

#include "tests/golden.hpp"
#include "tests/io/error_id.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cctype>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

using namespace plmscope;

namespace {

std::vector<annotated_protein> read(const std::string& text, uniprot_report* report = nullptr) {
  return read_uniprot_tsv(tsv_reader(line_reader::from_text(text, "u.tsv")), {}, report);
}
std::string id(const std::string& text) {
  return error_id([&] { read(text); });
}

using counts = std::map<std::string, std::pair<std::size_t, std::size_t>>;  // instances, proteins

// Counts features in a cell without the parser: `KEY ` outside of quotes.
std::size_t naive_count(std::string_view cell, std::string_view key) {
  std::size_t n = 0;
  bool quoted = false;
  for (std::size_t i = 0; i < cell.size(); ++i) {
    if (cell[i] == '"') quoted = !quoted;
    const bool start = i == 0 || cell[i - 1] == ' ' || cell[i - 1] == ';';
    n += !quoted && start && cell.substr(i, key.size()) == key &&
         cell.substr(i + key.size(), 1) == " ";
  }
  return n;
}

// `KEY instances/proteins` pairs of a text, such as the table of contents of the reference data.
std::vector<counts> stated_counts(const std::string& text) {
  std::vector<counts> out;
  std::size_t from = 0;
  for (std::size_t end; from < text.size(); from = end + 1) {
    end = std::min(text.find('\n', from), text.size());
    const std::string line = text.substr(from, end - from);
    counts here;
    for (const auto& c : uniprot_feature_columns) {
      const std::string wanted = " " + std::string(c.key) + " ";
      const std::size_t at = line.find(wanted);
      if (at == std::string::npos) continue;
      std::size_t i = at + wanted.size();
      std::size_t instances = 0;
      std::size_t proteins = 0;
      const std::size_t digits = i;
      for (; i < line.size() && std::isdigit(static_cast<unsigned char>(line[i])); ++i)
        instances = instances * 10 + static_cast<std::size_t>(line[i] - '0');
      if (i == digits || i >= line.size() || line[i] != '/') continue;
      for (++i; i < line.size() && std::isdigit(static_cast<unsigned char>(line[i])); ++i)
        proteins = proteins * 10 + static_cast<std::size_t>(line[i] - '0');
      here[std::string(c.key)] = {instances, proteins};
    }
    if (here.size() > 5) out.push_back(std::move(here));
  }
  return out;
}

}  // namespace

TEST_CASE("a row becomes a protein") {
  const std::string table =
      "Entry\tReviewed\tEntry Name\tOrganism\tLength\tProtein families\tGene Ontology "
      "IDs\tPfam\tKeywords\t"
      "Signal peptide\tBinding site\tSequence\tMass\n"
      "P1\treviewed\tX_HUMAN\tHomo sapiens (Human)\t10\tGlobin family\tGO:0005524; "
      "GO:0004708\tPF1;PF2;\tA;B c\t"
      "SIGNAL 1..3\tBINDING 4; /ligand=\"Zn(2+)\"; /evidence=\"ECO:1\"\tmkTAYIAKQR\t1000\n"
      "P1-2\tunreviewed\tY\t\t2\t\t\t\t\t\tBINDING <1..2\tMK\t\n";
  uniprot_report report;
  const auto all = read(table, &report);
  REQUIRE(all.size() == 2);
  const auto& p = all[0];
  CHECK(p.accession == "P1");
  CHECK(p.name == "X_HUMAN");
  CHECK(p.organism == "Homo sapiens (Human)");
  CHECK(p.family == "Globin family");
  CHECK(p.reviewed);
  CHECK(p.go_ids == std::vector<std::string>{"GO:0005524", "GO:0004708"});
  CHECK(p.pfam_ids == std::vector<std::string>{"PF1", "PF2"});
  CHECK(p.keywords == std::vector<std::string>{"A", "B c"});
  CHECK(p.sequence == "MKTAYIAKQR");
  REQUIRE(p.features.size() == 2);
  CHECK(p.features[0].column == "Signal peptide");
  CHECK(p.features[0].end == 3);
  CHECK(p.features[1].ligand == "Zn(2+)");
  CHECK(p.features[1].evidence == "ECO:1");
  CHECK_FALSE(all[1].reviewed);
  CHECK(all[1].features.empty());
  CHECK(report.proteins == 2);
  CHECK(report.residues == 12);
  CHECK(report.features == 2);
  CHECK(report.fuzzy_excluded == 1);
  CHECK(report.repaired.lower_case == 2);
  CHECK(report.feature_columns == std::vector<std::string>{"Signal peptide", "Binding site"});
  CHECK(report.unused_columns == std::vector<std::string>{"Mass"});
}

TEST_CASE("GO ids come from the terms when their own column is missing") {
  const auto all = read(
      "Entry\tSequence\tGene Ontology (GO)\nP1\tMK\tATP binding [GO:0005524]; x [y] "
      "[GO:0004708]\n");
  CHECK(all[0].go_ids == std::vector<std::string>{"GO:0005524", "GO:0004708"});
}

TEST_CASE("a table saved by a spreadsheet reads the same") {
  const auto all = read(
      "Entry\tBinding site\tSequence\nP1\t\"BINDING 2; /ligand=\"\"Mg(2+)\"\"; /note=\"\"a; "
      "b\"\"\"\tMK\n");
  REQUIRE(all[0].features.size() == 1);
  CHECK(all[0].features[0].ligand == "Mg(2+)");
  CHECK(all[0].features[0].note == "a; b");
}

TEST_CASE("broken tables are refused with their rule") {
  CHECK(id("Entry\tSequence\nP1\tMK\n") == "accepted");
  CHECK(id("Entry\tSequence\n") == "io.305");
  CHECK(id("") == "io.301");
  CHECK(id("Entry\tsequence\nP1\tMK\n") == "io.302");
  CHECK(id("Accession\tSequence\nP1\tMK\n") == "io.302");
  CHECK(id("Entry\tSequence\tHelix\tHelix\nP1\tMK\t\t\n") == "io.302");
  CHECK(id("Entry\tSequence\nP1\n") == "io.303");
  CHECK(id("Entry\tSequence\nP1\tMK\nP1\tMK\n") == "io.306");
  CHECK(id("Entry\tSequence\n\tMK\n") == "io.306");
  CHECK(id("Entry\tLength\tSequence\nP1\t3\tMK\n") == "io.307");
  CHECK(id("Entry\tLength\tSequence\nP1\tx\tMK\n") == "io.307");
  CHECK(id("Entry\tLength\tSequence\nP1\t\tMK\n") == "io.307");
  CHECK(id("Entry\tSequence\nP1\t\n") == "io.307");
  CHECK(id("Entry\tSequence\nP1\tM1K\n") == "io.208");
  CHECK(id("Entry\tSequence\tHelix\nP1\tMK\tHELIX 1..3\n") == "io.310");
  CHECK(id("Entry\tSequence\tHelix\nP1\tMK\tTURN 1..2\n") == "io.309");
  const std::string text = error_text([] { read("Entry\tSequence\tHelix\nP1\tMK\tHELIX 1..3\n"); });
  for (const char* part : {"u.tsv:2", "accession P1", "column Helix"})
    CHECK(text.find(part) != std::string::npos);
}

TEST_CASE("every UniProt table of the reference data reads as an independent count says") {
  std::vector<counts> stated;
  if (const auto readme = golden::root() / "README.md"; std::filesystem::exists(readme)) {
    const auto bytes = read_file(readme);
    stated = stated_counts({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
  }
  std::size_t agreed = 0;
  std::size_t annotated_tables = 0;
  auto paths = golden::files("", ".tsv");
  const auto packed = golden::files("", ".tsv.gz");
  paths.insert(paths.end(), packed.begin(), packed.end());
  for (const auto& path : paths) {
    if (path.filename().string().find("uniprot") == std::string::npos) continue;
    CAPTURE(path.string());
    tsv_reader table(path);
    if (!table.column("Entry") || !table.column("Sequence")) continue;
    counts naive;
    std::size_t rows = 0;
    while (table.next()) {
      ++rows;
      for (const auto& c : uniprot_feature_columns) {
        const auto at = table.column(c.name);
        const std::size_t n = at ? naive_count(table.cell(*at), c.key) : 0;
        if (n == 0) continue;
        auto& [instances, proteins] = naive[std::string(c.key)];
        instances += n;
        ++proteins;
      }
    }
    uniprot_report report;
    const auto all = read_uniprot_tsv(path, {}, &report);
    CHECK(all.size() == rows);
    counts parsed;
    std::size_t cysteines = 0;
    std::size_t bond_ends = 0;
    for (const auto& p : all) {
      std::set<std::string> seen;
      for (const auto& f : p.features) {
        const auto c = std::find_if(uniprot_feature_columns.begin(), uniprot_feature_columns.end(),
                                    [&](const feature_column& x) { return x.name == f.column; });
        auto& [instances, proteins] = parsed[std::string(c->key)];
        ++instances;
        proteins += seen.insert(std::string(c->key)).second;
        CHECK(f.begin >= 1);
        CHECK(f.end <= p.sequence.size());
        if (c->key == "DISULFID") {
          bond_ends += 2;
          cysteines += std::size_t{p.sequence[f.begin - 1] == 'C'};
          cysteines += std::size_t{p.sequence[f.end - 1] == 'C'};
        }
      }
    }
    double missing = 0.0;
    for (const auto& [key, n] : naive) {
      missing += static_cast<double>(n.first) - static_cast<double>(parsed[key].first);
    }
    // Positions that were shifted by one would not be cysteines.
    if (bond_ends > 0) CHECK(cysteines * 100 >= bond_ends * 98);
    golden::report(path, missing,
                   static_cast<double>(report.fuzzy_excluded + report.other_isoform_excluded));
    annotated_tables += !parsed.empty();
    agreed += std::find(stated.begin(), stated.end(), parsed) != stated.end();
  }
  if (!stated.empty()) CHECK(agreed == std::min(stated.size(), annotated_tables));
}
