// SPDX-License-Identifier: MIT
#include <plmscope/io/uniprot_features.hpp>

#include "tests/io/error_id.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <set>
#include <string>
#include <vector>

using namespace plmscope;

namespace {

const feature_column& column(std::string_view name) {
  const auto at = std::find_if(uniprot_feature_columns.begin(), uniprot_feature_columns.end(),
                               [&](const feature_column& c) { return c.name == name; });
  REQUIRE(at != uniprot_feature_columns.end());
  return *at;
}

// `begin-end(note|ligand)` for every feature, joined by blanks; or the error id.
std::string read(std::string_view name, std::string_view cell, std::size_t length = 100) {
  feature_cell_parser parser;
  std::vector<feature_span> features;
  const std::string id = error_id(
      [&] { parser.parse(column(name), cell, length, "t.tsv:2, accession P1", features); });
  if (id != "accepted") return id;
  std::string out;
  for (const auto& f : features) {
    out += (out.empty() ? "" : " ") + std::to_string(f.begin) + "-" + std::to_string(f.end) + "(" +
           f.note + "|" + f.ligand + ")";
  }
  if (parser.fuzzy > 0) out += " fuzzy " + std::to_string(parser.fuzzy);
  if (parser.other_isoform > 0) out += " isoform " + std::to_string(parser.other_isoform);
  return out;
}

}  // namespace

TEST_CASE("features with and without qualifiers are read") {
  CHECK(read("Helix", "") == "");
  CHECK(read("Signal peptide", "SIGNAL 1..22") == "1-22(|)");
  CHECK(read("Signal peptide", "SIGNAL 1..22; /evidence=\"ECO:0000255\"") == "1-22(|)");
  CHECK(read("Helix", "HELIX 2..9; HELIX 12..20; ") == "2-9(|) 12-20(|)");
  CHECK(read("Active site", "ACT_SITE 7; /note=\"Proton acceptor\"; ACT_SITE 8") ==
        "7-7(Proton acceptor|) 8-8(|)");
  CHECK(read("Binding site",
             R"x(BINDING 91; /ligand="Mg(2+)"; /ligand_id="ChEBI:CHEBI:18420"; )x"
             R"x(BINDING 5..9; /ligand="ATP"; /note="x")x") == "91-91(|Mg(2+)) 5-9(x|ATP)");
}

TEST_CASE("notes hold semicolons, quotes and features' names") {
  const auto note = [](const std::string& quoted) {
    return read("Region",
                "REGION 1..2; /note=\"" + quoted + "\"; /evidence=\"ECO:1\"; REGION 3..4");
  };
  CHECK(note("a; b") == "1-2(a; b|) 3-4(|)");
  CHECK(note("Helical; Name=TM1") == "1-2(Helical; Name=TM1|) 3-4(|)");
  CHECK(note("the \"finger\" fold") == "1-2(the \"finger\" fold|) 3-4(|)");
  CHECK(note("the \"\"finger\"\" fold") == "1-2(the \"finger\" fold|) 3-4(|)");
  CHECK(note("ends \"so\"") == "1-2(ends \"so\"|) 3-4(|)");
  CHECK(note("ends \"\"so\"\"") == "1-2(ends \"so\"|) 3-4(|)");
  CHECK(note("\"a\"; b") == "1-2(\"a\"; b|) 3-4(|)");
  CHECK(note("") == "1-2(|) 3-4(|)");
  CHECK(note("5'-phosphate / 3'") == "1-2(5'-phosphate / 3'|) 3-4(|)");
  CHECK(note("REGION 3..4") == "1-2(REGION 3..4|) 3-4(|)");
  CHECK(note("\xce\xb2 <script>&amp;") == "1-2(\xce\xb2 <script>&amp;|) 3-4(|)");
}

TEST_CASE("inexact positions and other isoforms are left out and counted") {
  CHECK(read("Region", "REGION <1..5; REGION 7..8") == "7-8(|) fuzzy 1");
  CHECK(read("Region", "REGION ?..12; /note=\"x\"; REGION 7..8") == "7-8(|) fuzzy 1");
  CHECK(read("Region", "REGION 12..>20") == " fuzzy 1");
  CHECK(read("Region", "REGION ?") == " fuzzy 1");
  CHECK(read("Region", "REGION ?12..20") == " fuzzy 1");
  CHECK(read("Chain", "CHAIN ?..?; /id=\"PRO_1\"; CHAIN 1..>999") == " fuzzy 2");
  CHECK(read("Region", "REGION P12345-2:10..2000; REGION 7..8") == "7-8(|) isoform 1");
}

TEST_CASE("positions outside the sequence are refused") {
  for (const char* cell :
       {"REGION 0..5", "REGION 5..4", "REGION 90..101", "REGION 101", "REGION 0", "REGION -3..5",
        "REGION 1..-3", "REGION 1000000000000", "REGION 99999999999999999999999"}) {
    CAPTURE(cell);
    CHECK(read("Region", cell) == "io.310");
  }
  CHECK(read("Region", "REGION 1..100") == "1-100(|)");
}

TEST_CASE("broken cells are refused") {
  for (const char* cell : {"REGION 1..2; /note=\"open", "REGION 1..2; /note=open",
                           "REGION 1..2; /note", "REGION 1..2; /=\"x\"", "REGION 1..2..3",
                           "REGION 1 2", "REGION 1..", "REGION ..2", "REGION x", "REGION 1.5"}) {
    CAPTURE(cell);
    CHECK(read("Region", cell) == "io.308");
  }
  for (const char* cell : {"HELIX 1..2", "x", "/note=\"x\"", "REGION", "REGION1..2", "region 1..2",
                           "REGION 1..2; HELIX 3..4", "1..2"}) {
    CAPTURE(cell);
    CHECK(read("Region", cell) == "io.309");
  }
  feature_cell_parser parser;
  std::vector<feature_span> out;
  const std::string text = error_text([&] {
    parser.parse(column("Region"), "REGION 1..2; REGION 300", 100, "t.tsv:2, accession P1", out);
  });
  INFO(text);
  for (const char* part : {"t.tsv:2", "P1", "column Region", "1..100"})
    CHECK(text.find(part) != std::string::npos);
}

TEST_CASE("a disulfide bond belongs to its two ends, a domain to all its residues") {
  feature_cell_parser parser;
  std::vector<feature_span> f;
  parser.parse(column("Disulfide bond"), "DISULFID 10..20; DISULFID 30; /note=\"Interchain\"", 100,
               "", f);
  parser.parse(column("Domain [FT]"), "DOMAIN 10..20; /note=\"SH3\"", 100, "", f);
  REQUIRE(f.size() == 3);
  std::vector<std::size_t> covered;
  for (const auto& x : f) {
    std::size_t n = 0;
    for (std::size_t p = 1; p <= 100; ++p) n += x.covers(p);
    covered.push_back(n);
  }
  CHECK(covered == std::vector<std::size_t>{2, 1, 11});
  CHECK(f[0].covers(10));
  CHECK(f[0].covers(20));
  CHECK(f[0].linked_ends);
  CHECK_FALSE(f[1].linked_ends);
  CHECK(f[2].column == "Domain [FT]");
}

TEST_CASE("column names and keys are unique") {
  std::set<std::string_view> names;
  std::set<std::string_view> keys;
  for (const auto& c : uniprot_feature_columns) {
    CHECK(names.insert(c.name).second);
    CHECK(keys.insert(c.key).second);
  }
}
