// SPDX-License-Identifier: MIT
#include <tests/plm/error_text.hpp>

#include "tests/golden.hpp"

#include <plmscope/plm/alphabet.hpp>
#include <plmscope/plm/tokenizer.hpp>

#include <doctest/doctest.h>

#include <cstdint>
#include <fstream>
#include <iterator>
#include <sstream>
#include <string>
#include <vector>

namespace {

using ids = std::vector<std::int32_t>;
using plmscope::tokenize;

}  // namespace

TEST_CASE("tokens of the published examples") {
  CHECK(tokenize("MKTVRQG") == ids{0, 20, 15, 11, 7, 10, 16, 6, 2});
  CHECK(tokenize("KALTA<mask>ISQP") == ids{0, 15, 5, 4, 11, 5, 32, 12, 8, 16, 14, 2});
  CHECK(tokenize("K A <mask> I S Q") == ids{0, 15, 5, 32, 12, 8, 16, 2});
}

TEST_CASE("every one-letter token is its place in the alphabet") {
  using plmscope::alphabet;
  static_assert(alphabet::size == 33);
  CHECK(alphabet::tokens[alphabet::mask] == "<mask>");
  CHECK(alphabet::tokens[alphabet::unk] == "<unk>");
  int letters = 0;
  for (int c = 0; c < 256; ++c) {
    const std::int32_t token = alphabet::token_of(static_cast<char>(c));
    if (token < 0) continue;
    ++letters;
    const std::string letter(1, static_cast<char>(c));
    CHECK(alphabet::tokens[static_cast<std::size_t>(token)] == letter);
  }
  CHECK(letters == 27);  // 20 amino acids, X B U Z O, two gaps
  CHECK(alphabet::token_of('L') == alphabet::first_standard);
  CHECK(alphabet::token_of('C') == alphabet::last_standard);
  CHECK(alphabet::is_special(alphabet::eos));
  CHECK_FALSE(alphabet::is_special(alphabet::mask));
}

TEST_CASE("one residue is one token, whatever the letter") {
  CHECK(tokenize("") == ids{0, 2});
  CHECK(tokenize("MJ*JM") == ids{0, 20, 3, 3, 3, 20, 2});
  CHECK(tokenize("mK1\xc3") == ids{0, 3, 15, 3, 3, 2});
  CHECK(tokenize("XBUZO.-") == ids{0, 24, 25, 26, 27, 28, 29, 30, 2});
  CHECK(tokenize(std::string("A") + plmscope::mask_letter + "G") == ids{0, 5, 32, 6, 2});
  CHECK(tokenize("A<unk>G\r\n") == ids{0, 5, 3, 6, 2});
}

TEST_CASE("strict names letter and position; a stray '<' is an error for all") {
  const std::string letter = error_of([] { tokenize("MKTJ", plmscope::strict{}); });
  CHECK(letter.starts_with("plm.101 "));
  CHECK(letter.find("residue 4") != std::string::npos);
  CHECK(letter.find("'J'") != std::string::npos);
  CHECK(tokenize("MK<mask>X", plmscope::strict{}) == ids{0, 20, 15, 32, 24, 2});
  CHECK(error_of([] { tokenize("MK<cls>"); }).starts_with("plm.102 "));
  CHECK(error_of([] { tokenize("MK<mas"); }).starts_with("plm.102 "));
}

TEST_CASE("a policy of one's own") {
  struct leucine_for_j {
    std::int32_t unknown(char letter, std::size_t) const {
      return letter == 'J' ? plmscope::alphabet::token_of('L') : plmscope::alphabet::unk;
    }
  };
  CHECK(tokenize("AJ*", leucine_for_j{}) == ids{0, 5, 4, 3, 2});
}

TEST_CASE("hf_exact gives the tokens of Hugging Face's slow tokenizer") {
  std::ifstream file(golden::repository() / "tests/plm/golden/hf_tokens.tsv");
  REQUIRE(file);
  std::size_t lines = 0;
  std::size_t shorter = 0;
  for (std::string line; std::getline(file, line); ++lines) {
    const std::size_t tab = line.find('\t');
    std::istringstream numbers(line.substr(tab + 1));
    const ids expected{std::istream_iterator<std::int32_t>(numbers), {}};
    INFO(line);
    const std::string text = line.substr(0, tab);
    CHECK(tokenize(text, plmscope::hf_exact{}) == expected);
    const ids aligned = tokenize(text, plmscope::per_residue{});
    CHECK(aligned.size() >= expected.size());
    shorter += aligned.size() > expected.size() ? 1u : 0u;
  }
  CHECK(lines == 216);
  CHECK(shorter > 50);  // else the file would not tell the policies apart
  CHECK(error_of([] { tokenize("MK<", plmscope::hf_exact{}); }).starts_with("plm.102 "));
}
