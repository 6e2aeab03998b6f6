// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/eval/substitution_matrix.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace plmscope::inline PLMSCOPE_ABI {

/// Local alignment scores of one sequence with several others (BLOSUM62, a gap of length k costs
/// 11 + k): the scores of `local_aligner`, without the alignments. Sixteen sequences stand side by
/// side in 16-bit lanes (Rognes 2011, "Faster Smith-Waterman database searches with inter-sequence
/// SIMD parallelisation"), in loops of fixed length that compilers turn into vector code. Scores
/// above 32,000 are given as some value above 31,000.
class alignment_scores {
 public:
  static constexpr std::size_t lanes = 16;

  /// Writes the score of `query` with others[i] to scores[i]; at most `lanes` others.
  void operator()(std::span<const std::uint8_t> query,
                  std::span<const std::span<const std::uint8_t>> others, std::span<int> scores) {
    std::size_t columns = 0;
    for (const auto& s : others) columns = std::max(columns, s.size());
    row_.assign(query.size(), pair_of_lanes{});
    lane best{};
    for (std::size_t j = 0; j < columns; ++j) {
      fill_profile(others, j);
      column(query, best);
    }
    for (std::size_t i = 0; i < others.size(); ++i) scores[i] = best[i];
  }

 private:
  using lane = std::array<std::int16_t, lanes>;
  struct pair_of_lanes {
    lane score{};  // of the column before
    lane gap{};    // of an alignment that ends with a gap in the query, never below 0
  };

  // For every residue of the query, its scores with column j of the others.
  void fill_profile(std::span<const std::span<const std::uint8_t>> others, std::size_t j) {
    for (std::size_t i = 0; i < lanes; ++i) {
      const bool inside = i < others.size() && j < others[i].size();
      for (std::size_t r = 0; r < residue_codes; ++r) {
        const int score = inside ? blosum62(static_cast<std::uint8_t>(r), others[i][j]) : -100;
        profile_[r][i] = static_cast<std::int16_t>(score);
      }
    }
  }

  // Gap states below 0 are never worth keeping: they are cut to 0 as the scores are.
  void column(std::span<const std::uint8_t> query, lane& best) {
    lane diagonal{};
    lane down{};
    lane top = best;
    for (std::size_t q = 0; q < query.size(); ++q) {
      // Copies, so that the compiler sees that nothing overlaps.
      const lane profile = profile_[query[q]];
      const lane before = row_[q].score;
      lane gap = row_[q].gap;
      lane score;
      for (std::size_t i = 0; i < lanes; ++i) {
        const auto h = larger(larger(narrow(diagonal[i] + profile[i]), 0), larger(gap[i], down[i]));
        score[i] = h < 32'000 ? h : std::int16_t{32'000};
        top[i] = larger(top[i], score[i]);
        const std::int16_t open = larger(narrow(score[i] - 12), 0);
        gap[i] = larger(narrow(gap[i] - 1), open);
        down[i] = larger(narrow(down[i] - 1), open);
      }
      row_[q] = {score, gap};
      diagonal = before;
    }
    best = top;
  }

  static constexpr std::int16_t larger(std::int16_t a, std::int16_t b) noexcept {
    return a > b ? a : b;
  }
  static constexpr std::int16_t narrow(int x) noexcept { return static_cast<std::int16_t>(x); }

  std::vector<pair_of_lanes> row_;
  std::array<lane, residue_codes> profile_{};
};

}  // namespace plmscope
