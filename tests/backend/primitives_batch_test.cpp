// SPDX-License-Identifier: MIT
// batch_top_n and keep_above against the reference: same features, same bits; and against brute
// force over the whole matrix, however it is cut into tiles.
#include <tests/backend/compare.hpp>

#include <plmscope/tensor/codes.hpp>
#include <plmscope/train/dead_latents/aux_k.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <utility>
#include <vector>

namespace {

using namespace compare;
using plmscope::by_magnitude;
using plmscope::by_raw_value;
using plmscope::by_value;
using plmscope::codes;

// The same numbers in the memory of both.
template <class B>
struct both {
  using real = typename B::real;
  both(B& be, std::size_t rows, std::size_t cols, const std::vector<real>& numbers)
      : fast(matrix_of<real>(be, rows, cols, [&](std::size_t i) { return numbers[i]; })),
        exact(matrix_of<double>(naive, rows, cols,
                                [&](std::size_t i) { return static_cast<double>(numbers[i]); })) {}
  reference naive;
  matrix<real, B> fast;
  matrix<double, reference> exact;
};

template <class B>
std::string difference(B& be, const codes<B>& fast, reference& naive,
                       const codes<reference>& exact) {
  const auto got = to_host(be, fast);
  const auto want = to_host(naive, exact);
  if (got.rows() != want.rows()) return "rows";
  for (std::size_t r = 0; r <= want.rows(); ++r) {
    if (got.offsets[r] != want.offsets[r]) return "offset of row " + std::to_string(r);
  }
  const std::size_t n = want.ids.size();
  if (B::on_host ? fast.entries() != n : fast.entries() < n) return "entries";
  if (got.ids != want.ids) return "features";
  for (std::size_t e = 0; e < n; ++e) {
    const auto a = static_cast<double>(got.values[e]);
    if (a != want.values[e] || std::signbit(a) != std::signbit(want.values[e])) return "value";
  }
  return "";
}

// batch_top_n over tiles of several numbers of rows against the reference on all rows at once;
// empty when all are equal.
template <class Order, class B>
std::string batch_difference(B& be, const both<B>& pre, std::size_t n, const sizes& tiles) {
  using real = typename B::real;
  reference naive;
  const std::size_t rows = pre.exact.rows();
  const std::size_t cols = pre.exact.cols();
  codes<reference> exact(naive, cols);
  auto exact_last = matrix_of<double>(naive, 1, 1, [](std::size_t) { return -5; });
  naive.batch_top_n(const_view<reference>(pre.exact), n, Order{}, exact, exact_last.all());
  const const_view<B> all(pre.fast);
  for (const std::size_t tile : tiles) {
    codes<B> fast(be, cols);
    auto last = matrix_of<real>(be, 1, 1, [](std::size_t) { return -5; });
    std::size_t first = 0;
    do {
      const auto part = all.row_range(first, std::min(tile, rows - first));
      be.batch_top_n(part, n, Order{}, fast, last.all());
      if (fast.entries() > n) return "more than n entries";
      first += tile;
    } while (first < rows);
    std::string said = difference(be, fast, naive, exact);
    if (static_cast<double>(to_host(be, last)[0]) != exact_last(0, 0)) said += "the last key";
    if (!said.empty()) return said + ", tile " + std::to_string(tile);
  }
  return "";
}

template <class Order, class B>
void check_batch(B& be, const both<B>& pre, const sizes& counts, const sizes& tiles) {
  for (const std::size_t n : counts) {
    INFO(pre.exact.rows(), " rows of ", pre.exact.cols(), ", n ", n);
    CHECK(batch_difference<Order>(be, pre, n, tiles) == "");
  }
}

// keep_above with no bound, one bound and one of every feature.
template <class Order, class B>
void check_above(B& be, const both<B>& pre, std::uint64_t stream) {
  using real = typename B::real;
  reference naive;
  const std::size_t cols = pre.exact.cols();
  std::vector<std::vector<real>> bounds{{}, {real(0.1)}, {real{0}}, {real{-0.0}}, {real(-0.5)}};
  constexpr real infinity = std::numeric_limits<real>::infinity();
  for (const real b : {infinity, -infinity, std::numeric_limits<real>::quiet_NaN()}) {
    bounds.push_back({b});
  }
  if (pre.exact.size() > 0) bounds.push_back({static_cast<real>(pre.exact(0, cols / 2))});
  for (const numbers kind : all_numbers) {
    bounds.emplace_back(cols);
    for (std::size_t f = 0; f < cols; ++f) {
      bounds.back()[f] = make_number<real>(kind, stream, 0, f, cols);
    }
    if (!pre.exact.empty()) bounds.back()[cols - 1] = static_cast<real>(pre.exact(0, cols - 1));
  }
  codes<B> fast(be, cols);
  codes<reference> exact(naive, cols);
  for (const auto& bound : bounds) {
    const both<B> twice(be, 1, bound.size(), bound);
    fast.clear(be, cols);
    exact.clear(naive, cols);
    for (int times = 0; times < 2; ++times) {  // behind what is there
      be.keep_above(const_view<B>(pre.fast), const_view<B>(twice.fast), Order{}, fast);
      naive.keep_above(const_view<reference>(pre.exact), const_view<reference>(twice.exact),
                       Order{}, exact);
    }
    INFO(pre.exact.rows(), " rows of ", cols, ", ", bound.size(), " bounds");
    CHECK(difference(be, fast, naive, exact) == "");
  }
}

template <class B>
both<B> numbers_of(B& be, std::size_t rows, std::size_t cols, numbers kind, std::uint64_t stream) {
  std::vector<typename B::real> host(rows * cols);
  for (std::size_t i = 0; i < host.size(); ++i) {
    host[i] = make_number<typename B::real>(kind, stream, i / cols, i % cols, cols);
  }
  return both<B>(be, rows, cols, host);
}

const std::vector<std::pair<std::size_t, std::size_t>> awkward{
    {0, 0},  {0, 5},  {5, 0},   {1, 1},   {1, 63},   {63, 1}, {64, 64},
    {2, 65}, {3, 67}, {7, 131}, {65, 63}, {1, 1031}, {4, 16}, {31, 17}};

TEST_CASE("every shape, every n, all kinds of numbers") {
  for_each_backend([]<class B>(B be) {
    for (const auto& [rows, cols] : awkward) {
      for (const numbers kind : all_numbers) {
        const bool slow = B::id == "emulated";
        if (slow && (rows * cols > 600 || kind == numbers::plain)) continue;
        const auto pre = numbers_of(be, rows, cols, kind, 1);
        const std::size_t size = rows * cols;
        const sizes counts =
            slow ? sizes{0, 2, size / 2, ~std::size_t{0}}
                 : sizes{0, 1, 2, size / 3, size / 2, size, size + 7, ~std::size_t{0}};
        const sizes tiles{1, 2, 63, 1000};
        check_batch<by_value>(be, pre, counts, slow ? sizes{3} : tiles);
        check_batch<by_magnitude>(be, pre, counts, slow ? sizes{1000} : tiles);
        check_batch<by_raw_value>(be, pre, {2, size / 2, size}, {3});
        check_above<by_value>(be, pre, 2);
        check_above<by_magnitude>(be, pre, 3);
        check_above<by_raw_value>(be, pre, 4);
      }
    }
  });
}

// Ties at the threshold, over many rows: the first ones in order of row, then feature, stay.
TEST_CASE("of equal entries the first stay, whatever the tiles") {
  for_each_backend([]<class B>(B be) {
    using real = typename B::real;
    constexpr std::size_t rows = many<B>(301, 37);
    constexpr std::size_t cols = many<B>(97, 29);
    for (int kind = 0; kind < 4; ++kind) {
      std::vector<real> host(rows * cols);
      for (std::size_t i = 0; i < host.size(); ++i) {
        const double u = number(7, i);
        const double choice[] = {0.5, std::round(2 * u), i % 3 == 0 ? -0.25 : 0.25,
                                 i % 2 == 0 ? -0.0 : 0.0};
        host[i] = static_cast<real>(choice[kind]);
      }
      const both<B> pre(be, rows, cols, host);
      const std::size_t size = rows * cols;
      INFO("kind ", kind);
      const sizes tiles = B::id == "emulated" ? sizes{7, rows} : sizes{1, 7, 64, rows};
      const sizes counts{1, cols, cols + 1, size / 4, size / 2 + 1, size - 1};
      check_batch<by_magnitude>(be, pre, counts, tiles);
      check_batch<by_raw_value>(be, pre, counts, tiles);
    }
    // Known by hand: all equal, so the first n of the batch.
    const both<B> pre(be, 5, 10, std::vector<real>(50, real{2}));
    codes<B> z(be, 10);
    be.batch_top_n(const_view<B>(pre.fast), 23, by_value{}, z);
    const auto got = to_host(be, z);
    CHECK(got.offsets == std::vector<std::int64_t>{0, 10, 20, 23, 23, 23});
    CHECK(got.ids[22] == 2);
  });
}

// Large enough for many waves, tiles and rounds, with the largest entries where they hurt.
TEST_CASE("batches of many tiles") {
  for_each_backend([]<class B>(B be) {
    using real = typename B::real;
    constexpr std::size_t rows = many<B>(701, 60);
    constexpr std::size_t cols = many<B>(1031, 131);
    for (int kind = 0; kind < 6; ++kind) {
      std::vector<real> host(rows * cols);
      for (std::size_t i = 0; i < host.size(); ++i) {
        const double u = number(9, i);
        const double rising = static_cast<double>(i / cols) / static_cast<double>(rows);
        const double choice[] = {u,
                                 std::abs(u) + 10 * rising,       // every row beats those before
                                 std::abs(u) + 10 - 10 * rising,  // the first rows have them all
                                 u > 0.99 ? 1 / (1.01 - u) : -1,  // few are positive
                                 i / cols == rows - 1 ? 9 + u
                                 : u > 0.5            ? u
                                                      : -u,
                                 1 + u * 1e-7};  // one bit pattern in many
        host[i] = static_cast<real>(choice[kind]);
      }
      const both<B> pre(be, rows, cols, host);
      INFO("kind ", kind);
      check_batch<by_value>(be, pre, {17, 16 * rows + 3, rows * cols / 3}, {rows, rows / 3 + 1});
      check_batch<by_magnitude>(be, pre, {16 * rows}, {97});
    }
    check_above<by_value>(be, numbers_of(be, rows, cols, numbers::special, 5), 5);
  });
}

TEST_CASE("codes without further rows shrink") {
  for_each_backend([]<class B>(B be) {
    reference naive;
    const auto pre = numbers_of(be, 40, 50, numbers::plain, 1);
    codes<B> z(be, 50);
    codes<reference> want(naive, 50);
    be.keep_above(const_view<B>(pre.fast), const_view<B>(), by_magnitude{}, z);
    naive.keep_above(const_view<reference>(pre.exact), const_view<reference>(), by_magnitude{},
                     want);
    for (const std::size_t n : sizes{3000, 1000, 999, 64, 1, 0}) {
      be.batch_top_n(const_view<B>(pre.fast).row_range(0, 0), n, by_magnitude{}, z);
      naive.batch_top_n(const_view<reference>(pre.exact).row_range(0, 0), n, by_magnitude{}, want);
      CHECK(difference(be, z, naive, want) == "");
    }
    be.top_k_rows(const_view<B>(pre.fast), 3, by_magnitude{}, z);  // as before
    naive.top_k_rows(const_view<reference>(pre.exact), 3, by_magnitude{}, want);
    CHECK(difference(be, z, naive, want) == "");
  });
}

TEST_CASE("views with gaps between rows") {
  for_each_backend([]<class B>(B be) {
    using real = typename B::real;
    reference naive;
    twin<B> pre(be, naive, 21, 75, true, numbers::special, 3);
    const auto bound = matrix_of<real>(be, 1, 75, [](std::size_t i) { return number(4, i); });
    const auto exact_bound =
        matrix_of<double>(naive, 1, 75, [](std::size_t i) { return real(number(4, i)); });
    codes<B> z(be, 75), above(be, 75);
    codes<reference> want(naive, 75), want_above(naive, 75);
    be.batch_top_n(const_view<B>(pre.fast()), 200, by_magnitude{}, z);
    naive.batch_top_n(const_view<reference>(pre.exact()), 200, by_magnitude{}, want);
    be.keep_above(const_view<B>(pre.fast()), const_view<B>(bound), by_value{}, above);
    naive.keep_above(const_view<reference>(pre.exact()), const_view<reference>(exact_bound),
                     by_value{}, want_above);
    CHECK(difference(be, z, naive, want) == "");
    CHECK(difference(be, above, naive, want_above) == "");
  });
}

// The threshold of BatchTopK at inference: what the batch kept, but for the last one itself.
TEST_CASE("keep_above with the last key gives the batch without its last entries") {
  for_each_backend([]<class B>(B be) {
    using real = typename B::real;
    const auto pre = numbers_of(be, 50, 200, numbers::plain, 8);
    matrix<real, B> last(be, 1, 1);
    codes<B> batch(be, 200), fixed(be, 200);
    be.batch_top_n(const_view<B>(pre.fast), 321, by_value{}, batch, last.all());
    be.keep_above(const_view<B>(pre.fast), const_view<B>(last), by_value{}, fixed);
    const auto all = to_host(be, batch);
    const auto most = to_host(be, fixed);
    REQUIRE(all.values.size() == 321);
    CHECK(most.values.size() == 320);
    CHECK(*std::min_element(all.values.begin(), all.values.end()) == to_host(be, last)[0]);
  });
}

#if !defined(__CUDACC__)
TEST_CASE("every order of the threads of a device, no wait, and memory once") {
  for_each_device([]<class B>(B be) {
    using real = typename B::real;
    const auto pre = numbers_of(be, 30, 90, numbers::special, 5);
    std::vector<real> steps(30 * 90);
    for (std::size_t i = 0; i < steps.size(); ++i) {
      steps[i] = static_cast<real>(std::round(3 * number(6, i)));
    }
    const both<B> ties(be, 30, 90, steps);
    for (const auto o : {emulation::order::ascending, emulation::order::descending,
                         emulation::order::inside_out}) {
      be.runtime().schedule = o;
      INFO("order ", static_cast<int>(o));
      check_batch<by_value>(be, pre, {0, 5, 400, 5000}, {13, 30});
      check_batch<by_magnitude>(be, ties, {5, 400, 1500}, {13, 30});
      check_above<by_magnitude>(be, pre, 6);
    }
    codes<B> z, above;
    matrix<real, B> last(be, 1, 1);
    const auto step = [&] {
      z.clear(be, 90);
      above.clear(be, 90);
      for (const std::size_t first : sizes{0, 10, 20}) {
        const auto tile = const_view<B>(ties.fast).row_range(first, 10);
        be.batch_top_n(tile, 300, by_value{}, z, last.all());
        be.keep_above(tile, const_view<B>(last), by_value{}, above);
      }
    };
    step();
    const std::size_t allocations = be.runtime().memory().allocations();
    const std::size_t waits = be.runtime().waits();
    const std::size_t launches = be.runtime().launches();
    for (int i = 0; i < 3; ++i) step();
    CHECK(be.runtime().memory().allocations() == allocations);
    CHECK(be.runtime().waits() == waits);
    CHECK((be.runtime().launches() - launches) % 3 == 0);
    CHECK(z.entries() == 300);
  });
}
#endif

// Which rows go to which thread must not show.
TEST_CASE("the same codes for 1, 2, 3 and 7 threads") {
  for_each_cpu([]<class B>(B) {
    using real = typename B::real;
    constexpr std::size_t rows = 700;
    constexpr std::size_t cols = 777;
    B one(1);
    const auto numbers = [](std::size_t i) { return std::round(500 * number(3, i)); };
    const auto run = [&](B& be) {
      const auto pre = matrix_of<real>(be, rows, cols, numbers);
      codes<B> z(be, cols), above(be, cols);
      matrix<real, B> last(be, 1, 1);
      be.batch_top_n(const_view<B>(pre), 9001, by_magnitude{}, z, last.all());
      be.keep_above(const_view<B>(pre), const_view<B>(last), by_magnitude{}, above);
      return std::pair(to_host(be, z), to_host(be, above));
    };
    const auto want = run(one);
    for (const std::size_t threads : sizes{2, 3, 7}) {
      B several(threads);
      const auto got = run(several);
      CHECK(same_codes(got.first, want.first));
      CHECK(same_codes(got.second, want.second));
    }
  });
}

}  // namespace
