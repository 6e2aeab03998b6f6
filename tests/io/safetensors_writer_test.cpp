// SPDX-License-Identifier: MIT
#include <plmscope/io/safetensors.hpp>
#include <plmscope/io/safetensors_writer.hpp>

#include "tests/golden.hpp"
#include "tests/io/error_id.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <numeric>
#include <string>
#include <vector>

using namespace plmscope;

namespace {

std::vector<float> ramp(std::size_t n) {
  std::vector<float> out(n);
  for (std::size_t i = 0; i < n; ++i) out[i] = static_cast<float>(i) * 0.25f - 7.0f;
  return out;
}

template <class T>
std::span<const T> in(const std::vector<T>& v) {
  return v;
}

}  // namespace

TEST_CASE("what is written is read back, for every type and awkward sizes") {
  for (const std::size_t n : {0u, 1u, 3u, 63u, 4095u, 4096u, 4097u, 12289u}) {
    CAPTURE(n);
    const auto floats = ramp(n);
    const std::vector<double> doubles(floats.begin(), floats.end());
    std::vector<std::int64_t> integers(n);
    std::iota(integers.begin(), integers.end(), std::int64_t{-5});
    const std::vector<std::uint8_t> bytes(n, 200);
    safetensors_writer w;
    w.metadata["parent"] = "a \"model\"\\ \n\t\x01 \xce\xb2";
    w.metadata[""] = "";
    w.add("f32", {n}, in(floats));
    w.add("f16", dtype::f16, {1, n}, in(floats));
    w.add("bf16", dtype::bf16, {n, 1}, in(floats));
    w.add("f64", dtype::f64, {n}, in(floats));
    w.add("narrowed", dtype::f32, {n}, in(doubles));
    w.add("i64", {n}, in(integers));
    w.add("i32", dtype::i32, {n}, in(integers));
    w.add("u8", {n}, in(bytes));
    w.add_owned("odd/name \"x\" \xce\xb1", {n}, ramp(n));
    const auto f = safetensors_file::parse(w.to_bytes());
    CHECK(f.metadata() == w.metadata);
    CHECK(f.tensors().size() == 9);
    for (const char* name : {"f32", "f64", "narrowed", "odd/name \"x\" \xce\xb1"}) {
      CHECK(f.read_vector<float>(name) == floats);
      CHECK(f.read_vector<double>(name) == doubles);
    }
    auto rounded = floats;
    for (float& x : rounded) x = to_float(to_float16(x));
    CHECK(f.read_vector<float>("f16", {1, n}) == rounded);
    for (std::size_t i = 0; i < n; ++i) rounded[i] = to_float(to_bfloat16(floats[i]));
    CHECK(f.read_vector<float>("bf16") == rounded);
    CHECK(f.read_vector<std::int64_t>("i64") == integers);
    CHECK(f.read_vector<std::int64_t>("i32") == integers);
    CHECK(f.read_vector<std::uint8_t>("u8") == bytes);
    CHECK(f.require("bf16", {n, any_extent}).type == dtype::bf16);
    for (const auto& t : f.tensors()) {
      CHECK(reinterpret_cast<std::uintptr_t>(f.bytes(t).data()) % (dtype_bits(t.type) / 8) == 0);
    }
    if (n > 0) {
      REQUIRE(f.view_as<float>(f.require("f32")).has_value());
      CHECK(f.view_as<float>(f.require("f32"))->back() == floats.back());
      CHECK_FALSE(f.view_as<float>(f.require("f16")).has_value());
    }
  }
}

TEST_CASE("the same content gives the same bytes, whatever the order of adding") {
  const auto a = ramp(10);
  const std::vector<std::int64_t> b = {1, 2, 3};
  safetensors_writer first;
  first.metadata["z"] = "1";
  first.metadata["a"] = "2";
  first.add("x", {10}, in(a));
  first.add("y", {3}, in(b));
  safetensors_writer second;
  second.metadata["a"] = "2";
  second.metadata["z"] = "1";
  second.add("y", {3}, in(b));
  second.add("x", {10}, in(a));
  CHECK(first.to_bytes() == second.to_bytes());
  const golden::scratch_folder folder;
  first.write(folder / "f.safetensors");
  CHECK(read_file(folder / "f.safetensors") == first.to_bytes());
  CHECK(std::filesystem::file_size(folder / "f.safetensors") % 8 == 0);
}

TEST_CASE("the content hash follows names, types, shapes and numbers, not layout or metadata") {
  const auto hash = [](const std::string& name, dtype type, std::vector<std::size_t> shape,
                       float first, const std::string& note) {
    auto numbers = ramp(6);
    numbers[0] = first;
    safetensors_writer w;
    if (!note.empty()) w.metadata["note"] = note;
    w.add_owned(name, type, std::move(shape), numbers);
    return safetensors_file::parse(w.to_bytes()).content_hash();
  };
  const std::string base = hash("w", dtype::f32, {2, 3}, 1.0f, "");
  CHECK(base.size() == 64);
  CHECK(hash("w", dtype::f32, {2, 3}, 1.0f, "other") == base);
  CHECK(hash("v", dtype::f32, {2, 3}, 1.0f, "") != base);
  CHECK(hash("w", dtype::f32, {3, 2}, 1.0f, "") != base);
  CHECK(hash("w", dtype::f32, {6}, 1.0f, "") != base);
  CHECK(hash("w", dtype::f64, {2, 3}, 1.0f, "") != base);
  CHECK(hash("w", dtype::f32, {2, 3}, std::nextafter(1.0f, 2.0f), "") != base);
}

TEST_CASE("numbers that do not survive the conversion are refused") {
  const float infinity = std::numeric_limits<float>::infinity();
  const auto id = [](auto value, dtype type) {
    return error_id([&] {
      safetensors_writer w;
      w.add_owned("w", type, {1}, std::vector{value});
      (void)w.to_bytes();
    });
  };
  CHECK(id(65504.0f, dtype::f16) == "accepted");
  CHECK(id(65520.0f, dtype::f16) == "io.126");
  CHECK(id(infinity, dtype::f16) == "accepted");
  CHECK(id(std::nanf(""), dtype::f16) == "accepted");
  CHECK(id(std::numeric_limits<float>::max(), dtype::bf16) == "io.126");
  CHECK(id(1e300, dtype::f32) == "io.126");
  CHECK(id(std::int64_t{256}, dtype::u8) == "io.126");
  CHECK(id(std::int64_t{-1}, dtype::u64) == "io.126");
  CHECK(id(std::int64_t{-128}, dtype::i8) == "accepted");
  CHECK(id(1.0f, dtype::i32) == "io.129");
  CHECK(id(std::int64_t{1}, dtype::f32) == "io.129");
  CHECK(id(std::int64_t{1}, dtype::boolean) == "io.129");
  CHECK(id(1.0f, dtype::f8_e4m3) == "io.129");
}

TEST_CASE("reading refuses wrong types, wrong sizes and wrong shapes") {
  safetensors_writer w;
  w.add_owned("i", {2}, std::vector<std::int64_t>{1, 300});
  w.add_owned("f", {2, 2}, ramp(4));
  w.add_owned("n", dtype::f16, {3}, std::vector<float>{0.0f, 1.0f, std::nanf("")});
  const auto f = safetensors_file::parse(w.to_bytes());
  CHECK(error_id([&] { f.read_vector<std::uint8_t>("i"); }) == "io.126");
  CHECK(error_id([&] { f.read_vector<float>("i"); }) == "io.125");
  CHECK(error_id([&] { f.read_vector<int>("f"); }) == "io.125");
  std::vector<float> five(5);
  CHECK(error_id([&] { f.read("f", std::span<float>(five)); }) == "io.128");
  CHECK(error_id([&] { f.require("f", {2, 3}); }) == "io.124");
  CHECK(error_id([&] { f.require("f", {4}); }) == "io.124");
  CHECK(error_id([&] { f.require("f", {any_extent, 2}); }) == "accepted");
  CHECK(std::isnan(f.read_vector<float>("n")[2]));
  CHECK(error_id([&] { f.check_finite(); }) == "io.127");
  CHECK(error_text([&] { f.check_finite(); }).find("tensor \"n\", entry 2") != std::string::npos);
}

TEST_CASE("tensors that the format forbids cannot be added") {
  safetensors_writer w;
  const auto data = ramp(4);
  const auto id = [&](std::string name, std::vector<std::size_t> shape) {
    return error_id([&] { w.add(std::move(name), std::move(shape), in(data)); });
  };
  CHECK(id("a", {4}) == "accepted");
  CHECK(id("a", {4}) == "io.129");
  CHECK(id("__metadata__", {4}) == "io.129");
  CHECK(id(std::string("n\0n", 3), {4}) == "io.129");
  CHECK(id("\xff", {4}) == "io.129");
  CHECK(id(std::string(1025, 'x'), {4}) == "io.129");
  CHECK(id("b", {5}) == "io.129");
  CHECK(id("c", {std::size_t{1} << 62, 16}) == "io.129");
  CHECK(id("d", {1, 1, 1, 1, 1, 1, 1, 1, 4}) == "io.129");
  CHECK(id("e", {2, 2}) == "accepted");
  CHECK(w.size() == 2);
  w.metadata["bad"] = "\xc0\xaf";
  CHECK(error_id([&] { (void)w.to_bytes(); }) == "io.105");
}

TEST_CASE("every reference file written again keeps its content hash") {
  for (const auto& path : golden::files("esm2_synthetic", ".model.safetensors")) {
    const auto original = safetensors_file::open(path);
    safetensors_writer w;
    for (const auto& t : original.tensors()) {
      if (t.type == dtype::f32) {
        w.add_owned(t.name, t.type, t.shape, original.read_vector<float>(t));
      } else if (t.type == dtype::i64) {
        w.add_owned(t.name, t.type, t.shape, original.read_vector<std::int64_t>(t));
      } else {
        w.add_owned(t.name, t.type, t.shape, original.read_vector<float>(t));
      }
    }
    CAPTURE(path.string());
    CHECK(safetensors_file::parse(w.to_bytes()).content_hash() == original.content_hash());
  }
}
