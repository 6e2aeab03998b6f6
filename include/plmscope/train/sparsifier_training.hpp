// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/core/view.hpp>
#include <plmscope/sae/parameters.hpp>
#include <plmscope/sae/row_encoder.hpp>
#include <plmscope/sae/selection.hpp>
#include <plmscope/tensor/codes.hpp>
#include <plmscope/train/step_context.hpp>

#include <cstddef>

namespace plmscope::inline PLMSCOPE_ABI {

/// What a sparsifier does in training beyond selecting. A plain one selects as it always does and
/// passes gradients through on its entries. One with a `template <class B> struct state` may have,
/// each of them optional:
///
///   s.start(be) -> state                            else a default state
///   s.before_step(be, parameters)                   such as keeping thresholds in range
///   s.candidates(be, pre, in, out, state)           the list for training, with pre-activations
///   s.encode(be, in, out, state)                    codes of rows, in place of the line above
///   s.offset(be, parameters, state) -> [m, d_out]   what its results have beside the dictionary's
///   s.observe(be, state)                            after the whole batch is selected
///   s.activate(be, parameters, z, state)            pre-activations of the list become values
///   s.penalised(state), s.penalised_pull(state)     what penalties act on, when not the values
///   s.reconstruct(be, context, loss, slot, state)   a further loss, such as that of a second
///                                                   reconstruction; added to the slot
///   s.pull(be, context, state)                      context.dz: from values to pre-activations
///   s.add_gradient(be, context, gradient, state)    of its own parameters
///   s.input_pull(state) -> [m, d_in]                with respect to centred rows, when that does not
///                                                   follow from pre-activations
///   s.after_step(be, parameters)                    after the optimizer's
///   s.finish(be, state)                             takes over what was learned beside parameters
template <class S, class B>
class sparsifier_training {
 public:
  using state = typename sae_concepts::state_of<S, B>::type;
  static constexpr bool pulls_input = requires(const S& s, state& t) { s.input_pull(t); };
  static constexpr bool pulls =
      requires(const S& s, B& be, step_context<B>& c, state& t) { s.pull(be, c, t); };

  sparsifier_training(B& be, const S& s) {
    if constexpr (requires { s.start(be); }) state_ = s.start(be);
  }

  void before_step(B& be, const S& s, sae_parameters<B>& p) const {
    if constexpr (requires { s.before_step(be, p); }) s.before_step(be, p);
  }
  /// `pre`: a tile, or rows that the sparsifier's `select` takes as well.
  template <class Pre>
  void candidates(B& be, const S& s, const Pre& pre, const selection<B>& in, codes<B>& out) {
    if constexpr (requires { s.candidates(be, pre, in, out, state_); }) {
      s.candidates(be, pre, in, out, state_);
    } else {
      select_rows(be, s, pre, in, out);
    }
  }
  void encode(B& be, const S& s, const encoder_input<B>& in, codes<B>& out) {
    s.encode(be, in, out, state_);
  }
  const_view<B> offset(B& be, const S& s, const sae_parameters<B>& p) {
    if constexpr (sae_concepts::has_offset<S, B>) return s.offset(be, p, state_);
    else return {};
  }
  void activate(B& be, const S& s, const sae_parameters<B>& p, codes<B>& z) {
    if constexpr (requires { s.observe(be, state_); }) s.observe(be, state_);
    if constexpr (requires { s.activate(be, p, z, state_); }) s.activate(be, p, z, state_);
  }
  view<B> penalised(view<B> values, const S& s) {
    if constexpr (requires { s.penalised(state_); }) return s.penalised(state_);
    else return values;
  }
  view<B> penalised_pull(view<B> dz, const S& s) {
    if constexpr (requires { s.penalised_pull(state_); }) return s.penalised_pull(state_);
    else return dz;
  }
  template <class Loss>
  void reconstruct(B& be, const S& s, step_context<B> c, const Loss& loss, view<B, double> slot) {
    if constexpr (requires { s.reconstruct(be, c, loss, slot, state_); }) {
      s.reconstruct(be, c, loss, slot, state_);
    }
  }
  void pull(B& be, const S& s, step_context<B>& c) {
    if constexpr (pulls) s.pull(be, c, state_);
  }
  void add_gradient(B& be, const S& s, step_context<B>& c, sae_parameters<B>& gradient) {
    if constexpr (requires { s.add_gradient(be, c, gradient, state_); }) {
      s.add_gradient(be, c, gradient, state_);
    }
  }
  const_view<B> input_pull(const S& s) {
    if constexpr (pulls_input) return s.input_pull(state_);
    else return {};
  }
  void after_step(B& be, const S& s, sae_parameters<B>& p) const {
    if constexpr (requires { s.after_step(be, p); }) s.after_step(be, p);
  }
  void finish(B& be, S& s) {
    if constexpr (requires { s.finish(be, state_); }) s.finish(be, state_);
  }
  state& get() noexcept { return state_; }

 private:
  state state_{};
};

}  // namespace plmscope::inline PLMSCOPE_ABI
