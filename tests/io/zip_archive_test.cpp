// SPDX-License-Identifier: MIT
#include "tests/io/error_id.hpp"
#include "tests/io/zip_builder.hpp"

#include <plmscope/io/zip_archive.hpp>

#include <doctest/doctest.h>

#include <cstddef>
#include <functional>
#include <string>
#include <vector>

namespace {

using plmscope::zip_archive;

zip_builder two_entries() {
  return {
      .parts = {{.name = "a/data.pkl", .data = "first"}, {.name = "a/data/0", .data = "second!"}}};
}

// Every entry as NAME=DATA;, or the id of the error.
std::string read(const std::string& text) {
  const auto bytes = bytes_of(text);
  std::string out;
  const std::string id = error_id([&] {
    const zip_archive archive(bytes, "test.zip");
    for (const auto& e : archive.entries()) out += e.name + "=" + text_of(e.bytes) + ";";
  });
  return id == "accepted" ? out : id;
}

std::string read_after(const std::function<void(zip_builder&)>& change) {
  zip_builder builder = two_entries();
  change(builder);
  return read(builder.text());
}

constexpr const char* both = "a/data.pkl=first;a/data/0=second!;";

}  // namespace

TEST_CASE("entries are read through the directory, zip64 and comments included") {
  CHECK(read(two_entries().text()) == both);
  CHECK(read_after([](zip_builder& b) { b.comment = "a comment of some length"; }) == both);
  CHECK(read_after([](zip_builder& b) { b.comment = std::string(65535, 'c'); }) == both);
  CHECK(read_after([](zip_builder& b) { b.zip64_end = true; }) == both);
  CHECK(read_after([](zip_builder& b) {
          b.zip64_end = true;
          for (auto& p : b.parts) p.zip64 = true;
        }) == both);
  // Other fields before the zip64 one, and sizes left to a descriptor behind the data.
  CHECK(read_after([](zip_builder& b) {
          b.parts[1].extra = std::string("\x42\x46\x02\x00zz", 6);
          b.parts[1].zip64 = true;
        }) == both);
  CHECK(read_after([](zip_builder& b) {
          b.parts[0].flags = 8;
          b.parts[0].descriptor = std::string(24, 'd');
        }) == both);
  CHECK(read(zip_builder{.parts = {}}.text()).empty());
  const auto bytes = bytes_of(two_entries().text());
  const zip_archive archive(bytes, "x");
  CHECK(archive.find("a/data/0") != nullptr);
  CHECK(archive.find("a/data/1") == nullptr);
}

TEST_CASE("directory, entries and file must agree") {
  const auto bad = [](const std::function<void(zip_builder&)>& change) {
    return read_after(change);
  };
  CHECK(bad([](zip_builder& b) { b.before = "stub"; }) == "io.150");
  CHECK(bad([](zip_builder& b) { b.gap = "hidden"; }) == "io.150");
  CHECK(bad([](zip_builder& b) { b.parts[0].descriptor = "no flag"; }) == "io.150");
  CHECK(bad([](zip_builder& b) {
          b.parts[0].flags = 8;
          b.parts[0].descriptor = std::string(25, 'd');
        }) == "io.150");
  CHECK(bad([](zip_builder& b) { b.parts[0].local_name = "a/data.pkx"; }) == "io.150");
  CHECK(bad([](zip_builder& b) { b.entries_error = 1; }) == "io.150");
  CHECK(bad([](zip_builder& b) { b.entries_error = -1; }) == "io.150");
  CHECK(bad([](zip_builder& b) { b.directory_error = 1; }) == "io.150");
  CHECK(bad([](zip_builder& b) { b.directory_error = -3; }) == "io.150");
  CHECK(bad([](zip_builder& b) { b.disk = 1; }) == "io.150");
  // Two records of the directory with the same data.
  CHECK(bad([](zip_builder& b) { b.parts[1].header_error = -45; }) == "io.150");
  CHECK(bad([](zip_builder& b) {
          b.parts[1] = {.name = "b/data.pkl", .data = "other"};
          b.parts[1].header_error = -45;
        }) == "io.150");
  for (const std::int64_t lie : {std::int64_t{1}, std::int64_t{-1}, std::int64_t{1} << 30}) {
    CHECK(bad([&](zip_builder& b) { b.parts[1].size_error = lie; }) == "io.150");
    CHECK(bad([&](zip_builder& b) { b.parts[1].packed_error = lie; }) == "io.150");
    CHECK(bad([&](zip_builder& b) {
            b.parts[0].size_error = lie;
            b.parts[0].packed_error = lie;
          }) == "io.150");
  }
  // Sizes and offsets near 2^64 that would wrap.
  for (const std::int64_t lie : {std::int64_t{-6}, std::int64_t{-8}, std::int64_t{-100},
                                 std::int64_t{1} << 62, std::int64_t{-1} << 62}) {
    CHECK(bad([&](zip_builder& b) {
            b.parts[1].zip64 = true;
            b.parts[1].size_error = lie - 7;
            b.parts[1].packed_error = lie - 7;
          }) == "io.150");
    CHECK(bad([&](zip_builder& b) {
            b.parts[1].zip64 = true;
            b.parts[1].header_error = lie;
          }) == "io.150");
    CHECK(bad([&](zip_builder& b) {
            b.zip64_end = true;
            b.directory_error = lie;
          }) == "io.150");
    CHECK(bad([&](zip_builder& b) {
            b.zip64_end = true;
            b.entries_error = std::int64_t{1} << 40;
          }) == "io.154");
  }
}

TEST_CASE("compression and encryption are refused by name") {
  const auto message = [](std::uint16_t method, std::uint16_t flags) {
    zip_builder b = two_entries();
    b.parts[1].method = method;
    b.parts[1].flags = flags;
    const auto bytes = bytes_of(b.text());
    return error_text([&] { zip_archive(bytes, "test.zip"); });
  };
  CHECK(message(8, 0).find("io.152") != std::string::npos);
  CHECK(message(8, 0).find("compression method 8") != std::string::npos);
  CHECK(message(0, 1).find("encryption") != std::string::npos);
}

TEST_CASE("names are plain relative paths, each once") {
  for (const std::string name :
       {"../x", "a/../x", "a/..", "..", "/etc/passwd", "a\\b", "C:x", ""}) {
    CHECK(read_after([&](zip_builder& b) { b.parts[1].name = name; }) == "io.153");
  }
  CHECK(read_after([](zip_builder& b) { b.parts[1].name = std::string("a\0b", 3); }) == "io.153");
  CHECK(read_after([](zip_builder& b) { b.parts[1].name = std::string(1025, 'a'); }) == "io.153");
  CHECK(read_after([](zip_builder& b) { b.parts[1].name = b.parts[0].name; }) == "io.153");
  CHECK(read_after([](zip_builder& b) { b.parts[1].name = "a/..b"; }) ==
        "a/..b=second!;a/data.pkl=first;");
}

TEST_CASE("an archive cut anywhere, or with any byte changed, is read or refused") {
  zip_builder builder = two_entries();
  builder.parts[1].zip64 = true;
  builder.zip64_end = true;
  const std::string whole = builder.text();
  REQUIRE(read(whole) == both);
  for (std::size_t n = 0; n < whole.size(); ++n) {
    CHECK(read(whole.substr(0, n)) == "io.151");
  }
  std::size_t refused = 0;
  for (std::size_t i = 0; i < whole.size(); ++i) {
    for (const int flip : {0x01, 0x10, 0x80, 0xff}) {
      std::string changed = whole;
      changed[i] = static_cast<char>(changed[i] ^ flip);
      const std::string got = read(changed);
      refused += got.starts_with("io.15") ? 1u : 0u;
      CHECK((got.starts_with("io.15") || got.find("=") != std::string::npos));
    }
  }
  CHECK(refused > whole.size());
}
