// SPDX-License-Identifier: MIT
// The algorithms of backend/thrust on Thrust's host systems: what they promise, without a GPU.
#include <plmscope/backend/thrust/algorithms.hpp>

#include <thrust/execution_policy.h>
#include <thrust/system/cpp/execution_policy.h>

#include <doctest/doctest.h>

#include <cstddef>
#include <cstdint>
#include <numeric>
#include <vector>

namespace {

std::uint32_t number(std::uint32_t i) { return (i * 2654435761u) >> 7; }

template <class Policy>
void check(const Policy& policy) {
  namespace algorithms = plmscope::thrust_algorithms;
  for (const std::size_t n : std::vector<std::size_t>{0, 1, 2, 63, 64, 65, 1000, 4099}) {
    CAPTURE(n);
    std::vector<std::int64_t> x(n);
    for (std::size_t i = 0; i < n; ++i)
      x[i] = static_cast<std::int64_t>(number(static_cast<std::uint32_t>(i)) % 1000);
    std::vector<std::int64_t> want(n);
    std::partial_sum(x.begin(), x.end(), want.begin());
    algorithms::running_sum(policy, x.data(), n);
    CHECK(x == want);
  }
}

}  // namespace

TEST_CASE("Thrust's sequential system") { check(thrust::cpp::par); }
TEST_CASE("Thrust's host system by name") { check(thrust::host); }
TEST_CASE("Thrust inside one thread") { check(thrust::seq); }
