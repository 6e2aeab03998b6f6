// SPDX-License-Identifier: MIT
// How kernels come in and are launched: what nvcc's host code calls, and the runtime's calls about
// kernels.
#include "machine.hpp"
#include "stream.hpp"

#include <unistd.h>

#include <cstdio>

namespace simulator {
namespace {

struct kernel {
  std::string name;
  u64 dynamic_shared = 0;  ///< that a launch may ask for; 0: as much as is left of 48 KiB
};
struct launch_configuration {
  dim3 grid, block;
  std::size_t shared;
  cudaStream_t stream;
};
struct state {
  module code;
  std::map<const void*, kernel> kernels;
  std::vector<launch_configuration> launches;
  machine runs;
  u64 launched = 0;
};
state& all() {
  static auto* s = new state;  // outlives every static object that calls
  return *s;
}

/// Ends the program with an error if anything was found.
struct verdict {
  verdict() = default;
  verdict(const verdict&) = delete;
  verdict& operator=(const verdict&) = delete;
  ~verdict() {
    const auto& counts = findings::get().counts();
    for (const auto& [what, n] : counts) {
      std::fprintf(stderr, "simulator: found %llu times: %s\n", static_cast<unsigned long long>(n),
                   what.c_str());
    }
    if (asked_for("verbose") && all().launched > 0) {
      std::fprintf(stderr, "simulator: %llu kernels, %.1f million instructions of threads\n",
                   static_cast<unsigned long long>(all().launched),
                   static_cast<double>(all().runs.steps) / 1e6);
    }
    std::fflush(stdout);
    if (!counts.empty()) _exit(70);
  }
} at_the_end;

template <class T>
T read(const u8* p) {
  T x;
  std::memcpy(&x, p, sizeof x);
  return x;
}

void load(const u8* fat_binary) {
  if (read<u32>(fat_binary) != 0xBA55ED50) refuse("not a fat binary");
  const u8* p = fat_binary + read<u16>(fat_binary + 6);
  const u8* const end = p + read<u64>(fat_binary + 8);
  while (p < end) {
    const auto kind = read<u16>(p);
    const auto before = read<u32>(p + 4);
    const auto size = read<u64>(p + 8);
    if (kind == 1) {  // PTX; others are code of one architecture
      std::string_view text(reinterpret_cast<const char*>(p + before), size);
      text = text.substr(0, text.find('\0'));
      if (text.find(".version") == text.npos) refuse("compressed PTX: compile with --no-compress");
      read_ptx(text, all().code);
    }
    p += before + size;
  }
}

const function* code_of(const void* host) {
  const auto k = all().kernels.find(host);
  if (k == all().kernels.end()) return nullptr;
  const auto f = all().code.functions.find(k->second.name);
  return f == all().code.functions.end() ? nullptr : f->second.get();
}

cudaError_t launch(const void* host, dim3 grid, dim3 block, void** arguments, std::size_t shared,
                   cudaStream_t stream) {
  const function* const f = code_of(host);
  if (f == nullptr) return cudaErrorInvalidDeviceFunction;
  const u64 threads = u64{block.x} * block.y * block.z;
  if (grid.x == 0 || grid.y == 0 || grid.z == 0 || grid.x > 0x7fffffff || grid.y > 65535 ||
      grid.z > 65535 || threads == 0 || threads > f->most_threads) {
    return cudaErrorInvalidConfiguration;
  }
  const u64 allowed = all().kernels[host].dynamic_shared;
  if (allowed == 0 ? f->shared_bytes + shared > 48 * 1024
                   : shared > allowed || f->shared_bytes + shared > most_shared) {
    return cudaErrorInvalidValue;
  }
  std::vector<u8> parameters(f->parameter_bytes);
  for (std::size_t i = 0; i < f->parameters.size(); ++i) {
    std::memcpy(&parameters[f->parameters[i].offset], arguments[i], f->parameters[i].bytes);
  }
  // CUB's and Thrust's blocks wait for those before them.
  const bool backwards = asked_for("backwards") && f->name.find("run_kernel") != std::string::npos;
  queue(stream, [=, p = std::move(parameters)] {
    ++all().launched;
    all().runs.run(*f, {grid.x, grid.y, grid.z}, {block.x, block.y, block.z}, p, shared, backwards);
  });
  return cudaSuccess;
}

}  // namespace
}  // namespace simulator

using namespace simulator;

extern "C" {

void** __cudaRegisterFatBinary(void* wrapper) {
  static void* handle = nullptr;
  try {
    load(read<const u8*>(static_cast<const u8*>(wrapper) + 8));
  } catch (const std::exception& e) {
    refuse(e.what());
  }
  return &handle;
}
void __cudaRegisterFatBinaryEnd(void**) {}
void __cudaUnregisterFatBinary(void**) {}
void __cudaRegisterFunction(void**, const char* host, char*, const char* name, int, uint3*, uint3*,
                            dim3*, dim3*, int*) {
  all().kernels[host].name = name;
}
void __cudaRegisterVar(void**, char*, char*, const char*, int, std::size_t, int, int) {}
unsigned __cudaPushCallConfiguration(dim3 grid, dim3 block, std::size_t shared,
                                     CUstream_st* stream) {
  all().launches.push_back({grid, block, shared, stream});
  return 0;
}
cudaError_t __cudaPopCallConfiguration(dim3* grid, dim3* block, std::size_t* shared, void* stream) {
  const launch_configuration c = all().launches.back();
  all().launches.pop_back();
  *grid = c.grid;
  *block = c.block;
  *shared = c.shared;
  std::memcpy(stream, &c.stream, sizeof c.stream);
  return cudaSuccess;
}
cudaError_t __cudaGetKernel(cudaKernel_t* k, const void* host) {
  std::memcpy(k, &host, sizeof host);
  return code_of(host) != nullptr ? cudaSuccess : result(cudaErrorInvalidDeviceFunction);
}
cudaError_t cudaLaunchKernel(const void* host, dim3 grid, dim3 block, void** arguments,
                             std::size_t shared, cudaStream_t stream) {
  return result(launch(host, grid, block, arguments, shared, stream));
}
cudaError_t __cudaLaunchKernel(cudaKernel_t k, dim3 grid, dim3 block, void** arguments,
                               std::size_t shared, cudaStream_t stream) {
  return cudaLaunchKernel(k, grid, block, arguments, shared, stream);
}
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* a, const void* host) {
  const function* const f = code_of(host);
  if (f == nullptr) return result(cudaErrorInvalidDeviceFunction);
  *a = {};
  a->ptxVersion = a->binaryVersion = f->target;
  a->maxThreadsPerBlock = static_cast<int>(f->most_threads);
  a->sharedSizeBytes = f->shared_bytes;
  return cudaSuccess;
}
cudaError_t cudaFuncSetAttribute(const void* host, cudaFuncAttribute what, int value) {
  const function* const f = code_of(host);
  if (f == nullptr) return result(cudaErrorInvalidDeviceFunction);
  if (what != cudaFuncAttributeMaxDynamicSharedMemorySize) return cudaSuccess;
  if (value < 0 || static_cast<u64>(value) + f->shared_bytes > most_shared) {
    return result(cudaErrorInvalidValue);
  }
  all().kernels[host].dynamic_shared = static_cast<u64>(value);
  return cudaSuccess;
}
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int* blocks, const void*,
                                                                   int threads, std::size_t,
                                                                   unsigned) {
  *blocks = std::max(1, 2048 / threads);
  return cudaSuccess;
}

}  // extern "C"
