// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/backend/cpu/aligned_buffer.hpp>
#include <plmscope/core/thread_pool.hpp>

#include <cblas.h>

#include <cstddef>
#include <cstring>
#include <string_view>
#include <type_traits>

namespace plmscope::inline PLMSCOPE_ABI {

/// Products by OpenBLAS, one library thread per call: plmscope's own pool supplies the threads.
/// OpenBLAS chooses its kernel at start; `core_name()` says which. On AVX-512 processors that it
/// does not know (or with OPENBLAS_CORETYPE set) it takes its AVX2 kernel "Haswell" at half speed:
/// the program warns.
struct openblas_gemm {
  static constexpr std::string_view name() noexcept { return "openblas"; }
  /// OpenBLAS rounds a row by its place in the call: bits depend on the rows beside it, and the
  /// backend cuts tiles without regard to the number of threads.
  static constexpr bool rows_independent = false;
  static std::string_view core_name() noexcept { return openblas_get_corename(); }

  template <class Real>
  static void product(bool transpose_a, bool transpose_b, std::size_t m, std::size_t n,
                      std::size_t k, const Real* a, std::size_t lda, const Real* b, std::size_t ldb,
                      Real beta, Real* c, std::size_t ldc) {
    static_assert(std::is_same_v<Real, float> || std::is_same_v<Real, double>);
    // The setting belongs to the calling thread in the OpenMP flavour.
    static thread_local const bool single = (openblas_set_num_threads(1), true);
    static_cast<void>(single);
    const auto i = [](std::size_t v) { return static_cast<blasint>(v); };
    const auto ta = transpose_a ? CblasTrans : CblasNoTrans;
    const auto tb = transpose_b ? CblasTrans : CblasNoTrans;
    if constexpr (std::is_same_v<Real, float>) {
      cblas_sgemm(CblasRowMajor, ta, tb, i(m), i(n), i(k), 1.0f, a, i(lda), b, i(ldb), beta, c,
                  i(ldc));
    } else {
      cblas_dgemm(CblasRowMajor, ta, tb, i(m), i(n), i(k), 1.0, a, i(lda), b, i(ldb), beta, c,
                  i(ldc));
    }
  }

  /// Weights [n, k] of y = x w^T, as a plain copy.
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
      openblas_gemm::product<Real>(false, true, m, n_, k_, x, ldx, weights_.get(), k_, beta, out,
                                   ldo);
    }

   private:
    aligned_buffer<Real> weights_;
    std::size_t n_ = 0;
    std::size_t k_ = 0;
  };
};

}  // namespace plmscope::inline PLMSCOPE_ABI
