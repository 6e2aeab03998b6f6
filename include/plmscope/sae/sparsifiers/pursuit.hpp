// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/backend/primitives.hpp>
#include <plmscope/core/error.hpp>
#include <plmscope/core/view.hpp>
#include <plmscope/sae/rules.hpp>
#include <plmscope/tensor/codes.hpp>
#include <plmscope/tensor/codes_by_feature.hpp>
#include <plmscope/tensor/codes_view.hpp>
#include <plmscope/tensor/matrix.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <type_traits>
#include <vector>

namespace plmscope::inline PLMSCOPE_ABI {

// What pursuits have in common. They make codes in rounds, one latent a row in each: round t is
// codes with at most one entry a row, and the rounds of a row together are its code.
namespace pursuit {

/// to[row, f] += value, for one round.
template <class Real>
struct add_round {
  const Real* values;
  std::size_t features;
  Real* to;
  PLMSCOPE_HD void operator()(std::size_t row, std::size_t e, std::uint32_t f) const {
    to[row * features + f] += values[e];
  }
};

/// The derivatives of the code's entries, for the entries of a round; 0 for one that takes no part.
template <class Real>
struct look_up {
  const std::int64_t* offsets;  ///< of the code
  const std::uint32_t* ids;
  const Real* dz;
  const Real* values;  ///< of the round
  Real* out;           ///< dz
  Real* minus;         ///< -value
  PLMSCOPE_HD void operator()(std::size_t row, std::size_t e, std::uint32_t f) const {
    std::int64_t low = offsets[row], high = offsets[row + 1];
    while (low < high) {
      const std::int64_t middle = low + (high - low) / 2;
      if (ids[middle] < f)
        low = middle + 1;
      else
        high = middle;
    }
    const bool there = low < offsets[row + 1] && ids[low] == f && values[e] != Real{0};
    out[e] = there ? dz[low] : Real{0};
    minus[e] = -values[e];
  }
};

template <class B>
using rounds_of = std::vector<codes<B>>;

/// Rounds of no rows.
template <class B>
void clear(B& be, rounds_of<B>& rounds, std::size_t k, std::size_t features) {
  rounds.resize(k);
  for (auto& r : rounds) r.clear(be, features);
}

/// The last `rows` rows of a round.
template <class B>
codes_view<B> last_rows(const codes<B>& round, std::size_t rows) {
  return codes_view<B>(round).with_rows(round.offsets() + round.rows() - rows, rows);
}

/// Appends the codes of the last `rows` rows of the rounds. `dense` [rows, F] is workspace.
template <class B>
void join(B& be, const rounds_of<B>& rounds, std::size_t rows, std::size_t features,
          matrix<typename B::real, B>& dense, codes<B>& out) {
  using real = typename B::real;
  dense.reshape(be, rows, features);
  be.fill(dense.all(), real{0});
  for (const auto& r : rounds) {
    be.each_entry(last_rows(r, rows), add_round<real>{r.values(), features, dense.data()});
  }
  be.top_k_rows(const_view<B>(dense), rounds.size(), by_magnitude{}, out);
}

/// gradient[f] += sum of a_e x[row_e] + b_e y[row_e] over the entries of a round.
template <class B>
void add_outer(B& be, const codes<B>& round, codes_by_feature<B>& by_feature, const_view<B> a,
               const_view<B> x, const_view<B> b, const_view<B> y, view<B> gradient) {
  using real = typename B::real;
  be.transpose(round, by_feature);
  be.sparse_backward(by_feature, a, a, x, x, gradient, view<B>(), view<B>(), real{1});
  be.sparse_backward(by_feature, b, b, y, y, gradient, view<B>(), view<B>(), real{1});
}

/// Moves the derivatives of the code's entries to `dz`: rounds need those of each other, and
/// nothing flows on along the list.
template <class B>
void take_over(B& be, view<B> list, matrix<typename B::real, B>& dz) {
  dz.reshape(be, 1, std::max<std::size_t>(list.cols(), 1));
  be.copy(const_view<B>(list), dz.all().col_range(0, list.cols()));
  be.fill(list, typename B::real{0});
}

/// Refuses (`sae_options`) an SAE that a pursuit of k rounds cannot encode for.
template <class Options>
void check(const char* where, std::size_t k, std::size_t most, const Options& o) {
  const auto refuse = [&](const std::string& expected, const std::string& found) {
    throw error(rules::sae_options, {.where = where, .expected = expected, .found = found});
  };
  using lengths = std::remove_cvref_t<decltype(o.lengths)>;
  if (k == 0 || k > most) refuse("1 to " + std::to_string(most) + " rounds", std::to_string(k));
  if (o.transcodes) refuse("rows that come out as they came in", "a transcoder");
  if (o.lengths == lengths::rank) refuse("lengths free or in the codes", "selection by lengths");
}

}  // namespace pursuit
}  // namespace plmscope::inline PLMSCOPE_ABI
