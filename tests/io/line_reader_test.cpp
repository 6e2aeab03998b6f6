// SPDX-License-Identifier: MIT
#include <plmscope/io/line_reader.hpp>

#include "tests/io/error_id.hpp"
#include "tests/io/gzip_text.hpp"

#include <doctest/doctest.h>

#include <string>
#include <vector>

using namespace plmscope;

namespace {

std::vector<std::string> lines(std::string text) {
  auto reader = line_reader::from_text(std::move(text));
  std::vector<std::string> out;
  for (std::string_view line; reader.next(line);) out.emplace_back(line);
  return out;
}
using list = std::vector<std::string>;

}  // namespace

TEST_CASE("every line ending ends a line") {
  CHECK(lines("") == list{});
  CHECK(lines("a") == list{"a"});
  CHECK(lines("a\n") == list{"a"});
  CHECK(lines("a\nb") == list{"a", "b"});
  CHECK(lines("a\r\nb\r\n") == list{"a", "b"});
  CHECK(lines("a\rb\r") == list{"a", "b"});
  CHECK(lines("a\n\nb") == list{"a", "", "b"});
  CHECK(lines("a\r\n\r\nb") == list{"a", "", "b"});
  CHECK(lines("a\r\rb") == list{"a", "", "b"});
  CHECK(lines("a\n\rb") == list{"a", "", "b"});
  CHECK(lines("\n") == list{""});
  CHECK(lines("\r\n") == list{""});
  CHECK(lines("\xef\xbb\xbf"
              "a\n") == list{"a"});
  CHECK(lines("\xef\xbb\xbf") == list{});
  CHECK(lines("a\tb \x01\n") == list{"a\tb \x01"});
}

TEST_CASE("line endings at the borders of buffers") {
  // The buffer has 262,144 bytes: put the pair CR LF on every place around its end.
  for (std::size_t n = 262'138; n < 262'150; ++n) {
    const std::string long_line(n, 'x');
    CHECK(lines(long_line + "\r\nb\r\nc") == list{long_line, "b", "c"});
    CHECK(lines(gzip_text(long_line + "\r\nb")) == list{long_line, "b"});
    CHECK(lines(long_line + "\r\rb") == list{long_line, "", "b"});
  }
  std::string many;
  list want;
  for (std::size_t i = 0; i < 30'000; ++i) {
    want.push_back(std::string(i % 37, 'y'));
    many += want.back() + (i % 3 == 0 ? "\r\n" : i % 3 == 1 ? "\n" : "\r");
  }
  CHECK(lines(many) == want);
}

TEST_CASE("binary and UTF-16 files are refused with a place") {
  const std::string text = error_text([] { lines(std::string("ab\ncd\0e", 7)); });
  CHECK(text.find("[plmscope.io.509]") == 0);
  CHECK(text.find("text:2:3") != std::string::npos);
  CHECK(error_id([] {
          lines(
              std::string("\xff\xfe"
                          "a\0",
                          4));
        }) == "io.509");
  CHECK(error_id([] { lines("\xfe\xff"); }) == "io.509");
}

TEST_CASE("a line has a limit, and numbers and positions count from 1") {
  const auto read = [](std::size_t length, std::size_t limit, bool end) {
    return error_id([&] {
      line_reader reader(content_reader(std::string(length, 'x') + (end ? "\n" : ""), "m"), limit);
      for (std::string_view line; reader.next(line);) {
      }
    });
  };
  for (const bool end : {false, true}) {
    CHECK(read(10, 10, end) == "accepted");
    CHECK(read(11, 10, end) == "io.510");
    CHECK(read(1'000'000, 999'999, end) == "io.510");
    CHECK(read(1'000'000, 1'000'000, end) == "accepted");
  }
  auto reader = line_reader::from_text("a\nb\n", "name");
  std::string_view line;
  CHECK(reader.number() == 0);
  reader.next(line);
  reader.next(line);
  CHECK(reader.number() == 2);
  CHECK(reader.position() == "name:2");
  CHECK(reader.position(5) == "name:2:5");
  CHECK_FALSE(reader.next(line));
}

TEST_CASE(
    "what a text begins with is seen without reading it, after a byte order mark, in an empty "
    "one") {
  auto reader = line_reader::from_text(
      "\xef\xbb\xbf"
      "Entry\tSequence\nP1\tMK\n",
      "name");
  CHECK(reader.begins_with("Entry\t"));
  CHECK(reader.begins_with(""));
  CHECK_FALSE(reader.begins_with(">"));
  CHECK(reader.number() == 0);
  std::string_view line;
  REQUIRE(reader.next(line));
  CHECK(line == "Entry\tSequence");
  CHECK(reader.begins_with("P1"));
  REQUIRE(reader.next(line));
  CHECK_FALSE(reader.begins_with("P1"));
  CHECK_FALSE(line_reader::from_text("", "name").begins_with(">"));
  // Longer than what is read at first.
  const std::string longest(std::size_t{1} << 19, 'x');
  auto wide = line_reader::from_text(longest + "y\n", "name");
  CHECK(wide.begins_with(longest));
  CHECK_FALSE(wide.begins_with(longest + "z"));
}
