// SPDX-License-Identifier: MIT
#include <plmscope/io/byte_source.hpp>

#include "tests/golden.hpp"
#include "tests/io/error_id.hpp"

#include <plmscope/io/atomic_file.hpp>

#include <doctest/doctest.h>

#include <string>
#include <vector>

#include <sys/stat.h>

using namespace plmscope;

TEST_CASE("a file read and a file mapped are the same bytes") {
  const golden::scratch_folder folder;
  for (const std::size_t n : {0u, 1u, 4095u, 4096u, 4097u, 1'000'003u}) {
    std::string text(n, 'a');
    for (std::size_t i = 0; i < n; ++i) text[i] = static_cast<char>(i * 31 % 251);
    write_file_atomically(folder / "f", text);
    const auto read = read_file(folder / "f");
    const mapped_file map(folder / "f");
    CHECK(read.size() == n);
    CHECK(std::equal(read.begin(), read.end(), map.bytes().begin(), map.bytes().end()));
    CHECK(std::equal(read.begin(), read.end(), std::as_bytes(std::span(text)).begin()));
  }
}

TEST_CASE("what is not a regular file is refused without hanging") {
  const golden::scratch_folder folder;
  const std::filesystem::path fifo = folder / "fifo";
  REQUIRE(::mkfifo(fifo.c_str(), 0600) == 0);
  for (const std::filesystem::path& path :
       {fifo, folder.path(), std::filesystem::path("/dev/zero")}) {
    CAPTURE(path.string());
    CHECK(error_id([&] { read_file(path); }) == "io.502");
    CHECK(error_id([&] { mapped_file map(path); }) == "io.502");
  }
  CHECK(error_id([&] { read_file(folder / "absent"); }) == "io.501");
  CHECK(error_id([&] { read_file(""); }) == "io.501");
}

TEST_CASE("size limits come before reading, and a file that shrinks is noticed") {
  const golden::scratch_folder folder;
  write_file_atomically(folder / "f", std::string(100, 'x'));
  CHECK(error_id([&] { read_file(folder / "f", 99); }) == "io.504");
  CHECK(error_id([&] { read_file(folder / "f", 100); }) == "accepted");
  const regular_file file(folder / "f");
  std::filesystem::resize_file(folder / "f", 50);
  std::vector<std::byte> all(100);
  CHECK(error_id([&] { file.read(0, all); }) == "io.503");
  CHECK(error_id([&] { file.check_unchanged(); }) == "io.503");
}

TEST_CASE("descriptors close once and move") {
  file_descriptor a(::dup(1));
  const int number = a.get();
  file_descriptor b(std::move(a));
  CHECK(b.get() == number);
  b = file_descriptor();
  CHECK(::fcntl(number, F_GETFD) == -1);
}
