// SPDX-License-Identifier: MIT
#include <plmscope/io/utf8.hpp>

#include <doctest/doctest.h>

#include <cstdint>
#include <string>

using namespace plmscope;

TEST_CASE("exactly the encodings of code points are valid UTF-8") {
  std::size_t wrong = 0;
  for (std::uint32_t code = 0; code < 0x110000; ++code) {
    std::string text;
    append_utf8(text, code);
    const bool surrogate = code >= 0xd800 && code < 0xe000;
    wrong += first_invalid_utf8(text) != (surrogate ? 0 : std::string::npos);
    // Cut anywhere it is invalid at its first byte.
    for (std::size_t cut = 1; cut < text.size(); ++cut)
      wrong += first_invalid_utf8(text.substr(0, cut)) != 0;
  }
  CHECK(wrong == 0);
}

TEST_CASE("all two-byte texts are judged as their definition says") {
  std::size_t valid = 0;
  for (unsigned a = 0; a < 256; ++a) {
    for (unsigned b = 0; b < 256; ++b) {
      const std::string text = {static_cast<char>(static_cast<unsigned char>(a)),
                                static_cast<char>(static_cast<unsigned char>(b))};
      valid += first_invalid_utf8(text) == std::string::npos;
    }
  }
  // 128 x 128 pairs of ASCII, and U+0080 to U+07FF.
  CHECK(valid == 128 * 128 + 0x800 - 0x80);
}

TEST_CASE("overlong forms and code points beyond the last are invalid, and the place is given") {
  for (const char* text :
       {"\xc0\x80", "\xc1\xbf", "\xe0\x9f\xbf", "\xf0\x8f\xbf\xbf", "\xf4\x90\x80\x80",
        "\xf5\x80\x80\x80", "\x80", "\xbf", "\xfe", "\xff"}) {
    CHECK(first_invalid_utf8(text) == 0);
    CHECK(first_invalid_utf8("ab\xce\xb2" + std::string(text)) == 4);
  }
}
