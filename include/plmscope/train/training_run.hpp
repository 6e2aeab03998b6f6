// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/core/view.hpp>
#include <plmscope/sae/normalizer.hpp>
#include <plmscope/sae/parameters.hpp>
#include <plmscope/sae/row_encoder.hpp>
#include <plmscope/sae/sae.hpp>
#include <plmscope/sae/selection.hpp>
#include <plmscope/tensor/codes.hpp>
#include <plmscope/tensor/codes_by_feature.hpp>
#include <plmscope/tensor/matrix.hpp>
#include <plmscope/train/concepts.hpp>
#include <plmscope/train/dead_latents/aux_k.hpp>
#include <plmscope/train/dead_mask.hpp>
#include <plmscope/train/dictionary_training.hpp>
#include <plmscope/train/extra_terms.hpp>
#include <plmscope/train/losses.hpp>
#include <plmscope/train/metrics.hpp>
#include <plmscope/train/penalties.hpp>
#include <plmscope/train/raw_target.hpp>
#include <plmscope/train/reconstruction.hpp>
#include <plmscope/train/rules.hpp>
#include <plmscope/train/sparsifier_training.hpp>
#include <plmscope/train/step_context.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

namespace plmscope::inline PLMSCOPE_ABI {

/// The state of one training: optimizer moments, dead counters, workspace. `Policies` is a trainer
/// (or any struct with the same fields). One `step` is the whole algorithm, in reading order, in
/// backend primitives. Nothing in it waits for a device but policies that say so; the number of dead
/// latents (AuxK) is asked for early and read while the device works.
template <class Sae, class Policies>
class training_run {
  static_assert(require_policies<Policies, training_run, typename Sae::backend_type>::value);

 public:
  using backend_type = typename Sae::backend_type;
  using real = typename Sae::real;
  using optimizer_type = decltype(Policies::optimizer);
  using dictionary_type = decltype(Policies::dictionary);
  using dead_type = decltype(Policies::dead);
  using penalty_type = decltype(Policies::penalty);
  using upkeep_type = decltype(Policies::upkeep);

  training_run(Sae& model, const Policies& policies)
      : model_(model),
        be_(model.backend()),
        policies_(policies),
        gradient_(model.parameters().zeros_like(be_)),
        optimizer_(policies.optimizer.start(be_, model.parameters())),
        dictionary_(be_, policies.dictionary, policies.optimizer, model.parameters()),
        dead_(policies.dead.start(be_, model.parameters())),
        sparsify_(be_, model.sparsifier()),
        result_(be_),
        sums_(be_, 1, model.features()),
        slots_(be_, 1, slot_count) {
    if (model.settings().lengths == row_lengths::in_codes && !model.parameters().latent.empty()) {
      throw error(rules::train_own_parameters, {});
    }
  }

  /// One update on the rows of `x` [m, d_in] at the given learning rate. Transcoders aim at the rows
  /// of `y` [m, d_out].
  void step(const_view<backend_type> x, double rate, const_view<backend_type> y = {}) {
    auto& p = model_.parameters();
    rows_in_batch_ = x.rows();
    policies_.upkeep.before_step(*this, x, upkeep_);
    sparsify_.before_step(be_, model_.sparsifier(), p);
    dictionary_.before_forward(policies_.dictionary, be_, p);
    forward(x, y);
    const bool aux = dead_loss();
    pull_back();
    backward(aux);
    dictionary_.before_clip(policies_.dictionary, be_, p, gradient_);
    clip();
    dictionary_.after_clip(policies_.dictionary, be_, p, gradient_);
    const const_view<backend_type, double> factor = slot(slot_clip);
    dictionary_.step(policies_.dictionary, policies_.optimizer, be_, p, gradient_, optimizer_, rate,
                     factor);
    if constexpr (requires { policies_.optimizer.after_step(be_, p, optimizer_); }) {
      policies_.optimizer.after_step(be_, p, optimizer_);
    }
    sparsify_.after_step(be_, model_.sparsifier(), p);
    tokens_ += static_cast<std::int64_t>(x.rows());
    policies_.upkeep.after_step(*this, x, y, upkeep_);
    ++step_;
  }

  /// What the sparsifier has learned beside its parameters goes into the model, and so do the
  /// averages of an optimizer that keeps some. Waits for the device.
  void finish() {
    sparsify_.finish(be_, model_.sparsifier());
    if constexpr (requires { policies_.optimizer.finish(be_, model_.parameters(), optimizer_); }) {
      policies_.optimizer.finish(be_, model_.parameters(), optimizer_);
      if constexpr (!decltype(dictionary_)::has_state) {
        dictionary_.after_step(policies_.dictionary, be_, model_.parameters());
      }
    }
  }

  /// Figures of the last step; ask before the model is used for anything else. Waits for the device.
  training_metrics metrics() {
    training_metrics m;
    m.tokens = tokens_;
    m.aux_loss = read(slot_aux);
    m.penalty = policies_.penalty.loss(be_, penalty_);
    m.loss = result_.loss(be_) + m.aux_loss + m.penalty + read(slot_second) +
             policies_.extra.loss(be_, extra_);
    m.gradient_norm = std::sqrt(read(slot_norm));
    m.l0 = rows_in_batch_ == 0 ? 0 : active_entries() / static_cast<double>(rows_in_batch_);
    const std::size_t dead = be_.ids_where(
        const_view<backend_type, std::int64_t>(dead_.since_fired), policies_.dead.dead_after,
        dead_.ids.all());
    m.dead_share = static_cast<double>(dead) / static_cast<double>(model_.features());
    result_.figures(be_, target_, m);
    return m;
  }

  Sae& model() noexcept { return model_; }
  backend_type& backend() noexcept { return be_; }
  const codes<backend_type>& last_codes() const noexcept { return z_; }
  const codes_by_feature<backend_type>& by_feature() const noexcept { return by_feature_; }
  /// Of the last step, before what the optimizer does to it in its own pass (`unit_norm`).
  const sae_parameters<backend_type>& gradient() const noexcept { return gradient_; }
  typename optimizer_type::template state<backend_type>& optimizer_state() noexcept {
    return optimizer_;
  }
  typename dead_type::template state<backend_type>& dead_state() noexcept { return dead_; }
  auto& dictionary_state() noexcept { return dictionary_.get(); }
  /// f(name, value) for all that the next step depends on beside policies, rows and rate.
  template <class F>
  void fields(const F& f) {
    f("parameters", model_.parameters());
    f("optimizer", optimizer_);
    f("dictionary", dictionary_.get());
    f("dead", dead_);
    f("extra", extra_);
    f("penalty", penalty_);
    f("upkeep", upkeep_);
    f("sparsifier", sparsify_.get());
    f("step", step_);
    f("tokens", tokens_);
  }
  /// Steps done, and rows seen in them.
  std::size_t steps() const noexcept { return step_; }
  std::int64_t tokens() const noexcept { return tokens_; }

 private:
  /// Tiles are shown to the dead-latent policy where they are whole pre-activations.
  static constexpr bool dead_sees =
      train_concepts::sees_tiles<dead_type, backend_type> &&
      sae_concepts::adds_encoder_bias<typename Sae::sparsifier_type> &&
      !row_encoder_for<typename Sae::sparsifier_type, backend_type>;

  enum : std::size_t { slot_aux, slot_second, slot_norm, slot_clip, slot_main, slot_l0, slot_count };
  using cmat = const_view<backend_type>;

  view<backend_type, double> slot(std::size_t i) { return slots_.all().col_range(i, 1); }
  double read(std::size_t i) {
    double v = 0;
    be_.download(slot(i), std::span<double>(&v, 1));
    return v;
  }

  // What the host knows of a device's codes is an upper bound, and a list may hold zeros.
  double active_entries() {
    count_active();
    matrix<double, backend_type> n(be_, 1, 1);
    be_.add_sum(cmat(active_), n.all());
    double v = 0;
    be_.download(const_view<backend_type, double>(n), std::span<double>(&v, 1));
    return v;
  }
  void count_active() {
    ones_.reshape(be_, 1, std::max<std::size_t>(z_.entries(), 1));
    active_.reshape(be_, 1, model_.features());
    be_.each_entry(z_, is_active<real>{z_.values(), ones_.data()});
    sum_by_feature(be_, by_feature_, cmat(ones_), active_.all());
  }

  // codes, the derivative with respect to the result, and its pull-back dz onto the codes
  void forward(cmat x, cmat y) {
    centred_ = model_.centred(x);
    target_ = model_.target(y);
    select();
    if (policies_.dead.count_first) observe();
    if constexpr (penalty::wants_dead<penalty_type>) {
      mask_.reshape(be_, 1, model_.features());
      be_.entries(1, model_.features(),
                  dead_mask<real>{dead_.since_fired.data(), policies_.dead.dead_after,
                                  mask_.data()});
    }
    if (raw_.take(be_, x, model_, policies_.loss.space)) target_ = raw_.target();
    rows_ = x;
    const auto loss = policies_.loss.prepare(be_, loss_in());
    dz_.reshape(be_, 1, std::max<std::size_t>(z_.entries(), 1));
    const auto& p = model_.directions();
    result_.run(be_, policies_.plan, {step_, p, model_.normalized(), target_, z_,
                                      model_.settings().blocks,
                                      sparsify_.offset(be_, model_.sparsifier(), p),
                                      &model_.result_normalizer(), &model_.result_context()},
                policies_.loss, loss, dz_.all());
    policies_.extra.reconstruct(be_, p, result_.aim(), loss, extra_);
    be_.fill(slot(slot_second), 0.0);
    be_.fill(slot(slot_l0), 0.0);
    if constexpr (penalty::counts_active<penalty_type> || sparsify_type::pulls) {
      count_active();
    }
    sparsify_.reconstruct(be_, model_.sparsifier(), context(), loss, slot(slot_second));
  }

  void select() {
    z_.clear(be_, model_.features());
    policies_.extra.clear(be_, model_.features(), extra_);
    if constexpr (row_encoder_for<sparsifier_type, backend_type>) {
      static_assert(std::is_same_v<decltype(Policies::extra), no_extra_term>,
                    "plmscope: a sparsifier that encodes rows by itself has one result");
      sparsify_.encode(be_, model_.sparsifier(), model_.encoder_rows(centred_), z_);
    } else {
      select_from_tiles();
      model_.unscale(z_);
      sparsify_.activate(be_, model_.sparsifier(), model_.directions(), z_);
    }
    be_.transpose(z_, by_feature_);
  }

  // A screened encoder is right where the sparsifier looks, so for nobody else's eyes.
  void select_from_tiles() {
    const selection<backend_type> in{model_.parameters(), centred_.rows(), model_.rank_scale()};
    bool looked_at = !std::is_same_v<decltype(Policies::extra), no_extra_term>;
    if constexpr (dead_sees) looked_at |= policies_.dead.expect(be_, centred_.rows(), dead_);
    const auto candidates = [&](const auto& pre) {
      sparsify_.candidates(be_, model_.sparsifier(), pre, in, z_);
    };
    if (!looked_at) return model_.template for_each_tile_for<sparsifier_type>(centred_, candidates);
    model_.for_each_tile(centred_, [&](cmat pre) {
      if constexpr (dead_sees) policies_.dead.see(be_, pre, dead_);
      candidates(pre);
      policies_.extra.select(be_, model_.sparsifier(), pre, in, extra_);
    });
  }

  void observe() {
    policies_.dead.observe(be_, policies_.extra.fired(z_, extra_), dead_);
  }

  loss_inputs<backend_type> loss_in() {
    return {rows_, target_, raw_.weights(), model_.parameters(), work_, row_work_, slot(slot_main),
            model_.settings().blocks};
  }

  typename dead_type::template inputs<backend_type> dead_inputs(cmat residual = {}) {
    return {model_.directions(), centred_,      target_,              residual,
            raw_.weights(), raw_.offset(), model_.rank_scale(),   &result_, {}};
  }

  bool dead_loss() {
    be_.fill(slot(slot_aux), 0.0);
    const bool any = policies_.dead.find(be_, dead_);
    if (any) {
      policies_.dead.forward(be_, dead_inputs(result_.residual(be_)), dead_, slot(slot_aux));
      if (!policies_.dead.detach_residual) {
        result_.add_pull(be_, policies_.dead.residual_pull(dead_), z_, model_.directions(),
                         dz_.all());
      }
    }
    if (!policies_.dead.count_first) observe();
    return any;
  }

  step_context<backend_type> context() {
    const auto values = view<backend_type>(z_.values(), 1, z_.entries());
    const auto dz = dz_.all().col_range(0, z_.entries());
    return {step_,
            policies_.steps,
            model_.directions(),
            model_.settings().blocks,
            model_.normalized(),
            centred_,
            result_.aim(),
            z_,
            by_feature_,
            dz,
            result_.bias_pull(),
            cmat(active_),
            sparsify_.penalised(values, model_.sparsifier()),
            sparsify_.penalised_pull(dz, model_.sparsifier()),
            result_.latent_shares(),
            cmat(mask_),
            slot(slot_l0)};
  }

  // penalties, then from values to pre-activations
  void pull_back() {
    auto c = context();
    penalty::on_values(policies_.penalty, be_, c, penalty_);
    sparsify_.pull(be_, model_.sparsifier(), c);
    penalty::on_pre(policies_.penalty, be_, c, penalty_);
  }

  void backward(bool aux) {
    const auto& p = model_.directions();
    auto c = context();
    result_.backward(be_, by_feature_, z_, c.dz, centred_, gradient_, sums_.all());
    be_.column_sums(result_.bias_pull(), gradient_.decoder_bias);
    be_.fill(gradient_.encoder_bias.all(), real{0});
    if constexpr (requires { policies_.loss.add_bias_gradient(be_, loss_in(), cmat(), view<backend_type>()); }) {
      policies_.loss.add_bias_gradient(be_, loss_in(), result_.row_losses(),
                                       gradient_.decoder_bias.all());
    }
    if (!gradient_.skip.empty()) {
      be_.gemm_tn(result_.bias_pull(), c.rows_in, gradient_.skip);
    }
    sparsify_.add_gradient(be_, model_.sparsifier(), c, gradient_);
    if (aux) policies_.dead.backward(be_, dead_inputs(), dead_, gradient_, sums_.all());
    policies_.extra.backward(be_, c, gradient_, sums_.all(), extra_);
    penalty::add_gradient(policies_.penalty, be_, c, gradient_, sums_.all(), penalty_);
    input_bias_gradient(p, c);
    if constexpr (sae_concepts::adds_encoder_bias<sparsifier_type>) {
      be_.axpy(real{1}, cmat(sums_), gradient_.encoder_bias);
    }
    model_.pull_back(gradient_);
    if (!policies_.train_encoder_bias) be_.fill(gradient_.encoder_bias.all(), real{0});
  }

  // The bias that centres the input gets the sum over the batch of -W_e^T da, which needs only the
  // per-latent sums (Gao et al. 2024, released code). Behind unit lengths it needs every row's.
  void input_bias_gradient(const sae_parameters<backend_type>& p, step_context<backend_type>& c) {
    const auto kind = model_.settings().centring;
    if (kind == input_centring::none) return;
    auto& to = kind == input_centring::own_bias ? gradient_.input_bias : gradient_.decoder_bias;
    if (kind == input_centring::own_bias) be_.fill(to.all(), real{0});
    const bool unit = model_.settings().unit_input;
    if (!sparsify_type::pulls_input && !unit) {
      be_.weighted_row_sum(p.encoder, sums_, to, real{-1});
      return;
    }
    input_pull_.reshape(be_, c.rows(), model_.d_model());
    if (sparsify_type::pulls_input) {
      be_.copy(sparsify_.input_pull(model_.sparsifier()), input_pull_.all());
    } else {
      be_.decode(codes_view<backend_type>(z_).with_values(c.dz.data()), p.encoder, cmat(),
                 input_pull_);
    }
    if (unit) model_.input_lengths().pull_back(be_, centred_, input_pull_.all());
    work_.reshape(be_, 1, model_.d_model());
    be_.column_sums(input_pull_, work_);
    be_.axpy(real{-1}, work_, to);
  }

  void clip() {
    be_.fill(slot(slot_norm), 0.0);
    dictionary_.add_squares(be_, model_.parameters(), gradient_, slot(slot_norm));
    if (policies_.clip > 0) {
      be_.clip_factor(slot(slot_norm), policies_.clip, slot(slot_clip));
    } else {
      be_.fill(slot(slot_clip), 1.0);
    }
  }

  using sparsifier_type = typename Sae::sparsifier_type;
  using sparsify_type = sparsifier_training<sparsifier_type, backend_type>;

  Sae& model_;
  backend_type& be_;
  Policies policies_;
  sae_parameters<backend_type> gradient_;
  typename optimizer_type::template state<backend_type> optimizer_;
  dictionary_training<dictionary_type, backend_type> dictionary_;
  typename dead_type::template state<backend_type> dead_;
  typename decltype(Policies::extra)::template state<backend_type> extra_;
  typename penalty_type::template state<backend_type> penalty_;
  typename upkeep_type::template state<backend_type> upkeep_;
  sparsify_type sparsify_;
  reconstruction<backend_type> result_;
  codes<backend_type> z_;
  codes_by_feature<backend_type> by_feature_;
  cmat rows_, centred_, target_;
  matrix<real, backend_type> sums_, dz_, ones_, active_, mask_;
  raw_target<backend_type> raw_;
  matrix<real, backend_type> work_, row_work_, input_pull_;
  matrix<double, backend_type> slots_;
  std::size_t rows_in_batch_ = 0;
  std::size_t step_ = 0;
  std::int64_t tokens_ = 0;
};

}  // namespace plmscope::inline PLMSCOPE_ABI
