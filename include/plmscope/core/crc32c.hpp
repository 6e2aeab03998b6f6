// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/config.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

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

#if defined(__x86_64__)
inline bool has_instruction() noexcept { return __builtin_cpu_supports("sse4.2") != 0; }
inline bool has_folding() noexcept {
  return has_instruction() && __builtin_cpu_supports("avx512f") != 0 &&
         __builtin_cpu_supports("vpclmulqdq") != 0 && __builtin_cpu_supports("pclmul") != 0;
}

[[gnu::target("sse4.2")]] inline std::uint32_t update_by_instruction(std::uint32_t crc,
                                                                     const std::byte* p,
                                                                     std::size_t n) noexcept {
  std::uint64_t c = crc;
  for (; n >= 8; n -= 8, p += 8) {
    std::uint64_t w;
    std::memcpy(&w, p, 8);
    c = _mm_crc32_u64(c, w);
  }
  auto last = static_cast<std::uint32_t>(c);
  for (; n > 0; --n, ++p) last = _mm_crc32_u8(last, std::to_integer<unsigned char>(*p));
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
    a = _mm_crc32_u64(a, w[0]);
    b = _mm_crc32_u64(b, w[1]);
    c = _mm_crc32_u64(c, w[2]);
    d = _mm_crc32_u64(d, w[3]);
  }
  crc = {static_cast<std::uint32_t>(a), static_cast<std::uint32_t>(b),
         static_cast<std::uint32_t>(c), static_cast<std::uint32_t>(d)};
}

/// Every 128 bits of `a` moved forward by the distance that `k` stands for, plus `next`.
[[gnu::target("avx512f,vpclmulqdq,pclmul"), gnu::always_inline]] inline __m512i fold(
    __m512i a, __m512i k, __m512i next) noexcept {
  return _mm512_ternarylogic_epi64(_mm512_clmulepi64_epi128(a, k, 0x00),
                                   _mm512_clmulepi64_epi128(a, k, 0x11), next, 0x96);
}
[[gnu::target("avx512f,vpclmulqdq,pclmul"), gnu::always_inline]] inline __m128i fold(
    __m128i a, __m128i k, __m128i next) noexcept {
  return _mm_xor_si128(
      _mm_xor_si128(_mm_clmulepi64_si128(a, k, 0x00), _mm_clmulepi64_si128(a, k, 0x11)), next);
}

/// Carry-less products fold 256 bytes at a time onto those behind them (Gopal et al. 2009, "Fast
/// CRC computation for generic polynomials using PCLMULQDQ instruction"): bits D further on count
/// x^D modulo the polynomial. A pair of constants is x^(D - 32) and x^(D + 32) modulo the
/// polynomial, bits reversed, times two.
/// `visit(p, n)` sees every stretch of n <= 256 bytes right after it was folded, in the first
/// cache.
template <class Visit>
[[gnu::target("avx512f,vpclmulqdq,pclmul,sse4.2")]] std::uint32_t update_by_folding(
    std::uint32_t crc, const std::byte* p, std::size_t n, const Visit& visit) noexcept {
  if (n < 256) {
    visit(p, n);
    return update_by_instruction(crc, p, n);
  }
  const __m512i by2048 = _mm512_set4_epi64(0xb9e02b86, 0xdcb17aa4, 0xb9e02b86, 0xdcb17aa4);
  const __m512i by512 = _mm512_set4_epi64(0x9e4addf8, 0x740eef02, 0x9e4addf8, 0x740eef02);
  const __m128i by128 = _mm_set_epi64x(0x14cd00bd6, 0xf20c0dfe);
  __m512i a = _mm512_xor_si512(_mm512_loadu_si512(p),
                               _mm512_zextsi128_si512(_mm_cvtsi32_si128(static_cast<int>(crc))));
  __m512i b = _mm512_loadu_si512(p + 64);
  __m512i c = _mm512_loadu_si512(p + 128);
  __m512i d = _mm512_loadu_si512(p + 192);
  for (;; p += 256) {
    visit(p, std::size_t{256});
    n -= 256;
    if (n < 256) break;
    a = fold(a, by2048, _mm512_loadu_si512(p + 256));
    b = fold(b, by2048, _mm512_loadu_si512(p + 320));
    c = fold(c, by2048, _mm512_loadu_si512(p + 384));
    d = fold(d, by2048, _mm512_loadu_si512(p + 448));
  }
  p += 256;
  visit(p, n);
  d = fold(fold(fold(a, by512, b), by512, c), by512, d);
  __m128i lanes[4];
  std::memcpy(lanes, &d, sizeof d);
  const __m128i x = fold(fold(fold(lanes[0], by128, lanes[1]), by128, lanes[2]), by128, lanes[3]);
  // What is left stands for the whole: its own remainder is the result.
  std::uint64_t r = _mm_crc32_u64(0, static_cast<std::uint64_t>(_mm_cvtsi128_si64(x)));
  r = _mm_crc32_u64(r, static_cast<std::uint64_t>(_mm_extract_epi64(x, 1)));
  return update_by_instruction(static_cast<std::uint32_t>(r), p, n);
}
#else
inline bool has_instruction() noexcept { return false; }
inline bool has_folding() noexcept { return false; }
inline std::uint32_t update_by_instruction(std::uint32_t c, const std::byte* p,
                                           std::size_t n) noexcept {
  return update_by_tables(c, p, n);
}
template <class Visit>
std::uint32_t update_by_folding(std::uint32_t c, const std::byte* p, std::size_t n,
                                const Visit& visit) noexcept {
  visit(p, n);
  return update_by_tables(c, p, n);
}
inline void update_four(std::array<std::uint32_t, 4>& crc, const std::byte* p,
                        std::size_t n) noexcept {
  for (std::size_t k = 0; k < 4; ++k) crc[k] = update_by_tables(crc[k], p + k * n, n);
}
#endif

}  // namespace crc32c_detail

/// CRC-32C (Castagnoli et al. 1993; RFC 3720, appendix B.4): finds every error burst of up to 32
/// bits and misses one in 2^32 of the others. For damage, not against forgery. The processor
/// decides at run time how: folding by wide carry-less products (memory speed),
/// the CRC instruction, or tables.
inline std::uint32_t crc32c(std::span<const std::byte> data) noexcept {
  using namespace crc32c_detail;
  static const bool folding = has_folding(), instruction = has_instruction();
  return ~(folding       ? update_by_folding(~0u, data.data(), data.size(),
                                             [](const std::byte*, std::size_t) {})
           : instruction ? update_by_instruction(~0u, data.data(), data.size())
                         : update_by_tables(~0u, data.data(), data.size()));
}

/// The CRC-32C of `data`, while `visit(p, n)` is shown all of it, in order, in stretches of n bytes
/// (a multiple of 8, but for the last) from p on. Where the processor can, in one pass: what
/// `visit` writes overlaps with what the checksum reads, and copying costs no more than without it.
template <class Visit>
std::uint32_t crc32c_visit(std::span<const std::byte> data, const Visit& visit) noexcept {
  static const bool folding = crc32c_detail::has_folding();
  if (folding) {
    return ~crc32c_detail::update_by_folding(~0u, data.data(), data.size(), visit);
  }
  visit(data.data(), data.size());
  return crc32c(data);
}

/// The CRC-32C of every block of `block` bytes (a multiple of 8; the last may be shorter) into
/// `out`, one entry a block. Where there is only the instruction, four blocks at a time: 8 bytes a
/// cycle.
inline void crc32c_blocks(std::span<const std::byte> data, std::size_t block,
                          std::span<std::uint32_t> out) noexcept {
  static const bool by_four = crc32c_detail::has_instruction() && !crc32c_detail::has_folding();
  std::size_t i = 0;
  for (; by_four && (i + 4) * block <= data.size(); i += 4) {
    std::array<std::uint32_t, 4> c{~0u, ~0u, ~0u, ~0u};
    crc32c_detail::update_four(c, data.data() + i * block, block);
    for (std::size_t k = 0; k < 4; ++k) out[i + k] = ~c[k];
  }
  for (; i * block < data.size(); ++i) {
    out[i] = crc32c(data.subspan(i * block, std::min(block, data.size() - i * block)));
  }
}

}  // namespace plmscope::inline PLMSCOPE_ABI
