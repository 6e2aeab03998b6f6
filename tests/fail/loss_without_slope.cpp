// expect: plmscope: a loss needs `template <class B> auto prepare(B& be, const plmscope::loss_inputs<B>& in) const`
// SPDX-License-Identifier: MIT
// What `prepare` gives has a value and no slope: there would be no gradient.
#include <plmscope/train/trainer.hpp>

struct my_row_loss {
  float scale;
  float value(std::size_t, float squared_error) const { return scale * squared_error; }
#ifdef CONTROL
  float slope(std::size_t, float) const { return 2 * scale; }
#endif
};

struct my_loss {
  static constexpr plmscope::loss_space space = plmscope::loss_space::normalized;
  template <class B>
  my_row_loss prepare(B&, const plmscope::loss_inputs<B>& in) const {
    return {1.0f / static_cast<float>(in.target.rows())};
  }
};

int main() {
  plmscope::sae<> model({.d_model = 4, .features = 8});
  plmscope::training_run run(model, plmscope::trainer{.loss = my_loss{}});
}
