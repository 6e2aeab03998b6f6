// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/tensor/codes.hpp>

#include <cstddef>
#include <cstdint>

namespace plmscope::inline PLMSCOPE_ABI {

/// Codes seen in another way, for primitives that read them: the entries of some codes with other
/// values, or cut into other rows. Owns nothing; valid as long as what it was made of.
template <class Backend>
class codes_view {
 public:
  using real = typename Backend::real;

  codes_view(const codes<Backend>& z) noexcept
      : offsets_(z.offsets()),
        ids_(z.ids()),
        values_(z.values()),
        rows_(z.rows()),
        features_(z.features()),
        entries_(z.entries()) {}

  /// The same entries with `values` [n].
  codes_view with_values(const real* values) const noexcept {
    codes_view other = *this;
    other.values_ = values;
    return other;
  }
  /// The same entries in `rows` rows that begin at `offsets` [rows + 1].
  codes_view with_rows(const std::int64_t* offsets, std::size_t rows) const noexcept {
    codes_view other = *this;
    other.offsets_ = offsets;
    other.rows_ = rows;
    return other;
  }

  std::size_t rows() const noexcept { return rows_; }
  std::size_t features() const noexcept { return features_; }
  std::size_t entries() const noexcept { return entries_; }
  const std::int64_t* offsets() const noexcept { return offsets_; }
  const std::uint32_t* ids() const noexcept { return ids_; }
  const real* values() const noexcept { return values_; }

 private:
  const std::int64_t* offsets_;
  const std::uint32_t* ids_;
  const real* values_;
  std::size_t rows_;
  std::size_t features_;
  std::size_t entries_;
};

}  // namespace plmscope::inline PLMSCOPE_ABI
