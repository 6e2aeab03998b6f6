// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/backend/precision.hpp>
#include <plmscope/core/view.hpp>
#include <plmscope/sae/screening.hpp>
#include <plmscope/tensor/matrix.hpp>

#include <algorithm>
#include <cstddef>

namespace plmscope::inline PLMSCOPE_ABI {

/// An encoder's pre-activations, x W_e^T + b_e, tile by tile of rows, never all [m, F] of them.
/// Holds the tile, and what screening keeps between batches.
template <class B>
class encoder_tiles {
 public:
  using real = typename B::real;

  struct encoder {
    const_view<B> weights;  ///< [F, d]
    const_view<B> bias;     ///< [1, F], or empty
    const_view<B> scale;    ///< [1, F], times every pre-activation; or empty
    product_precision precision = product_precision::fp32;
  };

  /// Rows of a tile: about 48 MiB of pre-activations.
  static std::size_t rows(std::size_t features) noexcept {
    constexpr std::size_t bytes = std::size_t{48} << 20;
    return std::clamp<std::size_t>(bytes / (features * sizeof(real)) / 512 * 512, 512, 8192);
  }

  /// f(pre) for all tiles of the rows x [m, d], in order.
  template <class F>
  void each(B& be, const encoder& e, const_view<B> x, const F& f) {
    if constexpr (requires { be.with(e.precision); }) {
      if (e.precision != product_precision::fp32) {
        auto rounding = be.with(e.precision);
        const auto packed = rounding.pack(e.weights);
        return each_tile(be, e, x, f, [&](const_view<B> in, view<B> out) {
          rounding.linear(in, packed, e.bias, out);
        });
      }
    }
    each_tile(be, e, x, f, [&](const_view<B> in, view<B> out) { exact(be, e, in, out); });
  }

  /// The same for an f that takes `screened_rows`, too: those it gets where that is faster.
  template <class F>
    requires sae_concepts::screens<B>
  void each_screened(B& be, const encoder& e, const_view<B> x, const F& f) {
    if (e.precision != product_precision::fp32 || !e.scale.empty() ||
        !B::computes(product_precision::bf16) || !screening_record::enough(x.rows())) {
      return each(be, e, x, f);
    }
    bool packed = false;
    for (std::size_t first = 0; first < x.rows(); first += screened_rows) {
      const const_view<B> in = x.row_range(first, std::min(screened_rows, x.rows() - first));
      if (!record_.pays()) {
        each(be, e, in, f);
        continue;
      }
      if (!packed) be.screen(e.weights, e.bias, screened_);
      packed = true;
      screening_counts counts;
      f(typename B::screened_rows{in, e.weights, e.bias, screened_, counts});
      record_.add(counts, e.weights.rows());
    }
  }

  /// What screening has cost since the start.
  const screening_record& record() const noexcept { return record_; }

 private:
  static void exact(B& be, const encoder& e, const_view<B> in, view<B> out) {
    be.gemm_nt(in, e.weights, out);
    if (!e.bias.empty()) be.add_row(out, e.bias);
  }

  template <class F, class Multiply>
  void each_tile(B& be, const encoder& e, const_view<B> x, const F& f, const Multiply& multiply) {
    const std::size_t tile = rows(e.weights.rows());
    for (std::size_t first = 0; first < x.rows(); first += tile) {
      const std::size_t n = std::min(tile, x.rows() - first);
      pre_.reshape(be, n, e.weights.rows());
      multiply(x.row_range(first, n), pre_.all());
      if (!e.scale.empty()) be.scale_columns(pre_, e.scale);
      f(const_view<B>(pre_));
    }
  }

  static constexpr std::size_t screened_rows = 4096;  // at a time: weights are read once for them

  matrix<real, B> pre_;
  screening_record record_;
  typename sae_concepts::screened_weights<B>::type screened_;
};

}  // namespace plmscope::inline PLMSCOPE_ABI
