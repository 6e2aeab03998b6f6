// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/config.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

namespace plmscope::inline PLMSCOPE_ABI {

/// Residues as numbers: 0 to 19 for ARNDCQEGHILKMFPSTWYV, 20 for everything else.
inline constexpr std::string_view residue_order = "ARNDCQEGHILKMFPSTWYV";
inline constexpr std::size_t residue_codes = 21;

namespace substitution_matrix_detail {

inline constexpr std::array<std::uint8_t, 256> make_codes() {
  std::array<std::uint8_t, 256> codes{};
  codes.fill(20);
  const auto set = [&](char letter, std::uint8_t code) {
    codes[static_cast<unsigned char>(letter)] = code;
    codes[static_cast<unsigned char>(letter - 'A' + 'a')] = code;
  };
  for (std::size_t i = 0; i < residue_order.size(); ++i) {
    set(residue_order[i], static_cast<std::uint8_t>(i));
  }
  set('U', 4);   // selenocysteine as cysteine
  set('O', 11);  // pyrrolysine as lysine
  return codes;
}

inline constexpr std::array<std::uint8_t, 256> codes = make_codes();

// BLOSUM62 (Henikoff and Henikoff 1992), in the order of `residue_order`; the last row and column
// stand for unknown residues.
inline constexpr std::array<std::array<std::int8_t, 20>, 20> blosum62{{
    {4, -1, -2, -2, 0, -1, -1, 0, -2, -1, -1, -1, -1, -2, -1, 1, 0, -3, -2, 0},
    {-1, 5, 0, -2, -3, 1, 0, -2, 0, -3, -2, 2, -1, -3, -2, -1, -1, -3, -2, -3},
    {-2, 0, 6, 1, -3, 0, 0, 0, 1, -3, -3, 0, -2, -3, -2, 1, 0, -4, -2, -3},
    {-2, -2, 1, 6, -3, 0, 2, -1, -1, -3, -4, -1, -3, -3, -1, 0, -1, -4, -3, -3},
    {0, -3, -3, -3, 9, -3, -4, -3, -3, -1, -1, -3, -1, -2, -3, -1, -1, -2, -2, -1},
    {-1, 1, 0, 0, -3, 5, 2, -2, 0, -3, -2, 1, 0, -3, -1, 0, -1, -2, -1, -2},
    {-1, 0, 0, 2, -4, 2, 5, -2, 0, -3, -3, 1, -2, -3, -1, 0, -1, -3, -2, -2},
    {0, -2, 0, -1, -3, -2, -2, 6, -2, -4, -4, -2, -3, -3, -2, 0, -2, -2, -3, -3},
    {-2, 0, 1, -1, -3, 0, 0, -2, 8, -3, -3, -1, -2, -1, -2, -1, -2, -2, 2, -3},
    {-1, -3, -3, -3, -1, -3, -3, -4, -3, 4, 2, -3, 1, 0, -3, -2, -1, -3, -1, 3},
    {-1, -2, -3, -4, -1, -2, -3, -4, -3, 2, 4, -2, 2, 0, -3, -2, -1, -2, -1, 1},
    {-1, 2, 0, -1, -3, 1, 1, -2, -1, -3, -2, 5, -1, -3, -1, 0, -1, -3, -2, -2},
    {-1, -1, -2, -3, -1, 0, -2, -3, -2, 1, 2, -1, 5, 0, -2, -1, -1, -1, -1, 1},
    {-2, -3, -3, -3, -2, -3, -3, -3, -1, 0, 0, -3, 0, 6, -4, -2, -2, 1, 3, -1},
    {-1, -2, -2, -1, -3, -1, -1, -2, -2, -3, -3, -1, -2, -4, 7, -1, -1, -4, -3, -2},
    {1, -1, 1, 0, -1, 0, 0, 0, -1, -2, -2, 0, -1, -2, -1, 4, 1, -3, -2, -2},
    {0, -1, 0, -1, -1, -1, -1, -2, -2, -1, -1, -1, -1, -2, -1, 1, 5, -2, -2, 0},
    {-3, -3, -4, -4, -2, -2, -3, -2, -2, -3, -2, -3, -1, 1, -4, -3, -2, 11, 2, -3},
    {-2, -2, -2, -3, -2, -1, -2, -3, 2, -1, -1, -2, -1, 3, -3, -2, -2, 2, 7, -1},
    {0, -3, -3, -3, -1, -2, -2, -3, -3, 3, 1, -2, 1, -1, -2, -2, 0, -3, -1, 4},
}};

}  // namespace substitution_matrix_detail

/// Code of a one-letter residue; selenocysteine counts as C, pyrrolysine as K.
constexpr std::uint8_t residue_code(char letter) noexcept {
  return substitution_matrix_detail::codes[static_cast<unsigned char>(letter)];
}

inline std::vector<std::uint8_t> encode_residues(std::string_view sequence) {
  std::vector<std::uint8_t> out;
  out.reserve(sequence.size());
  for (const char letter : sequence) out.push_back(residue_code(letter));
  return out;
}

/// BLOSUM62 score of two residue codes; -1 where one is unknown.
constexpr int blosum62(std::uint8_t a, std::uint8_t b) noexcept {
  return a < 20 && b < 20 ? substitution_matrix_detail::blosum62[a][b] : -1;
}

}  // namespace plmscope::inline PLMSCOPE_ABI
