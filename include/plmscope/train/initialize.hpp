// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/core/view.hpp>
#include <plmscope/sae/sae.hpp>
#include <plmscope/tensor/matrix.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <span>
#include <vector>

namespace plmscope::inline PLMSCOPE_ABI {

/// What the decoder bias is set to from the first batch.
enum class start_bias { unchanged, mean, geometric_median };

/// Geometric median of rows [m, d] by Weiszfeld's iteration from the mean (weights 1 / |x_r - g|), at
/// most `iterations`, until g moves by less than `tolerance`. Where g meets a row the step of Vardi
/// and Zhang (2000) keeps the iteration from sticking there.
inline std::vector<double> geometric_median(std::span<const double> rows, std::size_t d,
                                            std::size_t iterations = 100, double tolerance = 1e-5) {
  const std::size_t m = d == 0 ? 0 : rows.size() / d;
  std::vector<double> g(d, 0.0);
  if (m == 0) return g;
  for (std::size_t r = 0; r < m; ++r) {
    for (std::size_t j = 0; j < d; ++j) g[j] += rows[r * d + j] / static_cast<double>(m);
  }
  double spread = 0;
  for (std::size_t i = 0; i < m * d; ++i) spread += std::pow(rows[i] - g[i % d], 2);
  const double same = 1e-20 * spread / static_cast<double>(m);  // squared distance of equal points
  std::vector<double> next(d);
  std::vector<double> pull(d);
  for (std::size_t i = 0; i < iterations; ++i) {
    std::fill(next.begin(), next.end(), 0.0);
    std::fill(pull.begin(), pull.end(), 0.0);
    double total = 0;
    double here = 0;  // rows at g
    for (std::size_t r = 0; r < m; ++r) {
      double squares = 0;
      for (std::size_t j = 0; j < d; ++j) squares += std::pow(rows[r * d + j] - g[j], 2);
      if (!(squares > same)) {
        ++here;
        continue;
      }
      const double w = 1 / std::sqrt(squares);
      total += w;
      for (std::size_t j = 0; j < d; ++j) {
        next[j] += w * rows[r * d + j];
        pull[j] += w * (rows[r * d + j] - g[j]);
      }
    }
    if (!(total > 0)) break;  // all rows are equal
    double strength = 0;
    for (const double v : pull) strength += v * v;
    strength = std::sqrt(strength);
    const double stay = here > 0 ? std::min(1.0, strength > 0 ? here / strength : 1.0) : 0.0;
    double moved = 0;
    for (std::size_t j = 0; j < d; ++j) {
      next[j] = (1 - stay) * (next[j] / total) + stay * g[j];
      moved += std::pow(next[j] - g[j], 2);
    }
    g = next;
    if (std::sqrt(moved) < tolerance) break;
  }
  return g;
}

/// Sets the decoder bias of an SAE from a batch of rows, at the scale of its normaliser. For a
/// transcoder the decoder bias comes from the target rows `y`, and, where nothing centres the input,
/// the encoder bias becomes -W_e mean(x), so that the average row gives 0 (sparsify). A sparsifier with
/// biases of its own may pass it on: `take_bias(be, parameters)`.
template <class Sae, class Rows>
void initialize_bias(Sae& model, Rows rows, start_bias kind, Rows y = {}) {
  using backend = typename Sae::backend_type;
  using real = typename backend::real;
  if (kind == start_bias::unchanged) return;
  auto& be = model.backend();
  const auto centre = [&](Rows of) {
    std::vector<double> host(of.size());
    be.download(of, std::span<double>(host));
    return geometric_median(host, of.cols(), kind == start_bias::mean ? 0 : std::size_t{100});
  };
  static_cast<void>(model.centred(rows));
  const auto g = centre(model.target(y));
  be.upload(std::span<const double>(g), model.parameters().decoder_bias.all());
  if constexpr (requires { model.sparsifier().take_bias(be, model.parameters()); }) {
    if (!model.settings().transcodes) model.sparsifier().take_bias(be, model.parameters());
  }
  if (!model.settings().transcodes || model.settings().centring != input_centring::none) return;
  const auto x = centre(model.normalized());
  matrix<real, backend> mean(be, 1, model.d_model());
  be.upload(std::span<const double>(x), mean.all());
  auto& bias = model.parameters().encoder_bias;
  be.gemm_nt(mean, model.parameters().encoder, bias);
  be.scale(bias, real{-1});
}

}  // namespace plmscope::inline PLMSCOPE_ABI
