// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/core/view.hpp>
#include <plmscope/sae/parameters.hpp>
#include <plmscope/tensor/codes.hpp>
#include <plmscope/tensor/matrix.hpp>
#include <plmscope/train/dead_latents/aux_k.hpp>

#include <cmath>
#include <cstddef>
#include <cstdint>

namespace plmscope::inline PLMSCOPE_ABI {

namespace ghost_detail {

/// factor[r] = |r_r| / (2 |g_r|), 0 where the ghosts say nothing.
template <class Real>
struct half_as_long {
  const Real* residual;
  const Real* ghosts;
  Real* factor;
  PLMSCOPE_HD void operator()(std::size_t, std::size_t r) const {
    factor[r] = ghosts[r] > Real{0} ? residual[r] / (2 * ghosts[r]) : Real{0};
  }
};

/// share[r] = weight |r_r|^2 / (|e_r|^2 + epsilon); squares[r] becomes the row's loss.
template <class Real>
struct as_large {
  const Real* residual;
  Real* squares;
  Real* share;
  Real weight;
  Real epsilon;
  PLMSCOPE_HD void operator()(std::size_t, std::size_t r) const {
    share[r] = weight * residual[r] * residual[r] / (squares[r] + epsilon);
    squares[r] *= share[r];
  }
};

/// The same for every entry: e becomes the derivative with respect to the ghosts' sum, before
/// scaling, and loss[r, j] the entry's loss.
template <class Real>
struct entry_as_large {
  const Real* residual;
  std::size_t residual_stride;
  Real* e;
  Real* loss;
  std::size_t stride;
  const Real* factor;
  Real weight;
  Real epsilon;
  PLMSCOPE_HD void operator()(std::size_t r, std::size_t j) const {
    const Real was = residual[r * residual_stride + j];
    Real& v = e[r * stride + j];
    const Real share = weight * was * was / (v * v + epsilon);
    loss[r * stride + j] = share * v * v;
    v *= 2 * share * factor[r];
  }
};

/// pull *= share, entry by entry.
template <class Real>
struct through_exponential {
  const Real* shares;
  Real* pull;
  std::size_t stride;
  PLMSCOPE_HD void operator()(std::size_t r, std::size_t j) const {
    pull[r * stride + j] *= shares[r * stride + j];
  }
};

}  // namespace ghost_detail

/// Ghost gradients (Jermyn & Templeton 2024, "Ghost grads: an improvement on resampling"): latents
/// that have not fired for `dead_after` tokens are run with an exponential in place of their
/// activation, and their sum, made half as long as the residual r of the living ones, is to
/// reconstruct r. With G = sum_(i dead) exp(a_i) w_i for a row,
///
///   e = G |r| / (2 |G|) - r,   L = alpha mean over rows of (|r|^2 / |e|^2) |e|^2,
///
/// where both fractions and r are held constant: L has the size of the main squared error and a
/// gradient that brings every dead latent's direction towards r. With `by_entry` the second
/// fraction is formed in each dimension (SAELens' former `use_ghost_grads`). Errors are those at
/// the dictionary's scale.
///
/// Cost: that of AuxK's dense products with all dead latents at once, and their pre-activations.
/// Memory: two matrices of rows times dead latents. Waits for the device as AuxK does.
struct ghost_gradients {
  double alpha = 1;                   ///< 0 turns it off and goes on counting
  std::int64_t dead_after = 500'000;  ///< tokens without firing
  double fired_above = 0;
  bool by_entry = false;
  bool count_first = false;  ///< true: this batch's firing decides who is dead in it
  double epsilon = 1e-6;     ///< added to |e|^2, or its entries, where it divides
  static constexpr bool detach_residual = true;

  template <class B>
  struct state {
    using real = typename B::real;
    matrix<std::int64_t, B> since_fired;  ///< [1, F] tokens
    matrix<std::uint32_t, B> ids;         ///< [1, F] dead ones first
    sae_parameters<B> dead, gradient;
    matrix<real, B> shares;  ///< [m, n] exp(a) over its sum in the row
    matrix<real, B> pull;    ///< [m, n]
    matrix<real, B> error;   ///< [m, d] e, then the derivative with respect to sum shares w
    matrix<real, B> long_of, factor, squares, share, zero, scratch;
    std::size_t dead_count = 0;

    template <class F>
    void fields(const F& f) {
      f("since_fired", since_fired);
    }
  };
  template <class B>
  using inputs = aux_k::inputs<B>;

  template <class B>
  state<B> start(B& be, const sae_parameters<B>& p) const {
    state<B> s;
    s.since_fired = matrix<std::int64_t, B>(be, 1, p.encoder.rows());
    s.ids = matrix<std::uint32_t, B>(be, 1, p.encoder.rows());
    return s;
  }

  template <class B>
  void observe(B& be, const codes<B>& z, state<B>& s) const {
    be.count_fired(z, s.since_fired.all(), static_cast<std::int64_t>(z.rows()),
                   static_cast<typename B::real>(fired_above));
  }

  template <class B>
  bool find(B& be, state<B>& s) const {
    s.dead_count = 0;
    if (alpha == 0) return false;
    s.dead_count =
        be.ids_where(const_view<B, std::int64_t>(s.since_fired), dead_after, s.ids.all());
    return s.dead_count > 0;
  }

  template <class B>
  void forward(B& be, const inputs<B>& in, state<B>& s, view<B, double> slot) const {
    using real = typename B::real;
    const std::size_t m = in.centred.rows(), d = in.target.cols();
    gather(be, in, s);
    s.shares.reshape(be, m, s.dead_count);
    be.gemm_nt(in.centred, s.dead.encoder, s.shares);
    be.add_row(s.shares, s.dead.encoder_bias);
    be.softmax_rows(s.shares);  // a row's common factor goes with its length
    s.error.reshape(be, m, d);
    be.gemm_nn(s.shares, s.dead.decoder, s.error);
    for (auto* row : {&s.long_of, &s.factor, &s.squares, &s.share, &s.zero}) row->reshape(be, 1, m);
    be.fill(s.zero.all(), real{0});
    be.row_norms(in.residual, s.long_of);
    be.row_norms(const_view<B>(s.error), s.squares);
    be.entries(
        1, m,
        ghost_detail::half_as_long<real>{s.long_of.data(), s.squares.data(), s.factor.data()});
    be.affine_rows(const_view<B>(s.error), s.zero, s.factor, s.error);
    be.axpy(real{-1}, in.residual, s.error);
    const auto weight = static_cast<real>(alpha / static_cast<double>(m));
    if (by_entry) {
      s.scratch.reshape(be, m, d);
      be.entries(m, d,
                 ghost_detail::entry_as_large<real>{
                     in.residual.data(), in.residual.stride(), s.error.data(), s.scratch.data(), d,
                     s.factor.data(), weight, static_cast<real>(epsilon)});
      be.add_sum(const_view<B>(s.scratch), slot);
      return;
    }
    be.row_dots(const_view<B>(s.error), const_view<B>(s.error), s.squares);
    be.entries(1, m,
               ghost_detail::as_large<real>{s.long_of.data(), s.squares.data(), s.share.data(),
                                            weight, static_cast<real>(epsilon)});
    be.add_sum(const_view<B>(s.squares), slot);
    be.scale_columns(s.share, s.factor);
    be.scale(s.share, real{2});
    be.affine_rows(const_view<B>(s.error), s.zero, s.share, s.error);
  }

  template <class B>
  const_view<B> residual_pull(const state<B>&) const {
    return {};
  }

  template <class B>
  void backward(B& be, const inputs<B>& in, state<B>& s, sae_parameters<B>& gradient,
                view<B> sums) const {
    using real = typename B::real;
    const auto ids = dead_ids(s);
    s.gradient.decoder.reshape(be, s.dead_count, in.parameters.decoder.cols());
    s.gradient.encoder.reshape(be, s.dead_count, in.parameters.encoder.cols());
    s.gradient.encoder_bias.reshape(be, 1, s.dead_count);
    be.gemm_tn(s.shares, s.error, s.gradient.decoder);
    s.pull.reshape(be, in.centred.rows(), s.dead_count);
    be.gemm_nt(s.error, s.dead.decoder, s.pull);
    be.entries(
        s.pull.rows(), s.dead_count,
        ghost_detail::through_exponential<real>{s.shares.data(), s.pull.data(), s.dead_count});
    be.gemm_tn(s.pull, in.centred, s.gradient.encoder);
    be.column_sums(s.pull, s.gradient.encoder_bias);
    be.scatter_add_rows(const_view<B>(s.gradient.decoder), ids, gradient.decoder);
    be.scatter_add_rows(const_view<B>(s.gradient.encoder), ids, gradient.encoder);
    be.scatter_add_rows(as_column(const_view<B>(s.gradient.encoder_bias)), ids, as_column(sums));
  }

 private:
  template <class B>
  static const_view<B, std::uint32_t> dead_ids(const state<B>& s) {
    return const_view<B, std::uint32_t>(s.ids).col_range(0, s.dead_count);
  }
  template <class V>
  static V as_column(V x) {
    return V(x.data(), x.cols(), 1);
  }

  template <class B>
  static void gather(B& be, const inputs<B>& in, state<B>& s) {
    const auto ids = dead_ids(s);
    const auto& p = in.parameters;
    s.dead.encoder.reshape(be, s.dead_count, p.encoder.cols());
    s.dead.decoder.reshape(be, s.dead_count, p.decoder.cols());
    s.dead.encoder_bias.reshape(be, 1, s.dead_count);
    be.gather_rows(const_view<B>(p.encoder), ids, s.dead.encoder);
    be.gather_rows(const_view<B>(p.decoder), ids, s.dead.decoder);
    be.gather_rows(as_column(const_view<B>(p.encoder_bias)), ids,
                   as_column(s.dead.encoder_bias.all()));
  }
};

}  // namespace plmscope::inline PLMSCOPE_ABI
