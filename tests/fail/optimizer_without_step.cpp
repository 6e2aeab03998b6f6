// expect: plmscope: an optimizer needs `template <class B> void step(B& be, plmscope::sae_parameters<B>& p, const plmscope::sae_parameters<B>& g, state<B>& s, double rate, plmscope::const_view<B, double> factor) const`
// SPDX-License-Identifier: MIT
// Gradient descent that knows nothing of clipping.
#include <plmscope/train/trainer.hpp>

struct descent {
  double lr = 0.1;
  template <class B>
  struct state {};
  template <class B>
  state<B> start(B&, const plmscope::sae_parameters<B>&) const {
    return {};
  }
  template <class B>
  void step(B&, plmscope::sae_parameters<B>&, const plmscope::sae_parameters<B>&, state<B>&, double
#ifdef CONTROL
            , plmscope::const_view<B, double>
#endif
  ) const {}
};

int main() {
  plmscope::sae<> model({.d_model = 4, .features = 8});
  plmscope::training_run run(model, plmscope::trainer{.optimizer = descent{}});
}
