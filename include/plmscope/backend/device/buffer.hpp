// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/config.hpp>

#include <cstddef>
#include <limits>
#include <map>
#include <memory>
#include <new>
#include <utility>
#include <vector>

namespace plmscope::inline PLMSCOPE_ABI {

/// Blocks of device memory, kept for the next request of their size when they are given back. On
/// one stream in order that is safe at once: whoever gets a block writes it after all earlier work.
/// A training step asks for the same sizes again and again, so after the first one nothing is
/// allocated. `Driver` has allocate(bytes) and release(pointer).
template <class Driver>
class memory_pool {
 public:
  explicit memory_pool(Driver driver) : driver_(std::move(driver)) {}
  memory_pool(const memory_pool&) = delete;
  memory_pool& operator=(const memory_pool&) = delete;
  ~memory_pool() { trim(); }

  void* take(std::size_t bytes) {
    const std::size_t size = size_class(bytes);
    auto& list = free_[size];
    if (!list.empty()) {
      void* const block = list.back();
      list.pop_back();
      return block;
    }
    ++allocations_;
    try {
      return driver_.allocate(size);
    } catch (const std::bad_alloc&) {
      trim();
      return driver_.allocate(size);
    }
  }
  void give_back(void* block, std::size_t bytes) noexcept {
    try {
      free_[size_class(bytes)].push_back(block);
    } catch (...) {
      driver_.release(block);
    }
  }
  /// Returns what nobody uses to the device.
  void trim() noexcept {
    for (auto& [size, list] : free_) {
      for (void* block : list) driver_.release(block);
      list.clear();
    }
  }
  /// How often the device was asked for memory.
  std::size_t allocations() const noexcept { return allocations_; }

  /// Sizes in eighths of a power of two, at least 256 bytes: at most an eighth is wasted.
  static std::size_t size_class(std::size_t bytes) {
    if (bytes > std::numeric_limits<std::size_t>::max() / 2) throw std::bad_alloc();
    std::size_t step = 256;
    while (step * 16 <= bytes) step *= 2;
    return (bytes + step - 1) / step * step;
  }

 private:
  Driver driver_;
  std::map<std::size_t, std::vector<void*>> free_;
  std::size_t allocations_ = 0;
};

/// Memory of a pool for the life of this object, while work that uses it is queued.
template <class Pool>
class borrowed_memory {
 public:
  borrowed_memory(Pool& pool, std::size_t bytes)
      : pool_(pool), bytes_(bytes), data_(pool.take(bytes)) {}
  borrowed_memory(const borrowed_memory&) = delete;
  borrowed_memory& operator=(const borrowed_memory&) = delete;
  ~borrowed_memory() { pool_.give_back(data_, bytes_); }

  template <class T>
  T* as() const noexcept {
    return static_cast<T*>(data_);
  }

 private:
  Pool& pool_;
  std::size_t bytes_;
  void* data_;
};

/// n entries of device memory of a runtime; the content is arbitrary.
template <class T, class Runtime>
class device_buffer {
 public:
  device_buffer() = default;
  device_buffer(std::shared_ptr<Runtime> run, std::size_t n) : run_(std::move(run)), size_(n) {
    if (n > std::numeric_limits<std::size_t>::max() / sizeof(T)) throw std::bad_alloc();
    if (n > 0) data_ = static_cast<T*>(run_->memory().take(n * sizeof(T)));
  }
  device_buffer(device_buffer&& other) noexcept
      : run_(std::move(other.run_)),
        data_(std::exchange(other.data_, nullptr)),
        size_(std::exchange(other.size_, 0)) {}
  device_buffer& operator=(device_buffer&& other) noexcept {
    if (this == &other) return *this;
    release();
    run_ = std::move(other.run_);
    data_ = std::exchange(other.data_, nullptr);
    size_ = std::exchange(other.size_, 0);
    return *this;
  }
  ~device_buffer() { release(); }

  T* get() noexcept { return data_; }
  const T* get() const noexcept { return data_; }
  std::size_t size() const noexcept { return size_; }

 private:
  void release() noexcept {
    if (data_ != nullptr) run_->memory().give_back(data_, size_ * sizeof(T));
    data_ = nullptr;
  }

  std::shared_ptr<Runtime> run_;
  T* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace plmscope::inline PLMSCOPE_ABI
