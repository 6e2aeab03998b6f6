// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/config.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace plmscope::inline PLMSCOPE_ABI {

namespace png_detail {

inline std::uint32_t crc(std::string_view bytes) noexcept {
  static const auto table = [] {
    std::array<std::uint32_t, 256> t{};
    for (std::uint32_t n = 0; n < 256; ++n) {
      std::uint32_t c = n;
      for (int k = 0; k < 8; ++k) c = (c & 1) != 0 ? 0xedb88320u ^ (c >> 1) : c >> 1;
      t[n] = c;
    }
    return t;
  }();
  std::uint32_t c = 0xffffffffu;
  for (const char b : bytes) c = table[(c ^ static_cast<unsigned char>(b)) & 255u] ^ (c >> 8);
  return c ^ 0xffffffffu;
}

inline void put(std::string& to, std::uint32_t v) {
  for (int shift = 24; shift >= 0; shift -= 8) to += static_cast<char>((v >> shift) & 255u);
}

inline void chunk(std::string& to, std::string_view name, std::string_view data) {
  put(to, static_cast<std::uint32_t>(data.size()));
  const std::string body = std::string(name).append(data);
  to += body;
  put(to, crc(body));
}

}  // namespace png_detail

struct rgb {
  std::uint8_t red = 0, green = 0, blue = 0;
};

/// An image of `width` columns with at most 256 colours as the bytes of a PNG file (ISO/IEC 15948),
/// one byte a pixel, row by row from the top, stored without compression. Pixels beyond the palette
/// take its last colour; a last row that is not whole is left out.
inline std::string png_image(std::size_t width, std::span<const std::uint8_t> pixels,
                             std::span<const rgb> palette) {
  using namespace png_detail;
  const std::size_t height = width == 0 ? 0 : pixels.size() / width;
  std::string header;
  put(header, static_cast<std::uint32_t>(width));
  put(header, static_cast<std::uint32_t>(height));
  header += std::string("\x08\x03\x00\x00\x00", 5);  // 8 bits, palette
  std::string colours;
  for (const rgb& c : palette.first(std::min<std::size_t>(palette.size(), 256))) {
    for (const std::uint8_t v : {c.red, c.green, c.blue}) colours += static_cast<char>(v);
  }
  std::string raw;  // rows, each behind its filter 0
  raw.reserve(height * (width + 1));
  for (std::size_t r = 0; r < height; ++r) {
    raw += '\0';
    for (std::size_t c = 0; c < width; ++c) {
      const std::size_t v = pixels[r * width + c];
      raw += static_cast<char>(v < palette.size() ? v : palette.size() - 1);
    }
  }
  std::string data = "\x78\x01";  // a zlib stream (RFC 1950) of stored blocks (RFC 1951)
  std::uint32_t a = 1;
  std::uint32_t b = 0;
  for (const char byte : raw) {
    a = (a + static_cast<unsigned char>(byte)) % 65521;
    b = (b + a) % 65521;
  }
  for (std::size_t first = 0; first == 0 || first < raw.size(); first += 65535) {
    const std::string_view part = std::string_view(raw).substr(first, 65535);
    const auto n = static_cast<unsigned>(part.size());
    data += first + 65535 >= raw.size() ? '\x01' : '\x00';
    for (const unsigned v : {n & 255u, n >> 8, ~n & 255u, (~n >> 8) & 255u}) {
      data += static_cast<char>(v);
    }
    data += part;
  }
  put(data, (b << 16) | a);

  std::string out = "\x89PNG\r\n\x1a\n";
  chunk(out, "IHDR", header);
  chunk(out, "PLTE", colours);
  chunk(out, "IDAT", data);
  chunk(out, "IEND", {});
  return out;
}

}  // namespace plmscope::inline PLMSCOPE_ABI
