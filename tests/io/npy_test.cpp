// SPDX-License-Identifier: MIT
#include <plmscope/io/npy.hpp>

#include "tests/golden.hpp"
#include "tests/io/error_id.hpp"

#include <doctest/doctest.h>

#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

using namespace plmscope;

namespace {

std::vector<std::byte> bytes_of(const std::string& text) {
  std::vector<std::byte> out(text.size());
  if (!text.empty()) std::memcpy(out.data(), text.data(), text.size());
  return out;
}

std::string file(const std::string& header, const std::string& data, char version = 1) {
  std::string out = std::string("\x93NUMPY") + version + '\0';
  out += static_cast<char>(header.size() & 255);
  out += static_cast<char>(header.size() >> 8);
  if (version > 1) out += std::string(2, '\0');
  return out + header + data;
}

std::string dict(const std::string& descr, const std::string& order, const std::string& shape) {
  return "{'descr': '" + descr + "', 'fortran_order': " + order + ", 'shape': " + shape + ", }\n";
}

template <class T = float>
std::string id(const std::string& text) {
  return error_id([&] { parse_npy<T>(bytes_of(text)); });
}

template <class T>
void round_trip(const std::vector<std::size_t>& shape) {
  std::size_t n = 1;
  for (const std::size_t s : shape) n *= s;
  std::vector<T> data(n);
  for (std::size_t i = 0; i < n; ++i) data[i] = static_cast<T>(i % 100);
  const auto back = parse_npy<T>(npy_bytes<T>(shape, data));
  CHECK(back.shape == shape);
  CHECK(back.data == data);
  CHECK(back.trailing_bytes == 0);
}

}  // namespace

TEST_CASE("arrays of every type and shape survive a round trip") {
  for (const std::vector<std::size_t>& shape :
       {std::vector<std::size_t>{}, {0}, {1}, {7}, {3, 5}, {2, 0, 4}, {2, 3, 4, 5}, {100, 100}}) {
    round_trip<float>(shape);
    round_trip<double>(shape);
    round_trip<std::int8_t>(shape);
    round_trip<std::uint8_t>(shape);
    round_trip<std::int16_t>(shape);
    round_trip<std::int32_t>(shape);
    round_trip<std::uint32_t>(shape);
    round_trip<std::int64_t>(shape);
    round_trip<std::uint64_t>(shape);
  }
}

TEST_CASE("the bytes written are those of NumPy") {
  const std::vector<float> x = {1.0f, 2.0f};
  const auto bytes = npy_bytes<float>({2}, x);
  CHECK(bytes.size() == 128 + 8);
  const std::string head(reinterpret_cast<const char*>(bytes.data()), 128);
  CHECK(head.substr(0, 10) == std::string("\x93NUMPY\x01\x00\x76\x00", 10));
  CHECK(head.substr(10, 59) == "{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }  ");
  CHECK(head.back() == '\n');
  const golden::scratch_folder folder;
  write_npy<float>(folder / "x.npy", {2}, x);
  CHECK(read_file(folder / "x.npy") == bytes);
  CHECK(read_npy<double>(folder / "x.npy").data == std::vector<double>{1.0, 2.0});
}

TEST_CASE("all three versions are read, others refused") {
  const std::string data(16, '\0');
  for (const char version : {'\1', '\2', '\3'})
    CHECK(id(file(dict("<f4", "False", "(4,)"), data, version)) == "accepted");
  for (const char version : {'\0', '\4', '\x7f'})
    CHECK(id(file(dict("<f4", "False", "(4,)"), data, version)) == "io.402");
  std::string minor = file(dict("<f4", "False", "(4,)"), data);
  minor[7] = 1;
  CHECK(id(minor) == "io.402");
}

TEST_CASE("Fortran order is transposed and big-endian numbers are swapped") {
  // [[0, 1, 2], [3, 4, 5]] column by column.
  const std::string columns("\0\3\1\4\2\5", 6);
  CHECK(parse_npy<int>(bytes_of(file(dict("|u1", "True", "(2, 3)"), columns))).data ==
        std::vector<int>{0, 1, 2, 3, 4, 5});
  std::string cube;
  for (int k = 0; k < 4; ++k) {
    for (int j = 0; j < 3; ++j) {
      for (int i = 0; i < 2; ++i) cube += static_cast<char>(12 * i + 4 * j + k);
    }
  }
  const auto got = parse_npy<int>(bytes_of(file(dict("|i1", "True", "(2, 3, 4)"), cube))).data;
  for (int i = 0; i < 24; ++i) CHECK(got[static_cast<std::size_t>(i)] == i);
  CHECK(
      parse_npy<float>(bytes_of(file(dict(">f4", "False", "(1,)"), std::string("\x3f\x80\0\0", 4))))
          .data[0] == 1.0f);
  CHECK(parse_npy<int>(bytes_of(file(dict(">i2", "False", "(2,)"), std::string("\1\0\0\1", 4))))
            .data == std::vector<int>{256, 1});
  CHECK(parse_npy<float>(bytes_of(file(dict("<f2", "False", "()"), std::string("\0\x3c", 2))))
            .data[0] == 1.0f);
  CHECK(
      parse_npy<std::uint8_t>(bytes_of(file(dict("|b1", "False", "(2,)"), std::string("\1\0", 2))))
          .data[0] == 1);
}

TEST_CASE("hostile and broken headers are refused with their rule") {
  const std::string data(16, '\0');
  const std::string good = dict("<f4", "False", "(4,)");
  CHECK(id("") == "io.401");
  CHECK(id("PK\3\4") == "io.401");
  CHECK(id("\x93NUMPY") == "io.402");
  CHECK(id(std::string("\x93NUMPY\1\0", 8)) == "io.403");
  CHECK(id(file(good, data).substr(0, 30)) == "io.403");
  CHECK(id(std::string("\x93NUMPY\2\0\xff\xff\xff\xff", 12) + good) == "io.403");
  CHECK(id(file(good + std::string(10'000, ' '), data)) == "io.403");
  for (const char* header :
       {"__import__('os').system('x')", "{}", "[]", "{'descr': '<f4'}", "", "{",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (4,), 'x': 1}",
        "{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': (4,)}",
        "{'descr': '<f4', 'fortran_order': 0, 'shape': (4,)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (4)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (-4,)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (4.0,)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': [4]}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (4,)} x",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (2*2,)}",
        "{'descr': open('x'), 'fortran_order': False, 'shape': (4,)}"}) {
    CAPTURE(header);
    CHECK(id(file(header, data)) == "io.404");
  }
  CHECK(id(file(dict("|O", "False", "(4,)"), data)) == "io.405");
  for (const char* descr : {"<c8", "<U4", "|S4", "|V4", "<M8[s]", "f4", "=f4", "<f16", "<f3", ""}) {
    CAPTURE(descr);
    CHECK(id(file(dict(descr, "False", "(4,)"), data)) == "io.406");
  }
  CHECK(id(file("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (4,)}", data)) ==
        "io.406");
  CHECK(id(file(dict("<f4", "False", "(4294967296, 4294967296)"), data)) == "io.407");
  CHECK(id(file(dict("<f4", "False", "(99999999999999999999,)"), data)) == "io.407");
  CHECK(id(file(dict("<f4", "False", "(2305843009213693952,)"), data)) == "io.407");
  std::string rank33 = "(";
  for (int i = 0; i < 33; ++i) rank33 += "1,";
  CHECK(id(file(dict("<f4", "False", rank33 + ")"), data)) == "io.407");
  CHECK(id(file(dict("<f4", "False", "(5,)"), data)) == "io.408");
  CHECK(id(file(dict("<f4", "False", "(1099511627776,)"), data)) == "io.408");
  CHECK(id(file(dict("<f4", "False", "(0, 1099511627776)"), "")) == "accepted");
  CHECK(id(file(dict("<i4", "False", "(4,)"), data)) == "io.409");
  CHECK(id<int>(file(good, data)) == "io.409");
  CHECK(id<std::uint8_t>(file(dict("<i2", "False", "(1,)"), "\x2c\x01")) == "io.126");
}

TEST_CASE("bytes behind the data are reported") {
  CHECK(parse_npy<float>(bytes_of(file(dict("<f4", "False", "(1,)"), std::string(7, '\0'))))
            .trailing_bytes == 3);
}

TEST_CASE("arrays that do not match their shape are not written") {
  const std::vector<float> x(6);
  CHECK(error_id([&] { npy_bytes<float>({5}, x); }) == "io.410");
  CHECK(error_id([&] { npy_bytes<float>({std::size_t{1} << 62, 16}, x); }) == "io.410");
  CHECK(error_id([&] { npy_bytes<bfloat16>({1}, std::vector<bfloat16>(1)); }) == "io.410");
  CHECK(error_id([&] {
          npy_bytes<float>(std::vector<std::size_t>(33, 1), std::vector<float>(1));
        }) == "io.410");
}
