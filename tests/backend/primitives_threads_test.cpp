// SPDX-License-Identifier: MIT
// Every primitive but the dense products (primitives_products_test.cpp): the same bits for 1, 2, 3
// and 7 threads, on sizes of many tiles; on a device, the same bits again.
#include <tests/backend/everything.hpp>

#include <doctest/doctest.h>

#include <cstddef>
#include <string>
#include <utility>
#include <vector>

namespace {

using namespace compare;

using results = std::vector<std::pair<std::string, byte_string>>;

void check_same(const results& got, const results& want) {
  REQUIRE(got.size() == want.size());
  for (std::size_t i = 0; i < got.size(); ++i) {
    INFO(want[i].first);
    CHECK_FALSE(want[i].second.empty());
    CHECK(got[i].second == want[i].second);
  }
}

TEST_CASE("the same bits for 1, 2, 3 and 7 threads") {
  constexpr everything_sizes s{1003, 331, 2053};
  for_each_cpu([&]<class B>(B) {
    B one(1);
    REQUIRE(one.threads() == 1);
    const auto want = everything(one, s);
    for (const std::size_t threads : sizes{2, 3, 7}) {
      B several(threads);
      REQUIRE(several.threads() == threads);
      INFO(threads, " threads");
      check_same(everything(several, s), want);
    }
  });
}

TEST_CASE("a device: the same bits again, also in memory that was used before") {
  for_each_device([]<class B>(B be) {
    const everything_sizes s{many<B>(1003, 131), many<B>(331, 83), many<B>(2053, 1100)};
    const auto want = everything(be, s);
    check_same(everything(be, s), want);
    B other;
    check_same(everything(other, s), want);
  });
}

TEST_CASE("copies of a backend share their threads") {
  const single a(3);
  single b = a;
  CHECK(b.threads() == 3);
  CHECK(&b.pool() == &single(b).pool());
}

// The rows of a batch stand alone: a part of a batch has the bits it has in the whole.
TEST_CASE("a row's result does not depend on the other rows of the batch") {
  for_each_backend([]<class B>(B be) {
    using real = typename B::real;
    constexpr std::size_t m = many<B>(1003, 131);
    constexpr std::size_t d = 331;
    constexpr std::size_t features = 2053;
    const auto x = filled(be, m, d, 1);
    const auto pre = filled(be, m, features, 6);
    const auto dictionary = filled(be, features, d, 7);
    const auto row = filled(be, 1, d, 3);
    matrix<real, B> norms(be, 1, m), decoded(be, m, d), unit = filled(be, m, d, 1);
    codes<B> selected(be, features);
    be.row_norms(x, norms);
    be.normalize_rows(unit, real{0});
    be.top_k_rows(const_view<B>(pre), 13, plmscope::by_value{}, selected);
    be.decode(selected, dictionary, row, decoded);
    const auto z = to_host(be, selected);
    for (const std::size_t count : sizes{1, 2, 15, 16, 17, 64, 500}) {
      const std::size_t first = 3 * count % 101;
      if (first + count > m) continue;
      const auto part = const_view<B>(x).row_range(first, count);
      matrix<real, B> some_norms(be, 1, count), some(be, count, d), some_unit(be, count, d);
      be.row_norms(part, some_norms);
      be.copy(part, some_unit.all());
      be.normalize_rows(some_unit, real{0});
      codes<B> some_selected(be, features);
      be.top_k_rows(const_view<B>(pre).row_range(first, count), 13, plmscope::by_value{},
                    some_selected);
      be.decode(some_selected, dictionary, row, some);
      const auto some_z = to_host(be, some_selected);
      CHECK(bytes(be, some_norms) == bytes(be, norms.all().col_range(first, count)));
      CHECK(bytes(be, some_unit) == bytes(be, unit.all().row_range(first, count)));
      CHECK(bytes(be, some) == bytes(be, decoded.all().row_range(first, count)));
      REQUIRE(z.offsets[first + count] - z.offsets[first] == some_z.offsets[count]);
      CHECK(std::equal(some_z.ids.begin(), some_z.ids.end(), z.ids.begin() + z.offsets[first]));
    }
  });
}

}  // namespace
