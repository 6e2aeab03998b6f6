// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/backend/cuda/check.cuh>
#include <plmscope/backend/device/buffer.hpp>

#include <cuda_runtime.h>

#include <cstddef>
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

}  // namespace cuda_detail
}  // namespace plmscope::inline PLMSCOPE_ABI
