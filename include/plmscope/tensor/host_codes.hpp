// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/tensor/codes.hpp>

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace plmscope::inline PLMSCOPE_ABI {

/// Sparse codes as plain arrays of the host, whatever backend they come from: entry e of row r
/// stands at offsets[r] <= e < offsets[r + 1].
template <class Real>
struct host_codes {
  std::size_t features = 0;
  std::vector<std::int64_t> offsets{0};
  std::vector<std::uint32_t> ids;
  std::vector<Real> values;

  std::size_t rows() const noexcept { return offsets.size() - 1; }
};

/// A copy of codes in host memory. Waits for the device.
template <class Backend>
host_codes<typename Backend::real> to_host(Backend& be, const codes<Backend>& z) {
  host_codes<typename Backend::real> out;
  out.features = z.features();
  if (z.rows() == 0) return out;
  out.offsets.resize(z.rows() + 1);
  be.download(const_view<Backend, std::int64_t>(z.offsets(), z.rows() + 1),
              std::span<std::int64_t>(out.offsets));
  const auto n = static_cast<std::size_t>(out.offsets.back());
  out.ids.resize(n);
  out.values.resize(n);
  be.download(const_view<Backend, std::uint32_t>(z.ids(), n), std::span<std::uint32_t>(out.ids));
  be.download(const_view<Backend>(z.values(), n), std::span(out.values));
  return out;
}

/// Codes of a backend with the content of `from`, whose rows must ascend by feature.
template <class Backend, class Real>
void from_host(Backend& be, const host_codes<Real>& from, codes<Backend>& out) {
  out.clear(be, from.features);
  if (from.rows() == 0) return;
  out.reserve_more(be, from.rows(), from.ids.size());
  using real = typename Backend::real;
  be.upload(std::span<const std::int64_t>(from.offsets),
            view<Backend, std::int64_t>(out.offsets(), from.offsets.size()));
  be.upload(std::span<const std::uint32_t>(from.ids),
            view<Backend, std::uint32_t>(out.ids(), from.ids.size()));
  be.upload(std::span<const Real>(from.values), view<Backend, real>(out.values(), from.ids.size()));
  out.append(from.rows(), from.ids.size());
}

}  // namespace plmscope::inline PLMSCOPE_ABI
