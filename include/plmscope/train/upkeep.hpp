// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/core/view.hpp>

#include <cstddef>

namespace plmscope::inline PLMSCOPE_ABI {

// What is done to an SAE between steps: before_step(run, x, state) and after_step(run, x, y, state).
// `run` gives model(), backend(), optimizer_state(), dead_state(), last_codes(), steps(). What the next step
// needs belongs into the state: the codes of the step before are not there after a training is resumed.

/// Nothing.
struct no_upkeep {
  template <class B>
  struct state {};
  template <class Run, class Rows, class State>
  void before_step(Run&, Rows, State&) const {}
  template <class Run, class Rows, class State>
  void after_step(Run&, Rows, Rows, State&) const {}
};

}  // namespace plmscope::inline PLMSCOPE_ABI
