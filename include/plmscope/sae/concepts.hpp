// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/core/view.hpp>
#include <plmscope/sae/row_encoder.hpp>
#include <plmscope/sae/selection.hpp>
#include <plmscope/tensor/codes.hpp>

#include <concepts>
#include <string_view>

namespace plmscope::inline PLMSCOPE_ABI {

namespace sae_concepts {

template <class S>
concept has_id = requires {
  { S::id } -> std::convertible_to<std::string_view>;
};

template <class S, class B>
concept has_select =
    requires(const S& s, B& be, const_view<B> pre, codes<B>& out) { s.select(be, pre, out); } ||
    requires(const S& s, B& be, const_view<B> pre, const selection<B>& in, codes<B>& out) {
      s.select(be, pre, in, out);
    } ||
    has_encode<S, B>;

/// Pre-activations have the encoder bias in them, unless the sparsifier says that it adds its own.
template <class S>
inline constexpr bool adds_encoder_bias = [] {
  if constexpr (requires { S::own_biases; }) return !S::own_biases;
  else return true;
}();

}  // namespace sae_concepts

/// A sparsifier for backend B: turns pre-activations [m, F], or the rows themselves, into m appended
/// rows of sparse codes.
template <class S, class B>
concept sparsifier_for = sae_concepts::has_id<S> && sae_concepts::has_select<S, B>;

/// A sparsifier, checked without a backend (its `select` must not demand more than the primitives).
template <class S>
concept sparsifier = sae_concepts::has_id<S>;

/// The sentences a user reads when a sparsifier does not fit; one per requirement.
template <class S, class B>
struct require_sparsifier {
  static_assert(sae_concepts::has_id<S>,
                "plmscope: a sparsifier needs a name: add "
                "`static constexpr std::string_view id = \"my_sparsifier\";`");
  static_assert(sae_concepts::has_select<S, B>,
                "plmscope: a sparsifier needs `template <class B> void select(B& be, "
                "plmscope::const_view<B> pre, plmscope::codes<B>& out) const`, or the same with "
                "`const plmscope::selection<B>& in` before `out`");
  static constexpr bool value = true;
};

}  // namespace plmscope::inline PLMSCOPE_ABI
