// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/core/view.hpp>
#include <plmscope/sae/parameters.hpp>
#include <plmscope/tensor/codes.hpp>
#include <plmscope/tensor/codes_by_feature.hpp>

#include <cstddef>
#include <cstdint>

namespace plmscope::inline PLMSCOPE_ABI {

/// What the policies of a training step look at and add to. Everything lives in backend memory.
///
/// The list `z` holds the entries that gradients need; those of value 0 are not active. `dz` is the
/// derivative of the loss with respect to their values until the sparsifier has pulled it back, then
/// with respect to their pre-activations.
template <class B>
struct step_context {
  std::size_t step;                     ///< from 0
  std::size_t steps;                    ///< of the whole training; 0: not known
  const sae_parameters<B>& parameters;  ///< as the forward pass uses them
  std::size_t blocks;                   ///< parts of a decoder row whose lengths add up (crosscoders)
  const_view<B> rows_in;                ///< [m, d_in] normalised
  const_view<B> centred;                ///< [m, d_in] less the input's bias
  const_view<B> target;                 ///< [m, d_out]
  codes<B>& z;
  const codes_by_feature<B>& by_feature;
  view<B> dz;                           ///< [1, n]
  const_view<B> g;                      ///< [m, d_out] derivative with respect to the result
  const_view<B> active;                 ///< [1, F] active entries of each latent; empty: not counted
  view<B> penalised;                    ///< [1, n] what penalties act on: values, or gates
  view<B> penalised_pull;               ///< [1, n] where their derivatives are added
  const_view<B> latent_shares;          ///< [1, F] what part of a penalty counts, or empty
  const_view<B> dead;                   ///< [1, F] 1 for dead latents, or empty
  view<B, double> l0_slope;             ///< [1, 1] derivative with respect to one active entry
  const_view<B> latent_slope = {};      ///< [1, F] the same for each latent: set by a penalty, or empty

  std::size_t rows() const noexcept { return target.rows(); }
  std::size_t features() const noexcept { return parameters.encoder.rows(); }
};

/// out[f] = beta out[f] + sum over the entries of latent f of values[e], in row order.
template <class B>
void sum_by_feature(B& be, const codes_by_feature<B>& t, const_view<B> values, view<B> out,
                    typename B::real beta = 0) {
  be.sparse_backward(t, const_view<B>(), values, const_view<B>(), const_view<B>(), view<B>(),
                     view<B>(), out, beta);
}

}  // namespace plmscope::inline PLMSCOPE_ABI
