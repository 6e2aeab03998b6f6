// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/config.hpp>

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>

namespace plmscope::inline PLMSCOPE_ABI {

/// SHA-256 (FIPS 180-4), fed in pieces. Identifies models and checks files; about 0.3 GB/s.
class sha256 {
 public:
  using digest = std::array<std::uint8_t, 32>;

  void update(std::span<const std::byte> data) noexcept {
    length_ += data.size();
    if (held_ > 0) {
      const std::size_t take = std::min(data.size(), block_.size() - held_);
      std::memcpy(block_.data() + held_, data.data(), take);
      held_ += take;
      data = data.subspan(take);
      if (held_ < block_.size()) return;
      compress(block_.data());
      held_ = 0;
    }
    for (; data.size() >= block_.size(); data = data.subspan(block_.size())) compress(data.data());
    if (!data.empty()) std::memcpy(block_.data(), data.data(), data.size());
    held_ = data.size();
  }
  void update(std::string_view text) noexcept { update(std::as_bytes(std::span(text))); }
  /// A number as eight little-endian bytes.
  void update(std::uint64_t number) noexcept {
    std::array<std::byte, 8> bytes;
    for (std::size_t i = 0; i < 8; ++i) bytes[i] = static_cast<std::byte>(number >> (8 * i));
    update(std::span<const std::byte>(bytes));
  }

  /// The digest of everything fed so far; the object can be fed on.
  digest finish() const noexcept {
    sha256 last = *this;
    const std::uint64_t bits = length_ * 8;
    const std::array<std::byte, 72> padding{std::byte{0x80}};
    const std::size_t zeros = (held_ < 56 ? 56 : 120) - held_;
    last.update(std::span<const std::byte>(padding).first(zeros));
    std::array<std::byte, 8> tail;
    for (std::size_t i = 0; i < 8; ++i) tail[i] = static_cast<std::byte>(bits >> (56 - 8 * i));
    last.update(std::span<const std::byte>(tail));
    digest out;
    for (std::size_t i = 0; i < 32; ++i) {
      out[i] = static_cast<std::uint8_t>(last.state_[i / 4] >> (24 - 8 * (i % 4)));
    }
    return out;
  }

  /// The digest as 64 lower-case hexadecimal digits.
  std::string hex() const {
    std::string out;
    for (const std::uint8_t b : finish()) {
      out += "0123456789abcdef"[b >> 4];
      out += "0123456789abcdef"[b & 15];
    }
    return out;
  }

 private:
  void compress(const std::byte* block) noexcept {
    // The first 32 bits of the fractional parts of the cube roots of the first 64 primes.
    static constexpr std::array<std::uint32_t, 64> k = {
        0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4,
        0xab1c5ed5, 0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe,
        0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f,
        0x4a7484aa, 0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7,
        0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967, 0x27b70a85, 0x2e1b2138, 0x4d2c6dfc,
        0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85, 0xa2bfe8a1, 0xa81a664b,
        0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116,
        0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
        0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7,
        0xc67178f2};
    std::array<std::uint32_t, 64> w;
    for (std::size_t i = 0; i < 16; ++i) {
      w[i] = std::to_integer<std::uint32_t>(block[4 * i]) << 24 |
             std::to_integer<std::uint32_t>(block[4 * i + 1]) << 16 |
             std::to_integer<std::uint32_t>(block[4 * i + 2]) << 8 |
             std::to_integer<std::uint32_t>(block[4 * i + 3]);
    }
    for (std::size_t i = 16; i < 64; ++i) {
      const std::uint32_t a = w[i - 15];
      const std::uint32_t b = w[i - 2];
      w[i] = w[i - 16] + (std::rotr(a, 7) ^ std::rotr(a, 18) ^ (a >> 3)) + w[i - 7] +
             (std::rotr(b, 17) ^ std::rotr(b, 19) ^ (b >> 10));
    }
    std::array<std::uint32_t, 8> s = state_;
    for (std::size_t i = 0; i < 64; ++i) {
      const std::uint32_t t1 = s[7] +
                               (std::rotr(s[4], 6) ^ std::rotr(s[4], 11) ^ std::rotr(s[4], 25)) +
                               ((s[4] & s[5]) ^ (~s[4] & s[6])) + k[i] + w[i];
      const std::uint32_t t2 = (std::rotr(s[0], 2) ^ std::rotr(s[0], 13) ^ std::rotr(s[0], 22)) +
                               ((s[0] & s[1]) ^ (s[0] & s[2]) ^ (s[1] & s[2]));
      s = {t1 + t2, s[0], s[1], s[2], s[3] + t1, s[4], s[5], s[6]};
    }
    for (std::size_t i = 0; i < 8; ++i) state_[i] += s[i];
  }

  std::array<std::uint32_t, 8> state_ = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                         0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  std::array<std::byte, 64> block_{};
  std::size_t held_ = 0;
  std::uint64_t length_ = 0;
};

}  // namespace plmscope::inline PLMSCOPE_ABI
