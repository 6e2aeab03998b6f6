// expect: plmscope: checkpoints need to know where a reader is: add `std::size_t position() const` and `void seek(B& be, std::size_t position)`
// SPDX-License-Identifier: MIT
// Without checkpoints `next` is enough; with them a reader must say where it is.
#include <plmscope/sae/sae.hpp>
#include <plmscope/train/trainer.hpp>

struct rows {
  plmscope::matrix<float, plmscope::cpu> x;
  plmscope::const_view<plmscope::cpu> next(plmscope::cpu&, std::size_t) { return x; }
};

int main() {
  plmscope::sae<> model({.d_model = 4, .features = 8});
  plmscope::trainer fit{.steps = 10
#ifndef CONTROL
                        ,
                        .checkpoints = plmscope::checkpoint_every{.folder = "checkpoints"}
#endif
  };
  fit(model, rows{});
}
