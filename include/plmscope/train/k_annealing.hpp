// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/core/error.hpp>
#include <plmscope/train/rules.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <string>
#include <type_traits>

namespace plmscope::inline PLMSCOPE_ABI {

/// The k of a TopK or BatchTopK SAE falls from `from` to `to` over the first `over` steps, so that
/// latents that a small k would starve get gradients while they are still random (sparsify's
/// `k_decay_steps`, dictionary_learning's `k_anneal_steps`). With r = min(s / over, 1) step s has
///
///   k_s = (1 - r) from + r to,   or with `geometric`   k_s = from^(1 - r) to^r,
///
/// (sparsify begins at ten times the width and rounds), cut off to a whole number where the
/// sparsifier takes no other. An upkeep policy: `to` replaces the sparsifier's own k, and a
/// training shorter than `over` leaves the k that it came to. Thresholds that a training averages
/// (BatchTopK) should begin after `over` (`first_step`). Errors: train.110 for a k that is not
/// above 0.
struct k_annealing {
  double to = 64;
  std::size_t over = 1000;  ///< steps; 0: `to` from the start
  double from = 0;          ///< 0: the width of a row
  bool geometric = false;
  bool late = false;  ///< step 0 has `to`, step s what is above for s - 1 (dictionary_learning)

  template <class B>
  struct state {};

  double operator()(std::size_t step, std::size_t d_model) const {
    if (over == 0 || (late && step == 0)) return to;
    const double first = from == 0 ? static_cast<double>(d_model) : from;
    const std::size_t at = std::min(late ? step - 1 : step, over);
    const double r = static_cast<double>(at) / static_cast<double>(over);
    return geometric ? std::pow(first, 1 - r) * std::pow(to, r) : first * (1 - r) + to * r;
  }

  template <class Run, class Rows, class State>
  void before_step(Run& run, Rows, State&) const {
    auto& sparsify = run.model().sparsifier();
    static_assert(
        requires { sparsify.k; }, "plmscope: k_annealing is for sparsifiers with a field k");
    if (!(to > 0) || !(from >= 0) || !std::isfinite(to) || !std::isfinite(from)) {
      throw error(rules::train_k,
                  {.where = "k_annealing",
                   .expected = "finite numbers, `to` above 0, `from` 0 or above it",
                   .found = "from " + std::to_string(from) + " to " + std::to_string(to)});
    }
    using number = std::remove_reference_t<decltype(sparsify.k)>;
    sparsify.k = static_cast<number>((*this)(run.steps(), run.model().d_model()));
  }
  template <class Run, class Rows, class State>
  void after_step(Run&, Rows, Rows, State&) const {}
};

}  // namespace plmscope::inline PLMSCOPE_ABI
