// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/backend/device/group.hpp>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

namespace plmscope::inline PLMSCOPE_ABI {
namespace device_kernels {

/// Integers that order as the reals do; NaN is below everything and 0 is below the lowest real.
template <class Real>
struct ordered_bits {
  using type = std::conditional_t<sizeof(Real) == 4, std::uint32_t, std::uint64_t>;
  static constexpr unsigned width = 8 * sizeof(Real);
  static constexpr type sign = type{1} << (width - 1);

  PLMSCOPE_HD static type of(Real key) noexcept {
    if (key != key) return 0;
    type b;
    key = key == Real{0} ? Real{0} : key;  // -0 and 0 are equal
    std::memcpy(&b, &key, sizeof b);
    return (b & sign) != 0 ? static_cast<type>(~b) : static_cast<type>(b | sign);
  }
  /// The real that has these bits; none has 0.
  PLMSCOPE_HD static Real real(type ordered) noexcept {
    const type b = (ordered & sign) != 0 ? static_cast<type>(ordered ^ sign)
                                         : static_cast<type>(~ordered);
    Real key;
    std::memcpy(&key, &b, sizeof key);
    return key;
  }
};

/// Calls act(i, place) for the i in [0, n) that `test` accepts; places count from 0 in the order
/// of i. `total` is their number.
template <class Group, class Test, class Act>
PLMSCOPE_HD void for_each_in_order(Group& g, unsigned n, const Test& test, const Act& act,
                                   unsigned& total) {
  constexpr unsigned run = 4;  // neighbours per thread and round
  total = 0;
  for (unsigned first = 0; first < n; first += run * g.size()) {
    const unsigned begin = first + run * g.rank();
    bool hit[run];
    unsigned hits = 0;
    for (unsigned u = 0; u < run; ++u) {
      hit[u] = begin + u < n && test(begin + u);
      hits += hit[u] ? 1u : 0u;
    }
    unsigned round = 0;
    unsigned place = total + g.before(hits, round);
    for (unsigned u = 0; u < run; ++u) {
      if (hit[u]) act(begin + u, place++);
    }
    total += round;
  }
}

/// The k largest entries of every row, one block per row, ids ascending, ties to the lower index,
/// NaN never. Selected entries go to slots of k per row, their number to `counts`.
///
/// 1. Every thread keeps the maxima of a few strided groups. The k-th largest of at least 2 k such
///    maxima is never above the k-th largest entry: a bound from one pass over the row.
/// 2. Entries that reach the bound are collected in order of index (few: about k).
/// 3. The k-th largest of those by bisection on ordered bit patterns; counting needs no atomic.
/// 4. What lies above it, then its equals from the lowest index on, are written in order.
/// Where too many entries reach the bound (equal rows), steps 3 and 4 read the row itself.
template <class C, class Order>
struct top_k_rows {
  using Real = typename C::value_type;
  using bits = typename ordered_bits<Real>::type;
  static constexpr unsigned collected = 1536;  ///< room for entries that reach the bound
  static constexpr unsigned maxima = 2048;

  C pre;
  unsigned k;  ///< 1 <= k <= cols
  std::uint32_t* ids;
  Real* values;
  std::uint32_t* counts;

  /// Bytes of shared memory of a block.
  static constexpr std::size_t shared_bytes() noexcept {
    return maxima * sizeof(bits) + collected * (sizeof(bits) + sizeof(std::uint32_t));
  }

  template <class Group>
  PLMSCOPE_HD void operator()(Group& g) const {
    const Real* row = pre.row_data(g.index());
    const auto n = static_cast<unsigned>(pre.cols());
    bits* const keys = g.template shared<bits>(collected);
    auto* const found = g.template shared<std::uint32_t>(collected);
    const bits bound = lower_bound_of_kth(g, row, n, g.template shared<bits>(maxima));

    unsigned count = 0;
    for_each_in_order(
        g, n, [&](unsigned i) { return key(row[i]) >= bound; },
        [&](unsigned i, unsigned place) {
          if (place < collected) {
            keys[place] = key(row[i]);
            found[place] = i;
          }
        },
        count);
    g.sync();
    if (count <= collected) {
      write(
          g, row, count, [&](unsigned e) { return keys[e]; }, [&](unsigned e) { return found[e]; });
    } else {
      write(g, row, n, [&](unsigned e) { return key(row[e]); }, [](unsigned e) { return e; });
    }
  }

 private:
  PLMSCOPE_HD static bits key(Real v) noexcept { return ordered_bits<Real>::of(Order::key(v)); }

  /// The largest b with at least `want` of keys [0, n) >= b. NaN (0) never counts: b >= 1.
  template <class Group, class Key>
  PLMSCOPE_HD static bits kth_largest(Group& g, unsigned n, unsigned want, const Key& at_index) {
    bits b = 0;
    for (unsigned bit = ordered_bits<Real>::width; bit-- > 0;) {
      const bits higher = b | (bits{1} << bit);
      unsigned reach = 0;
      for (unsigned i = g.rank(); i < n; i += g.size()) reach += at_index(i) >= higher ? 1u : 0u;
      if (g.sum(reach) >= want) b = higher;
    }
    return b == 0 ? bits{1} : b;
  }

  template <class Group>
  PLMSCOPE_HD bits lower_bound_of_kth(Group& g, const Real* row, unsigned n, bits* best) const {
    unsigned groups = 256;
    while (groups < 2 * k) groups *= 2;
    if (groups > maxima || n < 4 * groups) return 1;
    for (unsigned i = g.rank(); i < groups; i += g.size()) {
      bits largest = 0;
      for (unsigned j = i; j < n; j += groups) {
        const bits b = key(row[j]);
        largest = b > largest ? b : largest;
      }
      best[i] = largest;
    }
    g.sync();
    const bits bound = kth_largest(g, groups, k, [&](unsigned i) { return best[i]; });
    g.sync();
    return bound;
  }

  /// Steps 3 and 4 over n entries in order of index.
  template <class Group, class Key, class Id>
  PLMSCOPE_HD void write(Group& g, const Real* row, unsigned n, const Key& key_of,
                         const Id& id_of) const {
    const bits last = kth_largest(g, n, k, key_of);
    unsigned above = 0;
    for (unsigned e = g.rank(); e < n; e += g.size()) above += key_of(e) > last ? 1u : 0u;
    const unsigned equals = k - g.sum(above);  // of the entries equal to the last, the first ones

    const std::size_t base = g.index() * k;
    unsigned seen = 0;     // equals before this round
    unsigned written = 0;  // entries before this round
    for (unsigned first = 0; first < n; first += g.size()) {
      const unsigned e = first + g.rank();
      const bits b = e < n ? key_of(e) : bits{0};
      unsigned equal_here = 0;
      const unsigned rank_among_equals = seen + g.before(b == last ? 1u : 0u, equal_here);
      const bool chosen = b > last || (b == last && rank_among_equals < equals);
      const bool kept = chosen && Order::keep(row[id_of(e)]);
      unsigned kept_here = 0;
      const unsigned place = written + g.before(kept ? 1u : 0u, kept_here);
      if (kept) {
        ids[base + place] = id_of(e);
        values[base + place] = row[id_of(e)];
      }
      seen += equal_here;
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
