// SPDX-License-Identifier: MIT
#pragma once

// The device backends under test: by nvcc the GPU, else the same kernels on a processor.
#if defined(__CUDACC__)
#include <plmscope/backend/cuda.cuh>
namespace devices {
using single = plmscope::cuda;
using twice = plmscope::basic_cuda<double>;
using with_tiles = single;  // whose teams multiply tiles
inline constexpr const char* name = "cuda";
}  // namespace devices
#else
#include <tests/backend/emulated_device.hpp>
namespace devices {
using single = emulation::device;
using twice = emulation::device_in_double;
using with_tiles = emulation::device_with_tiles;
inline constexpr const char* name = "emulated device";
}  // namespace devices
#endif
