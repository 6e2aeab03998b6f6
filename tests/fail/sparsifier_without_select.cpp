// expect: plmscope: a sparsifier needs `template <class B> void select(B& be, plmscope::const_view<B> pre, plmscope::codes<B>& out) const`
// SPDX-License-Identifier: MIT
// A sparsifier must select; a `select` that changes the sparsifier itself is not enough.
#include <plmscope/sae/sae.hpp>

struct keep_largest {
  static constexpr std::string_view id = "keep_largest";
  std::size_t k = 8;

  template <class B>
  void select(B& be, plmscope::const_view<B> pre, plmscope::codes<B>& out)
#ifdef CONTROL
      const
#endif
  {
    be.top_k_rows(pre, k, plmscope::by_value{}, out);
  }
};

int main() { plmscope::sae<keep_largest> model({.d_model = 4, .features = 8}); }
