// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/config.hpp>

#include <thrust/copy.h>
#include <thrust/iterator/counting_iterator.h>
#include <thrust/scan.h>

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

struct at_least {
  std::int64_t limit;
  PLMSCOPE_HD bool operator()(std::int64_t v) const noexcept { return v >= limit; }
};

/// Ascending i with x[i] >= limit into `out`; returns how many. Waits for the answer.
template <class Policy>
std::size_t ids_where(const Policy& policy, const std::int64_t* x, std::size_t n,
                      std::int64_t limit, std::uint32_t* out) {
  const thrust::counting_iterator<std::uint32_t> ids(0);
  const auto end =
      thrust::copy_if(policy, ids, ids + static_cast<std::ptrdiff_t>(n), x, out, at_least{limit});
  return static_cast<std::size_t>(end - out);
}

}  // namespace thrust_algorithms
}  // namespace plmscope::inline PLMSCOPE_ABI
