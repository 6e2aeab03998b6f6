// SPDX-License-Identifier: MIT
#pragma once

#include "command.hpp"

#if defined(__CUDACC__)
#include <plmscope/cuda.cuh>
#else
#include <plmscope/backend/cpu.hpp>
#endif
#if defined(PLMSCOPE_PROGRAM_GEMM_ONEDNN)
#include <plmscope/backend/cpu/gemm_onednn.hpp>
#elif defined(PLMSCOPE_PROGRAM_GEMM_OPENBLAS)
#include <plmscope/backend/cpu/gemm_openblas.hpp>
#endif

// The backend the program was built for: by nvcc the GPU, else the library's `cpu` with the
// provider of dense products that CMake found (PLMSCOPE_GEMM).
#if defined(__CUDACC__)
using program_backend = plmscope::cuda;
#elif defined(PLMSCOPE_PROGRAM_GEMM_ONEDNN)
using program_backend = plmscope::basic_cpu<float, plmscope::onednn_gemm>;
#elif defined(PLMSCOPE_PROGRAM_GEMM_OPENBLAS)
using program_backend = plmscope::basic_cpu<float, plmscope::openblas_gemm>;
#else
using program_backend = plmscope::cpu;
#endif

/// The backend that the flags ask for.
inline program_backend open_backend(const common_options& options) {
  using plmscope::product_precision;
#if defined(__CUDACC__)
  const program_backend be;
#else
  const program_backend be(options.thread_count());
#endif
  for (const auto p : {product_precision::tf32, product_precision::bf16, product_precision::int8}) {
    if (options.precision == to_string(p)) return be.with(p);
  }
  return be;
}
