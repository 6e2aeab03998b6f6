// SPDX-License-Identifier: MIT
#pragma once

// The backend of the examples, chosen when they are compiled: the GPU by nvcc, the processor else.
#if defined(__CUDACC__)
#include <plmscope/cuda.cuh>
using backend = plmscope::cuda;
#else
#include <plmscope/plmscope.hpp>
using backend = plmscope::cpu;
#endif
