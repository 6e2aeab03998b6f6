// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/backend/primitives.hpp>
#include <plmscope/core/view.hpp>
#include <plmscope/sae/parameters.hpp>
#include <plmscope/train/dictionary_training.hpp>
#include <plmscope/train/losses.hpp>
#include <plmscope/train/penalties.hpp>
#include <plmscope/train/plans.hpp>
#include <plmscope/train/step_context.hpp>

#include <cmath>
#include <cstddef>
#include <optional>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>
#include <variant>

namespace plmscope::inline PLMSCOPE_ABI {

// Policies that are chosen while the program runs, by a flag or a file. `optimizer_choice{.of =
// muon{}}` does what muon does, to the bit; a trainer of choices is one type, so that a program
// with many flags compiles one training for each sparsifier and not one for each combination.
// Checkpoints know which policy it was. Cost: a branch a step; what the others would keep is empty.

namespace choice_detail {

/// f(the policy that was chosen, what is kept for it).
template <std::size_t I = 0, class Choice, class Kept, class F>
decltype(auto) chosen(const Choice& of, Kept& each, const F& f) {
  if constexpr (I + 1 < std::variant_size_v<Choice>) {
    if (of.index() != I) return chosen<I + 1>(of, each, f);
  }
  return f(*std::get_if<I>(&of), std::get<I>(each));
}

}  // namespace choice_detail

/// One of several optimizers.
template <class... Optimizers>
struct optimizer_choice {
  std::variant<Optimizers...> of = {};
  double lr =
      std::visit([](const auto& o) -> double { return o.lr; }, of);  ///< base rate: that of `of`

  template <class B>
  struct state {
    std::tuple<typename Optimizers::template state<B>...> each;
    std::size_t chosen = 0;

    template <class F>
    void for_each_moment(const F& f) {
      of_chosen([&](auto& s) { s.for_each_moment(f); });
    }
    template <class F>
    void for_each_average(const F& f) {
      of_chosen([&](auto& s) {
        if constexpr (requires { s.for_each_average(f); }) s.for_each_average(f);
      });
    }
    template <class F>
    void fields(const F& f) {
      of_chosen([&](auto& s) { f(std::string_view("of"), s); });
    }

   private:
    template <std::size_t I = 0, class F>
    void of_chosen(const F& f) {
      if constexpr (I < sizeof...(Optimizers)) {
        if (chosen == I)
          f(std::get<I>(each));
        else
          of_chosen<I + 1>(f);
      }
    }
  };

  template <class B>
  state<B> start(B& be, const sae_parameters<B>& p) const {
    state<B> s;
    s.chosen = of.index();
    choice_detail::chosen(of, s.each, [&](const auto& o, auto& kept) { kept = o.start(be, p); });
    return s;
  }
  template <class B>
  void step(B& be, sae_parameters<B>& p, const sae_parameters<B>& g, state<B>& s, double rate,
            const_view<B, double> factor) const {
    choice_detail::chosen(of, s.each,
                          [&](const auto& o, auto& kept) { o.step(be, p, g, kept, rate, factor); });
  }
  bool moves_rows() const {
    return std::visit(
        [](const auto& o) {
          if constexpr (requires { o.moves_rows(); })
            return o.moves_rows();
          else
            return false;
        },
        of);
  }
  template <class B>
  void step(B& be, sae_parameters<B>& p, const sae_parameters<B>& g, state<B>& s, double rate,
            const_view<B, double> factor, const unit_length_rule& rows) const {
    choice_detail::chosen(of, s.each, [&](const auto& o, auto& kept) {
      if constexpr (requires { o.moves_rows(); }) o.step(be, p, g, kept, rate, factor, rows);
    });
  }
  template <class B>
  void after_step(B& be, const sae_parameters<B>& p, state<B>& s) const {
    choice_detail::chosen(of, s.each, [&](const auto& o, auto& kept) {
      if constexpr (requires { o.after_step(be, p, kept); }) o.after_step(be, p, kept);
    });
  }
  /// The dictionary policy follows, also behind an optimizer that leaves the parameters alone: rows
  /// of length 1 may then differ in the last bit.
  template <class B>
  void finish(B& be, sae_parameters<B>& p, state<B>& s) const {
    choice_detail::chosen(of, s.each, [&](const auto& o, auto& kept) {
      if constexpr (requires { o.finish(be, p, kept); }) o.finish(be, p, kept);
    });
  }
  template <class F>
  void settings(const F& f) const {
    std::visit(f, of);
    f(lr);
  }
};

/// A row's loss of one of two kinds: |e|^2 with a factor, or |e|.
template <class Real>
struct squares_or_length : weighted_squares<Real> {
  bool length = false;

  PLMSCOPE_HD Real value(std::size_t r, Real squared_error) const noexcept {
    if (length) return scaled_length<Real>{this->scale}.value(r, squared_error);
    return weighted_squares<Real>::value(r, squared_error);
  }
  PLMSCOPE_HD Real slope(std::size_t r, Real squared_error) const noexcept {
    if (length) return scaled_length<Real>{this->scale}.slope(r, squared_error);
    return weighted_squares<Real>::slope(r, squared_error);
  }
};

/// Mean squared error, fraction of variance unexplained, or mean length of the error.
struct loss_choice {
  std::variant<mean_squared_error, fraction_of_variance_unexplained, mean_error_length> of = {};
  loss_space space = std::visit([](const auto& l) { return l.space; }, of);
  bool per_block = std::holds_alternative<mean_error_length>(of);

  template <class B>
  squares_or_length<typename B::real> prepare(B& be, const loss_inputs<B>& in) const {
    using real = typename B::real;
    squares_or_length<real> out;
    out.length = per_block;
    std::visit(
        [&](const auto& l) {
          const auto row = l.prepare(be, in);
          if constexpr (std::is_same_v<decltype(row), const weighted_squares<real>>) {
            static_cast<weighted_squares<real>&>(out) = row;
          } else {
            out.scale = row.scale;
          }
        },
        of);
    return out;
  }
  template <class F>
  void settings(const F& f) const {
    std::visit(f, of);
  }
};

/// One of several penalties; `no_penalty` may be among them.
template <class... Penalties>
struct penalty_choice {
  std::variant<Penalties...> of = {};
  static constexpr bool counts_active = (penalty::counts_active<Penalties> || ...);
  static constexpr bool wants_dead = (penalty::wants_dead<Penalties> || ...);

  template <class B>
  struct state {
    std::tuple<typename Penalties::template state<B>...> each;

    template <class F>
    void fields(const F& f) {
      f("each", each);
    }
  };
  template <class B>
  void on_values(B& be, step_context<B>& c, state<B>& s) const {
    choice_detail::chosen(of, s.each,
                          [&](const auto& p, auto& kept) { penalty::on_values(p, be, c, kept); });
  }
  template <class B>
  void on_pre(B& be, step_context<B>& c, state<B>& s) const {
    choice_detail::chosen(of, s.each,
                          [&](const auto& p, auto& kept) { penalty::on_pre(p, be, c, kept); });
  }
  template <class B>
  void add_gradient(B& be, step_context<B>& c, sae_parameters<B>& gradient, view<B> sums,
                    state<B>& s) const {
    choice_detail::chosen(of, s.each, [&](const auto& p, auto& kept) {
      penalty::add_gradient(p, be, c, gradient, sums, kept);
    });
  }
  template <class B>
  double loss(B& be, state<B>& s) const {
    return choice_detail::chosen(
        of, s.each, [&](const auto& p, auto& kept) -> double { return p.loss(be, kept); });
  }
  template <class F>
  void settings(const F& f) const {
    std::visit(f, of);
  }
};

/// One of several dictionary policies, all without a state.
template <class... Dictionaries>
struct dictionary_choice {
  std::variant<Dictionaries...> of = {};

  template <class B>
  std::optional<unit_length_rule> rows() const {
    return std::visit(
        [](const auto& d) -> std::optional<unit_length_rule> {
          using policy = std::remove_cvref_t<decltype(d)>;
          if constexpr (dictionary_detail::has_rows<policy, B>)
            return d.template rows<B>();
          else
            return std::nullopt;
        },
        of);
  }
  template <class B>
  void before_forward(B& be, sae_parameters<B>& p) const {
    visit([&](const auto& d) {
      if constexpr (requires { d.before_forward(be, p); }) d.before_forward(be, p);
    });
  }
  template <class B>
  void before_clip(B& be, sae_parameters<B>& p, sae_parameters<B>& g) const {
    visit([&](const auto& d) {
      if constexpr (requires { d.before_clip(be, p, g); }) d.before_clip(be, p, g);
    });
  }
  template <class B>
  void after_clip(B& be, sae_parameters<B>& p, sae_parameters<B>& g) const {
    visit([&](const auto& d) {
      if constexpr (requires { d.after_clip(be, p, g); }) d.after_clip(be, p, g);
    });
  }
  template <class B>
  void after_step(B& be, sae_parameters<B>& p) const {
    visit([&](const auto& d) {
      if constexpr (requires { d.after_step(be, p); }) d.after_step(be, p);
    });
  }
  template <class F>
  void settings(const F& f) const {
    visit(f);
  }

 private:
  template <class F>
  void visit(const F& f) const {
    std::visit(f, of);
  }
};

/// One of several plans; `full_reconstruction` may be among them.
template <class... Plans>
struct plan_choice {
  std::variant<Plans...> of = {};

  prefix_list operator()(std::size_t step, std::size_t features) const {
    return std::visit(
        [&](const auto& p) -> prefix_list {
          if constexpr (std::is_same_v<decltype(p), const full_reconstruction&>)
            return {};
          else
            return p(step, features);
        },
        of);
  }
  template <class F>
  void settings(const F& f) const {
    std::visit(f, of);
  }
};

/// One of several upkeep policies; `no_upkeep` may be among them.
template <class... Upkeeps>
struct upkeep_choice {
  std::variant<Upkeeps...> of = {};

  template <class B>
  struct state {
    std::tuple<typename Upkeeps::template state<B>...> each;

    template <class F>
    void fields(const F& f) {
      f("each", each);
    }
  };
  template <class Run, class Rows, class State>
  void before_step(Run& run, Rows x, State& s) const {
    choice_detail::chosen(of, s.each,
                          [&](const auto& u, auto& kept) { u.before_step(run, x, kept); });
  }
  template <class Run, class Rows, class State>
  void after_step(Run& run, Rows x, Rows y, State& s) const {
    choice_detail::chosen(of, s.each,
                          [&](const auto& u, auto& kept) { u.after_step(run, x, y, kept); });
  }
  template <class F>
  void settings(const F& f) const {
    std::visit(f, of);
  }
};

}  // namespace plmscope::inline PLMSCOPE_ABI
