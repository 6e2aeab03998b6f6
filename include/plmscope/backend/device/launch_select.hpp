// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/backend/device/batch_select.hpp>
#include <plmscope/backend/device/group.hpp>
#include <plmscope/backend/device/launch_sparse.hpp>
#include <plmscope/backend/device/prefixes.hpp>
#include <plmscope/backend/device/select.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>

namespace plmscope::inline PLMSCOPE_ABI {
namespace device_kernels {

/// How many entries pass stays on the device, so `out` makes room for all of them.
template <class Order, class Device, class C, class Codes>
void launch_keep_above(Device& be, C pre, C bound, Codes& out) {
  const std::size_t rows = pre.rows();
  out.reserve_more(be, rows, pre.size());
  std::int64_t* const offsets = out.offsets() + out.rows();
  using kernel = rows_above<C, Order>;
  be.launch(rows, 0, kernel{pre, bound, offsets, nullptr, nullptr});
  if (rows > 0) be.runtime().running_sum(offsets, rows + 1);
  be.launch(pre.empty() ? 0 : rows, 0, kernel{pre, bound, offsets, out.ids(), out.values()});
  out.append(rows, pre.size());
}

template <class Device, class C, class Codes>
void launch_group_max(Device& be, C pre, std::size_t groups, bool zeros, Codes& out) {
  using Real = typename C::value_type;
  const std::size_t rows = pre.rows();
  const std::size_t most = rows * groups;
  out.reserve_more(be, rows, most);
  if (rows == 0) return;
  std::int64_t* const offsets = out.offsets() + out.rows();
  auto counts = be.template scratch<std::uint32_t>(rows);
  auto ids = be.template scratch<std::uint32_t>(most);
  auto values = be.template scratch<Real>(most);
  be.entries(1, rows, group_max<C>{pre, groups, zeros, ids.get(), values.get(), counts.get()});
  const std::uint32_t* const n = counts.get();
  be.entries(1, rows, [=] PLMSCOPE_DEVICE(std::size_t, std::size_t r) {
    offsets[r + 1] = static_cast<std::int64_t>(n[r]);
  });
  be.runtime().running_sum(offsets, rows + 1);
  be.launch(rows, 0,
            close_up_rows<Real>{ids.get(), values.get(), groups, offsets, out.ids(), out.values()});
  out.append(rows, most);
}

template <class Device, class Codes, class Ends, class Offsets>
void launch_split_rows(Device& be, const Codes& z, Ends ends, Offsets offsets) {
  const auto rows = rows_of(z);
  const std::size_t parts = ends.cols();
  const std::size_t count = z.rows();
  std::int64_t* const out = offsets.data();
  be.entries(count, parts, split_rows<typename Codes::real>{rows, ends.data(), parts, out});
  be.entries(1, 1, [=] PLMSCOPE_DEVICE(std::size_t, std::size_t) {
    out[count * parts] = rows.offsets[count];
  });
}

/// The same kernels whatever the numbers are, and memory for n entries beside those of `out`: first
/// the n-th largest key, 8 bits a pass; then the ranks of all rows; then what stays, written to the
/// side because it comes from `out` itself.
template <class Order, class Device, class C, class Codes, class V>
void launch_batch_top_n(Device& be, C pre, std::size_t n, Codes& out, V last) {
  using Real = typename C::value_type;
  using rows_type = batch_rows<C, Order>;
  using bits = typename rows_type::bits;
  if (n == 0 && !last.empty()) be.fill(last, std::numeric_limits<Real>::infinity());
  const std::size_t rows = out.rows() + pre.rows();
  if (rows == 0) return;
  const std::size_t most = std::min(n, out.entries() + pre.size());  // that can stay
  out.reserve_more(be, pre.rows(), std::max(most, out.entries()) - out.entries());
  const rows_type all{rows_of(out), out.rows(), pre};

  const std::size_t blocks = std::min<std::size_t>(rows, 1024);
  auto key = be.template scratch<bits>(1);
  auto counts = be.template scratch<std::uint64_t>(digit_values + 1);
  bits* const found = key.get();
  std::uint64_t* const left = counts.get() + digit_values;
  be.runtime().clear(counts.get(), digit_values * sizeof(std::uint64_t));
  be.entries(1, 1, [=] PLMSCOPE_DEVICE(std::size_t, std::size_t) {
    *found = n == 0 ? ~bits{0} : bits{0};  // no key reaches the first
    *left = n;
  });
  for (unsigned shift = n == 0 ? 0 : ordered_bits<Real>::width; shift > 0;) {
    shift -= digit_bits;
    using kernel = count_digits<rows_type>;
    be.launch(blocks, kernel::shared_bytes, kernel{all, shift, blocks, found, counts.get()});
    be.launch(1, 0, find_digit<bits>{shift, counts.get(), left, found});
  }

  auto above = be.template scratch<std::int64_t>(rows + 1);
  auto equal = be.template scratch<std::int64_t>(rows + 1);
  const batch_ranks ranks{above.get(), equal.get(), rows, n};
  be.launch(rows, 0, count_ranks<rows_type>{all, found, ranks});
  be.runtime().running_sum(above.get(), rows + 1);
  be.runtime().running_sum(equal.get(), rows + 1);

  auto ids = be.template scratch<std::uint32_t>(std::max<std::size_t>(most, 1));
  auto values = be.template scratch<Real>(std::max<std::size_t>(most, 1));
  be.launch(rows, 0, write_ranked<rows_type>{all, found, ranks, ids.get(), values.get()});
  const std::uint32_t* const side_ids = ids.get();
  const Real* const side_values = values.get();
  std::uint32_t* const to_ids = out.ids();
  Real* const to_values = out.values();
  be.entries(1, most, [=] PLMSCOPE_DEVICE(std::size_t, std::size_t e) {
    if (e >= ranks.offset(rows)) return;
    to_ids[e] = side_ids[e];
    to_values[e] = side_values[e];
  });
  std::int64_t* const offsets = out.offsets();
  be.entries(1, rows + 1, [=] PLMSCOPE_DEVICE(std::size_t, std::size_t r) {
    offsets[r] = static_cast<std::int64_t>(ranks.offset(r));
  });
  if (n > 0 && !last.empty()) {
    be.entries(1, 1, [=] PLMSCOPE_DEVICE(std::size_t, std::size_t) {
      if (*found != 0) last.data()[0] = ordered_bits<Real>::real(*found);
    });
  }
  out.append(pre.rows(), 0);
  out.close_up(most);
}

}  // namespace device_kernels
}  // namespace plmscope::inline PLMSCOPE_ABI
