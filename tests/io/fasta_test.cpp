// SPDX-License-Identifier: MIT
#include <plmscope/io/fasta.hpp>

#include "tests/golden.hpp"
#include "tests/io/error_id.hpp"
#include "tests/io/gzip_text.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <string>
#include <vector>

using namespace plmscope;

namespace {

// `id:SEQUENCE` for every record, joined by blanks; or the error id.
std::string read(const std::string& text, fasta_options options = {},
                 fasta_report* report = nullptr) {
  std::string out;
  const std::string id = error_id([&] {
    for (const auto& r : read_fasta(line_reader::from_text(text, "f.fasta"), options, report)) {
      out += (out.empty() ? "" : " ") + r.id + ":" + r.sequence;
    }
  });
  return id == "accepted" ? out : id;
}

struct fasta_case {
  const char* what;
  std::string text;
  std::string expected;
};

}  // namespace

TEST_CASE("every oddity of a FASTA file has its stated outcome") {
  const std::vector<fasta_case> cases = {
      {"plain", ">a\nMK\n>b\nTT\n", "a:MK b:TT"},
      {"several lines", ">a\nMK\nTT\n\nAA\n", "a:MKTTAA"},
      {"no final newline", ">a\nMK", "a:MK"},
      {"CRLF", ">a x\r\nMK\r\nTT\r\n", "a:MKTT"},
      {"lone CR", ">a\rMK\rTT\r", "a:MKTT"},
      {"mixed endings", ">a\r\nMK\nTT\r>b\nAA", "a:MKTT b:AA"},
      {"byte order mark", "\xef\xbb\xbf>a\nMK\n", "a:MK"},
      {"blank lines", "\n \n>a\n\nMK\n\n", "a:MK"},
      {"empty file", "", "io.201"},
      {"only blank lines", "\n\n", "io.201"},
      {"text first", "MKT\n>a\nMK\n", "io.202"},
      {"comment first", "; old style\n>a\nMK\n", "io.202"},
      {"comment inside", ">a\n; old style\nMK\n", "io.208"},
      {"no id", ">\nMK\n", "io.203"},
      {"blank before the id", "> a\nMK\n", "io.203"},
      {"empty record", ">a\n>b\nMK\n", "io.204"},
      {"empty last record", ">a\nMK\n>b\n", "io.204"},
      {"only a stop", ">a\n*\n", "io.204"},
      {"duplicate id", ">a\nMK\n>a x\nTT\n", "io.205"},
      {"stop at the end", ">a\nMK*\n>b\nTT*", "a:MK b:TT"},
      {"stop on a line of its own", ">a\nMK\n*\n", "a:MK"},
      {"stop inside", ">a\nM*K\n", "io.206"},
      {"stop at the end of a line inside", ">a\nMK*\nTT\n", "io.206"},
      {"gap", ">a\nM-K\n", "io.207"},
      {"lower case", ">a\nmkT\n", "a:MKT"},
      {"rare letters", ">a\nUOBZXJ\n", "a:UOBZXX"},
      {"digits", ">a\n1 MKT\n", "io.208"},
      {"special tokens", ">a\nM<cls>K\n", "io.208"},
      {"mask", ">a\nM<mask>K\n", "io.209"},
      {"NUL", std::string(">a\nM\0K\n", 7), "io.509"},
      {"UTF-16", std::string("\xff\xfe>\0a\0", 6), "io.509"},
      {"long header", ">" + std::string(65'535, 'h') + "\nMK\n", std::string(65'535, 'h') + ":MK"},
      {"too long header", ">" + std::string(65'536, 'h') + "\nMK\n", "io.210"},
      {"too long sequence", ">a\n" + std::string(1'000'001, 'A') + "\n", "io.211"},
      {"hostile id", ">../../x\x1b[31m\"' y\nMK\n", "../../x\x1b[31m\"':MK"},
      {"'>' inside a header", ">a >b\nMK\n", "a:MK"},
      {"tab behind the id", ">a\tx\nMK\n", "a:MK"},
  };
  for (const auto& c : cases) {
    CAPTURE(c.what);
    CHECK(read(c.text) == c.expected);
    CHECK(read(gzip_text(c.text)) == (c.text.empty() ? "io.201" : c.expected));
  }
}

TEST_CASE("leniency is asked for by name and counted") {
  fasta_report report;
  CHECK(read("# x\n\ntext\n>a\nMK\n", {.skip_leading_text = true}, &report) == "a:MK");
  CHECK(report.leading_lines_skipped == 2);
  CHECK(read(">a\n>b\nMK\n>c\n*\n", {.skip_empty = true}, &report) == "b:MK");
  CHECK(report.empty_skipped == 2);
  CHECK(read(">a\n\n", {.skip_empty = true}) == "io.201");
  CHECK(read(">a\nMK\n>a\nTT\n>b\nAA\n", {.duplicates = duplicate_policy::keep_first}, &report) ==
        "a:MK b:AA");
  CHECK(report.duplicates_skipped == 1);
  CHECK(read(">a\nMK\n>a\nTT\n", {.duplicates = duplicate_policy::keep_all}) == "a:MK a:TT");
  CHECK(read(">a\nM-K\n", {.gaps = gap_policy::strip}, &report) == "a:MK");
  CHECK(report.repaired.gaps_removed == 1);
  CHECK(read(">a\nM<mask>K\n", {.allow_mask = true}, &report) ==
        std::string("a:M") + mask_letter + "K");
  CHECK(report.repaired.masks == 1);
  CHECK(read(">a\nmJ *\n", {}, &report) == "a:MX");
  CHECK(report.repaired.lower_case == 1);
  CHECK(report.repaired.spaces == 1);
  CHECK(report.repaired.final_stops == 1);
  CHECK(report.repaired.ambiguous_j == 1);
  CHECK(report.records == 1);
  CHECK(report.residues == 2);
  CHECK(read(gzip_text(">a\nMK\n") + "junk", {}, &report) == "a:MK");
  CHECK(report.trailing_garbage);
}

TEST_CASE("headers split into id and description, and UniProt ids give their accession") {
  const auto records =
      read_fasta(line_reader::from_text(">sp|P12345|AATM_RABIT  Aspartate aminotransferase "
                                        "OS=Oryctolagus\nMK\n>plain\nMK\n>b \nMK\n"));
  CHECK(records[0].id == "sp|P12345|AATM_RABIT");
  CHECK(records[0].description == "Aspartate aminotransferase OS=Oryctolagus");
  CHECK(records[1].description.empty());
  CHECK(records[2].description.empty());
  CHECK(accession("sp|P12345|AATM_RABIT") == "P12345");
  CHECK(accession("tr|A0A024|X_HUMAN") == "A0A024");
  CHECK(accession("sp|P12345") == "P12345");
  CHECK(accession("sp||X") == "sp||X");
  CHECK(accession("P12345") == "P12345");
  CHECK(accession("gi|1|x") == "gi|1|x");
  CHECK(accession("") == "");
}

TEST_CASE("errors name file, line and column") {
  const std::string text =
      error_text([] { read_fasta(line_reader::from_text(">a\nMKT\n>b\nMK9\n", "f.fasta")); });
  INFO(text);
  CHECK(text.find("f.fasta:4:3") != std::string::npos);
  CHECK(text.find("'9'") != std::string::npos);
}

TEST_CASE("a million small records stream") {
  std::string text;
  for (std::size_t i = 0; i < 1'000'000; ++i) text += ">r" + std::to_string(i) + "\nMK\n";
  fasta_reader reader(line_reader::from_text(std::move(text)));
  std::size_t n = 0;
  for (protein_sequence r; reader.next(r);) ++n;
  CHECK(n == 1'000'000);
  CHECK(reader.report().residues == 2'000'000);
}

TEST_CASE("every FASTA file of the corpus reads completely") {
  for (const auto& path : golden::files("corpus", ".fasta.gz")) {
    // An independent count: letters on lines without '>'.
    std::size_t records = 0;
    std::size_t residues = 0;
    line_reader lines(path);
    for (std::string_view line; lines.next(line);) {
      const bool header = line.substr(0, 1) == ">";
      records += header;
      if (!header) residues += line.size();
    }
    fasta_report report;
    const auto all = read_fasta(path, {}, &report);
    CHECK(all.size() == records);
    CHECK(report.residues == residues);
    CHECK(records > 0);
    MESSAGE(path.string(), ": ", records, " sequences, ", residues, " residues");
    golden::report(
        path, std::abs(static_cast<double>(residues) - static_cast<double>(report.residues)), 0.0);
  }
}
