// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/core/view.hpp>
#include <plmscope/tensor/matrix.hpp>

#include <cstddef>
#include <cstdint>
#include <utility>

namespace plmscope::inline PLMSCOPE_ABI {

/// Sparse feature codes of a batch in compressed rows: entry e of row r stands at
/// offsets[r] <= e < offsets[r + 1], with its feature id and its value. Within a row features
/// ascend. Nothing of size [rows, features] exists.
template <class Backend>
class codes {
 public:
  using real = typename Backend::real;

  codes() = default;
  codes(codes&& other) noexcept { *this = std::move(other); }
  codes& operator=(codes&& other) noexcept {
    offsets_ = std::move(other.offsets_);
    ids_ = std::move(other.ids_);
    values_ = std::move(other.values_);
    rows_ = std::exchange(other.rows_, 0);
    features_ = std::exchange(other.features_, 0);
    entries_ = std::exchange(other.entries_, 0);
    return *this;
  }
  codes(Backend& be, std::size_t features) { clear(be, features); }

  /// Empties to zero rows over `features` features and keeps the memory.
  void clear(Backend& be, std::size_t features) {
    features_ = features;
    rows_ = 0;
    if (offsets_.empty()) offsets_ = matrix<std::int64_t, Backend>(be, 1, 1);
    be.fill(offsets_.all().col_range(0, 1), std::int64_t{0});
    entries_ = 0;
  }

  /// Makes room for `rows` more rows and `entries` more entries, keeping what is there.
  void reserve_more(Backend& be, std::size_t rows, std::size_t entries) {
    grow(be, offsets_, offsets_.empty() ? 0 : rows_ + 1, rows_ + 1 + rows);
    grow(be, ids_, entries_, entries_ + entries);
    grow(be, values_, entries_, entries_ + entries);
  }
  /// Says that rows and entries were written behind the present end.
  void append(std::size_t rows, std::size_t entries) noexcept {
    rows_ += rows;
    entries_ += entries;
  }

  /// Says that entries were taken out of the rows and that so many are left, side by side.
  void close_up(std::size_t entries) noexcept { entries_ = entries; }

  std::size_t rows() const noexcept { return rows_; }
  std::size_t features() const noexcept { return features_; }
  /// Entries in use (on a device: the upper bound known without asking it).
  std::size_t entries() const noexcept { return entries_; }

  std::int64_t* offsets() noexcept { return offsets_.data(); }
  const std::int64_t* offsets() const noexcept { return offsets_.data(); }
  std::uint32_t* ids() noexcept { return ids_.data(); }
  const std::uint32_t* ids() const noexcept { return ids_.data(); }
  real* values() noexcept { return values_.data(); }
  const real* values() const noexcept { return values_.data(); }

 private:
  template <class T>
  static void grow(Backend& be, matrix<T, Backend>& m, std::size_t used, std::size_t need) {
    if (need <= m.size()) return;
    matrix<T, Backend> larger(be, 1, need + need / 2);
    if (used > 0) be.copy(m.all().col_range(0, used), larger.all().col_range(0, used));
    m = std::move(larger);
  }

  matrix<std::int64_t, Backend> offsets_;
  matrix<std::uint32_t, Backend> ids_;
  matrix<real, Backend> values_;
  std::size_t rows_ = 0;
  std::size_t features_ = 0;
  std::size_t entries_ = 0;
};

}  // namespace plmscope
