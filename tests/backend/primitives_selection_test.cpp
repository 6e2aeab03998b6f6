// SPDX-License-Identifier: MIT
// top_k_rows against the reference: same features, same bits.
#include <tests/backend/compare.hpp>

#include <plmscope/tensor/codes.hpp>
#include <plmscope/train/dead_latents/aux_k.hpp>

#include <doctest/doctest.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

namespace {

using namespace compare;
using plmscope::by_magnitude;
using plmscope::by_raw_value;
using plmscope::by_value;
using plmscope::codes;

// Largest magnitudes first, of which the positive ones are kept: an order of a user, in which what
// is kept is not a prefix of the order.
struct positive_among_largest {
  template <class T>
  PLMSCOPE_HD static constexpr T key(T a) noexcept {
    return a < T{0} ? -a : a;
  }
  template <class T>
  PLMSCOPE_HD static constexpr bool keep(T a) noexcept {
    return a > T{0};
  }
};

// Both backends' codes of one matrix; empty when equal, else what differs first.
template <class Order, class B>
std::string difference(B& be, const_view<B> pre, std::size_t k) {
  reference naive;
  const std::vector<typename B::real> numbers = to_host(be, pre);
  const auto exact = matrix_of<double>(naive, pre.rows(), pre.cols(), [&](std::size_t i) {
    return static_cast<double>(numbers[i]);
  });
  codes<B> selected(be, pre.cols());
  codes<reference> expected(naive, pre.cols());
  be.top_k_rows(pre, k, Order{}, selected);
  naive.top_k_rows(const_view<reference>(exact), k, Order{}, expected);
  const auto fast = to_host(be, selected);
  const auto want = to_host(naive, expected);
  if (selected.rows() != expected.rows()) return "rows";
  if (fast.offsets[0] != 0) return "the first offset";
  for (std::size_t r = 0; r < expected.rows(); ++r) {
    if (fast.offsets[r + 1] != want.offsets[r + 1]) return "entries of row " + std::to_string(r);
  }
  if (B::on_host ? selected.entries() != want.ids.size() : selected.entries() < want.ids.size()) {
    return "entries";
  }
  for (std::size_t e = 0; e < want.ids.size(); ++e) {
    if (fast.ids[e] != want.ids[e]) return "feature of entry " + std::to_string(e);
    if (static_cast<double>(fast.values[e]) != want.values[e]) return "value";
  }
  return "";
}

template <class B>
void check_orders(B& be, const_view<B> pre, std::size_t k) {
  INFO(pre.rows(), " rows of ", pre.cols(), ", k ", k);
  CHECK(difference<by_value>(be, pre, k) == "");
  CHECK(difference<by_magnitude>(be, pre, k) == "");
  CHECK(difference<by_raw_value>(be, pre, k) == "");
}

TEST_CASE("every shape, every k, all kinds of numbers") {
  for_each_backend([]<class B>(B be) {
    reference naive;
    over_shapes<B>([&](std::size_t rows, std::size_t cols, bool strided, numbers kind) {
      if (rows > 300) return;
      twin<B> pre(be, naive, many<B>(rows, 3), cols, strided, kind, 1);
      const bool large = rows * cols > 5000;
      for (const std::size_t k : large ? sizes{1, 65} : sizes{0, 1, 2, 31, 64, 65, 257, 20000}) {
        check_orders<B>(be, pre.fast(), k);
      }
    });
  });
}

// Distributions that are hard for a threshold found from maxima over groups.
template <class Real>
Real hard_number(std::size_t kind, std::uint64_t stream, std::uint64_t i) {
  const double u = number(stream, i);
  switch (kind) {
    case 0: return static_cast<Real>(u);
    case 1: return static_cast<Real>(std::tan(1.57 * u));                // heavy tails
    case 2: return static_cast<Real>(std::round(3 * u));                 // ties, half of them <= 0
    case 3: return static_cast<Real>(-std::abs(u) - 1e-3);               // nothing to keep
    case 4: return static_cast<Real>(number(stream + 1, i) > 0.9 ? u : 0);  // mostly zeros
    case 5: return static_cast<Real>(static_cast<double>(i % 4096));     // ascending
    case 6: return static_cast<Real>(-static_cast<double>(i % 4096));    // descending
    case 7: return static_cast<Real>(i % 64 == 5 ? 10 + u : u);          // one group has them all
    default: return make_number<Real>(numbers::special, stream, 0, i, 1 << 20);
  }
}

template <class B>
void check_random_rows(B& be, std::size_t rows) {
  using real = typename B::real;
  std::size_t wrong = 0;
  std::string first;
  for (std::size_t i = 0; i < rows; ++i) {
    const auto draw = [&](std::uint64_t what, std::size_t below) {
      return static_cast<std::size_t>(std::abs(number(1000 + what, i)) *
                                      static_cast<double>(below));
    };
    // Long rows take the threshold, short ones do not: both sides of every power of two.
    const std::size_t cols = 1 + draw(1, i % 3 == 0 ? 3000 : 300);
    const std::size_t k = i % 5 == 0 ? draw(2, cols + 10) : draw(3, 70);
    const std::size_t kind = i % 9;
    const auto pre = matrix_of<real>(be, 1, cols, [&](std::size_t c) {
      return hard_number<real>(kind, i, c);
    });
    std::string said;
    if (i % 3 == 0) said = difference<by_value, B>(be, pre, k);
    if (i % 3 == 1) said = difference<by_magnitude, B>(be, pre, k);
    if (i % 3 == 2) said = difference<by_raw_value, B>(be, pre, k);
    if (!said.empty() && wrong++ == 0) {
      first = said + " of row " + std::to_string(i) + " [" + std::to_string(cols) + "], k " +
              std::to_string(k) + ", kind " + std::to_string(kind);
    }
  }
  INFO(first);
  CHECK(wrong == 0);
}

TEST_CASE("ten thousand random rows") {
  for_each_backend([]<class B>(B be) {
    check_random_rows(be, many<B>(sizeof(typename B::real) == 4 ? 10000 : 1000, 300));
  });
}

TEST_CASE("ties go to the lower feature") {
  for_each_backend([]<class B>(B be) {
    using real = typename B::real;
    for (const std::size_t cols : sizes{5, 64, 300, 2048, 5000}) {
      const auto pre = matrix_of<real>(be, 2, cols, [&](std::size_t i) {
        return i == 2 * cols - 1 ? -0.5 : 0.5;
      });
      for (const std::size_t k : sizes{1, 3, 64, 65, 5000}) {
        codes<B> selected(be, cols);
        be.top_k_rows(const_view<B>(pre), k, by_magnitude{}, selected);
        const auto z = to_host(be, selected);
        const std::size_t kept = std::min(k, cols);
        REQUIRE(z.ids.size() == 2 * kept);
        std::size_t wrong = 0;
        for (std::size_t e = 0; e < z.ids.size(); ++e) wrong += z.ids[e] != e % kept;
        CHECK(wrong == 0);
      }
    }
  });
}

TEST_CASE("NaN comes last and is never kept; infinities are values") {
  for_each_backend([]<class B>(B be) {
    using real = typename B::real;
    constexpr real nan = std::numeric_limits<real>::quiet_NaN();
    constexpr real infinity = std::numeric_limits<real>::infinity();
    for (const std::size_t cols : sizes{6, 700}) {
      std::vector<real> numbers(3 * cols, nan);  // row 2: nothing but NaN
      numbers[1] = real{2}, numbers[3] = infinity, numbers[4] = -infinity;
      numbers[cols] = real{-0.0}, numbers[cols + 5] = -nan;
      const auto pre = matrix_of<real>(be, 3, cols, [&](std::size_t i) { return numbers[i]; });
      for (const std::size_t k : sizes{1, 2, 3, 6, 700}) {
        INFO(cols, " columns, k ", k);
        check_orders<B>(be, pre, k);
        codes<B> selected(be, cols);
        be.top_k_rows(const_view<B>(pre), k, by_raw_value{}, selected);
        const auto z = to_host(be, selected);
        CHECK(z.offsets[1] == static_cast<std::int64_t>(std::min<std::size_t>(k, 3)));
        CHECK(z.offsets[2] - z.offsets[1] == 1);
        CHECK(z.offsets[3] == z.offsets[2]);
        CHECK(z.values[k == 1 ? 0 : 1] == infinity);
      }
    }
  });
}

TEST_CASE("of the k first entries those are kept that the order keeps, not others in their place") {
  for_each_backend([]<class B>(B be) {
    using real = typename B::real;
    for (const std::size_t cols : sizes{4, 31, 64, 1000, 3000}) {
      const double first[] = {-3, 2, -1, 0.5};
      const auto pre = matrix_of<real>(be, 3, cols, [&](std::size_t i) {
        return i < 4 ? first[i] : number(5, i);
      });
      for (const std::size_t k : sizes{1, 2, 3, 16, 100}) {
        INFO(cols, " columns, k ", k);
        CHECK(difference<positive_among_largest, B>(be, pre, k) == "");
      }
    }
  });
}

TEST_CASE("rows are appended behind those that are there") {
  for_each_backend([]<class B>(B be) {
    using real = typename B::real;
    const auto pre =
        matrix_of<real>(be, 90, 333, [](std::size_t i) { return number(6, i); });
    codes<B> whole(be, 333);
    codes<B> parts(be, 333);
    be.top_k_rows(const_view<B>(pre), 20, by_value{}, whole);
    for (std::size_t first = 0; first < 90; first += 30) {
      be.top_k_rows(const_view<B>(pre).row_range(first, 30), 20, by_value{}, parts);
    }
    REQUIRE(parts.rows() == 90);
    CHECK(same_codes(to_host(be, parts), to_host(be, whole)));
  });
}

}  // namespace
