// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/tensor/matrix.hpp>

#include <cstdint>
#include <vector>

namespace plmscope::inline PLMSCOPE_ABI {

/// Which residue a row of activations belongs to.
struct row_origin {
  std::uint32_t protein = 0;   ///< index in the reader's list of proteins
  std::uint32_t position = 0;  ///< residue, counted from 0; 0 for pooled rows
};

/// Activations of some whole proteins: one row per residue, special tokens already dropped.
template <class Backend>
struct activation_batch {
  matrix<typename Backend::real, Backend> rows;  ///< [n, d]
  std::vector<row_origin> origins;               ///< n, ascending by protein, then position
};

}  // namespace plmscope
