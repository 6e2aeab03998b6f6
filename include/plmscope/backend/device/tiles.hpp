// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/backend/bfloat16.hpp>

#include <cstdint>

namespace plmscope::inline PLMSCOPE_ABI {
namespace device_kernels {

/// Threads of a team that can multiply tiles (`team_product`, backend/device/group.hpp).
inline constexpr unsigned tile_lanes = 32;

/// Two numbers as the nearest bfloat16, ties to even; the first in the lower half. NaN stays NaN,
/// and what is beyond the largest (3.39e38) becomes infinite.
PLMSCOPE_HD inline std::uint32_t bf16_pair(float first, float second) noexcept {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  std::uint32_t pair;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(second), "f"(first));
  return pair;
#else
  return to_bfloat16(first) | static_cast<std::uint32_t>(to_bfloat16(second)) << 16;
#endif
}

PLMSCOPE_HD inline float first_of(std::uint32_t pair) noexcept {
  float v;
  store(static_cast<std::uint16_t>(pair & 0xffffu), v);
  return v;
}
PLMSCOPE_HD inline float second_of(std::uint32_t pair) noexcept {
  float v;
  store(static_cast<std::uint16_t>(pair >> 16), v);
  return v;
}

/// `team_product` out of `team_from`, in single precision and in the order of k, for tensor cores
/// that do not know bfloat16. Its 32 exchanges cost about as much as its arithmetic.
template <class Group>
PLMSCOPE_HD void product_by_exchange(Group& g, const std::uint32_t (&a)[4],
                                     const std::uint32_t (&b)[2], float (&c)[4]) {
  const unsigned row = g.lane() / 4 * 4;     // the first of the lanes with the same rows of a
  const unsigned column = g.lane() % 4 * 8;  // and of those with column 2 (lane % 4) of b
  for (unsigned half = 0; half < 2; ++half) {
    for (unsigned i = 0; i < 4; ++i) {
      const std::uint32_t upper = g.team_from(a[2 * half], row + i);
      const std::uint32_t lower = g.team_from(a[2 * half + 1], row + i);
      const std::uint32_t left = g.team_from(b[half], column + i);
      const std::uint32_t right = g.team_from(b[half], column + 4 + i);
      c[0] += first_of(upper) * first_of(left);
      c[0] += second_of(upper) * second_of(left);
      c[1] += first_of(upper) * first_of(right);
      c[1] += second_of(upper) * second_of(right);
      c[2] += first_of(lower) * first_of(left);
      c[2] += second_of(lower) * second_of(left);
      c[3] += first_of(lower) * first_of(right);
      c[3] += second_of(lower) * second_of(right);
    }
  }
}

}  // namespace device_kernels
}  // namespace plmscope::inline PLMSCOPE_ABI
