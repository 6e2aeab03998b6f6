// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/backend/cuda/check.cuh>
#include <plmscope/backend/device/group.hpp>
#include <plmscope/backend/device/tiles.hpp>

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

namespace plmscope::inline PLMSCOPE_ABI {

/// The threads of a CUDA block as kernels see them (`backend/device/group.hpp`); teams are warps.
/// Sums go down a fixed tree of shuffles, then over the warps in order. Tiles are multiplied by
/// tensor cores from compute capability 8.0 on, by shuffles below. On the host every call is empty:
/// kernels are compiled for both sides and run on one.
class cuda_group {
 public:
  PLMSCOPE_HD explicit cuda_group(unsigned char* shared) noexcept : shared_(shared) {}

#if defined(__CUDA_ARCH__)
  __device__ std::size_t index() const noexcept { return blockIdx.x; }
  __device__ unsigned rank() const noexcept { return threadIdx.x; }
  __device__ unsigned size() const noexcept { return blockDim.x; }
  __device__ void sync() const noexcept { __syncthreads(); }

  template <class T>
  __device__ T team_sum(T v) const noexcept {
    for (unsigned step = 16; step > 0; step /= 2) v += __shfl_xor_sync(~0u, v, step);
    return v;
  }
  template <class T>
  __device__ T team_from(T v, unsigned lane) const noexcept {
    return __shfl_sync(~0u, v, static_cast<int>(lane));
  }
  __device__ void team_product(const std::uint32_t (&a)[4], const std::uint32_t (&b)[2],
                               float (&c)[4]) const noexcept {
#if __CUDA_ARCH__ >= 800
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
    device_kernels::product_by_exchange(*this, a, b, c);
#endif
  }
  template <class T>
  __device__ T sum(T v) const noexcept {
    T* const of_team = slots<T>();
    v = team_sum(v);
    if (lane() == 0) of_team[team()] = v;
    __syncthreads();
    T total{0};
    for (unsigned t = 0; t < teams(); ++t) total += of_team[t];
    __syncthreads();
    return total;
  }
  template <class T>
  __device__ T team_before(T n, T& total) const noexcept {
    T up_to = n;  // this thread included
    for (unsigned step = 1; step < 32; step *= 2) {
      const T left = __shfl_up_sync(~0u, up_to, step);
      if (lane() >= step) up_to += left;
    }
    total = __shfl_sync(~0u, up_to, 31);
    return up_to - n;
  }
  __device__ unsigned before(unsigned n, unsigned& total) const noexcept {
    unsigned* const of_team = slots<unsigned>();
    unsigned of_mine = 0;
    unsigned lower = team_before(n, of_mine);
    if (lane() == 0) of_team[team()] = of_mine;
    __syncthreads();
    total = 0;
    for (unsigned t = 0; t < teams(); ++t) {
      lower += t < team() ? of_team[t] : 0;
      total += of_team[t];
    }
    __syncthreads();
    return lower;
  }
  /// Of the threads with one bin the lowest adds for all: an atomic addition where many threads of
  /// a warp meet is done once for each of them.
  __device__ void tally(unsigned* bins, unsigned bin, bool counts) const noexcept {
    const unsigned some = __ballot_sync(~0u, counts);
    if (!counts) return;
    const unsigned same = __match_any_sync(some, bin);
    if ((same & ((1u << lane()) - 1)) == 0) atomicAdd(bins + bin, __popc(same));
  }
  __device__ void add(std::uint64_t* p, std::uint64_t n) const noexcept {
    static_assert(sizeof(unsigned long long) == sizeof(std::uint64_t));
    atomicAdd(reinterpret_cast<unsigned long long*>(p), static_cast<unsigned long long>(n));
  }
#else
  std::size_t index() const noexcept { return 0; }
  unsigned rank() const noexcept { return 0; }
  unsigned size() const noexcept { return 32; }
  void sync() const noexcept {}
  template <class T>
  T team_sum(T v) const noexcept {
    return v;
  }
  template <class T>
  T team_from(T v, unsigned) const noexcept {
    return v;
  }
  void team_product(const std::uint32_t (&)[4], const std::uint32_t (&)[2],
                    float (&)[4]) const noexcept {}
  template <class T>
  T sum(T v) const noexcept {
    return v;
  }
  unsigned before(unsigned n, unsigned& total) const noexcept {
    total = n;
    return 0;
  }
  template <class T>
  T team_before(T n, T& total) const noexcept {
    total = n;
    return 0;
  }
  void tally(unsigned*, unsigned, bool) const noexcept {}
  void add(std::uint64_t*, std::uint64_t) const noexcept {}
#endif

  PLMSCOPE_HD unsigned lanes() const noexcept { return 32; }
  PLMSCOPE_HD unsigned lane() const noexcept { return rank() % 32; }
  PLMSCOPE_HD unsigned team() const noexcept { return rank() / 32; }
  PLMSCOPE_HD unsigned teams() const noexcept { return size() / 32; }

  template <class T>
  PLMSCOPE_HD T* shared(std::size_t n) noexcept {
    used_ = (used_ + alignof(T) - 1) / alignof(T) * alignof(T);
    T* const p = reinterpret_cast<T*>(shared_ + used_);
    used_ += n * sizeof(T);
    return p;
  }

 private:
#if defined(__CUDA_ARCH__)
  /// One slot per warp, for sums over the block.
  template <class T>
  __device__ static T* slots() noexcept {
    __shared__ double memory[32];
    static_assert(sizeof(T) <= sizeof(double));
    return reinterpret_cast<T*>(memory);
  }
#endif

  unsigned char* shared_;
  std::size_t used_ = 0;
};

/// Every kernel of the library, as a CUDA kernel.
template <unsigned Threads, class Kernel>
__global__ void __launch_bounds__(Threads) run_kernel(const Kernel kernel) {
  extern __shared__ __align__(16) unsigned char plmscope_shared[];
  cuda_group g(plmscope_shared);
  kernel(g);
}

namespace cuda_detail {

/// What groups may take of a block's shared memory, for their sums.
inline constexpr std::size_t group_bytes = 1024;

/// Most shared memory that a launch may ask for.
inline std::size_t most_shared_bytes(int device) {
  int most = 0;
  check(cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, device),
        "cudaDeviceGetAttribute");
  return static_cast<std::size_t>(most) - group_bytes;
}

/// Queues a kernel.
template <unsigned Threads, class Kernel>
void launch(std::size_t blocks, std::size_t shared_bytes, cudaStream_t stream,
            const Kernel& kernel) {
  if (shared_bytes + group_bytes > 48 * 1024) {  // more than that has to be asked for
    check(cudaFuncSetAttribute(run_kernel<Threads, Kernel>,
                               cudaFuncAttributeMaxDynamicSharedMemorySize,
                               static_cast<int>(shared_bytes)),
          "cudaFuncSetAttribute");
  }
  run_kernel<Threads><<<static_cast<unsigned>(blocks), Threads, shared_bytes, stream>>>(kernel);
  check(cudaGetLastError(), "kernel launch");
}

}  // namespace cuda_detail
}  // namespace plmscope::inline PLMSCOPE_ABI
