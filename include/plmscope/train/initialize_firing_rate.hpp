// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/core/view.hpp>
#include <plmscope/sae/concepts.hpp>
#include <plmscope/sae/sae.hpp>
#include <plmscope/tensor/matrix.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <functional>
#include <span>
#include <vector>

namespace plmscope::inline PLMSCOPE_ABI {

/// Sets every encoder bias so that its latent fires on a share `rate` of the rows [m, d_in]: half
/// way between the pre-activations of the last row that shall fire and the first that shall not,
/// less the learned threshold where there is one (Conerly et al. 2025: rate 10'000 / F). With n =
/// round(rate m) rows to fire, at most m - 1; for none, just the largest stays silent. Latents
/// whose rows tie fire less often. For `row_lengths::free`, after the input's bias has its value.
/// Waits for the device; cost: one product and a selection per latent on the host.
template <class Sae, class Rows>
void initialize_firing_rate(Sae& model, Rows rows, double rate) {
  using backend = typename Sae::backend_type;
  using real = typename backend::real;
  static_assert(sae_concepts::adds_encoder_bias<typename Sae::sparsifier_type>,
                "plmscope: this sparsifier has biases of its own; the encoder's decide nothing");
  auto& be = model.backend();
  auto& p = model.parameters();
  const const_view<backend> x = model.centred(rows);
  const std::size_t m = x.rows(), features = model.features();
  if (m == 0) return;
  const double wanted = std::round(rate * static_cast<double>(m));
  const std::size_t n =
      wanted > 0 ? static_cast<std::size_t>(std::min(wanted, static_cast<double>(m - 1))) : 0;
  std::vector<double> bias(features, 0.0);
  if constexpr (requires { model.sparsifier().log_thresholds; }) {
    be.download(const_view<backend>(p.latent[0].values), std::span<double>(bias));
    for (double& v : bias) v = model.sparsifier().log_thresholds ? std::exp(v) : v;
  }
  const std::size_t tile = std::clamp<std::size_t>((std::size_t{4} << 20) / m, 1, features);
  matrix<real, backend> pre;
  std::vector<double> host;
  for (std::size_t first = 0; first < features; first += tile) {
    const std::size_t count = std::min(tile, features - first);
    pre.reshape(be, count, m);
    be.gemm_nt(const_view<backend>(p.encoder).row_range(first, count), x, pre);
    host.resize(count * m);
    be.download(const_view<backend>(pre), std::span<double>(host));
    for (std::size_t f = 0; f < count; ++f) {
      const auto begin = host.begin() + static_cast<std::ptrdiff_t>(f * m);
      const auto end = begin + static_cast<std::ptrdiff_t>(m);
      const auto at = begin + static_cast<std::ptrdiff_t>(n);
      std::nth_element(begin, at, end, std::greater<>());
      const double above = n == 0 ? *at : *std::min_element(begin, at);
      bias[first + f] -= (above + *at) / 2;
    }
  }
  be.upload(std::span<const double>(bias), p.encoder_bias.all());
}

/// `initialize_firing_rate` from the first batch of a training, once the decoder bias is set. An
/// upkeep policy.
struct initial_firing_rate {
  double rate = 1e-3;

  template <class B>
  struct state {};

  template <class Run, class Rows, class State>
  void before_step(Run& run, Rows x, State&) const {
    if (run.steps() == 0) initialize_firing_rate(run.model(), x, rate);
  }
  template <class Run, class Rows, class State>
  void after_step(Run&, Rows, Rows, State&) const {}
};

}  // namespace plmscope::inline PLMSCOPE_ABI
