// SPDX-License-Identifier: MIT
#include <plmscope/io/safetensors.hpp>

#include "tests/golden.hpp"
#include "tests/io/error_id.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include <sys/stat.h>

namespace {

using plmscope::safetensors_file;

std::vector<std::byte> file_of(std::uint64_t length, const std::string& header, std::size_t data) {
  std::string text(8, '\0');
  std::memcpy(text.data(), &length, 8);
  text += header + std::string(data, '\x01');
  std::vector<std::byte> out(text.size());
  std::memcpy(out.data(), text.data(), text.size());
  return out;
}

std::string id(const std::string& header, std::size_t data) {
  return error_id([&] { safetensors_file::parse(file_of(header.size(), header, data)); });
}

std::string one(const std::string& type, const std::string& shape, const std::string& offsets) {
  return R"({"w":{"dtype":")" + type + R"(","shape":)" + shape + R"(,"data_offsets":)" + offsets +
         "}}";
}

struct header_case {
  std::string header;
  std::size_t data;
  std::string expected;
};

}  // namespace

TEST_CASE("the length prefix is checked before anything is read or allocated") {
  const auto raw = [](std::size_t bytes) {
    return error_id([&] { safetensors_file::parse(std::vector<std::byte>(bytes)); });
  };
  CHECK(raw(0) == "io.101");
  CHECK(raw(7) == "io.101");
  CHECK(raw(8) == "io.102");
  for (const std::uint64_t n :
       {std::uint64_t{1} << 32, std::uint64_t{0x7fffffffffffffff},
        std::uint64_t{0xffffffffffffffff}, std::uint64_t{0xfffffffffffffff8}, std::uint64_t{18},
        std::uint64_t{3}}) {
    CAPTURE(n);
    CHECK(error_id([&] { safetensors_file::parse(file_of(n, "{}", 0)); }) == "io.103");
  }
  CHECK(error_id([] { safetensors_file::parse(file_of(1, "{}", 0)); }) == "io.102");
  CHECK(id("{}", 0) == "accepted");
}

TEST_CASE("a header above 100,000,000 bytes is refused unread") {
  const golden::scratch_folder folder;
  const std::string path = folder / "sparse.safetensors";
  {
    const std::uint64_t length = 100'000'001;
    FILE* f = std::fopen(path.c_str(), "wb");
    REQUIRE(f != nullptr);
    std::fwrite(&length, 8, 1, f);
    std::fclose(f);
    std::filesystem::resize_file(path, 200'000'000);
  }
  CHECK(error_id([&] { safetensors_file::open(path); }) == "io.104");
}

TEST_CASE("every header that breaks the format is refused with its rule") {
  const std::string f32 = R"("dtype":"F32","shape":[4],"data_offsets":)";
  const std::vector<header_case> cases = {
      // Tiling.
      {R"({"a":{)" + f32 + R"([0,16]},"b":{)" + f32 + "[0,16]}}", 16, "io.119"},
      {R"({"a":{)" + f32 + R"([0,16]},"b":{)" + f32 + "[8,24]}}", 24, "io.119"},
      {R"({"a":{)" + f32 + R"([0,16]},"b":{)" + f32 + "[20,36]}}", 36, "io.120"},
      {R"({"a":{)" + f32 + "[4,20]}}", 20, "io.120"},
      {R"({"a":{)" + f32 + "[0,16]}}", 17, "io.121"},
      {"{}", 1, "io.121"},
      {R"({"a":{)" + f32 + "[0,16]}}", 15, "io.122"},
      {one("F32", "[4]", "[16,0]"), 16, "io.117"},
      {R"({"b":{)" + f32 + R"([16,32]},"a":{)" + f32 + "[0,16]}}", 32, "accepted"},
      // Keys.
      {R"({"a":{)" + f32 + R"([0,16]},"a":{)" + f32 + "[0,16]}}", 16, "io.107"},
      {R"({"a":{)" + f32 + R"([0,16]},"\u0061":{)" + f32 + "[16,32]}}", 32, "io.107"},
      {R"({"a":{"dtype":"F32","dtype":"F32","shape":[4],"data_offsets":[0,16]}})", 16, "io.107"},
      {R"({"__metadata__":{"a":"1","a":"2"}})", 0, "io.107"},
      {R"({"__metadata__":{},"__metadata__":{}})", 0, "io.107"},
      {R"({"a":{"dtype":"F32","shape":[4]}})", 16, "io.106"},
      {R"({"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16],"x":1}})", 16, "io.106"},
      {"{\"" + std::string(1025, 'n') + "\":{" + f32 + "[0,16]}}", 16, "io.111"},
      {"{\"" + std::string(1024, 'n') + "\":{" + f32 + "[0,16]}}", 16, "accepted"},
      {R"({"a\u0000b":{)" + f32 + "[0,16]}}", 16, "io.111"},
      {R"({"../../etc/passwd":{)" + f32 + "[0,16]}}", 16, "accepted"},
      {R"({"":{)" + f32 + "[0,16]}}", 16, "accepted"},
      // Sizes.
      {one("F32", "[4294967296,4294967296]", "[0,0]"), 0, "io.115"},
      {one("I32", "[2,9223372036854775807]", "[0,16]"), 16, "io.115"},
      {one("I32", "[4611686018427387905,4]", "[0,16]"), 16, "io.115"},
      {one("F32", "[0,1099511627776]", "[0,0]"), 0, "accepted"},
      {one("F32", "[1099511627776,1099511627776,0]", "[0,0]"), 0, "io.115"},
      {one("F64", "[2305843009213693952]", "[0,0]"), 0, "io.115"},
      {one("F32", "[]", "[0,4]"), 4, "accepted"},
      {one("F32", "[1,1,1,1,1,1,1,1,1]", "[0,4]"), 4, "io.113"},
      {one("F32", "[1,1,1,1,1,1,1,1]", "[0,4]"), 4, "accepted"},
      {one("F32", "[5]", "[0,16]"), 16, "io.118"},
      {one("F32", "[3]", "[0,16]"), 16, "io.118"},
      {one("F32", "[18446744073709551616]", "[0,16]"), 16, "io.114"},
      {one("F32", "[4]", "[0,18446744073709551616]"), 16, "io.114"},
      {one("F32", "[4]", "[0,18446744073709551615]"), 16, "io.118"},
      {one("F4", "[3]", "[0,2]"), 2, "io.116"},
      {one("F4", "[4]", "[0,2]"), 2, "accepted"},
      {one("f32", "[4]", "[0,16]"), 16, "io.112"},
      {one("F128", "[1]", "[0,16]"), 16, "io.112"},
      // Types of JSON.
      {one("F32", "[-1]", "[0,16]"), 16, "io.106"},
      {one("F32", "[4.0]", "[0,16]"), 16, "io.106"},
      {one("F32", "[4e0]", "[0,16]"), 16, "io.106"},
      {one("F32", "[\"4\"]", "[0,16]"), 16, "io.106"},
      {one("F32", "[04]", "[0,16]"), 16, "io.106"},
      {one("F32", "[4,]", "[0,16]"), 16, "io.106"},
      {one("F32", "null", "[0,16]"), 16, "io.106"},
      {one("F32", "[null]", "[0,16]"), 16, "io.106"},
      {one("F32", "[[4]]", "[0,16]"), 16, "io.106"},
      {one("F32", "[4]", "[0]"), 16, "io.106"},
      {one("F32", "[4]", "[0,16,16]"), 16, "io.106"},
      {one("F32", "[4]", "{}"), 16, "io.106"},
      {R"({"a":[]})", 0, "io.106"},
      {R"({"a":null})", 0, "io.106"},
      {"[]", 0, "io.106"},
      {"{}x", 0, "io.106"},
      {"{}{}", 0, "io.106"},
      {"{", 0, "io.102"},
      {"{ ", 0, "io.106"},
      {"{,}", 0, "io.106"},
      {R"({"a")", 0, "io.106"},
      {R"({"a":)", 0, "io.106"},
      {R"({"a)", 0, "io.106"},
      {R"({"a\)", 0, "io.106"},
      {R"({"a\u00)", 0, "io.106"},
      {R"({"a\x":1})", 0, "io.106"},
      {std::string("{\"a\0b\":1}", 9), 0, "io.106"},
      {"{\"a\nb\":1}", 0, "io.106"},
      {std::string(1'000'000, '['), 0, "io.106"},
      {std::string("{\"a\":") + std::string(1'000'000, '{'), 0, "io.106"},
      {"  \t\n\r{}", 0, "accepted"},
      {"{}      ", 0, "accepted"},
      {"\xef\xbb\xbf{}", 0, "io.106"},
      // Text.
      {"{\"\xff\":1}", 0, "io.105"},
      {"{\"\xc0\xaf\":1}", 0, "io.105"},
      {"{\"\xe0\x80\xaf\":1}", 0, "io.105"},
      {"{\"\xed\xa0\x80\":1}", 0, "io.105"},
      {"{\"\xf4\x90\x80\x80\":1}", 0, "io.105"},
      {"{\"\xe2\x82", 0, "io.105"},
      {R"({"\ud800":1})", 0, "io.105"},
      {R"({"\udc00":1})", 0, "io.105"},
      {R"({"\ud800\u0041":1})", 0, "io.105"},
      {R"({"\ud83e\uddec":{)" + f32 + "[0,16]}}", 16, "accepted"},
      // Metadata.
      {R"({"__metadata__":{"k":"v","l":"w"}})", 0, "accepted"},
      {R"({"__metadata__":{"k":1}})", 0, "io.109"},
      {R"({"__metadata__":{"k":null}})", 0, "io.109"},
      {R"({"__metadata__":{"k":{}}})", 0, "io.109"},
      {R"({"__metadata__":[]})", 0, "io.109"},
      {R"({"__metadata__":null})", 0, "io.109"},
      {R"({"__metadata__":{"k":")" + std::string(17'000'000, 'x') + "\"}}", 0, "io.110"},
  };
  for (const auto& c : cases) {
    INFO("header ", c.header.substr(0, 200), " with ", c.data, " bytes");
    CHECK(id(c.header, c.data) == c.expected);
  }
}

TEST_CASE("more than 2^20 tensors are refused") {
  std::string header = "{";
  for (std::size_t i = 0; i <= (std::size_t{1} << 20); ++i) {
    header += (i == 0 ? "\"" : ",\"") + std::to_string(i) +
              R"(":{"dtype":"U8","shape":[0],"data_offsets":[0,0]})";
  }
  CHECK(id(header + "}", 0) == "io.108");
}

TEST_CASE("a shape is accepted exactly when its exact size is what the offsets span") {
  // All products of boundary values over up to three dimensions and every dtype, against 128-bit
  // arithmetic: overflow that wraps to a small number is what readers get wrong.
  const std::vector<std::uint64_t> edges = {0,
                                            1,
                                            2,
                                            3,
                                            4,
                                            5,
                                            7,
                                            8,
                                            16,
                                            0xffff,
                                            0x10000,
                                            0x10001,
                                            0xffffffff,
                                            0x100000000,
                                            0x100000001,
                                            (std::uint64_t{1} << 61) - 1,
                                            std::uint64_t{1} << 61,
                                            (std::uint64_t{1} << 62) + 1,
                                            std::uint64_t{1} << 62,
                                            (std::uint64_t{1} << 63) - 1,
                                            std::uint64_t{1} << 63,
                                            0xffffffffffffffff};
  std::size_t cases = 0;
  std::size_t accepted = 0;
  std::size_t wrong = 0;
  const auto try_shape = [&](const plmscope::dtype_row& row,
                             const std::vector<std::uint64_t>& shape) {
    using wide = unsigned __int128;
    wide product = row.bits;
    bool fits = true;
    // The ordered product must fit at every step, as in the reference implementation.
    wide elements = 1;
    for (const std::uint64_t n : shape) {
      elements *= n;
      if (elements >> 64) fits = false;
      if (!fits) break;
    }
    product *= elements;
    fits = fits && (product >> 64) == 0;
    for (const std::size_t data : {0u, 1u, 4u, 16u, 64u}) {
      const std::string header = one(std::string(row.name), plmscope::shape_text(shape),
                                     "[0," + std::to_string(data) + "]");
      const bool valid = fits && product == wide{data} * 8;
      const bool taken = id(header, data) == "accepted";
      ++cases;
      accepted += taken;
      wrong += taken != valid;
    }
  };
  for (const auto& row : plmscope::dtype_table) {
    for (const std::uint64_t a : edges) {
      try_shape(row, {a});
      for (const std::uint64_t b : edges) try_shape(row, {a, b});
    }
  }
  for (const std::uint64_t a : edges) {
    for (const std::uint64_t b : edges) {
      for (const std::uint64_t c : edges) try_shape(plmscope::dtype_table[14], {a, b, c});
    }
  }
  MESSAGE(cases, " shapes, ", accepted, " accepted");
  CHECK(accepted > 500);
  CHECK(wrong == 0);
}

TEST_CASE("damaged files are refused or read, never worse") {
  const std::string header =
      R"({"__metadata__":{"k":"v\n"},"a":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]},)"
      R"("b":{"dtype":"BF16","shape":[3],"data_offsets":[16,22]}})";
  const auto whole = file_of(header.size(), header, 22);
  REQUIRE(error_id([&] { safetensors_file::parse(whole); }) == "accepted");
  for (std::size_t cut = 0; cut < whole.size(); ++cut) {
    auto part = whole;
    part.resize(cut);
    CHECK(error_id([&] { safetensors_file::parse(part); }) != "accepted");
  }
  std::size_t refused = 0;
  for (std::size_t bit = 0; bit < (8 + header.size()) * 8; ++bit) {
    auto flipped = whole;
    flipped[bit / 8] ^= std::byte{1} << (bit % 8);
    refused += error_id([&] {
                 const auto f = safetensors_file::parse(flipped);
                 for (const auto& t : f.tensors()) (void)f.read_vector<float>(t);
                 (void)f.content_hash();
               }) != "accepted";
  }
  CHECK(refused > header.size() * 4);
}

TEST_CASE("the message names the file, the byte, the tensor and the sizes") {
  const std::string header = one("F32", "[5]", "[0,16]");
  const std::string text = error_text(
      [&] { safetensors_file::parse(file_of(header.size(), header, 16), "m.safetensors"); });
  CHECK(text.find("[plmscope.io.118]") == 0);
  for (const char* part :
       {"m.safetensors, byte ", "tensor \"w\"", "20 bytes for F32 [5]", "16 bytes"}) {
    INFO(text);
    CHECK(text.find(part) != std::string::npos);
  }
  const auto file = safetensors_file::parse(file_of(2, "{}", 0), "m.safetensors");
  CHECK(error_id([&] { file.require("gone"); }) == "io.123");
}

TEST_CASE("names with terminal control sequences are shown, never sent") {
  const std::string header = R"({"\u001b[31m":{"dtype":"F32","shape":[1],"data_offsets":[0,8]}})";
  const std::string text =
      error_text([&] { safetensors_file::parse(file_of(header.size(), header, 8)); });
  CHECK(text.find('\x1b') == std::string::npos);
  CHECK(text.find("\\x1b[31m") != std::string::npos);
}

TEST_CASE("only regular files are opened, without hanging") {
  const golden::scratch_folder folder;
  const std::filesystem::path fifo = folder / "fifo";
  REQUIRE(::mkfifo(fifo.c_str(), 0600) == 0);
  std::filesystem::create_symlink(folder / "loop", folder / "loop");
  CHECK(error_id([&] { safetensors_file::open(fifo); }) == "io.502");
  CHECK(error_id([&] { safetensors_file::open(folder.path()); }) == "io.502");
  CHECK(error_id([&] { safetensors_file::open("/dev/zero"); }) == "io.502");
  CHECK(error_id([&] { safetensors_file::open(folder / "loop"); }) == "io.501");
  CHECK(error_id([&] { safetensors_file::open(folder / "absent"); }) == "io.501");
  CHECK(error_id([&] { safetensors_file::read_whole(fifo); }) == "io.502");
}

TEST_CASE("every safetensors file of the reference data opens, reads and hashes") {
  for (const auto& path : golden::files("", ".safetensors")) {
    CAPTURE(path.string());
    const auto mapped = safetensors_file::open(path);
    std::size_t bytes = 0;
    for (const auto& t : mapped.tensors()) {
      bytes += t.end - t.begin;
      const auto family = plmscope::dtype_name(t.type);
      if (family[0] == 'F' || family[0] == 'B') {
        if (family == "BOOL") continue;
        const auto numbers = mapped.read_vector<double>(t);
        CHECK(numbers.size() == t.elements);
      } else {
        CHECK(mapped.read_vector<std::int64_t>(t).size() == t.elements);
      }
    }
    CHECK(bytes < std::filesystem::file_size(path));
    if (bytes < 1'000'000) {
      CHECK(mapped.content_hash() == safetensors_file::read_whole(path).content_hash());
    }
  }
}
