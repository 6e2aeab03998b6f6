// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/config.hpp>

#include <cstddef>
#include <vector>

namespace plmscope::inline PLMSCOPE_ABI {

/// A symmetric score for every pair of residues of one protein, counted from 0: the probability
/// that their beta carbons lie within 8 Angstrom, or a score that grows with it.
class contact_map {
 public:
  contact_map() = default;
  explicit contact_map(std::size_t residues)
      : residues_(residues), scores_(residues * residues, 0.0f) {}

  std::size_t residues() const noexcept { return residues_; }
  float& operator()(std::size_t i, std::size_t j) noexcept { return scores_[i * residues_ + j]; }
  float operator()(std::size_t i, std::size_t j) const noexcept {
    return scores_[i * residues_ + j];
  }
  /// Row by row, [residues, residues].
  const std::vector<float>& scores() const noexcept { return scores_; }

 private:
  std::size_t residues_ = 0;
  std::vector<float> scores_;
};

}  // namespace plmscope::inline PLMSCOPE_ABI
