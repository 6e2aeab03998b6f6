// SPDX-License-Identifier: MIT
#include <plmscope/io/tsv.hpp>

#include "tests/io/error_id.hpp"

#include <doctest/doctest.h>

#include <string>
#include <vector>

using namespace plmscope;

namespace {

// Cells joined by `|`, rows by `/`; or the error id.
std::string read(const std::string& text) {
  std::string out;
  const std::string id = error_id([&] {
    tsv_reader table(line_reader::from_text(text, "t.tsv"));
    while (table.next()) {
      if (!out.empty()) out += '/';
      for (std::size_t i = 0; i < table.header().size(); ++i) {
        if (i > 0) out += '|';
        out += table.cell(i);
      }
    }
  });
  return id == "accepted" ? out : id;
}

}  // namespace

TEST_CASE("rows have the cells of the header, whatever stands in them") {
  CHECK(read("a\tb\n1\t2\n3\t4\n") == "1|2/3|4");
  CHECK(read("a\tb\r\n1\t2\r\n\r\n3\t4") == "1|2/3|4");
  CHECK(read("a\tb\n\t\n") == "|");
  CHECK(read("a\tb\n1\n") == "io.303");
  CHECK(read("a\tb\n1\t2\t3\n") == "io.303");
  CHECK(read("a\tb\n1\t2\r3\n") == "io.303");
  CHECK(read("a\ta\n") == "io.302");
  CHECK(read("") == "io.301");
  CHECK(read("\n\n") == "io.301");
  CHECK(read("a\n") == "");
}

TEST_CASE("quotes: spreadsheet cells are unquoted, others are left alone") {
  CHECK(read("a\tb\n\"x\"\t2\n") == "x|2");
  CHECK(read("a\tb\n\"/note=\"\"N\"\"; y\"\t2\n") == "/note=\"N\"; y|2");
  CHECK(read("a\tb\n\"\"\t2\n") == "|2");
  CHECK(read("a\tb\n1\t\"x y\"\n") == "1|x y");
  CHECK(read("a\tb\nx \"y\"\t5'\n") == "x \"y\"|5'");
  CHECK(read("a\tb\nhalf \"\t2\n") == "half \"|2");
  CHECK(read("a\tb\n\"x\" y\t2\n") == "\"x\" y|2");
  CHECK(read("a\tb\n\"x\" \"y\"\t2\n") == "\"x\" \"y\"|2");
  CHECK(read("a\tb\n\"x\ty\"\t2\n") == "io.304");
  CHECK(read("a\tb\n1\t\"x\ny\"\n") == "io.304");
  CHECK(read("\"a\"\t\"b\"\n1\t2\n") == "1|2");
}

TEST_CASE("columns are found by name, and a missing one lists what is there") {
  tsv_reader table(line_reader::from_text("Entry\tEntry Name\nP1\tX\n", "t.tsv"));
  CHECK(table.require_column("Entry Name") == 1);
  CHECK_FALSE(table.column("entry").has_value());
  const std::string text = error_text([&] { (void)table.require_column("Sequence"); });
  CHECK(text.find("[plmscope.io.302]") == 0);
  CHECK(text.find("\"Sequence\"") != std::string::npos);
  CHECK(text.find("Entry, Entry Name") != std::string::npos);
  REQUIRE(table.next());
  CHECK(table.position() == "t.tsv:2");
  CHECK(table.cell(0) == "P1");
  CHECK_FALSE(table.next());
}
