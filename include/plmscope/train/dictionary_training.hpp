// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/backend/primitives.hpp>
#include <plmscope/core/view.hpp>
#include <plmscope/sae/parameters.hpp>

#include <concepts>
#include <cstddef>
#include <optional>
#include <type_traits>

namespace plmscope::inline PLMSCOPE_ABI {

namespace dictionary_detail {

template <class D, class B>
struct state_of {
  struct type {};
};
template <class D, class B>
  requires requires { typename D::template state<B>; }
struct state_of<D, B> {
  using type = typename D::template state<B>;
};

template <class C, class M>
C class_of(M C::*);
/// Says its rule itself: what a derived policy adds to the moments would be lost with one it inherits.
template <class D, class B>
concept has_rows = requires(const D& d) {
  d.template rows<B>();
  requires std::is_same_v<decltype(class_of(&D::template rows<B>)), D>;
};
template <class O, class B>
concept moves_rows =
    requires(const O& o, B& be, sae_parameters<B>& p, typename O::template state<B>& s,
             const_view<B, double> factor, const unit_length_rule& rows) {
      { o.moves_rows() } -> std::convertible_to<bool>;
      o.step(be, p, p, s, 0.0, factor, rows);
    };

}  // namespace dictionary_detail

/// What keeps the decoder in shape, at work. A policy has any of four moments, in the order of a
/// step: before_forward(be, p), before_clip(be, p, g), after_clip(be, p, g), after_step(be, p). One
/// that makes the decoder of parameters of its own has a `template <class B> struct state`, takes
/// it as a last argument of these, and may have as well:
///
///   d.start(be, p) -> state                  else a default state
///   d.step(be, state, rate, factor)          moves its own parameters, beside the optimizer's step
///   state.for_each_gradient(f)               f(matrix): gradients that count in the norm
///
/// These call what there is. A policy may also say as a rule what it does to rows, and an optimizer
/// that it follows such a rule in its own pass over the decoder: then before_clip, after_clip and
/// after_step are not called, and the gradient stays as it was before the projection.
///
///   d.rows<B>() -> unit_length_rule          or an optional of it; not inherited
///   o.moves_rows() -> bool                   and step(be, p, g, state, rate, factor, rows)
template <class D, class B>
class dictionary_training {
 public:
  using state = typename dictionary_detail::state_of<D, B>::type;
  using parameters = sae_parameters<B>;
  static constexpr bool has_state = requires { typename D::template state<B>; };

  dictionary_training(B& be, const D& d, const parameters& p) {
    if constexpr (requires { d.start(be, p); }) state_ = d.start(be, p);
  }
  template <class Optimizer>
  dictionary_training(B& be, const D& d, const Optimizer& optimizer, const parameters& p)
      : dictionary_training(be, d, p) {
    if constexpr (dictionary_detail::has_rows<D, B> && dictionary_detail::moves_rows<Optimizer, B>) {
      if (optimizer.moves_rows()) rows_ = d.template rows<B>();
    }
  }

  void before_forward(const D& d, B& be, parameters& p) {
    if constexpr (requires { d.before_forward(be, p, state_); })
      d.before_forward(be, p, state_);
    else if constexpr (requires { d.before_forward(be, p); })
      d.before_forward(be, p);
  }
  void before_clip(const D& d, B& be, parameters& p, parameters& g) {
    if (rows_) return;
    if constexpr (requires { d.before_clip(be, p, g, state_); })
      d.before_clip(be, p, g, state_);
    else if constexpr (requires { d.before_clip(be, p, g); })
      d.before_clip(be, p, g);
  }
  /// Adds the squares of all gradients to slot[0].
  void add_squares(B& be, parameters& p, const parameters& g, view<B, double> slot) {
    const auto add = [&](const auto& x) { be.add_sum_squares(const_view<B>(x), slot); };
    g.for_each([&](const char*, const auto& x) {
      if (rows_ && rows_->project && rows_->clip_projected && &x == &g.decoder) {
        const auto epsilon = static_cast<typename B::real>(rows_->projection_epsilon);
        be.add_projected_squares(x, p.decoder, epsilon, slot);
      } else {
        add(x);
      }
    });
    if constexpr (requires { state_.for_each_gradient(add); }) state_.for_each_gradient(add);
  }
  void after_clip(const D& d, B& be, parameters& p, parameters& g) {
    if (rows_) return;
    if constexpr (requires { d.after_clip(be, p, g, state_); })
      d.after_clip(be, p, g, state_);
    else if constexpr (requires { d.after_clip(be, p, g); })
      d.after_clip(be, p, g);
  }
  /// The optimizer's step, and what follows it.
  template <class Optimizer, class State>
  void step(const D& d, const Optimizer& optimizer, B& be, parameters& p, const parameters& g,
            State& s, double rate, const_view<B, double> factor) {
    if constexpr (dictionary_detail::moves_rows<Optimizer, B>) {
      if (rows_) {
        optimizer.step(be, p, g, s, rate, factor, *rows_);
        step(d, be, rate, factor);
        return;
      }
    }
    optimizer.step(be, p, g, s, rate, factor);
    step(d, be, rate, factor);
    after_step(d, be, p);
  }
  /// Only that of the policy's own parameters.
  void step(const D& d, B& be, double rate, const_view<B, double> factor) {
    if constexpr (requires { d.step(be, state_, rate, factor); }) d.step(be, state_, rate, factor);
  }
  void after_step(const D& d, B& be, parameters& p) {
    if constexpr (requires { d.after_step(be, p, state_); })
      d.after_step(be, p, state_);
    else if constexpr (requires { d.after_step(be, p); })
      d.after_step(be, p);
  }
  state& get() noexcept { return state_; }

 private:
  state state_{};
  std::optional<unit_length_rule> rows_;
};

}  // namespace plmscope::inline PLMSCOPE_ABI
