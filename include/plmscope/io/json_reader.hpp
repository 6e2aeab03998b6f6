// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/io/rules.hpp>
#include <plmscope/io/utf8.hpp>

#include <charconv>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

namespace plmscope::inline PLMSCOPE_ABI {

/// The rules that a `json_reader` names when a text breaks them: those of the file it reads.
struct json_rules {
  error_rule syntax = rules::json_syntax;
  error_rule encoding = rules::json_encoding;
  error_rule number = rules::json_syntax;
};

/// Reads JSON from front to back: the caller asks for what the grammar of its file has next, and
/// everything else is an error with its byte offset. Nothing is built and nothing recurses, so a
/// hostile text costs no more than its length. Numbers are whole and below 2^64 where they are
/// read; `skip_value` passes over any other.
class json_reader {
 public:
  static constexpr std::size_t max_depth = 64;

  /// `where` names the file; `base` is the offset of `json` in it.
  json_reader(std::string_view json, std::string_view where, std::size_t base = 0,
              const json_rules& rules = {})
      : json_(json), where_(where), base_(base), rules_(rules) {}

  /// To be called first.
  void check_encoding() {
    if (const std::size_t bad = first_invalid_utf8(json_); bad != std::string_view::npos) {
      position_ = bad;
      fail(rules_.encoding, "", "an invalid byte sequence");
    }
  }

  std::size_t position() const noexcept { return position_; }

  /// Throws `rule` at the present position; `about` names what was being read.
  [[noreturn]] void fail(const error_rule& rule, std::string_view about, std::string found,
                         std::string expected = {}) const {
    std::string at(where_);
    at += ", byte " + std::to_string(base_ + position_);
    if (!about.empty()) at += ", tensor \"" + std::string(about.substr(0, 1024)) + '"';
    throw error(rule, {.where = std::move(at),
                       .expected = std::move(expected),
                       .found = std::move(found),
                       .remedy = "the file is damaged or hostile: fetch it again"});
  }

  /// The next character after blanks; NUL at the end.
  char next() noexcept {
    skip_space();
    return peek();
  }
  /// The next character for an error text.
  std::string here() const {
    return position_ < json_.size() ? "'" + std::string(1, json_[position_]) + "'"
                                    : std::string("the end of the text");
  }

  void take(char wanted, std::string_view about = {}) {
    skip_space();
    if (peek() != wanted || position_ >= json_.size()) {
      fail(rules_.syntax, about, here(), "'" + std::string(1, wanted) + "'");
    }
    ++position_;
  }
  bool take_if(char wanted) noexcept {
    skip_space();
    if (position_ >= json_.size() || peek() != wanted) return false;
    ++position_;
    return true;
  }
  /// Nothing but blanks may follow.
  void finish() {
    skip_space();
    if (position_ != json_.size()) fail(rules_.syntax, "", "text after the object");
  }

  /// Calls `member(key)` for every key, with the position at its value, which it must read.
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
        fail(rules_.syntax, "", position_ < json_.size() ? "a control byte in a text" : here(),
             "'\"'");
      }
      if (json_[position_++] == '"') return out;
      escape(out);
    }
  }

  std::size_t number(std::string_view about) {
    skip_space();
    const char* const from = json_.data() + position_;
    const char* const last = json_.data() + json_.size();
    std::uint64_t value = 0;
    const auto [to, status] = std::from_chars(from, last, value);
    const std::size_t digits = static_cast<std::size_t>(to - from);
    if (status == std::errc::result_out_of_range) {
      fail(rules_.number, about, std::string(from, to), "a number below 2^64");
    }
    if (status != std::errc{}) fail(rules_.syntax, about, here(), "a whole number");
    const bool leading_zero = digits > 1 && *from == '0';
    position_ += digits;
    const char after = peek();
    if (leading_zero || after == '.' || after == 'e' || after == 'E') {
      fail(rules_.syntax, about, std::string(from, to) + after,
           "a whole number without sign, leading zero, fraction or exponent");
    }
    return value;
  }

  /// Passes over a value of any kind, with its brackets matched, at most `max_depth` of them deep.
  /// What stands between the brackets is not looked at further.
  void skip_value() {
    std::string open;
    do {
      const char c = next();
      if (c == '"') {
        text();
      } else if (c == '{' || c == '[') {
        if (open.size() == max_depth) fail(rules_.syntax, "", "more", "at most 64 brackets deep");
        open += c == '{' ? '}' : ']';
        ++position_;
      } else if (!open.empty() && c == open.back()) {
        open.pop_back();
        ++position_;
      } else if (!open.empty() && (c == ',' || c == ':')) {
        ++position_;
      } else {
        word();
      }
    } while (!open.empty());
  }

 private:
  char peek() const noexcept { return position_ < json_.size() ? json_[position_] : '\0'; }

  void skip_space() noexcept {
    while (peek() == ' ' || peek() == '\t' || peek() == '\n' || peek() == '\r') ++position_;
  }

  // A number, true, false or null.
  void word() {
    const std::size_t from = position_;
    const auto belongs = [](char c) {
      return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '+' || c == '.' ||
             c == 'E';
    };
    while (belongs(peek())) ++position_;
    if (position_ == from) fail(rules_.syntax, "", here(), "a value");
  }

  std::uint32_t hex4() {
    std::uint32_t code = 0;
    for (int i = 0; i < 4; ++i, ++position_) {
      const char c = peek();
      const bool digit = c >= '0' && c <= '9';
      const char lower = static_cast<char>(c | 0x20);
      if (!digit && (lower < 'a' || lower > 'f'))
        fail(rules_.syntax, "", here(), "a hexadecimal digit");
      code = code * 16 + static_cast<std::uint32_t>(digit ? c - '0' : lower - 'a' + 10);
    }
    return code;
  }

  void escape(std::string& out) {
    constexpr std::string_view plain = "\"\\/bfnrt";
    constexpr std::string_view meaning = "\"\\/\b\f\n\r\t";
    const char c = peek();
    if (const std::size_t at = plain.find(c); c != '\0' && at != std::string_view::npos) {
      ++position_;
      out += meaning[at];
      return;
    }
    if (c != 'u') fail(rules_.syntax, "", here(), "an escape of JSON");
    ++position_;
    std::uint32_t code = hex4();
    if (code >= 0xd800 && code < 0xdc00) {
      if (json_.substr(position_, 2) != "\\u") fail(rules_.encoding, "", "half a surrogate pair");
      position_ += 2;
      const std::uint32_t low = hex4();
      if (low < 0xdc00 || low > 0xdfff) fail(rules_.encoding, "", "half a surrogate pair");
      code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
    } else if (code >= 0xdc00 && code < 0xe000) {
      fail(rules_.encoding, "", "half a surrogate pair");
    }
    append_utf8(out, code);
  }

  std::string_view json_;
  std::string_view where_;
  std::size_t base_;
  json_rules rules_;
  std::size_t position_ = 0;
};

}  // namespace plmscope::inline PLMSCOPE_ABI
