// expect: plmscope: a model says what it reads: add `using batch_type = plmscope::packed_batch;`
// SPDX-License-Identifier: MIT
// What a model reads must be a packed batch.
#include <plmscope/acts/read_activations.hpp>
#include <plmscope/backend/cpu.hpp>
#include <plmscope/plm/packed_batch.hpp>

#include <string>
#include <vector>

struct my_model {
  using backend_type = plmscope::cpu;
#ifdef CONTROL
  using batch_type = plmscope::packed_batch;
#else
  using batch_type = std::string;
#endif
  void check(const plmscope::site&) const {}
  std::size_t width(const plmscope::site&) const { return 1; }
  plmscope::activation_source source(const plmscope::site&) const { return {}; }

  plmscope::cpu& backend() { return be; }
  template <class Hook>
  void forward(const batch_type&, Hook&&) {}

  plmscope::cpu be;
};

plmscope::model_reader<my_model> read(my_model& model, const std::vector<std::string>& sequences) {
  return {model, plmscope::embeddings{}, sequences};
}
