// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/core/view.hpp>
#include <plmscope/sae/parameters.hpp>
#include <plmscope/tensor/codes.hpp>

#include <cstddef>
#include <string_view>

namespace plmscope::inline PLMSCOPE_ABI {

/// What an encoder of its own reads. Most sparsifiers select from pre-activations; one with
/// `encode(be, in, out, state)` makes codes of the rows themselves: a router that asks some blocks
/// of latents only, a pursuit that looks at the dictionary again after every choice.
template <class B>
struct encoder_input {
  const sae_parameters<B>& parameters;  ///< as the forward pass uses them
  const_view<B> rows;                   ///< [m, d_in] normalised
  const_view<B> centred;                ///< [m, d_in] less the input's bias
  std::size_t tile;                     ///< rows for which a matrix [tile, F] is small
};

namespace sae_concepts {

/// What a sparsifier remembers: in training of the run, and a row encoder also of its last batch.
template <class S, class B>
struct state_of {
  struct type {};
};
template <class S, class B>
  requires requires { typename S::template state<B>; }
struct state_of<S, B> {
  using type = typename S::template state<B>;
};

template <class S, class B>
concept has_encode = requires(const S& s, B& be, const encoder_input<B>& in, codes<B>& out,
                              typename state_of<S, B>::type& t) { s.encode(be, in, out, t); };

/// Adds something to the results beside the dictionary: `offset(be, parameters, state)`, [m, d_out]
/// for the batch last encoded, or empty.
template <class S, class B>
concept has_offset =
    has_encode<S, B> && requires(const S& s, B& be, const sae_parameters<B>& p,
                                 typename state_of<S, B>::type& t) { s.offset(be, p, t); };

/// Learns matrices of its own: `matrices(options, add)` calls add(name, rows, cols, random).
template <class S, class Options>
concept has_matrices = requires(const S& s, const Options& o) {
  s.matrices(o, [](std::string_view, std::size_t, std::size_t, bool) {});
};

}  // namespace sae_concepts

/// A sparsifier that encodes rows by itself on backend B.
template <class S, class B>
concept row_encoder_for = sae_concepts::has_encode<S, B>;

}  // namespace plmscope::inline PLMSCOPE_ABI
