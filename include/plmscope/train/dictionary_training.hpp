// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/core/view.hpp>
#include <plmscope/sae/parameters.hpp>

#include <cstddef>

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
/// These call what there is.
template <class D, class B>
class dictionary_training {
 public:
  using state = typename dictionary_detail::state_of<D, B>::type;
  using parameters = sae_parameters<B>;
  static constexpr bool has_state = requires { typename D::template state<B>; };

  dictionary_training(B& be, const D& d, const parameters& p) {
    if constexpr (requires { d.start(be, p); }) state_ = d.start(be, p);
  }

  void before_forward(const D& d, B& be, parameters& p) {
    if constexpr (requires { d.before_forward(be, p, state_); })
      d.before_forward(be, p, state_);
    else if constexpr (requires { d.before_forward(be, p); })
      d.before_forward(be, p);
  }
  void before_clip(const D& d, B& be, parameters& p, parameters& g) {
    if constexpr (requires { d.before_clip(be, p, g, state_); })
      d.before_clip(be, p, g, state_);
    else if constexpr (requires { d.before_clip(be, p, g); })
      d.before_clip(be, p, g);
  }
  template <class F>
  void for_each_gradient(const F& f) {
    if constexpr (requires { state_.for_each_gradient(f); }) state_.for_each_gradient(f);
  }
  void after_clip(const D& d, B& be, parameters& p, parameters& g) {
    if constexpr (requires { d.after_clip(be, p, g, state_); })
      d.after_clip(be, p, g, state_);
    else if constexpr (requires { d.after_clip(be, p, g); })
      d.after_clip(be, p, g);
  }
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
};

}  // namespace plmscope::inline PLMSCOPE_ABI
