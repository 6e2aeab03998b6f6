// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/eval/substitution_matrix.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace plmscope::inline PLMSCOPE_ABI {

/// The best local alignment of two sequences.
struct local_alignment {
  int score = 0;
  std::uint32_t columns = 0;  ///< gaps included
  std::uint32_t matches = 0;  ///< columns with the same known residue
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
/// length k costs 11 + k. Identities, columns and the start are carried along with the score, so
/// memory is linear: O(length of b). Cost: length of a times length of b. Not for several threads
/// at once: it keeps its rows between calls.
class local_aligner {
 public:
  local_alignment operator()(std::span<const std::uint8_t> a, std::span<const std::uint8_t> b) {
    local_alignment best;
    const std::size_t n = b.size();
    above_.assign(n + 1, cell{});
    down_.assign(n + 1, cell{.score = floor_score});
    for (std::size_t i = 0; i < a.size(); ++i) {
      cell diagonal = above_[0];
      cell right{.score = floor_score};
      for (std::size_t j = 0; j < n; ++j) {
        cell here = diagonal;
        if (here.columns == 0) {
          here.begin_a = static_cast<std::uint32_t>(i);
          here.begin_b = static_cast<std::uint32_t>(j);
        }
        here.score += blosum62(a[i], b[j]);
        here.matches += a[i] == b[j] && a[i] < 20 ? 1u : 0u;
        ++here.columns;
        diagonal = above_[j + 1];
        cell& down = down_[j + 1];
        down = gapped(above_[j + 1], down);
        right = gapped(above_[j], right);
        if (down.score > here.score) here = down;
        if (right.score > here.score) here = right;
        if (here.score <= 0) here = cell{};
        above_[j + 1] = here;
        if (here.score > best.score) {
          best = {here.score,
                  here.columns,
                  here.matches,
                  here.begin_a,
                  static_cast<std::uint32_t>(i + 1),
                  here.begin_b,
                  static_cast<std::uint32_t>(j + 1)};
        }
      }
    }
    return best;
  }

 private:
  static constexpr int floor_score = -1'000'000;
  struct cell {
    int score = 0;
    std::uint32_t columns = 0;
    std::uint32_t matches = 0;
    std::uint32_t begin_a = 0;
    std::uint32_t begin_b = 0;
  };

  // One more gap column, after a residue pair or after another gap column, whichever is better.
  static cell gapped(const cell& open, const cell& extend) noexcept {
    cell out = open.score - 11 > extend.score ? open : extend;
    out.score -= open.score - 11 > extend.score ? 12 : 1;
    ++out.columns;
    return out;
  }

  std::vector<cell> above_;
  std::vector<cell> down_;
};

}  // namespace plmscope
