// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/fwd.hpp>

#include <cstddef>
#include <span>
#include <type_traits>

namespace plmscope::inline PLMSCOPE_ABI {

/// A non-owning row-major matrix that lives where `Backend` lives. Copying a view copies a pointer.
/// A vector is a view with one row. Rows may be apart (`stride >= cols`); entries of a row never are.
/// Only views of host backends can be indexed; a device view given to a host function does not
/// compile, because the backend is part of the type.
template <class Backend, class T = typename Backend::real>
class view {
 public:
  using value_type = std::remove_const_t<T>;
  using backend_type = Backend;

  constexpr view() noexcept = default;
  PLMSCOPE_HD constexpr view(T* data, std::size_t rows, std::size_t cols,
                             std::size_t stride) noexcept
      : data_(data), rows_(rows), cols_(cols), stride_(stride) {}
  PLMSCOPE_HD constexpr view(T* data, std::size_t rows, std::size_t cols) noexcept
      : view(data, rows, cols, cols) {}
  /// A vector.
  PLMSCOPE_HD constexpr view(T* data, std::size_t size) noexcept : view(data, 1, size, size) {}

  /// A mutable view is a constant view.
  template <class U>
    requires(std::is_const_v<T> && std::is_same_v<U, value_type>)
  PLMSCOPE_HD constexpr view(view<Backend, U> other) noexcept
      : view(other.data(), other.rows(), other.cols(), other.stride()) {}

  PLMSCOPE_HD constexpr T* data() const noexcept { return data_; }
  PLMSCOPE_HD constexpr std::size_t rows() const noexcept { return rows_; }
  PLMSCOPE_HD constexpr std::size_t cols() const noexcept { return cols_; }
  PLMSCOPE_HD constexpr std::size_t stride() const noexcept { return stride_; }
  PLMSCOPE_HD constexpr std::size_t size() const noexcept { return rows_ * cols_; }
  PLMSCOPE_HD constexpr bool empty() const noexcept { return size() == 0; }
  PLMSCOPE_HD constexpr T* row_data(std::size_t row) const noexcept {
    return data_ + row * stride_;
  }

  /// Rows [first, first + count).
  PLMSCOPE_HD constexpr view row_range(std::size_t first, std::size_t count) const noexcept {
    return {data_ + first * stride_, count, cols_, stride_};
  }
  /// Columns [first, first + count) of every row.
  PLMSCOPE_HD constexpr view col_range(std::size_t first, std::size_t count) const noexcept {
    return {data_ + first, rows_, count, stride_};
  }

  constexpr T& operator()(std::size_t row, std::size_t col) const noexcept
    requires(Backend::on_host)
  {
    return data_[row * stride_ + col];
  }
  /// Entry of a vector.
  constexpr T& operator[](std::size_t col) const noexcept
    requires(Backend::on_host)
  {
    return data_[col];
  }
  constexpr std::span<T> row(std::size_t row) const noexcept
    requires(Backend::on_host)
  {
    return {data_ + row * stride_, cols_};
  }

 private:
  T* data_ = nullptr;
  std::size_t rows_ = 0;
  std::size_t cols_ = 0;
  std::size_t stride_ = 0;
};

template <class Backend, class T = typename Backend::real>
using const_view = view<Backend, const T>;

}  // namespace plmscope
