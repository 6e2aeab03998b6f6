// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/backend/device/backward.hpp>
#include <plmscope/backend/device/group.hpp>
#include <plmscope/backend/device/select.hpp>
#include <plmscope/backend/device/sparse.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>

namespace plmscope::inline PLMSCOPE_ABI {
namespace device_kernels {

// Primitives that need several kernels. Numbers that only the device knows (how many entries were
// selected) stay there; the host works with upper bounds.

template <class Codes>
code_rows<typename Codes::real> rows_of(const Codes& z) noexcept {
  return {z.offsets(), z.ids(), z.values()};
}

template <class Order, class Device, class C, class Codes>
void launch_top_k(Device& be, C pre, std::size_t k, Codes& out) {
  using Real = typename C::value_type;
  k = std::min(k, pre.cols());
  const std::size_t rows = pre.rows();
  out.reserve_more(be, rows, rows * k);
  if (rows == 0) return;
  std::int64_t* const offsets = out.offsets() + out.rows();
  auto counts = be.template scratch<std::uint32_t>(rows);
  auto ids = be.template scratch<std::uint32_t>(std::max<std::size_t>(rows * k, 1));
  auto values = be.template scratch<Real>(std::max<std::size_t>(rows * k, 1));
  if (k > 0) {
    using kernel = top_k_rows<C, Order>;
    const unsigned groups = kernel::groups_for(k, pre.cols());
    const bool copies =
        kernel::shared_bytes(pre.cols(), groups, true) <= be.runtime().shared_bytes();
    be.launch(rows, kernel::shared_bytes(pre.cols(), groups, copies),
              kernel{pre, static_cast<unsigned>(k), groups, copies, ids.get(), values.get(),
                     counts.get()});
  } else {
    be.runtime().clear(counts.get(), rows * sizeof(std::uint32_t));
  }
  const std::uint32_t* const n = counts.get();
  be.entries(1, rows, [=] PLMSCOPE_DEVICE(std::size_t, std::size_t r) {
    offsets[r + 1] = static_cast<std::int64_t>(n[r]);
  });
  be.runtime().running_sum(offsets, rows + 1);
  be.launch(k > 0 ? rows : 0, 0,
            close_up_rows<Real>{ids.get(), values.get(), k, offsets, out.ids(), out.values()});
  out.append(rows, rows * k);
}

template <class Device, class Codes, class Transposed>
void launch_transpose(Device& be, const Codes& z, Transposed& out) {
  out.reshape(be, z.features(), z.entries());
  const std::size_t n = z.entries();
  auto keys = be.template scratch<std::uint32_t>(std::max<std::size_t>(n, 1));
  auto rows = be.template scratch<std::uint32_t>(std::max<std::size_t>(n, 1));
  using Real = typename Codes::real;
  be.launch(n > 0 ? z.rows() + 1 : 0, 0,
            label_entries<Real>{rows_of(z), z.rows(), n, static_cast<std::uint32_t>(z.features()),
                                keys.get(), rows.get()});
  be.runtime().sort_with_positions(keys.get(), out.entries(), n, z.features());
  const std::uint32_t* const row_of = rows.get();
  const std::uint32_t* const key = keys.get();
  const std::uint32_t* const entry = out.entries();
  std::uint32_t* const to = out.rows();
  const auto features = static_cast<std::uint32_t>(z.features());
  be.entries(1, n, [=] PLMSCOPE_DEVICE(std::size_t, std::size_t p) {
    if (key[p] < features) to[p] = row_of[entry[p]];
  });
  be.entries(1, n + 1, feature_offsets{keys.get(), n, z.features(), out.offsets()});
}

template <class Device, class Transposed, class C, class V, class Real>
void launch_backward(Device& be, const Transposed& t, C z, C dz, C gradient, C x, V d_decoder,
                     V d_encoder, V d_bias, Real beta) {
  const std::size_t features = t.features();
  if (features == 0) return;
  const std::size_t entries = dz.cols();
  const std::size_t further = entries / chunk_entries;  // chunks beyond the first of their feature
  const std::size_t width = d_decoder.cols() + d_encoder.cols() + 1;
  auto first_chunk = be.template scratch<std::int64_t>(features + 1);
  auto partial = be.template scratch<Real>(std::max<std::size_t>(further * width, 1));
  std::int64_t* const chunk = first_chunk.get();
  const std::int64_t* const offsets = t.offsets();
  be.entries(1, features + 1, [=] PLMSCOPE_DEVICE(std::size_t, std::size_t f) {
    chunk[f] = f == 0 ? 0 : chunks_of(offsets, f - 1);
  });
  be.runtime().running_sum(chunk, features + 1);
  using kernel = sum_chunks<Real, C, V>;
  be.launch(features + further, kernel::shared_bytes(),
            kernel{offsets, chunk, t.rows(), t.entries(), features, z, dz, gradient, x, d_decoder,
                   d_encoder, d_bias, partial.get(), width, beta});
  if (further == 0) return;
  be.launch(features, 0,
            add_chunks<Real, V>{chunk, d_decoder, d_encoder, d_bias, partial.get(), width});
}

}  // namespace device_kernels
}  // namespace plmscope::inline PLMSCOPE_ABI
