// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/plm/collect.hpp>
#include <plmscope/plm/edit.hpp>
#include <plmscope/plm/esm2.hpp>
#include <plmscope/plm/esm2_gradient.hpp>
#include <plmscope/plm/packed_batch.hpp>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace plmscope::inline PLMSCOPE_ABI {

/// The logit of one token at one position of one sequence, as an objective of `logit_gradient`.
/// Position 0 is `<cls>`.
struct one_logit {
  std::size_t sequence = 0;
  std::size_t position = 0;
  std::int32_t token = 0;

  template <class Real>
  double operator()(std::span<const Real> scores, const batch_slice& rows,
                    std::span<Real> gradient) const {
    if (sequence < rows.first_sequence || sequence >= rows.first_sequence + rows.sequences()) {
      return 0;
    }
    const std::size_t s = sequence - rows.first_sequence;
    const auto first = static_cast<std::size_t>(rows.offsets[s]);
    const auto end = static_cast<std::size_t>(rows.offsets[s + 1]);
    const std::size_t width = scores.size() / rows.rows();
    if (first + position >= end || token < 0 || static_cast<std::size_t>(token) >= width) {
      throw error(rules::edit_position,
                  {.where = "the logit of token " + std::to_string(token),
                   .expected = "a position below " + std::to_string(end - first) +
                               ", a token below " + std::to_string(width),
                   .found = "position " + std::to_string(position)});
    }
    const std::size_t i = (first + position) * width + static_cast<std::size_t>(token);
    gradient[i] = 1;
    return static_cast<double>(scores[i]);
  }
};

/// States of a site, the gradient of a scalar with respect to them, and the scalar.
template <class Real>
struct state_gradient {
  std::vector<Real> states;    ///< [rows, d]
  std::vector<Real> gradient;  ///< [rows, d]
  double value = 0;
};

/// The gradient of an objective of the logits at a residual site, for a batch as it is. The sum of
/// (state - other state) * gradient is the first-order estimate of what patching the other state in
/// would change (attribution patching, Nanda 2023). Errors: those of `logit_gradient`.
template <class Backend, class Objective>
state_gradient<typename Backend::real> gradient_at(esm2<Backend>& model, const packed_batch& batch,
                                                   site at, const Objective& objective) {
  using real = typename Backend::real;
  collect<real> keep({at});
  logit_gradient<Backend, Objective> gradient(model, at, objective);
  model.forward(batch, hooks{keep, gradient});
  const auto s = keep.states(at);
  const auto g = gradient.gradient();
  return {{s.begin(), s.end()}, {g.begin(), g.end()}, gradient.value()};
}

/// Integrated gradients (Sundararajan et al. 2017) of an objective of the logits from `baseline` to
/// the batch's own states x at a residual site: (x - x0) times the mean of the gradient at the
/// midpoints x0 + (j + 1/2) / steps (x - x0). The sum over all entries approaches
/// objective(x) - objective(x0) with the square of the step. [rows, d]. Cost: `steps` forward and
/// reverse passes. Errors: plm.132 where the baseline has another number of entries than the
/// states.
template <class Backend, class Objective>
std::vector<double> integrated_gradients(esm2<Backend>& model, const packed_batch& batch, site at,
                                         const Objective& objective,
                                         std::span<const double> baseline, std::size_t steps = 16) {
  using real = typename Backend::real;
  collect<real> keep({at});
  model.forward(batch, keep);
  const auto x = keep.states(at);
  if (baseline.size() != x.size() || steps == 0) {
    throw error(rules::edit_shape, {.where = "the baseline at " + to_string(at),
                                    .expected = std::to_string(x.size()) + " numbers, a step",
                                    .found = std::to_string(baseline.size()) + " numbers, " +
                                             std::to_string(steps) + " steps"});
  }
  std::vector<double> sum(x.size(), 0.0);
  std::vector<double> point(x.size());
  logit_gradient<Backend, Objective> gradient(model, at, objective);
  for (std::size_t j = 0; j < steps; ++j) {
    const double share = (static_cast<double>(j) + 0.5) / static_cast<double>(steps);
    for (std::size_t i = 0; i < x.size(); ++i) {
      point[i] = baseline[i] + share * (static_cast<double>(x[i]) - baseline[i]);
    }
    edits<Backend> move({patch_states(at, point, batch.rows())});
    model.forward(batch, hooks{move, gradient});
    for (std::size_t i = 0; i < x.size(); ++i) {
      sum[i] += static_cast<double>(gradient.gradient()[i]);
    }
  }
  for (std::size_t i = 0; i < x.size(); ++i) {
    sum[i] *= (static_cast<double>(x[i]) - baseline[i]) / static_cast<double>(steps);
  }
  return sum;
}

}  // namespace plmscope::inline PLMSCOPE_ABI
