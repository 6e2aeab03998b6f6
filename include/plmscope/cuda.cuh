// SPDX-License-Identifier: MIT
#pragma once

// Everything, with the CUDA backend: for .cu files. In CMake: find_package(plmscope COMPONENTS cuda)
// and the target plmscope::cuda.
#include <plmscope/backend/cuda.cuh>
#include <plmscope/plmscope.hpp>
