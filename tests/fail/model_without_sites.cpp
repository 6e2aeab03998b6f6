// expect: plmscope: a model knows its sites: add `void check(const plmscope::site& at) const`
// SPDX-License-Identifier: MIT
// A model that does not know its sites cannot be read at one.
#include <plmscope/acts/read_activations.hpp>
#include <plmscope/backend/cpu.hpp>
#include <plmscope/plm/packed_batch.hpp>

#include <string>
#include <vector>

struct my_model {
  using backend_type = plmscope::cpu;
  using batch_type = plmscope::packed_batch;
#ifdef CONTROL
  void check(const plmscope::site&) const {}
  std::size_t width(const plmscope::site&) const { return 1; }
  plmscope::activation_source source(const plmscope::site&) const { return {}; }
#endif

  plmscope::cpu& backend() { return be; }
  template <class Hook>
  void forward(const batch_type&, Hook&&) {}

  plmscope::cpu be;
};

plmscope::model_reader<my_model> read(my_model& model, const std::vector<std::string>& sequences) {
  return {model, plmscope::embeddings{}, sequences};
}
