// expect: plmscope: a sparsifier needs a name: add `static constexpr std::string_view id = "my_sparsifier";`
// SPDX-License-Identifier: MIT
// A sparsifier must say what it is called: its name is written to files.
#include <plmscope/sae/sae.hpp>

struct keep_largest {
#ifdef CONTROL
  static constexpr std::string_view id = "keep_largest";
#endif
  std::size_t k = 8;

  template <class B>
  void select(B& be, plmscope::const_view<B> pre, plmscope::codes<B>& out) const {
    be.top_k_rows(pre, k, plmscope::by_value{}, out);
  }
};

int main() { plmscope::sae<keep_largest> model({.d_model = 4, .features = 8}); }
