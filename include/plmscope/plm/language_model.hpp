// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/core/activation_source.hpp>
#include <plmscope/plm/hook.hpp>
#include <plmscope/plm/site.hpp>

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace plmscope::inline PLMSCOPE_ABI {

namespace language_model_concepts {

template <class M>
concept has_backend = requires(M& m) {
  typename M::backend_type;
  { m.backend() } -> std::same_as<typename M::backend_type&>;
};

template <class M>
concept has_batch = requires(typename M::batch_type& batch, const typename M::batch_type& filled,
                             std::string_view residues, std::span<const std::int32_t> tokens,
                             std::size_t sequence) {
  batch.add(residues);
  batch.add(tokens);
  batch.clear();
  { filled.sequences() } -> std::convertible_to<std::size_t>;
  { filled.rows() } -> std::convertible_to<std::size_t>;
  { filled.first_row(sequence) } -> std::convertible_to<std::size_t>;
  { filled.length(sequence) } -> std::convertible_to<std::size_t>;
};

template <class M>
concept has_forward =
    requires(M& m, const typename M::batch_type& batch, no_hook hook) { m.forward(batch, hook); };

template <class M>
concept has_sites = requires(const M& m, const site& at) {
  m.check(at);
  { m.width(at) } -> std::convertible_to<std::size_t>;
  { m.source(at) } -> std::convertible_to<activation_source>;
};

}  // namespace language_model_concepts

/// An empty batch for a model: of its `batch_type`, which is made from the model where that
/// matters.
template <class M>
typename M::batch_type make_batch(const M& model) {
  if constexpr (std::constructible_from<typename M::batch_type, const M&>) {
    return typename M::batch_type(model);
  } else {
    return {};
  }
}

/// A model that can be read, hooked and trained on: `esm2`, `esmc`, one of your own. `forward` runs
/// a packed batch and shows a hook the states at its sites, of which `check` refuses those that it
/// does not have. Every sequence of a batch begins and ends with one special token, between which
/// one residue is one token.
template <class M>
concept language_model =
    language_model_concepts::has_backend<M> && language_model_concepts::has_batch<M> &&
    language_model_concepts::has_forward<M> && language_model_concepts::has_sites<M>;

/// The sentences a user reads when a model does not fit; one per requirement.
template <class M>
struct require_language_model {
  static_assert(language_model_concepts::has_backend<M>,
                "plmscope: a model says where it computes: add `using backend_type = "
                "plmscope::cpu;` and `backend_type& backend()`");
  static_assert(language_model_concepts::has_batch<M>,
                "plmscope: a model says what it reads: add `using batch_type = "
                "plmscope::packed_batch;` or `plmscope::basic_packed_batch<my_alphabet>`");
  static_assert(language_model_concepts::has_forward<M>,
                "plmscope: a model runs a batch: add `template <class Hook> void forward(const "
                "batch_type& batch, Hook&& hook)`");
  static_assert(language_model_concepts::has_sites<M>,
                "plmscope: a model knows its sites: add `void check(const plmscope::site& at) "
                "const`, `std::size_t width(const plmscope::site& at) const` and "
                "`plmscope::activation_source source(const plmscope::site& at) const`");
  static constexpr bool value = true;
};

}  // namespace plmscope::inline PLMSCOPE_ABI
