// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/backend/device/buffer.hpp>
#include <plmscope/backend/device/group.hpp>
#include <plmscope/backend/precision.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>

namespace plmscope::inline PLMSCOPE_ABI {

/// The part of a device backend below its primitives: memory, and kernels into its one stream.
template <class Runtime>
class device_launcher {
 public:
  using runtime_type = Runtime;
  template <class T>
  using buffer = device_buffer<T, Runtime>;

  explicit device_launcher(int device) : run_(std::make_shared<Runtime>(device)) {}

  Runtime& runtime() noexcept { return *run_; }
  product_precision precision() const noexcept { return precision_; }

  template <class T>
  buffer<T> allocate(std::size_t n) {
    buffer<T> b(run_, n);
    run_->clear(b.get(), n * sizeof(T));
    return b;
  }
  void synchronize() { run_->wait(); }
  std::uint64_t available_bytes() const { return run_->available_bytes(); }

  /// f(row, col) for every entry of [rows, cols], in no order.
  template <class F>
  void entries(std::size_t rows, std::size_t cols, F f) {
    const device_kernels::over_entries<F> kernel(f, rows, cols);
    launch(kernel.blocks(), 0, kernel);
  }
  /// f(row, col) for every entry of a view; a vector has one row.
  template <class V, class F>
  void each(V x, F f) {
    const bool flat = x.rows() <= 1;
    entries(flat ? (x.empty() ? 0 : 1) : x.rows(), x.cols(), f);
  }
  /// Runs a kernel (`backend/device/group.hpp`) in `blocks` blocks with that much shared memory
  /// each.
  template <class Kernel>
  void launch(std::size_t blocks, std::size_t shared_bytes, const Kernel& kernel) {
    if (blocks > 0) run_->launch(blocks, shared_bytes, kernel);
  }
  /// One block per row.
  template <class Kernel>
  void rows(std::size_t count, const Kernel& kernel) {
    launch(count, 0, kernel);
  }
  /// Memory for the duration of a primitive; its content is arbitrary. Stream order makes it safe
  /// to give back while kernels that use it are still queued.
  template <class T>
  buffer<T> scratch(std::size_t n) {
    return buffer<T>(run_, n);
  }

 protected:
  std::shared_ptr<Runtime> run_;
  product_precision precision_ = product_precision::fp32;
};

}  // namespace plmscope::inline PLMSCOPE_ABI
