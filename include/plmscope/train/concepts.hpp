// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/core/view.hpp>
#include <plmscope/sae/parameters.hpp>
#include <plmscope/tensor/codes.hpp>
#include <plmscope/train/dictionary_norm.hpp>
#include <plmscope/train/dictionary_training.hpp>
#include <plmscope/train/losses.hpp>
#include <plmscope/train/penalties.hpp>
#include <plmscope/train/plans.hpp>
#include <plmscope/train/step_context.hpp>

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace plmscope::inline PLMSCOPE_ABI {

// What the policies of a trainer must offer, one concept per requirement and one sentence per
// concept. Members that are optional are looked at as well: one that is there but cannot be called
// would be passed over in silence. That is seen where it is a template over the backend alone.
namespace train_concepts {

template <class P, class B>
concept has_state = requires { typename P::template state<B>; };

// Optimizer
template <class O>
concept has_rate = requires(const O& o) {
  { o.lr } -> std::convertible_to<double>;
};
template <class O, class B>
concept has_optimizer_start =
    has_state<O, B> && requires(const O& o, B& be, const sae_parameters<B>& p) {
      { o.start(be, p) } -> std::convertible_to<typename O::template state<B>>;
    };
template <class O, class B>
concept has_optimizer_step =
    has_state<O, B> && requires(const O& o, B& be, sae_parameters<B>& p, const sae_parameters<B>& g,
                                typename O::template state<B>& s, const_view<B, double> factor) {
      o.step(be, p, g, s, double{}, factor);
    };

// Loss
template <class L>
concept has_space = requires(const L& l) {
  { l.space } -> std::convertible_to<loss_space>;
};
template <class L, class B>
concept has_row_loss = requires(const L& l, B& be, const loss_inputs<B>& in, typename B::real e) {
  { l.prepare(be, in).value(std::size_t{}, e) } -> std::convertible_to<typename B::real>;
  { l.prepare(be, in).slope(std::size_t{}, e) } -> std::convertible_to<typename B::real>;
};

// Penalty
template <class P, class B>
concept has_value =
    has_state<P, B> && requires(const P& p, B& be, typename P::template state<B>& s) {
      { p.loss(be, s) } -> std::convertible_to<double>;
    };
template <class P, class B>
concept acts_on_values =
    has_state<P, B> && requires(const P& p, B& be, step_context<B>& c,
                                typename P::template state<B>& s) { p.on_values(be, c, s); };
template <class P, class B>
concept acts_on_pre =
    has_state<P, B> && requires(const P& p, B& be, step_context<B>& c,
                                typename P::template state<B>& s) { p.on_pre(be, c, s); };
template <class P, class B>
concept acts_on_parameters =
    has_state<P, B> &&
    requires(const P& p, B& be, step_context<B>& c, sae_parameters<B>& gradient, view<B> sums,
             typename P::template state<B>& s) { p.add_gradient(be, c, gradient, sums, s); };
template <class P, class B>
concept penalises = acts_on_values<P, B> || acts_on_pre<P, B> || acts_on_parameters<P, B> ||
                    std::is_same_v<P, no_penalty>;
template <class P, class B>
concept penalty_members_fit =
    (acts_on_values<P, B> || !requires { &P::template on_values<B>; }) &&
    (acts_on_pre<P, B> || !requires { &P::template on_pre<B>; }) &&
    (acts_on_parameters<P, B> || !requires { &P::template add_gradient<B>; });

// Dictionary
template <class D, class B>
using dictionary_state = typename dictionary_training<D, B>::state;
template <class D, class B>
concept acts_before_forward =
    requires(const D& d, B& be, sae_parameters<B>& p) { d.before_forward(be, p); } ||
    requires(const D& d, B& be, sae_parameters<B>& p, dictionary_state<D, B>& s) {
      d.before_forward(be, p, s);
    };
template <class D, class B>
concept acts_before_clip =
    requires(const D& d, B& be, sae_parameters<B>& p) { d.before_clip(be, p, p); } ||
    requires(const D& d, B& be, sae_parameters<B>& p, dictionary_state<D, B>& s) {
      d.before_clip(be, p, p, s);
    };
template <class D, class B>
concept acts_after_clip =
    requires(const D& d, B& be, sae_parameters<B>& p) { d.after_clip(be, p, p); } ||
    requires(const D& d, B& be, sae_parameters<B>& p, dictionary_state<D, B>& s) {
      d.after_clip(be, p, p, s);
    };
template <class D, class B>
concept acts_after_step =
    requires(const D& d, B& be, sae_parameters<B>& p) { d.after_step(be, p); } ||
    requires(const D& d, B& be, sae_parameters<B>& p, dictionary_state<D, B>& s) {
      d.after_step(be, p, s);
    };
template <class D, class B>
concept acts_on_dictionary =
    acts_before_forward<D, B> || acts_before_clip<D, B> || acts_after_clip<D, B> ||
    acts_after_step<D, B> || std::is_same_v<D, free_norm>;
template <class D, class B>
concept dictionary_members_fit =
    (acts_before_forward<D, B> || !requires { &D::template before_forward<B>; }) &&
    (acts_before_clip<D, B> || !requires { &D::template before_clip<B>; }) &&
    (acts_after_clip<D, B> || !requires { &D::template after_clip<B>; }) &&
    (acts_after_step<D, B> || !requires { &D::template after_step<B>; });

// Plan
template <class P>
concept plans = std::is_same_v<P, full_reconstruction> || requires(const P& p) {
  { p(std::size_t{}, std::size_t{}) } -> std::convertible_to<prefix_list>;
};

// Dead latents
template <class D>
concept has_dead_fields = requires(const D& d) {
  { d.dead_after } -> std::convertible_to<std::int64_t>;
  { d.count_first } -> std::convertible_to<bool>;
  { d.detach_residual } -> std::convertible_to<bool>;
};
template <class D, class B>
concept counts_tokens =
    has_state<D, B> && requires(const D& d, B& be, const sae_parameters<B>& p, const codes<B>& z,
                                typename D::template state<B>& s) {
      const_view<B, std::int64_t>(s.since_fired);
      s.ids.all();
      { d.start(be, p) } -> std::convertible_to<typename D::template state<B>>;
      d.observe(be, z, s);
    };
template <class D, class B>
concept finds_dead =
    has_state<D, B> && requires(const D& d, B& be, typename D::template state<B>& s) {
      { d.find(be, s) } -> std::convertible_to<bool>;
    };
template <class D, class B>
concept has_dead_loss =
    has_state<D, B> && requires(const D& d, B& be, const typename D::template inputs<B>& in,
                                typename D::template state<B>& s, sae_parameters<B>& gradient,
                                view<B> sums, view<B, double> slot) {
      d.forward(be, in, s, slot);
      { d.residual_pull(s) } -> std::convertible_to<const_view<B>>;
      d.backward(be, in, s, gradient, sums);
    };
/// May be left out: wants to see the encoder's tiles of pre-activations, where `expect` says so.
template <class D, class B>
concept sees_tiles = has_state<D, B> && requires(const D& d, B& be, const_view<B> pre,
                                                 typename D::template state<B>& s) {
  { d.expect(be, std::size_t{}, s) } -> std::same_as<bool>;
  d.see(be, pre, s);
};

// Upkeep
template <class U, class Run, class B>
concept keeps_up = has_state<U, B> && requires(const U& u, Run& run, const_view<B> x,
                                               typename U::template state<B>& s) {
  u.before_step(run, x, s);
  u.after_step(run, x, x, s);
};

}  // namespace train_concepts

template <class O, class B>
concept optimizer_for = train_concepts::has_rate<O> && train_concepts::has_optimizer_start<O, B> &&
                        train_concepts::has_optimizer_step<O, B>;
template <class L, class B>
concept loss_for = train_concepts::has_space<L> && train_concepts::has_row_loss<L, B>;
template <class P, class B>
concept penalty_for = train_concepts::has_value<P, B> && train_concepts::penalises<P, B> &&
                      train_concepts::penalty_members_fit<P, B>;
template <class D, class B>
concept dictionary_for =
    train_concepts::acts_on_dictionary<D, B> && train_concepts::dictionary_members_fit<D, B>;
template <class P>
concept plan = train_concepts::plans<P>;
template <class D, class B>
concept dead_policy_for =
    train_concepts::has_dead_fields<D> && train_concepts::counts_tokens<D, B> &&
    train_concepts::finds_dead<D, B> && train_concepts::has_dead_loss<D, B>;

// The sentences a user reads when a policy does not fit.

template <class O, class B>
struct require_optimizer {
  static_assert(train_concepts::has_rate<O>,
                "plmscope: an optimizer has a base rate that the schedule scales: add `double lr`");
  static_assert(
      train_concepts::has_optimizer_start<O, B>,
      "plmscope: an optimizer keeps its moments in a state: add `template <class B> struct "
      "state` and `template <class B> state<B> start(B& be, const "
      "plmscope::sae_parameters<B>& p) const`");
  static_assert(
      train_concepts::has_optimizer_step<O, B>,
      "plmscope: an optimizer needs `template <class B> void step(B& be, "
      "plmscope::sae_parameters<B>& p, const plmscope::sae_parameters<B>& g, state<B>& s, "
      "double rate, plmscope::const_view<B, double> factor) const`");
  static constexpr bool value = true;
};

template <class L, class B>
struct require_loss {
  static_assert(train_concepts::has_space<L>,
                "plmscope: a loss says where it is measured: add `static constexpr "
                "plmscope::loss_space space = plmscope::loss_space::normalized;`");
  static_assert(train_concepts::has_row_loss<L, B>,
                "plmscope: a loss needs `template <class B> auto prepare(B& be, const "
                "plmscope::loss_inputs<B>& in) const` that gives something with `value(row, "
                "squared_error)` and `slope(row, squared_error)`, such as "
                "`plmscope::weighted_squares`");
  static constexpr bool value = true;
};

template <class P, class B>
struct require_penalty {
  static_assert(train_concepts::has_value<P, B>,
                "plmscope: a penalty tells its value: add `template <class B> struct state` and "
                "`template <class B> double loss(B& be, state<B>& s) const`");
  static_assert(train_concepts::penalises<P, B>,
                "plmscope: a penalty acts on something: add `template <class B> void on_values(B& "
                "be, plmscope::step_context<B>& c, state<B>& s) const`, or `on_pre` with the same "
                "arguments, or `add_gradient`");
  static_assert(
      train_concepts::penalty_members_fit<P, B>,
      "plmscope: this penalty has a member that is never called: `on_values` and `on_pre` "
      "take (B& be, plmscope::step_context<B>& c, state<B>& s), `add_gradient` takes (B& be, "
      "plmscope::step_context<B>& c, plmscope::sae_parameters<B>& gradient, "
      "plmscope::view<B> sums, state<B>& s), and all are const");
  static constexpr bool value = true;
};

template <class D, class B>
struct require_dictionary {
  static_assert(
      train_concepts::acts_on_dictionary<D, B>,
      "plmscope: a dictionary policy acts at some moment of a step: add `template <class B> "
      "void after_step(B& be, plmscope::sae_parameters<B>& p) const`, or `before_forward`, "
      "`before_clip` or `after_clip`; plmscope::free_norm does nothing");
  static_assert(train_concepts::dictionary_members_fit<D, B>,
                "plmscope: this dictionary policy has a member that is never called: "
                "`before_forward` and `after_step` take (B& be, plmscope::sae_parameters<B>& p), "
                "`before_clip` and `after_clip` take (B& be, plmscope::sae_parameters<B>& p, "
                "plmscope::sae_parameters<B>& g), and all are const");
  static constexpr bool value = true;
};

template <class P>
struct require_plan {
  static_assert(
      train_concepts::plans<P>,
      "plmscope: a plan says which prefixes are reconstructed: add `plmscope::prefix_list "
      "operator()(std::size_t step, std::size_t features) const`");
  static constexpr bool value = true;
};

template <class D, class B>
struct require_dead_policy {
  static_assert(train_concepts::has_dead_fields<D>,
                "plmscope: a dead-latent policy has the fields `std::int64_t dead_after`, `bool "
                "count_first` and `bool detach_residual`");
  static_assert(
      train_concepts::counts_tokens<D, B>,
      "plmscope: a dead-latent policy counts tokens: add `template <class B> struct state` "
      "with `since_fired` and `ids`, `state<B> start(B& be, const "
      "plmscope::sae_parameters<B>& p) const` and `void observe(B& be, const "
      "plmscope::codes<B>& z, state<B>& s) const`");
  static_assert(train_concepts::finds_dead<D, B>,
                "plmscope: a dead-latent policy says whether it has a loss in this step: add "
                "`template <class B> bool find(B& be, state<B>& s) const`");
  static_assert(train_concepts::has_dead_loss<D, B>,
                "plmscope: a dead-latent policy needs `inputs<B>` (plmscope::aux_k::inputs<B> will "
                "do), `forward(be, in, s, slot)`, `residual_pull(s)` and `backward(be, in, s, "
                "gradient, sums)`, all const");
  static constexpr bool value = true;
};

template <class U, class Run, class B>
struct require_upkeep {
  static_assert(
      train_concepts::keeps_up<U, Run, B>,
      "plmscope: an upkeep policy needs `template <class B> struct state`, `void "
      "before_step(Run& run, Rows x, State& s) const` and `void after_step(Run& run, Rows x, "
      "Rows y, State& s) const`, templates over Run, Rows and State");
  static constexpr bool value = true;
};

/// Every policy of a trainer, or of a struct with the same fields, for a run on backend B.
template <class Policies, class Run, class B>
struct require_policies {
  static_assert(require_optimizer<decltype(Policies::optimizer), B>::value);
  static_assert(require_loss<decltype(Policies::loss), B>::value);
  static_assert(require_penalty<decltype(Policies::penalty), B>::value);
  static_assert(require_dictionary<decltype(Policies::dictionary), B>::value);
  static_assert(require_plan<decltype(Policies::plan)>::value);
  static_assert(require_dead_policy<decltype(Policies::dead), B>::value);
  static_assert(require_upkeep<decltype(Policies::upkeep), Run, B>::value);
  static constexpr bool value = true;
};

}  // namespace plmscope::inline PLMSCOPE_ABI
