// expect: plmscope: a penalty tells its value: add `template <class B> struct state` and `template <class B> double loss(B& be, state<B>& s) const`
// SPDX-License-Identifier: MIT
// A penalty that acts on codes and does not say what it adds to the loss.
#include <plmscope/train/trainer.hpp>

struct my_penalty {
  template <class B>
  struct state {};
  template <class B>
  void on_values(B&, plmscope::step_context<B>&, state<B>&) const {}
#ifdef CONTROL
  template <class B>
  double loss(B&, state<B>&) const {
    return 0;
  }
#endif
};

int main() {
  plmscope::sae<> model({.d_model = 4, .features = 8});
  plmscope::training_run run(model, plmscope::trainer{.penalty = my_penalty{}});
}
