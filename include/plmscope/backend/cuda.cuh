// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/backend/cuda/runtime.cuh>
#include <plmscope/backend/device.hpp>

namespace plmscope::inline PLMSCOPE_ABI {

/// A GPU as a backend; `Real` is the type of states and parameters. `cuda(1)` is the second GPU;
/// `be.with(product_precision::bf16)` the same GPU, stream and memory with faster products.
template <class Real>
using basic_cuda = basic_device<Real, cuda_runtime>;
using cuda = basic_cuda<float>;

}  // namespace plmscope
