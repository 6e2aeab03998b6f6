// SPDX-License-Identifier: MIT
// What teams of 32 threads do together, and no others: products of tiles of bfloat16, exchanges.
#include <tests/backend/compare.hpp>
#include <tests/backend/thread_orders.hpp>

#include <plmscope/backend/device/tiles.hpp>

#include <doctest/doctest.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

// At namespace scope, so that nvcc can make kernels of them.
namespace tiles_test {

enum class way { of_the_device, by_exchange };

/// Every block multiplies the same tiles, a [16, 16] b [16, 8] + c [16, 8], by its first team.
/// Entry a_i of a lane is where the PTX ISA has it ("Matrix fragments for mma.m16n8k16").
struct tile_product {
  static constexpr unsigned threads = 64;
  const float* a;
  const float* b;
  float* c;
  way how;

  template <class Group>
  PLMSCOPE_HD void operator()(Group& g) const {
    namespace kernels = plmscope::device_kernels;
    if (g.team() > 0) return;
    const unsigned group = g.lane() >> 2;
    const unsigned in_group = g.lane() % 4;
    float of_a[8];
    for (unsigned i = 0; i < 8; ++i) {
      const unsigned row = i < 2 || (i >= 4 && i < 6) ? group : group + 8;
      const unsigned col = in_group * 2 + (i & 1) + (i >= 4 ? 8 : 0);
      of_a[i] = a[row * 16 + col];
    }
    float of_b[4];
    for (unsigned i = 0; i < 4; ++i) {
      const unsigned row = in_group * 2 + (i & 1) + (i >= 2 ? 8 : 0);
      of_b[i] = b[row * 8 + group];
    }
    std::uint32_t left[4];
    std::uint32_t right[2];
    for (unsigned i = 0; i < 4; ++i) left[i] = kernels::bf16_pair(of_a[2 * i], of_a[2 * i + 1]);
    for (unsigned i = 0; i < 2; ++i) right[i] = kernels::bf16_pair(of_b[2 * i], of_b[2 * i + 1]);
    float sum[4];
    const auto place = [&](unsigned i) {
      return ((i < 2 ? group : group + 8) * 8) + in_group * 2 + (i & 1);
    };
    for (unsigned i = 0; i < 4; ++i) sum[i] = c[place(i)];
    if (how == way::of_the_device) {
      g.team_product(left, right, sum);
    } else {
      kernels::product_by_exchange(g, left, right, sum);
    }
    for (unsigned i = 0; i < 4; ++i) c[place(i)] = sum[i];
  }
};

/// out[lane, from] is what a lane gets of lane `from`, in the last team of a block.
struct exchange {
  static constexpr unsigned threads = 64;
  float* out;

  template <class Group>
  PLMSCOPE_HD void operator()(Group& g) const {
    for (unsigned from = 0; from < 32; ++from) {
      const float got = g.team_from(static_cast<float>(g.rank()), from);
      const float across = g.team_from(static_cast<float>(g.rank()), g.lane() ^ from);
      if (g.team() + 1 < g.teams()) continue;
      out[g.lane() * 64 + from] = got;
      out[g.lane() * 64 + 32 + from] = across;
    }
  }
};

}  // namespace tiles_test

namespace {

using namespace compare;
using namespace tiles_test;
using device = devices::with_tiles;

TEST_CASE("a product of tiles is what the fragments' layout says, by both ways") {
  device be;
  const auto small = [](std::uint64_t stream) {
    return [=](std::size_t i) { return std::round(100 * number(stream, i)); };
  };
  const auto a = matrix_of<float>(be, 16, 16, small(1));
  const auto b = matrix_of<float>(be, 16, 8, small(2));
  const auto c = matrix_of<float>(be, 16, 8, small(3));
  const std::vector<float> left = to_host(be, a);
  const std::vector<float> right = to_host(be, b);
  std::vector<float> want = to_host(be, c);
  for (std::size_t i = 0; i < 16; ++i) {
    for (std::size_t j = 0; j < 8; ++j) {
      for (std::size_t k = 0; k < 16; ++k) want[i * 8 + j] += left[i * 16 + k] * right[k * 8 + j];
    }
  }
  for (const way how : {way::of_the_device, way::by_exchange}) {
    devices::in_every_order(be, [&] {
      matrix<float, device> got(be, 16, 8);
      be.copy(const_view<device>(c), got.all());
      be.launch(1, 0, tile_product{a.data(), b.data(), got.data(), how});
      CHECK(to_host(be, got) == want);  // sums of integers are exact in any order
    });
  }
}

TEST_CASE("a lane gets the value of any lane of its own team") {
  device be;
  devices::in_every_order(be, [&] {
    matrix<float, device> out(be, 32, 64);
    be.launch(1, 0, exchange{out.data()});
    const std::vector<float> got = to_host(be, out);
    std::size_t wrong = 0;
    for (std::size_t lane = 0; lane < 32; ++lane) {
      for (std::size_t from = 0; from < 32; ++from) {
        wrong += got[lane * 64 + from] == static_cast<float>(32 + from) ? 0u : 1u;
        wrong += got[lane * 64 + 32 + from] == static_cast<float>(32 + (lane ^ from)) ? 0u : 1u;
      }
    }
    CHECK(wrong == 0);
  });
}

float rounded(float v) {
  return plmscope::device_kernels::first_of(plmscope::device_kernels::bf16_pair(v, 0));
}

TEST_CASE("bf16_pair: the first in the lower half, ties to even, NaN and infinity stay") {
  using namespace plmscope::device_kernels;
  CHECK(bf16_pair(1.0f, -2.0f) == 0xc0003f80u);
  CHECK(first_of(0xc0003f80u) == 1.0f);
  CHECK(second_of(0xc0003f80u) == -2.0f);
  CHECK(rounded(1.0f + 0x1p-8f) == 1.0f);
  CHECK(rounded(1.0f + 0x3p-8f) == 1.0f + 0x1p-6f);
  CHECK(rounded(1.0f + 0x1p-8f + 0x1p-20f) == 1.0f + 0x1p-7f);
  constexpr float infinity = std::numeric_limits<float>::infinity();
  CHECK(rounded(-infinity) == -infinity);
  CHECK(rounded(std::numeric_limits<float>::max()) == infinity);
  CHECK(std::isnan(rounded(std::numeric_limits<float>::quiet_NaN())));
}

// Attention of a device is the same in bfloat16 and without it.
template <class B>
bool keeps_its_precision(B be) {
  const auto numbers = [&](std::uint64_t stream) {
    return matrix_of<typename B::real>(be, 40, 24,
                                       [=](std::size_t i) { return number(stream, i); });
  };
  const auto run = [&](plmscope::product_precision p) {
    matrix<typename B::real, B> out(be, 40, 24);
    be.with(p).attention(numbers(1), numbers(2), numbers(3), 12,
                         vector_of(be, std::vector<std::int64_t>{0, 40}), 40, out);
    return bytes(be, out);
  };
  using plmscope::product_precision;
  return run(product_precision::bf16) == run(product_precision::fp32);
}

TEST_CASE("attention in bfloat16: not of doubles, not in teams of another width") {
  CHECK(keeps_its_precision(devices::twice()));
  CHECK_FALSE(keeps_its_precision(device()));
#if !defined(__CUDACC__)
  CHECK(keeps_its_precision(devices::single()));
#endif
}

}  // namespace
