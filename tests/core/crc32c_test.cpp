// SPDX-License-Identifier: MIT
#include <plmscope/core/crc32c.hpp>
#include <plmscope/core/rng.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>
#include <vector>

using plmscope::crc32c;

namespace {

// The definition, bit by bit.
std::uint32_t by_definition(std::span<const std::byte> data) {
  std::uint32_t c = ~0u;
  for (const std::byte b : data) {
    c ^= std::to_integer<std::uint32_t>(b);
    for (int bit = 0; bit < 8; ++bit) c = (c >> 1) ^ ((c & 1u) != 0 ? 0x82f63b78u : 0u);
  }
  return ~c;
}

std::vector<std::byte> noise(std::size_t n, std::uint64_t seed) {
  const plmscope::rng random(seed);
  std::vector<std::byte> out(n);
  for (std::size_t i = 0; i < n; ++i) out[i] = static_cast<std::byte>(random.bits(i));
  return out;
}

}  // namespace

TEST_CASE("the values of RFC 3720, appendix B.4, and the check value of the catalogue") {
  std::vector<std::byte> bytes(32);
  CHECK(crc32c(bytes) == 0x8a9136aau);
  for (auto& b : bytes) b = std::byte{0xff};
  CHECK(crc32c(bytes) == 0x62a8ab43u);
  for (std::size_t i = 0; i < 32; ++i) bytes[i] = static_cast<std::byte>(i);
  CHECK(crc32c(bytes) == 0x46dd794eu);
  for (std::size_t i = 0; i < 32; ++i) bytes[i] = static_cast<std::byte>(31 - i);
  CHECK(crc32c(bytes) == 0x113fdb5cu);
  CHECK(crc32c(std::as_bytes(std::span(std::string_view("123456789")))) == 0xe3069283u);
  CHECK(crc32c({}) == 0);
}

TEST_CASE("every way of this processor agrees with the definition, at every length and alignment") {
  using namespace plmscope::crc32c_detail;
  const auto data = noise(3000, 1);
  for (std::size_t from = 0; from < 9; ++from) {
    for (std::size_t n = 0; n < 2900; n += n < 600 ? 1 : 61) {
      const auto part = std::span(data).subspan(from, n);
      const std::uint32_t want = by_definition(part);
      CHECK(crc32c(part) == want);
      CHECK(~update_by_tables(~0u, part.data(), n) == want);
      if (has_instruction()) CHECK(~update_by_instruction(~0u, part.data(), n) == want);
      std::vector<std::byte> copy(n + 1, std::byte{0x5a});
      const auto append = [&](const std::byte* p, std::size_t size) {
        if (size > 0) std::memcpy(copy.data() + (p - part.data()), p, size);
      };
      CHECK(plmscope::crc32c_visit(part, append) == want);
      CHECK(std::equal(part.begin(), part.end(), copy.begin()));
      CHECK(copy.back() == std::byte{0x5a});
    }
  }
  if (!has_instruction()) return;
  std::array<std::uint32_t, 4> four{~0u, ~0u, ~0u, ~0u};
  update_four(four, data.data(), 504);
  for (std::size_t k = 0; k < 4; ++k)
    CHECK(~four[k] == by_definition(std::span(data).subspan(k * 504, 504)));
}

TEST_CASE("blocks have the checksums they have alone") {
  const auto data = noise(5000, 2);
  for (const std::size_t block : {std::size_t{8}, std::size_t{64}, std::size_t{512}}) {
    for (const std::size_t n : {std::size_t{0}, std::size_t{1}, block, 4 * block, 4 * block + 3,
                                7 * block, 8 * block + 8}) {
      const auto part = std::span(data).first(n);
      std::vector<std::uint32_t> sums((n + block - 1) / block);
      plmscope::crc32c_blocks(part, block, sums);
      for (std::size_t i = 0; i < sums.size(); ++i) {
        CHECK(sums[i] == by_definition(part.subspan(i * block, std::min(block, n - i * block))));
      }
    }
  }
}
