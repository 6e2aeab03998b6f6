// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/io/dtype.hpp>
#include <plmscope/io/rules.hpp>
#include <plmscope/io/utf8.hpp>

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <system_error>
#include <unordered_set>
#include <utility>
#include <vector>

namespace plmscope::inline PLMSCOPE_ABI {

/// One tensor of a file: bytes [begin, end) of its data section.
struct tensor_info {
  std::string name;
  dtype type = dtype::f32;
  std::vector<std::size_t> shape;  ///< empty: one number
  std::size_t begin = 0;
  std::size_t end = 0;
  std::size_t elements = 1;  ///< the product of the shape
};

struct safetensors_header {
  std::vector<tensor_info> tensors;  ///< in the order of the header, not yet checked against data
  std::map<std::string, std::string, std::less<>> metadata;
};

/// A shape as text: `[3, 4]`.
template <class Sizes>
inline std::string shape_text(const Sizes& shape) {
  std::string out = "[";
  for (const auto n : shape) {
    if (out.size() > 1) out += ", ";
    out += std::to_string(n);
  }
  return out + "]";
}

/// Reads the JSON of a safetensors header: exactly the grammar of the format, so two levels of
/// objects whose values are texts and lists of whole numbers, no recursion. Everything else is
/// refused with the byte offset in the file. Cost: linear, memory about that of the header.
class safetensors_header_parser {
 public:
  static constexpr std::size_t max_tensors = std::size_t{1} << 20;
  static constexpr std::size_t max_metadata_bytes = std::size_t{16} << 20;
  static constexpr std::size_t max_name_bytes = 1024;
  static constexpr std::size_t max_rank = 8;

  /// `where` names the file; `base` is the offset of `json` in it.
  safetensors_header_parser(std::string_view json, std::string_view where, std::size_t base)
      : json_(json), where_(where), base_(base) {}

  safetensors_header parse() {
    if (const std::size_t bad = first_invalid_utf8(json_); bad != std::string_view::npos) {
      position_ = bad;
      fail(rules::safetensors_utf8, "", "an invalid byte sequence");
    }
    safetensors_header header;
    std::unordered_set<std::string> seen;
    object([&](std::string key) {
      if (!seen.insert(key).second) {
        fail(rules::safetensors_duplicate_key, key, "the key " + quoted(key) + " twice");
      }
      if (key == "__metadata__") {
        metadata(header);
        return;
      }
      check_name(key);
      if (header.tensors.size() == max_tensors) {
        fail(rules::safetensors_too_many, key, "more");
      }
      header.tensors.push_back(tensor(std::move(key)));
    });
    skip_space();
    if (position_ != json_.size()) fail(rules::safetensors_json, "", "text after the object");
    return header;
  }

 private:
  static std::string quoted(std::string_view name) { return '"' + std::string(name) + '"'; }

  [[noreturn]] void fail(const error_rule& rule, std::string_view tensor, std::string found,
                         std::string expected = {}) const {
    std::string at(where_);
    at += ", byte " + std::to_string(base_ + position_);
    if (!tensor.empty()) at += ", tensor " + quoted(tensor.substr(0, max_name_bytes));
    throw error(rule, {.where = std::move(at),
                       .expected = std::move(expected),
                       .found = std::move(found),
                       .remedy = "the file is damaged or hostile: fetch it again"});
  }

  char peek() const noexcept { return position_ < json_.size() ? json_[position_] : '\0'; }

  void skip_space() noexcept {
    while (peek() == ' ' || peek() == '\t' || peek() == '\n' || peek() == '\r') ++position_;
  }

  std::string here() const {
    return position_ < json_.size() ? "'" + std::string(1, json_[position_]) + "'"
                                    : std::string("the end of the header");
  }

  void take(char wanted, std::string_view tensor = {}) {
    skip_space();
    if (peek() != wanted || position_ >= json_.size()) {
      fail(rules::safetensors_json, tensor, here(), "'" + std::string(1, wanted) + "'");
    }
    ++position_;
  }

  bool take_if(char wanted) noexcept {
    skip_space();
    if (position_ >= json_.size() || peek() != wanted) return false;
    ++position_;
    return true;
  }

  // Calls `member(key)` for every key, with the position at its value.
  template <class Member>
  void object(const Member& member) {
    take('{');
    if (take_if('}')) return;
    do {
      std::string key = text();
      take(':', key);
      member(std::move(key));
    } while (take_if(','));
    take('}');
  }

  std::uint32_t hex4() {
    std::uint32_t code = 0;
    for (int i = 0; i < 4; ++i, ++position_) {
      const char c = peek();
      const bool digit = c >= '0' && c <= '9';
      const char lower = static_cast<char>(c | 0x20);
      if (!digit && (lower < 'a' || lower > 'f'))
        fail(rules::safetensors_json, "", here(), "a hexadecimal digit");
      code = code * 16 + static_cast<std::uint32_t>(digit ? c - '0' : lower - 'a' + 10);
    }
    return code;
  }

  void escape(std::string& out) {
    const char c = peek();
    ++position_;
    switch (c) {
      case '"':
      case '\\':
      case '/':
        out += c;
        return;
      case 'b':
        out += '\b';
        return;
      case 'f':
        out += '\f';
        return;
      case 'n':
        out += '\n';
        return;
      case 'r':
        out += '\r';
        return;
      case 't':
        out += '\t';
        return;
      case 'u':
        break;
      default:
        --position_;
        fail(rules::safetensors_json, "", here(), "an escape of JSON");
    }
    std::uint32_t code = hex4();
    if (code >= 0xd800 && code < 0xdc00) {
      if (json_.substr(position_, 2) != "\\u")
        fail(rules::safetensors_utf8, "", "half a surrogate pair");
      position_ += 2;
      const std::uint32_t low = hex4();
      if (low < 0xdc00 || low > 0xdfff) fail(rules::safetensors_utf8, "", "half a surrogate pair");
      code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
    } else if (code >= 0xdc00 && code < 0xe000) {
      fail(rules::safetensors_utf8, "", "half a surrogate pair");
    }
    append_utf8(out, code);
  }

  std::string text() {
    take('"');
    std::string out;
    for (;;) {
      const std::size_t from = position_;
      while (position_ < json_.size() && peek() != '"' && peek() != '\\' &&
             static_cast<unsigned char>(peek()) >= 0x20) {
        ++position_;
      }
      out.append(json_.substr(from, position_ - from));
      if (position_ >= json_.size() || static_cast<unsigned char>(peek()) < 0x20) {
        fail(rules::safetensors_json, "",
             position_ < json_.size() ? "a control byte in a text" : here(), "'\"'");
      }
      if (json_[position_++] == '"') return out;
      escape(out);
    }
  }

  std::size_t number(std::string_view tensor) {
    skip_space();
    const char* const from = json_.data() + position_;
    const char* const last = json_.data() + json_.size();
    std::uint64_t value = 0;
    const auto [to, status] = std::from_chars(from, last, value);
    const std::size_t digits = static_cast<std::size_t>(to - from);
    if (status == std::errc::result_out_of_range) {
      fail(rules::safetensors_number, tensor, std::string(from, to), "a number below 2^64");
    }
    if (status != std::errc{}) fail(rules::safetensors_json, tensor, here(), "a whole number");
    const bool leading_zero = digits > 1 && *from == '0';
    position_ += digits;
    const char next = peek();
    if (leading_zero || next == '.' || next == 'e' || next == 'E') {
      fail(rules::safetensors_json, tensor, std::string(from, to) + next,
           "a whole number without sign, leading zero, fraction or exponent");
    }
    return value;
  }

  void metadata(safetensors_header& header) {
    const std::size_t from = position_;
    skip_space();
    if (peek() != '{') fail(rules::safetensors_metadata, "", here(), "an object of texts");
    object([&](std::string key) {
      skip_space();
      if (peek() != '"') fail(rules::safetensors_metadata, "", here(), "a text for " + quoted(key));
      std::string value = text();
      if (position_ - from > max_metadata_bytes) {
        fail(rules::safetensors_metadata_too_large, "", "more");
      }
      if (!header.metadata.emplace(key, std::move(value)).second) {
        fail(rules::safetensors_duplicate_key, "", "the metadata key " + quoted(key) + " twice");
      }
    });
  }

  void check_name(std::string_view name) const {
    if (name.size() > max_name_bytes) {
      fail(rules::safetensors_name, name.substr(0, 64), std::to_string(name.size()) + " bytes");
    }
    if (name.find('\0') != std::string_view::npos) {
      fail(rules::safetensors_name, "", "a NUL in the name");
    }
  }

  tensor_info tensor(std::string name) {
    tensor_info info;
    info.name = std::move(name);
    bool has_type = false;
    bool has_shape = false;
    bool has_offsets = false;
    object([&](const std::string& key) {
      bool* const seen = key == "dtype"          ? &has_type
                         : key == "shape"        ? &has_shape
                         : key == "data_offsets" ? &has_offsets
                                                 : nullptr;
      if (seen == nullptr) {
        fail(rules::safetensors_json, info.name, "the key " + quoted(key.substr(0, 64)),
             "dtype, shape and data_offsets");
      }
      if (*seen)
        fail(rules::safetensors_duplicate_key, info.name, "the key " + quoted(key) + " twice");
      *seen = true;
      if (seen == &has_type) {
        read_type(info);
      } else if (seen == &has_shape) {
        read_shape(info);
      } else {
        take('[', info.name);
        info.begin = number(info.name);
        take(',', info.name);
        info.end = number(info.name);
        take(']', info.name);
      }
    });
    if (!has_type || !has_shape || !has_offsets) {
      fail(rules::safetensors_json, info.name, "a tensor without all three",
           "dtype, shape and data_offsets");
    }
    check_size(info);
    return info;
  }

  void read_type(tensor_info& info) {
    const std::string name = text();
    const auto row = std::find_if(dtype_table.begin(), dtype_table.end(),
                                  [&](const dtype_row& r) { return r.name == name; });
    if (row == dtype_table.end()) {
      fail(rules::safetensors_dtype, info.name, quoted(name.substr(0, 64)), "for example F32");
    }
    info.type = row->type;
  }

  void read_shape(tensor_info& info) {
    take('[', info.name);
    if (take_if(']')) return;
    do {
      if (info.shape.size() == max_rank) fail(rules::safetensors_rank, info.name, "more");
      info.shape.push_back(number(info.name));
    } while (take_if(','));
    take(']', info.name);
  }

  // The product is never formed before it is known to fit: [2^32, 2^32] must not become 0.
  void check_size(tensor_info& info) const {
    std::size_t bits = 0;
    bool fits = true;
    info.elements = 1;
    for (const std::size_t n : info.shape) {
      fits = fits && !__builtin_mul_overflow(info.elements, n, &info.elements);
    }
    fits = fits && !__builtin_mul_overflow(info.elements,
                                           static_cast<std::size_t>(dtype_bits(info.type)), &bits);
    if (!fits) fail(rules::safetensors_overflow, info.name, "shape " + shape_text(info.shape));
    if (bits % 8 != 0) {
      fail(rules::safetensors_misaligned, info.name, std::to_string(bits) + " bits");
    }
    if (info.begin > info.end) {
      fail(rules::safetensors_offsets, info.name,
           shape_text(std::vector<std::size_t>{info.begin, info.end}));
    }
    if (info.end - info.begin != bits / 8) {
      fail(rules::safetensors_size, info.name, std::to_string(info.end - info.begin) + " bytes",
           std::to_string(bits / 8) + " bytes for " + std::string(dtype_name(info.type)) + " " +
               shape_text(info.shape));
    }
  }

  std::string_view json_;
  std::string_view where_;
  std::size_t base_;
  std::size_t position_ = 0;
};

}  // namespace plmscope::inline PLMSCOPE_ABI
