// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/sae/normalizer.hpp>
#include <plmscope/train/dead_latents/aux_k.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <numeric>
#include <vector>

// The loss of one training step of a TopK SAE written out as formulas, without any primitive, for
// derivatives by finite differences. What the training holds constant is computed at one point and
// handed in.
namespace direct {

using numbers = std::vector<double>;

enum class kind { summed, averaged, raw_summed, raw_averaged, fvu, relative_to_bias };

struct problem {
  std::size_t m = 6;
  std::size_t d = 7;
  std::size_t features = 60;
  std::size_t k = 2;
  kind loss = kind::summed;
  bool layer_norm = false;
  plmscope::aux_k aux = {};  ///< alpha 0: none
  bool by_decoder_norm = false;
  numbers x = {};            ///< [m, d]

  bool raw() const {
    return loss == kind::raw_summed || loss == kind::raw_averaged || loss == kind::relative_to_bias;
  }
};

/// encoder, decoder, encoder bias, decoder bias
using parameters = std::array<numbers, 4>;

struct constants {
  numbers residual;       ///< [m, d], when detached
  double variance = 0;    ///< denominator of the main loss
  numbers aux_weight;     ///< [m]
};

struct value {
  double main = 0;
  double aux = 0;
  std::vector<std::size_t> chosen;  ///< every selected latent of both passes, in order
  constants held;                   ///< as they are at this point
  double total() const { return main + aux; }
};

/// Ids of the k largest positive entries, ascending.
inline std::vector<std::size_t> top(const numbers& pre, std::size_t k) {
  std::vector<std::size_t> ids(pre.size());
  std::iota(ids.begin(), ids.end(), std::size_t{0});
  std::stable_sort(ids.begin(), ids.end(), [&](auto a, auto b) { return pre[a] > pre[b]; });
  ids.resize(std::min(k, ids.size()));
  std::erase_if(ids, [&](auto f) { return !(pre[f] > 0); });
  std::sort(ids.begin(), ids.end());
  return ids;
}

inline double scatter(const numbers& rows, std::size_t m, std::size_t d) {
  double sum = 0;
  for (std::size_t j = 0; j < d; ++j) {
    double mean = 0;
    for (std::size_t r = 0; r < m; ++r) mean += rows[r * d + j] / static_cast<double>(m);
    for (std::size_t r = 0; r < m; ++r) sum += std::pow(rows[r * d + j] - mean, 2);
  }
  return sum;
}

/// Everything of one pass; `held` null: the constants are those of this very point.
class pass {
 public:
  pass(const problem& q, const parameters& p, const constants* held) : q_(q), p_(p), held_(held) {
    normalize();
    main();
    if (q_.aux.alpha != 0) auxiliary();
  }
  value result() const { return out_; }

 private:
  double at(const numbers& rows, std::size_t r, std::size_t j) const { return rows[r * q_.d + j]; }

  void normalize() {
    n_ = target_ = q_.x;
    mean_.assign(q_.m, 0.0);
    deviation_.assign(q_.m, 1.0);
    if (!q_.layer_norm) return;
    const plmscope::normalizer defaults;
    for (std::size_t r = 0; r < q_.m; ++r) {
      double squares = 0;
      for (std::size_t j = 0; j < q_.d; ++j) mean_[r] += at(q_.x, r, j) / static_cast<double>(q_.d);
      for (std::size_t j = 0; j < q_.d; ++j) squares += std::pow(at(q_.x, r, j) - mean_[r], 2);
      const double deviation = std::sqrt(squares / static_cast<double>(q_.d));
      deviation_[r] = deviation + defaults.inverse_epsilon;
      for (std::size_t j = 0; j < q_.d; ++j) {
        n_[r * q_.d + j] = (at(q_.x, r, j) - mean_[r]) / (deviation + defaults.epsilon);
        target_[r * q_.d + j] = q_.raw() ? (at(q_.x, r, j) - mean_[r]) / deviation_[r]
                                         : n_[r * q_.d + j];
      }
    }
  }

  // Pre-activation of latent f for row r.
  double pre(std::size_t r, std::size_t f) const {
    double a = p_[2][f];
    for (std::size_t j = 0; j < q_.d; ++j) a += (at(n_, r, j) - p_[3][j]) * at(p_[0], f, j);
    return a;
  }

  void main() {
    error_.assign(q_.m * q_.d, 0.0);
    std::vector<bool> fired(q_.features, false);
    const double variance = scatter(target_, q_.m, q_.d);
    out_.held.variance = variance;
    for (std::size_t r = 0; r < q_.m; ++r) {
      numbers a(q_.features);
      for (std::size_t f = 0; f < q_.features; ++f) a[f] = pre(r, f);
      for (std::size_t j = 0; j < q_.d; ++j) error_[r * q_.d + j] = p_[3][j] - at(target_, r, j);
      for (const std::size_t f : top(a, q_.k)) {
        fired[f] = true;
        out_.chosen.push_back(f);
        for (std::size_t j = 0; j < q_.d; ++j) error_[r * q_.d + j] += a[f] * at(p_[1], f, j);
      }
      double squares = 0;
      double from_bias = 1e-8 * static_cast<double>(q_.d);
      for (std::size_t j = 0; j < q_.d; ++j) {
        squares += std::pow(at(error_, r, j), 2);
        from_bias += std::pow(at(q_.x, r, j) - p_[3][j], 2);
      }
      if (q_.raw()) squares *= deviation_[r] * deviation_[r];
      const bool averaged = q_.loss == kind::averaged || q_.loss == kind::raw_averaged;
      const double count = static_cast<double>(q_.m * (averaged ? q_.d : 1));
      if (q_.loss == kind::fvu) {
        out_.main += squares / (held_ ? held_->variance : variance);
      } else if (q_.loss == kind::relative_to_bias) {
        out_.main += squares / from_bias / count;
      } else {
        out_.main += squares / count;
      }
    }
    for (std::size_t f = 0; f < q_.features; ++f) {
      if (!fired[f]) dead_.push_back(f);
    }
  }

  void auxiliary() {
    numbers residual = error_;
    for (double& v : residual) v = -v;
    out_.held.residual = residual;
    out_.held.aux_weight = aux_weights(residual);
    if (held_ && q_.aux.detach_residual) residual = held_->residual;
    const numbers& weight = held_ ? held_->aux_weight : out_.held.aux_weight;
    const std::size_t width = std::min(q_.aux.k == 0 ? q_.d / 2 : q_.aux.k, dead_.size());
    for (std::size_t r = 0; r < q_.m; ++r) {
      numbers a;
      for (const std::size_t f : dead_) a.push_back(pre(r, f));
      numbers error(q_.d);
      for (std::size_t j = 0; j < q_.d; ++j) error[j] = -at(residual, r, j);
      for (const std::size_t i : top(a, width)) {
        out_.chosen.push_back(dead_[i]);
        for (std::size_t j = 0; j < q_.d; ++j) error[j] += a[i] * at(p_[1], dead_[i], j);
      }
      for (const double e : error) out_.aux += q_.aux.alpha * weight[r] * e * e;
    }
  }

  numbers aux_weights(const numbers& residual) const {
    using scaling = plmscope::aux_k::scaling;
    const auto m = static_cast<double>(q_.m);
    const auto d = static_cast<double>(q_.d);
    numbers w(q_.m, 1.0);
    for (std::size_t r = 0; r < q_.m; ++r) {
      const double raw = q_.raw() && q_.layer_norm ? deviation_[r] * deviation_[r] : 1.0;
      double squares = 0;
      for (std::size_t j = 0; j < q_.d; ++j) squares += std::pow(at(residual, r, j), 2);
      switch (q_.aux.scale) {
        case scaling::residual_variance: w[r] = 1 / scatter(residual, q_.m, q_.d); break;
        case scaling::target_variance: w[r] = 1 / scatter(target_, q_.m, q_.d); break;
        case scaling::row_residual: w[r] = 1 / (squares + 1e-8 * d) / m; break;
        case scaling::summed: w[r] = raw / m; break;
        case scaling::averaged: w[r] = raw / (m * d); break;
      }
    }
    return w;
  }

  const problem& q_;
  const parameters p_;
  const constants* held_;
  numbers n_, target_, mean_, deviation_, error_;
  std::vector<std::size_t> dead_;
  value out_;
};

/// The parameters with unit decoder rows whose lengths moved into the encoder.
inline parameters decoder_scaled(const problem& q, parameters p) {
  for (std::size_t f = 0; f < q.features; ++f) {
    double squares = 0;
    for (std::size_t j = 0; j < q.d; ++j) squares += std::pow(p[1][f * q.d + j], 2);
    const double length = std::sqrt(squares);
    for (std::size_t j = 0; j < q.d; ++j) {
      p[0][f * q.d + j] *= length;
      p[1][f * q.d + j] /= length;
    }
    p[2][f] *= length;
  }
  return p;
}

inline value loss(const problem& q, const parameters& p, const constants* held = nullptr) {
  return pass(q, q.by_decoder_norm ? decoder_scaled(q, p) : p, held).result();
}

}  // namespace direct
