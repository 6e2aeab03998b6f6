// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/backend/device/group.hpp>
#include <plmscope/backend/device/radix_select.hpp>
#include <plmscope/backend/device/select.hpp>
#include <plmscope/backend/device/sparse.hpp>

#include <cstddef>
#include <cstdint>

namespace plmscope::inline PLMSCOPE_ABI {
namespace device_kernels {

/// How many entries of a row pass a bound (see `keep_above` on the page of primitives), or where
/// they go: one block per row, twice over the row, because places are known when all are counted.
template <class C, class Order>
struct rows_above {
  using Real = typename C::value_type;

  C pre, bound;
  std::int64_t* offsets;  ///< of the first of these rows
  std::uint32_t* ids;     ///< absent: count
  Real* values;

  template <class Group>
  PLMSCOPE_HD void operator()(Group& g) const {
    const Real* row = pre.row_data(g.index());
    const auto n = static_cast<unsigned>(pre.cols());
    if (ids == nullptr) {
      unsigned count = 0;
      for (unsigned i = g.rank(); i < n; i += g.size()) count += passes(row[i], i) ? 1u : 0u;
      count = g.sum(count);
      if (g.rank() == 0) offsets[g.index() + 1] = static_cast<std::int64_t>(count);
      return;
    }
    const auto begin = static_cast<std::size_t>(offsets[g.index()]);
    unsigned count = 0;
    for_each_in_order<4>(
        g, n, [&](unsigned i) { return passes(row[i], i); },
        [&](unsigned i, unsigned place) {
          ids[begin + place] = i;
          values[begin + place] = row[i];
        },
        count);
  }

 private:
  PLMSCOPE_HD bool passes(Real a, unsigned i) const noexcept {
    const Real key = Order::key(a);
    if (key != key || !Order::keep(a)) return false;
    return bound.empty() || key > bound.data()[bound.cols() == 1 ? 0 : i];
  }
};

// The n largest of a batch. No list of candidates exists: the n-th largest key is found digit by
// digit, each from one pass over everything that competes, and then what reaches it is written.

/// What competes: rows of codes, then rows of pre-activations. The key of what may not be kept is
/// 0.
template <class C, class Order>
struct batch_rows {
  using Real = typename C::value_type;
  using bits = typename ordered_bits<Real>::type;

  code_rows<Real> codes;
  std::size_t code_count;
  C pre;

  PLMSCOPE_HD std::size_t rows() const noexcept { return code_count + pre.rows(); }
  PLMSCOPE_HD unsigned entries(std::size_t r) const noexcept {
    return static_cast<unsigned>(
        r < code_count ? static_cast<std::size_t>(codes.offsets[r + 1] - codes.offsets[r])
                       : pre.cols());
  }
  PLMSCOPE_HD const Real* values(std::size_t r) const noexcept {
    return r < code_count ? codes.values + codes.offsets[r] : pre.row_data(r - code_count);
  }
  PLMSCOPE_HD std::uint32_t id(std::size_t r, unsigned e) const noexcept {
    return r < code_count ? codes.ids[codes.offsets[r] + e] : e;
  }
  PLMSCOPE_HD static bits key(Real v) noexcept {
    return Order::keep(v) ? ordered_bits<Real>::of(Order::key(v)) : bits{0};
  }
};

/// Adds to counts[digit] how many keys of a block's rows have this digit above bit `shift` and
/// share all higher ones with `found`.
template <class Rows>
struct count_digits {
  Rows all;
  unsigned shift;
  std::size_t blocks;
  const typename Rows::bits* found;
  std::uint64_t* counts;  ///< [digit_values]

  static constexpr std::size_t shared_bytes = digit_values * sizeof(unsigned);

  template <class Group>
  PLMSCOPE_HD void operator()(Group& g) const {
    unsigned* const of_block = g.template shared<unsigned>(digit_values);
    for (unsigned i = g.rank(); i < digit_values; i += g.size()) of_block[i] = 0;
    g.sync();
    const typename Rows::bits known = *found;
    for (std::size_t r = g.index(); r < all.rows(); r += blocks) {
      const auto* values = all.values(r);
      tally_digits(g, of_block, all.entries(r), known, shift,
                   [&](unsigned e) { return Rows::key(values[e]); });
    }
    g.sync();
    for (unsigned i = g.rank(); i < digit_values; i += g.size()) {
      if (of_block[i] > 0) g.add(counts + i, of_block[i]);
    }
  }
};

/// Sets this digit of `found` to that of the n-th largest key; by one block. `left` is how many of
/// the keys that share the digits so far are still wanted. Where there are fewer than n keys,
/// `found` stays 0.
template <class Bits>
struct find_digit {
  unsigned shift;
  std::uint64_t* counts;  ///< left at 0
  std::uint64_t* left;
  Bits* found;

  template <class Group>
  PLMSCOPE_HD void operator()(Group& g) const {
    if (g.team() != 0) return;
    // Lane 0 alone reads what it writes below: nothing orders the memory of a team's lanes.
    const std::uint64_t want = g.team_from(g.lane() == 0 ? *left : std::uint64_t{0}, 0);
    const auto choice = choose_digit(g, counts, want);
    if (g.lane() != 0) return;
    *found |= static_cast<Bits>(Bits{choice.digit} << shift);
    *left -= choice.above;
  }
};

/// Of how many entries before a row the n-th largest is smaller, and with how many it is equal.
struct batch_ranks {
  std::int64_t* above;  ///< [rows + 1]
  std::int64_t* equal;  ///< [rows + 1]
  std::size_t rows;
  std::size_t n;

  /// The place of an entry with so many larger and so many equal ones before it: of the equal ones
  /// the first stay.
  PLMSCOPE_HD std::size_t place(std::size_t larger, std::size_t equals) const noexcept {
    return larger + at_most(equals, equals_that_stay());
  }
  PLMSCOPE_HD std::size_t equals_that_stay() const noexcept {
    return n - static_cast<std::size_t>(above[rows]);
  }
  /// Entries that stay in the rows before row r.
  PLMSCOPE_HD std::size_t offset(std::size_t r) const noexcept {
    return place(static_cast<std::size_t>(above[r]), static_cast<std::size_t>(equal[r]));
  }
};

/// above[r + 1] and equal[r + 1] of each row by itself; running sums make them ranks.
template <class Rows>
struct count_ranks {
  Rows all;
  const typename Rows::bits* found;
  batch_ranks ranks;

  template <class Group>
  PLMSCOPE_HD void operator()(Group& g) const {
    using bits = typename Rows::bits;
    const bits last = *found == 0 ? bits{1} : *found;  // fewer than n: all that may be kept
    const std::size_t r = g.index();
    const auto* values = all.values(r);
    unsigned larger = 0;
    unsigned equals = 0;
    for (unsigned e = g.rank(); e < all.entries(r); e += g.size()) {
      const bits b = Rows::key(values[e]);
      larger += b > last ? 1u : 0u;
      equals += b == last ? 1u : 0u;
    }
    larger = g.sum(larger);
    equals = g.sum(equals);
    if (g.rank() != 0) return;
    ranks.above[r + 1] = static_cast<std::int64_t>(larger);
    ranks.equal[r + 1] = static_cast<std::int64_t>(equals);
    if (r == 0) ranks.above[0] = ranks.equal[0] = 0;
  }
};

/// Writes what stays of each row, in order, side by side with the other rows.
template <class Rows>
struct write_ranked {
  using Real = typename Rows::Real;

  Rows all;
  const typename Rows::bits* found;
  batch_ranks ranks;
  std::uint32_t* ids;
  Real* values;

  template <class Group>
  PLMSCOPE_HD void operator()(Group& g) const {
    using bits = typename Rows::bits;
    constexpr unsigned run = 4;  // neighbours per thread and round
    const bits last = *found == 0 ? bits{1} : *found;
    const std::size_t r = g.index();
    if (ranks.offset(r) == ranks.offset(r + 1)) return;
    const Real* row = all.values(r);
    const unsigned n = all.entries(r);
    const std::size_t equals_that_stay = ranks.equals_that_stay();
    auto larger = static_cast<std::size_t>(ranks.above[r]);
    auto equals = static_cast<std::size_t>(ranks.equal[r]);
    for (unsigned first = 0; first < n; first += run * g.size()) {
      const unsigned begin = first + run * g.rank();
      bits key[run];
      unsigned both = 0;  // the larger ones, and 65536 times the equal ones: a round has fewer
      for (unsigned u = 0; u < run; ++u) {
        key[u] = begin + u < n ? Rows::key(row[begin + u]) : bits{0};
        both += key[u] > last ? 1u : key[u] == last ? 65536u : 0u;
      }
      unsigned round = 0;
      const unsigned lower = g.before(both, round);
      std::size_t larger_before = larger + lower % 65536;
      std::size_t equals_before = equals + lower / 65536;
      for (unsigned u = 0; u < run; ++u) {
        const bool tie = key[u] == last;
        if (key[u] > last || (tie && equals_before < equals_that_stay)) {
          const std::size_t place = ranks.place(larger_before, equals_before);
          ids[place] = all.id(r, begin + u);
          values[place] = row[begin + u];
        }
        larger_before += key[u] > last ? 1 : 0;
        equals_before += tie ? 1 : 0;
      }
      larger += round % 65536;
      equals += round / 65536;
    }
  }
};

}  // namespace device_kernels
}  // namespace plmscope::inline PLMSCOPE_ABI
