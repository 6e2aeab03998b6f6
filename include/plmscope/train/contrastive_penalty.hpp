// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/core/view.hpp>
#include <plmscope/sae/parameters.hpp>
#include <plmscope/tensor/matrix.hpp>
#include <plmscope/train/penalty_weights.hpp>
#include <plmscope/train/step_context.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>

namespace plmscope::inline PLMSCOPE_ABI {

namespace contrastive_detail {

// Entries of the first latents of 2 n rows, as a dense matrix.
template <class Real>
struct spread {
  const Real* values;
  Real* dense;
  std::size_t latents, rows;
  PLMSCOPE_HD void operator()(std::size_t row, std::size_t e, std::uint32_t f) const {
    if (row < rows && f < latents) dense[row * latents + f] = values[e];
  }
};
template <class Real>
struct collect {
  const Real* dense;
  Real* pull;
  std::size_t latents, rows;
  PLMSCOPE_HD void operator()(std::size_t row, std::size_t e, std::uint32_t f) const {
    if (row < rows && f < latents) pull[e] += dense[row * latents + f];
  }
};
// -log of the probabilities of the pairs, which then become p - 1.
template <class Real>
struct of_pairs {
  Real* forth;
  Real* back;
  Real* value;
  std::size_t n;
  Real least;
  PLMSCOPE_HD void operator()(std::size_t, std::size_t i) const {
    using std::log;
    Real& p = forth[i * n + i];
    Real& q = back[i * n + i];
    value[i] = -log(p > least ? p : least) - log(q > least ? q : least);
    p -= 1;
    q -= 1;
  }
};

}  // namespace contrastive_detail

/// Contrast between pairs of rows (T-SAE; Bhalla et al. 2025): general latents, the first `share`
/// of all, should tell a residue's neighbour from other residues. For 2 n rows of which row i
/// belongs to row i + n (`paired_rows`), with h_i the codes of row i over these latents and s their
/// similarity:
///
///   weight / 2n sum_(i < n) ( -log softmax_j(s(h_i, h_(j+n)) / t)_i
///                             -log softmax_j(s(h_j, h_(i+n)) / t)_i )
///
/// s is the cosine, as in the paper, or with `cosine` false the product, as in the authors' trainer
/// (which reconstructs the first rows alone; here both count). Rows without an active
/// general latent are like none, and get no gradient from a cosine. The value of a pair ends at
/// -log of the smallest number; its gradient does not. With `matryoshka`, whose first end should be
/// at the same latent. A last row without a partner is left out.
///
/// Acts on values, for a gated SAE on the gate. Cost: six products n n share F, where n is half the
/// batch; memory: two [n, n] and two or three [2 n, share F].
struct contrastive_penalty {
  warmed_weight weight = {.value = 0.1};
  double share = 0.2;      ///< of the latents
  double temperature = 1;  ///< t
  bool cosine = true;

  template <class B>
  struct state {
    using real = typename B::real;
    matrix<real, B> h, pull, forth, back, lengths, zero, value;
    matrix<double, B> slot;
    warmed_weight::state weight;
    double factor = 0;  ///< weight / 2n of the last step

    template <class F>
    void fields(const F&) {}  // workspace
  };

  template <class B>
  void on_values(B& be, step_context<B>& c, state<B>& s) const {
    using real = typename B::real;
    const std::size_t n = c.rows() / 2;
    const auto wanted = std::round(share * static_cast<double>(c.features()));
    const std::size_t latents =
        wanted > 0 ? std::min(static_cast<std::size_t>(wanted), c.features()) : 0;
    s.factor = n == 0 || latents == 0 ? 0 : weight(be, c, s.weight) / static_cast<double>(2 * n);
    if (s.factor == 0) return;
    s.h.reshape(be, 2 * n, latents);
    be.fill(s.h.all(), real{0});
    be.each_entry(c.z,
                  contrastive_detail::spread<real>{c.penalised.data(), s.h.data(), latents, 2 * n});
    if (cosine) {
      s.lengths.reshape(be, 1, 2 * n);
      be.row_norms(const_view<B>(s.h), s.lengths);
      be.normalize_rows(s.h, real{0});
    }
    const auto slope = static_cast<real>(s.factor / temperature);
    const auto first = const_view<B>(s.h).row_range(0, n),
               second = const_view<B>(s.h).row_range(n, n);
    probabilities(be, first, second, s.forth);
    probabilities(be, second, first, s.back);
    s.value.reshape(be, 1, n);
    be.entries(1, n,
               contrastive_detail::of_pairs<real>{s.forth.data(), s.back.data(), s.value.data(), n,
                                                  std::numeric_limits<real>::min()});
    if (s.slot.empty()) s.slot = matrix<double, B>(be, 1, 1);
    be.fill(s.slot.all(), 0.0);
    be.add_sum(const_view<B>(s.value), s.slot.all());
    // d/dh_i of both sums
    s.pull.reshape(be, 2 * n, latents);
    const auto to_first = s.pull.all().row_range(0, n), to_second = s.pull.all().row_range(n, n);
    be.gemm_nn(s.forth, second, to_first);
    be.gemm_tn(s.back, second, to_first, real{1});
    be.gemm_nn(s.back, first, to_second);
    be.gemm_tn(s.forth, first, to_second, real{1});
    be.scale(s.pull, slope);
    if (cosine) through_lengths(be, s);
    be.each_entry(c.z, contrastive_detail::collect<real>{s.pull.data(), c.penalised_pull.data(),
                                                         latents, 2 * n});
  }

  template <class B>
  double loss(B& be, state<B>& s) const {
    if (s.factor == 0) return 0;
    double sum = 0;
    be.download(const_view<B, double>(s.slot), std::span<double>(&sum, 1));
    return s.factor * sum;
  }

 private:
  template <class B>
  void probabilities(B& be, const_view<B> of, const_view<B> among,
                     matrix<typename B::real, B>& out) const {
    using real = typename B::real;
    out.reshape(be, of.rows(), among.rows());
    be.gemm_nt(of, among, out);
    be.scale(out, static_cast<real>(1 / temperature));
    be.softmax_rows(out);
  }

  template <class B>
  static void through_lengths(B& be, state<B>& s) {
    using real = typename B::real;
    s.zero.reshape(be, 1, s.h.rows());
    be.fill(s.zero.all(), real{0});
    be.project_rows(s.pull, s.h, real{0});
    be.reciprocal(real{1}, const_view<B>(s.lengths), s.lengths);
    be.affine_rows(const_view<B>(s.pull), s.zero, s.lengths, s.pull);
  }
};

}  // namespace plmscope::inline PLMSCOPE_ABI
