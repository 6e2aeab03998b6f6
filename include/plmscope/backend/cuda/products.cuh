// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/backend/cuda/check.cuh>

#include <cublasLt.h>
#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <tuple>
#include <utility>

namespace plmscope::inline PLMSCOPE_ABI {

namespace cuda_detail {

/// One operand in the row-major sense.
struct operand {
  const void* data;
  std::size_t stride;  ///< entries from row to row
  bool transposed;     ///< the product uses its transpose
};

/// Row-major products by cuBLASLt. For every shape of the right operand one algorithm is chosen
/// once, without splitting the inner dimension, and used for any number of rows: so a row of the
/// result has the same bits whatever rows stand beside it, and runs repeat bit for bit.
class lt_products {
 public:
  static constexpr std::size_t workspace_bytes = std::size_t{32} << 20;

  lt_products() { check(cublasLtCreate(&handle_), "cublasLtCreate"); }
  lt_products(const lt_products&) = delete;
  lt_products& operator=(const lt_products&) = delete;
  ~lt_products() { cublasLtDestroy(handle_); }

  /// c[m, n] = a b + beta c. `type` is that of a and b; c is fp32, or double with CUDA_R_64F.
  void run(cudaStream_t stream, void* workspace, cudaDataType_t type, cublasComputeType_t compute,
           std::size_t m, std::size_t n, std::size_t k, operand a, operand b, void* c,
           std::size_t c_stride, double beta) {
    // cuBLAS counts columns first, so it computes the transpose: c^T = b^T a^T.
    const bool wide = type == CUDA_R_64F;
    const cudaDataType_t result = wide ? CUDA_R_64F : CUDA_R_32F;
    const descriptor what(compute, wide ? CUDA_R_64F : CUDA_R_32F, b.transposed, a.transposed);
    const layout left(type, b.transposed ? k : n, b.transposed ? n : k, b.stride);
    const layout right(type, a.transposed ? m : k, a.transposed ? k : m, a.stride);
    const layout out(result, n, m, c_stride);
    const cublasLtMatmulAlgo_t& algorithm =
        choose(what, left, type, compute, m, n, k, a, b, c, c_stride);
    const double wide_factors[] = {1.0, beta};
    const float factors[] = {1.0f, static_cast<float>(beta)};
    const void* one = wide ? static_cast<const void*>(&wide_factors[0]) : &factors[0];
    const void* two = wide ? static_cast<const void*>(&wide_factors[1]) : &factors[1];
    check(cublasLtMatmul(handle_, what.get, one, b.data, left.get, a.data, right.get, two, c,
                         out.get, c, out.get, &algorithm, workspace, workspace_bytes, stream),
          "cublasLtMatmul");
  }

 private:
  struct descriptor {
    cublasLtMatmulDesc_t get = nullptr;
    descriptor(cublasComputeType_t compute, cudaDataType_t scale, bool left_t, bool right_t) {
      check(cublasLtMatmulDescCreate(&get, compute, scale), "cublasLtMatmulDescCreate");
      const cublasOperation_t left = left_t ? CUBLAS_OP_T : CUBLAS_OP_N;
      const cublasOperation_t right = right_t ? CUBLAS_OP_T : CUBLAS_OP_N;
      cublasLtMatmulDescSetAttribute(get, CUBLASLT_MATMUL_DESC_TRANSA, &left, sizeof left);
      cublasLtMatmulDescSetAttribute(get, CUBLASLT_MATMUL_DESC_TRANSB, &right, sizeof right);
    }
    descriptor(const descriptor&) = delete;
    descriptor& operator=(const descriptor&) = delete;
    ~descriptor() { cublasLtMatmulDescDestroy(get); }
  };
  struct layout {
    cublasLtMatrixLayout_t get = nullptr;
    layout(cudaDataType_t type, std::size_t rows, std::size_t cols, std::size_t stride) {
      check(cublasLtMatrixLayoutCreate(&get, type, rows, cols, static_cast<std::int64_t>(stride)),
            "cublasLtMatrixLayoutCreate");
    }
    layout(const layout&) = delete;
    layout& operator=(const layout&) = delete;
    ~layout() { cublasLtMatrixLayoutDestroy(get); }
  };
  struct preference {
    cublasLtMatmulPreference_t get = nullptr;
    preference() { check(cublasLtMatmulPreferenceCreate(&get), "cublasLtMatmulPreferenceCreate"); }
    preference(const preference&) = delete;
    preference& operator=(const preference&) = delete;
    ~preference() { cublasLtMatmulPreferenceDestroy(get); }
    template <class T>
    void set(cublasLtMatmulPreferenceAttributes_t name, T value) {
      check(cublasLtMatmulPreferenceSetAttribute(get, name, &value, sizeof value),
            "cublasLtMatmulPreferenceSetAttribute");
    }
  };

  /// Largest power of two, at most 256, that a pointer and all its rows are aligned to.
  static std::uint32_t alignment(const void* data, std::size_t stride, std::size_t entry) {
    const auto bits = reinterpret_cast<std::uintptr_t>(data) | (stride * entry) | 256;
    return static_cast<std::uint32_t>(bits & (~bits + 1));
  }

  const cublasLtMatmulAlgo_t& choose(const descriptor& what, const layout& left,
                                     cudaDataType_t type, cublasComputeType_t compute,
                                     std::size_t m, std::size_t n, std::size_t k, const operand& a,
                                     const operand& b, const void* c, std::size_t c_stride) {
    const std::size_t entry = type == CUDA_R_16BF ? 2 : type == CUDA_R_64F ? 8 : 4;
    const std::size_t out_entry = type == CUDA_R_64F ? 8 : 4;
    const std::uint32_t align_a = alignment(a.data, a.stride, entry);
    const std::uint32_t align_b = alignment(b.data, b.stride, entry);
    const std::uint32_t align_c = alignment(c, c_stride, out_entry);
    // With a transposed left operand the rows of the result are summed over the batch: its number
    // belongs to the shape.
    const std::size_t rows = a.transposed ? m : 2048;
    const key_type key{type, compute, a.transposed, b.transposed, rows,
                       n,    k,       align_a,      align_b,      align_c};
    const auto known = algorithms_.find(key);
    if (known != algorithms_.end()) return known->second;

    const layout right(type, a.transposed ? rows : k, a.transposed ? k : rows, a.stride);
    const layout out(type == CUDA_R_64F ? CUDA_R_64F : CUDA_R_32F, n, rows, c_stride);
    preference wish;
    wish.set(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, std::uint64_t{workspace_bytes});
    wish.set(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
             static_cast<std::uint32_t>(CUBLASLT_REDUCTION_SCHEME_NONE));
    wish.set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, align_b);
    wish.set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, align_a);
    wish.set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, align_c);
    wish.set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, align_c);
    cublasLtMatmulHeuristicResult_t best{};
    int found = 0;
    check(cublasLtMatmulAlgoGetHeuristic(handle_, what.get, left.get, right.get, out.get, out.get,
                                         wish.get, 1, &best, &found),
          "cublasLtMatmulAlgoGetHeuristic");
    if (found == 0) {
      throw error(rules::device_product,
                  {.where = "cublasLtMatmulAlgoGetHeuristic",
                   .found = "no algorithm for [" + std::to_string(rows) + ", " + std::to_string(k) +
                            "] x [" + std::to_string(k) + ", " + std::to_string(n) + "]"});
    }
    return algorithms_.emplace(key, best.algo).first->second;
  }

  using key_type =
      std::tuple<cudaDataType_t, cublasComputeType_t, bool, bool, std::size_t, std::size_t,
                 std::size_t, std::uint32_t, std::uint32_t, std::uint32_t>;
  cublasLtHandle_t handle_ = nullptr;
  std::map<key_type, cublasLtMatmulAlgo_t> algorithms_;
};

}  // namespace cuda_detail
}  // namespace plmscope::inline PLMSCOPE_ABI
