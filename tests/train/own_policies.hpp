// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/sae/sae.hpp>
#include <plmscope/train/trainer.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <string_view>

// The policies that the pages of docs/concepts write as examples.
namespace own {

using plmscope::const_view;
using plmscope::sae_parameters;
using plmscope::view;

template <class Real>
struct times_gain {
  Real* values;
  const Real* log_gain;
  PLMSCOPE_HD void operator()(std::size_t, std::size_t entry, std::uint32_t feature) const {
    values[entry] *= std::exp(log_gain[feature]);
  }
};
template <class Real>
struct through_gain {
  const Real* values;
  const Real* log_gain;
  Real* dz;
  Real* to_gain;
  PLMSCOPE_HD void operator()(std::size_t, std::size_t entry, std::uint32_t feature) const {
    to_gain[entry] = dz[entry] * values[entry];
    dz[entry] *= std::exp(log_gain[feature]);
  }
};
struct gained_relu {
  static constexpr std::string_view id = "gained_relu";
  static constexpr std::array<std::string_view, 1> vectors{"log_gain"};

  template <class B>
  struct state {
    plmscope::matrix<typename B::real, B> to_gain;
    template <class F>
    void fields(const F&) {}  // workspace: nothing that the next step depends on
  };
  template <class B>
  void start(B&, sae_parameters<B>&) const {}
  template <class B>
  void select(B& be, const_view<B> pre, plmscope::codes<B>& out) const {
    be.keep_above(pre, const_view<B>(), plmscope::by_value{}, out);
  }
  template <class B>
  void activate(B& be, const sae_parameters<B>& p, plmscope::codes<B>& z) const {
    be.each_entry(z, times_gain<typename B::real>{z.values(), p.latent[0].values.data()});
  }
  template <class B>
  void activate(B& be, const sae_parameters<B>& p, plmscope::codes<B>& z, state<B>&) const {
    activate(be, p, z);
  }
  template <class B>
  void pull(B& be, plmscope::step_context<B>& c, state<B>& s) const {
    s.to_gain.reshape(be, 1, c.z.entries());
    be.each_entry(c.z,
                  through_gain<typename B::real>{c.z.values(), c.parameters.latent[0].values.data(),
                                                 c.dz.data(), s.to_gain.data()});
  }
  template <class B>
  void add_gradient(B& be, plmscope::step_context<B>& c, sae_parameters<B>& gradient,
                    state<B>& s) const {
    sum_by_feature(be, c.by_feature, const_view<B>(s.to_gain), gradient.latent[0].values.all());
  }
};

struct root_shape {
  double c = 0.01;
  template <class Real>
  PLMSCOPE_HD Real value(Real u) const noexcept {
    return std::sqrt(u + static_cast<Real>(c)) - std::sqrt(static_cast<Real>(c));
  }
  template <class Real>
  PLMSCOPE_HD Real slope(Real u) const noexcept {
    return 1 / (2 * std::sqrt(u + static_cast<Real>(c)));
  }
};

struct decoder_decay {
  double weight = 1e-4;

  template <class B>
  struct state {
    plmscope::matrix<double, B> squares;
    template <class F>
    void fields(const F&) {}  // workspace: nothing that the next step depends on
  };
  template <class B>
  void add_gradient(B& be, plmscope::step_context<B>& c, sae_parameters<B>& gradient, view<B>,
                    state<B>& s) const {
    using real = typename B::real;
    be.axpy(static_cast<real>(weight), const_view<B>(c.parameters.decoder), gradient.decoder);
    if (s.squares.empty()) s.squares = plmscope::matrix<double, B>(be, 1, 1);
    be.fill(s.squares.all(), 0.0);
    be.add_sum_squares(const_view<B>(c.parameters.decoder), s.squares.all());
  }
  template <class B>
  double loss(B& be, state<B>& s) const {
    if (s.squares.empty()) return 0;
    double sum = 0;
    be.download(const_view<B, double>(s.squares), std::span<double>(&sum, 1));
    return weight / 2 * sum;
  }
};

template <class Real>
struct huber_rows {
  Real scale;
  Real knee;
  PLMSCOPE_HD Real value(std::size_t, Real e2) const noexcept {
    return scale * (e2 <= knee * knee ? e2 : 2 * knee * std::sqrt(e2) - knee * knee);
  }
  PLMSCOPE_HD Real slope(std::size_t, Real e2) const noexcept {
    return 2 * scale * (e2 <= knee * knee ? Real{1} : knee / std::sqrt(e2));
  }
};
struct huber {
  static constexpr plmscope::loss_space space = plmscope::loss_space::normalized;
  double knee = 1;
  template <class B>
  huber_rows<typename B::real> prepare(B&, const plmscope::loss_inputs<B>& in) const {
    using real = typename B::real;
    return {static_cast<real>(1.0 / static_cast<double>(in.target.rows())),
            static_cast<real>(knee)};
  }
};

struct doubling {
  plmscope::prefix_list operator()(std::size_t, std::size_t features) const {
    const auto n = static_cast<std::uint32_t>(features);
    return {.ends = {n / 8, n / 4, n / 2, n}, .shares = {0.4, 0.3, 0.2, 0.1}};
  }
};

struct tied {
  template <class B>
  void before_clip(B& be, sae_parameters<B>&, sae_parameters<B>& g) const {
    using real = typename B::real;
    be.axpy(real{1}, const_view<B>(g.decoder), g.encoder);
    be.fill(g.decoder.all(), real{0});
  }
  template <class B>
  void after_step(B& be, sae_parameters<B>& p) const {
    be.normalize_rows(p.encoder, std::numeric_limits<typename B::real>::epsilon());
    be.copy(const_view<B>(p.encoder), p.decoder.all());
  }
};

struct only_count {
  std::int64_t dead_after = 500'000;
  bool count_first = true;
  bool detach_residual = true;

  template <class B>
  struct state {
    plmscope::matrix<std::int64_t, B> since_fired;
    plmscope::matrix<std::uint32_t, B> ids;
    template <class F>
    void fields(const F& f) {
      f("since_fired", since_fired);
    }
  };
  template <class B>
  using inputs = plmscope::aux_k::inputs<B>;

  template <class B>
  state<B> start(B& be, const sae_parameters<B>& p) const {
    return {{be, 1, p.encoder.rows()}, {be, 1, p.encoder.rows()}};
  }
  template <class B>
  void observe(B& be, const plmscope::codes<B>& z, state<B>& s) const {
    be.count_fired(z, s.since_fired.all(), static_cast<std::int64_t>(z.rows()), 0);
  }
  template <class B>
  bool find(B&, state<B>&) const {
    return false;
  }
  template <class B>
  void forward(B&, const inputs<B>&, state<B>&, view<B, double>) const {}
  template <class B>
  const_view<B> residual_pull(const state<B>&) const {
    return {};
  }
  template <class B>
  void backward(B&, const inputs<B>&, state<B>&, sae_parameters<B>&, view<B>) const {}
};

template <class Real>
struct descend {
  Real* x;
  const Real* gradient;
  Real* velocity;
  const double* factor;
  std::size_t columns;
  Real momentum;
  Real rate;
  PLMSCOPE_HD void operator()(std::size_t row, std::size_t column) const {
    const std::size_t i = row * columns + column;
    velocity[i] = momentum * velocity[i] + static_cast<Real>(*factor) * gradient[i];
    x[i] -= rate * velocity[i];
  }
};
struct momentum_descent {
  double lr = 1e-2;
  double momentum = 0.9;

  template <class B>
  struct state {
    sae_parameters<B> velocity;
    template <class F>
    void fields(const F& f) {
      f("velocity", velocity);
    }
    template <class F>
    void for_each_moment(const F& f) {
      f(velocity);
    }
  };
  template <class B>
  state<B> start(B& be, const sae_parameters<B>& p) const {
    return {p.zeros_like(be)};
  }
  template <class B>
  void step(B& be, sae_parameters<B>& p, const sae_parameters<B>& g, state<B>& s, double rate,
            const_view<B, double> factor) const {
    using real = typename B::real;
    plmscope::for_each_together(
        [&](auto& x, const auto& gradient, auto& velocity) {
          be.entries(x.rows(), x.cols(),
                     descend<real>{x.data(), gradient.data(), velocity.data(), factor.data(),
                                   x.cols(), static_cast<real>(momentum), static_cast<real>(rate)});
        },
        p, g, s.velocity);
  }
};

struct falling_k {
  std::size_t goal = 64;
  std::size_t steps = 5000;

  template <class B>
  struct state {};

  template <class Run, class Rows, class State>
  void before_step(Run& run, Rows x, State&) const {
    const double left =
        1 - static_cast<double>(std::min(run.steps(), steps)) / static_cast<double>(steps);
    run.model().sparsifier().k =
        goal + static_cast<std::size_t>(
                   left * (static_cast<double>(x.cols()) - static_cast<double>(goal)));
  }
  template <class Run, class Rows, class State>
  void after_step(Run&, Rows, Rows, State&) const {}
};

}  // namespace own
