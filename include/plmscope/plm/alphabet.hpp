// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/config.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace plmscope::inline PLMSCOPE_ABI {

/// The 33 tokens of ESM-2 in the order of their ids (Lin et al. 2023; the same in every published
/// size): amino acids by falling frequency, then X, B, U, Z, O and the gaps, which are trained but
/// rare. J, `*` and lower case are no tokens.
namespace alphabet {

inline constexpr std::array<std::string_view, 33> tokens{
    "<cls>", "<pad>", "<eos>", "<unk>", "L", "A", "G", "V", "S", "E", "R",
    "T",     "I",     "D",     "P",     "K", "Q", "N", "F", "Y", "M", "H",
    "W",     "C",     "X",     "B",     "U", "Z", "O", ".", "-", "<null_1>", "<mask>"};

inline constexpr std::size_t size = tokens.size();
inline constexpr std::int32_t cls = 0;
inline constexpr std::int32_t pad = 1;
inline constexpr std::int32_t eos = 2;
inline constexpr std::int32_t unk = 3;
inline constexpr std::int32_t mask = 32;

/// The 20 standard amino acids are the ids [first_standard, last_standard].
inline constexpr std::int32_t first_standard = 4;
inline constexpr std::int32_t last_standard = 23;

/// Token of a one-letter code, or -1. Costs one table look-up.
constexpr std::int32_t token_of(char letter) noexcept {
  constexpr auto table = [] {
    std::array<std::int8_t, 256> t{};
    t.fill(-1);
    for (std::size_t i = 0; i < tokens.size(); ++i) {
      if (tokens[i].size() != 1) continue;
      t[static_cast<unsigned char>(tokens[i][0])] = static_cast<std::int8_t>(i);
    }
    return t;
  }();
  return table[static_cast<unsigned char>(letter)];
}

/// Neither a residue nor a mask: `<cls>`, `<pad>`, `<eos>`.
constexpr bool is_special(std::int32_t token) noexcept { return token >= cls && token <= eos; }

}  // namespace alphabet
}  // namespace plmscope
