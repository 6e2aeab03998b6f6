// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/io/residues.hpp>
#include <plmscope/plm/alphabet.hpp>
#include <plmscope/plm/rules.hpp>

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace plmscope::inline PLMSCOPE_ABI {

// What becomes of a letter that is no token (J, `*`, lower case, digits). A policy is a struct
// with `std::int32_t unknown(char letter, std::size_t position) const`; one that also has
// `static constexpr bool joins_runs = true` is asked once for several such letters in a row.

/// One `<unk>` per letter, so residue i is always token i + 1. (Hugging Face's slow tokenizer
/// merges a run of unknown letters into one `<unk>` and loses that; fair-esm raises KeyError.)
struct per_residue {
  std::int32_t unknown(char, std::size_t) const noexcept { return alphabet::unk; }
};

/// An error (plm.101) that names letter and position.
struct strict {
  std::int32_t unknown(char letter, std::size_t position) const {
    throw error(rules::unknown_letter,
                {.where = "residue " + std::to_string(position + 1),
                 .expected = "one of ACDEFGHIKLMNPQRSTVWY, X B U Z O, '.' or '-'",
                 .found = "'" + std::string(1, letter) + "'",
                 .remedy = "correct the sequence, or use the policy per_residue"});
  }
};

/// As Hugging Face's slow tokenizer (EsmTokenizer): letters that are no token and stand next to
/// each other become one `<unk>` together, so behind such a run residue i is no longer token i + 1.
/// For numbers of others that were made so; a blank ends a run.
struct hf_exact {
  static constexpr bool joins_runs = true;
  std::int32_t unknown(char, std::size_t) const noexcept { return alphabet::unk; }
};

template <class P>
concept unknown_letter_policy = requires(const P& p, char letter, std::size_t position) {
  { p.unknown(letter, position) } -> std::convertible_to<std::int32_t>;
};

namespace tokenizer_detail {

/// The token that `text` begins by spelling out, or -1.
template <class Alphabet>
std::int32_t spelled_token(std::string_view text) {
  for (const std::int32_t token : Alphabet::spelled) {
    if (text.starts_with(Alphabet::tokens[static_cast<std::size_t>(token)])) return token;
  }
  return -1;
}

/// Bytes of the UTF-8 character at the start of `text`, 1 where it is none.
inline std::size_t character_bytes(std::string_view text) noexcept {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const std::size_t claimed = byte(0) < 0xc0 ? 1 : byte(0) < 0xe0 ? 2 : byte(0) < 0xf0 ? 3 : 4;
  std::size_t n = 1;
  while (n < claimed && n < text.size() && (byte(n) & 0xc0) == 0x80) ++n;
  return n;
}

}  // namespace tokenizer_detail

/// Appends `<cls> residues <eos>` to `out`. `mask_letter` and the text `<mask>` are a masked
/// position, the text `<unk>` an unknown one; ESM-2 skips blanks, tabs and line ends, ESM-C knows
/// further texts (`esmc_alphabet`). Every other character is one token. Any other '<' is an error
/// (plm.102) under every policy.
template <class Alphabet = alphabet, unknown_letter_policy Policy = per_residue>
void tokenize_into(std::string_view residues, std::vector<std::int32_t>& out,
                   const Policy& policy = {}) {
  out.reserve(out.size() + residues.size() + 2);
  out.push_back(Alphabet::cls);
  constexpr bool joins_runs = requires { requires Policy::joins_runs; };
  std::size_t position = 0;
  bool in_run = false;  // the character before was an unknown letter
  for (std::size_t i = 0; i < residues.size();) {
    const char c = residues[i];
    if (Alphabet::skips_blanks && (c == ' ' || c == '\t' || c == '\n' || c == '\r')) {
      in_run = false;
      ++i;
      continue;
    }
    const bool after_unknown = std::exchange(in_run, false);
    if (c == '<') {
      const std::string_view rest = residues.substr(i);
      const std::int32_t token = tokenizer_detail::spelled_token<Alphabet>(rest);
      if (token < 0) {
        throw error(rules::unknown_token_text, {.where = "character " + std::to_string(i + 1),
                                                .found = std::string(rest.substr(0, 12))});
      }
      out.push_back(token);
      i += Alphabet::tokens[static_cast<std::size_t>(token)].size();
    } else {
      const std::int32_t token = c == mask_letter ? Alphabet::mask : Alphabet::token_of(c);
      in_run = token < 0;
      if (!joins_runs || !in_run || !after_unknown) {
        out.push_back(in_run ? policy.unknown(c, position) : token);
      }
      i += tokenizer_detail::character_bytes(residues.substr(i));
    }
    ++position;
  }
  out.push_back(Alphabet::eos);
}

template <class Alphabet = alphabet, unknown_letter_policy Policy = per_residue>
std::vector<std::int32_t> tokenize(std::string_view residues, const Policy& policy = {}) {
  std::vector<std::int32_t> out;
  tokenize_into<Alphabet>(residues, out, policy);
  return out;
}

}  // namespace plmscope::inline PLMSCOPE_ABI
