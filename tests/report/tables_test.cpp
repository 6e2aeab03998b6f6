// SPDX-License-Identifier: MIT
#include <doctest/doctest.h>

#include <plmscope/report/tables.hpp>

#include <charconv>
#include <cstddef>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <string_view>
#include <vector>

#include <tests/report/sample_report.hpp>

namespace {

std::vector<std::string> split(std::string_view text, char at) {
  std::vector<std::string> out(1);
  for (const char c : text) {
    if (c == at) {
      out.emplace_back();
    } else {
      out.back() += c;
    }
  }
  return out;
}

double number(const std::string& cell) {
  double value = -1.0;
  const auto end = std::from_chars(cell.data(), cell.data() + cell.size(), value);
  REQUIRE(end.ptr == cell.data() + cell.size());
  return value;
}

using rows = std::vector<std::vector<std::string>>;

rows written(const plmscope::feature_report& report) {
  const auto path = std::filesystem::temp_directory_path() / "plmscope_tables_test.tsv";
  plmscope::write_concepts_tsv(path, report);
  std::ifstream in(path, std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(in), {}};
  std::filesystem::remove(path);
  REQUIRE(text.ends_with('\n'));
  rows out;
  for (const std::string& line : split(text.substr(0, text.size() - 1), '\n')) {
    out.push_back(split(line, '\t'));
    CHECK(out.back().size() == 14);
  }
  return out;
}

}  // namespace

TEST_CASE("concepts.tsv: what is written is read back") {
  const rows table = written(sample_report::small());
  REQUIRE(table.size() == 2);
  const std::vector<std::string> names = {
      "concept", "kind", "feature", "threshold", "validation_f1", "validation_precision",
      "validation_recall", "held_out_f1", "held_out_precision", "held_out_recall",
      "held_out_residues", "held_out_instances", "amino_acid_f1", "best_neuron_f1"};
  CHECK(table[0] == names);
  CHECK(table[1][0] == "Signal peptide");
  CHECK(table[1][1] == "domain");
  const std::vector<double> values = {7,     1.5, 0.75, 0.8, 0.7,   0.5,
                                      0.625, 0.4, 1234, 56,  0.125, 0.25};
  for (std::size_t i = 0; i < values.size(); ++i) CHECK(number(table[1][i + 2]) == values[i]);
}

TEST_CASE("concepts.tsv: an empty report is its header, missing numbers are NA") {
  plmscope::feature_report r;
  CHECK(written(r).size() == 1);
  r.concepts.emplace_back().name = "Lipidation";
  const rows table = written(r);
  REQUIRE(table.size() == 2);
  CHECK(table[1] == std::vector<std::string>{"Lipidation", "residue", "NA", "NA", "NA", "NA", "NA",
                                             "NA", "NA", "NA", "0", "0", "NA", "NA"});
}

TEST_CASE("concepts.tsv: no text shifts a column, breaks a row or becomes a formula") {
  for (const std::string text : {"a\tb", "a\nb", "a\r\nb", "a\vb", "a\x1b[31mb"}) {
    const rows table = written(sample_report::with_text(text));
    REQUIRE(table.size() == 2);
    CHECK(table[1][0].front() == 'a');
    CHECK(table[1][0].back() == 'b');
  }
  for (const std::string text : {"=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"}) {
    CHECK(written(sample_report::with_text(text))[1][0].front() == '\'');
  }
  CHECK(written(sample_report::with_text("a=b"))[1][0] == "a=b");
  plmscope::feature_report r = sample_report::small();
  r.concepts[0].threshold = -0.5;  // a number is no formula
  CHECK(written(r)[1][3] == "-0.5");
}
