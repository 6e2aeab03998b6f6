// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/core/view.hpp>

#include <algorithm>
#include <cstddef>

namespace plmscope::inline PLMSCOPE_ABI {

// Kernels as plain function objects. A kernel is a struct of views and numbers with
//
//   template <class Group>
//   PLMSCOPE_HD void operator()(Group& g) const;
//
// which every thread of a block runs. It sees the device through its group only, so the same lines
// run on a GPU and, in the tests, on a processor. What a group offers:
//
//   index()                 which block this is, from 0
//   rank(), size()          this thread in the block, threads in the block: any number
//   lane(), lanes(), team(), teams()   teams are runs of threads that move together (warps)
//   sync()                  waits for all threads of the block; orders their memory
//   sum(v), team_sum(v)     the sum over the block or the team, in a fixed order, to every thread
//   team_from(v, lane)      the v of that lane of the team
//   team_product(a, b, c)   c += a b by the whole team, see below; teams of 32 lanes only
//   before(n, total)        sum of the n of all lower ranks; total over the block
//   team_before(n, total)   the same over the team
//   tally(bins, b, counts)  one more in bins[b] of shared memory for each thread that counts;
//                           threads of a team with the same b add theirs together
//   add(p, n)               adds n to *p, where other threads and blocks may add too
//   shared<T>(n)            n uninitialised entries that the block shares; same calls in all
//   threads
//
// Calls of sync, sum, before and shared must be reached by all threads of the block, those of a
// team and tally by all of a team; tally and add order nothing, and are for integers, whose sums
// have no order. `cooperative = false` says that a kernel makes none of them.
//
// team_product multiplies tiles, a [16, 16] and b [16, 8] of bfloat16 into c [16, 8] of float: the
// mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 of the PTX ISA. Each lane holds a part, and
// `device/tiles.hpp` makes its words of two numbers. With g = lane / 4 and t = lane % 4:
//
//   uint32 a[4]   a(g, 2t .. 2t + 1), a(g + 8, 2t .. 2t + 1), a(g, 2t + 8 .. 2t + 9),
//                 a(g + 8, 2t + 8 .. 2t + 9)
//   uint32 b[2]   b(2t .. 2t + 1, g), b(2t + 8 .. 2t + 9, g)
//   float c[4]    c(g, 2t), c(g, 2t + 1), c(g + 8, 2t), c(g + 8, 2t + 1)
//
// Products are exact and summed in about single precision, in an order that the device chooses but
// that is always the same: an entry of c depends on its row of a and its column of b only.
namespace device_kernels {

PLMSCOPE_HD constexpr std::size_t at_most(std::size_t a, std::size_t b) noexcept {
  return a < b ? a : b;
}

constexpr std::size_t divide_up(std::size_t n, std::size_t by) noexcept {
  return (n + by - 1) / by;
}

/// f(row, col) for every entry of [rows, cols]. A block covers about a thousand entries, neighbours
/// in memory by neighbouring threads: a piece of one long row, or several short rows.
template <class F>
struct over_entries {
  static constexpr bool cooperative = false;
  static constexpr std::size_t entries_per_block = 1024;

  F f;
  std::size_t rows;
  std::size_t cols;
  std::size_t width;   ///< columns of a block
  std::size_t height;  ///< rows of a block

  over_entries(F what, std::size_t m, std::size_t n)
      : f(what),
        rows(m),
        cols(n),
        width(std::min(n, entries_per_block)),
        height(n >= entries_per_block ? 1 : entries_per_block / std::max<std::size_t>(n, 1)) {}

  std::size_t blocks() const noexcept {
    return rows == 0 || cols == 0 ? 0 : divide_up(rows, height) * divide_up(cols, width);
  }

  template <class Group>
  PLMSCOPE_HD void operator()(Group& g) const {
    const std::size_t pieces = (cols + width - 1) / width;
    const std::size_t row = g.index() / pieces * height;
    const std::size_t col = g.index() % pieces * width;
    const auto n = static_cast<unsigned>(at_most(width, cols - col));
    const auto count = static_cast<unsigned>(at_most(height, rows - row)) * n;
    for (unsigned i = g.rank(); i < count; i += g.size()) f(row + i / n, col + i % n);
  }
};

}  // namespace device_kernels
}  // namespace plmscope::inline PLMSCOPE_ABI
