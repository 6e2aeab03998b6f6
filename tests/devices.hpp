// SPDX-License-Identifier: MIT
#pragma once

// The device backends under test: by nvcc the GPU, else the same kernels on a processor.
#if defined(__CUDACC__)
#include <plmscope/backend/cuda.cuh>
namespace devices {
using single = plmscope::cuda;
using twice = plmscope::basic_cuda<double>;
inline constexpr const char* name = "cuda";
}  // namespace devices
#else
#include <tests/backend/emulated_device.hpp>
namespace devices {
using single = emulation::device;
using twice = emulation::device_in_double;
inline constexpr const char* name = "emulated device";
}  // namespace devices
#endif
