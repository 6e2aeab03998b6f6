// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/config.hpp>
#include <plmscope/core/view.hpp>
#include <plmscope/sae/row_lengths.hpp>
#include <plmscope/tensor/matrix.hpp>
#include <plmscope/train/penalty_weights.hpp>
#include <plmscope/train/step_context.hpp>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <tuple>
#include <utility>

namespace plmscope::inline PLMSCOPE_ABI {

/// A penalty on codes or parameters is a struct with a `template <class B> struct state`, a
/// `loss(be, state)` (its value in the last step; waits for the device) and, each of them optional:
///
///   p.on_values(be, context, state)    adds to `penalised_pull` and `l0_slope`,
///                                      may set `latent_slope`
///   p.on_pre(be, context, state)       adds to `dz`, which is then with respect to pre-activations
///   p.add_gradient(be, context, gradient, sums, state)   adds to the parameters' gradients; `sums`
///                                      [1, F] are the sums of dz, which also move a shared bias
///   static constexpr bool counts_active   true: needs `context.active`
///   static constexpr bool wants_dead      true: needs `context.dead`
///
/// These call what there is.
namespace penalty {

template <class P>
inline constexpr bool counts_active = [] {
  if constexpr (requires { P::counts_active; }) return P::counts_active;
  else return false;
}();
template <class P>
inline constexpr bool wants_dead = [] {
  if constexpr (requires { P::wants_dead; }) return P::wants_dead;
  else return false;
}();

template <class P, class B, class State>
void on_values(const P& p, B& be, step_context<B>& c, State& s) {
  if constexpr (requires { p.on_values(be, c, s); }) p.on_values(be, c, s);
}
template <class P, class B, class State>
void on_pre(const P& p, B& be, step_context<B>& c, State& s) {
  if constexpr (requires { p.on_pre(be, c, s); }) p.on_pre(be, c, s);
}
template <class P, class B, class State>
void add_gradient(const P& p, B& be, step_context<B>& c, sae_parameters<B>& gradient, view<B> sums,
                  State& s) {
  if constexpr (requires { p.add_gradient(be, c, gradient, sums, s); }) {
    p.add_gradient(be, c, gradient, sums, s);
  }
}

}  // namespace penalty

/// No penalty.
struct no_penalty {
  template <class B>
  struct state {};
  template <class B, class State>
  double loss(B&, State&) const {
    return 0;
  }
};

// Shapes phi(u) of penalties that are sums over entries, with phi(0) = 0.

/// phi(u) = u (L1; Bricken et al. 2023).
struct linear_shape {
  template <class Real>
  PLMSCOPE_HD Real value(Real u) const noexcept {
    return u;
  }
  template <class Real>
  PLMSCOPE_HD Real slope(Real) const noexcept {
    return 1;
  }
};

/// phi(u) = log(u + c) - log(c) (Nabeshima 2024, c = 0.1).
struct log_shape {
  double c = 0.1;
  template <class Real>
  PLMSCOPE_HD Real value(Real u) const noexcept {
    using std::log;
    return log(u + static_cast<Real>(c)) - log(static_cast<Real>(c));
  }
  template <class Real>
  PLMSCOPE_HD Real slope(Real u) const noexcept {
    return 1 / (u + static_cast<Real>(c));
  }
};

/// phi(u) = tanh(c u) (Conerly et al. 2025, c = 4).
struct tanh_shape {
  double c = 4;
  template <class Real>
  PLMSCOPE_HD Real value(Real u) const noexcept {
    using std::tanh;
    return tanh(static_cast<Real>(c) * u);
  }
  template <class Real>
  PLMSCOPE_HD Real slope(Real u) const noexcept {
    const Real t = value(u);
    return static_cast<Real>(c) * (1 - t * t);
  }
};

/// phi(u) = u^p, 0 < p <= 1 (Karvonen et al. 2024, p-annealing).
struct power_shape {
  double p = 0.5;
  template <class Real>
  PLMSCOPE_HD Real value(Real u) const noexcept {
    using std::pow;
    return u > Real{0} ? pow(u, static_cast<Real>(p)) : Real{0};
  }
  template <class Real>
  PLMSCOPE_HD Real slope(Real u) const noexcept {
    using std::pow;
    return u > Real{0} ? static_cast<Real>(p) * pow(u, static_cast<Real>(p) - 1) : Real{0};
  }
};

/// How decoder lengths enter a penalty: u = z, z |w| or z |w|^2.
enum class penalised_length { none, length, squared };

namespace penalty_detail {

template <class Real, class Shape>
struct on_entry {
  Shape shape;
  const Real* values;
  const Real* lengths;  ///< [1, F], or null
  bool squared;
  const Real* shares;   ///< [1, F], or null
  Real* pull;
  Real* value;          ///< phi(u)
  Real* spread;         ///< phi'(u) z: derivative with respect to the length's power
  Real weight;

  PLMSCOPE_HD void operator()(std::size_t, std::size_t e, std::uint32_t f) const {
    Real n = lengths == nullptr ? Real{1} : lengths[f];
    if (squared) n *= n;
    const Real share = shares == nullptr ? Real{1} : shares[f];
    const Real u = values[e] * n;
    const Real slope = shape.slope(u);
    pull[e] += weight * share * n * slope;
    value[e] = share * shape.value(u);
    spread[e] = share * slope * values[e];
  }
};

}  // namespace penalty_detail

/// weight * mean over rows of sum_i phi(z_i n_i), with n_i = 1, |w_i| or |w_i|^2. Gradients flow into
/// the lengths. For a gated SAE z_i is the gate's value. Cost: a pass over the entries.
template <class Shape = linear_shape, class Weight = warmed_weight>
struct entry_penalty {
  Weight weight = {};
  penalised_length length = penalised_length::length;
  Shape shape = {};
  static constexpr bool counts_active = Weight::counts_active;

  template <class B>
  struct state {
    using real = typename B::real;
    matrix<real, B> lengths, value, spread, sums;
    matrix<double, B> slot;
    typename Weight::state weight;
    double factor = 0;  ///< weight / rows of the last step

    template <class F>
    void fields(const F& f) {
      f("weight", weight);
    }
  };

  template <class B>
  void on_values(B& be, step_context<B>& c, state<B>& s) const {
    using real = typename B::real;
    s.factor = weight(be, c, s.weight) / static_cast<double>(c.rows());
    if (length != penalised_length::none) {
      s.lengths.reshape(be, 1, c.features());
      block_lengths(be, const_view<B>(c.parameters.decoder), c.blocks, s.lengths.all());
    }
    const std::size_t n = c.penalised.cols();
    s.value.reshape(be, 1, n);
    s.spread.reshape(be, 1, n);
    be.each_entry(c.z, penalty_detail::on_entry<real, Shape>{
                           shape, c.penalised.data(),
                           length == penalised_length::none ? nullptr : s.lengths.data(),
                           length == penalised_length::squared, c.latent_shares.data(),
                           c.penalised_pull.data(), s.value.data(), s.spread.data(),
                           static_cast<real>(s.factor)});
    if (s.slot.empty()) s.slot = matrix<double, B>(be, 1, 1);
    s.sums.reshape(be, 1, c.features());
    sum_by_feature(be, c.by_feature, const_view<B>(s.value), s.sums.all());
    be.fill(s.slot.all(), 0.0);
    be.add_sum(const_view<B>(s.sums), s.slot.all());
  }

  template <class B>
  void add_gradient(B& be, step_context<B>& c, sae_parameters<B>& gradient, view<B>,
                    state<B>& s) const {
    using real = typename B::real;
    if (length == penalised_length::none) return;
    sum_by_feature(be, c.by_feature, const_view<B>(s.spread), s.sums.all());
    const bool squared = length == penalised_length::squared;
    if (squared) be.scale_columns(s.sums, s.lengths);
    be.scale(s.sums, static_cast<real>(squared ? 2 * s.factor : s.factor));
    add_length_gradient(be, const_view<B>(c.parameters.decoder), c.blocks, const_view<B>(s.sums),
                        gradient.decoder.all());
  }

  template <class B>
  double loss(B& be, state<B>& s) const {
    if (s.slot.empty()) return 0;
    double v = 0;
    be.download(const_view<B, double>(s.slot), std::span<double>(&v, 1));
    return s.factor * v;
  }
};

/// L1 with or without lengths: `l1_penalty{.weight = {0.06}, .length = penalised_length::none}`.
using l1_penalty = entry_penalty<linear_shape>;
using log_penalty = entry_penalty<log_shape>;
using tanh_penalty = entry_penalty<tanh_shape>;
using power_penalty = entry_penalty<power_shape>;

/// Several penalties as one.
template <class... Penalties>
struct penalties {
  std::tuple<Penalties...> each;
  static constexpr bool counts_active = (penalty::counts_active<Penalties> || ...);
  static constexpr bool wants_dead = (penalty::wants_dead<Penalties> || ...);

  penalties() = default;
  explicit penalties(Penalties... p) : each(std::move(p)...) {}

  template <class F>
  void settings(const F& f) const {
    f(each);
  }

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
    together(s, [&](const auto& p, auto& t) { penalty::on_values(p, be, c, t); });
  }
  template <class B>
  void on_pre(B& be, step_context<B>& c, state<B>& s) const {
    together(s, [&](const auto& p, auto& t) { penalty::on_pre(p, be, c, t); });
  }
  template <class B>
  void add_gradient(B& be, step_context<B>& c, sae_parameters<B>& gradient, view<B> sums,
                    state<B>& s) const {
    together(s, [&](const auto& p, auto& t) { penalty::add_gradient(p, be, c, gradient, sums, t); });
  }
  template <class B>
  double loss(B& be, state<B>& s) const {
    double sum = 0;
    together(s, [&](const auto& p, auto& t) { sum += p.loss(be, t); });
    return sum;
  }

 private:
  template <class State, class F>
  void together(State& s, const F& f) const {
    [&]<std::size_t... I>(std::index_sequence<I...>) {
      (f(std::get<I>(each), std::get<I>(s.each)), ...);
    }(std::index_sequence_for<Penalties...>());
  }
};

}  // namespace plmscope::inline PLMSCOPE_ABI
