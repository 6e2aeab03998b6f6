// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/core/view.hpp>
#include <plmscope/io/sha256.hpp>
#include <plmscope/sae/parameters.hpp>
#include <plmscope/sae/rules.hpp>
#include <plmscope/tensor/matrix.hpp>
#include <plmscope/train/dictionary_norm.hpp>
#include <plmscope/train/optimizer.hpp>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace plmscope::inline PLMSCOPE_ABI {

namespace archetypal_detail {

template <class Real>
struct start_at_points {
  Real* weights;
  std::size_t points;
  PLMSCOPE_HD void operator()(std::size_t, std::size_t f) const {
    weights[f * points + f % points] = 1;
  }
};
template <class Real>
struct not_below_zero {
  Real* x;
  std::size_t columns;
  PLMSCOPE_HD void operator()(std::size_t row, std::size_t column) const {
    Real& v = x[row * columns + column];
    v = v > Real{0} ? v : Real{0};
  }
};
// to = e^log_scale (from + added)
template <class Real>
struct scaled_sum {
  const Real* from;
  const Real* added;
  const Real* log_scale;
  Real* to;
  std::size_t columns;
  PLMSCOPE_HD void operator()(std::size_t row, std::size_t column) const {
    using std::exp;
    const std::size_t i = row * columns + column;
    to[i] = exp(*log_scale) * ((from == nullptr ? Real{0} : from[i]) + added[i]);
  }
};

}  // namespace archetypal_detail

/// Archetypal SAE (Fel et al. 2025, eq. 4): decoder rows are convex combinations of data points,
/// give or take a little, so that two trainings find much the same directions.
///
///   W_d = e^mu (A C + L),   A >= 0, its rows sum to 1,   |L_i| <= delta
///
/// C [n, d_out] are the points and stay as they are; A [F, n], L [F, d_out] and the number mu are
/// learned by Adam at the trainer's rate and projected after every step. `delta` = 0 is the strict
/// form (A-SAE). A starts at point i mod n for row i, L and mu at 0. The trainer's optimizer moves
/// everything but the decoder, whose gradient it gets as zeros; the norm that clipping sees is that
/// of A, L and mu. What the training leaves is a plain decoder.
///
/// A row of A that falls to 0 everywhere is a decoder row of L alone until gradients bring it back.
/// Points are at the scale of the dictionary: normalised rows less the input's bias
/// (`sae::centred`), best the centres of clusters. Policies that write decoder rows (resampling,
/// reordering) are undone by the next step. Error: `sae_width`, points that are none or of another
/// width. Cost: two products F n d a step and, for n near F, several times the SAE's memory.
struct archetypal {
  std::vector<double> points = {};  ///< [n, d_out], row by row
  double delta = 1;                 ///< longest relaxation
  bool multiplier = true;           ///< mu is learned; else it stays 0
  adam optimizer = {};              ///< its betas, epsilon and decay; the rate is the trainer's

  /// f(value) for what the result depends on; points by their number and SHA-256.
  template <class F>
  void settings(const F& f) const {
    sha256 hash;
    hash.update(std::as_bytes(std::span(points)));
    f(std::to_string(points.size()) + " numbers, " + hash.hex());
    f(delta);
    f(multiplier);
    f(optimizer);
  }

  template <class B>
  struct state {
    using mat = matrix<typename B::real, B>;
    struct learned {
      mat value, gradient, m, v;
      template <class F>
      void fields(const F& f) {
        f("value", value);
        f("m", m);
        f("v", v);
      }
    };
    mat points, sums, zero, ones;
    learned weights;     ///< A
    learned relaxation;  ///< L
    learned log_scale;   ///< mu, [1, 1]
    std::int64_t t = 0;

    template <class F>
    void for_each_gradient(const F& f) {
      for_each([&](learned& l) { f(l.gradient); });
    }
    template <class F>
    void fields(const F& f) {
      f("weights", weights);
      f("relaxation", relaxation);
      f("log_scale", log_scale);
      f("t", t);
    }
    template <class F>
    void for_each(const F& f) {
      f(weights);
      f(relaxation);
      f(log_scale);
    }
  };

  template <class B>
  state<B> start(B& be, const sae_parameters<B>& p) const {
    using real = typename B::real;
    const std::size_t features = p.decoder.rows(), d = p.decoder.cols();
    if (points.empty() || points.size() % d != 0) {
      throw error(rules::sae_width,
                  {.where = "archetypal",
                   .expected = "points of width " + std::to_string(d),
                   .found = std::to_string(points.size()) + " numbers",
                   .remedy = "give at least one row at the scale of the dictionary"});
    }
    const std::size_t n = points.size() / d;
    state<B> s;
    s.points = matrix<real, B>(be, n, d);
    be.upload(std::span<const double>(points), s.points.all());
    s.sums = matrix<real, B>(be, 1, features);
    s.zero = matrix<real, B>(be, 1, features);
    s.ones = matrix<real, B>(be, 1, n);
    be.fill(s.ones.all(), real{1});
    const auto make = [&](auto& l, std::size_t rows, std::size_t columns) {
      for (auto* m : {&l.value, &l.gradient, &l.m, &l.v}) *m = matrix<real, B>(be, rows, columns);
    };
    make(s.weights, features, n);
    make(s.relaxation, features, d);
    make(s.log_scale, 1, 1);
    be.entries(1, features, archetypal_detail::start_at_points<real>{s.weights.value.data(), n});
    return s;
  }

  template <class B>
  void before_forward(B& be, sae_parameters<B>& p, state<B>& s) const {
    if (s.t == 0) materialize(be, p, s);
  }

  // With g for the decoder: dL = e^mu g, dA = dL C^T, dmu = sum of g W_d.
  template <class B>
  void before_clip(B& be, sae_parameters<B>& p, sae_parameters<B>& g, state<B>& s) const {
    using real = typename B::real;
    auto& to = s.relaxation.gradient;
    be.entries(to.rows(), to.cols(),
               archetypal_detail::scaled_sum<real>{nullptr, g.decoder.data(),
                                                   s.log_scale.value.data(), to.data(), to.cols()});
    be.gemm_nt(to, s.points, s.weights.gradient);
    be.row_dots(g.decoder, p.decoder, s.sums);
    be.column_sums(const_view<B>(s.sums.data(), s.sums.cols(), 1), s.log_scale.gradient);
    if (!multiplier) be.fill(s.log_scale.gradient.all(), real{0});
    be.fill(g.decoder.all(), real{0});
  }

  template <class B>
  void step(B& be, state<B>& s, double rate, const_view<B, double> factor) const {
    const auto now = optimizer.template numbers<typename B::real>(++s.t, rate);
    s.for_each([&](auto& l) { be.adam(l.value, l.gradient, l.m, l.v, now, factor); });
  }

  template <class B>
  void after_step(B& be, sae_parameters<B>& p, state<B>& s) const {
    using real = typename B::real;
    auto &a = s.weights.value, &relaxed = s.relaxation.value;
    be.entries(a.rows(), a.cols(), archetypal_detail::not_below_zero<real>{a.data(), a.cols()});
    be.gemm_nt(s.ones, a, s.sums);
    be.reciprocal(real{1}, s.sums, s.sums);
    be.affine_rows(a, s.zero, s.sums, a);
    be.row_norms(relaxed, s.sums);
    be.entries(1, a.rows(),
               dictionary_detail::shrink<real>{s.sums.data(), static_cast<real>(delta)});
    be.affine_rows(relaxed, s.zero, s.sums, relaxed);
    materialize(be, p, s);
  }

 private:
  template <class B>
  static void materialize(B& be, sae_parameters<B>& p, state<B>& s) {
    using real = typename B::real;
    auto& w = p.decoder;
    be.gemm_nn(s.weights.value, s.points, w);
    be.entries(w.rows(), w.cols(),
               archetypal_detail::scaled_sum<real>{w.data(), s.relaxation.value.data(),
                                                   s.log_scale.value.data(), w.data(), w.cols()});
  }
};

}  // namespace plmscope::inline PLMSCOPE_ABI
