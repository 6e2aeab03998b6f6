// SPDX-License-Identifier: MIT
#include <plmscope/io/gzip.hpp>

#include "tests/golden.hpp"
#include "tests/io/error_id.hpp"
#include "tests/io/gzip_text.hpp"

#include <plmscope/io/atomic_file.hpp>

#include <doctest/doctest.h>

#include <string>
#include <thread>

#include <sys/stat.h>

using namespace plmscope;

namespace {

std::string drain(content_reader reader, std::size_t piece = 1000) {
  std::string out;
  std::string buffer(piece, '\0');
  while (const std::size_t n = reader.read(buffer)) out.append(buffer, 0, n);
  return out;
}

std::string text_of(std::size_t n) {
  std::string text;
  for (std::size_t i = 0; text.size() < n; ++i) text += std::to_string(i * i) + "\n";
  text.resize(n);
  return text;
}

}  // namespace

TEST_CASE("plain and compressed content are told apart by content, not by name") {
  const golden::scratch_folder folder;
  for (const std::size_t n : {0u, 1u, 2u, 70'000u, 400'000u}) {
    const std::string text = text_of(n);
    write_file_atomically(folder / "plain.gz", text);
    write_file_atomically(folder / "packed.txt", gzip_text(text));
    for (const std::size_t piece : {1u, 1000u, 1'000'000u}) {
      if (piece == 1 && n > 100'000) continue;
      CHECK(drain(content_reader(folder / "plain.gz"), piece) == text);
      CHECK(drain(content_reader(folder / "packed.txt"), piece) == text);
    }
  }
}

TEST_CASE("members behind each other are one content") {
  std::string packed;
  std::string text;
  for (std::size_t i = 0; i < 50; ++i) {
    text += text_of(i * 777);
    packed += gzip_text(text_of(i * 777));
  }
  CHECK(drain(content_reader(packed, "m")) == text);
}

TEST_CASE("bytes behind the last member are ignored and reported") {
  for (const char* rest : {"x", "garbage", "\x1f", "\x1fx"}) {
    content_reader reader(gzip_text("hello") + rest, "m");
    std::string buffer(100, '\0');
    CHECK(reader.read(buffer) == 5);
    CHECK(reader.read(buffer) == 0);
    CHECK(reader.trailing_garbage());
  }
  content_reader clean(gzip_text("hello"), "m");
  std::string buffer(100, '\0');
  while (clean.read(buffer) > 0) {
  }
  CHECK_FALSE(clean.trailing_garbage());
}

TEST_CASE("a file cut anywhere is truncated, never short") {
  const std::string packed = gzip_text(text_of(3000));
  for (std::size_t cut = 2; cut < packed.size(); ++cut) {
    CAPTURE(cut);
    CHECK(error_id([&] { drain(content_reader(packed.substr(0, cut), "m")); }) == "io.506");
  }
}

TEST_CASE("damage is noticed") {
  const std::string packed = gzip_text(text_of(3000));
  // The last eight bytes are checksum and length.
  for (std::size_t back = 1; back <= 8; ++back) {
    std::string bad = packed;
    bad[bad.size() - back] = static_cast<char>(bad[bad.size() - back] ^ 1);
    CHECK(error_id([&] { drain(content_reader(bad, "m")); }) == "io.507");
  }
  std::string bad = packed;
  bad[2] = 9;  // an unknown method
  CHECK(error_id([&] { drain(content_reader(bad, "m")); }) == "io.507");
}

TEST_CASE("a bomb is stopped early") {
  const std::string bomb = gzip_text(std::string(200'000'000, '\0'));
  CHECK(bomb.size() < 1'000'000);
  CHECK(error_id([&] { drain(content_reader(bomb, "m"), 1 << 16); }) == "io.508");
  CHECK(error_id([&] {
          content_reader reader(gzip_text(std::string(100'000, 'a')), "m",
                                {.ratio = 10, .free_bytes = 1000});
          std::string buffer(1000, '\0');
          while (reader.read(buffer) > 0) {
          }
        }) == "io.508");
}

TEST_CASE("pipes are read, other special files refused") {
  const golden::scratch_folder folder;
  const std::filesystem::path fifo = folder / "fifo";
  REQUIRE(::mkfifo(fifo.c_str(), 0600) == 0);
  const int keep = ::open(fifo.c_str(), O_RDWR);
  REQUIRE(keep >= 0);
  REQUIRE(::write(keep, "through", 7) == 7);
  content_reader reader(fifo);
  std::string buffer(100, '\0');
  CHECK(reader.read(buffer) == 7);
  ::close(keep);
  CHECK(reader.read(buffer) == 0);
  CHECK(error_id([&] { content_reader r(folder.path()); }) == "io.502");
  CHECK(error_id([&] { content_reader r("/dev/zero"); }) == "io.502");
  CHECK(error_id([&] { content_reader r(folder / "absent"); }) == "io.501");
}
