// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/backend/primitives.hpp>
#include <plmscope/core/view.hpp>
#include <plmscope/tensor/codes.hpp>

#include <string_view>

namespace plmscope::inline PLMSCOPE_ABI {

/// ReLU: z = max(a, 0) (Bricken et al. 2023, "Towards monosemanticity"). How sparse codes are is up to
/// a penalty, see `l1_penalty`. Cost: one pass over the pre-activations.
struct relu {
  static constexpr std::string_view id = "relu";

  template <class B>
  void select(B& be, const_view<B> pre, codes<B>& out) const {
    be.keep_above(pre, const_view<B>(), by_value{}, out);
  }
};

}  // namespace plmscope::inline PLMSCOPE_ABI
