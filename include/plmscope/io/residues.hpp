// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/io/rules.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

namespace plmscope::inline PLMSCOPE_ABI {

/// Stands for a masked position in a sequence; files write it `<mask>`.
inline constexpr char mask_letter = '#';

enum class gap_policy {
  refuse,  ///< a gap is an error: the input is probably an alignment
  strip,   ///< gaps are removed and counted
  keep     ///< gaps stay as positions of their own (ESM-2 has tokens for '-' and '.')
};

struct residue_policy {
  gap_policy gaps = gap_policy::refuse;
  bool allow_mask = false;
  std::size_t max_residues = 1'000'000;
};

/// How often each oddity was met and repaired.
struct residue_counts {
  std::size_t lower_case = 0;   ///< letters upper-cased
  std::size_t spaces = 0;       ///< blanks and tabs removed
  std::size_t final_stops = 0;  ///< '*' at the end removed
  std::size_t gaps_removed = 0;
  std::size_t ambiguous_j = 0;  ///< J (leucine or isoleucine) written as X
  std::size_t masks = 0;
};

namespace residues_detail {

enum class kind : std::uint8_t { other, letter, lower, space };

constexpr std::array<kind, 256> make_kinds() {
  std::array<kind, 256> out{};
  for (unsigned c = 'A'; c <= 'Z'; ++c) out[c] = c == 'J' ? kind::other : kind::letter;
  for (unsigned c = 'a'; c <= 'z'; ++c) out[c] = c == 'j' ? kind::other : kind::lower;
  for (const char c : {' ', '\t', '\v', '\f'}) out[static_cast<unsigned char>(c)] = kind::space;
  return out;
}
/// What each byte is; `other` is decided one by one.
inline constexpr std::array<kind, 256> kinds = make_kinds();

}  // namespace residues_detail

/// Builds one sequence from pieces of text, so that one residue is always one position:
///
/// | input | result |
/// | --- | --- |
/// | A to Z without J | kept (B, Z, U, O, X too) |
/// | a to z | upper-cased, counted |
/// | J, j | X, counted |
/// | blank, tab | removed, counted |
/// | `*` as the last character | removed, counted; elsewhere io.206 |
/// | `-` `.` | io.207; removed and counted, or kept, by `gap_policy` |
/// | `<mask>` | `mask_letter` with `allow_mask`, else io.209 |
/// | everything else (digits, `#`, `<cls>`, non-ASCII) | io.208 |
/// | more than `max_residues` | io.211 |
///
/// Columns in errors count bytes from 1.
class residue_builder {
 public:
  explicit residue_builder(residue_policy policy = {}) : policy_(policy) {}

  void start() noexcept {
    sequence_.clear();
    stopped_ = false;
  }

  /// Adds a piece; `position(column)` names a place in it and is called for errors only.
  template <class Position>
  void add(std::string_view text, const Position& position) {
    for (std::size_t i = 0; i < text.size();) {
      std::size_t run = i;
      while (run < text.size() && kind_of(text[run]) == kind::letter) ++run;
      if (run > i) {
        if (stopped_) fail(rules::residue_stop, position(i), "residues behind a '*'");
        sequence_.append(text.substr(i, run - i));
        i = run;
      }
      if (i < text.size()) i += odd(text, i, position);
      if (sequence_.size() > policy_.max_residues) {
        fail(rules::sequence_length, position(i - 1),
             "more than " + std::to_string(policy_.max_residues));
      }
    }
  }

  /// The sequence so far; `start` begins the next one.
  const std::string& sequence() const noexcept { return sequence_; }
  const residue_counts& counts() const noexcept { return counts_; }

 private:
  using kind = residues_detail::kind;
  static kind kind_of(char c) noexcept {
    return residues_detail::kinds[static_cast<unsigned char>(c)];
  }

  [[noreturn]] static void fail(const error_rule& rule, std::string where, std::string found,
                                std::string remedy = {}) {
    throw error(rule, {.where = std::move(where),
                       .expected = {},
                       .found = std::move(found),
                       .remedy = std::move(remedy)});
  }

  // Handles the character at `i` that is no upper-case letter; returns how many bytes it took.
  template <class Position>
  std::size_t odd(std::string_view text, std::size_t i, const Position& where) {
    const auto position = [&] { return where(i); };
    const char c = text[i];
    const kind k = kind_of(c);
    if (k == kind::space) {
      ++counts_.spaces;
      return 1;
    }
    const bool gap = c == '-' || c == '.';
    if (gap && policy_.gaps == gap_policy::strip) {
      ++counts_.gaps_removed;
      return 1;
    }
    if (stopped_) fail(rules::residue_stop, position(), "more behind a '*'");
    if (c == '*') {
      stopped_ = true;
      ++counts_.final_stops;
      return 1;
    }
    if (k == kind::lower || c == 'J' || c == 'j') {
      const bool lower = c >= 'a';
      const bool j = c == 'J' || c == 'j';
      counts_.lower_case += lower;
      counts_.ambiguous_j += j;
      sequence_ += j ? 'X' : static_cast<char>(c - ('a' - 'A'));
      return 1;
    }
    if (gap && policy_.gaps == gap_policy::keep) {
      sequence_ += c;
      return 1;
    }
    if (gap) {
      fail(rules::residue_gap, position(), "'" + std::string(1, c) + "'",
           "is this an alignment? strip or keep the gaps by option");
    }
    static constexpr std::string_view mask = "<mask>";
    if (text.substr(i, mask.size()) == mask) {
      if (!policy_.allow_mask) fail(rules::residue_mask, position(), "<mask>");
      sequence_ += mask_letter;
      ++counts_.masks;
      return mask.size();
    }
    const auto byte = static_cast<unsigned char>(c);
    fail(rules::residue_letter, position(),
         byte < 0x7f ? "'" + std::string(1, c) + "'" : "byte " + std::to_string(unsigned{byte}));
  }

  residue_policy policy_;
  residue_counts counts_;
  std::string sequence_;
  bool stopped_ = false;
};

/// One sequence given as text, by the rules above; empty is io.204.
inline std::string parse_sequence(std::string_view text, std::string_view where = "sequence",
                                  residue_policy policy = {}, residue_counts* counts = nullptr) {
  residue_builder builder(policy);
  builder.add(text, [&](std::size_t i) {
    return std::string(where) + ", character " + std::to_string(i + 1);
  });
  if (builder.sequence().empty()) {
    throw error(rules::fasta_empty_sequence, {.where = std::string(where), .found = "none"});
  }
  if (counts != nullptr) *counts = builder.counts();
  return builder.sequence();
}

}  // namespace plmscope::inline PLMSCOPE_ABI
