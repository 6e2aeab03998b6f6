// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/eval/substitution_matrix.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace plmscope::inline PLMSCOPE_ABI {

/// Two sequences (first < second) with a similar stretch, and its score without gaps.
struct similar_pair {
  std::uint32_t first = 0;
  std::uint32_t second = 0;
  int score = 0;
};

namespace similar_pairs_detail {

// Ten groups of residues that stand in for each other (Murphy, Wallqvist and Levy 2000):
// LVIM, C, A, G, ST, P, FYW, EDNQ, KR, H; in the order of `residue_order`.
inline constexpr std::array<std::uint8_t, 20> groups{2, 8, 7, 7, 1, 7, 7, 3, 9, 0,
                                                     0, 8, 0, 6, 5, 4, 4, 6, 6, 0};

/// Stands for a word with an unknown residue.
inline constexpr std::uint32_t no_word = UINT32_MAX;

/// Number of the word of `length` residues that begins at `at`.
inline std::uint32_t word_at(std::span<const std::uint8_t> s, std::size_t at,
                             std::size_t length) noexcept {
  std::uint32_t value = 0;
  for (std::size_t i = 0; i < length; ++i) {
    if (s[at + i] >= 20) return no_word;
    value = value * 10 + groups[s[at + i]];
  }
  return value;
}

/// All sequences one behind the other, with the places of every word. Words have four residues, or
/// five where four would have too many places.
struct word_index {
  std::vector<std::uint8_t> residues;
  std::vector<std::uint32_t> begins;   // sequences + 1
  std::vector<std::uint32_t> owner;    // sequence of every residue
  std::size_t length = 0;              // residues of a word
  std::vector<std::uint32_t> words;    // that begin at every residue
  std::vector<std::uint32_t> offsets;  // words + 1, into places
  std::vector<std::uint32_t> places;   // ascending within a word

  explicit word_index(std::span<const std::vector<std::uint8_t>> sequences) {
    begins.push_back(0);
    for (std::size_t s = 0; s < sequences.size(); ++s) {
      residues.insert(residues.end(), sequences[s].begin(), sequences[s].end());
      owner.insert(owner.end(), sequences[s].size(), static_cast<std::uint32_t>(s));
      begins.push_back(static_cast<std::uint32_t>(residues.size()));
    }
    length = residues.size() <= 250'000 ? 4 : 5;
    offsets.assign(length == 4 ? 10'001 : 100'001, 0);
    words.assign(residues.size(), no_word);
    for (std::size_t s = 0; s < sequences.size(); ++s) {
      for (std::size_t i = begins[s]; i + length <= begins[s + 1]; ++i) {
        words[i] = word_at(residues, i, length);
        if (words[i] != no_word) ++offsets[words[i] + 1];
      }
    }
    for (std::size_t w = 0; w + 1 < offsets.size(); ++w) offsets[w + 1] += offsets[w];
    places.resize(offsets.back());
    std::vector<std::uint32_t> next(offsets.begin(), offsets.end() - 1);
    for (std::size_t i = 0; i < words.size(); ++i) {
      if (words[i] != no_word) places[next[words[i]]++] = static_cast<std::uint32_t>(i);
    }
  }
};

/// A stretch without gaps: its score, and where it ends in the second sequence.
struct stretch {
  int score = 0;
  std::uint32_t end = 0;
};

/// Grows a shared word at (i, j) both ways along its diagonal until the score falls `drop` below
/// its best. Bounds are those of the two sequences.
inline stretch grow(const std::vector<std::uint8_t>& r, std::uint32_t i, std::uint32_t j,
                    std::uint32_t begin_i, std::uint32_t end_i, std::uint32_t begin_j,
                    std::uint32_t end_j) noexcept {
  constexpr int drop = 16;
  int best = 0;
  int score = 0;
  std::uint32_t reach = j;
  for (std::uint32_t k = 0; i + k < end_i && j + k < end_j && score > best - drop; ++k) {
    score += blosum62(r[i + k], r[j + k]);
    if (score > best) {
      best = score;
      reach = j + k + 1;
    }
  }
  int left = 0;
  score = 0;
  for (std::uint32_t k = 1; i >= begin_i + k && j >= begin_j + k && score > left - drop; ++k) {
    score += blosum62(r[i - k], r[j - k]);
    left = std::max(left, score);
  }
  return {best + left, reach};
}

}  // namespace similar_pairs_detail

/// The least score without gaps that chance gives a pair of sequences of these lengths at most
/// `expectation` times: K m n exp(-lambda S), constants of BLOSUM62 without gaps.
inline int stretch_score(std::size_t m, std::size_t n, double expectation) noexcept {
  const double chances = 0.134 * static_cast<double>(m) * static_cast<double>(n) / expectation;
  return static_cast<int>(std::ceil(std::log(std::max(chances, 1.0)) / 0.3176));
}

/// Pairs of sequences that share a word of four residues (five, beyond 250,000 residues) in a
/// reduced alphabet which grows without gaps to a stretch with a score that chance gives a pair at
/// most `expectation` times: the seed and extend of BLAST (Altschul et al. 1990) with exact words.
/// The score of a pair is that of its best stretch; pairs are ordered by it, best first. Cost:
/// about residues^2 / 2,400 steps with words of four, residues^2 / 14,000 with five; memory 29
/// bytes per residue.
inline std::vector<similar_pair> similar_pairs(std::span<const std::vector<std::uint8_t>> sequences,
                                               double expectation) {
  using namespace similar_pairs_detail;
  const word_index index(sequences);
  std::vector<similar_pair> out;
  const std::size_t total = index.residues.size();
  std::size_t longest = 0;
  for (const auto& s : sequences) longest = std::max(longest, s.size());
  // How far each diagonal (of the concatenated sequences) has been searched for the present query.
  std::vector<std::uint64_t> searched(total + longest + 1, 0);
  std::vector<int> best(sequences.size(), 0);
  std::vector<int> min_score(sequences.size(), 0);
  std::vector<std::uint32_t> touched;
  for (std::uint32_t q = 0; q < sequences.size(); ++q) {
    for (std::uint32_t s = q + 1; s < sequences.size(); ++s) {
      min_score[s] = stretch_score(sequences[q].size(), sequences[s].size(), expectation);
    }
    const std::uint64_t stamp = std::uint64_t{q + 1} << 32;
    for (std::uint32_t i = index.begins[q]; i < index.begins[q + 1]; ++i) {
      const std::uint32_t w = index.words[i];
      if (w == no_word) continue;
      // Only sequences behind the query.
      const auto last = index.places.begin() + index.offsets[w + 1];
      auto at =
          std::upper_bound(index.places.begin() + index.offsets[w], last, index.begins[q + 1] - 1);
      for (; at != last; ++at) {
        const std::uint32_t j = *at;
        std::uint64_t& reached = searched[j - (i - index.begins[q]) + longest];
        if (reached > (stamp | j)) continue;
        const std::uint32_t s = index.owner[j];
        const stretch found = grow(index.residues, i, j, index.begins[q], index.begins[q + 1],
                                   index.begins[s], index.begins[s + 1]);
        reached = stamp | std::max(found.end, j + 1);
        if (found.score < min_score[s]) continue;
        if (best[s] == 0) touched.push_back(s);
        best[s] = std::max(best[s], found.score);
      }
    }
    for (const std::uint32_t s : touched) {
      out.push_back({q, s, best[s]});
      best[s] = 0;
    }
    touched.clear();
  }
  std::ranges::sort(out, [](const similar_pair& a, const similar_pair& b) {
    if (a.score != b.score) return a.score > b.score;
    return a.first != b.first ? a.first < b.first : a.second < b.second;
  });
  return out;
}

}  // namespace plmscope::inline PLMSCOPE_ABI
