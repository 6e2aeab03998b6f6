// expect: plmscope: this penalty has a member that is never called: `on_values` and `on_pre` take
// SPDX-License-Identifier: MIT
// Without the sums in its arguments this `add_gradient` would be passed over in silence.
#include <plmscope/train/trainer.hpp>

struct my_penalty {
  template <class B>
  struct state {};
  template <class B>
  void on_values(B&, plmscope::step_context<B>&, state<B>&) const {}
  template <class B>
  void add_gradient(B&, plmscope::step_context<B>&, plmscope::sae_parameters<B>&,
#ifdef CONTROL
                    plmscope::view<B>,
#endif
                    state<B>&) const {
  }
  template <class B>
  double loss(B&, state<B>&) const {
    return 0;
  }
};

int main() {
  plmscope::sae<> model({.d_model = 4, .features = 8});
  plmscope::training_run run(model, plmscope::trainer{.penalty = my_penalty{}});
}
