// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/core/rng.hpp>
#include <plmscope/eval/rules.hpp>
#include <plmscope/plm/alphabet.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace plmscope::inline PLMSCOPE_ABI {

/// Which residues are hidden behind `<mask>` when losses are measured. Residues already masked in
/// the text, and unknown ones, are never chosen and never predicted.
class fidelity_masking {
 public:
  /// None: the model sees what it predicts.
  static fidelity_masking none() { return {}; }
  /// Of every protein this share of its residues, rounded, one at least; all at once, in one pass.
  /// Which ones is a pure function of the seed and of the protein's place in the list. Errors:
  /// eval.131.
  static fidelity_masking share_of(double share, std::uint64_t seed = 1) {
    if (!(share > 0 && share <= 1)) {
      throw error(rules::fidelity_share, {.found = std::to_string(share)});
    }
    fidelity_masking m(kind::share);
    m.share_ = share;
    m.seed_ = seed;
    return m;
  }
  /// Every residue once, alone: as many passes as residues, and the pseudo-perplexity's losses
  /// (Salazar et al. 2020).
  static fidelity_masking each() { return fidelity_masking(kind::each); }
  /// These residues of every protein, counted from 0, all at once: the masks of another program.
  static fidelity_masking at(std::vector<std::vector<std::size_t>> residues) {
    fidelity_masking m(kind::given);
    m.given_ = std::move(residues);
    return m;
  }

  bool masks() const noexcept { return kind_ != kind::none; }

  /// Sequences that a protein of `choosable` residues is run as.
  std::size_t sequences(std::size_t choosable) const noexcept {
    return kind_ == kind::each ? choosable : 1;
  }

  /// f(tokens, masked) for every sequence that protein `p` of tokens `<cls>` residues `<eos>` is
  /// run as; `masked` holds the positions of the masks among the tokens, ascending. Errors:
  /// eval.134.
  template <class F>
  void sequences_of(std::size_t p, std::span<const std::int32_t> tokens, const F& f) const {
    std::vector<std::int32_t> hidden(tokens.begin(), tokens.end());
    std::vector<std::size_t> masked;
    if (kind_ == kind::none) return f(hidden, masked);
    const auto from = choosable(tokens);
    if (kind_ == kind::each) {
      for (const std::size_t t : from) {
        hidden[t] = alphabet::mask;
        masked.assign(1, t);
        f(hidden, masked);
        hidden[t] = tokens[t];
      }
      return;
    }
    masked = kind_ == kind::given ? given(p, tokens) : drawn(p, from);
    for (const std::size_t t : masked) hidden[t] = alphabet::mask;
    f(hidden, masked);
  }

  /// Refuses lists of `at` that are not one for each protein (eval.134).
  void check(std::size_t proteins) const {
    if (kind_ != kind::given || given_.size() == proteins) return;
    throw error(rules::fidelity_positions,
                {.expected = std::to_string(proteins) + " lists of positions",
                 .found = std::to_string(given_.size())});
  }

  /// Positions of residues that can be predicted: a residue of a known letter.
  static std::vector<std::size_t> choosable(std::span<const std::int32_t> tokens) {
    std::vector<std::size_t> out;
    for (std::size_t t = 1; t + 1 < tokens.size(); ++t) {
      if (tokens[t] != alphabet::mask && tokens[t] != alphabet::unk) out.push_back(t);
    }
    return out;
  }

 private:
  enum class kind { none, share, each, given };

  fidelity_masking() = default;
  explicit fidelity_masking(kind k) : kind_(k) {}

  // The residues with the smallest random numbers.
  std::vector<std::size_t> drawn(std::size_t p, std::vector<std::size_t> from) const {
    if (from.empty()) return from;
    const rng random(seed_, 0xf1de000000000000u + p);
    const auto wanted = static_cast<std::size_t>(
        std::max(1.0, std::round(share_ * static_cast<double>(from.size()))));
    std::ranges::sort(from, {}, [&](std::size_t t) { return std::pair(random.bits(t), t); });
    from.resize(std::min(wanted, from.size()));
    std::ranges::sort(from);
    return from;
  }

  std::vector<std::size_t> given(std::size_t p, std::span<const std::int32_t> tokens) const {
    std::vector<std::size_t> out = given_[p];
    std::ranges::sort(out);
    const bool twice = std::ranges::adjacent_find(out) != out.end();
    if (twice || (!out.empty() && out.back() >= tokens.size() - 2)) {
      throw error(rules::fidelity_positions,
                  {.where = "protein " + std::to_string(p),
                   .expected = "residues below " + std::to_string(tokens.size() - 2),
                   .found = twice ? "one twice" : std::to_string(out.back())});
    }
    for (std::size_t& t : out) ++t;  // of the residue to of its token
    return out;
  }

  kind kind_ = kind::none;
  double share_ = 0;
  std::uint64_t seed_ = 0;
  std::vector<std::vector<std::size_t>> given_;
};

}  // namespace plmscope::inline PLMSCOPE_ABI
