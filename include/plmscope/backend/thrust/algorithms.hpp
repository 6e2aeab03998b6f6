// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/config.hpp>

#include <thrust/scan.h>
#include <thrust/sequence.h>
#include <thrust/sort.h>

#include <cstddef>
#include <cstdint>

namespace plmscope::inline PLMSCOPE_ABI {

// The algorithms that kernels leave to Thrust, over any of its execution policies: its host systems
// in the tests, `thrust::cuda::par_nosync` on a GPU.
namespace thrust_algorithms {

/// x[i] = x[0] + ... + x[i], in place.
template <class Policy>
void running_sum(const Policy& policy, std::int64_t* x, std::size_t n) {
  thrust::inclusive_scan(policy, x, x + n, x);
}

/// Sorts keys and leaves in `positions` where each came from; equal keys keep their order. Radix
/// sort: a counting sort per digit.
template <class Policy>
void sort_with_positions(const Policy& policy, std::uint32_t* keys, std::uint32_t* positions,
                         std::size_t n) {
  thrust::sequence(policy, positions, positions + n);
  thrust::stable_sort_by_key(policy, keys, keys + n, positions);
}

}  // namespace thrust_algorithms
}  // namespace plmscope::inline PLMSCOPE_ABI
