// expect: plmscope: a hook names its sites: add `std::vector<plmscope::site> sites() const
// SPDX-License-Identifier: MIT
// A hook that does not say where it wants to be called.
#include <plmscope/plm/esm2.hpp>

#include <vector>

struct my_hook {
#ifdef CONTROL
  std::vector<plmscope::site> sites() const { return {plmscope::resid_post{0}}; }
#endif
  template <class B>
  void operator()(B&, plmscope::site, plmscope::view<B>, const plmscope::batch_slice&) {}
};

void run(plmscope::esm2<>& model, const plmscope::packed_batch& batch) {
  model.forward(batch, my_hook{});
}
