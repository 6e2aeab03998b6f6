// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/io/gzip.hpp>
#include <plmscope/io/rules.hpp>

#include <cstddef>
#include <cstring>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace plmscope::inline PLMSCOPE_ABI {

/// The lines of a text file, plain or gzip. LF, CRLF and a lone CR all end a line, and the last
/// line needs none of them; a UTF-8 byte order mark is skipped. UTF-16 and NUL bytes are io.509, a
/// line beyond `max_line_bytes` is io.510. Memory: one line and 256 KiB.
class line_reader {
 public:
  static constexpr std::size_t default_max_line_bytes = std::size_t{64} << 20;

  explicit line_reader(content_reader content, std::size_t max_line_bytes = default_max_line_bytes)
      : content_(std::move(content)),
        max_line_bytes_(max_line_bytes),
        buffer_(std::size_t{1} << 18) {
    while (end_ < 3 && fill()) {
    }
    const auto byte = [&](std::size_t i) {
      return i < end_ ? static_cast<unsigned char>(buffer_[i]) : 0u;
    };
    if (byte(0) == 0xef && byte(1) == 0xbb && byte(2) == 0xbf) {
      begin_ = 3;
    } else if ((byte(0) == 0xff && byte(1) == 0xfe) || (byte(0) == 0xfe && byte(1) == 0xff)) {
      throw error(rules::text_encoding, {.where = name(),
                                         .found = "a UTF-16 byte order mark",
                                         .remedy = "save the file as UTF-8"});
    }
  }
  explicit line_reader(const std::filesystem::path& path) : line_reader(content_reader(path)) {}

  /// Lines of a text in memory (plain or gzip); `name` stands for the file in errors.
  static line_reader from_text(std::string text, std::string name = "text") {
    return line_reader(content_reader(std::move(text), std::move(name)));
  }

  /// Moves to the next line; false at the end. `line` is valid until the next call.
  bool next(std::string_view& line) {
    std::size_t at = begin_;
    for (;;) {
      while (at < end_ && static_cast<unsigned char>(buffer_[at]) > '\r') ++at;
      if (at < end_) {
        const char c = buffer_[at];
        if (c == '\n' && after_carriage_return_ && at == begin_) {
          after_carriage_return_ = false;
          begin_ = ++at;
          continue;
        }
        after_carriage_return_ = after_carriage_return_ && at == begin_;
        if (c == '\0') {
          throw error(rules::text_encoding,
                      {.where = name() + ":" + std::to_string(number_ + 1) + ":" +
                                std::to_string(at - begin_ + 1),
                       .found = "a NUL byte",
                       .remedy = "the file is binary, damaged or UTF-16: save it as UTF-8"});
        }
        if (c != '\n' && c != '\r') {
          ++at;
          continue;
        }
        check_length(at - begin_);
        line = std::string_view(buffer_.data() + begin_, at - begin_);
        begin_ = at + 1;
        ++number_;
        after_carriage_return_ = c == '\r';
        return true;
      }
      const std::size_t scanned = at - begin_;
      check_length(scanned);
      if (!fill()) break;
      at = begin_ + scanned;
    }
    if (begin_ == end_) return false;
    check_length(end_ - begin_);
    line = std::string_view(buffer_.data() + begin_, end_ - begin_);
    begin_ = end_;
    ++number_;
    return true;
  }

  /// Whether what is still to be read begins with `text`; nothing is read by it.
  bool begins_with(std::string_view text) {
    while (end_ - begin_ < text.size() && fill()) {
    }
    return std::string_view(buffer_.data() + begin_, end_ - begin_).starts_with(text);
  }

  const std::string& name() const noexcept { return content_.name(); }
  /// The number of the current line, from 1.
  std::size_t number() const noexcept { return number_; }
  bool trailing_garbage() const noexcept { return content_.trailing_garbage(); }
  /// `name:line`, with a column (in bytes, from 1) when it is given.
  std::string position(std::size_t column = 0) const {
    return name() + ":" + std::to_string(number_) +
           (column == 0 ? std::string() : ":" + std::to_string(column));
  }

 private:
  void check_length(std::size_t bytes) const {
    if (bytes <= max_line_bytes_) return;
    throw error(rules::text_line_length,
                {.where = name() + ":" + std::to_string(number_ + 1),
                 .expected = "at most " + std::to_string(max_line_bytes_) + " bytes",
                 .found = "more"});
  }

  bool fill() {
    if (begin_ > 0) {
      std::memmove(buffer_.data(), buffer_.data() + begin_, end_ - begin_);
      end_ -= begin_;
      begin_ = 0;
    }
    if (end_ == buffer_.size()) buffer_.resize(buffer_.size() * 2);
    const std::size_t n = content_.read(std::span(buffer_).subspan(end_));
    end_ += n;
    return n > 0;
  }

  content_reader content_;
  std::size_t max_line_bytes_;
  std::vector<char> buffer_;
  std::size_t begin_ = 0;
  std::size_t end_ = 0;
  std::size_t number_ = 0;
  bool after_carriage_return_ = false;
};

}  // namespace plmscope::inline PLMSCOPE_ABI
