// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/eval/rules.hpp>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace plmscope::inline PLMSCOPE_ABI {

/// Feature activations of annotated proteins as somebody else's host arrays: compressed rows, one
/// row per residue, rows ordered protein by protein. Copying it copies pointers. Features that are
/// not stored in a row are 0 there.
struct sparse_activations {
  std::size_t features = 0;
  std::span<const std::int64_t> offsets;         ///< rows + 1
  std::span<const std::uint32_t> ids;            ///< ascending within a row
  std::span<const float> values;                 ///< as many as ids
  std::span<const std::size_t> protein_offsets;  ///< proteins + 1; rows of protein p are [p, p + 1)

  std::size_t rows() const noexcept { return offsets.empty() ? 0 : offsets.size() - 1; }
  std::size_t proteins() const noexcept {
    return protein_offsets.empty() ? 0 : protein_offsets.size() - 1;
  }

  std::size_t row_begin(std::size_t row) const noexcept {
    return static_cast<std::size_t>(offsets[row]);
  }

  /// Throws unless everything the scorers rely on holds (eval.101 to eval.104, eval.109). One pass.
  void check() const {
    if (features >= UINT32_MAX || rows() >= UINT32_MAX) {
      throw error(rules::eval_too_large, {.where = "activations",
                                          .found = std::to_string(rows()) + " rows x " +
                                                   std::to_string(features) + " features",
                                          .remedy = "score fewer proteins at a time"});
    }
    check_offsets();
    check_proteins();
    for (std::size_t row = 0; row < rows(); ++row) {
      for (std::size_t e = row_begin(row); e < row_begin(row + 1); ++e) {
        const bool ascends = e == row_begin(row) || ids[e - 1] < ids[e];
        if (!ascends || ids[e] >= features) {
          throw error(rules::activations_feature,
                      {.where = "row " + std::to_string(row),
                       .expected = "ascending ids below " + std::to_string(features),
                       .found = std::to_string(ids[e])});
        }
        if (!std::isfinite(values[e])) {
          throw error(
              rules::activations_value,
              {.where = "row " + std::to_string(row) + ", feature " + std::to_string(ids[e]),
               .found = std::to_string(values[e]),
               .remedy = "look for the first layer that produces it"});
        }
      }
    }
  }

 private:
  void check_offsets() const {
    bool good =
        ids.size() == values.size() && (offsets.empty() ? ids.empty() : offsets.front() == 0);
    for (std::size_t row = 0; good && row < rows(); ++row) good = offsets[row] <= offsets[row + 1];
    if (good && !offsets.empty()) good = static_cast<std::uint64_t>(offsets.back()) == ids.size();
    if (good) return;
    throw error(rules::activations_offsets,
                {.where = "activations",
                 .expected = std::to_string(ids.size()) + " ids and values",
                 .found = std::to_string(values.size()) + " values, last offset " +
                          (offsets.empty() ? "missing" : std::to_string(offsets.back()))});
  }

  void check_proteins() const {
    bool good = protein_offsets.empty() ? rows() == 0 : protein_offsets.front() == 0;
    for (std::size_t p = 0; good && p < proteins(); ++p) {
      good = protein_offsets[p] <= protein_offsets[p + 1];
    }
    if (good && !protein_offsets.empty()) good = protein_offsets.back() == rows();
    if (good) return;
    throw error(
        rules::activations_proteins,
        {.where = "protein offsets",
         .expected = "offsets from 0 to " + std::to_string(rows()),
         .found = protein_offsets.empty() ? "none" : std::to_string(protein_offsets.back())});
  }
};

}  // namespace plmscope::inline PLMSCOPE_ABI
