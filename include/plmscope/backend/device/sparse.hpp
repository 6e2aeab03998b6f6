// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/backend/device/group.hpp>

#include <cstddef>
#include <cstdint>

namespace plmscope::inline PLMSCOPE_ABI {
namespace device_kernels {

// Kernels over sparse codes, one block per row. Latent directions are whole rows of [F, d]: all
// threads of a block read one row side by side.

/// Sparse codes as a kernel sees them.
template <class Real>
struct code_rows {
  const std::int64_t* offsets;
  const std::uint32_t* ids;
  const Real* values;
};

/// Entries of a row in shared memory, a piece at a time.
inline constexpr unsigned staged_entries = 256;

/// acc[j] = bias[j] + sum over the entries of a row of value * dictionary[id, j]; use(j, acc).
template <class Group, class Real, class C, class Use>
PLMSCOPE_HD void decode_row(Group& g, const code_rows<Real>& z, std::size_t row, C dictionary,
                            C bias, std::uint32_t* ids, Real* values, const Use& use) {
  const std::int64_t begin = z.offsets[row];
  const auto n = static_cast<unsigned>(z.offsets[row + 1] - begin);
  const std::size_t d = dictionary.cols();
  constexpr unsigned columns = 4;  // of a thread
  for (std::size_t first = 0; first < d; first += columns * g.size()) {
    Real acc[columns];
    for (unsigned u = 0; u < columns; ++u) {
      const std::size_t j = first + u * g.size() + g.rank();
      acc[u] = j < d && !bias.empty() ? bias.data()[j] : Real{0};
    }
    for (unsigned e = 0; e < n; e += staged_entries) {
      const unsigned piece = n - e < staged_entries ? n - e : staged_entries;
      g.sync();
      for (unsigned i = g.rank(); i < piece; i += g.size()) {
        ids[i] = z.ids[begin + e + i];
        values[i] = z.values[begin + e + i];
      }
      g.sync();
      for (unsigned i = 0; i < piece; ++i) {
        const Real* direction = dictionary.row_data(ids[i]);
        for (unsigned u = 0; u < columns; ++u) {
          const std::size_t j = first + u * g.size() + g.rank();
          if (j < d) acc[u] += values[i] * direction[j];
        }
      }
    }
    for (unsigned u = 0; u < columns; ++u) {
      const std::size_t j = first + u * g.size() + g.rank();
      if (j < d) use(j, acc[u]);
    }
  }
}

template <class Real>
constexpr std::size_t staged_bytes() noexcept {
  return staged_entries * (sizeof(Real) + sizeof(std::uint32_t));
}

template <class Real, class C, class V>
struct decode {
  code_rows<Real> z;
  C dictionary, bias;
  V out;

  template <class Group>
  PLMSCOPE_HD void operator()(Group& g) const {
    Real* const values = g.template shared<Real>(staged_entries);
    auto* const ids = g.template shared<std::uint32_t>(staged_entries);
    Real* to = out.row_data(g.index());
    decode_row(g, z, g.index(), dictionary, bias, ids, values,
               [&](std::size_t j, Real v) { to[j] = v; });
  }
};

/// dz_e = <gradient[row], dictionary[id_e]>: a team per entry. The gradient row was written by this
/// block or before.
template <class Group, class Real, class C>
PLMSCOPE_HD void dot_entries(Group& g, const code_rows<Real>& z, std::size_t row,
                             const Real* gradient, C dictionary, Real* dz) {
  for (std::int64_t e = z.offsets[row] + g.team(); e < z.offsets[row + 1]; e += g.teams()) {
    const Real* direction = dictionary.row_data(z.ids[e]);
    Real sum = 0;
    for (std::size_t j = g.lane(); j < dictionary.cols(); j += g.lanes()) {
      sum += gradient[j] * direction[j];
    }
    sum = g.team_sum(sum);
    if (g.lane() == 0) dz[e] = sum;
  }
}

template <class Real, class C, class V>
struct sampled_dot {
  code_rows<Real> z;
  C gradient, dictionary;
  V dz;

  template <class Group>
  PLMSCOPE_HD void operator()(Group& g) const {
    dot_entries(g, z, g.index(), gradient.row_data(g.index()), dictionary, dz.data());
  }
};

/// Decode, loss and pull-back in one visit of the row (see the page of primitives).
template <class Real, class C, class V, class RowLoss>
struct reconstruct {
  code_rows<Real> z;
  C dictionary, bias, target;
  RowLoss loss;
  V gradient, dz, rows;

  template <class Group>
  PLMSCOPE_HD void operator()(Group& g) const {
    Real* const values = g.template shared<Real>(staged_entries);
    auto* const ids = g.template shared<std::uint32_t>(staged_entries);
    const std::size_t r = g.index();
    Real* error = gradient.row_data(r);
    const Real* y = target.row_data(r);
    Real squares = 0;
    decode_row(g, z, r, dictionary, bias, ids, values, [&](std::size_t j, Real v) {
      error[j] = v - y[j];
      squares += error[j] * error[j];
    });
    squares = g.sum(squares);
    const Real slope = loss.slope(r, squares);
    if (g.rank() == 0) {
      rows.row_data(0)[r] = squares;
      rows.row_data(1)[r] = loss.value(r, squares);
      rows.row_data(2)[r] = slope;
    }
    for (std::size_t j = g.rank(); j < dictionary.cols(); j += g.size()) error[j] *= slope;
    g.sync();
    dot_entries(g, z, r, error, dictionary, dz.data());
  }
};

/// keys[e] = feature of entry e and rows[e] = its row, for entries in use; the rest of the
/// `entries` that there may be gets the key `features`, behind all others.
template <class Real>
struct label_entries {
  static constexpr bool cooperative = false;
  code_rows<Real> z;
  std::size_t row_count;
  std::size_t entries;
  std::uint32_t features;
  std::uint32_t* keys;
  std::uint32_t* rows;

  template <class Group>
  PLMSCOPE_HD void operator()(Group& g) const {
    std::size_t begin = static_cast<std::size_t>(z.offsets[g.index()]);
    if (g.index() == row_count) {  // one block more than rows: the unused end
      for (std::size_t e = begin + g.rank(); e < entries; e += g.size()) keys[e] = features;
      return;
    }
    const auto end = static_cast<std::size_t>(z.offsets[g.index() + 1]);
    for (std::size_t e = begin + g.rank(); e < end; e += g.size()) {
      keys[e] = z.ids[e];
      rows[e] = static_cast<std::uint32_t>(g.index());
    }
  }
};

}  // namespace device_kernels
}  // namespace plmscope::inline PLMSCOPE_ABI
