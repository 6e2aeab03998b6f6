// SPDX-License-Identifier: MIT
#include "fit.hpp"

#include "checkpoints.hpp"
#include "training_policies.hpp"

#include <plmscope/sae/any_sae.hpp>
#include <plmscope/train/progress_bar.hpp>
#include <plmscope/train/trainer.hpp>

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace {

plmscope::normalization normalization_of(const std::string& name) {
  for (const auto kind : {plmscope::normalization::none, plmscope::normalization::scalar,
                          plmscope::normalization::per_dimension}) {
    if (name == plmscope::normalizer::name(kind)) return kind;
  }
  return plmscope::normalization::token_layer_norm;
}

/// Rows of `blocks` sites side by side; with `scalar` every site has its own scale (Lindsey et al.
/// 2024), written dimension by dimension.
plmscope::normalizer fit_sites(plmscope::normalization kind, const std::vector<float>& rows,
                               std::size_t width, std::size_t blocks) {
  if (blocks == 1 || kind != plmscope::normalization::scalar) {
    return plmscope::fit_normalizer(kind, std::span<const float>(rows), width);
  }
  plmscope::normalizer n{.kind = plmscope::normalization::per_dimension};
  n.mean.assign(width, 0.0);
  const std::size_t part = width / blocks;
  std::vector<float> one;
  for (std::size_t b = 0; b < blocks; ++b) {
    one.clear();
    for (std::size_t r = 0; r < rows.size(); r += width) {
      const auto first = rows.begin() + static_cast<std::ptrdiff_t>(r + b * part);
      one.insert(one.end(), first, first + static_cast<std::ptrdiff_t>(part));
    }
    const auto fitted = plmscope::fit_normalizer(kind, std::span<const float>(one), part);
    n.deviation.insert(n.deviation.end(), part, 1 / fitted.scale);
  }
  return n;
}

/// Numbers of a batch on the host. Views of some columns are no piece of memory.
std::vector<float> on_host(program_backend& be, plmscope::const_view<program_backend> rows) {
  plmscope::matrix<float, program_backend> whole(be, rows.rows(), rows.cols());
  be.copy(rows, whole.all());
  std::vector<float> host(rows.size());
  be.download(whole.all(), std::span<float>(host));
  return host;
}

/// What every training of a run shares.
struct shared_settings {
  program_backend& be;
  pair_feed& rows;
  const training_options& o;
  const common_options& common;
  plmscope::activation_source source;
  std::size_t features = 0;
  std::size_t d_out = 0;
  plmscope::normalizer normalize = {};
  plmscope::normalizer normalize_out = {};
};

template <class S>
typename plmscope::sae<S, program_backend>::options model_options(const shared_settings& in,
                                                                  S sparsifier) {
  using plmscope::input_centring;
  using plmscope::row_lengths;
  const auto& o = in.o;
  const std::string centring = o.which_centring();
  return {.d_model = in.rows.width(),
          .features = in.features,
          .sparsifier = sparsifier,
          .normalize = in.normalize,
          .d_out = in.d_out,
          .normalize_out = in.normalize_out,
          .centring = centring == "none"       ? input_centring::none
                      : centring == "own_bias" ? input_centring::own_bias
                                               : input_centring::decoder_bias,
          .skip = o.skip,
          .transcodes = !o.target.empty(),
          .lengths = o.lengths == "in_codes" ? row_lengths::in_codes
                     : o.lengths == "rank"   ? row_lengths::rank
                                             : row_lengths::free,
          .blocks = o.sites().size(),
          .encoder_product = o.encoder == "bf16" ? plmscope::product_precision::bf16
                                                 : plmscope::product_precision::fp32,
          .screen = o.encoder == "screened",
          .seed = in.common.seed};
}

void fill_record(std::map<std::string, std::string>& record, const shared_settings& in, double lr,
                 const plmscope::training_metrics& last) {
  const auto& o = in.o;
  record["steps"] = std::to_string(o.steps);
  record["batch"] = std::to_string(o.batch);
  record["learning_rate"] = fmt::format("{}", lr);
  record["seed"] = std::to_string(in.common.seed);
  record["rows"] = std::to_string(last.tokens);
  record["fvu"] = fmt::format("{:.6f}", last.fvu);
  record["l0"] = fmt::format("{:.3f}", last.l0);
  record["dead_share"] = fmt::format("{:.5f}", last.dead_share);
  const auto unusual = [&](const char* key, const std::string& value, const std::string& usual) {
    if (value != usual) record[key] = value;
  };
  unusual("optimizer", o.optimizer, "adam");
  unusual("loss", o.loss, "mse");
  unusual("decoder", o.decoder, "unit");
  unusual("penalty", o.which_penalty(), "");
  unusual("dead_latents", o.which_dead(), "aux_k");
  if (o.target.empty()) return;
  record["target_site"] = to_string(plmscope::parse_site(o.target));
  unusual("target", o.target_update ? "update" : "states", "states");
}

/// What is done to latents between steps. Those of `routed` have fixed places.
template <class S>
auto upkeep_of(const training_options& o, std::uint64_t seed) {
  using plmscope::upkeeps;
  if constexpr (std::is_same_v<S, plmscope::routed>)
    return resampling_of(o, seed);
  else if constexpr (std::is_same_v<S, plmscope::jump_relu>)
    return upkeeps{firing_rate_of(o), resampling_of(o, seed), order_of(o)};
  else
    return upkeeps{resampling_of(o, seed), order_of(o)};
}

template <class S, class Penalty, class Extra = plmscope::no_extra_term>
trained run(const shared_settings& in, S sparsifier, Penalty penalty, Extra extra = {}) {
  const auto& o = in.o;
  plmscope::sae<S, program_backend> model(model_options(in, sparsifier), in.be);
  model.source = in.source;
  const plmscope::trainer fit{
      .steps = o.steps,
      .batch = o.batch,
      .optimizer = optimizer_of(o, in.features),
      .schedule = plmscope::warmup_decay{.warmup = std::max<std::size_t>(o.steps / 20, 1),
                                         .decay_start = o.steps * 4 / 5},
      .loss = loss_of(o),
      .penalty = penalty,
      .dead = aux_k_of(o),
      .dictionary = dictionary_of(o),
      .plan = plan_of(o, in.common.seed),
      .extra = extra,
      .upkeep = upkeep_of<S>(o, in.common.seed),
      .clip = o.clip,
      .log_every = std::max<std::size_t>(o.steps / 200, 1),
      .checkpoints = checkpoints_of(o)};
  metrics_file log(o.metrics, o.resume);
  plmscope::progress_bar bar;
  const auto last = fit(model, in.rows, [&](const plmscope::training_metrics& m) {
    if (o.report)
      o.report(m);
    else
      bar(m);
    log.add(m);
  });
  fill_record(model.training_record, in, fit.optimizer.lr, last);
  return {program_sae(std::make_unique<plmscope::any_sae<program_backend>>(std::move(model))),
          last};
}

trained run_chosen(const shared_settings& in) {
  using plmscope::penalties;
  const auto& o = in.o;
  const auto k = static_cast<std::size_t>(o.k);  // a whole number where it is used: checked
  const auto apart = orthogonality_of(o, in.common.seed);
  if (o.sparsifier == "top_k") {
    if (!o.multi_k.empty()) {
      return run(in, plmscope::top_k{.k = k}, apart, multi_top_k_of(o));
    }
    return run(in, plmscope::top_k{.k = k}, apart);
  }
  if (o.sparsifier == "batch_top_k") {
    const std::size_t first = std::min<std::size_t>(1000, o.steps / 10);
    return run(in, plmscope::batch_top_k{.k = o.k, .first_step = first}, apart);
  }
  if (o.sparsifier == "abs_top_k") return run(in, plmscope::abs_top_k{.k = k}, apart);
  if (o.sparsifier == "group_max") return run(in, plmscope::group_max{.k = k}, apart);
  if (o.sparsifier == "relu") {
    return run(in, plmscope::relu{}, penalties{value_penalty_of(o), apart});
  }
  if (o.sparsifier == "gated") {
    return run(in, plmscope::gated{}, penalties{value_penalty_of(o), apart});
  }
  if (o.sparsifier == "routed") {
    return run(in, plmscope::routed{.k = k, .experts = o.experts, .chosen = o.chosen}, apart);
  }
  if (o.sparsifier == "matching_pursuit") {
    return run(in, plmscope::matching_pursuit{.k = k, .tolerance = o.tolerance}, apart);
  }
  if (o.sparsifier == "orthogonal_pursuit") {
    return run(in, plmscope::orthogonal_pursuit{.k = k}, apart);
  }
  // With tanh, thresholds and all before them learn from one derivative (Conerly et al. 2025).
  return run(in,
             plmscope::jump_relu{.bandwidth = o.bandwidth,
                                 .initial_threshold = o.threshold,
                                 .reaches_input = o.which_penalty() == "tanh"},
             penalties{threshold_penalty_of(o), pre_activation_of(o), apart});
}

}  // namespace

trained fit_sae(program_backend& be, row_feed feed, const training_options& o,
                const common_options& common, std::size_t target_width) {
  check_training(o);
  using transcoded = plmscope::transcoded_rows<row_feed, program_backend>;
  transcoded two_sites(feed, feed.width() - target_width,
                       o.target_update ? plmscope::transcoding_target::update
                                       : plmscope::transcoding_target::states);
  const bool transcodes = target_width > 0;
  pair_feed rows = transcodes ? pair_feed(two_sites) : pair_feed(feed);
  shared_settings in{.be = be, .rows = rows, .o = o, .common = common, .source = rows.source()};
  in.features = o.features == 0 ? 8 * rows.width() : o.features;
  in.d_out = transcodes ? target_width : rows.width();
  if (transcodes) {  // features belong to the site that they are read from
    in.source.site = to_string(plmscope::parse_site(o.site));
  }
  // A shuffle buffer gives half of its rows at a time.
  const std::size_t some = std::max(o.batch, std::min<std::size_t>(4096, o.buffer_rows / 2));
  const auto sample = rows.next(be, some);
  const auto kind = normalization_of(o.normalize);
  in.normalize = fit_sites(kind, on_host(be, sample.x), rows.width(), o.sites().size());
  if (transcodes) {
    // What a row was scaled by is not known of a result.
    const bool by_row = kind == plmscope::normalization::token_layer_norm;
    in.normalize_out = fit_sites(by_row ? plmscope::normalization::scalar : kind,
                                 on_host(be, sample.y), target_width, 1);
  }
  return run_chosen(in);
}
