// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/core/view.hpp>
#include <plmscope/sae/parameters.hpp>
#include <plmscope/tensor/codes.hpp>

#include <cstddef>

namespace plmscope::inline PLMSCOPE_ABI {

/// What a sparsifier may look at beside the pre-activations.
template <class B>
struct selection {
  const sae_parameters<B>& parameters;  ///< its learned vectors among them
  std::size_t batch_rows;               ///< rows of the whole batch, of which a tile is a part
  const_view<B> row_lengths;  ///< [1, F] when pre-activations are scaled by them, or empty
};

/// Calls whichever form of `select` the sparsifier has.
template <class B, class S, class Pre>
void select_rows(B& be, const S& sparsify, const Pre& pre, const selection<B>& in, codes<B>& out) {
  if constexpr (requires { sparsify.select(be, pre, in, out); }) {
    sparsify.select(be, pre, in, out);
  } else {
    sparsify.select(be, pre, out);
  }
}

}  // namespace plmscope::inline PLMSCOPE_ABI
