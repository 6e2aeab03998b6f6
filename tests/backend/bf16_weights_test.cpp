// SPDX-License-Identifier: MIT
// Products in bfloat16 against sums in double of the rounded operands.
#include <tests/golden.hpp>

#include <plmscope/backend/cpu.hpp>
#include <plmscope/backend/cpu/bf16_weights.hpp>
#include <plmscope/core/rng.hpp>
#include <plmscope/tensor/matrix.hpp>

#include <doctest/doctest.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

namespace {

using plmscope::epilogue;
using backend = plmscope::cpu;
using table = plmscope::matrix<float, backend>;

bool supported() {
  if (plmscope::bf16_weights::available()) return true;
  golden::skip("this processor has no AVX512-BF16");
  return false;
}

float rounded(float v) {
  std::uint16_t half;
  plmscope::to_bfloat16(&v, &half, 1);
  const std::uint32_t bits = static_cast<std::uint32_t>(half) << 16;
  float out;
  std::memcpy(&out, &bits, sizeof out);
  return out;
}

table random(backend& be, std::size_t rows, std::size_t cols, std::uint64_t seed) {
  const plmscope::rng numbers(seed, 7);
  table out(be, rows, cols);
  for (std::size_t i = 0; i < rows * cols; ++i) {
    out(i / cols, i % cols) = static_cast<float>(numbers.normal(i));
  }
  return out;
}

struct result {
  table out;
  result(backend be, const table& x, const table& w, const table& bias, epilogue then) {
    auto short_be = be.with(plmscope::product_precision::bf16);
    const auto packed = short_be.pack(w.all());
    out = random(be, x.rows(), w.rows(), 5);  // what `add` adds to
    short_be.linear(x.all(), packed, bias.all(), out.all(), then);
  }
};

}  // namespace

TEST_CASE("bf16 products are those of the rounded operands, for any numbers of rows and columns") {
  if (!supported()) return;
  backend be(2);
  double worst = 0;
  for (const std::size_t m : {1u, 2u, 5u, 6u, 7u, 13u, 600u}) {
    for (const std::size_t n : {1u, 33u, 64u, 65u, 130u}) {
      for (const std::size_t k : {1u, 2u, 31u, 32u, 127u, 130u}) {
        const auto x = random(be, m, k, m);
        const auto w = random(be, n, k, n + 1000);
        const auto bias = random(be, 1, n, k + 2000);
        const auto old = random(be, m, n, 5);
        const result plain(be, x, w, bias, epilogue::none);
        const result added(be, x, w, bias, epilogue::add);
        const result curved(be, x, w, bias, epilogue::gelu);
        const result bare(be, x, w, table(be, 1, 0), epilogue::none);
        for (std::size_t i = 0; i < m; i += (m > 20 ? 37 : 1)) {
          for (std::size_t j = 0; j < n; ++j) {
            double sum = 0;
            double size = 1;
            for (std::size_t c = 0; c < k; ++c) {
              const double term =
                  static_cast<double>(rounded(x(i, c))) * static_cast<double>(rounded(w(j, c)));
              sum += term;
              size += std::abs(term);
            }
            const double b = static_cast<double>(bias(0, j));
            const auto off = [&](const table& got, double want) {
              worst = golden::worse(worst,
                                    std::abs(static_cast<double>(got(i, j)) - want) / (size + 4));
            };
            off(plain.out, sum + b);
            off(added.out, sum + b + static_cast<double>(old(i, j)));
            const double y = sum + b;
            off(curved.out, y * std::erfc(-y / std::sqrt(2.0)) / 2);
            off(bare.out, sum);
          }
        }
      }
    }
  }
  CHECK(worst < 1e-6);
  golden::report("bf16 products, relative to the sum of sizes", worst, 1e-6);
}

TEST_CASE("bits of a row of a bf16 product do not depend on rows beside it, threads or epilogue") {
  if (!supported()) return;
  backend one(1);
  const auto x = random(one, 700, 90, 1);
  const auto w = random(one, 200, 90, 2);
  const auto bias = random(one, 1, 200, 3);
  const result all(one, x, w, bias, epilogue::none);
  for (const std::size_t threads : {2u, 3u, 7u}) {
    const result again(backend(threads), x, w, bias, epilogue::none);
    CHECK(std::memcmp(again.out.data(), all.out.data(), 700 * 200 * sizeof(float)) == 0);
  }
  for (const std::size_t r : {0u, 5u, 699u}) {
    table alone(one, 1, 90);
    for (std::size_t c = 0; c < 90; ++c) alone(0, c) = x(r, c);
    const result single(one, alone, w, bias, epilogue::none);
    CHECK(std::memcmp(single.out.data(), all.out.data() + r * 200, 200 * sizeof(float)) == 0);
  }
  const result added(one, x, w, bias, epilogue::add);
  const auto old = random(one, 700, 200, 5);
  for (std::size_t i = 0; i < 700 * 200; ++i) {
    CHECK(added.out.data()[i] == old.data()[i] + all.out.data()[i]);
  }
}

TEST_CASE("rounded weights come back as they were rounded; nothing is lost at odd sizes") {
  backend be(2);
  for (const std::size_t n : {1u, 63u, 64u, 129u}) {
    for (const std::size_t k : {1u, 2u, 33u, 257u}) {
      auto w = random(be, n, k, n * 1000 + k);
      w(0, 0) = std::numeric_limits<float>::infinity();
      if (k > 1) w(n - 1, k - 1) = std::numeric_limits<float>::quiet_NaN();
      const plmscope::bf16_weights packed(be.pool(), w.data(), n, k, k);
      CHECK(packed.rows() == n);
      CHECK(packed.cols() == k);
      std::vector<float> back(n * k);
      packed.unpack(back.data(), k);
      for (std::size_t i = 0; i < n * k; ++i) {
        const float want = rounded(w(i / k, i % k));
        CHECK((back[i] == want || (std::isnan(back[i]) && std::isnan(want))));
      }
    }
  }
}

TEST_CASE("a NaN in a row or in a weight stays in its row and column of a bf16 product") {
  if (!supported()) return;
  backend be(2);
  auto x = random(be, 14, 40, 1);
  auto w = random(be, 70, 40, 2);
  x(3, 39) = std::numeric_limits<float>::quiet_NaN();
  w(66, 0) = std::numeric_limits<float>::quiet_NaN();
  const result got(be, x, w, table(be, 1, 0), epilogue::none);
  for (std::size_t i = 0; i < 14; ++i) {
    for (std::size_t j = 0; j < 70; ++j) CHECK(std::isnan(got.out(i, j)) == (i == 3 || j == 66));
  }
}
