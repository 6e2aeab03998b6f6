// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/backend/device/group.hpp>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
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
  /// The real that has these bits; those below the lowest real's give that one.
  PLMSCOPE_HD static Real real(type ordered) noexcept {
    const type lowest = of(-std::numeric_limits<Real>::infinity());
    if (ordered < lowest) ordered = lowest;
    const type b =
        (ordered & sign) != 0 ? static_cast<type>(ordered ^ sign) : static_cast<type>(~ordered);
    Real key;
    std::memcpy(&key, &b, sizeof key);
    return key;
  }
};

// The want-th largest of many keys, digit by digit from the highest: count how often each value of
// a digit occurs, go down from the largest value to the one that holds the want-th key, and go on
// among the keys that have it. Keys are ordered bits; 0 (NaN) never counts.

inline constexpr unsigned digit_bits = 8;
inline constexpr unsigned digit_values = 1u << digit_bits;

/// Where the count of a digit stands. A lane adds up a run of neighbouring digits; this order puts
/// what the lanes of a team read at once side by side. Their number divides that of the digits.
template <class Group>
PLMSCOPE_HD unsigned place_of_digit(const Group& g, unsigned digit) noexcept {
  const unsigned run = digit_values / g.lanes();
  return digit % run * g.lanes() + digit / run;
}

/// Adds to `counts`, in shared memory, the digits above bit `shift` of those of n keys that share
/// all higher digits with `known`. The keys of activations have few exponents, so most threads of
/// a team meet at one count in the first rounds: `tally` lets a team add each digit once. The
/// thread of rank r reads the keys r, r + size, r + 2 size, ...
template <class Group, class Bits, class Key>
PLMSCOPE_HD void tally_digits(Group& g, unsigned* counts, unsigned n, Bits known, unsigned shift,
                              const Key& key_of) {
  constexpr unsigned run = 4;  // keys that a thread reads before it counts them
  for (unsigned first = 0; first < n; first += run * g.size()) {
    Bits key[run];
    for (unsigned u = 0; u < run; ++u) {
      const unsigned e = first + u * g.size() + g.rank();
      key[u] = e < n ? key_of(e) : Bits{0};
    }
    for (unsigned u = 0; u < run; ++u) {
      const auto digit = static_cast<unsigned>(key[u] >> shift) % digit_values;
      const bool shares = ((key[u] ^ known) >> shift) < digit_values;
      g.tally(counts, place_of_digit(g, digit), shares && key[u] != 0);
    }
  }
}

/// A digit by which the want-th largest key goes on, and how many of the keys have a larger one,
/// this one, or any. Where there are fewer than `want`, all but `total` is 0.
template <class Count>
struct chosen_digit {
  unsigned digit;
  Count above;
  Count here;
  Count total;
};

/// By one team, all of which gets the result; leaves zeros in `counts` for the next round.
template <class Group, class Count>
PLMSCOPE_HD chosen_digit<Count> choose_digit(Group& g, Count* counts, Count want) {
  const unsigned run = digit_values / g.lanes();
  const unsigned end = digit_values - g.lane() * run;  // the first lane has the largest digits
  Count mine = 0;
  for (unsigned digit = end; digit-- > end - run;) mine += counts[place_of_digit(g, digit)];
  Count total = 0;
  Count above = g.team_before(mine, total);
  chosen_digit<Count> found{0, 0, 0, total};
  for (unsigned digit = end; digit-- > end - run;) {
    Count& count = counts[place_of_digit(g, digit)];
    if (above < want && want - above <= count) found = {digit, above, count, total};
    above += count;
    count = 0;
  }
  return {g.team_sum(found.digit), g.team_sum(found.above), g.team_sum(found.here), total};
}

/// The want largest of some keys are those above `least`, and the first `equals` of those that are
/// it: all of them where that is `every`.
template <class Bits>
struct key_cut {
  static constexpr unsigned every = ~0u;
  Bits least;  ///< never 0
  unsigned equals;
};

/// Selection among the keys that a block sees. The counts are one histogram in shared memory,
/// which threads add to as they come: integers, so their order does not show. A round has two
/// waits: when all is counted, and when the first team has chosen the digit.
template <class Bits>
class radix_select {
 public:
  static constexpr unsigned digits = sizeof(Bits) * 8 / digit_bits;
  static constexpr std::size_t shared_bytes =
      digit_values * sizeof(unsigned) + sizeof(chosen_digit<unsigned>);

  /// A wait must follow.
  template <class Group>
  PLMSCOPE_HD explicit radix_select(Group& g)
      : counts_(g.template shared<unsigned>(digit_values)),
        chosen_(g.template shared<chosen_digit<unsigned>>(1)) {
    for (unsigned i = g.rank(); i < digit_values; i += g.size()) counts_[i] = 0;
  }

  /// Of n keys the `want` > 0 largest, as far as the first `rounds` digits tell; they are never
  /// fewer where there are as many keys. Ends early where the keys of a digit are just those that
  /// are still wanted (one key, often).
  template <class Group, class Key>
  PLMSCOPE_HD key_cut<Bits> operator()(Group& g, unsigned n, unsigned want, unsigned rounds,
                                       const Key& key_of) const {
    using cut = key_cut<Bits>;
    Bits known = 0;
    for (unsigned round = 1; round <= rounds; ++round) {
      const unsigned shift = (digits - round) * digit_bits;
      tally_digits(g, counts_, n, known, shift, key_of);
      g.sync();
      if (g.team() == 0) {
        const auto choice = choose_digit(g, counts_, want);
        if (g.lane() == 0) *chosen_ = choice;
      }
      g.sync();
      const chosen_digit<unsigned> choice = *chosen_;
      if (choice.total <= want) return {Bits{1}, cut::every};  // in the first round only
      known |= static_cast<Bits>(Bits{choice.digit} << shift);
      want -= choice.above;
      if (choice.here == want) return {known == 0 ? Bits{1} : known, cut::every};
    }
    return {known == 0 ? Bits{1} : known, want};
  }

 private:
  unsigned* counts_;
  chosen_digit<unsigned>* chosen_;
};

}  // namespace device_kernels
}  // namespace plmscope::inline PLMSCOPE_ABI
