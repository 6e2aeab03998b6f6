// SPDX-License-Identifier: MIT
// Products in bfloat16 and int8 against sums in double of the rounded operands.
#include <tests/golden.hpp>
#include <tests/thrown.hpp>

#include <plmscope/backend/bfloat16.hpp>
#include <plmscope/backend/cpu.hpp>
#include <plmscope/core/rng.hpp>
#include <plmscope/tensor/matrix.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

namespace {

using plmscope::epilogue;
using backend = plmscope::cpu;
using table = plmscope::matrix<float, backend>;

using plmscope::product_precision;

/// Calls f for every short precision that this processor has.
template <class F>
void for_each_precision(const F& f) {
  for (const auto p : {product_precision::bf16, product_precision::int8}) {
    if (!backend::computes(p)) {
      golden::skip("this processor has no products in " + std::string(to_string(p)));
      continue;
    }
    INFO("precision ", std::string(to_string(p)));
    f(p);
  }
}

/// Row r of x as the product sees it.
std::vector<double> rounded(product_precision p, const table& x, std::size_t r) {
  const std::size_t k = x.cols();
  std::vector<double> out(k);
  float largest = 0;
  for (std::size_t c = 0; c < k; ++c) largest = std::max(largest, std::abs(x(r, c)));
  const float scale = largest / 127;
  for (std::size_t c = 0; c < k; ++c) {
    if (p == product_precision::int8) {
      const float whole = scale > 0 ? std::nearbyint(x(r, c) * (1 / scale)) : 0.0f;
      out[c] = static_cast<double>(whole) * static_cast<double>(scale);
      continue;
    }
    std::uint16_t half;
    plmscope::to_bfloat16(x.data() + r * k + c, &half, 1);
    const std::uint32_t bits = static_cast<std::uint32_t>(half) << 16;
    float v;
    std::memcpy(&v, &bits, sizeof v);
    out[c] = static_cast<double>(v);
  }
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
  result(product_precision p, backend be, const table& x, const table& w, const table& bias,
         epilogue then) {
    auto short_be = be.with(p);
    const auto packed = short_be.pack(w.all());
    out = random(be, x.rows(), w.rows(), 5);  // what `add` adds to
    short_be.linear(x.all(), packed, bias.all(), out.all(), then);
  }
};

}  // namespace

TEST_CASE("short products are those of the rounded operands, for any numbers of rows and columns") {
  for_each_precision([](product_precision p) {
    backend be(2);
    double worst = 0;
    for (const std::size_t m : {1u, 2u, 5u, 6u, 7u, 13u, 600u}) {
      for (const std::size_t n : {1u, 33u, 64u, 65u, 130u}) {
        for (const std::size_t k : {0u, 1u, 2u, 31u, 32u, 127u, 130u}) {
          const auto x = random(be, m, k, m);
          const auto w = random(be, n, k, n + 1000);
          const auto bias = random(be, 1, n, k + 2000);
          const auto old = random(be, m, n, 5);
          const result plain(p, be, x, w, bias, epilogue::none);
          const result added(p, be, x, w, bias, epilogue::add);
          const result curved(p, be, x, w, bias, epilogue::gelu);
          const result bare(p, be, x, w, table(be, 1, 0), epilogue::none);
          for (std::size_t i = 0; i < m; i += (m > 20 ? 37 : 1)) {
            const auto row = rounded(p, x, i);
            for (std::size_t j = 0; j < n; ++j) {
              const auto column = rounded(p, w, j);
              double sum = 0;
              double size = 5;
              for (std::size_t c = 0; c < k; ++c) {
                sum += row[c] * column[c];
                size += std::abs(row[c] * column[c]);
              }
              const double y = sum + static_cast<double>(bias(0, j));
              const auto off = [&](const table& got, double want) {
                worst =
                    golden::worse(worst, std::abs(static_cast<double>(got(i, j)) - want) / size);
              };
              off(plain.out, y);
              off(added.out, y + static_cast<double>(old(i, j)));
              off(curved.out, y * std::erfc(-y / std::sqrt(2.0)) / 2);
              off(bare.out, sum);
            }
          }
        }
      }
    }
    CHECK(worst < 1e-6);
    golden::report(std::string(to_string(p)) + " products, relative to the sum of sizes", worst,
                   1e-6);
  });
}

TEST_CASE("gemm in bf16 is the product of the rounded operands, transposed or not") {
  if (!backend::computes(product_precision::bf16)) {
    golden::skip("this processor has no products in bf16");
    return;
  }
  const auto flip = [](backend& be, const table& x) {
    table out(be, x.cols(), x.rows());
    for (std::size_t i = 0; i < x.size(); ++i) out(i % x.cols(), i / x.cols()) = x.data()[i];
    return out;
  };
  double worst = 0;
  for (const std::size_t m : {1u, 5u, 16u, 45u, 530u}) {
    for (const std::size_t n : {1u, 64u, 131u}) {
      for (const std::size_t k : {0u, 1u, 2u, 31u, 64u, 97u}) {
        backend be(3);
        const auto a = random(be, m, k, m);
        const auto b = random(be, n, k, n + 1000);
        const auto at = flip(be, a);
        const auto bt = flip(be, b);
        const auto old = random(be, m, n, 5);
        for (const float beta : {0.0f, 1.0f, -1.0f, 0.5f}) {
          table nt = random(be, m, n, 5), nn = random(be, m, n, 5), tn = random(be, m, n, 5);
          be.gemm_nt(a.all(), b.all(), nt.all(), beta, product_precision::bf16);
          be.gemm_nn(a.all(), bt.all(), nn.all(), beta, product_precision::bf16);
          be.gemm_tn(at.all(), bt.all(), tn.all(), beta, product_precision::bf16);
          CHECK(std::memcmp(nt.data(), nn.data(), m * n * sizeof(float)) == 0);
          CHECK(std::memcmp(nt.data(), tn.data(), m * n * sizeof(float)) == 0);
          for (std::size_t i = 0; i < m; i += (m > 50 ? 37 : 1)) {
            const auto row = rounded(product_precision::bf16, a, i);
            for (std::size_t j = 0; j < n; ++j) {
              const auto column = rounded(product_precision::bf16, b, j);
              double sum = static_cast<double>(beta) * static_cast<double>(old(i, j));
              double size = 1 + std::abs(sum);
              for (std::size_t c = 0; c < k; ++c) {
                sum += row[c] * column[c];
                size += std::abs(row[c] * column[c]);
              }
              worst = golden::worse(worst, std::abs(static_cast<double>(nt(i, j)) - sum) / size);
            }
          }
          table plain = random(be, m, n, 5), same = random(be, m, n, 5);
          be.gemm_nn(a.all(), bt.all(), plain.all(), beta);
          be.gemm_nn(a.all(), bt.all(), same.all(), beta, product_precision::fp32);
          CHECK(std::memcmp(plain.data(), same.data(), m * n * sizeof(float)) == 0);
        }
      }
    }
  }
  CHECK(worst < 1e-6);
  backend be;
  const auto x = random(be, 4, 4, 1);
  table out(be, 4, 4);
  CHECK(id_thrown([&] { be.gemm_nn(x.all(), x.all(), out.all(), 0, product_precision::int8); }) ==
        "backend.106");
  using twice = plmscope::basic_cpu<double, plmscope::eigen_gemm>;
  twice precise;
  plmscope::matrix<double, twice> d(precise, 4, 4);
  CHECK(id_thrown([&] {
          precise.gemm_nn(d.all(), d.all(), d.all(), 0, product_precision::bf16);
        }) == "backend.106");
}

TEST_CASE("bits of a row of a short product do not depend on rows beside it, threads or epilogue") {
  for_each_precision([](product_precision p) {
    backend one(1);
    const auto x = random(one, 700, 90, 1);
    const auto w = random(one, 200, 90, 2);
    const auto bias = random(one, 1, 200, 3);
    const result all(p, one, x, w, bias, epilogue::none);
    for (const std::size_t threads : {2u, 3u, 7u}) {
      const result again(p, backend(threads), x, w, bias, epilogue::none);
      CHECK(std::memcmp(again.out.data(), all.out.data(), 700 * 200 * sizeof(float)) == 0);
    }
    for (const std::size_t r : {0u, 5u, 699u}) {
      table alone(one, 1, 90);
      for (std::size_t c = 0; c < 90; ++c) alone(0, c) = x(r, c);
      const result single(p, one, alone, w, bias, epilogue::none);
      CHECK(std::memcmp(single.out.data(), all.out.data() + r * 200, 200 * sizeof(float)) == 0);
    }
    const result added(p, one, x, w, bias, epilogue::add);
    const auto old = random(one, 700, 200, 5);
    for (std::size_t i = 0; i < 700 * 200; ++i) {
      CHECK(added.out.data()[i] == old.data()[i] + all.out.data()[i]);
    }
  });
}

TEST_CASE("short weights come back as they were rounded; nothing is lost at odd sizes") {
  for_each_precision([](product_precision p) {
    auto be = backend(2).with(p);
    for (const std::size_t n : {1u, 63u, 64u, 129u}) {
      for (const std::size_t k : {1u, 2u, 33u, 257u}) {
        const auto w = random(be, n, k, n * 1000 + k);
        const auto packed = be.pack(w.all());
        CHECK(packed.rows() == n);
        CHECK(packed.cols() == k);
        table back(be, n, k);
        be.unpack(packed, back.all());
        for (std::size_t r = 0; r < n; ++r) {
          const auto want = rounded(p, w, r);
          for (std::size_t c = 0; c < k; ++c) {
            CHECK(back(r, c) == doctest::Approx(want[c]).epsilon(1e-6));
          }
        }
      }
    }
  });
}

TEST_CASE("what is not finite in a row or in a weight stays in its row and column") {
  constexpr float infinity = std::numeric_limits<float>::infinity();
  for_each_precision([](product_precision p) {
    for (const float bad : {std::numeric_limits<float>::quiet_NaN(), infinity, -infinity}) {
      backend be(2);
      auto x = random(be, 14, 40, 1);
      auto w = random(be, 70, 40, 2);
      x(3, 39) = bad;
      w(66, 0) = bad;
      const result got(p, be, x, w, table(be, 1, 0), epilogue::none);
      for (std::size_t i = 0; i < 14; ++i) {
        for (std::size_t j = 0; j < 70; ++j) {
          CHECK(std::isfinite(got.out(i, j)) == !(i == 3 || j == 66));
        }
      }
    }
  });
}

TEST_CASE("rows of zeros, of the smallest and of the largest numbers survive 8 bits") {
  if (!backend::computes(product_precision::int8)) {
    golden::skip("this processor has no AVX512-VNNI");
    return;
  }
  backend be(2);
  auto x = random(be, 4, 40, 1);
  const auto w = random(be, 70, 40, 2);
  const float sizes[] = {0.0f, std::numeric_limits<float>::denorm_min(), 1e-34f, 1e36f};
  for (std::size_t r = 0; r < 4; ++r) {
    for (std::size_t c = 0; c < 40; ++c) x(r, c) = c % 3 == 0 ? sizes[r] : -sizes[r];
  }
  const result got(product_precision::int8, be, x, w, table(be, 1, 0), epilogue::none);
  for (std::size_t r = 0; r < 4; ++r) {
    for (std::size_t j = 0; j < 70; ++j) {
      const auto column = rounded(product_precision::int8, w, j);
      double want = 0;
      for (std::size_t c = 0; c < 40; ++c) want += static_cast<double>(x(r, c)) * column[c];
      CHECK(std::abs(static_cast<double>(got.out(r, j)) - want) <=
            1e-4 * static_cast<double>(sizes[r]) + 1e-37);
    }
  }
  table wide(be, 1, plmscope::int8_weights::longest + 1);
  CHECK_THROWS_WITH_AS(be.with(product_precision::int8).pack(wide.all()),
                       doctest::Contains("backend.106"), plmscope::error);
}
