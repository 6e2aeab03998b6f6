// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/io/dtype.hpp>
#include <plmscope/io/rules.hpp>

#include <array>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

namespace plmscope::inline PLMSCOPE_ABI {

/// What an npy header says (numpy.lib.format).
struct npy_header {
  dtype type = dtype::f32;
  bool big_endian = false;
  bool fortran_order = false;
  std::vector<std::size_t> shape;
  std::size_t elements = 1;
  std::size_t data_offset = 0;

  /// Whether the numbers read as `to` by `tensor_convert`.
  bool convertible_to(dtype to) const noexcept {
    const auto floating = [](dtype t) {
      return t == dtype::f16 || t == dtype::f32 || t == dtype::f64;
    };
    if (to == type) return true;
    if (to == dtype::f32 || to == dtype::f64) return floating(type);
    if (to == dtype::f16 || to == dtype::bf16) return type == dtype::f32 || type == dtype::f64;
    return to != dtype::boolean && !floating(type);
  }
};

/// Reads the Python literal of an npy header: `{'descr': '<f4', 'fortran_order': False,
/// 'shape': (3, 4), }`, these three keys in any order and nothing else. Nothing is evaluated.
class npy_header_parser {
 public:
  npy_header_parser(std::string_view text, const std::string& where) : text_(text), where_(where) {}

  npy_header parse() {
    npy_header out;
    std::array<bool, 3> seen{};
    take('{');
    while (!take_if('}')) {
      const std::string_view key = quoted();
      const std::size_t which = key == "descr"           ? 0
                                : key == "fortran_order" ? 1
                                : key == "shape"         ? 2
                                                         : 3;
      if (which == 3 || std::exchange(seen[which], true))
        fail(rules::npy_literal, std::string(key));
      take(':');
      if (which == 0) description(out);
      if (which == 1) out.fortran_order = truth();
      if (which == 2) shape(out);
      if (!take_if(',')) {
        take('}');
        break;
      }
    }
    skip_space();
    if (at_ != text_.size()) fail(rules::npy_literal, "text behind the dict");
    if (!seen[0] || !seen[1] || !seen[2]) fail(rules::npy_literal, "a dict without all three");
    return out;
  }

 private:
  [[noreturn]] void fail(const error_rule& rule, std::string found,
                         std::string expected = {}) const {
    throw error(rule, {.where = where_ + ", header byte " + std::to_string(at_),
                       .expected = std::move(expected),
                       .found = std::move(found)});
  }
  char peek() const noexcept { return at_ < text_.size() ? text_[at_] : '\0'; }
  void skip_space() noexcept {
    while (peek() == ' ' || peek() == '\n' || peek() == '\t') ++at_;
  }
  bool take_if(char c) noexcept {
    skip_space();
    if (at_ >= text_.size() || peek() != c) return false;
    ++at_;
    return true;
  }
  void take(char c) {
    if (!take_if(c)) {
      fail(rules::npy_literal, std::string(text_.substr(at_, 20)), "'" + std::string(1, c) + "'");
    }
  }

  std::string_view quoted() {
    skip_space();
    const char quote = peek();
    if (quote != '\'' && quote != '"') {
      fail(rules::npy_literal, std::string(text_.substr(at_, 20)), "a quoted text");
    }
    const std::size_t end = text_.find(quote, at_ + 1);
    if (end == std::string_view::npos) fail(rules::npy_literal, "a text without end");
    const std::string_view out = text_.substr(at_ + 1, end - at_ - 1);
    at_ = end + 1;
    return out;
  }

  bool truth() {
    skip_space();
    const bool yes = text_.substr(at_, 4) == "True";
    if (!yes && text_.substr(at_, 5) != "False") {
      fail(rules::npy_literal, std::string(text_.substr(at_, 20)), "True or False");
    }
    at_ += yes ? 4 : 5;
    return yes;
  }

  void description(npy_header& out) {
    skip_space();
    if (peek() == '[') fail(rules::npy_dtype, "a structured type", "a plain number type");
    const std::string_view text = quoted();
    if (text.size() >= 2 && text[1] == 'O') {
      fail(rules::npy_object, std::string(text), "numbers; save with allow_pickle=False");
    }
    static constexpr std::pair<std::string_view, dtype> types[] = {
        {"f2", dtype::f16}, {"f4", dtype::f32}, {"f8", dtype::f64}, {"i1", dtype::i8},
        {"i2", dtype::i16}, {"i4", dtype::i32}, {"i8", dtype::i64}, {"u1", dtype::u8},
        {"u2", dtype::u16}, {"u4", dtype::u32}, {"u8", dtype::u64}, {"b1", dtype::boolean}};
    for (const auto& [name, type] : types) {
      if (text.size() != 3 || text.substr(1) != name) continue;
      const bool one_byte = dtype_bits(type) == 8;
      if (text[0] != '<' && text[0] != '>' && !(one_byte && text[0] == '|')) break;
      out.type = type;
      out.big_endian = text[0] == '>' && !one_byte;
      return;
    }
    fail(rules::npy_dtype, std::string(text.substr(0, 40)), "for example <f4, <f8, <i8, |u1");
  }

  void shape(npy_header& out) {
    take('(');
    while (!take_if(')')) {
      skip_space();
      std::uint64_t value = 0;
      const char* const from = text_.data() + at_;
      const auto [to, status] = std::from_chars(from, text_.data() + text_.size(), value);
      if (status == std::errc::result_out_of_range) fail(rules::npy_shape, std::string(from, to));
      if (status != std::errc{}) {
        fail(rules::npy_literal, std::string(text_.substr(at_, 20)), "a whole number");
      }
      at_ += static_cast<std::size_t>(to - from);
      if (out.shape.size() == 32) fail(rules::npy_shape, "more");
      out.shape.push_back(value);
      if (!take_if(',')) {
        // (3) without a comma is a number in Python, not a tuple.
        if (out.shape.size() == 1)
          fail(rules::npy_literal, "(" + std::to_string(value) + ")", "a tuple");
        take(')');
        break;
      }
    }
    std::size_t bytes = 0;
    bool fits = true;
    for (const std::size_t n : out.shape) {
      fits = fits && !__builtin_mul_overflow(out.elements, n, &out.elements);
    }
    fits = fits && !__builtin_mul_overflow(out.elements, std::size_t{8}, &bytes);
    if (!fits) fail(rules::npy_shape, "a size that overflows");
  }

  std::string_view text_;
  const std::string& where_;
  std::size_t at_ = 0;
};

/// Reads magic, version, header length and header.
inline npy_header parse_npy_header(std::span<const std::byte> bytes, const std::string& where) {
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  if (text.substr(0, 6) != "\x93NUMPY") {
    throw error(
        rules::npy_magic,
        {.where = where, .found = std::to_string(bytes.size()) + " bytes of something else"});
  }
  const auto byte = [&](std::size_t i) {
    return i < bytes.size() ? std::to_integer<std::size_t>(bytes[i]) : 0;
  };
  const std::size_t version = byte(6);
  if (version < 1 || version > 3 || byte(7) != 0) {
    throw error(rules::npy_version,
                {.where = where, .found = std::to_string(version) + "." + std::to_string(byte(7))});
  }
  const std::size_t start = version == 1 ? 10 : 12;
  const std::size_t length =
      byte(8) | byte(9) << 8 | (version == 1 ? 0 : byte(10) << 16 | byte(11) << 24);
  if (start > bytes.size() || length > 10'000 || length > bytes.size() - start) {
    throw error(rules::npy_header_length,
                {.where = where, .found = std::to_string(length) + " bytes"});
  }
  npy_header out = npy_header_parser(text.substr(start, length), where).parse();
  out.data_offset = start + length;
  return out;
}

/// Magic, version 1 and header for an array in row-major order, padded so that data begin at a
/// multiple of 64.
inline std::string npy_header_bytes(dtype type, std::span<const std::size_t> shape,
                                    std::size_t count) {
  std::size_t elements = 1;
  bool fits = shape.size() <= 32;
  std::string dims;
  for (std::size_t i = 0; i < shape.size(); ++i) {
    fits = fits && !__builtin_mul_overflow(elements, shape[i], &elements);
    dims += (i == 0 ? "" : ", ") + std::to_string(shape[i]);
  }
  if (shape.size() == 1) dims += ',';
  const bool number = type != dtype::bf16;
  if (!fits || elements != count || !number) {
    throw error(rules::npy_write,
                {.where = "shape (" + dims + ")",
                 .found = number ? std::to_string(count) + " numbers"
                                 : std::string("bfloat16, which npy does not have")});
  }
  const char kind = type == dtype::boolean                                           ? 'b'
                    : type == dtype::f16 || type == dtype::f32 || type == dtype::f64 ? 'f'
                    : dtype_name(type)[0] == 'U'                                     ? 'u'
                                                                                     : 'i';
  const unsigned size = dtype_bits(type) / 8;
  std::string text = std::string("{'descr': '") + (size == 1 ? '|' : '<') + kind +
                     std::to_string(size) + "', 'fortran_order': False, 'shape': (" + dims + "), }";
  text.append((64 - (10 + text.size() + 1) % 64) % 64, ' ');
  text += '\n';
  std::string out = std::string("\x93NUMPY\x01", 7) + '\0';
  out += static_cast<char>(text.size() & 0xff);
  out += static_cast<char>(text.size() >> 8);
  return out + text;
}

}  // namespace plmscope::inline PLMSCOPE_ABI
