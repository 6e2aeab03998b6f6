// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/backend/cpu/aligned_buffer.hpp>
#include <plmscope/backend/cpu/attention.hpp>
#include <plmscope/backend/cpu/batch_select.hpp>
#include <plmscope/backend/cpu/bf16_product.hpp>
#include <plmscope/backend/cpu/bf16_weights.hpp>
#include <plmscope/backend/cpu/compact.hpp>
#include <plmscope/backend/cpu/dense.hpp>
#include <plmscope/backend/cpu/gemm_eigen.hpp>
#include <plmscope/backend/cpu/gradients.hpp>
#include <plmscope/backend/cpu/int8_weights.hpp>
#include <plmscope/backend/cpu/optimizer.hpp>
#include <plmscope/backend/cpu/prefixes.hpp>
#include <plmscope/backend/cpu/rows.hpp>
#include <plmscope/backend/cpu/screened_product.hpp>
#include <plmscope/backend/cpu/screening.hpp>
#include <plmscope/backend/cpu/select.hpp>
#include <plmscope/backend/cpu/sparse.hpp>
#include <plmscope/backend/cpu/transformer.hpp>
#include <plmscope/backend/precision.hpp>
#include <plmscope/backend/primitives.hpp>
#include <plmscope/backend/rules.hpp>
#include <plmscope/core/available_memory.hpp>
#include <plmscope/core/thread_pool.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>

namespace plmscope::inline PLMSCOPE_ABI {

/// The processor backend: one page of primitives over row-major views. The value carries its
/// threads; copies share them. Every primitive computes fixed tiles of rows and combines partial
/// sums in tile order, so results are the same bits for any number of threads, and a row's result
/// does not depend on which other rows stand in the batch.
///
/// `Real` is the type of activations and parameters (float; double for tests), `Gemm` the provider
/// of dense products (`eigen_gemm`, `openblas_gemm`, `onednn_gemm`).
///
/// What each primitive computes, its shapes and its edge behaviour are stated once, in
/// `backend/primitives.hpp`.
template <class Real, class Gemm>
class basic_cpu {
 public:
  using real = Real;
  using gemm_provider = Gemm;
  using whole_weights = typename Gemm::template packed<Real>;  ///< in the provider's own layout
  template <class T>
  using buffer = aligned_buffer<T>;
  /// Weights of `linear`, in the precision they were packed with.
  class packed {
   public:
    packed() = default;
    template <class Weights>
    explicit packed(Weights w) : weights_(std::move(w)) {}
    std::size_t rows() const noexcept {
      return visit([](const auto& w) { return w.rows(); });
    }
    std::size_t cols() const noexcept {
      return visit([](const auto& w) { return w.cols(); });
    }
    template <class F>
    decltype(auto) visit(const F& f) const {
      return std::visit(f, weights_);
    }

   private:
    std::conditional_t<std::is_same_v<Real, float>,
                       std::variant<whole_weights, bf16_weights, int8_weights>,
                       std::variant<whole_weights>>
        weights_;
  };
  /// Weights of `screened_rows`.
  using screened = cpu_kernels::screened_weights;
  using mat = view<basic_cpu, Real>;
  using cmat = view<basic_cpu, const Real>;
  template <class T>
  using cvec = view<basic_cpu, const T>;
  /// The rows x w^T + bias, of which nothing is computed but what `top_k_rows` selects from them.
  struct screened_rows {
    cmat x, w, bias;
    const screened& packed;  ///< of the same w and bias
    screening_counts& counts;
  };

  using count = std::size_t;  ///< what is counted is known at once
  static constexpr bool on_host = true;
  static constexpr bool single = std::is_same_v<Real, float>;
  static constexpr std::string_view id = "cpu";

  explicit basic_cpu(std::size_t threads = available_threads())
      : pool_(std::make_shared<thread_pool>(threads)) {}

  std::size_t threads() const noexcept { return pool_->threads(); }
  thread_pool& pool() noexcept { return *pool_; }
  /// Whether `with(p)` has such products here: bf16 and int8 take floats and a processor with
  /// AVX512-BF16 or AVX512-VNNI.
  static bool computes(product_precision p) noexcept {
    if (p == product_precision::bf16) return single && bf16_weights::available();
    if (p == product_precision::int8) return single && int8_weights::available();
    return p == product_precision::fp32;
  }
  /// The same threads with products of packed weights in another precision; what was packed keeps
  /// its own. Errors: backend.106 where `computes(p)` is false.
  basic_cpu with(product_precision p) const {
    if (!computes(p)) {
      throw error(
          rules::products_missing,
          {.where = std::string(id),
           .found = std::string(to_string(p)),
           .remedy = "bf16 needs floats and a processor with AVX512-BF16, int8 AVX512-VNNI"});
    }
    basic_cpu other = *this;
    other.precision_ = p;
    return other;
  }
  product_precision precision() const noexcept { return precision_; }
  static std::string_view gemm_name() noexcept { return Gemm::name(); }

  // Memory.
  template <class T>
  buffer<T> allocate(std::size_t n) {
    return buffer<T>(n);
  }
  template <class T>
  void fill(view<basic_cpu, T> x, T value) {
    cpu_kernels::fill(*pool_, x, value);
  }
  template <class F>
  void entries(std::size_t rows, std::size_t cols, const F& f) {
    cpu_kernels::entries(*pool_, rows, cols, f);
  }
  template <class T, class U>
  void copy(view<basic_cpu, T> from, view<basic_cpu, U> to) {
    cpu_kernels::copy(*pool_, from, to);
  }
  template <class T, class U>
  void upload(std::span<const T> from, view<basic_cpu, U> to) {
    cpu_kernels::copy(*pool_, view<basic_cpu, const T>(from.data(), to.rows(), to.cols()), to);
  }
  template <class T, class U>
  void download(view<basic_cpu, T> from, std::span<U> to) {
    cpu_kernels::copy(*pool_, from, view<basic_cpu, U>(to.data(), from.rows(), from.cols()));
  }
  void synchronize() noexcept {}
  std::uint64_t available_bytes() const { return available_memory(); }

  // Dense products.
  packed pack(cmat w) {
    const auto as = [&]<class Weights>(std::type_identity<Weights>) {
      return packed(Weights(*pool_, w.data(), w.rows(), w.cols(), w.stride()));
    };
    if constexpr (std::is_same_v<Real, float>) {
      if (precision_ == product_precision::bf16) return as(std::type_identity<bf16_weights>());
      if (precision_ == product_precision::int8) return as(std::type_identity<int8_weights>());
    }
    return as(std::type_identity<whole_weights>());
  }
  void unpack(const packed& w, mat out) {
    w.visit([&](const auto& stored) { stored.unpack(out.data(), out.stride()); });
  }
  void linear(cmat x, const packed& w, cmat bias, mat out, epilogue then = epilogue::none) {
    w.visit([&](const auto& stored) {
      if constexpr (std::is_same_v<std::remove_cvref_t<decltype(stored)>, whole_weights>) {
        cpu_kernels::linear<Gemm>(*pool_, x, stored, bias, out, then);
      } else {
        cpu_kernels::linear_by_panels(*pool_, x, stored, bias, out, then);
      }
    });
  }
  void screen(cmat w, cmat bias, screened& out)
    requires single
  {
    out.assign(*pool_, w.data(), w.rows(), w.cols(), w.stride(),
               bias.empty() ? nullptr : bias.data());
  }
  void gemm_nt(cmat a, cmat b, mat c, Real beta = 0) {
    cpu_kernels::gemm_nt(*pool_, a, b, c, beta);
  }
  void gemm_nn(cmat a, cmat b, mat c, Real beta = 0) {
    cpu_kernels::gemm_nn<Gemm>(*pool_, a, b, c, beta);
  }
  void gemm_tn(cmat a, cmat b, mat c, Real beta = 0) {
    cpu_kernels::gemm_tn<Gemm>(*pool_, a, b, c, beta);
  }
  void gemm_nt(cmat a, cmat b, mat c, Real beta, product_precision p) {
    if (!rounds(p)) return gemm_nt(a, b, c, beta);
    if constexpr (single) cpu_kernels::bf16_product::nt(*pool_, a, b, c, beta);
  }
  void gemm_nn(cmat a, cmat b, mat c, Real beta, product_precision p) {
    if (!rounds(p)) return gemm_nn(a, b, c, beta);
    if constexpr (single) cpu_kernels::bf16_product::nn(*pool_, a, b, c, beta);
  }
  void gemm_tn(cmat a, cmat b, mat c, Real beta, product_precision p) {
    if (!rounds(p)) return gemm_tn(a, b, c, beta);
    if constexpr (single) cpu_kernels::bf16_product::tn(*pool_, a, b, c, beta);
  }

  // Rows.
  void add_row(mat x, cmat row, Real alpha = 1) { cpu_kernels::add_row(*pool_, x, row, alpha); }
  void scale_columns(mat x, cmat factors) { cpu_kernels::scale_columns(*pool_, x, factors); }
  void axpy(Real alpha, cmat x, mat y) { cpu_kernels::axpy(*pool_, alpha, x, y); }
  void scale(mat x, Real alpha) { cpu_kernels::scale(*pool_, x, alpha); }
  void column_sums(cmat x, mat out) { cpu_kernels::column_sums(*pool_, x, out); }
  void row_norms(cmat x, mat out) { cpu_kernels::row_norms(*pool_, x, out); }
  void normalize_rows(mat x, Real epsilon) { cpu_kernels::normalize_rows(*pool_, x, epsilon); }
  void project_rows(mat gradient, cmat direction, Real epsilon) {
    cpu_kernels::project_rows(*pool_, gradient, direction, epsilon);
  }
  void row_moments(cmat x, mat mean, mat deviation, std::size_t ddof, Real epsilon) {
    cpu_kernels::row_moments(*pool_, x, mean, deviation, ddof, epsilon);
  }
  void affine_rows(cmat x, cmat shift, cmat factor, mat out) {
    cpu_kernels::affine_rows(*pool_, x, shift, factor, out);
  }
  void gather_rows(cmat x, cvec<std::uint32_t> ids, mat out) {
    cpu_kernels::gather_rows(*pool_, x, ids, out);
  }
  void scatter_rows(cmat x, cvec<std::uint32_t> ids, mat out) {
    cpu_kernels::scatter_rows(*pool_, x, ids, out);
  }
  void scatter_add_rows(cmat x, cvec<std::uint32_t> ids, mat out) {
    cpu_kernels::scatter_add_rows(*pool_, x, ids, out);
  }
  void reciprocal(Real alpha, cmat x, mat out) { cpu_kernels::reciprocal(*pool_, alpha, x, out); }
  void row_dots(cmat a, cmat b, mat out) { cpu_kernels::row_dots(*pool_, a, b, out); }
  void column_dots(cmat a, cmat b, mat out) { cpu_kernels::column_dots(*pool_, a, b, out); }
  void weighted_row_sum(cmat w, cmat s, mat out, Real alpha) {
    cpu_kernels::weighted_row_sum(*pool_, w, s, out, alpha);
  }
  void add_sum(cmat x, view<basic_cpu, double> slot) { cpu_kernels::add_sum(*pool_, x, slot); }
  void add_sum_squares(cmat x, view<basic_cpu, double> slot) {
    cpu_kernels::add_sum_squares(*pool_, x, slot);
  }
  void add_projected_squares(cmat gradient, cmat direction, Real epsilon,
                             view<basic_cpu, double> slot) {
    cpu_kernels::add_projected_squares(*pool_, gradient, direction, epsilon, slot);
  }
  void clip_factor(cvec<double> sum_squares, double limit, view<basic_cpu, double> out) {
    out[0] = std::min(1.0, limit / (std::sqrt(sum_squares[0]) + 1e-6));
  }
  bool all_finite(cmat x) { return cpu_kernels::all_finite(*pool_, x); }

  // Selection.
  template <class Order = by_value, class Codes>
  void top_k_rows(cmat pre, std::size_t k, Order order, Codes& out) {
    cpu_kernels::top_k_rows(*pool_, *this, pre, k, order, out);
  }
  template <class Order = by_value, class Codes>
  void top_k_rows(const screened_rows& pre, std::size_t k, Order, Codes& out)
    requires single
  {
    pre.counts += cpu_kernels::screened_top_k<Order>(*pool_, *this, pre.x, pre.w, pre.bias,
                                                     pre.packed, k, out);
  }
  template <class Order = by_value, class Codes>
  void batch_top_n(cmat pre, std::size_t n, Order order, Codes& out, mat last = {}) {
    cpu_kernels::batch_top_n(*pool_, *this, pre, n, order, out, last);
  }
  template <class Order = by_value, class Codes>
  void keep_above(cmat pre, cmat bound, Order order, Codes& out) {
    cpu_kernels::keep_above(*pool_, *this, pre, bound, order, out);
  }
  template <class Codes>
  void group_max(cmat pre, std::size_t groups, bool zeros, Codes& out) {
    cpu_kernels::group_max(*pool_, *this, pre, groups, zeros, out);
  }

  // Sparse codes.
  template <class Codes, class F>
  void each_entry(const Codes& z, const F& f) {
    cpu_kernels::each_entry(*pool_, z, f);
  }
  template <class Codes>
  void split_rows(const Codes& z, cvec<std::uint32_t> ends, view<basic_cpu, std::int64_t> offsets) {
    cpu_kernels::split_rows(*pool_, z, ends, offsets);
  }
  template <class RowLoss>
  void prefix_errors(mat parts, cmat target, cmat bias, cmat shares, const RowLoss& loss,
                     mat rows) {
    cpu_kernels::prefix_errors(*pool_, parts, target, bias, shares, loss, rows);
  }
  template <class Codes>
  void decode(const Codes& z, cmat dictionary, cmat bias, mat out) {
    cpu_kernels::decode(*pool_, z, dictionary, bias, out);
  }
  template <class Codes, class RowLoss>
  void reconstruct(const Codes& z, cmat dictionary, cmat bias, cmat target, const RowLoss& loss,
                   mat gradient, mat dz, mat rows) {
    cpu_kernels::reconstruct(*pool_, z, dictionary, bias, target, loss, gradient, dz, rows);
  }
  template <class Codes>
  void sampled_dot(const Codes& z, cmat gradient, cmat dictionary, mat dz) {
    cpu_kernels::sampled_dot(*pool_, z, gradient, dictionary, dz);
  }
  template <class Codes, class Transposed>
  void transpose(const Codes& z, Transposed& out) {
    cpu_kernels::transpose(*pool_, *this, z, out);
  }
  template <class Transposed>
  void sparse_backward(const Transposed& by_feature, cmat z, cmat dz, cmat gradient, cmat x,
                       mat d_decoder, mat d_encoder, mat d_bias, Real beta = 0) {
    cpu_kernels::sparse_backward(*pool_, by_feature, z, dz, gradient, x, d_decoder, d_encoder,
                                 d_bias, beta);
  }

  // Optimizer.
  void adam(mat parameters, cmat gradient, mat m, mat v, const adam_step<Real>& s,
            cvec<double> factor = {}) {
    cpu_kernels::adam(*pool_, parameters, gradient, m, v, s, factor);
  }
  void adam_unit_rows(mat parameters, cmat gradient, mat m, mat v, const adam_step<Real>& s,
                      const unit_length_rule& rows, cvec<double> factor = {}) {
    cpu_kernels::adam_unit_rows(*pool_, parameters, gradient, m, v, s, rows, factor);
  }
  void sign_step(mat parameters, cmat gradient, Real rate) {
    cpu_kernels::sign_step(*pool_, parameters, gradient, rate);
  }

  // Latents.
  template <class Codes>
  void count_fired(const Codes& z, view<basic_cpu, std::int64_t> since, std::int64_t tokens,
                   Real least) {
    cpu_kernels::count_fired(z, since, tokens, least);
  }
  std::size_t ids_where(cvec<std::int64_t> since, std::int64_t at_least,
                        view<basic_cpu, std::uint32_t> out) {
    return cpu_kernels::ids_where(since, at_least, out);
  }

  // Transformer.
  void embed(cmat table, cvec<std::uint32_t> tokens, cmat row_scale, mat out) {
    cpu_kernels::embed(*pool_, table, tokens, row_scale, out);
  }
  void layer_norm(cmat x, cmat gain, cmat bias, Real epsilon, mat out) {
    cpu_kernels::layer_norm(*pool_, x, gain, bias, epsilon, out);
  }
  void gelu(mat x) { cpu_kernels::gelu(*pool_, x); }
  void silu_gate(cmat gate, cmat up, mat out) { cpu_kernels::silu_gate(*pool_, gate, up, out); }
  void rotary(mat q, mat k, std::size_t head_dim, cvec<std::int32_t> positions, cmat cosines,
              cmat sines, Real q_scale) {
    cpu_kernels::rotary(*pool_, q, k, head_dim, positions, cosines, sines, q_scale);
  }
  void attention(cmat q, cmat k, cmat v, std::size_t head_dim, cvec<std::int64_t> offsets,
                 std::size_t longest, mat out) {
    cpu_kernels::attention(*pool_, q, k, v, head_dim, offsets, longest, out);
  }
  void softmax_rows(mat x) { cpu_kernels::softmax_rows(*pool_, x); }

  // Gradients.
  void layer_norm_backward(cmat x, cmat gain, cmat g, Real epsilon, mat out) {
    cpu_kernels::layer_norm_backward(*pool_, x, gain, g, epsilon, out);
  }
  void gelu_backward(cmat x, mat g) { cpu_kernels::gelu_backward(*pool_, x, g); }
  void softmax_backward(cmat p, mat g) { cpu_kernels::softmax_backward(*pool_, p, g); }

 private:
  // Of products without packed weights.
  bool rounds(product_precision p) const {
    if (p == product_precision::fp32) return false;
    if (p == product_precision::int8) {
      throw error(rules::products_missing,
                  {.where = std::string(id), .found = "int8 without packed weights"});
    }
    static_cast<void>(with(p));
    return true;
  }

  std::shared_ptr<thread_pool> pool_;
  product_precision precision_ = product_precision::fp32;
};

}  // namespace plmscope::inline PLMSCOPE_ABI
