// SPDX-License-Identifier: MIT
// What groups of threads count together (backend/device/group.hpp), with results that are known.
#include <tests/backend/compare.hpp>

#include <doctest/doctest.h>

#include <cstddef>
#include <cstdint>
#include <vector>

namespace {

using namespace compare;

/// Thread t of a block has the number t + 1.
struct group_operations {
  unsigned* tallied;        // [blocks, 32]: how many threads have their number % 32
  unsigned* lower;          // [blocks, size]: sum of the lower ones of a team
  unsigned* whole;          // [blocks, size]: sum of a team
  std::uint64_t* together;  // sum of all threads of all blocks

  template <class Group>
  PLMSCOPE_HD void operator()(Group& g) const {
    unsigned* const bins = g.template shared<unsigned>(32);
    for (unsigned i = g.rank(); i < 32; i += g.size()) bins[i] = 0;
    g.sync();
    const unsigned mine = g.rank() + 1;
    g.tally(bins, mine % 32, true);
    g.tally(bins, 7, mine % 3 == 0);  // some
    g.tally(bins, 9, false);
    const std::size_t place = g.index() * g.size() + g.rank();
    unsigned total = 0;
    lower[place] = g.team_before(mine, total);
    whole[place] = total;
    std::uint64_t wide = 0;
    const std::uint64_t large = std::uint64_t{1} << 40;
    if (g.team_before(large, wide) != g.lane() * large || wide != g.lanes() * large) {
      whole[place] = 0;
    }
    g.add(together, mine * large);
    g.sync();
    for (unsigned i = g.rank(); i < 32; i += g.size()) tallied[g.index() * 32 + i] = bins[i];
  }
};

TEST_CASE("tally, add and sums of lower lanes") {
  for_each_device([]<class B>(B be) {
    constexpr std::size_t blocks = 3;
    const unsigned size = B::runtime_type::template threads_per_block<group_operations>();
    matrix<unsigned, B> tallied(be, blocks, 32), lower(be, blocks, size), whole(be, blocks, size);
    matrix<std::uint64_t, B> together(be, 1, 1);
    be.launch(blocks, 32 * sizeof(unsigned),
              group_operations{tallied.data(), lower.data(), whole.data(), together.data()});
    const auto got_lower = to_host(be, lower);
    const auto got_whole = to_host(be, whole);
    const auto got_tallied = to_host(be, tallied);
    // As wide as teams are, the first lane has nothing below it.
    unsigned lanes = 1;
    while (lanes < size && got_lower[lanes] != 0) ++lanes;
    CHECK(lanes == (B::id == "cuda" ? 32u : sizeof(typename B::real) == 4 ? 4u : 2u));
    std::vector<unsigned> bins(32);
    std::uint64_t sum = 0;
    std::size_t wrong = 0;
    for (unsigned t = 0; t < size; ++t) {
      sum += t + 1;
      ++bins[(t + 1) % 32];
      bins[7] += (t + 1) % 3 == 0 ? 1u : 0u;
      unsigned before = 0, all = 0;
      for (unsigned o = t / lanes * lanes; o < t / lanes * lanes + lanes; ++o) {
        before += o < t ? o + 1 : 0;
        all += o + 1;
      }
      for (std::size_t b = 0; b < blocks; ++b) {
        wrong += got_lower[b * size + t] != before;
        wrong += got_whole[b * size + t] != all;
      }
    }
    CHECK(wrong == 0);
    for (std::size_t i = 0; i < blocks * 32; ++i) wrong += got_tallied[i] != bins[i % 32];
    CHECK(wrong == 0);
    CHECK(to_host(be, together)[0] == blocks * sum << 40);
  });
}

}  // namespace
