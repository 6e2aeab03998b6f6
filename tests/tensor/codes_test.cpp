// SPDX-License-Identifier: MIT
#include <plmscope/backend/cpu.hpp>
#include <plmscope/backend/reference.hpp>
#include <plmscope/tensor/codes.hpp>
#include <plmscope/tensor/codes_by_feature.hpp>

#include <doctest/doctest.h>

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace {

using plmscope::codes;
using plmscope::codes_by_feature;
using plmscope::cpu;
using plmscope::reference;

// Appends one row.
template <class B>
void push(B& be, codes<B>& z, const std::vector<std::uint32_t>& ids) {
  z.reserve_more(be, 1, ids.size());
  for (std::size_t e = 0; e < ids.size(); ++e) {
    z.ids()[z.entries() + e] = ids[e];
    z.values()[z.entries() + e] = static_cast<typename B::real>(10 * ids[e]);
  }
  z.offsets()[z.rows() + 1] = static_cast<std::int64_t>(z.entries() + ids.size());
  z.append(1, ids.size());
}

template <class B>
void check_codes(B be) {
  codes<B> z(be, 7);
  CHECK(z.rows() == 0);
  CHECK(z.entries() == 0);
  CHECK(z.features() == 7);
  CHECK(z.offsets()[0] == 0);
  // Growing again and again keeps what is there.
  std::vector<std::uint32_t> all;
  std::vector<std::int64_t> offsets{0};
  for (std::uint32_t r = 0; r < 200; ++r) {
    std::vector<std::uint32_t> row;
    for (std::uint32_t f = 0; f < 7; ++f) {
      if ((r >> (f % 5) & 1) != 0) row.push_back(f);
    }
    push(be, z, row);
    all.insert(all.end(), row.begin(), row.end());
    offsets.push_back(static_cast<std::int64_t>(all.size()));
  }
  REQUIRE(z.rows() == 200);
  REQUIRE(z.entries() == all.size());
  CHECK(std::vector<std::uint32_t>(z.ids(), z.ids() + all.size()) == all);
  CHECK(std::vector<std::int64_t>(z.offsets(), z.offsets() + 201) == offsets);
  std::size_t wrong = 0;
  for (std::size_t e = 0; e < all.size(); ++e) {
    wrong += z.values()[e] != static_cast<typename B::real>(10 * all[e]) ? 1U : 0U;
  }
  CHECK(wrong == 0);

  // Clearing keeps the memory and may change the number of features.
  const std::uint32_t* memory = z.ids();
  z.clear(be, 3);
  CHECK(z.rows() == 0);
  CHECK(z.entries() == 0);
  CHECK(z.features() == 3);
  CHECK(z.offsets()[0] == 0);
  CHECK(z.ids() == memory);
  push(be, z, {2});
  CHECK(z.ids()[0] == 2);

  const codes<B> moved = std::move(z);
  CHECK(moved.rows() == 1);
  CHECK(moved.ids()[0] == 2);
  // What was moved from holds nothing that could be read.
  CHECK(z.rows() == 0);
  CHECK(z.entries() == 0);
}

TEST_CASE("codes on cpu") { check_codes(cpu(1)); }
TEST_CASE("codes on the reference backend") { check_codes(reference()); }

TEST_CASE("default codes are empty until they are cleared for a number of features") {
  cpu be(1);
  codes<cpu> z;
  CHECK(z.rows() == 0);
  CHECK(z.entries() == 0);
  CHECK(z.features() == 0);
  z.clear(be, 5);
  push(be, z, {1, 4});
  CHECK(z.offsets()[1] == 2);
}

TEST_CASE("codes by feature begin empty and keep their memory") {
  cpu be(1);
  codes_by_feature<cpu> t;
  CHECK(t.features() == 0);
  t.reshape(be, 5, 100);
  CHECK(t.features() == 5);
  const std::uint32_t* memory = t.rows();
  t.reshape(be, 9, 40);
  CHECK(t.features() == 9);
  CHECK(t.rows() == memory);
  t.reshape(be, 9, 10000);
  CHECK(t.rows() != nullptr);
}

}  // namespace
