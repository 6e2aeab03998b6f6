// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/plm/alphabet.hpp>
#include <plmscope/plm/hook.hpp>
#include <plmscope/plm/rules.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace plmscope::inline PLMSCOPE_ABI {

/// Which tokens of a batch an edit touches: all, those of residues (everything but `<cls>`, `<eos>`
/// and `<pad>`), masked ones, or named positions; in every sequence, or in one.
///
///   tokens::residues()            tokens::at({0, 17}).in_sequence(2)
class tokens {
 public:
  static tokens all() { return {}; }
  static tokens residues() { return tokens(kind::residues, {}); }
  static tokens masked() { return tokens(kind::masked, {}); }
  /// Positions of tokens in their sequence: 0 is `<cls>`, i the i-th residue. Repeats count once.
  static tokens at(std::vector<std::size_t> positions) {
    std::ranges::sort(positions);
    const auto repeats = std::ranges::unique(positions);
    positions.erase(repeats.begin(), repeats.end());
    return tokens(kind::positions, std::move(positions));
  }
  /// The same, in one sequence of the batch only.
  tokens in_sequence(std::size_t sequence) const {
    tokens only = *this;
    only.sequence_ = sequence;
    return only;
  }

  /// Rows of a slice that are selected, ascending. Errors: plm.131 for a position that a selected
  /// sequence does not have.
  std::vector<std::uint32_t> rows(const batch_slice& slice) const {
    std::vector<std::uint32_t> out;
    for (std::size_t s = 0; s < slice.sequences(); ++s) {
      if (sequence_ && *sequence_ != slice.first_sequence + s) continue;
      const auto first = static_cast<std::size_t>(slice.offsets[s]);
      const auto last = static_cast<std::size_t>(slice.offsets[s + 1]);
      if (kind_ == kind::positions) {
        for (const std::size_t p : positions_) {
          if (p >= last - first) {
            throw error(rules::edit_position,
                        {.where = "sequence " + std::to_string(slice.first_sequence + s),
                         .expected = "positions below " + std::to_string(last - first),
                         .found = std::to_string(p)});
          }
          out.push_back(static_cast<std::uint32_t>(first + p));
        }
        continue;
      }
      for (std::size_t r = first; r < last; ++r) {
        const std::int32_t token = slice.tokens[r];
        if (kind_ == kind::all ||
            (kind_ == kind::masked ? token == alphabet::mask : !alphabet::is_special(token))) {
          out.push_back(static_cast<std::uint32_t>(r));
        }
      }
    }
    return out;
  }

 private:
  enum class kind { all, residues, masked, positions };

  tokens() = default;
  tokens(kind k, std::vector<std::size_t> positions) : kind_(k), positions_(std::move(positions)) {}

  kind kind_ = kind::all;
  std::vector<std::size_t> positions_;
  std::optional<std::size_t> sequence_;
};

}  // namespace plmscope::inline PLMSCOPE_ABI
