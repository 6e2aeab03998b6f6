// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/backend/precision.hpp>
#include <plmscope/backend/rules.hpp>
#include <plmscope/core/error.hpp>
#include <plmscope/core/view.hpp>
#include <plmscope/sae/parameters.hpp>
#include <plmscope/tensor/codes.hpp>
#include <plmscope/tensor/codes_by_feature.hpp>
#include <plmscope/tensor/matrix.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>

namespace plmscope::inline PLMSCOPE_ABI {

namespace dead_products_detail {

/// dense[r, f] = value of the entry
template <class Real>
struct to_dense {
  const Real* values;
  Real* dense;
  std::size_t stride;
  PLMSCOPE_HD void operator()(std::size_t r, std::size_t e, std::uint32_t f) const {
    dense[r * stride + f] = values[e];
  }
};
/// value of the entry = dense[r, f]
template <class Real>
struct from_dense {
  const Real* dense;
  std::size_t stride;
  Real* values;
  PLMSCOPE_HD void operator()(std::size_t r, std::size_t e, std::uint32_t f) const {
    values[e] = dense[r * stride + f];
  }
};
/// Value and slope of the loss of each row, from its squared error.
template <class Real, class Loss>
struct row_figures {
  Loss loss;
  const Real* squares;
  Real* values;
  Real* slopes;
  PLMSCOPE_HD void operator()(std::size_t, std::size_t r) const {
    values[r] = loss.value(r, squares[r]);
    slopes[r] = loss.slope(r, squares[r]);
  }
};

}  // namespace dead_products_detail

/// The four products of a pass over a small dictionary (reconstruction, derivative of the codes,
/// both weight gradients), from sparse codes or from a dense block with zeros where nothing was
/// selected: the same numbers to rounding, at another cost.
template <class B>
class dead_products {
 public:
  using real = typename B::real;

  /// Rows of the dictionary are filled up with zeros to a multiple of this: dead latents come and
  /// go, and a library prepares every new shape of a product anew.
  static constexpr std::size_t quantum = 64;
  static constexpr std::size_t padded(std::size_t features) noexcept {
    return (features + quantum - 1) / quantum * quantum;
  }

  /// The one rule. A dense product multiplies by every zero but runs at the processor's full rate;
  /// the sums over sparse codes take `sparse_cost` times as long for each entry. Both ways do four
  /// products of the same width, so neither rows nor width matter. Measured on Zen 5 with oneDNN:
  /// the same time where 43 % of the places have entries (docs/concepts/dead_latents.md). For a
  /// device it is an estimate from what its kernels read.
  static constexpr double sparse_cost = B::on_host ? 2.3 : 8.0;
  bool dense_pays(std::size_t rows, std::size_t entries, std::size_t features) const noexcept {
    const double cost = rounded_ == product_precision::fp32 ? sparse_cost : 2 * sparse_cost;
    return entries > 0 && cost * static_cast<double>(entries) >=
                              static_cast<double>(rows) * static_cast<double>(features);
  }

  /// The dense products in p; the sparse sums stay as they are. Errors: backend.106 where the
  /// backend has no such products.
  void round(const B& be, product_precision p) {
    if constexpr (requires { be.with(p); }) {
      static_cast<void>(be.with(p));
    } else if (p != product_precision::fp32) {
      throw error(rules::products_missing,
                  {.where = std::string(B::id), .found = std::string(to_string(p))});
    }
    rounded_ = p;
  }
  /// Decides for these codes; entries are what is known without waiting, on a device an upper
  /// bound.
  void choose(const codes<B>& z) { dense_ = dense_pays(z.rows(), z.entries(), z.features()); }
  bool dense() const noexcept { return dense_; }
  /// For tests and measurements.
  void choose(bool dense) noexcept { dense_ = dense; }

  /// g [m, d] and rows [3, m] as in `reconstruct` (backend/primitives.hpp), for z over the first
  /// rows of `decoder` [padded, d]; the rest of them are zero. Keeps the derivatives of the codes.
  template <class Loss>
  void forward(B& be, const codes<B>& z, const_view<B> decoder, const_view<B> bias,
               const_view<B> target, const Loss& loss, view<B> g, view<B> rows) {
    using namespace dead_products_detail;
    const std::size_t m = z.rows();
    dz_.reshape(be, 1, std::max<std::size_t>(z.entries(), 1));
    if (!dense_) {
      be.reconstruct(z, decoder, bias, target, loss, g, dz_, rows);
      return;
    }
    const std::size_t width = decoder.rows();
    codes_.reshape(be, m, width);
    be.fill(codes_.all(), real{0});
    be.each_entry(z, to_dense<real>{z.values(), codes_.data(), width});
    be.copy(target, g);
    multiply(be, [&](auto& b, auto... p) {
      b.gemm_nn(codes_, decoder, g, real{-1}, p...);  // e = z D - y
    });
    if (!bias.empty()) be.add_row(g, bias);
    be.row_dots(g, g, rows.row_range(0, 1));
    be.entries(1, m,
               row_figures<real, Loss>{loss, rows.row_data(0), rows.row_data(1), rows.row_data(2)});
    zeros_.reshape(be, 1, m);
    be.fill(zeros_.all(), real{0});
    be.affine_rows(g, zeros_, rows.row_range(2, 1), g);
    pull_.reshape(be, m, width);
    multiply(be, [&](auto& b, auto... p) {
      b.gemm_nt(g, decoder, pull_, real{0}, p...);  // dL / dz = g D^T where z was selected, else 0
    });
    be.each_entry(z, from_dense<real>{pull_.data(), width, dz_.data()});
    be.fill(pull_.all(), real{0});
    be.each_entry(z, to_dense<real>{dz_.data(), pull_.data(), width});
  }

  /// Gradients of the z.features() first rows; `gradient` has as many rows as the decoder had.
  /// Without `encoder` only the decoder's.
  void backward(B& be, const codes<B>& z, const_view<B> g, const_view<B> x, bool encoder,
                sae_parameters<B>& gradient) {
    if (dense_) {
      multiply(be, [&](auto& b, auto... p) {
        b.gemm_tn(codes_, g, gradient.decoder, real{0}, p...);
        if (encoder) b.gemm_tn(pull_, x, gradient.encoder, real{0}, p...);
      });
      if (!encoder) return;
      be.column_sums(pull_, gradient.encoder_bias);
      return;
    }
    be.transpose(z, by_feature_);
    const auto of = [&](auto& m) { return m.all().row_range(0, z.features()); };
    be.sparse_backward(by_feature_, const_view<B>(z.values(), 1, z.entries()), dz_, g, x,
                       of(gradient.decoder), encoder ? of(gradient.encoder) : view<B>(),
                       encoder ? gradient.encoder_bias.all() : view<B>());
  }

 private:
  // products(backend, precision...): a device has one precision for all products.
  template <class F>
  void multiply(B& be, const F& products) {
    if constexpr (requires { be.gemm_nn(pull_, pull_, pull_, real{0}, rounded_); }) {
      products(be, rounded_);
    } else if constexpr (requires { be.with(rounded_); }) {
      if (rounded_ == product_precision::fp32) return products(be);
      B rounding = be.with(rounded_);
      products(rounding);
    } else {
      products(be);
    }
  }

  product_precision rounded_ = product_precision::fp32;
  bool dense_ = false;
  matrix<real, B> codes_, pull_;  // [m, padded]
  matrix<real, B> dz_, zeros_;
  codes_by_feature<B> by_feature_;
};

}  // namespace plmscope::inline PLMSCOPE_ABI
