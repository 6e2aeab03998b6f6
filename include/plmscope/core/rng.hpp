// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/config.hpp>

#include <cmath>
#include <cstddef>
#include <cstdint>

namespace plmscope::inline PLMSCOPE_ABI {

/// Counter-based random numbers: number i of a stream is a pure function of (seed, stream, i), so
/// the same on every backend, for any number of threads, and resumable from three integers. The
/// function is Philox-2x64 with 10 rounds (Salmon et al. 2011, "Parallel random numbers: as easy
/// as 1, 2, 3").
class rng {
 public:
  PLMSCOPE_HD constexpr explicit rng(std::uint64_t seed = 0, std::uint64_t stream = 0) noexcept
      : seed_(seed), stream_(stream) {}

  /// 64 random bits at position `i`.
  PLMSCOPE_HD constexpr std::uint64_t bits(std::uint64_t i) const noexcept {
    std::uint64_t a = i;
    std::uint64_t b = stream_;
    std::uint64_t key = seed_;
    for (int round = 0; round < 10; ++round) {
      const std::uint64_t high = multiply_high(0xD2B74407B1CE6E93u, a);
      const std::uint64_t low = 0xD2B74407B1CE6E93u * a;
      a = high ^ key ^ b;
      b = low;
      key += 0x9E3779B97F4A7C15u;
    }
    return a;
  }

  /// Uniform in [0, 1) with 53 bits.
  PLMSCOPE_HD constexpr double uniform(std::uint64_t i) const noexcept {
    return static_cast<double>(bits(i) >> 11) * 0x1p-53;
  }

  /// Uniform integer in [0, n), n > 0. The bias is below n / 2^64.
  PLMSCOPE_HD constexpr std::uint64_t below(std::uint64_t i, std::uint64_t n) const noexcept {
    return multiply_high(bits(i), n);
  }

  /// Standard normal (Box-Muller; uses positions 2i and 2i + 1).
  PLMSCOPE_HD double normal(std::uint64_t i) const noexcept {
    const double u = 1.0 - uniform(2 * i);
    return std::sqrt(-2.0 * std::log(u)) * std::cos(6.283185307179586476925 * uniform(2 * i + 1));
  }

 private:
  PLMSCOPE_HD static constexpr std::uint64_t multiply_high(std::uint64_t a,
                                                           std::uint64_t b) noexcept {
    const std::uint64_t al = a & 0xffffffffu, ah = a >> 32, bl = b & 0xffffffffu, bh = b >> 32;
    const std::uint64_t mid = ah * bl + ((al * bl) >> 32);
    const std::uint64_t mid2 = al * bh + (mid & 0xffffffffu);
    return ah * bh + (mid >> 32) + (mid2 >> 32);
  }

  std::uint64_t seed_;
  std::uint64_t stream_;
};

/// A pseudo-random permutation of [0, n) evaluated point by point, with no array: a four-round
/// Feistel network over the next power of four, walked until the value falls below n.
/// Cost: about four mixing rounds an evaluation, at most four evaluations on average.
class permutation {
 public:
  permutation(std::uint64_t n, std::uint64_t seed, std::uint64_t stream) noexcept
      : n_(n), mix_(seed, stream) {
    while (half_bits_ < 32 && (std::uint64_t{1} << (2 * half_bits_)) < n) ++half_bits_;
  }
  std::uint64_t operator()(std::uint64_t i) const noexcept {
    do i = once(i);
    while (i >= n_);
    return i;
  }
  std::uint64_t size() const noexcept { return n_; }

 private:
  std::uint64_t once(std::uint64_t i) const noexcept {
    const std::uint64_t mask = (std::uint64_t{1} << half_bits_) - 1;
    std::uint64_t left = i >> half_bits_;
    std::uint64_t right = i & mask;
    for (std::uint64_t round = 0; round < 4; ++round) {
      const std::uint64_t next = left ^ (mix_.bits((round << 32) | right) & mask);
      left = right;
      right = next;
    }
    return (left << half_bits_) | right;
  }

  std::uint64_t n_;
  rng mix_;
  unsigned half_bits_ = 1;
};

}  // namespace plmscope
