// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/backend/primitives.hpp>
#include <plmscope/sae/parameters.hpp>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <utility>

namespace plmscope::inline PLMSCOPE_ABI {

/// Adam (Kingma & Ba 2015, algorithm 1), dense: rows without gradient still move by their momentum.
/// `weight_decay` is decoupled (AdamW): parameters shrink by rate * weight_decay before the update.
struct adam {
  double lr = 2e-4;
  double beta1 = 0.9;
  double beta2 = 0.999;
  double epsilon = 1e-8;
  double weight_decay = 0;

  template <class B>
  struct state {
    sae_parameters<B> m;
    sae_parameters<B> v;
    std::int64_t t = 0;

    /// f(parameters) for everything that is kept per parameter.
    template <class F>
    void for_each_moment(const F& f) {
      f(m);
      f(v);
    }
    template <class F>
    void fields(const F& f) {
      f("m", m);
      f("v", v);
      f("t", t);
    }
  };

  template <class B>
  state<B> start(B& be, const sae_parameters<B>& p) const {
    return {p.zeros_like(be), p.zeros_like(be), 0};
  }

  /// One update at learning rate `rate`; gradients are multiplied by factor[0] (clipping).
  template <class B>
  void step(B& be, sae_parameters<B>& p, const sae_parameters<B>& g, state<B>& s, double rate,
            const_view<B, double> factor) const {
    move(p, g, s, rate, [&](auto& x, const auto& gradient, auto& m, auto& v, const auto& now) {
      be.adam(x, gradient, m, v, now, factor);
    });
  }

  /// The same with the decoder's rows kept at length 1, in one pass over them.
  constexpr bool moves_rows() const noexcept { return true; }
  template <class B>
  void step(B& be, sae_parameters<B>& p, const sae_parameters<B>& g, state<B>& s, double rate,
            const_view<B, double> factor, const unit_length_rule& rows) const {
    move(p, g, s, rate, [&](auto& x, const auto& gradient, auto& m, auto& v, const auto& now) {
      if (&x == &p.decoder) {
        be.adam_unit_rows(x, gradient, m, v, now, rows, factor);
      } else {
        be.adam(x, gradient, m, v, now, factor);
      }
    });
  }

  /// What one matrix is moved by in step t, counted from 1.
  template <class Real>
  adam_step<Real> numbers(std::int64_t t, double rate) const {
    const auto n = static_cast<double>(t);
    return {.rate = static_cast<Real>(rate),
            .beta1 = static_cast<Real>(beta1),
            .beta2 = static_cast<Real>(beta2),
            .epsilon = static_cast<Real>(epsilon),
            .correction1 = static_cast<Real>(1 - std::pow(beta1, n)),
            .correction2 = static_cast<Real>(1 - std::pow(beta2, n)),
            .decay = static_cast<Real>(rate * weight_decay)};
  }

 private:
  /// f(matrix, gradient, first moment, second moment, numbers of this step) for every matrix.
  template <class B, class F>
  void move(sae_parameters<B>& p, const sae_parameters<B>& g, state<B>& s, double rate,
            const F& f) const {
    ++s.t;
    const auto now = numbers<typename B::real>(s.t, rate);
    for_each_together(
        [&](auto& x, const auto& gradient, auto& m, auto& v) { f(x, gradient, m, v, now); }, p, g,
        s.m, s.v);
  }
};

/// Signum (Bernstein et al. 2018: steps of fixed size along the sign of the gradient) with
/// schedule-free averaging (Defazio et al. 2024), as sparsify trains. The model's parameters are the
/// points y at which gradients are taken; the averaged points x, which are the ones to keep, are in
/// the state. Entries whose gradient is exactly zero do not move.
struct signum_schedule_free {
  double lr = 5e-3;
  double momentum = 0.95;

  template <class B>
  struct state {
    sae_parameters<B> z;
    sae_parameters<B> x;
    std::int64_t t = 0;

    template <class F>
    void for_each_moment(const F& f) {
      f(z);
      f(x);
    }
    template <class F>
    void fields(const F& f) {
      f("z", z);
      f("x", x);
      f("t", t);
    }
  };

  template <class B>
  state<B> start(B& be, const sae_parameters<B>& p) const {
    return {p.zeros_like(be), p.zeros_like(be), 0};
  }

  template <class B>
  void step(B& be, sae_parameters<B>& p, const sae_parameters<B>& g, state<B>& s, double rate,
            const_view<B, double>) const {
    const bool first = s.t++ == 0;
    const double c = 1.0 / static_cast<double>(s.t);
    for_each_together(
        [&](auto& y, const auto& gradient, auto& z, auto& x) {
          using real = typename B::real;
          if (first) be.copy(const_view<B>(y), z.all());
          mix(be, y, z, 1 / momentum, x);  // x = y / b + (1 - 1 / b) z
          be.sign_step(z, gradient, static_cast<real>(rate));
          mix(be, x, z, 1 - c, x);
          mix(be, x, z, momentum, y);
        },
        p, g, s.z, s.x);
  }

 private:
  // out = share a + (1 - share) b; out may be a.
  template <class B, class M>
  static void mix(B& be, const M& a, const M& b, double share, M& out) {
    using real = typename B::real;
    if (out.data() != a.data()) be.copy(const_view<B>(a), out.all());
    be.scale(out, static_cast<real>(share));
    be.axpy(static_cast<real>(1 - share), b, out);
  }
};

}  // namespace plmscope
