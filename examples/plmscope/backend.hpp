// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/backend/cpu.hpp>
#if defined(PLMSCOPE_PROGRAM_GEMM_ONEDNN)
#include <plmscope/backend/cpu/gemm_onednn.hpp>
#elif defined(PLMSCOPE_PROGRAM_GEMM_OPENBLAS)
#include <plmscope/backend/cpu/gemm_openblas.hpp>
#endif

// The backend the program was built for: the library's `cpu` with the provider of dense products
// that CMake found (PLMSCOPE_GEMM).
#if defined(PLMSCOPE_PROGRAM_GEMM_ONEDNN)
using program_backend = plmscope::basic_cpu<float, plmscope::onednn_gemm>;
#elif defined(PLMSCOPE_PROGRAM_GEMM_OPENBLAS)
using program_backend = plmscope::basic_cpu<float, plmscope::openblas_gemm>;
#else
using program_backend = plmscope::cpu;
#endif
