// expect: plmscope: a dead-latent policy says whether it has a loss in this step: add `template <class B> bool find(B& be, state<B>& s) const`
// SPDX-License-Identifier: MIT
// A policy that only counts still has to say that it has no loss.
#include <plmscope/train/trainer.hpp>

struct only_count {
  std::int64_t dead_after = 1000;
  bool count_first = true;
  bool detach_residual = true;
  template <class B>
  struct state {
    plmscope::matrix<std::int64_t, B> since_fired;
    plmscope::matrix<std::uint32_t, B> ids;
  };
  template <class B>
  using inputs = plmscope::aux_k::inputs<B>;
  template <class B>
  state<B> start(B& be, const plmscope::sae_parameters<B>& p) const {
    return {{be, 1, p.encoder.rows()}, {be, 1, p.encoder.rows()}};
  }
  template <class B>
  void observe(B& be, const plmscope::codes<B>& z, state<B>& s) const {
    be.count_fired(z, s.since_fired.all(), static_cast<std::int64_t>(z.rows()), 0);
  }
#ifdef CONTROL
  template <class B>
  bool find(B&, state<B>&) const {
    return false;
  }
#endif
  template <class B>
  void forward(B&, const inputs<B>&, state<B>&, plmscope::view<B, double>) const {}
  template <class B>
  plmscope::const_view<B> residual_pull(const state<B>&) const {
    return {};
  }
  template <class B>
  void backward(B&, const inputs<B>&, state<B>&, plmscope::sae_parameters<B>&,
                plmscope::view<B>) const {}
};

int main() {
  plmscope::sae<> model({.d_model = 4, .features = 8});
  plmscope::training_run run(model, plmscope::trainer{.dead = only_count{}});
}
