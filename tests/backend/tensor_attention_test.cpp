// SPDX-License-Identifier: MIT
// Attention in bfloat16 by products of tiles, where teams have 32 threads: on the emulated device,
// and by nvcc on a GPU.
#include <tests/backend/compare.hpp>
#include <tests/backend/thread_orders.hpp>

#include <plmscope/backend/device/tiles.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

namespace {

using namespace compare;
using plmscope::product_precision;
using device = devices::with_tiles;

float rounded(float v) {
  return plmscope::device_kernels::first_of(plmscope::device_kernels::bf16_pair(v, 0));
}

// Queries, keys and values of sequences back to back, each with its own frame around it.
struct heads {
  std::size_t count;
  std::size_t width;
  sizes lengths;
  double scale = 1;     // of the queries
  bool strided = true;  // rows that cannot be moved four at a time
  std::uint64_t stream = 1;

  std::size_t rows() const {
    std::size_t n = 0;
    for (const std::size_t l : lengths) n += l;
    return n;
  }
  std::size_t cols() const { return count * width; }
  std::size_t longest() const { return *std::max_element(lengths.begin(), lengths.end()); }
  std::vector<std::int64_t> offsets() const {
    std::vector<std::int64_t> out{0};
    for (const std::size_t n : lengths) {
      out.push_back(out.back() + static_cast<std::int64_t>(n));
    }
    return out;
  }
  // q, k or v: 0, 1, 2.
  std::vector<float> numbers(std::size_t which) const {
    std::vector<float> out(rows() * cols());
    for (std::size_t i = 0; i < out.size(); ++i) {
      const double v = 2 * number(stream * 3 + which, i);
      out[i] = static_cast<float>(which == 0 ? scale * v : v);
    }
    return out;
  }
};

std::vector<float> attend(device be, const heads& h, const std::vector<float>& q,
                          const std::vector<float>& k, const std::vector<float>& v) {
  be = be.with(product_precision::bf16);
  framed<device> fq(be, h.rows(), h.cols(), h.strided);
  framed<device> fk(be, h.rows(), h.cols(), h.strided);
  framed<device> fv(be, h.rows(), h.cols(), h.strided);
  framed<device> out(be, h.rows(), h.cols(), h.strided);
  fq.set(q);
  fk.set(k);
  fv.set(v);
  be.attention(fq.inner(), fk.inner(), fv.inner(), h.width, vector_of(be, h.offsets()), h.longest(),
               out.inner());
  CHECK(out.intact());
  return out.numbers();
}
std::vector<float> attend(device be, const heads& h) {
  return attend(be, h, h.numbers(0), h.numbers(1), h.numbers(2));
}

std::vector<double> attend_exactly(const heads& h, const std::vector<float>& q,
                                   const std::vector<float>& k, const std::vector<float>& v) {
  reference be;
  const auto as = [&](const std::vector<float>& x) {
    return matrix_of<double>(be, h.rows(), h.cols(), [&](std::size_t i) { return x[i]; });
  };
  matrix<double, reference> out(be, h.rows(), h.cols());
  be.attention(as(q), as(k), as(v), h.width, vector_of(be, h.offsets()), h.longest(), out);
  return to_host(be, out);
}

// Holds a result against the softmax in double of the operands as the device rounds them. What is
// left is the rounding of the weights to 8 bits, at most 2^-8 of each term, so of sum p |v|; the
// scores in single precision, which err by some 2^-24 of sum |q k| and so the weights by e to that;
// and sums of weighted values in single precision.
void check(const heads& h, const std::vector<float>& got) {
  std::vector<float> q = h.numbers(0);
  std::vector<float> k = h.numbers(1);
  std::vector<float> v = h.numbers(2);
  for (auto* const x : {&q, &k, &v}) std::ranges::transform(*x, x->begin(), rounded);
  const std::vector<double> want = attend_exactly(h, q, k, v);
  for (float& x : v) x = std::abs(x);
  const std::vector<double> magnitude = attend_exactly(h, q, k, v);
  const double score = 4 * h.scale * static_cast<double>(h.width);  // largest sum |q k|
  const double share = 0x1p-8 + 4 * gamma<float>(h.width + 8) * score + gamma<float>(300);
  std::size_t wrong = 0;
  for (std::size_t i = 0; i < got.size(); ++i) {
    const double apart = std::abs(static_cast<double>(got[i]) - want[i]);
    wrong += apart <= share * magnitude[i] ? 0u : 1u;
  }
  INFO("heads of ", h.width, ", scale ", h.scale, ", rows ", h.rows());
  CHECK(wrong == 0);
}

TEST_CASE("attention in bfloat16: every kind of head, every border of tiles and teams") {
  const device be;
  const sizes borders{1, 2, 7, 8, 9, 15, 16, 17, 0, 31, 32, 33, 47, 48, 63, 64, 65, 80, 129};
  for (const std::size_t width : sizes{1, 5, 12, 16, 20, 24, 32, 40, 64, 72, 128}) {
    for (const bool strided : {false, true}) {
      const heads h{2, width, borders, strided ? 1.0 : 0.1, strided};
      check(h, attend(be, h));
    }
  }
}

TEST_CASE("attention in bfloat16: every length up to 200") {
  const device be;
  sizes lengths;
  for (std::size_t n = 1; n <= 200; ++n) lengths.push_back(n * 59 % 201);
  const heads h{1, 8, lengths};
  check(h, attend(be, h));
}

TEST_CASE("attention in bfloat16: how far from single precision") {
  // q, k and v each err by at most 2^-8 of themselves: a score by 2^-7 sum |q k|, were all of them
  // on the same side. They are not, so that what is stated is the sum of squares.
  const device be;
  for (const std::size_t width : sizes{16, 64, 128}) {
    // Scores of deviation 1.
    const heads h{2, width, {150, 33}, 0.75 / std::sqrt(static_cast<double>(width))};
    const std::vector<float> got = attend(be, h);
    const auto want = attend_exactly(h, h.numbers(0), h.numbers(1), h.numbers(2));
    double error = 0;
    double size = 0;
    for (std::size_t i = 0; i < got.size(); ++i) {
      error += std::pow(static_cast<double>(got[i]) - want[i], 2);
      size += want[i] * want[i];
    }
    const double apart = std::sqrt(error / size);
    MESSAGE("heads of ", width, ": relative L2 ", apart);
    CHECK(apart < 1e-2);
    CHECK(apart > 1e-4);  // it was bfloat16
  }
}

TEST_CASE("attention in bfloat16: the same bits alone, in a pack, and in every order of threads") {
  device be;
  const heads h{3, 24, {70, 1, 0, 200, 16, 5}, 1, false};
  const auto whole = attend(be, h);
  devices::in_every_order(be, [&] { CHECK(attend(be, h) == whole); });
  std::size_t first = 0;
  for (const std::size_t n : h.lengths) {
    if (n > 0) {
      const heads alone{h.count, h.width, {n}, h.scale, true};
      const auto slice = [&](const std::vector<float>& x) {
        return std::vector<float>(x.begin() + static_cast<std::ptrdiff_t>(first * h.cols()),
                                  x.begin() + static_cast<std::ptrdiff_t>((first + n) * h.cols()));
      };
      INFO("sequence of ", n);
      CHECK(attend(be, alone, slice(h.numbers(0)), slice(h.numbers(1)), slice(h.numbers(2))) ==
            slice(whole));
    }
    first += n;
  }
}

TEST_CASE("attention in bfloat16: what stands beside a head does not matter") {
  device be = device().with(product_precision::bf16);
  constexpr float nan = std::numeric_limits<float>::quiet_NaN();
  for (const std::size_t width : sizes{1, 5, 20, 24}) {
    const heads h{3, width, {70, 3}};
    const auto clean = attend(be, h);
    // The middle head full of NaN, which no padding may pick up.
    const std::vector<float> plain[3] = {h.numbers(0), h.numbers(1), h.numbers(2)};
    std::vector<float> x[3] = {plain[0], plain[1], plain[2]};
    const auto in_middle = [&](std::size_t i) { return i % h.cols() / width == 1; };
    for (auto& numbers : x) {
      for (std::size_t i = 0; i < numbers.size(); ++i) {
        if (in_middle(i)) numbers[i] = nan;
      }
    }
    const auto got = attend(be, h, x[0], x[1], x[2]);
    std::size_t wrong = 0;
    for (std::size_t i = 0; i < got.size(); ++i) {
      wrong += in_middle(i) ? !std::isnan(got[i]) : got[i] != clean[i];
    }
    CHECK(wrong == 0);
    // Thirds of one matrix, as in the model, whose rows begin anywhere: the same bits.
    for (const std::size_t gap : {0u, 1u, 4u}) {
      const std::size_t stride = 3 * h.cols() + gap;
      const auto all = matrix_of<float>(be, h.rows(), stride, [&](std::size_t i) {
        const std::size_t col = i % stride;
        return col < 3 * h.cols() ? plain[col / h.cols()][i / stride * h.cols() + col % h.cols()]
                                  : nan;
      });
      const const_view<device> qkv = all;
      matrix<float, device> out(be, h.rows(), h.cols());
      be.attention(qkv.col_range(0, h.cols()), qkv.col_range(h.cols(), h.cols()),
                   qkv.col_range(2 * h.cols(), h.cols()), width, vector_of(be, h.offsets()),
                   h.longest(), out);
      CHECK(to_host(be, out) == clean);
    }
  }
}

// Equal as numbers are, and where one is NaN, both are.
bool alike(const std::vector<float>& a, const std::vector<float>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](float x, float y) {
    return x == y || (std::isnan(x) && std::isnan(y)) || std::abs(x - y) <= 0x1p-7f * std::abs(y);
  });
}

TEST_CASE("attention in bfloat16: NaN, infinite and huge numbers as in single precision") {
  const device be;
  constexpr float infinity = std::numeric_limits<float>::infinity();
  const heads h{1, 16, {70, 20}};
  const auto single = [&](const std::vector<float>& q, const std::vector<float>& k,
                          const std::vector<float>& v) {
    device exact = be;
    matrix<float, device> out(exact, h.rows(), h.cols());
    const auto as = [&](const std::vector<float>& x) {
      return matrix_of<float>(exact, h.rows(), h.cols(), [&](std::size_t i) { return x[i]; });
    };
    exact.attention(as(q), as(k), as(v), h.width, vector_of(exact, h.offsets()), h.longest(), out);
    return to_host(exact, out);
  };
  // One column of q and k decides the scores, and values are whole numbers.
  const auto column = [&](std::size_t col, auto f) {
    std::vector<float> x(h.rows() * h.cols(), 0.0f);
    for (std::size_t r = 0; r < h.rows(); ++r) x[r * h.cols() + col] = f(r);
    return x;
  };
  const auto ones = column(0, [](std::size_t) { return 1.0f; });
  std::vector<float> v(h.rows() * h.cols());
  for (std::size_t i = 0; i < v.size(); ++i) v[i] = static_cast<float>(1 + i % 7);
  const float values[] = {std::numeric_limits<float>::quiet_NaN(),
                          infinity,
                          -infinity,
                          3e38f,
                          -3e38f,
                          1e30f,
                          -1e30f,
                          1e9f,
                          2000.0f,
                          -2000.0f,
                          700.0f,
                          -90.0f};
  for (const float value : values) {
    INFO("value ", value);
    // One key, several, all; in the first tile or the second, of the first sequence only.
    for (const std::size_t every : {70u, 67u, 9u, 1u}) {
      INFO("every ", every);
      const auto keys =
          column(0, [&](std::size_t r) { return r < 70 && (r + 1) % every == 0 ? value : 0.5f; });
      const auto got = attend(be, h, ones, keys, v);
      CHECK(alike(got, single(ones, keys, v)));
      const auto clean = attend(be, h, ones, column(0, [](std::size_t) { return 0.5f; }), v);
      CHECK(std::equal(got.begin() + 70 * 16, got.end(), clean.begin() + 70 * 16));
    }
    // One query among others of its team.
    const auto queries = column(0, [&](std::size_t r) { return r == 5 ? value : 1.0f; });
    CHECK(alike(attend(be, h, queries, ones, v), single(queries, ones, v)));
    // A value, which all queries of its sequence see.
    auto spoiled = v;
    spoiled[3 * 16 + 2] = value;
    CHECK(alike(attend(be, h, ones, ones, spoiled), single(ones, ones, spoiled)));
  }
}

TEST_CASE("attention in bfloat16: heads too wide, and nothing to do") {
  const device be;
  CHECK_THROWS_WITH_AS(attend(be, {1, 129, {3}}), doctest::Contains("backend.105"),
                       plmscope::error);
  CHECK(attend(be, {2, 16, {0, 0}}).empty());
}

}  // namespace
