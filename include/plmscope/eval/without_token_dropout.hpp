// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/core/view.hpp>
#include <plmscope/plm/hook.hpp>
#include <plmscope/plm/site.hpp>

#include <vector>

namespace plmscope::inline PLMSCOPE_ABI {

/// Whether the model rescales its embeddings by the share of `<mask>`, as ESM-2 does.
template <class Model>
bool has_token_dropout(const Model& model) {
  if constexpr (requires { Model::batch_type::alphabet_type::token_dropout; }) {
    return Model::batch_type::alphabet_type::token_dropout;
  } else if constexpr (requires { model.visit([](const auto&) { return true; }); }) {
    return model.visit([](const auto& m) { return has_token_dropout(m); });
  } else {
    return false;
  }
}

/// A hook that takes the factor of unmasked sequences, 0.88, out of the embeddings again: ESM-2 as
/// programs run it that leave token dropout out. Of a masked sequence it would be another model's.
/// Switched off it has no site.
class without_token_dropout {
 public:
  explicit without_token_dropout(bool on = true) {
    if (on) sites_.push_back(embeddings{});
  }

  const std::vector<site>& sites() const noexcept { return sites_; }

  template <class B>
  void operator()(B& be, site, view<B> states, const batch_slice&) {
    be.scale(states, static_cast<typename B::real>(1 / 0.88));
  }

 private:
  std::vector<site> sites_;
};

}  // namespace plmscope::inline PLMSCOPE_ABI
