// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/plm/alphabet.hpp>
#include <plmscope/plm/rules.hpp>
#include <plmscope/plm/tokenizer.hpp>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace plmscope::inline PLMSCOPE_ABI {

/// Token sequences back to back, without padding: row r of every activation matrix is token r.
/// Positions restart at 0 with every sequence, `<cls>` included. A `<pad>` inside a sequence is an
/// ordinary token here: nothing is hidden from attention. `Alphabet` says which tokens there are
/// and how a text becomes tokens (`esm2_alphabet`, `esmc_alphabet`).
template <class Alphabet>
class basic_packed_batch {
 public:
  using alphabet_type = Alphabet;

  /// Longest sequence; positions are exact in float up to here.
  static constexpr std::size_t max_length = std::size_t{1} << 24;

  /// Appends one sequence of tokens, `<cls>` and `<eos>` included where wanted. Errors plm.103 to
  /// plm.106; the batch is then unchanged.
  void add(std::span<const std::int32_t> tokens) {
    const auto fail = [&](const error_rule& rule, std::string found) {
      throw error(rule, {.where = "sequence " + std::to_string(sequences()) + " of the batch",
                         .found = std::move(found)});
    };
    if (tokens.empty()) fail(rules::batch_empty_sequence, "no token");
    if (tokens.size() > max_length) {
      fail(rules::batch_length, std::to_string(tokens.size()) + " tokens");
    }
    std::size_t masked = 0;
    for (const std::int32_t t : tokens) {
      if (t < 0 || static_cast<std::size_t>(t) >= Alphabet::size) {
        fail(rules::batch_token, "token " + std::to_string(t) + ", alphabet of " +
                                     std::to_string(Alphabet::size));
      }
      masked += t == Alphabet::mask ? 1 : 0;
    }
    if (Alphabet::token_dropout && masked == tokens.size()) {
      fail(rules::batch_all_masked, std::to_string(masked) + " tokens, all masked");
    }
    tokens_.insert(tokens_.end(), tokens.begin(), tokens.end());
    for (std::size_t i = 0; i < tokens.size(); ++i) {
      positions_.push_back(static_cast<std::int32_t>(i));
    }
    offsets_.push_back(static_cast<std::int64_t>(tokens_.size()));
    masked_.push_back(masked);
  }

  /// Tokenizes (see `tokenize`) and appends.
  template <unknown_letter_policy Policy = per_residue>
  void add(std::string_view residues, const Policy& policy = {}) {
    add(std::span<const std::int32_t>(tokenize<Alphabet>(residues, policy)));
  }

  /// Forgets the sequences, keeps the memory.
  void clear() noexcept {
    tokens_.clear();
    positions_.clear();
    offsets_.resize(1);
    masked_.clear();
  }

  bool empty() const noexcept { return masked_.empty(); }
  std::size_t sequences() const noexcept { return masked_.size(); }
  /// All tokens of all sequences.
  std::size_t rows() const noexcept { return tokens_.size(); }
  std::span<const std::int32_t> tokens() const noexcept { return tokens_; }
  std::span<const std::int32_t> positions() const noexcept { return positions_; }
  /// Sequence s is rows [offsets[s], offsets[s + 1]); sequences() + 1 entries.
  std::span<const std::int64_t> offsets() const noexcept { return offsets_; }
  std::size_t first_row(std::size_t sequence) const noexcept {
    return static_cast<std::size_t>(offsets_[sequence]);
  }
  std::size_t length(std::size_t sequence) const noexcept {
    return first_row(sequence + 1) - first_row(sequence);
  }

  /// Factor of every token's embedding in sequence s: 0.88 / (1 - r), where r is the share of
  /// `<mask>` among all its tokens, `<cls>` and `<eos>` counted; rows of `<mask>` get 0. This
  /// undoes the mean effect of masking in training (15 % of residues, 80 % of them as `<mask>`):
  /// 0.88 = 1 - 0.15 * 0.8. Computed in `Real`, in this order. Only where the model does so.
  template <class Real>
  void embedding_scales(std::size_t sequence, std::span<Real> out) const
    requires(Alphabet::token_dropout)
  {
    const Real ratio = static_cast<Real>(masked_[sequence]) / static_cast<Real>(length(sequence));
    const Real scale = static_cast<Real>(0.88) / (Real{1} - ratio);
    const std::size_t first = first_row(sequence);
    for (std::size_t i = 0; i < length(sequence); ++i) {
      out[i] = tokens_[first + i] == Alphabet::mask ? Real{0} : scale;
    }
  }

 private:
  std::vector<std::int32_t> tokens_;
  std::vector<std::int32_t> positions_;
  std::vector<std::int64_t> offsets_{0};
  std::vector<std::size_t> masked_;
};

/// Sequences for ESM-2.
using packed_batch = basic_packed_batch<alphabet>;

}  // namespace plmscope
