// SPDX-License-Identifier: MIT
// top_k_rows on rows that are hard for a search by digits, against a plain sort of each row.
#include <tests/backend/compare.hpp>

#include <plmscope/tensor/codes.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace {

using namespace compare;
using plmscope::by_magnitude;
using plmscope::by_raw_value;
using plmscope::by_value;
using plmscope::codes;

constexpr std::size_t kinds = 19;

template <class Real>
Real hard_entry(std::size_t kind, std::size_t i) {
  using bits = std::conditional_t<sizeof(Real) == 4, std::uint32_t, std::uint64_t>;
  using limits = std::numeric_limits<Real>;
  const double u = number(50 + kind, i);
  const auto draw = static_cast<bits>((u + 1) * (1 << 20));  // for its lowest bits
  const auto near = [](Real v, bits change) {
    return std::bit_cast<Real>(std::bit_cast<bits>(v) ^ change);
  };
  const Real some = static_cast<Real>(u);
  switch (kind) {
    case 0:
      return Real(0.25);
    case 1:
      return Real(-0.25);
    case 2:
      return i % 3 == 0 ? Real(1.5) : Real(-2);  // two values
    case 3:
      return u > 0.99 ? Real(2) : Real(1);  // two values, one of them rare
    case 4:
      return limits::quiet_NaN();
    case 5:
      return i % 2 == 0 ? Real(-0.0) : Real(0);
    case 6:
      return i % 7 == 3 ? some : i % 2 == 0 ? Real(-0.0) : Real(0);
    case 7:
      return u > 0.5 ? limits::infinity() : u < -0.5 ? -limits::infinity() : some;
    case 8:
      return i % 5 == 0 ? -limits::infinity() : limits::quiet_NaN();
    case 9:
      return static_cast<Real>(std::round(1000 * u)) * limits::denorm_min();
    case 10:
      return near(Real(0.7), draw & 1);  // the lowest bit
    case 11:
      return near(Real(-0.7), draw & 1);
    case 12:
      return near(Real(3), draw & 255);  // all but the lowest digit
    case 13:
      return near(Real(-3), draw & 255);
    case 14:
      return i % 256 < 4 ? Real(10) + some : some;  // few groups have the largest
    case 15:
      return i % 1000 == 17 ? some : limits::quiet_NaN();  // hardly any number
    case 16:
      return std::bit_cast<Real>(static_cast<bits>(number(90, i) * 1e9) << 1);
    case 17:
      return u > 0.98 ? some : Real(0);  // few entries but zeros
    default:
      return u > 0.3 ? limits::max() : -limits::lowest() * some;
  }
}

/// Row by row the entries in the order they are to be taken.
template <class Order, class Real>
std::vector<std::vector<std::uint32_t>> sorted_rows(std::size_t cols) {
  std::vector<std::vector<std::uint32_t>> rows(kinds);
  for (std::size_t r = 0; r < kinds; ++r) {
    std::vector<Real> key(cols);
    for (std::size_t i = 0; i < cols; ++i) {
      key[i] = Order::key(hard_entry<Real>(r, i));
      if (key[i] == key[i]) rows[r].push_back(static_cast<std::uint32_t>(i));
    }
    std::stable_sort(rows[r].begin(), rows[r].end(),
                     [&](std::uint32_t a, std::uint32_t b) { return key[a] > key[b]; });
  }
  return rows;
}

/// What a plain sort gives for k.
template <class Order, class Real>
host_codes<Real> first_of(const std::vector<std::vector<std::uint32_t>>& sorted, std::size_t k) {
  host_codes<Real> z;
  for (std::size_t r = 0; r < kinds; ++r) {
    const auto taken = static_cast<std::ptrdiff_t>(std::min(k, sorted[r].size()));
    std::vector<std::uint32_t> ids(sorted[r].begin(), sorted[r].begin() + taken);
    std::sort(ids.begin(), ids.end());
    for (const std::uint32_t id : ids) {
      const Real v = hard_entry<Real>(r, id);
      if (!Order::keep(v)) continue;
      z.ids.push_back(id);
      z.values.push_back(v);
    }
    z.offsets.push_back(static_cast<std::int64_t>(z.ids.size()));
  }
  return z;
}

/// Rows of any alignment, one per kind; what is wrong with them first.
template <class B>
class hard_rows {
 public:
  using real = typename B::real;

  hard_rows(B& be, std::size_t cols, std::size_t gap)
      : be_(be),
        memory_(matrix_of<real>(be, kinds, cols + gap,
                                [&](std::size_t i) {
                                  const std::size_t c = i % (cols + gap);
                                  return c < gap ? real{99}
                                                 : hard_entry<real>(i / (cols + gap), c - gap);
                                })),
        view_(const_view<B>(memory_).col_range(gap, cols)) {}

  template <class Order>
  std::string difference(const std::vector<std::size_t>& ks) {
    const auto sorted = sorted_rows<Order, real>(view_.cols());
    for (const std::size_t k : ks) {
      codes<B> z(be_, view_.cols());
      be_.top_k_rows(view_, k, Order{}, z);
      const auto got = to_host(be_, z);
      const auto want = first_of<Order, real>(sorted, k);
      const auto where = [&](const char* what) {
        std::size_t r = 0;
        while (r < kinds && got.offsets[r + 1] == want.offsets[r + 1]) ++r;
        return std::string(what) + ", k " + std::to_string(k) + ", kind " + std::to_string(r);
      };
      if (got.offsets != want.offsets) return where("number");
      if (got.ids != want.ids) return where("features");
      if (bytes(got.values) != bytes(want.values)) return where("values");
    }
    return "";
  }

 private:
  static std::vector<unsigned char> bytes(const std::vector<real>& x) {
    const auto* p = reinterpret_cast<const unsigned char*>(x.data());
    return std::vector<unsigned char>(p, p + x.size() * sizeof(real));
  }

  B& be_;
  matrix<real, B> memory_;
  const_view<B> view_;
};

template <class B>
void check_rows(B& be, std::size_t cols, std::size_t gap, const sizes& ks) {
  INFO(cols, " columns behind ", gap);
  hard_rows<B> rows(be, cols, gap);
  CHECK(rows.template difference<by_value>(ks) == "");
  CHECK(rows.template difference<by_raw_value>(ks) == "");
  CHECK(rows.template difference<by_magnitude>(ks) == "");
}

TEST_CASE("hard rows of every length, against a plain sort") {
  for_each_backend([]<class B>(B be) {
    for (const std::size_t cols : sizes{1, 2, 3, 4, 5, 16, 17, 63, 64, 255, 256, 257, 700}) {
      check_rows(be, cols, cols % 3, {1, 2, 3, cols / 2 + 1, cols - 1, cols, cols + 1});
    }
    // 1,024 columns are the least for which groups have maxima; 8,192 for k = 1,024.
    for (const std::size_t cols : sizes{1023, 1024, 1025, 2500}) {
      check_rows(be, cols, 0, {1, 64, 128, 129, 1024, cols});
    }
    check_rows(be, 8191, 0, {1024});
    check_rows(be, 8192, 1, {1, 1024});
    check_rows(be, 10240, 0, {64});
  });
}

TEST_CASE("hard rows, long") {
  for_each_backend([]<class B>(B be) {
    const auto check = [&]<class Order>(Order, std::size_t cols, const sizes& ks) {
      INFO(cols, " columns");
      hard_rows<B> rows(be, cols, cols % 2);
      CHECK(rows.template difference<Order>(ks) == "");
    };
    check(by_raw_value{}, 16385, {32, 1024});
    check(by_magnitude{}, 70000, {1024});
    check(by_value{}, 70000, {1, 1025});
  });
}

#if !defined(__CUDACC__)
TEST_CASE("hard rows in every order of the threads, in shared memory or where they are") {
  for_each_device([]<class B>(B be) {
    for (const auto o : {emulation::order::ascending, emulation::order::descending,
                         emulation::order::inside_out}) {
      be.runtime().schedule = o;
      for (const std::size_t limit : sizes{0, 96 * 1024}) {
        be.runtime().shared_limit = limit;
        INFO("order ", static_cast<int>(o), ", shared memory ", limit);
        for (const std::size_t gap : sizes{0, 1}) {
          check_rows(be, 300, gap, {1, 40, 299});
          check_rows(be, 3001, gap, {1, 100, 257});
        }
      }
    }
  });
}

// Blocks and teams as a GPU has them: what a row costs in waits is counted.
TEST_CASE("waits of a block for a row") {
  using device = plmscope::basic_device<float, emulation::runtime<256, 32>>;
  device be(0);
  enum class row { normal, equal, mostly_zero };
  const auto waits = [&](std::size_t cols, std::size_t k, row kind) {
    const auto pre = matrix_of<float>(be, 1, cols, [&](std::size_t i) {
      double sum = 0;  // of twelve: nearly normal, as activations are
      for (std::size_t j = 0; j < 12; ++j) sum += number(70 + j, i);
      return kind == row::equal ? 0.5 : kind == row::normal || i % 300 == 0 ? sum / 2 : 0;
    });
    codes<device> z(be, cols);
    const std::size_t before = be.runtime().block_waits();
    be.top_k_rows(const_view<device>(pre), k, by_value{}, z);
    return be.runtime().block_waits() - before;
  };
  CHECK(waits(10240, 64, row::normal) == 18);
  CHECK(waits(16384, 64, row::normal) == 24);
  CHECK(waits(10240, 1024, row::normal) == 30);
  CHECK(waits(800, 64, row::normal) == 13);
  CHECK(waits(10240, 64, row::mostly_zero) <= 18);
  CHECK(waits(10240, 64, row::equal) == 182);  // every entry reaches the bound
}
#endif

}  // namespace
