// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/core/view.hpp>
#include <plmscope/sae/normalizer.hpp>
#include <plmscope/sae/parameters.hpp>
#include <plmscope/sae/row_encoder.hpp>
#include <plmscope/tensor/matrix.hpp>
#include <plmscope/train/step_context.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <span>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

namespace plmscope::inline PLMSCOPE_ABI {

// What is done to an SAE between steps: before_step(run, x, state) and after_step(run, x, y, state).
// `run` gives model(), backend(), optimizer_state(), dead_state(), last_codes(), steps(). What the next step
// needs belongs into the state: the codes of the step before are not there after a training is resumed.

/// Nothing.
struct no_upkeep {
  template <class B>
  struct state {};
  template <class Run, class Rows, class State>
  void before_step(Run&, Rows, State&) const {}
  template <class Run, class Rows, class State>
  void after_step(Run&, Rows, Rows, State&) const {}
};

/// Several upkeep policies, one after the other.
template <class... Policies>
struct upkeeps {
  std::tuple<Policies...> each;

  upkeeps() = default;
  explicit upkeeps(Policies... p) : each(std::move(p)...) {}

  template <class B>
  struct state {
    std::tuple<typename Policies::template state<B>...> each;

    template <class F>
    void fields(const F& f) {
      f("each", each);
    }
  };
  template <class F>
  void settings(const F& f) const {
    f(each);
  }
  template <class Run, class Rows, class State>
  void before_step(Run& run, Rows x, State& s) const {
    together(s, [&](const auto& p, auto& t) { p.before_step(run, x, t); });
  }
  template <class Run, class Rows, class State>
  void after_step(Run& run, Rows x, Rows y, State& s) const {
    together(s, [&](const auto& p, auto& t) { p.after_step(run, x, y, t); });
  }

 private:
  template <class State, class F>
  void together(State& s, const F& f) const {
    [&]<std::size_t... I>(std::index_sequence<I...>) {
      (f(std::get<I>(each), std::get<I>(s.each)), ...);
    }(std::index_sequence_for<Policies...>());
  }
};

/// Puts latents into another order: new latent j is old latent order[j], in all parameters and, with
/// `moments`, in what the optimizer keeps of them.
template <class Run>
void reorder_latents(Run& run, const std::vector<std::uint32_t>& order, bool moments = true) {
  using backend = typename Run::backend_type;
  using real = typename backend::real;
  using model = std::remove_cvref_t<decltype(run.model())>;
  static_assert(!sae_concepts::has_matrices<typename model::sparsifier_type, typename model::options>,
                "plmscope: latents of a sparsifier with matrices of its own (routed) have fixed places");
  auto& be = run.backend();
  matrix<std::uint32_t, backend> ids(be, 1, order.size());
  be.upload(std::span<const std::uint32_t>(order), ids.all());
  const auto permute = [&](auto& m, bool vector) {
    if (m.empty()) return;  // not kept by this optimizer
    const auto rows = [&](auto v) {
      return vector ? decltype(v)(v.data(), v.cols(), 1) : v;
    };
    matrix<real, backend> old(be, m.rows(), m.cols());
    be.copy(const_view<backend>(m), old.all());
    be.gather_rows(rows(const_view<backend>(old)), const_view<backend, std::uint32_t>(ids),
                   rows(m.all()));
  };
  const auto all = [&](sae_parameters<backend>& p) {
    permute(p.encoder, false);
    permute(p.decoder, false);
    permute(p.encoder_bias, true);
    for (auto& v : p.latent) permute(v.values, true);
  };
  all(run.model().parameters());
  if (moments) run.optimizer_state().for_each_moment(all);
  if constexpr (requires { run.optimizer_state().for_each_average(all); }) {
    run.optimizer_state().for_each_average(all);
  }
}

namespace upkeep_detail {

template <class Real>
struct squared_strength {
  const Real* values;
  const Real* lengths;
  Real* out;
  PLMSCOPE_HD void operator()(std::size_t, std::size_t e, std::uint32_t f) const {
    const Real v = values[e] * lengths[f];
    out[e] = v * v;
  }
};

}  // namespace upkeep_detail

/// Keeps the latents ordered by importance, the running mean of (z_i |w_i|)^2, largest first, so that
/// prefixes of the dictionary hold what matters most (Nabeshima 2024). Averages and optimizer moments
/// move with their latents. Waits for the device in every step that orders.
struct importance_order {
  double smoothing = 0.95;
  std::size_t every = 1;

  template <class B>
  struct state {
    matrix<typename B::real, B> lengths, strength, sums;
    matrix<double, B> mean;  ///< [1, F]

    template <class F>
    void fields(const F& f) {
      f("mean", mean);
    }
  };

  template <class Run, class Rows, class State>
  void before_step(Run&, Rows, State&) const {}

  template <class Run, class Rows, class State>
  void after_step(Run& run, Rows x, Rows, State& s) const {
    using backend = typename Run::backend_type;
    using real = typename backend::real;
    auto& be = run.backend();
    auto& model = run.model();
    const std::size_t features = model.features();
    const auto& z = run.last_codes();
    s.lengths.reshape(be, 1, features);
    s.sums.reshape(be, 1, features);
    s.strength.reshape(be, 1, std::max<std::size_t>(z.entries(), 1));
    be.row_norms(const_view<backend>(model.parameters().decoder), s.lengths);
    be.each_entry(z, upkeep_detail::squared_strength<real>{z.values(), s.lengths.data(),
                                                           s.strength.data()});
    sum_by_feature(be, run.by_feature(), const_view<backend>(s.strength), s.sums.all());
    std::vector<double> now(features);
    be.download(const_view<backend>(s.sums), std::span<double>(now));
    if (s.mean.empty()) s.mean = matrix<double, backend>(be, 1, features);
    std::vector<double> mean(features);
    be.download(const_view<backend, double>(s.mean), std::span<double>(mean));
    for (std::size_t f = 0; f < features; ++f) {
      mean[f] = smoothing * mean[f] + (1 - smoothing) * now[f] / static_cast<double>(x.rows());
    }
    if (every != 0 && (run.steps() + 1) % every == 0) {
      std::vector<std::uint32_t> order(features);
      std::iota(order.begin(), order.end(), 0u);
      std::stable_sort(order.begin(), order.end(), [&](auto a, auto b) { return mean[a] > mean[b]; });
      reorder_latents(run, order);
      std::vector<double> moved(features);
      for (std::size_t f = 0; f < features; ++f) moved[f] = mean[order[f]];
      mean = std::move(moved);
    }
    be.upload(std::span<const double>(mean), s.mean.all());
  }
};

/// Scales rows by a running mean of their lengths, so that they have length sqrt(d) on average; for
/// streams whose scale drifts (Nabeshima 2024, who starts the mean at 0).
struct running_scale {
  double smoothing = 0.99;

  template <class B>
  struct state {
    matrix<typename B::real, B> lengths;
    matrix<double, B> slot;
    double mean = 0;
    std::size_t steps = 0;

    template <class F>
    void fields(const F& f) {
      f("mean", mean);
      f("steps", steps);
    }
  };

  template <class Run, class Rows, class State>
  void before_step(Run& run, Rows x, State& s) const {
    using backend = typename Run::backend_type;
    auto& be = run.backend();
    s.lengths.reshape(be, 1, x.rows());
    be.row_norms(x, s.lengths);
    if (s.slot.empty()) s.slot = matrix<double, backend>(be, 1, 1);
    be.fill(s.slot.all(), 0.0);
    be.add_sum(const_view<backend>(s.lengths), s.slot.all());
    double sum = 0;
    be.download(const_view<backend, double>(s.slot), std::span<double>(&sum, 1));
    const double now = sum / static_cast<double>(x.rows());
    s.mean = smoothing * s.mean + (1 - smoothing) * now;
    const double unbiased = s.mean / (1 - std::pow(smoothing, static_cast<double>(++s.steps)));
    if (!(unbiased > 0)) return;
    run.model().set_normalization(
        {.kind = normalization::scalar,
         .scale = std::sqrt(static_cast<double>(run.model().d_model())) / unbiased});
  }
  template <class Run, class Rows, class State>
  void after_step(Run&, Rows, Rows, State&) const {}
};

}  // namespace plmscope::inline PLMSCOPE_ABI
