// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/config.hpp>

#include <cmath>
#include <cstddef>
#include <cstdint>

namespace plmscope::inline PLMSCOPE_ABI {

// What `routed` does entry by entry. Matrices [m, n] have a column per block; the latents of block
// e are e w .. (e + 1) w - 1.
namespace routing {

/// Keeps gates finite where the chosen probabilities vanish, and logarithms where one does.
inline constexpr double epsilon = 1e-8;

/// chosen[i, e] = 1 for the blocks of a row.
template <class Real>
struct mark {
  Real* chosen;
  std::size_t blocks;
  PLMSCOPE_HD void operator()(std::size_t i, std::size_t, std::uint32_t e) const {
    chosen[i * blocks + e] = 1;
  }
};

/// Chosen probabilities of a row, as they are or over their sum.
template <class Real>
struct gate_rows {
  const Real* p;
  const Real* chosen;
  std::size_t blocks;
  bool share;
  Real* gates;
  PLMSCOPE_HD void operator()(std::size_t, std::size_t i) const {
    const std::size_t first = i * blocks;
    Real sum = share ? static_cast<Real>(epsilon) : Real{1};
    for (std::size_t e = first; share && e < first + blocks; ++e) sum += chosen[e] * p[e];
    for (std::size_t e = first; e < first + blocks; ++e) gates[e] = chosen[e] * p[e] / sum;
  }
};

/// Codes over the w latents of a block, one row for each entry of the routes, become parts of the
/// rows of codes over all latents.
template <class Real>
struct join_entries {
  const Real* values;
  const std::uint32_t* route;  ///< the block of a row
  std::size_t width;
  const std::int64_t* end;  ///< of the rows that are there
  std::uint32_t* to_ids;
  Real* to_values;
  PLMSCOPE_HD void operator()(std::size_t row, std::size_t entry, std::uint32_t f) const {
    const std::size_t to = static_cast<std::size_t>(*end) + entry;
    to_ids[to] = static_cast<std::uint32_t>(route[row] * width + f);
    to_values[to] = values[entry];
  }
};
struct join_rows {
  const std::int64_t* offsets;
  const std::int64_t* routes;  ///< where those of a row begin
  std::int64_t* end;
  PLMSCOPE_HD void operator()(std::size_t, std::size_t i) const {
    end[i + 1] = *end + offsets[routes[i + 1]];
  }
};

/// a -> g a, and a is kept.
template <class Real>
struct open_gates {
  Real* values;
  const Real* gates;
  std::size_t blocks;
  std::size_t width;
  Real* raw;
  PLMSCOPE_HD void operator()(std::size_t i, std::size_t e, std::uint32_t f) const {
    raw[e] = values[e];
    values[e] *= gates[i * blocks + f / width];
  }
};

/// dz -> g dz, and what the entry adds to the derivative with respect to its gate.
template <class Real>
struct close_gates {
  const Real* raw;
  const Real* gates;
  std::size_t blocks;
  std::size_t width;
  Real* dz;
  Real* to_gate;
  PLMSCOPE_HD void operator()(std::size_t i, std::size_t e, std::uint32_t f) const {
    to_gate[e] = dz[e] * raw[e];
    dz[e] *= gates[i * blocks + f / width];
  }
};

/// balance n sum_e f_e mean_i p_ie - entropy mean_i H(p_i), as a sum over entries, and its slope.
template <class Real>
struct balance_loss {
  const Real* p;
  const Real* used;  ///< [1, n] rows that chose the block
  std::size_t rows;
  std::size_t blocks;
  double balance;
  double entropy;
  Real* loss;
  Real* slope;
  PLMSCOPE_HD void operator()(std::size_t i, std::size_t e) const {
    using std::log;
    const auto m = static_cast<Real>(rows);
    const std::size_t at = i * blocks + e;
    const Real even = static_cast<Real>(balance) * static_cast<Real>(blocks) * used[e] / m / m;
    const Real c = static_cast<Real>(entropy) / m;
    const Real q = p[at] + static_cast<Real>(epsilon);
    loss[at] = p[at] * (even + c * log(q));
    slope[at] = even + c * (log(q) + p[at] / q);
  }
};

/// d: in, with respect to the gates; out, with respect to the probabilities.
template <class Real>
struct pull_gates {
  const Real* p;
  const Real* chosen;
  const Real* gates;
  const Real* slope;
  std::size_t blocks;
  bool share;
  Real* d;
  PLMSCOPE_HD void operator()(std::size_t, std::size_t i) const {
    const std::size_t first = i * blocks;
    Real sum = share ? static_cast<Real>(epsilon) : Real{1};
    Real along = 0;
    for (std::size_t e = first; share && e < first + blocks; ++e) {
      sum += chosen[e] * p[e];
      along += chosen[e] * d[e] * gates[e];
    }
    for (std::size_t e = first; e < first + blocks; ++e) {
      d[e] = chosen[e] * (d[e] - along) / sum + slope[e];
    }
  }
};

}  // namespace routing
}  // namespace plmscope::inline PLMSCOPE_ABI
