// SPDX-License-Identifier: MIT
// The calls of cuBLASLt that plmscope makes, in place of libcublasLt.so. Strict where the library
// may be: an algorithm is for the types, forms and alignments that it was asked for. Sums in the
// order of k, in fp32, or in double for doubles.
#include "stream.hpp"

#include <cublasLt.h>

#include <cstdio>

namespace simulator {
namespace {

struct descriptor {
  cublasComputeType_t compute;
  cudaDataType_t scale;
  cublasOperation_t a = CUBLAS_OP_N;
  cublasOperation_t b = CUBLAS_OP_N;
};
struct layout {
  cudaDataType_t type;
  u64 rows;
  u64 columns;
  s64 stride;  ///< from column to column

  u64 entry() const { return type == CUDA_R_16BF ? 2 : type == CUDA_R_64F ? 8 : 4; }
};
using preference = std::map<int, u64>;

struct product {
  descriptor what;
  layout a, b, c;
  u64 m, n, k;

  product(cublasLtMatmulDesc_t d, cublasLtMatrixLayout_t left, cublasLtMatrixLayout_t right,
          cublasLtMatrixLayout_t out)
      : what(*reinterpret_cast<descriptor*>(d)),
        a(*reinterpret_cast<layout*>(left)),
        b(*reinterpret_cast<layout*>(right)),
        c(*reinterpret_cast<layout*>(out)) {
    m = what.a == CUBLAS_OP_N ? a.rows : a.columns;
    k = what.a == CUBLAS_OP_N ? a.columns : a.rows;
    n = what.b == CUBLAS_OP_N ? b.columns : b.rows;
  }
  bool fits() const {
    for (const layout* l : {&a, &b, &c}) {
      if (l->rows == 0 || l->columns == 0 || l->stride < static_cast<s64>(l->rows)) return false;
    }
    return k == (what.b == CUBLAS_OP_N ? b.rows : b.columns) && c.rows == m && c.columns == n &&
           a.type == b.type && c.type == (a.type == CUDA_R_64F ? CUDA_R_64F : CUDA_R_32F);
  }
  /// What an algorithm is made for.
  u64 kind() const {
    return static_cast<u64>(a.type) << 32 | static_cast<u64>(what.compute) << 8 |
           static_cast<u64>(what.a) << 4 | static_cast<u64>(what.b) << 1 | 1;
  }
};

bool aligned(const void* p, const layout& l, u64 to) {
  return to != 0 && (reinterpret_cast<u64>(p) | static_cast<u64>(l.stride) * l.entry()) % to == 0;
}

template <class T>
T load(const u8* p, cudaDataType_t type) {
  if (type == CUDA_R_16BF) {
    u16 half = 0;
    std::memcpy(&half, p, sizeof half);
    return from_bf16(half);
  }
  T x;
  std::memcpy(&x, p, sizeof x);
  return x;
}

/// An operand as it stands in the product, [rows, columns] of row-major entries.
template <class T>
std::vector<T> taken(const void* p, const layout& l, bool transposed) {
  std::vector<T> x(l.rows * l.columns);
  for (u64 j = 0; j < l.columns; ++j) {
    const u8* const column = device_memory::get().range(
        reinterpret_cast<u64>(p) + j * static_cast<u64>(l.stride) * l.entry(), l.rows * l.entry(),
        false, "operand of a product");
    for (u64 i = 0; i < l.rows; ++i) {
      x[transposed ? j * l.rows + i : i * l.columns + j] = load<T>(column + i * l.entry(), l.type);
    }
  }
  return x;
}

template <class T>
void multiply(const product& p, T alpha, const void* a, const void* b, T beta, void* c) {
  const auto left = taken<T>(a, p.a, p.what.a == CUBLAS_OP_T);
  const auto right = taken<T>(b, p.b, p.what.b == CUBLAS_OP_T);
  std::vector<T> result(p.m * p.n);
  for (u64 i = 0; i < p.m; ++i) {
    for (u64 q = 0; q < p.k; ++q) {
      for (u64 j = 0; j < p.n; ++j) result[i * p.n + j] += left[i * p.k + q] * right[q * p.n + j];
    }
  }
  for (u64 j = 0; j < p.n; ++j) {
    const u64 at = reinterpret_cast<u64>(c) + j * static_cast<u64>(p.c.stride) * sizeof(T);
    auto& memory = device_memory::get();
    if (beta != T{0}) {
      memory.range(at, p.m * sizeof(T), false, "result of a product that is added to");
    }
    u8* const column = memory.range(at, p.m * sizeof(T), true, "result of a product");
    for (u64 i = 0; i < p.m; ++i) {
      T x = alpha * result[i * p.n + j];
      if (beta != T{0}) x += beta * load<T>(column + i * sizeof(T), p.c.type);
      std::memcpy(column + i * sizeof(T), &x, sizeof x);
    }
  }
}

}  // namespace
}  // namespace simulator

using namespace simulator;

extern "C" {

cublasStatus_t cublasLtCreate(cublasLtHandle_t* handle) {
  static int device;
  *handle = reinterpret_cast<cublasLtHandle_t>(&device);
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtDestroy(cublasLtHandle_t) { return CUBLAS_STATUS_SUCCESS; }
const char* cublasLtGetStatusString(cublasStatus_t) { return "on the simulated device"; }

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t* d, cublasComputeType_t compute,
                                        cudaDataType_t scale) {
  *d = reinterpret_cast<cublasLtMatmulDesc_t>(new descriptor{compute, scale});
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t d) {
  delete reinterpret_cast<descriptor*>(d);
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t d,
                                              cublasLtMatmulDescAttributes_t what,
                                              const void* value, std::size_t bytes) {
  if (bytes != sizeof(cublasOperation_t)) return CUBLAS_STATUS_INVALID_VALUE;
  auto* const of = reinterpret_cast<descriptor*>(d);
  if (what == CUBLASLT_MATMUL_DESC_TRANSA) {
    return std::memcpy(&of->a, value, bytes), CUBLAS_STATUS_SUCCESS;
  }
  if (what == CUBLASLT_MATMUL_DESC_TRANSB) {
    return std::memcpy(&of->b, value, bytes), CUBLAS_STATUS_SUCCESS;
  }
  return CUBLAS_STATUS_NOT_SUPPORTED;
}
cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t* l, cudaDataType type,
                                          std::uint64_t rows, std::uint64_t columns,
                                          std::int64_t stride) {
  *l = reinterpret_cast<cublasLtMatrixLayout_t>(new layout{type, rows, columns, stride});
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t l) {
  delete reinterpret_cast<layout*>(l);
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t* p) {
  *p = reinterpret_cast<cublasLtMatmulPreference_t>(new preference);
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t p) {
  delete reinterpret_cast<preference*>(p);
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t p,
                                                    cublasLtMatmulPreferenceAttributes_t what,
                                                    const void* value, std::size_t bytes) {
  if (bytes != (what == CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES ? 8u : 4u)) {
    return CUBLAS_STATUS_INVALID_VALUE;
  }
  u64 x = 0;
  std::memcpy(&x, value, bytes);
  (*reinterpret_cast<preference*>(p))[what] = x;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t d,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t,
                                              cublasLtMatmulPreference_t wish, int most,
                                              cublasLtMatmulHeuristicResult_t* best, int* found) {
  const product p(d, a, b, c);
  *found = 0;
  if (most < 1 || !p.fits()) return CUBLAS_STATUS_INVALID_VALUE;
  auto& asked = *reinterpret_cast<preference*>(wish);
  *best = {};
  best->algo.data[0] = p.kind();
  best->algo.data[1] = asked[CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES];
  best->algo.data[2] = asked[CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES];
  best->algo.data[3] = asked[CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES];
  *found = 1;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmul(cublasLtHandle_t, cublasLtMatmulDesc_t d, const void* alpha,
                              const void* a, cublasLtMatrixLayout_t a_layout, const void* b,
                              cublasLtMatrixLayout_t b_layout, const void* beta, const void* c,
                              cublasLtMatrixLayout_t, void* out, cublasLtMatrixLayout_t out_layout,
                              const cublasLtMatmulAlgo_t* algorithm, void*, std::size_t,
                              cudaStream_t stream) {
  const product p(d, a_layout, b_layout, out_layout);
  if (!p.fits() || c != out) return CUBLAS_STATUS_INVALID_VALUE;
  if (algorithm->data[0] != p.kind() || !aligned(a, p.a, algorithm->data[1]) ||
      !aligned(b, p.b, algorithm->data[2]) || !aligned(out, p.c, algorithm->data[3])) {
    findings::get().add("a product by an algorithm that was chosen for another");
    return CUBLAS_STATUS_NOT_SUPPORTED;
  }
  const auto start = [&](auto one, auto two) {
    std::memcpy(&one, alpha, sizeof one);
    std::memcpy(&two, beta, sizeof two);
    queue(stream, [=] { multiply(p, one, a, b, two, out); });
  };
  p.c.type == CUDA_R_64F ? start(0.0, 0.0) : start(0.0f, 0.0f);
  return CUBLAS_STATUS_SUCCESS;
}

}  // extern "C"
