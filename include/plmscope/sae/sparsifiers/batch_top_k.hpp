// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/backend/primitives.hpp>
#include <plmscope/core/view.hpp>
#include <plmscope/sae/selection.hpp>
#include <plmscope/tensor/codes.hpp>
#include <plmscope/tensor/matrix.hpp>

#include <algorithm>
#include <cstddef>
#include <limits>
#include <span>
#include <string_view>

namespace plmscope::inline PLMSCOPE_ABI {

/// BatchTopK (Bussmann et al. 2024): in training the floor(k m) largest positive pre-activations of
/// the whole batch of m rows are kept, exactly, so that rows may have more or fewer than k; k may be
/// fractional. Afterwards z = a where a > threshold, which no longer depends on the other rows; the
/// threshold is the running mean of the smallest value kept. Where a batch has too few positive
/// entries all are kept and 0 is averaged in. Until training sets it the threshold is 0, which
/// keeps every positive entry.
///
/// Cost: of `top_k` (one pass over the pre-activations), and n = k m entries of memory.
struct batch_top_k {
  static constexpr std::string_view id = "batch_top_k";
  double k = 64;
  double threshold = 0;
  double smoothing = 0.999;     ///< share of the old value in the running mean, per step
  std::size_t first_step = 1000;  ///< the mean begins after this step (from 0), with its value there
  bool from_zero = false;       ///< it begins at 0 instead (SAELens, BatchTopK): biased low at first

  template <class B>
  struct state {
    matrix<typename B::real, B> last;     ///< [1, 1] smallest value kept in this batch
    matrix<typename B::real, B> running;  ///< [1, 1]
    std::size_t step = 0;
    std::size_t averaged = 0;

    template <class F>
    void fields(const F& f) {
      f("running", running);
      f("step", step);
      f("averaged", averaged);
    }
  };

  template <class B>
  void select(B& be, const_view<B> pre, codes<B>& out) const {
    using real = typename B::real;
    matrix<real, B> bound(be, 1, 1);
    be.fill(bound.all(), static_cast<real>(threshold));
    be.keep_above(pre, const_view<B>(bound), by_value{}, out);
  }

  template <class B>
  state<B> start(B& be) const {
    using real = typename B::real;
    return {matrix<real, B>(be, 1, 1), matrix<real, B>(be, 1, 1), 0, 0};
  }
  template <class B>
  void candidates(B& be, const_view<B> pre, const selection<B>& in, codes<B>& out,
                  state<B>& s) const {
    using real = typename B::real;
    if (out.rows() == 0) be.fill(s.last.all(), real{0});
    const auto n = static_cast<std::size_t>(std::max(0.0, k * static_cast<double>(in.batch_rows)));
    be.batch_top_n(pre, n, by_value{}, out, s.last.all());
  }
  /// Called when the batch is selected.
  template <class B>
  void observe(B& be, state<B>& s) const {
    using real = typename B::real;
    if (s.step++ <= first_step && first_step > 0) return;
    const bool replace = s.averaged++ == 0 && !from_zero;
    const double share = replace ? 1 : 1 - smoothing;
    be.scale(s.running.all(), static_cast<real>(1 - share));
    be.axpy(static_cast<real>(share), const_view<B>(s.last), s.running.all());
  }
  /// Takes over what training has learned. Waits for the device.
  template <class B>
  void finish(B& be, state<B>& s) {
    if (s.averaged > 0) be.download(const_view<B>(s.running), std::span<double>(&threshold, 1));
  }

  template <class F>
  void fields(const F& f) {
    f("k", k);
    f("threshold", threshold);
    f("smoothing", smoothing);
    f("first_step", first_step);
    f("from_zero", from_zero);
  }
};

}  // namespace plmscope::inline PLMSCOPE_ABI
