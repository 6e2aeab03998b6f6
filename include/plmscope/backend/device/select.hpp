// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/backend/device/group.hpp>
#include <plmscope/backend/device/radix_select.hpp>

#include <cstddef>
#include <cstdint>
#include <limits>

namespace plmscope::inline PLMSCOPE_ABI {
namespace device_kernels {

/// Calls act(i, place) for the i in [0, n) that `test` accepts; places count from 0 in the order
/// of i. `total` is their number. A thread takes `Run` neighbours between two waits.
template <unsigned Run, class Group, class Test, class Act>
PLMSCOPE_HD void for_each_in_order(Group& g, unsigned n, const Test& test, const Act& act,
                                   unsigned& total) {
  static_assert(Run <= 32);
  total = 0;
  for (unsigned first = 0; first < n; first += Run * g.size()) {
    const unsigned begin = first + Run * g.rank();
    unsigned hit = 0;  // a bit each
    unsigned hits = 0;
    for (unsigned u = 0; u < Run; ++u) {
      const unsigned one = begin + u < n && test(begin + u) ? 1u : 0u;
      hit |= one << u;
      hits += one;
    }
    unsigned round = 0;
    unsigned place = total + g.before(hits, round);
    for (unsigned u = 0; hit != 0; ++u, hit >>= 1) {
      if ((hit & 1u) != 0) act(begin + u, place++);
    }
    total += round;
  }
}

/// Numbers that a thread moves at once.
template <class Real>
struct alignas(16) sixteen_bytes {
  static constexpr unsigned count = 16 / sizeof(Real);
  Real of[count];
};

/// The n numbers of a row in shared memory; a wait must follow. Without bounds of 16 bytes, where
/// rows have a stride of their own, numbers move one by one.
template <class Group, class Real>
PLMSCOPE_HD const Real* shared_copy(Group& g, const Real* row, unsigned n) {
  using piece = sixteen_bytes<Real>;
  constexpr unsigned run = 4;  // pieces that a thread reads before it writes them
  auto* const pieces = g.template shared<piece>((n + piece::count - 1) / piece::count);
  Real* const copy = pieces[0].of;
  unsigned done = 0;
  if (reinterpret_cast<std::uintptr_t>(row) % sizeof(piece) == 0) {
    const auto* const from = reinterpret_cast<const piece*>(row);
    const unsigned whole = n / piece::count;
    for (unsigned first = g.rank(); first < whole; first += run * g.size()) {
      piece some[run];
      for (unsigned u = 0; u < run; ++u) {
        if (first + u * g.size() < whole) some[u] = from[first + u * g.size()];
      }
      for (unsigned u = 0; u < run; ++u) {
        if (first + u * g.size() < whole) pieces[first + u * g.size()] = some[u];
      }
    }
    done = whole * piece::count;
  }
  for (unsigned i = done + g.rank(); i < n; i += g.size()) copy[i] = row[i];
  return copy;
}

/// The k largest entries of every row, one block per row, ids ascending, ties to the lower index,
/// NaN never. Selected entries go to slots of k per row, their number to `counts`.
///
/// 0. A row that fits is copied to shared memory: the only time that all of it is read.
/// 1. Maxima of strided groups of entries. The k-th largest of at least 2 k such maxima is never
///    above the k-th largest entry. What its first digits say is a bound: half of them and one, so
///    that numbers near each other keep apart.
/// 2. Entries that reach the bound are collected in order of index (few: about k).
/// 3. The k-th largest of those by radix select.
/// 4. What lies above it, then its equals from the lowest index on, are written in order.
/// Where there are no groups (short rows, k above 1,024) or too many entries reach the bound (equal
/// ones), steps 3 and 4 take the whole row.
template <class C, class Order>
struct top_k_rows {
  using Real = typename C::value_type;
  using bits = typename ordered_bits<Real>::type;
  using select = radix_select<bits>;

  C pre;
  unsigned k;       ///< 1 <= k <= cols
  unsigned groups;  ///< as groups_for says; 0: none. Room for as many entries that reach the bound.
  bool copies;      ///< rows to shared memory
  std::uint32_t* ids;
  Real* values;
  std::uint32_t* counts;

  /// A power of two, at least 2 k: of maxima of random entries, about 0.7 for each group reach the
  /// bound at the most.
  static unsigned groups_for(std::size_t k, std::size_t cols) noexcept {
    unsigned n = 256;
    while (n < 2 * k && n < 2048) n *= 2;
    return n < 2 * k || cols < 4 * std::size_t{n} ? 0 : n;
  }
  /// Bytes of shared memory of a block.
  static std::size_t shared_bytes(std::size_t cols, unsigned groups, bool copies) noexcept {
    using piece = sixteen_bytes<Real>;
    return (copies ? divide_up(cols, piece::count) * sizeof(piece) : 0) +
           groups * (sizeof(Real) + sizeof(std::uint32_t)) + select::shared_bytes;
  }

  template <class Group>
  PLMSCOPE_HD void operator()(Group& g) const {
    const Real* row = pre.row_data(g.index());
    if (copies) {
      // An odd number of neighbours per thread: those of a team read different banks.
      select_row<17>(g, shared_copy(g, row, static_cast<unsigned>(pre.cols())));
    } else {
      select_row<4>(g, row);
    }
  }

 private:
  /// Whether an entry competes. Where an order keeps the first ones, those that it does not keep
  /// need no rank: rows of zeros, but for a few entries, are no harder than others.
  PLMSCOPE_HD static bool competes(Real v) noexcept {
    if constexpr (requires { Order::keeps_the_first; }) {
      return Order::keep(v);
    } else {
      return true;
    }
  }
  PLMSCOPE_HD static bits key(Real v) noexcept {
    return competes(v) ? ordered_bits<Real>::of(Order::key(v)) : bits{0};
  }

  template <unsigned Run, class Group>
  PLMSCOPE_HD void select_row(Group& g, const Real* row) const {
    const auto n = static_cast<unsigned>(pre.cols());
    Real* const largest = g.template shared<Real>(groups);
    auto* const found = g.template shared<std::uint32_t>(groups);
    const select kth(g);
    g.sync();
    unsigned count = groups + 1;
    if (groups > 0) {
      const Real bound = lower_bound_of_kth(g, kth, row, n, largest);
      for_each_in_order<Run>(
          g, n, [&](unsigned i) { return Order::key(row[i]) >= bound && competes(row[i]); },
          [&](unsigned i, unsigned place) {
            if (place < groups) found[place] = i;
          },
          count);
      g.sync();
    }
    if (count <= groups) {
      write(g, kth, row, count, [&](unsigned e) { return found[e]; });
    } else {
      write(g, kth, row, n, [](unsigned e) { return e; });
    }
  }

  template <class Group>
  PLMSCOPE_HD Real lower_bound_of_kth(Group& g, const select& kth, const Real* row, unsigned n,
                                      Real* largest) const {
    for (unsigned i = g.rank(); i < groups; i += g.size()) {
      Real most = -std::numeric_limits<Real>::infinity();  // below it is only NaN
      for (unsigned j = i; j < n; j += groups) {
        const Real v = Order::key(row[j]);
        most = v > most ? v : most;
      }
      largest[i] = most;
    }
    // No wait: a thread reads what it has written (see tally_digits).
    const auto cut = kth(g, groups, k, select::digits / 2 + 1,
                         [&](unsigned i) { return ordered_bits<Real>::of(largest[i]); });
    return ordered_bits<Real>::real(cut.least);
  }

  /// Steps 3 and 4 over n entries in order of index.
  template <class Group, class Id>
  PLMSCOPE_HD void write(Group& g, const select& kth, const Real* row, unsigned n,
                         const Id& id_of) const {
    const auto cut = kth(g, n, k, select::digits, [&](unsigned e) { return key(row[id_of(e)]); });
    const std::size_t base = g.index() * k;
    unsigned seen = 0;     // equals before this round
    unsigned written = 0;  // entries before this round
    for (unsigned first = 0; first < n; first += g.size()) {
      const unsigned e = first + g.rank();
      const std::uint32_t id = e < n ? id_of(e) : 0;
      const Real v = row[id];
      const bits b = e < n ? key(v) : bits{0};
      bool chosen = b >= cut.least;
      if (cut.equals != cut.every) {
        unsigned equal_here = 0;
        const unsigned rank_among_equals = seen + g.before(b == cut.least ? 1u : 0u, equal_here);
        chosen = b > cut.least || (b == cut.least && rank_among_equals < cut.equals);
        seen += equal_here;
      }
      const bool kept = chosen && Order::keep(v);
      unsigned kept_here = 0;
      const unsigned place = written + g.before(kept ? 1u : 0u, kept_here);
      if (kept) {
        ids[base + place] = id;
        values[base + place] = v;
      }
      written += kept_here;
    }
    if (g.rank() == 0) counts[g.index()] = written;
  }
};

/// Rows of up to k selected entries, from slots into compressed rows. `offsets` has the position of
/// the first of these rows in front.
template <class Real>
struct close_up_rows {
  static constexpr bool cooperative = false;
  const std::uint32_t* slot_ids;
  const Real* slot_values;
  std::size_t k;
  const std::int64_t* offsets;
  std::uint32_t* ids;
  Real* values;

  template <class Group>
  PLMSCOPE_HD void operator()(Group& g) const {
    const auto begin = static_cast<std::size_t>(offsets[g.index()]);
    const auto n = static_cast<std::size_t>(offsets[g.index() + 1]) - begin;
    for (std::size_t e = g.rank(); e < n; e += g.size()) {
      ids[begin + e] = slot_ids[g.index() * k + e];
      values[begin + e] = slot_values[g.index() * k + e];
    }
  }
};

}  // namespace device_kernels
}  // namespace plmscope::inline PLMSCOPE_ABI
