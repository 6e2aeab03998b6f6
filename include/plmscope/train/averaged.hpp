// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/core/view.hpp>
#include <plmscope/sae/parameters.hpp>
#include <plmscope/train/optimizer.hpp>

#include <cstddef>

namespace plmscope::inline PLMSCOPE_ABI {

/// Another optimizer, and a running mean of the parameters as they are at the end of each step,
/// which is what the training leaves in the model (Polyak & Juditsky 1992; Gao et al. 2024,
/// appendix A): mean = w after the first step, then decay mean + (1 - decay) w. The dictionary
/// policy has the last word: means of rows of length 1 are shorter and are rescaled. Figures of the
/// run are those of w. Cost: a pass over the parameters per step and another copy of them.
template <class Optimizer = adam>
struct averaged {
  Optimizer of = {};
  double decay = 0.999;
  double lr = of.lr;  ///< base rate: that of `of`

  template <class B>
  struct state {
    typename Optimizer::template state<B> of;
    sae_parameters<B> mean;
    std::size_t steps = 0;

    template <class F>
    void for_each_moment(const F& f) {
      of.for_each_moment(f);
    }
    /// f(parameters) for what is of the same kind as the model's parameters: moves with its
    /// latents, and begins anew with them.
    template <class F>
    void for_each_average(const F& f) {
      f(mean);
    }
    template <class F>
    void fields(const F& f) {
      f("of", of);
      f("mean", mean);
      f("steps", steps);
    }
  };

  template <class B>
  state<B> start(B& be, const sae_parameters<B>& p) const {
    return {of.start(be, p), p.zeros_like(be), 0};
  }

  template <class B>
  void step(B& be, sae_parameters<B>& p, const sae_parameters<B>& g, state<B>& s, double rate,
            const_view<B, double> factor) const {
    of.step(be, p, g, s.of, rate, factor);
  }

  /// The parameters are as the next step will find them.
  template <class B>
  void after_step(B& be, const sae_parameters<B>& p, state<B>& s) const {
    using real = typename B::real;
    const double keep = s.steps++ == 0 ? 0 : decay;
    for_each_together(
        [&](const auto& w, auto& mean) {
          be.scale(mean, static_cast<real>(keep));
          be.axpy(static_cast<real>(1 - keep), w, mean);
        },
        p, s.mean);
  }

  /// The training is over.
  template <class B>
  void finish(B& be, sae_parameters<B>& p, state<B>& s) const {
    if (s.steps == 0) return;
    for_each_together([&](auto& w, const auto& mean) { be.copy(const_view<B>(mean), w.all()); }, p,
                      s.mean);
  }
};

}  // namespace plmscope::inline PLMSCOPE_ABI
