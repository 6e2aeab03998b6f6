// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/core/view.hpp>

#include <cstddef>
#include <limits>
#include <new>
#include <utility>

namespace plmscope::inline PLMSCOPE_ABI {

/// An owning row-major matrix in the memory of `Backend`. Move-only: copies are asked for by name
/// (`be.copy(from, to)`). Fresh entries are zero. A vector is a matrix with one row.
template <class T, class Backend>
class matrix {
 public:
  using value_type = T;
  using backend_type = Backend;

  matrix() = default;
  matrix(Backend& be, std::size_t rows, std::size_t cols)
      : buffer_(be.template allocate<T>(entries(rows, cols))), rows_(rows), cols_(cols) {}

  matrix(matrix&& other) noexcept
      : buffer_(std::move(other.buffer_)),
        rows_(std::exchange(other.rows_, 0)),
        cols_(std::exchange(other.cols_, 0)) {}
  matrix& operator=(matrix&& other) noexcept {
    buffer_ = std::move(other.buffer_);
    rows_ = std::exchange(other.rows_, 0);
    cols_ = std::exchange(other.cols_, 0);
    return *this;
  }

  std::size_t rows() const noexcept { return rows_; }
  std::size_t cols() const noexcept { return cols_; }
  std::size_t size() const noexcept { return rows_ * cols_; }
  bool empty() const noexcept { return size() == 0; }
  T* data() noexcept { return buffer_.get(); }
  const T* data() const noexcept { return buffer_.get(); }

  /// Becomes [rows, cols]. Keeps its memory when that is large enough; entries are then whatever
  /// they were. Amortises repeated batches of changing size to no allocation at all.
  void reshape(Backend& be, std::size_t rows, std::size_t cols) {
    if (entries(rows, cols) > capacity()) *this = matrix(be, rows, cols);
    rows_ = rows;
    cols_ = cols;
  }

  view<Backend, T> all() noexcept { return {buffer_.get(), rows_, cols_}; }
  const_view<Backend, T> all() const noexcept { return {buffer_.get(), rows_, cols_}; }
  operator view<Backend, T>() noexcept { return all(); }
  operator const_view<Backend, T>() const noexcept { return all(); }

  T& operator()(std::size_t row, std::size_t col) noexcept
    requires(Backend::on_host)
  {
    return buffer_.get()[row * cols_ + col];
  }
  const T& operator()(std::size_t row, std::size_t col) const noexcept
    requires(Backend::on_host)
  {
    return buffer_.get()[row * cols_ + col];
  }

 private:
  static std::size_t entries(std::size_t rows, std::size_t cols) {
    if (cols != 0 && rows > std::numeric_limits<std::size_t>::max() / cols) throw std::bad_alloc();
    return rows * cols;
  }
  std::size_t capacity() const noexcept { return buffer_.size(); }

  typename Backend::template buffer<T> buffer_;
  std::size_t rows_ = 0;
  std::size_t cols_ = 0;
};

}  // namespace plmscope
