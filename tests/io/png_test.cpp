// SPDX-License-Identifier: MIT
#include <plmscope/io/png.hpp>

#include <doctest/doctest.h>
#include <zlib.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace {

using plmscope::rgb;

std::uint32_t number_at(std::string_view bytes, std::size_t at) {
  std::uint32_t v = 0;
  for (std::size_t i = 0; i < 4; ++i) v = v << 8 | static_cast<unsigned char>(bytes[at + i]);
  return v;
}

struct chunk {
  std::string name;
  std::string data;
};

// The chunks of a file, their checksums checked by zlib.
std::vector<chunk> chunks_of(std::string_view file) {
  REQUIRE(file.substr(0, 8) == "\x89PNG\r\n\x1a\n");
  std::vector<chunk> out;
  for (std::size_t at = 8; at < file.size();) {
    const std::size_t n = number_at(file, at);
    REQUIRE(at + 12 + n <= file.size());
    const std::string_view body = file.substr(at + 4, n + 4);
    CHECK(number_at(file, at + 8 + n) ==
          crc32(0, reinterpret_cast<const Bytef*>(body.data()), static_cast<uInt>(body.size())));
    out.push_back({std::string(body.substr(0, 4)), std::string(body.substr(4))});
    at += 12 + n;
  }
  return out;
}

}  // namespace

TEST_CASE("an image comes back pixel by pixel, by zlib's inflate") {
  const std::vector<rgb> palette{{1, 2, 3}, {250, 251, 252}, {7, 8, 9}};
  for (const auto& [width, height] :
       {std::pair<std::size_t, std::size_t>{1, 1}, {7, 5}, {300, 700}, {65535, 1}, {65534, 2}}) {
    std::vector<std::uint8_t> pixels(width * height);
    for (std::size_t i = 0; i < pixels.size(); ++i)
      pixels[i] = static_cast<std::uint8_t>(i * 7 % 3);
    const std::string file = plmscope::png_image(width, pixels, palette);
    const auto chunks = chunks_of(file);
    REQUIRE(chunks.size() == 4);
    CHECK(chunks[0].name == "IHDR");
    CHECK(number_at(chunks[0].data, 0) == width);
    CHECK(number_at(chunks[0].data, 4) == height);
    CHECK(chunks[0].data.substr(8) == std::string("\x08\x03\x00\x00\x00", 5));
    CHECK(chunks[1].name == "PLTE");
    CHECK(chunks[1].data == std::string("\x01\x02\x03\xfa\xfb\xfc\x07\x08\x09"));
    CHECK(chunks[2].name == "IDAT");
    std::string raw(height * (width + 1), '?');
    uLongf size = static_cast<uLongf>(raw.size());
    REQUIRE(uncompress(reinterpret_cast<Bytef*>(raw.data()), &size,
                       reinterpret_cast<const Bytef*>(chunks[2].data.data()),
                       static_cast<uLong>(chunks[2].data.size())) == Z_OK);
    REQUIRE(size == raw.size());
    bool same = true;
    for (std::size_t r = 0; r < height; ++r) {
      same = same && raw[r * (width + 1)] == '\0';
      for (std::size_t c = 0; c < width; ++c) {
        same = same &&
               static_cast<std::uint8_t>(raw[r * (width + 1) + 1 + c]) == pixels[r * width + c];
      }
    }
    CHECK(same);
    CHECK(chunks[3].name == "IEND");
  }
}

TEST_CASE("pixels beyond the palette take its last colour; an empty image is a valid file") {
  const std::vector<rgb> palette{{0, 0, 0}, {255, 255, 255}};
  const auto chunks = chunks_of(plmscope::png_image(2, std::vector<std::uint8_t>{0, 9}, palette));
  CHECK(static_cast<int>(chunks[2].data[9]) == 1);
  CHECK(chunks_of(plmscope::png_image(0, {}, palette)).size() == 4);
}
