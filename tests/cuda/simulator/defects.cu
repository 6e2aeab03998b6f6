// SPDX-License-Identifier: MIT
// Programs with one defect each, by name: the simulator has to find it, and nothing in `sound`.
#include <cuda_runtime.h>

#include <cstdio>
#include <cstring>
#include <utility>

namespace {

constexpr int threads = 64;

__noinline__ __device__ float half_of(float x) {
  if (x < 0.0f) return 0.0f;
  return x / 2.0f;
}
__global__ void sound(float* x, int n) {
  __shared__ float both[2 * threads];
  const unsigned t = threadIdx.x;
  both[t] = static_cast<float>(t);
  both[threads + t] = 1.0f;
  __syncthreads();
  float sum = both[threads - 1 - t] + both[threads + t];
  for (unsigned step = 16; step > 0; step /= 2) sum += __shfl_xor_sync(~0u, sum, step);
  if (static_cast<int>(t) < n) x[t] = half_of(sum) + half_of(sum);
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

__global__ void reads_of_two_blocks(float* x, int) {  // the last to read is the one that writes
  const unsigned b = blockIdx.x;
  if (threadIdx.x == 0) x[b] = x[b + 1] + x[b] + 1.0f;
}
__global__ void lanes_meet(float* x, int) { x[0] = static_cast<float>(threadIdx.x); }
__global__ void shuffle_for_barrier(float* x, int) {
  __shared__ float both[threads];
  const unsigned t = threadIdx.x;
  both[t] = static_cast<float>(t);
  const float sum = __shfl_xor_sync(~0u, both[t], 1);
  x[t] = both[t ^ 1] + sum;
}
__global__ void sound_warps(float* x, int) {
  __shared__ float both[threads];
  const unsigned t = threadIdx.x;
  both[t] = static_cast<float>(t);
  __syncwarp();
  x[t] = both[t ^ 1];
}
__global__ void atomic_and_plain(float* x, int) {
  __shared__ unsigned count;
  if (threadIdx.x == 0) count = 0;
  atomicAdd(&count, 1u);
  __syncthreads();
  x[threadIdx.x] = static_cast<float>(count);
}
__global__ void halves_of_blocks(float* x, int) {
  reinterpret_cast<unsigned short*>(x)[1] = static_cast<unsigned short>(blockIdx.x);
}
__global__ void different_barriers(float* x, int) {
  if (threadIdx.x % 2 == 0) {
    asm volatile("bar.sync 0;" ::: "memory");
    x[threadIdx.x] = 1.0f;
  } else {
    asm volatile("bar.sync 0;" ::: "memory");
    x[threadIdx.x] = 2.0f;
  }
}
__global__ void before_local(float* x, int n) {
  volatile float own[4] = {1, 2, 3, 4};
  x[threadIdx.x] = own[n - threads - 1];
}
__global__ void much_shared(float* x, int) {
  __shared__ float many[10 * 1024];
  many[threadIdx.x] = 1.0f;
  x[threadIdx.x] = many[threadIdx.x];
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
  const int blocks =
      is("blocks_meet") || is("reads_of_two_blocks") || is("halves_of_blocks") ? 3 : 1;
  const std::pair<const char*, void (*)(float*, int)> kernels[] = {
      {"no_barrier", no_barrier},
      {"blocks_meet", blocks_meet},
      {"out_of_bounds", out_of_bounds},
      {"misaligned", misaligned},
      {"never_written", never_written},
      {"shared_never_written", shared_never_written},
      {"barrier_of_some", barrier_of_some},
      {"waits_for_ever", waits_for_ever},
      {"host_memory", host_memory},
      {"reads_of_two_blocks", reads_of_two_blocks},
      {"lanes_meet", lanes_meet},
      {"shuffle_for_barrier", shuffle_for_barrier},
      {"sound_warps", sound_warps},
      {"atomic_and_plain", atomic_and_plain},
      {"halves_of_blocks", halves_of_blocks},
      {"different_barriers", different_barriers},
      {"before_local", before_local},
      {"much_shared", much_shared}};
  void (*kernel)(float*, int) = sound;
  for (const auto& [known, of] : kernels) {
    if (is(known)) kernel = of;
  }
  kernel<<<blocks, threads, is("much_shared") ? 16 * 1024 : 0, stream>>>(
      x, is("out_of_bounds") ? 2 * threads : threads);
  const cudaError_t launched = cudaGetLastError();
  if (launched != cudaSuccess) std::printf("%s\n", cudaGetErrorName(launched));
  cudaMemcpyAsync(pinned, x, threads * sizeof(float), cudaMemcpyDeviceToHost, stream);
  if (is("too_early")) {
    std::printf("%g\n", static_cast<double>(pinned[0]));  // what stood there before
    return 0;
  }
  if (is("touches_device_memory")) return x[0] > 0.0f;  // ends by a signal
  const cudaError_t status = cudaStreamSynchronize(stream);
  std::printf("%s: %g %s\n", name, static_cast<double>(pinned[0]), cudaGetErrorName(status));
  return 0;
}
