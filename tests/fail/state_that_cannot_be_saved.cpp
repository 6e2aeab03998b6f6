// expect: plmscope: a checkpoint cannot save this state: add `template <class F> void fields(const F& f)`
// SPDX-License-Identifier: MIT
// A policy with a memory must tell it, or trainings with checkpoints do not compile.
#include <plmscope/sae/sae.hpp>
#include <plmscope/train/trainer.hpp>

struct momentum {
  double lr = 1e-3;

  template <class B>
  struct state {
    plmscope::sae_parameters<B> mean;
#ifdef CONTROL
    template <class F>
    void fields(const F& f) {
      f("mean", mean);
    }
#endif
  };
  template <class B>
  state<B> start(B& be, const plmscope::sae_parameters<B>& p) const {
    return {p.zeros_like(be)};
  }
  template <class B>
  void step(B&, plmscope::sae_parameters<B>&, const plmscope::sae_parameters<B>&, state<B>&, double,
            plmscope::const_view<B, double>) const {}
};

struct rows {
  plmscope::matrix<float, plmscope::cpu> x;
  std::size_t at = 0;
  plmscope::const_view<plmscope::cpu> next(plmscope::cpu&, std::size_t) { return x; }
  std::size_t position() const { return at; }
  void seek(plmscope::cpu&, std::size_t to) { at = to; }
  std::string identity() const { return "none"; }
};

int main() {
  plmscope::sae<> model({.d_model = 4, .features = 8});
  plmscope::trainer fit{.optimizer = momentum{},
                        .checkpoints = plmscope::checkpoint_every{.folder = "checkpoints"}};
  fit(model, rows{});
}
