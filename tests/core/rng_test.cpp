// SPDX-License-Identifier: MIT
#include <plmscope/core/rng.hpp>

#include <doctest/doctest.h>

#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <set>
#include <vector>

namespace {

using plmscope::permutation;
using plmscope::rng;

TEST_CASE("Philox-2x64-10 gives the published known answers") {
  // Random123, kat_vectors: counter (position, stream), key, first word of the result.
  static_assert(rng(0, 0).bits(0) == 0xca00a0459843d731u);
  constexpr std::uint64_t ones = ~std::uint64_t{0};
  CHECK(rng(ones, ones).bits(ones) == 0x65b021d60cd8310fu);
  CHECK(rng(0xa4093822299f31d0u, 0x13198a2e03707344u).bits(0x243f6a8885a308d3u) ==
        0x0a5e742c2997341cu);
}

TEST_CASE("seed, stream and position each change everything") {
  std::set<std::uint64_t> seen;
  for (std::uint64_t seed = 0; seed < 10; ++seed) {
    for (std::uint64_t stream = 0; stream < 10; ++stream) {
      for (std::uint64_t i = 0; i < 100; ++i) seen.insert(rng(seed, stream).bits(i));
    }
  }
  CHECK(seen.size() == 10000);
  // One changed bit of position, stream or seed changes half of the 64 bits.
  const auto changed = [](auto&& other) {
    double sum = 0;
    for (unsigned b = 0; b < 64; ++b) {
      sum += std::popcount(rng(1, 2).bits(3) ^ other(std::uint64_t{1} << b));
    }
    return sum / 64;
  };
  CHECK(std::abs(changed([](auto bit) { return rng(1, 2).bits(3 ^ bit); }) - 32) < 2);
  CHECK(std::abs(changed([](auto bit) { return rng(1, 2 ^ bit).bits(3); }) - 32) < 2);
  CHECK(std::abs(changed([](auto bit) { return rng(1 ^ bit, 2).bits(3); }) - 32) < 2);
}

TEST_CASE("uniform numbers: range, mean, variance, every tenth equally often") {
  constexpr std::size_t n = 200000;
  const rng random(5, 1);
  double sum = 0;
  double squares = 0;
  std::array<std::size_t, 10> counts{};
  for (std::size_t i = 0; i < n; ++i) {
    const double u = random.uniform(i);
    REQUIRE(u >= 0);
    REQUIRE(u < 1);
    sum += u;
    squares += u * u;
    ++counts[static_cast<std::size_t>(10 * u)];
  }
  CHECK(std::abs(sum / n - 0.5) < 5 * std::sqrt(1.0 / 12 / n));
  CHECK(std::abs(squares / n - 1.0 / 3) < 5 * std::sqrt(4.0 / 45 / n));
  double chi = 0;
  for (const std::size_t c : counts) {
    chi += std::pow(static_cast<double>(c) - n / 10.0, 2) / (n / 10.0);
  }
  CHECK(chi < 35);  // 9 degrees of freedom: 1 in 10^4 above 33.7
}

TEST_CASE("normal numbers: moments, tails, independence of neighbours") {
  constexpr std::size_t n = 200000;
  const rng random(6, 1);
  double sum = 0, squares = 0, fourth = 0, neighbours = 0, before = 0;
  std::size_t tail = 0;
  for (std::size_t i = 0; i < n; ++i) {
    const double z = random.normal(i);
    REQUIRE(std::isfinite(z));
    sum += z, squares += z * z, fourth += z * z * z * z, neighbours += z * before;
    before = z;
    tail += std::abs(z) > 1.959964 ? 1U : 0U;
  }
  CHECK(std::abs(sum / n) < 5 / std::sqrt(n));
  CHECK(std::abs(squares / n - 1) < 5 * std::sqrt(2.0 / n));
  CHECK(std::abs(fourth / n - 3) < 5 * std::sqrt(96.0 / n));
  CHECK(std::abs(neighbours / n) < 5 / std::sqrt(n));
  CHECK(std::abs(static_cast<double>(tail) / n - 0.05) < 5 * std::sqrt(0.05 * 0.95 / n));
}

TEST_CASE("below(n) stays below n and is even") {
  const rng random(7, 1);
  for (const std::uint64_t n : {std::uint64_t{1}, std::uint64_t{2}, std::uint64_t{7},
                                std::uint64_t{1000003}, ~std::uint64_t{0}}) {
    for (std::uint64_t i = 0; i < 2000; ++i) REQUIRE(random.below(i, n) < n);
  }
  std::array<std::size_t, 7> counts{};
  for (std::uint64_t i = 0; i < 70000; ++i) ++counts[random.below(i, 7)];
  for (const std::size_t c : counts) CHECK(std::abs(static_cast<double>(c) - 10000) < 500);
}

TEST_CASE("a permutation reaches every number once") {
  for (const std::uint64_t n : std::vector<std::uint64_t>{1,    2,    3,    4,     5,    7,  15, 16,
                                                          17,   63,   64,   65,    101,  257,
                                                          1000, 1024, 1025, 4099, 65536, 65537}) {
    for (std::uint64_t seed = 0; seed < 3; ++seed) {
      const permutation p(n, seed, 4);
      CHECK(p.size() == n);
      std::vector<bool> seen(n, false);
      std::size_t wrong = 0;
      for (std::uint64_t i = 0; i < n; ++i) {
        const std::uint64_t to = p(i);
        if (to >= n || seen[to]) {
          ++wrong;
        } else {
          seen[to] = true;
        }
      }
      INFO("n ", n, " seed ", seed);
      CHECK(wrong == 0);
    }
  }
}

TEST_CASE("permutations of no and of very many numbers") {
  CHECK(permutation(0, 1, 1).size() == 0);
  constexpr std::uint64_t n = (std::uint64_t{1} << 62) + 12345;
  const permutation p(n, 3, 1);
  std::set<std::uint64_t> seen;
  for (std::uint64_t i = 0; i < 1000; ++i) {
    REQUIRE(p(n - 1 - i) < n);
    seen.insert(p(n - 1 - i));
  }
  CHECK(seen.size() == 1000);
}

TEST_CASE("a permutation mixes, and differs with seed and stream") {
  constexpr std::uint64_t n = 10007;
  constexpr double count = n;
  const permutation p(n, 1, 1);
  double covariance = 0;
  std::size_t fixed = 0, same_seed = 0, same_stream = 0;
  for (std::uint64_t i = 0; i < n; ++i) {
    covariance +=
        (static_cast<double>(i) / count - 0.5) * (static_cast<double>(p(i)) / count - 0.5);
    fixed += p(i) == i ? 1U : 0U;
    same_seed += p(i) == permutation(n, 2, 1)(i) ? 1U : 0U;
    same_stream += p(i) == permutation(n, 1, 2)(i) ? 1U : 0U;
  }
  CHECK(std::abs(12 * covariance / count) < 0.06);  // correlation; deviation of chance 0.01
  CHECK(fixed < 10);
  CHECK(same_seed < 10);
  CHECK(same_stream < 10);
}

}  // namespace
