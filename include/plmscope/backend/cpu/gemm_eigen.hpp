// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/backend/cpu/aligned_buffer.hpp>
#include <plmscope/core/thread_pool.hpp>

#include <Eigen/Core>

#include <cstddef>
#include <cstring>
#include <string_view>

namespace plmscope::inline PLMSCOPE_ABI {

/// One dense product on one thread, everything row-major: c[m, n] = op(a) op(b) + beta c, where
/// op(a) is [m, k] and op(b) is [k, n]. `m` is a multiple of 64 when called by the backend, which
/// keeps Eigen away from its row-count dependent code paths: a row's bits then depend on that row
/// and on b alone.
struct eigen_gemm {
  static constexpr std::string_view name() noexcept { return "eigen"; }
  /// A row of a product has the same bits wherever it stands among a multiple of 64 rows.
  static constexpr bool rows_independent = true;

  template <class Real>
  static void product(bool transpose_a, bool transpose_b, std::size_t m, std::size_t n,
                      std::size_t k, const Real* a, std::size_t lda, const Real* b, std::size_t ldb,
                      Real beta, Real* c, std::size_t ldc) {
    using dense = Eigen::Matrix<Real, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
    using strided = Eigen::Map<const dense, 0, Eigen::OuterStride<>>;
    const auto i = [](std::size_t v) { return static_cast<Eigen::Index>(v); };
    const strided av(a, i(transpose_a ? k : m), i(transpose_a ? m : k),
                     Eigen::OuterStride<>(i(lda)));
    const strided bv(b, i(transpose_b ? n : k), i(transpose_b ? k : n),
                     Eigen::OuterStride<>(i(ldb)));
    Eigen::Map<dense, 0, Eigen::OuterStride<>> cv(c, i(m), i(n), Eigen::OuterStride<>(i(ldc)));
    if (beta == Real{0}) {
      cv.setZero();
    } else if (beta != Real{1}) {
      cv *= beta;
    }
    if (k == 0) return;
    if (transpose_a && transpose_b) {
      cv.noalias() += av.transpose() * bv.transpose();
    } else if (transpose_a) {
      cv.noalias() += av.transpose() * bv;
    } else if (transpose_b) {
      cv.noalias() += av * bv.transpose();
    } else {
      cv.noalias() += av * bv;
    }
  }

  /// Weights [n, k] of y = x w^T. Eigen packs inside each product, so this is a plain copy.
  template <class Real>
  class packed {
   public:
    packed() = default;
    packed(thread_pool&, const Real* w, std::size_t n, std::size_t k, std::size_t stride)
        : weights_(n * k), n_(n), k_(k) {
      for (std::size_t r = 0; r < n && k > 0; ++r) {
        std::memcpy(weights_.get() + r * k, w + r * stride, k * sizeof(Real));
      }
    }
    std::size_t rows() const noexcept { return n_; }
    std::size_t cols() const noexcept { return k_; }
    void unpack(Real* w, std::size_t stride) const {
      for (std::size_t r = 0; r < n_ && k_ > 0; ++r) {
        std::memcpy(w + r * stride, weights_.get() + r * k_, k_ * sizeof(Real));
      }
    }
    void product(std::size_t m, const Real* x, std::size_t ldx, Real beta, Real* out,
                 std::size_t ldo) const {
      eigen_gemm::product<Real>(false, true, m, n_, k_, x, ldx, weights_.get(), k_, beta, out, ldo);
    }

   private:
    aligned_buffer<Real> weights_;
    std::size_t n_ = 0;
    std::size_t k_ = 0;
  };
};

}  // namespace plmscope::inline PLMSCOPE_ABI
