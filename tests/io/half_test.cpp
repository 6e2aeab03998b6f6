// SPDX-License-Identifier: MIT
#include <plmscope/io/half.hpp>

#include <doctest/doctest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <vector>

using namespace plmscope;

namespace {

// The value of a binary16, from its definition.
double half_value(std::uint16_t bits) {
  const int exponent = (bits >> 10) & 31;
  const int fraction = bits & 1023;
  const double sign = bits & 0x8000 ? -1.0 : 1.0;
  if (exponent == 31) return fraction == 0 ? sign * INFINITY : NAN;
  if (exponent == 0) return sign * std::ldexp(fraction, -24);
  return sign * std::ldexp(1024 + fraction, exponent - 25);
}

// Nearest binary16 by search among the neighbours; ties to the even one.
std::uint16_t nearest_half(float value) {
  const double magnitude = std::fabs(static_cast<double>(value));
  std::uint16_t low = 0;
  for (std::uint16_t step = 0x4000; step > 0; step /= 2) {
    if (low + step <= 0x7bff && half_value(static_cast<std::uint16_t>(low + step)) <= magnitude) {
      low = static_cast<std::uint16_t>(low + step);
    }
  }
  const auto high = static_cast<std::uint16_t>(low + 1);
  const double high_value = high == 0x7c00 ? 65536.0 : half_value(high);
  const double below = magnitude - half_value(low);
  const double above = high_value - magnitude;
  const bool up = above < below || (above == below && low % 2 == 1) || magnitude > 65536.0;
  return static_cast<std::uint16_t>((up ? high : low) | (std::signbit(value) ? 0x8000 : 0));
}

}  // namespace

TEST_CASE("all 65,536 halves convert to their value and back") {
  std::size_t wrong = 0;
  for (unsigned i = 0; i < 65536; ++i) {
    const float16 h{static_cast<std::uint16_t>(i)};
    const float f = to_float(h);
    const double want = half_value(h.bits);
    if (std::isnan(want)) {
      wrong += !std::isnan(f) || !std::isnan(to_float(to_float16(f)));
    } else {
      wrong += static_cast<double>(f) != want || std::signbit(f) != std::signbit(want);
      wrong += to_float16(f) != h;
    }
    const bfloat16 b{static_cast<std::uint16_t>(i)};
    const float g = to_float(b);
    wrong += std::bit_cast<std::uint32_t>(g) != i << 16;
    wrong += std::isnan(g) ? !std::isnan(to_float(to_bfloat16(g))) : to_bfloat16(g) != b;
  }
  CHECK(wrong == 0);
}

TEST_CASE("floats round to the nearest half, ties to even") {
  std::size_t wrong = 0;
  std::size_t tested = 0;
  const auto check = [&](std::uint32_t bits) {
    const float f = std::bit_cast<float>(bits);
    if (std::isnan(f)) return;
    ++tested;
    wrong += to_float16(f).bits != (std::isinf(f) ? (f > 0 ? 0x7c00 : 0xfc00) : nearest_half(f));
  };
  for (std::uint64_t bits = 0; bits < 0x100000000; bits += 65521)
    check(static_cast<std::uint32_t>(bits));
  // Around every tie: the middle between two neighbouring halves and one step to either side.
  for (unsigned h = 0; h < 0x7c00; ++h) {
    const auto tie = static_cast<float>(
        (half_value(static_cast<std::uint16_t>(h)) +
         (h == 0x7bff ? 65536.0 : half_value(static_cast<std::uint16_t>(h + 1)))) /
        2);
    const auto bits = std::bit_cast<std::uint32_t>(tie);
    for (std::uint32_t d = 0; d < 3; ++d) check(bits - 1 + d);
    check((bits | 0x80000000u));
  }
  CHECK(tested > 180'000);
  CHECK(wrong == 0);
}

TEST_CASE("floats round to the nearest bfloat16, ties to even") {
  std::size_t wrong = 0;
  for (std::uint64_t step = 0; step < 0x100000000; step += 4099) {
    const auto bits = static_cast<std::uint32_t>(step);
    const float f = std::bit_cast<float>(bits);
    if (std::isnan(f)) continue;
    const std::uint32_t low = bits >> 16;
    const std::uint32_t rest = bits & 0xffff;
    const std::uint32_t want = rest > 0x8000 || (rest == 0x8000 && low % 2 == 1) ? low + 1 : low;
    wrong += to_bfloat16(f).bits != want;
  }
  CHECK(wrong == 0);
  CHECK(to_bfloat16(std::bit_cast<float>(0x3f808000u)).bits == 0x3f80);
  CHECK(to_bfloat16(std::bit_cast<float>(0x3f818000u)).bits == 0x3f82);
}

TEST_CASE("bulk conversion equals the single one at every length") {
  for (std::size_t n = 0; n < 70; ++n) {
    std::vector<float> from(n);
    for (std::size_t i = 0; i < n; ++i)
      from[i] = std::ldexp(1.37f, static_cast<int>(i) - 35) * (i % 2 ? -1 : 1);
    std::vector<float16> half(n);
    std::vector<bfloat16> brain(n);
    std::vector<float> back(n);
    to_float16(from, half);
    to_bfloat16(from, brain);
    bool same = true;
    for (std::size_t i = 0; i < n; ++i)
      same = same && half[i] == to_float16(from[i]) && brain[i] == to_bfloat16(from[i]);
    to_float<float16>(half, back);
    for (std::size_t i = 0; i < n; ++i) same = same && back[i] == to_float(half[i]);
    CHECK(same);
  }
}
