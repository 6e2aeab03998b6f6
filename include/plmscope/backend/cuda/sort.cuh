// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/backend/cuda/check.cuh>
#include <plmscope/backend/device/buffer.hpp>

#include <cuda_runtime.h>
#include <cub/device/device_radix_sort.cuh>

#include <bit>
#include <cstddef>
#include <cstdint>

namespace plmscope::inline PLMSCOPE_ABI {

namespace cuda_detail {

/// Sorts n keys <= `largest` with a number each, equal keys in the order they had; in stream order,
/// without a wait. A radix sort of the digits that such keys have: two passes for 10,240 features
/// where all 32 bits take four. Borrows memory for as many keys and numbers more, the same sizes
/// for the same n.
template <class Pool>
void sort_pairs(Pool& pool, cudaStream_t stream, std::uint32_t* keys, std::uint32_t* numbers,
                std::uint32_t n, std::uint32_t largest) {
  const auto end_bit = static_cast<int>(std::bit_width(largest));
  if (n < 2 || end_bit == 0) return;
  const std::size_t bytes = std::size_t{n} * sizeof(std::uint32_t);
  const borrowed_memory other_keys(pool, bytes);
  const borrowed_memory other_numbers(pool, bytes);
  cub::DoubleBuffer<std::uint32_t> key(keys, other_keys.template as<std::uint32_t>());
  cub::DoubleBuffer<std::uint32_t> number(numbers, other_numbers.template as<std::uint32_t>());
  std::size_t work_bytes = 0;
  const auto sort = [&](void* work) {
    check(cub::DeviceRadixSort::SortPairs(work, work_bytes, key, number, n, 0, end_bit, stream),
          "cub::DeviceRadixSort::SortPairs");
  };
  sort(nullptr);  // only says how much memory it takes
  const borrowed_memory work(pool, work_bytes);
  sort(work.template as<void>());
  const auto bring_back = [&](cub::DoubleBuffer<std::uint32_t>& from, std::uint32_t* to) {
    if (from.Current() == to) return;  // where it is after an even number of passes
    check(cudaMemcpyAsync(to, from.Current(), bytes, cudaMemcpyDeviceToDevice, stream),
          "cudaMemcpyAsync");
  };
  bring_back(key, keys);
  bring_back(number, numbers);
}

}  // namespace cuda_detail
}  // namespace plmscope::inline PLMSCOPE_ABI
