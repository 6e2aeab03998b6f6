// expect: plmscope: a plan says which prefixes are reconstructed: add `plmscope::prefix_list operator()(std::size_t step, std::size_t features) const`
// SPDX-License-Identifier: MIT
// A plan that gives the ends alone, without shares.
#include <plmscope/train/trainer.hpp>

struct halves {
#ifdef CONTROL
  plmscope::prefix_list operator()(std::size_t, std::size_t features) const {
    const auto end = static_cast<std::uint32_t>(features);
    return {{end / 2, end}, {0.5, 0.5}};
  }
#else
  std::vector<std::uint32_t> operator()(std::size_t, std::size_t features) const {
    const auto end = static_cast<std::uint32_t>(features);
    return {end / 2, end};
  }
#endif
};

int main() {
  plmscope::sae<> model({.d_model = 4, .features = 8});
  plmscope::training_run run(model, plmscope::trainer{.plan = halves{}});
}
