// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/plm/alphabet.hpp>
#include <plmscope/plm/packed_batch.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace plmscope::inline PLMSCOPE_ABI {

/// The tokens of ESM-C (EvolutionaryScale 2024): those of ESM-2 with one exception, id 31, which
/// is the chain break `|`. It is a token like any other: attention crosses it. The model's
/// embedding table and logits have 64 rows; ids 33 to 63 mean nothing and are refused in a batch.
///
/// Every character that is no token is one `<unk>`, blanks too, as in the official tokenizer.
struct esmc_alphabet : esm2_alphabet {
  static constexpr std::int32_t chain_break = 31;
  static constexpr auto tokens = [] {
    auto all = esm2_alphabet::tokens;
    all[chain_break] = "|";
    return all;
  }();
  static constexpr std::size_t size = tokens.size();

  static constexpr std::array<std::int32_t, 5> spelled{mask, unk, cls, pad, eos};
  static constexpr bool skips_blanks = false;
  static constexpr bool token_dropout = false;

  static constexpr std::int32_t token_of(char letter) noexcept {
    return ids_[static_cast<unsigned char>(letter)];
  }

 private:
  static constexpr std::array<std::int8_t, 256> ids_ = alphabet_detail::letters(tokens);
};

/// A policy for letters that are no tokens: `_` is `<mask>`, everything else `<unk>`. The 2024
/// release read sequences so; the present one gives `<unk>` for `_` (`per_residue`).
struct underscore_is_mask {
  std::int32_t unknown(char letter, std::size_t) const noexcept {
    return letter == '_' ? esmc_alphabet::mask : esmc_alphabet::unk;
  }
};

/// Sequences for ESM-C: `batch.add("MKTVRQ|ERLK")`.
using esmc_batch = basic_packed_batch<esmc_alphabet>;

}  // namespace plmscope::inline PLMSCOPE_ABI
