// expect: plmscope: a dictionary policy acts at some moment of a step: add `template <class B> void after_step(B& be, plmscope::sae_parameters<B>& p) const`
// SPDX-License-Identifier: MIT
// There is no moment of this name: the policy would do nothing.
#include <plmscope/train/trainer.hpp>

struct half_length {
  template <class B>
#ifdef CONTROL
  void after_step(B& be, plmscope::sae_parameters<B>& p) const {
#else
  void after_update(B& be, plmscope::sae_parameters<B>& p) const {
#endif
    be.normalize_rows(p.decoder, 0);
    be.scale(p.decoder, 0.5f);
  }
};

int main() {
  plmscope::sae<> model({.d_model = 4, .features = 8});
  plmscope::training_run run(model, plmscope::trainer{.dictionary = half_length{}});
}
