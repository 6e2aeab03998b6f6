// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/config.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace plmscope::inline PLMSCOPE_ABI {

namespace alphabet_detail {

/// Id of every one-letter token by its character; -1 for the rest.
template <std::size_t N>
constexpr std::array<std::int8_t, 256> letters(const std::array<std::string_view, N>& tokens) {
  std::array<std::int8_t, 256> ids{};
  ids.fill(-1);
  for (std::size_t i = 0; i < N; ++i) {
    if (tokens[i].size() != 1) continue;
    ids[static_cast<unsigned char>(tokens[i][0])] = static_cast<std::int8_t>(i);
  }
  return ids;
}

}  // namespace alphabet_detail

/// The 33 tokens of ESM-2 in the order of their ids (Lin et al. 2023; the same in every published
/// size): amino acids by falling frequency, then X, B, U, Z, O and the gaps, which are trained but
/// rare. J, `*` and lower case are no tokens.
///
/// An alphabet is a type: it makes a tokenizer (`tokenize<Alphabet>`) and a packed batch
/// (`basic_packed_batch<Alphabet>`), so a batch of another model does not compile.
struct esm2_alphabet {
  static constexpr std::array<std::string_view, 33> tokens{
      "<cls>", "<pad>", "<eos>", "<unk>", "L", "A", "G", "V", "S", "E", "R",
      "T",     "I",     "D",     "P",     "K", "Q", "N", "F", "Y", "M", "H",
      "W",     "C",     "X",     "B",     "U", "Z", "O", ".", "-", "<null_1>", "<mask>"};

  static constexpr std::size_t size = tokens.size();
  static constexpr std::int32_t cls = 0;
  static constexpr std::int32_t pad = 1;
  static constexpr std::int32_t eos = 2;
  static constexpr std::int32_t unk = 3;
  static constexpr std::int32_t mask = 32;

  /// The 20 standard amino acids are the ids [first_standard, last_standard].
  static constexpr std::int32_t first_standard = 4;
  static constexpr std::int32_t last_standard = 23;

  /// Tokens that a text may spell out, `<mask>` for one.
  static constexpr std::array<std::int32_t, 2> spelled{mask, unk};
  /// Blanks, tabs and line ends in a text are nothing (else: unknown characters).
  static constexpr bool skips_blanks = true;
  /// The model rescales embeddings by the share of `<mask>` (`embedding_scales`), so a sequence of
  /// nothing else is refused.
  static constexpr bool token_dropout = true;

  /// Token of a one-letter code, or -1. Costs one table look-up.
  static constexpr std::int32_t token_of(char letter) noexcept {
    return ids_[static_cast<unsigned char>(letter)];
  }
  /// Neither a residue nor a mask: `<cls>`, `<pad>`, `<eos>`.
  static constexpr bool is_special(std::int32_t token) noexcept {
    return token >= cls && token <= eos;
  }

 private:
  static constexpr std::array<std::int8_t, 256> ids_ = alphabet_detail::letters(tokens);
};

using alphabet = esm2_alphabet;

}  // namespace plmscope
