// SPDX-License-Identifier: MIT
// Work that was queued and is done when the host waits for it, not before: a host that does not
// wait finds what was there.
#pragma once

#include "memory.hpp"

#include <cuda_runtime_api.h>

#include <deque>
#include <functional>

struct CUstream_st {
  std::deque<std::function<void()>> work;
};

namespace simulator {

/// Shared memory of a block, at most: that of sm_90.
inline constexpr u64 most_shared = 227 * 1024;

void queue(cudaStream_t stream, std::function<void()> work);
/// Keeps an error for cudaGetLastError.
cudaError_t result(cudaError_t e);
/// Ends the program: what it wants is not simulated.
[[noreturn]] void refuse(const std::string& why);
/// PLMSCOPE_SIMULATOR=backwards: the last block and the last warp go first; verbose: the program
/// says at its end how much was run.
bool asked_for(const char* option);

}  // namespace simulator
