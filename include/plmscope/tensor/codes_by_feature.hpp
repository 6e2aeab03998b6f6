// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/core/view.hpp>
#include <plmscope/tensor/matrix.hpp>

#include <cstddef>
#include <cstdint>

namespace plmscope::inline PLMSCOPE_ABI {

/// The entries of `codes` sorted by feature (compressed columns), for the backward pass: feature f
/// owns positions offsets[f] <= p < offsets[f + 1]; `rows[p]` is the row and `entries[p]` the
/// position in the codes. Within a feature rows ascend. Values stay where they are.
template <class Backend>
class codes_by_feature {
 public:
  void reshape(Backend& be, std::size_t features, std::size_t entries) {
    offsets_.reshape(be, 1, features + 1);
    if (rows_.cols() < entries) {
      rows_ = matrix<std::uint32_t, Backend>(be, 1, entries + entries / 2);
      entries_ = matrix<std::uint32_t, Backend>(be, 1, entries + entries / 2);
    }
  }
  std::size_t features() const noexcept { return offsets_.empty() ? 0 : offsets_.cols() - 1; }
  std::int64_t* offsets() noexcept { return offsets_.data(); }
  const std::int64_t* offsets() const noexcept { return offsets_.data(); }
  std::uint32_t* rows() noexcept { return rows_.data(); }
  const std::uint32_t* rows() const noexcept { return rows_.data(); }
  std::uint32_t* entries() noexcept { return entries_.data(); }
  const std::uint32_t* entries() const noexcept { return entries_.data(); }

 private:
  matrix<std::int64_t, Backend> offsets_;
  matrix<std::uint32_t, Backend> rows_;
  matrix<std::uint32_t, Backend> entries_;
};

}  // namespace plmscope
