// SPDX-License-Identifier: MIT
#include <plmscope/io/residues.hpp>

#include "tests/io/error_id.hpp"

#include <doctest/doctest.h>

#include <string>

using namespace plmscope;

namespace {

// The sequence, or the error id.
std::string read(std::string_view text, residue_policy policy = {},
                 residue_counts* counts = nullptr) {
  std::string out;
  const std::string id = error_id([&] { out = parse_sequence(text, "s", policy, counts); });
  return id == "accepted" ? out : id;
}

}  // namespace

TEST_CASE("every byte has a stated fate") {
  const std::string letters = "ABCDEFGHIKLMNOPQRSTUVWXYZ";  // J is not among them
  for (unsigned b = 0; b < 256; ++b) {
    const char c = static_cast<char>(static_cast<unsigned char>(b));
    const std::string text = std::string("M") + c + "K";
    CAPTURE(b);
    std::string want = "io.208";
    const bool lower = c >= 'a' && c <= 'z';
    const char upper = lower ? static_cast<char>(c - 32) : c;
    if (letters.find(upper) != std::string::npos) want = std::string("M") + upper + "K";
    if (upper == 'J') want = "MXK";
    if (c == ' ' || c == '\t' || c == '\v' || c == '\f') want = "MK";
    if (c == '*') want = "io.206";
    if (c == '-' || c == '.') want = "io.207";
    CHECK(read(text) == want);
  }
}

TEST_CASE("oddities are repaired and counted") {
  residue_counts counts;
  CHECK(read("mk tJj\tUOBZX*", {}, &counts) == "MKTXXUOBZX");
  CHECK(counts.lower_case == 4);
  CHECK(counts.spaces == 2);
  CHECK(counts.ambiguous_j == 2);
  CHECK(counts.final_stops == 1);
  CHECK(counts.gaps_removed == 0);
  CHECK(counts.masks == 0);
}

TEST_CASE("a stop ends a sequence, once") {
  CHECK(read("MK*") == "MK");
  CHECK(read("MK* ") == "MK");
  CHECK(read("MK**") == "io.206");
  CHECK(read("M*K") == "io.206");
  CHECK(read("M*k") == "io.206");
  CHECK(read("M*-") == "io.206");
  CHECK(read("*MK") == "io.206");
  CHECK(read("*") == "io.204");
  CHECK(read("") == "io.204");
  CHECK(read(" \t") == "io.204");
}

TEST_CASE("gaps follow the policy") {
  CHECK(read("M-K.T") == "io.207");
  residue_counts counts;
  CHECK(read("M-K.T", {.gaps = gap_policy::strip}, &counts) == "MKT");
  CHECK(counts.gaps_removed == 2);
  CHECK(read("M-K.T", {.gaps = gap_policy::keep}) == "M-K.T");
  CHECK(read("MK*--", {.gaps = gap_policy::strip}) == "MK");
}

TEST_CASE("only <mask> is a special token, only when allowed, and takes one position") {
  CHECK(read("M<mask>K") == "io.209");
  residue_counts counts;
  CHECK(read("M<mask><mask>K", {.allow_mask = true}, &counts) == "M##K");
  CHECK(counts.masks == 2);
  for (const char* text :
       {"M<cls>K", "M<unk>K", "M<pad>", "M<eos>", "M<mask", "M<MASK>K", "M#K", "M<", "M>K"}) {
    CAPTURE(text);
    CHECK(read(text, {.allow_mask = true}) == "io.208");
  }
}

TEST_CASE("length is limited and places are named") {
  CHECK(read(std::string(100, 'A'), {.max_residues = 100}).size() == 100);
  CHECK(read(std::string(101, 'A'), {.max_residues = 100}) == "io.211");
  CHECK(read(std::string(101, 'a'), {.max_residues = 100}) == "io.211");
  CHECK(read(std::string(35'213, 'A')).size() == 35'213);
  CHECK(error_text([] { parse_sequence("MK1", "seq"); }).find("seq, character 3") !=
        std::string::npos);
  CHECK(error_text([] { parse_sequence("MK\xf0\x9f\xa7\xac", "seq"); }).find("byte 240") !=
        std::string::npos);
}
