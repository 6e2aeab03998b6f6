// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/config.hpp>

#include <thrust/scan.h>

#include <cstddef>
#include <cstdint>

namespace plmscope::inline PLMSCOPE_ABI {

// What kernels leave to Thrust, over any of its execution policies: its host systems in the tests,
// `thrust::cuda::par_nosync` on a GPU.
namespace thrust_algorithms {

/// x[i] = x[0] + ... + x[i], in place.
template <class Policy>
void running_sum(const Policy& policy, std::int64_t* x, std::size_t n) {
  thrust::inclusive_scan(policy, x, x + n, x);
}

}  // namespace thrust_algorithms
}  // namespace plmscope::inline PLMSCOPE_ABI
