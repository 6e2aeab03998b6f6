// SPDX-License-Identifier: MIT
// Programs with one defect each, by name: the simulator has to find it, and nothing in `sound`.
#include <cuda_runtime.h>

#include <cstdio>
#include <cstring>
#include <vector>

namespace {

constexpr int threads = 64;

__global__ void sound(float* x, int n) {
  __shared__ float both[2 * threads];
  const unsigned t = threadIdx.x;
  both[t] = static_cast<float>(t);
  both[threads + t] = 1.0f;
  __syncthreads();
  float sum = both[threads - 1 - t] + both[threads + t];
  for (unsigned step = 16; step > 0; step /= 2) sum += __shfl_xor_sync(~0u, sum, step);
  if (static_cast<int>(t) < n) x[t] = sum;
}
__global__ void no_barrier(float* x, int n) {
  __shared__ float both[threads];
  const unsigned t = threadIdx.x;
  both[t] = static_cast<float>(t);
  if (n < 0) __syncthreads();
  x[t] = both[threads - 1 - t];
}
__global__ void blocks_meet(float* x, int) { x[0] = static_cast<float>(blockIdx.x); }
__global__ void out_of_bounds(float* x, int n) { x[static_cast<int>(threadIdx.x) + n - 1] = 1.0f; }
__global__ void misaligned(float* x, int) {
  *reinterpret_cast<float2*>(x + 1) = make_float2(1.0f, 2.0f);
}
__global__ void never_written(float* x, int n) { x[n + threadIdx.x] = x[threadIdx.x]; }
__global__ void shared_never_written(float* x, int) {
  __shared__ float memory[threads];
  if (threadIdx.x > 0) memory[threadIdx.x] = 1.0f;
  __syncthreads();
  x[threadIdx.x] = memory[threads - 1 - threadIdx.x];
}
__global__ void barrier_of_some(float* x, int) {
  if (threadIdx.x < 32) return;
  __syncthreads();
  x[threadIdx.x] = 1.0f;
}
__global__ void waits_for_ever(float* x, int) {
  if (threadIdx.x % 2 == 0) {
    x[threadIdx.x] = __shfl_xor_sync(~0u, 1.0f, 1);
  } else {
    __syncthreads();
    x[threadIdx.x] = 2.0f;
  }
}
__global__ void host_memory(float* x, int) {
  float* p = nullptr;
  std::memcpy(&p, x, sizeof p);
  *p = 1.0f;
}

}  // namespace

int main(int argc, char** argv) {
  const char* const name = argc > 1 ? argv[1] : "sound";
  const auto is = [&](const char* n) { return std::strcmp(name, n) == 0; };
  float* x = nullptr;
  float* y = nullptr;
  float* pinned = nullptr;
  cudaStream_t stream = nullptr;
  cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
  cudaMalloc(&x, 2 * threads * sizeof(float));
  cudaMalloc(&y, 2 * threads * sizeof(float));
  cudaMallocHost(&pinned, threads * sizeof(float));
  if (!is("never_written")) cudaMemsetAsync(x, 0, 2 * threads * sizeof(float), stream);
  if (is("host_memory")) {
    cudaMemcpyAsync(x, &pinned, sizeof pinned, cudaMemcpyHostToDevice, stream);
  }
  const int blocks = is("blocks_meet") ? 2 : 1;
  const auto run = [&](auto kernel) {
    kernel<<<blocks, threads, 0, stream>>>(x, is("out_of_bounds") ? 2 * threads : threads);
    cudaMemcpyAsync(pinned, x, threads * sizeof(float), cudaMemcpyDeviceToHost, stream);
  };
  if (is("no_barrier"))
    run(no_barrier);
  else if (is("blocks_meet"))
    run(blocks_meet);
  else if (is("out_of_bounds"))
    run(out_of_bounds);
  else if (is("misaligned"))
    run(misaligned);
  else if (is("never_written"))
    run(never_written);
  else if (is("shared_never_written"))
    run(shared_never_written);
  else if (is("barrier_of_some"))
    run(barrier_of_some);
  else if (is("waits_for_ever"))
    run(waits_for_ever);
  else if (is("host_memory"))
    run(host_memory);
  else
    run(sound);
  if (is("too_early")) {
    std::printf("%g\n", static_cast<double>(pinned[0]));  // what stood there before
    return 0;
  }
  if (is("touches_device_memory")) return x[0] > 0.0f;  // ends by a signal
  const cudaError_t status = cudaStreamSynchronize(stream);
  std::printf("%s: %g %s\n", name, static_cast<double>(pinned[0]), cudaGetErrorName(status));
  return 0;
}
