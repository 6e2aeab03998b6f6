// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/version.hpp>

#include <limits>

// Inline functions compiled for different instruction sets must never be merged by the linker: the
// wrong copy would be slow or fault. The ABI tag therefore names the instruction set, and every
// header opens `namespace plmscope::inline PLMSCOPE_ABI`.
#if defined(__AVX512F__)
#define PLMSCOPE_ABI v0_avx512
#elif defined(__AVX2__) && defined(__FMA__)
#define PLMSCOPE_ABI v0_avx2
#else
#define PLMSCOPE_ABI v0_base
#endif

#if defined(__CUDACC__)
#if !defined(EIGEN_NO_CUDA)
#error "plmscope: compile .cu files with -DEIGEN_NO_CUDA, as the CMake target plmscope::cuda does; without it Eigen is scalar in the whole program"
#endif
#define PLMSCOPE_HD __host__ __device__
// For lambdas in headers, and with no host part: nvcc keeps how to copy and call a lambda for both
// sides in variables of one file, but merges the functions that take it, so that a program of
// several .cu files would call null.
#define PLMSCOPE_DEVICE __device__
#else
#define PLMSCOPE_HD
#define PLMSCOPE_DEVICE
#endif

static_assert(std::numeric_limits<float>::is_iec559, "plmscope needs IEEE 754 floating point");
