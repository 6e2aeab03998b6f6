// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/eval/rules.hpp>
#include <plmscope/eval/substitution_matrix.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace plmscope::inline PLMSCOPE_ABI {

/// The best local alignment of two sequences.
struct local_alignment {
  int score = 0;
  std::uint32_t columns = 0;             ///< gaps included
  std::uint32_t matches = 0;             ///< columns with the same known residue
  std::uint32_t begin_a = 0, end_a = 0;  ///< aligned part of a, end excluded
  std::uint32_t begin_b = 0, end_b = 0;

  double identity() const noexcept {
    return columns == 0 ? 0.0 : static_cast<double>(matches) / static_cast<double>(columns);
  }
  /// Aligned share of the shorter sequence.
  double coverage(std::size_t length_a, std::size_t length_b) const noexcept {
    const std::size_t shorter = std::min(length_a, length_b);
    const std::uint32_t part = length_a <= length_b ? end_a - begin_a : end_b - begin_b;
    return shorter == 0 ? 0.0 : static_cast<double>(part) / static_cast<double>(shorter);
  }
};

/// How many alignments of that score chance gives between a query and a data base of `residues`
/// residues: K m n exp(-lambda S) with the constants of BLOSUM62 and gap costs 11 + k (Altschul and
/// Gish 1996).
inline double alignment_expectation(int score, std::size_t query, std::size_t residues) noexcept {
  return 0.041 * static_cast<double>(query) * static_cast<double>(residues) *
         std::exp(-0.267 * static_cast<double>(score));
}

/// Smith and Waterman's local alignment with affine gaps (Gotoh 1982) under BLOSUM62; a gap of
/// length k costs 11 + k. Start, aligned pairs and matches are carried along with the score in one
/// 64-bit word that only pairs change, so memory is linear: O(length of b). Sequences have at most
/// 65,535 residues (eval.109). Cost: length of a times length of b. An object keeps its rows
/// between calls and serves one thread.
class local_aligner {
 public:
  local_alignment operator()(std::span<const std::uint8_t> a, std::span<const std::uint8_t> b) {
    if (std::max(a.size(), b.size()) > 0xffff) {
      throw error(rules::eval_too_large,
                  {.where = "alignment",
                   .found = std::to_string(std::max(a.size(), b.size())) + " residues",
                   .remedy = "leave out proteins of more than 65,535 residues"});
    }
    rows_.assign(b.size(), row{});
    int best_score = 0;
    std::uint64_t best_path = 0;
    std::size_t end_a = 0;
    std::size_t end_b = 0;
    for (std::size_t i = 0; i < a.size(); ++i) {
      const std::uint8_t residue = a[i];
      cell diagonal;
      cell right{.score = never, .path = 0};
      for (std::size_t j = 0; j < b.size(); ++j) {
        row& at = rows_[j];
        // A path begins here when nothing better comes along the diagonal.
        const std::uint64_t begin = std::uint64_t{i} << 48 | std::uint64_t{j} << 32;
        const std::uint64_t from = diagonal.score > 0 ? diagonal.path : begin;
        const bool match = residue == b[j] && residue < 20;
        cell here{diagonal.score + blosum62(residue, b[j]), from + (match ? 0x10001u : 0x10000u)};
        diagonal = at.best;
        here = larger(here, larger(at.down, right));
        here.score = std::max(here.score, 0);
        at.best = here;
        if (here.score > best_score) {
          best_score = here.score;
          best_path = here.path;
          end_a = i + 1;
          end_b = j + 1;
        }
        const cell open{here.score - 12, here.path};
        at.down = larger({at.down.score - 1, at.down.path}, open);
        right = larger({right.score - 1, right.path}, open);
      }
    }
    return describe(best_score, best_path, end_a, end_b);
  }

 private:
  static constexpr int never = -1'000'000;
  struct cell {
    int score = 0;
    std::uint64_t path = 0;  // begin in a, begin in b, aligned pairs, matches: 16 bits each
  };
  struct row {
    cell best;
    cell down{.score = never, .path = 0};
  };

  static constexpr cell larger(const cell& a, const cell& b) noexcept {
    return {a.score >= b.score ? a.score : b.score, a.score >= b.score ? a.path : b.path};
  }

  static local_alignment describe(int score, std::uint64_t path, std::size_t end_a,
                                  std::size_t end_b) noexcept {
    local_alignment out;
    if (score == 0) return out;
    const auto part = [&](int shift) {
      return static_cast<std::uint32_t>(path >> shift & 0xffffu);
    };
    out.score = score;
    out.begin_a = part(48);
    out.begin_b = part(32);
    out.end_a = static_cast<std::uint32_t>(end_a);
    out.end_b = static_cast<std::uint32_t>(end_b);
    out.matches = part(0);
    out.columns = (out.end_a - out.begin_a) + (out.end_b - out.begin_b) - part(16);
    return out;
  }

  std::vector<row> rows_;
};

}  // namespace plmscope::inline PLMSCOPE_ABI
