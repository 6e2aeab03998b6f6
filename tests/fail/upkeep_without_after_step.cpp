// expect: plmscope: an upkeep policy needs `template <class B> struct state`, `void before_step(Run& run, Rows x, State& s) const` and `void after_step(Run& run, Rows x, Rows y, State& s) const`
// SPDX-License-Identifier: MIT
// Both moments are asked for, also where nothing happens at one of them.
#include <plmscope/train/trainer.hpp>

struct falling_k {
  template <class B>
  struct state {};
  template <class Run, class Rows, class State>
  void before_step(Run& run, Rows, State&) const {
    run.model().sparsifier().k = run.steps() < 100 ? 4 : 2;
  }
#ifdef CONTROL
  template <class Run, class Rows, class State>
  void after_step(Run&, Rows, Rows, State&) const {}
#endif
};

int main() {
  plmscope::sae<> model({.d_model = 4, .features = 8});
  plmscope::training_run run(model, plmscope::trainer{.upkeep = falling_k{}});
}
