// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/backend/cuda/check.cuh>
#include <plmscope/backend/device/buffer.hpp>

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

namespace plmscope::inline PLMSCOPE_ABI {
namespace cuda_detail {

/// Pinned host memory on its way to the device. From pinned memory a copy is queued and the host
/// goes on; from other memory the driver would wait for the stream first. A block is used again
/// when its copy has been made.
class pinned_staging {
 public:
  void* take(std::size_t bytes) {
    for (auto& b : blocks_) {
      if (b->bytes < bytes || !b->free()) continue;
      latest_ = b.get();
      return b->data;
    }
    blocks_.push_back(std::make_unique<block>(memory_pool<device_memory>::size_class(bytes)));
    latest_ = blocks_.back().get();
    return latest_->data;
  }
  /// The copy of the block last taken is queued.
  void sent(cudaStream_t stream) {
    check(cudaEventRecord(latest_->copied, stream), "cudaEventRecord");
    latest_->in_flight = true;
  }

 private:
  struct block {
    void* data = nullptr;
    std::size_t bytes;
    cudaEvent_t copied = nullptr;
    bool in_flight = false;

    explicit block(std::size_t n) : bytes(n) {
      check(cudaMallocHost(&data, n), "cudaMallocHost");
      check(cudaEventCreateWithFlags(&copied, cudaEventDisableTiming), "cudaEventCreate");
    }
    /// Whether its copy has been made. "Not ready" must not stay behind as an error.
    bool free() noexcept {
      if (in_flight && cudaEventQuery(copied) != cudaSuccess) {
        static_cast<void>(cudaGetLastError());
        return false;
      }
      in_flight = false;
      return true;
    }
    block(const block&) = delete;
    block& operator=(const block&) = delete;
    ~block() {
      if (copied != nullptr) static_cast<void>(cudaEventDestroy(copied));
      static_cast<void>(cudaFreeHost(data));
    }
  };
  std::vector<std::unique_ptr<block>> blocks_;
  block* latest_ = nullptr;
};

/// Single numbers on their way from the device into pinned memory, each with an event that says
/// when it has come. A ticket is the place of one; places are used again.
class pinned_numbers {
 public:
  std::size_t send(const std::int64_t* from, cudaStream_t stream) {
    std::size_t i = 0;
    while (i < places_.size() && places_[i]->taken) ++i;
    if (i == places_.size()) places_.push_back(std::make_unique<place>());
    place& p = *places_[i];
    check(cudaMemcpyAsync(p.number, from, sizeof *from, cudaMemcpyDeviceToHost, stream),
          "cudaMemcpyAsync");
    check(cudaEventRecord(p.arrived, stream), "cudaEventRecord");
    p.taken = true;
    return i;
  }
  /// Waits for this number alone.
  std::int64_t receive(std::size_t ticket) {
    check(cudaEventSynchronize(places_[ticket]->arrived), "cudaEventSynchronize");
    return *places_[ticket]->number;
  }
  /// A number that nobody has read may still be on its way: the next one of its place comes after it,
  /// because both are queued in one stream.
  void drop(std::size_t ticket) noexcept { places_[ticket]->taken = false; }

 private:
  struct place {
    std::int64_t* number = nullptr;
    cudaEvent_t arrived = nullptr;
    bool taken = false;

    place() {
      check(cudaMallocHost(&number, sizeof *number), "cudaMallocHost");
      check(cudaEventCreateWithFlags(&arrived, cudaEventDisableTiming), "cudaEventCreate");
    }
    place(const place&) = delete;
    place& operator=(const place&) = delete;
    ~place() {
      if (arrived != nullptr) static_cast<void>(cudaEventDestroy(arrived));
      static_cast<void>(cudaFreeHost(number));
    }
  };
  std::vector<std::unique_ptr<place>> places_;
};

}  // namespace cuda_detail
}  // namespace plmscope::inline PLMSCOPE_ABI
