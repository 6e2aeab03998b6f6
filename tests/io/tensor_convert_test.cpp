// SPDX-License-Identifier: MIT
#include <plmscope/io/tensor_convert.hpp>

#include "tests/io/error_id.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

using namespace plmscope;

namespace {

template <class To, class From>
std::string convert(From value, To* out = nullptr) {
  To result{};
  const std::string id = error_id([&] {
    tensor_convert::read(dtype_of<From>(), std::as_bytes(std::span(&value, 1)),
                         std::span<To>(&result, 1), [] { return std::string("w"); });
  });
  if (out != nullptr) *out = result;
  return id;
}

}  // namespace

TEST_CASE("the table of dtypes follows the enumeration") {
  for (std::size_t i = 0; i < dtype_table.size(); ++i) {
    CHECK(static_cast<std::size_t>(dtype_table[i].type) == i);
  }
  CHECK(dtype_name(dtype::bf16) == "BF16");
  CHECK(dtype_bits(dtype::f6_e2m3) == 6);
  CHECK(dtype_of<std::int64_t>() == dtype::i64);
  CHECK(dtype_of<std::uint8_t>() == dtype::u8);
}

TEST_CASE("integers convert when they fit") {
  CHECK(convert<std::int8_t>(std::int64_t{127}) == "accepted");
  CHECK(convert<std::int8_t>(std::int64_t{128}) == "io.126");
  CHECK(convert<std::uint64_t>(std::int8_t{-1}) == "io.126");
  CHECK(convert<std::int64_t>(std::numeric_limits<std::uint64_t>::max()) == "io.126");
  CHECK(convert<std::int64_t>(std::numeric_limits<std::int64_t>::min()) == "accepted");
}

TEST_CASE("floating point converts within its range, and never to or from integers") {
  CHECK(convert<float>(1e39) == "io.126");
  CHECK(convert<float>(std::numeric_limits<double>::infinity()) == "accepted");
  CHECK(convert<float>(std::nan("")) == "accepted");
  CHECK(convert<float>(1e-320) == "accepted");
  CHECK(convert<float16>(-7e4f) == "io.126");
  CHECK(convert<float16>(-6e4f) == "accepted");
  CHECK(convert<bfloat16>(1e300) == "io.126");
  CHECK(convert<int>(1.0f) == "io.125");
  CHECK(convert<float>(1) == "io.125");
  CHECK(convert<int>(float16{}) == "io.125");
  double out = 0.0;
  CHECK(convert<double>(float16{0x3c01}, &out) == "accepted");
  CHECK(out == 1.0 + 1.0 / 1024);
}

TEST_CASE("data at any alignment and length convert alike") {
  for (const std::size_t n : {0u, 1u, 4095u, 4096u, 4097u, 10'000u}) {
    for (std::size_t shift = 0; shift < 4; ++shift) {
      std::vector<std::byte> bytes(shift + 2 * n);
      std::vector<float> want(n);
      for (std::size_t i = 0; i < n; ++i) {
        const float16 h{static_cast<std::uint16_t>(i * 7)};
        std::memcpy(bytes.data() + shift + 2 * i, &h, 2);
        want[i] = to_float(h);
      }
      std::vector<float> out(n);
      tensor_convert::read(dtype::f16, std::span<const std::byte>(bytes).subspan(shift),
                           std::span(out), [] { return std::string("w"); });
      std::size_t wrong = 0;
      for (std::size_t i = 0; i < n; ++i)
        wrong += std::isnan(want[i]) ? !std::isnan(out[i]) : out[i] != want[i];
      CHECK(wrong == 0);
    }
  }
}

TEST_CASE("the message names the entry and the number") {
  const std::vector<std::int64_t> in = {1, 2, 300};
  std::vector<std::uint8_t> out(3);
  const std::string text = error_text([&] {
    tensor_convert::read(dtype::i64, std::as_bytes(std::span(in)), std::span(out),
                         [] { return std::string("w"); });
  });
  CHECK(text.find("w, entry 2") != std::string::npos);
  CHECK(text.find("300") != std::string::npos);
}

TEST_CASE("NaN and infinity are found in every floating-point type") {
  const auto first = []<class T>(std::vector<T> v) {
    return tensor_convert::first_not_finite(dtype_of<T>(), std::as_bytes(std::span(v)));
  };
  const float inf = std::numeric_limits<float>::infinity();
  CHECK(first(std::vector<float>{0, 1, -inf}) == 2u);
  CHECK(first(std::vector<double>{std::nan(""), 1}) == 0u);
  CHECK(first(std::vector<float16>{{0x7bff}, {0x7c00}}) == 1u);
  CHECK(first(std::vector<bfloat16>{{0x7f7f}, {0xffff}}) == 1u);
  CHECK_FALSE(first(std::vector<float>{std::numeric_limits<float>::max(), 0}).has_value());
  CHECK_FALSE(first(std::vector<std::int32_t>{-1}).has_value());
}
