// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/plm/rules.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace plmscope::inline PLMSCOPE_ABI {

// Scores of one row of logits (host memory), in double and natural logarithms (nats). A NaN in the
// row gives NaN.

/// log p of every token: x - max - ln sum e^(x - max).
template <class Real>
std::vector<double> log_softmax(std::span<const Real> row) {
  std::vector<double> out(row.begin(), row.end());
  const double top = *std::ranges::max_element(out);
  double total = 0;
  for (const double x : out) total += std::exp(x - top);
  const double shift = top + std::log(total);
  for (double& x : out) x -= shift;
  return out;
}

/// -ln p(token): the masked-LM loss of a position. Errors: plm.104 for a token outside of the row.
template <class Real>
double cross_entropy(std::span<const Real> row, std::int32_t token) {
  if (token < 0 || static_cast<std::size_t>(token) >= row.size()) {
    throw error(rules::batch_token, {.where = "cross entropy",
                                     .expected = "a token below " + std::to_string(row.size()),
                                     .found = std::to_string(token)});
  }
  return -log_softmax(row)[static_cast<std::size_t>(token)];
}

/// -sum p ln p over the whole row: how undecided the model is; ln 33 at most for ESM-2. Over some
/// tokens only, `row` is that part and p is renormalised over it.
template <class Real>
double entropy(std::span<const Real> row) {
  double sum = 0;
  for (const double l : log_softmax(row)) sum -= l == -INFINITY ? 0.0 : std::exp(l) * l;
  return sum;
}

/// KL(p || q) = sum p (ln p - ln q) of the distributions of two rows of logits.
template <class Real>
double kl_divergence(std::span<const Real> p, std::span<const Real> q) {
  const auto log_p = log_softmax(p);
  const auto log_q = log_softmax(q);
  double sum = 0;
  for (std::size_t i = 0; i < log_p.size(); ++i) {
    if (log_p[i] != -INFINITY) sum += std::exp(log_p[i]) * (log_p[i] - log_q[i]);
  }
  return sum;
}

/// The share of the loss that an SAE brings back: (ablated - spliced) / (ablated - clean), where
/// `ablated` is the loss with the site's state replaced by zeros or by its mean. 1: nothing lost;
/// 0: no better than the ablation; NaN or infinite where the ablation costs nothing.
inline double loss_recovered(double clean, double spliced, double ablated) noexcept {
  return (ablated - spliced) / (ablated - clean);
}

}  // namespace plmscope::inline PLMSCOPE_ABI
