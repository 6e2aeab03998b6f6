// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/backend/primitives.hpp>
#include <plmscope/tensor/codes.hpp>

#include <cstddef>
#include <string_view>

namespace plmscope::inline PLMSCOPE_ABI {

/// TopK: z = relu(a) on the k largest pre-activations of each row, 0 elsewhere (Gao et al. 2024,
/// "Scaling and evaluating sparse autoencoders", eq. 3). A row with fewer than k positive entries
/// keeps those. Ties go to the lower feature id. Cost: one pass over the pre-activations.
struct top_k {
  static constexpr std::string_view id = "top_k";
  std::size_t k = 64;
  bool negatives = false;  ///< values below zero may be among the k (OpenAI, postact_fn Identity)

  template <class B, class Pre>
  void select(B& be, const Pre& pre, codes<B>& out) const {
    if (negatives) {
      be.top_k_rows(pre, k, by_raw_value{}, out);
    } else {
      be.top_k_rows(pre, k, by_value{}, out);
    }
  }

  /// Named fields, for files: f(name, value&).
  template <class F>
  void fields(const F& f) {
    f("k", k);
    f("negatives", negatives);
  }
};

/// AbsTopK: z = a on the k pre-activations of largest magnitude of each row, so that a latent can
/// be active in both directions. Otherwise as `top_k`.
struct abs_top_k {
  static constexpr std::string_view id = "abs_top_k";
  std::size_t k = 64;

  template <class B, class Pre>
  void select(B& be, const Pre& pre, codes<B>& out) const {
    be.top_k_rows(pre, k, by_magnitude{}, out);
  }

  template <class F>
  void fields(const F& f) {
    f("k", k);
  }
};

}  // namespace plmscope::inline PLMSCOPE_ABI
