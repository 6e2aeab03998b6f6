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

/// c += a b over eight of the sixteen k, in their order: `upper` and `lower` are a lane's words of
/// rows g and g + 8 of a, `of_b` its word of b (`team_product`, backend/device/group.hpp).
template <class Group>
PLMSCOPE_HD void add_eight_by_exchange(Group& g, std::uint32_t upper, std::uint32_t lower,
                                       std::uint32_t of_b, float (&c)[4]) {
  const unsigned row = g.lane() / 4 * 4;     // the first of the lanes with the same rows of a
  const unsigned column = g.lane() % 4 * 8;  // and of those with column 2 (lane % 4) of b
  for (unsigned i = 0; i < 4; ++i) {
    const std::uint32_t rows[2] = {g.team_from(upper, row + i), g.team_from(lower, row + i)};
    const std::uint32_t left = g.team_from(of_b, column + i);
    const std::uint32_t right = g.team_from(of_b, column + 4 + i);
    for (unsigned h = 0; h < 2; ++h) {
      c[2 * h] += first_of(rows[h]) * first_of(left);
      c[2 * h] += second_of(rows[h]) * second_of(left);
      c[2 * h + 1] += first_of(rows[h]) * first_of(right);
      c[2 * h + 1] += second_of(rows[h]) * second_of(right);
    }
  }
}

/// `team_product` out of `team_from`, in single precision, for tensor cores that do not know
/// bfloat16. Its 32 exchanges cost about as much as its arithmetic.
template <class Group>
PLMSCOPE_HD void product_by_exchange(Group& g, const std::uint32_t (&a)[4],
                                     const std::uint32_t (&b)[2], float (&c)[4]) {
  add_eight_by_exchange(g, a[0], a[1], b[0], c);
  add_eight_by_exchange(g, a[2], a[3], b[1], c);
}

}  // namespace device_kernels
}  // namespace plmscope::inline PLMSCOPE_ABI
