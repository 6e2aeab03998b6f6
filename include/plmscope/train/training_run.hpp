// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/core/view.hpp>
#include <plmscope/sae/normalizer.hpp>
#include <plmscope/sae/parameters.hpp>
#include <plmscope/tensor/codes.hpp>
#include <plmscope/tensor/codes_by_feature.hpp>
#include <plmscope/tensor/matrix.hpp>
#include <plmscope/train/dead_latents/aux_k.hpp>
#include <plmscope/train/losses.hpp>
#include <plmscope/train/metrics.hpp>
#include <plmscope/train/rules.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>
#include <utility>

namespace plmscope::inline PLMSCOPE_ABI {

/// The state of one training: optimizer moments, dead counters, workspace. `Policies` is a trainer
/// (or any struct with the same fields). One `step` is the whole algorithm, in reading order, in
/// backend primitives. Nothing in it waits for a device except the count of dead latents (AuxK).
template <class Sae, class Policies>
class training_run {
 public:
  using backend_type = typename Sae::backend_type;
  using real = typename Sae::real;
  using optimizer_type = decltype(Policies::optimizer);
  using dead_type = decltype(Policies::dead);

  training_run(Sae& model, const Policies& policies)
      : model_(model),
        be_(model.backend()),
        policies_(policies),
        gradient_(be_, model.features(), model.d_model()),
        optimizer_(policies.optimizer.start(be_, model.parameters())),
        dead_(policies.dead.start(be_, model.parameters())),
        slots_(be_, 1, slot_count) {}

  /// One update on the rows of `x` [m, d] at the given learning rate.
  void step(const_view<backend_type> x, double rate) {
    auto& p = model_.parameters();
    rows_in_batch_ = x.rows();
    policies_.dictionary.before_forward(be_, p);
    forward(x);
    backward(dead_loss());
    policies_.dictionary.before_clip(be_, p, gradient_);
    clip();
    policies_.dictionary.after_clip(be_, p, gradient_);
    policies_.optimizer.step(be_, p, gradient_, optimizer_, rate,
                             const_view<backend_type, double>(slot(slot_clip)));
    policies_.dictionary.after_step(be_, p);
    tokens_ += static_cast<std::int64_t>(x.rows());
  }

  /// Figures of the last step; ask before the model is used for anything else. Waits for the device.
  training_metrics metrics() {
    training_metrics m;
    m.tokens = tokens_;
    be_.fill(slot(slot_loss), 0.0);
    be_.fill(slot(slot_error), 0.0);
    be_.add_sum(const_view<backend_type>(row_stats_).row_range(1, 1), slot(slot_loss));
    const double main = read(slot_loss);
    m.aux_loss = read(slot_aux);
    m.loss = main + m.aux_loss + policies_.extra.loss(be_, extra_);
    m.gradient_norm = std::sqrt(read(slot_norm));
    m.l0 = rows_in_batch_ == 0 ? 0 : entries_in_use() / static_cast<double>(rows_in_batch_);
    const std::size_t dead = be_.ids_where(
        const_view<backend_type, std::int64_t>(dead_.since_fired), policies_.dead.dead_after,
        dead_.ids.all());
    m.dead_share = static_cast<double>(dead) / static_cast<double>(model_.features());
    reconstruction_figures(m);
    return m;
  }

  const codes<backend_type>& last_codes() const noexcept { return z_; }
  const sae_parameters<backend_type>& gradient() const noexcept { return gradient_; }
  typename optimizer_type::template state<backend_type>& optimizer_state() noexcept {
    return optimizer_;
  }
  typename dead_type::template state<backend_type>& dead_state() noexcept { return dead_; }
  std::int64_t tokens() const noexcept { return tokens_; }

 private:
  enum : std::size_t { slot_loss, slot_error, slot_aux, slot_norm, slot_clip, slot_main, slot_count };
  using cmat = const_view<backend_type>;

  view<backend_type, double> slot(std::size_t i) { return slots_.all().col_range(i, 1); }
  double read(std::size_t i) {
    double v = 0;
    be_.download(slot(i), std::span<double>(&v, 1));
    return v;
  }

  // What the host knows of a device's codes is an upper bound.
  double entries_in_use() {
    std::int64_t n = 0;
    be_.download(const_view<backend_type, std::int64_t>(z_.offsets() + z_.rows(), 1),
                 std::span<std::int64_t>(&n, 1));
    return static_cast<double>(n);
  }

  // codes, residual gradient g = s e, and its pull-back dz onto the codes
  void forward(cmat x) {
    centred_ = model_.centred(x);
    target_ = model_.normalized();
    model_.select(centred_, model_.sparsifier(), z_);
    policies_.extra.select(model_, centred_, extra_);
    if (policies_.dead.count_first) observe();

    raw_scale(x);
    rows_ = x;
    const auto loss = policies_.loss.prepare(be_, loss_in());
    g_.reshape(be_, x.rows(), x.cols());
    row_stats_.reshape(be_, 3, x.rows());
    dz_.reshape(be_, 1, std::max<std::size_t>(z_.entries(), 1));
    const auto& p = model_.directions();
    be_.reconstruct(z_, p.decoder, p.decoder_bias, target_, loss, g_, dz_, row_stats_);
    policies_.extra.reconstruct(be_, p, target_, loss, extra_);
  }

  void observe() {
    policies_.dead.observe(be_, policies_.extra.fired(z_, extra_), dead_);
  }

  // For losses at the scale of the activations: per-row weights, and the target in the units in
  // which the reconstruction is brought back.
  void raw_scale(cmat x) {
    weights_ = {};
    offset_ = {};
    if (policies_.loss.space == loss_space::normalized) return;
    if (model_.normalization().kind == normalization::none) return;
    if (model_.normalization().kind != normalization::token_layer_norm) {
      throw error(rules::train_loss_space,
                  {.found = std::string(normalizer::name(model_.normalization().kind))});
    }
    auto& c = model_.normalizer_context();
    const std::size_t m = x.rows();
    weights_.reshape(be_, 1, m);
    offset_.reshape(be_, 1, m);
    inverse_.reshape(be_, 1, m);
    be_.reciprocal(real{1}, c.inverse_factor, inverse_);
    be_.copy(cmat(c.mean), offset_.all());
    be_.scale(offset_, real{-1});
    raw_target_.reshape(be_, m, x.cols());
    be_.affine_rows(x, offset_, inverse_, raw_target_);
    target_ = raw_target_;
    be_.copy(cmat(c.mean), offset_.all());
    be_.affine_rows(cmat(offset_.data(), m, 1), zeros(m), inverse_,
                    view<backend_type>(offset_.data(), m, 1));
    be_.copy(cmat(c.inverse_factor), weights_.all());
    be_.scale_columns(weights_, c.inverse_factor);
  }

  loss_inputs<backend_type> loss_in() {
    return {rows_, target_, weights_, model_.parameters(), work_, row_work_, slot(slot_main)};
  }

  cmat zeros(std::size_t n) {
    if (zeros_.cols() < n) zeros_ = matrix<real, backend_type>(be_, 1, n);
    return cmat(zeros_).col_range(0, n);
  }

  typename dead_type::template inputs<backend_type> dead_inputs() {
    return {model_.directions(), centred_, target_, g_.all(), cmat(row_stats_).row_range(2, 1),
            cmat(weights_),      cmat(offset_)};
  }

  bool dead_loss() {
    const bool any = policies_.dead.forward(be_, dead_inputs(), dead_, slot(slot_aux));
    if (any && !policies_.dead.detach_residual) {
      be_.sampled_dot(z_, g_, model_.directions().decoder, dz_);
    }
    if (!policies_.dead.count_first) observe();
    return any;
  }

  void backward(bool aux) {
    const auto& p = model_.directions();
    be_.transpose(z_, by_feature_);
    be_.sparse_backward(by_feature_, cmat(z_.values(), 1, z_.entries()), dz_, g_, centred_,
                        gradient_.decoder, gradient_.encoder, gradient_.encoder_bias);
    be_.column_sums(g_, gradient_.decoder_bias);
    if constexpr (requires { policies_.loss.add_bias_gradient(be_, loss_in(), cmat(), view<backend_type>()); }) {
      policies_.loss.add_bias_gradient(be_, loss_in(), cmat(row_stats_).row_range(1, 1),
                                       gradient_.decoder_bias.all());
    }
    if (aux) policies_.dead.backward(be_, dead_inputs(), dead_, gradient_);
    policies_.extra.backward(be_, gradient_, extra_);
    // The bias is also subtracted from the input: sum over the batch of -W_e^T da, which needs only
    // the per-latent sums (Gao et al. 2024, released code).
    be_.weighted_row_sum(p.encoder, gradient_.encoder_bias, gradient_.decoder_bias, real{-1});
    model_.pull_back(gradient_);
    if (!policies_.train_encoder_bias) be_.fill(gradient_.encoder_bias.all(), real{0});
  }

  void clip() {
    be_.fill(slot(slot_norm), 0.0);
    gradient_.for_each([&](const char*, auto& g) {
      be_.add_sum_squares(cmat(g), slot(slot_norm));
    });
    if (policies_.clip > 0) {
      be_.clip_factor(slot(slot_norm), policies_.clip, slot(slot_clip));
    } else {
      be_.fill(slot(slot_clip), 1.0);
    }
  }

  // e = g / s; y' = y + e. (With an attached residual g also holds the pull of AuxK.)
  void reconstruction_figures(training_metrics& m) {
    const std::size_t n = rows_in_batch_;
    row_work_.reshape(be_, 1, n);
    be_.reciprocal(real{1}, cmat(row_stats_).row_range(2, 1), row_work_);
    error_.reshape(be_, n, model_.d_model());
    be_.affine_rows(cmat(g_), zeros(n), row_work_, error_);
    scatter_around_mean(be_, cmat(target_), scratch_, slot(slot_loss));
    scatter_around_mean(be_, cmat(error_), scratch_, slot(slot_error));
    const double total = read(slot_loss);
    const double unexplained = read(slot_error);
    std::vector<double> ee(n), ey(n), yy(n);
    dots(error_, error_, ee);
    dots(error_, target_, ey);
    dots(target_, target_, yy);
    double squares = 0;
    double cosine = 0;
    for (std::size_t r = 0; r < n; ++r) {
      squares += ee[r];
      const double length = std::sqrt(yy[r]) * std::sqrt(std::max(0.0, yy[r] + 2 * ey[r] + ee[r]));
      cosine += length > 0 ? (yy[r] + ey[r]) / length : 0;
    }
    m.fvu = total > 0 ? squares / total : 0;
    m.explained_variance = total > 0 ? 1 - unexplained / total : 0;
    m.cosine = n > 0 ? cosine / static_cast<double>(n) : 0;
  }

  void dots(cmat a, cmat b, std::vector<double>& out) {
    be_.row_dots(a, b, row_work_);
    be_.download(cmat(row_work_), std::span<double>(out));
  }

  Sae& model_;
  backend_type& be_;
  Policies policies_;
  sae_parameters<backend_type> gradient_;
  typename optimizer_type::template state<backend_type> optimizer_;
  typename dead_type::template state<backend_type> dead_;
  typename decltype(Policies::extra)::template state<backend_type> extra_;
  codes<backend_type> z_;
  codes_by_feature<backend_type> by_feature_;
  cmat rows_, centred_, target_;
  matrix<real, backend_type> g_, dz_, row_stats_, weights_, offset_, inverse_, raw_target_, zeros_;
  matrix<real, backend_type> work_, row_work_, error_, scratch_;
  matrix<double, backend_type> slots_;
  std::size_t rows_in_batch_ = 0;
  std::int64_t tokens_ = 0;
};

}  // namespace plmscope
