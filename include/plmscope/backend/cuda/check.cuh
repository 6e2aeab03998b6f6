// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/backend/rules.hpp>

#include <cublasLt.h>
#include <cuda_runtime.h>

#include <new>
#include <string>

namespace plmscope::inline PLMSCOPE_ABI {
namespace cuda_detail {

/// Turns a failed call into an error with its name, what CUDA says and what to do.
inline void check(cudaError_t status, const char* call) {
  if (status == cudaSuccess) return;
  static_cast<void>(cudaGetLastError());
  const std::string found =
      std::string(cudaGetErrorName(status)) + ": " + cudaGetErrorString(status);
  switch (status) {
    case cudaErrorMemoryAllocation:
      throw error(rules::device_memory,
                  {.where = call,
                   .found = found,
                   .remedy = "a smaller batch, fewer tokens per pass or fewer features"});
    case cudaErrorNoDevice:
    case cudaErrorInsufficientDriver:
    case cudaErrorInvalidDevice:
      throw error(rules::device_missing,
                  {.where = call, .found = found, .remedy = "nvidia-smi shows GPUs and driver"});
    case cudaErrorNoKernelImageForDevice:
      throw error(rules::device_failed,
                  {.where = call,
                   .found = found,
                   .remedy = "compile for this GPU: set CMAKE_CUDA_ARCHITECTURES"});
    default:
      throw error(rules::device_failed, {.where = call, .found = found});
  }
}

inline void check(cublasStatus_t status, const char* call) {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  throw error(rules::device_product, {.where = call, .found = cublasLtGetStatusString(status)});
}

/// Device memory for `memory_pool`.
struct device_memory {
  void* allocate(std::size_t bytes) {
    void* p = nullptr;
    const cudaError_t status = cudaMalloc(&p, bytes);
    if (status == cudaErrorMemoryAllocation) {
      static_cast<void>(cudaGetLastError());
      throw std::bad_alloc();
    }
    check(status, "cudaMalloc");
    return p;
  }
  void release(void* p) noexcept { static_cast<void>(cudaFree(p)); }
};

}  // namespace cuda_detail
}  // namespace plmscope::inline PLMSCOPE_ABI
