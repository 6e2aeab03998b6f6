// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/backend/device/group.hpp>
#include <plmscope/backend/device/sums.hpp>

#include <cstddef>

namespace plmscope::inline PLMSCOPE_ABI {
namespace device_kernels {

/// out[j] = keep out[j] + alpha sum over rows of term(row, j).
template <class Device, class V, class Term, class Real>
void launch_column_sums(Device& be, std::size_t row_count, V out, Term term, Real keep,
                        Real alpha) {
  using kernel = column_partials<Term>;
  const std::size_t tiles = divide_up(row_count, kernel::tile);
  const std::size_t cols = out.cols();
  auto sums = be.template scratch<double>(tiles * cols);
  double* const partial = sums.get();
  const kernel over_tiles{term, partial, row_count, cols};
  be.launch(over_tiles.blocks(), 0, over_tiles);
  be.entries(1, cols, [=] PLMSCOPE_DEVICE(std::size_t, std::size_t c) {
    double sum = 0;
    for (std::size_t t = 0; t < tiles; ++t) sum += partial[t * cols + c];
    const Real scaled = alpha * static_cast<Real>(sum);
    out.data()[c] = keep == Real{0} ? scaled : keep * out.data()[c] + scaled;
  });
}

/// slot += sum of term over the entries of a matrix of the shape of x.
template <class Device, class C, class Slot, class Term>
void launch_entry_sum(Device& be, C x, Slot slot, Term term) {
  if (x.empty()) return;
  entry_partials<Term> over_runs{term, nullptr, x.rows(), x.cols()};
  auto partial = be.template scratch<double>(over_runs.blocks());
  over_runs.partial = partial.get();
  constexpr std::size_t shared_bytes = 256 * sizeof(double);
  be.launch(over_runs.blocks(), shared_bytes, over_runs);
  be.launch(1, shared_bytes, add_partials{partial.get(), over_runs.blocks(), slot.data()});
}

}  // namespace device_kernels
}  // namespace plmscope
