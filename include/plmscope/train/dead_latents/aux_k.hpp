// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/backend/precision.hpp>
#include <plmscope/backend/primitives.hpp>
#include <plmscope/core/view.hpp>
#include <plmscope/sae/parameters.hpp>
#include <plmscope/sae/row_lengths.hpp>
#include <plmscope/tensor/codes.hpp>
#include <plmscope/tensor/matrix.hpp>
#include <plmscope/train/dead_latents/dead_columns.hpp>
#include <plmscope/train/dead_latents/dead_products.hpp>
#include <plmscope/train/losses.hpp>
#include <plmscope/train/reconstruction.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <utility>

namespace plmscope::inline PLMSCOPE_ABI {

/// AuxK (Gao et al. 2024, appendix A.2): latents that have not fired for `dead_after` tokens try to
/// reconstruct, k_aux at a time, what the living ones missed; loss alpha |r - r'|^2, scaled by the
/// variance of r. Dead latents are gathered into a small dictionary. Their pre-activations are
/// those that the encoder has computed anyway; what is left to pay are four products over the
/// selected entries (`dead_products`).
///
/// Defaults follow dictionary_learning; the fields below `alpha` and `k` that differ between
/// published trainers reproduce those trainers (see docs/concepts/dead_latents.md).
struct aux_k {
  double alpha = 1.0 / 32;
  std::size_t k = 0;                  ///< 0: half the width of a row
  std::int64_t dead_after = 500'000;  ///< tokens without firing; dead means at least this many
  double fired_above = 0;             ///< a latent fires when its value exceeds this

  enum class scaling {
    residual_variance,  ///< / sum |r - mean(r)|^2 (OpenAI, dictionary_learning)
    row_residual,       ///< each row by its own |r|^2 (BioNeMo)
    target_variance,    ///< / sum |y - mean(y)|^2 (sparsify)
    summed,             ///< mean over rows, sum over dimensions (SAELens)
    averaged            ///< mean over rows and dimensions (matryoshka_sae, InterProt)
  };
  scaling scale = scaling::residual_variance;
  bool count_first = true;      ///< this batch's firing decides who is dead in it
  bool detach_residual = true;  ///< no gradient through r into the main reconstruction
  bool positive = true;         ///< relu on the dead latents' values
  bool reaches_encoder = true;  ///< gradients flow into encoder rows and biases
  bool ramp = false;            ///< times min(dead / (d / 2), 1)
  bool with_bias = false;       ///< r' contains decoder bias and row mean (InterProt)
  /// Of the dense products over the dead, taken where k is a large part of them; bf16 more than
  /// halves their time.
  product_precision product = product_precision::fp32;

  template <class B>
  struct state {
    matrix<std::int64_t, B> since_fired;  ///< [1, F] tokens
    matrix<std::uint32_t, B> ids;         ///< [1, F] dead ones first
    sae_parameters<B> dead;               ///< the gathered sub-dictionary, with rows of zeros
    sae_parameters<B> gradient;
    matrix<typename B::real, B> pre, residual, g, rows, weights, work, lengths;
    matrix<double, B> denominator;
    codes<B> z;
    dead_columns<B> seen;
    dead_products<B> products;
    matrix<std::uint32_t, B> next, soon;  ///< [1, F] those asked for: the dead, the dead before long
    typename B::count dead_now = {};      ///< how many of `next`, and of `soon`, when `asked`
    typename B::count dead_soon = {};
    bool asked = false;
    std::size_t dead_count = 0;
    std::int64_t tokens = 0;      ///< observed so far
    std::int64_t next_check = 0;  ///< before this many tokens no latent can be dead

    template <class F>
    void fields(const F& f) {
      f("since_fired", since_fired);
      f("tokens", tokens);
      f("next_check", next_check);
    }
  };

  template <class B>
  state<B> start(B& be, const sae_parameters<B>& p) const {
    state<B> s;
    s.since_fired = matrix<std::int64_t, B>(be, 1, p.encoder.rows());
    s.ids = matrix<std::uint32_t, B>(be, 1, p.encoder.rows());
    s.next = matrix<std::uint32_t, B>(be, 1, p.encoder.rows());
    s.soon = matrix<std::uint32_t, B>(be, 1, p.encoder.rows());
    s.denominator = matrix<double, B>(be, 1, 1);
    s.next_check = dead_after;
    s.products.round(be, product);
    return s;
  }

  template <class B>
  void observe(B& be, const codes<B>& z, state<B>& s) const {
    s.tokens += static_cast<std::int64_t>(z.rows());
    be.count_fired(z, s.since_fired.all(), static_cast<std::int64_t>(z.rows()),
                   static_cast<typename B::real>(fired_above));
    ask(be, s);
  }

  /// What the loss of one step looks at.
  template <class B>
  struct inputs {
    const sae_parameters<B>& parameters;
    const_view<B> centred;      ///< [m, d_in]
    const_view<B> target;       ///< [m, d] what the main reconstruction aims at
    const_view<B> residual;     ///< [m, d] r = target - result
    const_view<B> row_weights;  ///< [1, m] squared deviations for losses at raw scale, or empty
    const_view<B> row_offset;   ///< [1, m] mean / deviation for `with_bias`, or empty
    const_view<B> row_lengths;  ///< [1, F] when selection ranks by a_i |w_i|, or empty
    reconstruction<B>* result = nullptr;  ///< for the residuals of prefixes
    dead_columns<B>* seen = nullptr;      ///< pre-activations kept elsewhere than in the state
  };

  /// Before the forward pass on `rows` rows: whether `see` may keep any pre-activations.
  template <class B>
  bool expect(B& be, std::size_t rows, state<B>& s) const {
    const std::int64_t more = count_first ? static_cast<std::int64_t>(rows) : 0;
    s.seen.clear();
    if (alpha == 0 || s.tokens + more < s.next_check) return false;
    return s.seen.expect(be, s.since_fired, dead_after - more, rows);
  }
  /// The next tile of the encoder's pre-activations [.., F], biases in them.
  template <class B>
  void see(B& be, const_view<B> pre, state<B>& s) const {
    s.seen.take(be, pre);
  }

  /// The number of the dead. A device was asked for it as soon as a batch had fired, and has the
  /// reconstruction to do while the host waits for the answer. Where all latents have fired lately,
  /// the next question comes when the first of them can be dead.
  template <class B>
  bool find(B& be, state<B>& s) const {
    s.dead_count = 0;
    if (!s.asked) ask(be, s);  // a training that was taken up again
    if (!s.asked) return false;
    s.asked = false;
    std::swap(s.ids, s.next);  // who observes after the loss asks again before the gradient is taken
    s.dead_count = s.dead_now;
    if (s.dead_count == 0 && s.dead_soon == 0) s.next_check = s.tokens + soon();
    return s.dead_count > 0;
  }

  /// Runs the dead sub-dictionary on r, when `find` has found some; the loss goes to slot. With an
  /// attached residual `residual_pull` is to be added to the gradient of the main result.
  template <class B>
  void forward(B& be, const inputs<B>& in, state<B>& s, view<B, double> slot) const {
    const std::size_t m = in.centred.rows();
    const std::size_t d = in.target.cols();
    const auto ids = const_view<B, std::uint32_t>(s.ids).col_range(0, s.dead_count);
    s.work.reshape(be, 1, m);
    s.weights.reshape(be, 1, m);
    gather(be, in.parameters.decoder, ids, s.dead.decoder);
    select(be, in, ids, std::min(k == 0 ? d / 2 : k, s.dead_count), s);

    const const_view<B> aim = this->aim(be, in, s);
    const auto loss = row_loss(be, in, aim, s);
    s.g.reshape(be, m, d);
    s.rows.reshape(be, 3, m);
    s.products.choose(s.z);
    s.products.forward(be, s.z, s.dead.decoder,
                       with_bias ? const_view<B>(in.parameters.decoder_bias) : const_view<B>(), aim,
                       loss, s.g.all(), s.rows.all());
    be.add_sum(const_view<B>(s.rows).row_range(1, 1), slot);
  }

  /// The derivative of the loss with respect to the main result, [m, d].
  template <class B>
  const_view<B> residual_pull(const state<B>& s) const {
    return s.g;
  }

  /// Adds the gradients of the dead rows, and of the bias when it is part of r'; `sums` [1, F] are
  /// the sums of the derivatives with respect to pre-activations.
  template <class B>
  void backward(B& be, const inputs<B>& in, state<B>& s, sae_parameters<B>& gradient,
                view<B> sums) const {
    using real = typename B::real;
    const auto ids = const_view<B, std::uint32_t>(s.ids).col_range(0, s.dead_count);
    const std::size_t padded = s.dead.decoder.rows();
    s.gradient.decoder.reshape(be, padded, in.parameters.decoder.cols());
    if (reaches_encoder) {
      s.gradient.encoder.reshape(be, padded, in.parameters.encoder.cols());
      s.gradient.encoder_bias.reshape(be, 1, padded);
    }
    s.products.backward(be, s.z, s.g, in.centred, reaches_encoder, s.gradient);
    const auto living = [&](const auto& g) { return const_view<B>(g).row_range(0, s.dead_count); };
    be.scatter_add_rows(living(s.gradient.decoder), ids, gradient.decoder);
    if (reaches_encoder) {
      be.scatter_add_rows(living(s.gradient.encoder), ids, gradient.encoder);
      be.scatter_add_rows(
          as_column(const_view<B>(s.gradient.encoder_bias).col_range(0, s.dead_count)), ids,
          as_column(sums));
    }
    if (with_bias) {
      s.work.reshape(be, 1, s.g.cols());
      be.column_sums(s.g, s.work);
      be.axpy(real{1}, s.work, gradient.decoder_bias);
    }
  }

 private:
  /// Tokens that are not worth another question.
  std::int64_t soon() const noexcept { return dead_after / 4; }

  template <class B>
  void ask(B& be, state<B>& s) const {
    s.asked = alpha != 0 && s.tokens >= s.next_check;
    if (!s.asked) return;
    const const_view<B, std::int64_t> since = s.since_fired;
    s.dead_now = be.ids_where(since, dead_after, s.next.all());
    s.dead_soon = be.ids_where(since, dead_after - soon(), s.soon.all());
  }

  template <class V>
  static V as_column(V x) {
    return V(x.data(), x.cols(), 1);
  }

  // Rows of the dead latents, then zeros.
  template <class B>
  static void gather(B& be, const matrix<typename B::real, B>& from,
                     const_view<B, std::uint32_t> ids, matrix<typename B::real, B>& out) {
    const std::size_t n = ids.cols();
    const std::size_t padded = dead_products<B>::padded(n);
    out.reshape(be, padded, from.cols());
    be.gather_rows(from.all(), ids, out.all().row_range(0, n));
    be.fill(out.all().row_range(n, padded - n), typename B::real{0});
  }

  // The k_aux first of the dead latents for every row.
  template <class B>
  void select(B& be, const inputs<B>& in, const_view<B, std::uint32_t> ids, std::size_t width,
              state<B>& s) const {
    using real = typename B::real;
    if (!in.row_lengths.empty()) {
      s.lengths.reshape(be, 1, s.dead_count);
      be.gather_rows(as_column(in.row_lengths), ids, as_column(s.lengths.all()));
    }
    dead_columns<B>& seen = in.seen == nullptr ? s.seen : *in.seen;
    const const_view<B> pre =
        seen.has(in.centred.rows()) ? seen.pick(be, ids) : compute_pre(be, in, ids, s);
    s.z.clear(be, s.dead_count);
    if (positive) {
      be.top_k_rows(pre, width, by_value{}, s.z);
    } else {
      be.top_k_rows(pre, width, by_raw_value{}, s.z);
    }
    if (!in.row_lengths.empty()) {
      be.reciprocal(real{1}, s.lengths, s.lengths);
      be.each_entry(s.z, times_by_feature<real>{s.z.values(), s.lengths.data()});
    }
  }

  // For those whose encoder's tiles nobody has seen.
  template <class B>
  static const_view<B> compute_pre(B& be, const inputs<B>& in, const_view<B, std::uint32_t> ids,
                                   state<B>& s) {
    gather(be, in.parameters.encoder, ids, s.dead.encoder);
    s.dead.encoder_bias.reshape(be, 1, s.dead_count);
    be.gather_rows(as_column(const_view<B>(in.parameters.encoder_bias)), ids,
                   as_column(s.dead.encoder_bias.all()));
    s.pre.reshape(be, in.centred.rows(), s.dead.encoder.rows());
    be.gemm_nt(in.centred, s.dead.encoder, s.pre);
    const view<B> pre = s.pre.all().col_range(0, s.dead_count);
    be.add_row(pre, s.dead.encoder_bias);
    if (!in.row_lengths.empty()) be.scale_columns(pre, s.lengths);
    return pre;
  }

  // What the dead latents are to reconstruct.
  template <class B>
  const_view<B> aim(B& be, const inputs<B>& in, state<B>& s) const {
    if (!with_bias || in.row_offset.empty()) return in.residual;
    s.residual.reshape(be, in.residual.rows(), in.residual.cols());
    be.copy(in.residual, s.residual.all());
    subtract_offset(be, in.row_offset, s);
    return s.residual;
  }

  template <class B>
  static void subtract_offset(B& be, const_view<B> offset, state<B>& s) {
    using real = typename B::real;
    be.fill(s.work.all(), real{1});
    be.copy(offset, s.weights.all());
    be.scale(s.weights, real{-1});
    be.affine_rows(const_view<B>(s.residual), s.weights, s.work, s.residual);
  }

  template <class B>
  weighted_squares<typename B::real> row_loss(B& be, const inputs<B>& in, const_view<B> aim,
                                              state<B>& s) const {
    using real = typename B::real;
    const std::size_t d = in.target.cols();
    double factor = alpha;
    if (ramp) {
      factor *= std::min(1.0, static_cast<double>(s.dead_count) / static_cast<double>(d / 2));
    }
    const auto rows = static_cast<double>(in.target.rows());
    switch (scale) {
      case scaling::residual_variance:
        scatter_around_mean(be, aim, s.g, s.denominator.all());
        return {static_cast<real>(factor), nullptr, s.denominator.data()};
      case scaling::target_variance:
        scatter_around_mean(be, in.target, s.g, s.denominator.all());
        return {static_cast<real>(factor), nullptr, s.denominator.data()};
      case scaling::row_residual:
        be.row_dots(aim, aim, s.weights);
        be.fill(s.work.all(), static_cast<real>(1e-8 * static_cast<double>(d)));
        be.axpy(real{1}, s.work, s.weights);
        be.reciprocal(real{1}, s.weights, s.weights);
        return {static_cast<real>(factor / rows), s.weights.data(), nullptr};
      case scaling::summed:
        return {static_cast<real>(factor / rows), in.row_weights.data(), nullptr};
      case scaling::averaged:
        return {static_cast<real>(factor / (rows * static_cast<double>(d))), in.row_weights.data(),
                nullptr};
    }
    return {};
  }
};

}  // namespace plmscope::inline PLMSCOPE_ABI
