// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/config.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

namespace plmscope::inline PLMSCOPE_ABI {

namespace crc32c_detail {

/// table[k][b]: the effect of byte b followed by k zero bytes, for the polynomial 0x1EDC6F41 with
/// its bits reversed.
inline constexpr auto table = [] {
  std::array<std::array<std::uint32_t, 256>, 8> t{};
  for (std::uint32_t b = 0; b < 256; ++b) {
    std::uint32_t c = b;
    for (int bit = 0; bit < 8; ++bit) c = (c >> 1) ^ ((c & 1u) != 0 ? 0x82f63b78u : 0u);
    t[0][b] = c;
  }
  for (std::size_t k = 1; k < 8; ++k) {
    for (std::size_t b = 0; b < 256; ++b) t[k][b] = (t[k - 1][b] >> 8) ^ t[0][t[k - 1][b] & 255u];
  }
  return t;
}();

/// Any processor: eight bytes a step by eight tables.
inline std::uint32_t update_by_tables(std::uint32_t c, const std::byte* p, std::size_t n) noexcept {
  for (; n >= 8; n -= 8, p += 8) {
    std::uint64_t w;
    std::memcpy(&w, p, 8);
    w ^= c;
    c = table[7][w & 255u] ^ table[6][(w >> 8) & 255u] ^ table[5][(w >> 16) & 255u] ^
        table[4][(w >> 24) & 255u] ^ table[3][(w >> 32) & 255u] ^ table[2][(w >> 40) & 255u] ^
        table[1][(w >> 48) & 255u] ^ table[0][w >> 56];
  }
  for (; n > 0; --n, ++p) c = (c >> 8) ^ table[0][(c ^ std::to_integer<std::uint32_t>(*p)) & 255u];
  return c;
}

#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
inline bool has_instruction() noexcept { return __builtin_cpu_supports("sse4.2") != 0; }

[[gnu::target("sse4.2")]] inline std::uint32_t update_by_instruction(std::uint32_t crc,
                                                                     const std::byte* p,
                                                                     std::size_t n) noexcept {
  std::uint64_t c = crc;
  for (; n >= 8; n -= 8, p += 8) {
    std::uint64_t w;
    std::memcpy(&w, p, 8);
    c = __builtin_ia32_crc32di(c, w);
  }
  auto last = static_cast<std::uint32_t>(c);
  for (; n > 0; --n, ++p) last = __builtin_ia32_crc32qi(last, std::to_integer<unsigned char>(*p));
  return last;
}

/// Four blocks of `n` bytes side by side: the instruction takes three cycles, but one can start in
/// every cycle. `n` is a multiple of 8.
[[gnu::target("sse4.2")]] inline void update_four(std::array<std::uint32_t, 4>& crc,
                                                  const std::byte* p, std::size_t n) noexcept {
  std::uint64_t a = crc[0], b = crc[1], c = crc[2], d = crc[3];
  for (std::size_t i = 0; i < n; i += 8) {
    std::uint64_t w[4];
    for (std::size_t k = 0; k < 4; ++k) std::memcpy(&w[k], p + k * n + i, 8);
    a = __builtin_ia32_crc32di(a, w[0]);
    b = __builtin_ia32_crc32di(b, w[1]);
    c = __builtin_ia32_crc32di(c, w[2]);
    d = __builtin_ia32_crc32di(d, w[3]);
  }
  crc = {static_cast<std::uint32_t>(a), static_cast<std::uint32_t>(b),
         static_cast<std::uint32_t>(c), static_cast<std::uint32_t>(d)};
}
#else
inline bool has_instruction() noexcept { return false; }
inline std::uint32_t update_by_instruction(std::uint32_t c, const std::byte* p,
                                           std::size_t n) noexcept {
  return update_by_tables(c, p, n);
}
inline void update_four(std::array<std::uint32_t, 4>& crc, const std::byte* p,
                        std::size_t n) noexcept {
  for (std::size_t k = 0; k < 4; ++k) crc[k] = update_by_tables(crc[k], p + k * n, n);
}
#endif

}  // namespace crc32c_detail

/// CRC-32C (Castagnoli et al. 1993; RFC 3720, appendix B.4): finds every error burst of up to 32
/// bits and misses one in 2^32 of the others. For damage, not against forgery. By the processor's
/// instruction where it has one (found at run time), by tables elsewhere (about 2 GB/s).
inline std::uint32_t crc32c(std::span<const std::byte> data) noexcept {
  static const bool fast = crc32c_detail::has_instruction();
  const std::uint32_t c = fast ? crc32c_detail::update_by_instruction(~0u, data.data(), data.size())
                               : crc32c_detail::update_by_tables(~0u, data.data(), data.size());
  return ~c;
}

/// The CRC-32C of every block of `block` bytes (a multiple of 8; the last may be shorter) into
/// `out`, one entry a block. With the instruction four blocks at a time, at about 8 bytes a cycle:
/// memory speed.
inline void crc32c_blocks(std::span<const std::byte> data, std::size_t block,
                          std::span<std::uint32_t> out) noexcept {
  static const bool fast = crc32c_detail::has_instruction();
  std::size_t i = 0;
  if (fast) {
    for (; (i + 4) * block <= data.size(); i += 4) {
      std::array<std::uint32_t, 4> c{~0u, ~0u, ~0u, ~0u};
      crc32c_detail::update_four(c, data.data() + i * block, block);
      for (std::size_t k = 0; k < 4; ++k) out[i + k] = ~c[k];
    }
  }
  for (; i * block < data.size(); ++i) {
    out[i] = crc32c(data.subspan(i * block, std::min(block, data.size() - i * block)));
  }
}

}  // namespace plmscope::inline PLMSCOPE_ABI
