// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/core/view.hpp>
#include <plmscope/sae/normalizer.hpp>
#include <plmscope/tensor/matrix.hpp>

namespace plmscope::inline PLMSCOPE_ABI {

/// The results of a step, for a loss of them as a whole, and the way between the dictionary's scale
/// and that of the activations. Lives as long as the loss is computed.
template <class B>
struct whole_results {
  using real = typename B::real;

  const_view<B> result;  ///< [m, d] from the dictionary, at its scale
  const_view<B> aim;     ///< [m, d] what the dictionary aims at
  const_view<B> target;  ///< [m, d] the aim, with what a skip map and the like add to the result
  const normalizer& scale;
  typename normalizer::context<B>& context;
  matrix<real, B>& work;

  /// Results at the scale of the activations, [m, d], until the work is used for something else.
  const_view<B> raw(B& be) const {
    work.reshape(be, result.rows(), result.cols());
    be.copy(result, work.all());
    if (aim.data() != target.data()) {
      be.axpy(real{1}, target, work);
      be.axpy(real{-1}, aim, work);
    }
    scale.invert(be, work.all(), context);
    return work;
  }
  /// g: from the derivative with respect to `raw` to that with respect to `result`, in place.
  void pull_back(B& be, view<B> g) const { scale.pull_back(be, g, context); }
  /// Result less aim, [m, d]; until the work is used for something else.
  const_view<B> error(B& be) const {
    work.reshape(be, result.rows(), result.cols());
    be.copy(result, work.all());
    be.axpy(real{-1}, aim, work);
    return work;
  }
};

}  // namespace plmscope::inline PLMSCOPE_ABI
