// expect: plmscope: a hook is called at its sites: add `template <class B> void operator()(B& be,
// SPDX-License-Identifier: MIT
// A hook that cannot be called with backend, site, states and slice.
#include <plmscope/plm/esm2.hpp>

#include <vector>

struct my_hook {
  std::vector<plmscope::site> sites() const { return {plmscope::resid_post{0}}; }
#ifdef CONTROL
  template <class B>
  void operator()(B&, plmscope::site, plmscope::view<B>, const plmscope::batch_slice&) {}
#else
  template <class B>
  void operator()(plmscope::site, plmscope::view<B>) {}
#endif
};

void run(plmscope::esm2<>& model, const plmscope::packed_batch& batch) {
  model.forward(batch, my_hook{});
}
