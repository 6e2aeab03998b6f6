// expect: plmscope: a hook says how far the pass must run: add `plmscope::site last_site() const
// SPDX-License-Identifier: MIT
// A hook that does not say where the pass may stop.
#include <plmscope/plm/esm2.hpp>

struct my_hook {
#ifdef CONTROL
  plmscope::site last_site() const { return plmscope::resid_post{0}; }
#endif
  template <class B>
  void operator()(B&, plmscope::site, plmscope::view<B>, const plmscope::batch_slice&) {}
};

void run(plmscope::esm2<>& model, const plmscope::packed_batch& batch) {
  model.forward(batch, my_hook{});
}
