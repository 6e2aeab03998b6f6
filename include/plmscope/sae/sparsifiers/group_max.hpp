// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/core/error.hpp>
#include <plmscope/core/view.hpp>
#include <plmscope/sae/rules.hpp>
#include <plmscope/sae/selection.hpp>
#include <plmscope/tensor/codes.hpp>

#include <cstddef>
#include <string>
#include <string_view>

namespace plmscope::inline PLMSCOPE_ABI {

/// GroupMax: the features stand in k equal groups; of each group the largest positive
/// pre-activation is kept (sparsify). Errors: `sae_options` when k does not divide the features.
struct group_max {
  static constexpr std::string_view id = "group_max";
  std::size_t k = 64;
  /// In training a group without a positive entry passes its gradient to its first latent, as
  /// sparsify's hand-written backward does.
  bool empty_groups_train = false;

  template <class B>
  struct state {};

  template <class B>
  void select(B& be, const_view<B> pre, codes<B>& out) const {
    be.group_max(pre, k, false, out);
  }
  template <class B>
  void candidates(B& be, const_view<B> pre, const selection<B>&, codes<B>& out, state<B>&) const {
    be.group_max(pre, k, empty_groups_train, out);
  }

  void check(std::size_t features) const {
    if (k > 0 && features % k == 0) return;
    throw error(rules::sae_options, {.where = "group_max",
                                     .expected = "a number of groups that divides " +
                                                 std::to_string(features),
                                     .found = std::to_string(k)});
  }

  template <class F>
  void fields(const F& f) {
    f("k", k);
    f("empty_groups_train", empty_groups_train);
  }
};

}  // namespace plmscope::inline PLMSCOPE_ABI
