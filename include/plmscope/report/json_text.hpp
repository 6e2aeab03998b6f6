// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/config.hpp>
#include <plmscope/io/utf8.hpp>

#include <bit>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace plmscope::inline PLMSCOPE_ABI {

namespace json_text {

/// Whether a number is finite, judged by its bits: holds under -ffast-math too.
inline bool finite(double value) noexcept {
  constexpr std::uint64_t exponent = 0x7ff0000000000000u;
  return (std::bit_cast<std::uint64_t>(value) & exponent) != exponent;
}

/// Appends valid UTF-8 as the inside of a JSON string.
inline void append_valid(std::string& out, std::string_view text) {
  static constexpr char hex[] = "0123456789abcdef";
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    const auto u = static_cast<unsigned char>(c);
    const std::string_view three = text.substr(i, 3);
    if (c == '"' || c == '\\') {
      out += {'\\', c};
    } else if (u < 0x20 || u == 0x7f || c == '<' || c == '>' || c == '&') {
      out += "\\u00";
      out += {hex[u >> 4], hex[u & 15]};
    } else if (three == "\xe2\x80\xa8" || three == "\xe2\x80\xa9") {  // U+2028, U+2029
      out += three == "\xe2\x80\xa8" ? "\\u2028" : "\\u2029";
      i += 2;
    } else {
      out += c;
    }
  }
}

/// Appends a JSON string that may stand inside an HTML script element: `<`, `>`, `&`, U+2028 and
/// U+2029 leave as escapes, so no text can end the element or begin a comment. A byte that is not
/// UTF-8 becomes U+FFFD.
inline void append_string(std::string& out, std::string_view text) {
  out += '"';
  while (!text.empty()) {
    const std::size_t valid = first_invalid_utf8(text);
    append_valid(out, text.substr(0, valid));
    if (valid == std::string_view::npos) break;
    out += "\\ufffd";
    text.remove_prefix(valid + 1);
  }
  out += '"';
}

/// Appends a number with `digits` significant digits, independent of the locale; NaN and infinities
/// become null.
inline void append_number(std::string& out, double value, int digits = 4) {
  if (!finite(value)) {
    out += "null";
    return;
  }
  char buffer[48];
  const auto end =
      std::to_chars(buffer, buffer + sizeof buffer, value, std::chars_format::general, digits);
  out.append(buffer, end.ptr);
}

inline void append_count(std::string& out, std::size_t value) {
  char buffer[24];
  out.append(buffer, std::to_chars(buffer, buffer + sizeof buffer, value).ptr);
}

}  // namespace json_text

}  // namespace plmscope
