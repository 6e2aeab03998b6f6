// SPDX-License-Identifier: MIT
// The calls of CUDA's runtime that plmscope, CUB and Thrust make, but for those of kernels.cpp: for
// programs that are linked with the shared runtime and carry PTX (nvcc --no-compress), in place of
// libcudart.so. One device, one host thread.
#include "stream.hpp"

#include <unistd.h>

#include <cstdio>
#include <cstdlib>

struct CUevent_st {
  simulator::u64 recorded = 0;
  simulator::u64 done = 0;
  unsigned asked = 0;
};

namespace simulator {
namespace {

struct state {
  std::map<u64, u64> pinned;  ///< address -> bytes
  CUstream_st default_stream;
  std::set<CUstream_st*> streams;
  cudaError_t latest = cudaSuccess;
  cudaError_t broken = cudaSuccess;  ///< of a device that has stopped
};
state& all() {
  static auto* s = new state;  // outlives every static object that calls
  return *s;
}

CUstream_st& of(cudaStream_t s) {
  if (s == nullptr || s == cudaStreamLegacy || s == cudaStreamPerThread) {
    return all().default_stream;
  }
  if (!all().streams.contains(s)) refuse("a stream that there is not");
  return *s;
}
void step(CUstream_st& s) {
  const auto work = std::move(s.work.front());
  s.work.pop_front();
  if (all().broken != cudaSuccess) return;
  try {
    work();
  } catch (const std::exception& e) {
    std::fprintf(stderr, "simulator: the device stops: %s\n", e.what());
    findings::get().add(std::string("the device stops: ") + e.what());
    all().broken = cudaErrorIllegalAddress;
  }
}
cudaError_t drain(CUstream_st& s) {
  while (!s.work.empty()) step(s);
  return result(all().broken);
}
cudaError_t drain_all() {
  drain(all().default_stream);
  for (CUstream_st* s : all().streams) drain(*s);
  return result(all().broken);
}
bool is_pinned(const void* p, u64 bytes) {
  const u64 address = reinterpret_cast<u64>(p);
  auto i = all().pinned.upper_bound(address);
  if (i == all().pinned.begin()) return false;
  --i;
  return address + bytes <= i->first + i->second;
}

cudaError_t copy(void* to, std::size_t to_pitch, const void* from, std::size_t from_pitch,
                 std::size_t width, std::size_t rows, cudaMemcpyKind kind, cudaStream_t stream) {
  if (width == 0 || rows == 0) return cudaSuccess;
  if (width > to_pitch || width > from_pitch) return cudaErrorInvalidPitchValue;
  auto& memory = device_memory::get();
  const bool up = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
  const bool down = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
  if (up != memory.holds(reinterpret_cast<u64>(to)) ||
      down != memory.holds(reinterpret_cast<u64>(from))) {
    return cudaErrorInvalidValue;
  }
  // From memory that is not pinned the driver takes everything before it returns; to such memory it
  // returns when everything is there.
  std::vector<u8> taken;
  const std::size_t span = (rows - 1) * from_pitch + width;
  const auto* source = static_cast<const u8*>(from);
  const bool takes = !down && !is_pinned(from, span);
  if (takes) taken.assign(source, source + span);
  queue(stream, [=, &memory, taken = std::move(taken)] {
    for (std::size_t r = 0; r < rows; ++r) {
      const u8* f = (takes ? taken.data() : source) + r * from_pitch;
      u8* t = static_cast<u8*>(to) + r * to_pitch;
      if (down) f = memory.range(reinterpret_cast<u64>(f), width, false, "source of a copy");
      if (up) t = memory.range(reinterpret_cast<u64>(t), width, true, "target of a copy");
      std::memcpy(t, f, width);
    }
  });
  if (!up && !is_pinned(to, (rows - 1) * to_pitch + width)) return drain(of(stream));
  return cudaSuccess;
}

}  // namespace

void queue(cudaStream_t stream, std::function<void()> work) {
  of(stream).work.push_back(std::move(work));
}
cudaError_t result(cudaError_t e) {
  if (e != cudaSuccess) all().latest = e;
  return e;
}
void refuse(const std::string& why) {
  std::fprintf(stderr, "simulator: %s\n", why.c_str());
  _exit(70);
}
bool asked_for(const char* option) {
  const char* const options = std::getenv("PLMSCOPE_SIMULATOR");
  return options != nullptr && std::strstr(options, option) != nullptr;
}

}  // namespace simulator

using namespace simulator;

extern "C" {

// Errors.
cudaError_t cudaPeekAtLastError() {
  return all().broken != cudaSuccess ? all().broken : all().latest;
}
cudaError_t cudaGetLastError() {
  const cudaError_t e = cudaPeekAtLastError();
  all().latest = cudaSuccess;
  return e;
}
const char* cudaGetErrorName(cudaError_t e) {
  static char name[32];
  std::snprintf(name, sizeof name, "error %d", static_cast<int>(e));
  return name;
}
const char* cudaGetErrorString(cudaError_t) { return "on the simulated device"; }

// The device.
cudaError_t cudaGetDeviceCount(int* n) { return *n = 1, cudaSuccess; }
cudaError_t cudaGetDevice(int* d) { return *d = 0, cudaSuccess; }
cudaError_t cudaSetDevice(int d) { return d == 0 ? cudaSuccess : result(cudaErrorInvalidDevice); }
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr what, int) {
  static const std::map<int, int> values{{cudaDevAttrMaxSharedMemoryPerBlockOptin, most_shared},
                                         {cudaDevAttrMultiProcessorCount, 132},
                                         {cudaDevAttrComputeCapabilityMajor, 9},
                                         {cudaDevAttrComputeCapabilityMinor, 0},
                                         {cudaDevAttrMaxGridDimX, 0x7fffffff}};
  const auto i = values.find(what);
  if (i == values.end()) refuse("device attribute " + std::to_string(what));
  *value = i->second;
  return cudaSuccess;
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* p, int) {
  std::memset(p, 0, sizeof *p);
  std::strcpy(p->name, "simulated device");
  p->major = 9;
  p->totalGlobalMem = device_memory::total_bytes;
  return cudaSuccess;
}
cudaError_t cudaMemGetInfo(std::size_t* free, std::size_t* total) {
  *total = device_memory::total_bytes;
  *free = *total - device_memory::get().used_bytes();
  return cudaSuccess;
}

// Memory.
cudaError_t cudaMalloc(void** p, std::size_t bytes) {
  *p = reinterpret_cast<void*>(bytes == 0 ? 0 : device_memory::get().allocate(bytes));
  return bytes > 0 && *p == nullptr ? result(cudaErrorMemoryAllocation) : cudaSuccess;
}
cudaError_t cudaFree(void* p) {
  if (p == nullptr) return cudaSuccess;
  drain_all();
  if (device_memory::get().release(reinterpret_cast<u64>(p))) return cudaSuccess;
  findings::get().add("cudaFree of what is no allocation");
  return result(cudaErrorInvalidValue);
}
cudaError_t cudaHostAlloc(void** p, std::size_t bytes, unsigned) {
  *p = std::malloc(std::max<std::size_t>(bytes, 1));
  std::memset(*p, 0xE7, bytes);
  all().pinned[reinterpret_cast<u64>(*p)] = bytes;
  return cudaSuccess;
}
cudaError_t cudaMallocHost(void** p, std::size_t bytes) { return cudaHostAlloc(p, bytes, 0); }
cudaError_t cudaFreeHost(void* p) {
  drain_all();
  if (p != nullptr && all().pinned.erase(reinterpret_cast<u64>(p)) == 0) {
    findings::get().add("cudaFreeHost of what is not pinned");
  }
  std::free(p);
  return cudaSuccess;
}
cudaError_t cudaMemsetAsync(void* p, int value, std::size_t bytes, cudaStream_t stream) {
  queue(stream, [=] {
    auto& memory = device_memory::get();
    if (bytes > 0) {
      std::memset(memory.range(reinterpret_cast<u64>(p), bytes, true, "cudaMemset"), value, bytes);
    }
  });
  return cudaSuccess;
}
cudaError_t cudaMemcpy2DAsync(void* to, std::size_t to_pitch, const void* from,
                              std::size_t from_pitch, std::size_t width, std::size_t rows,
                              cudaMemcpyKind kind, cudaStream_t stream) {
  return result(copy(to, to_pitch, from, from_pitch, width, rows, kind, stream));
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream) {
  return result(copy(to, bytes, from, bytes, bytes, 1, kind, stream));
}

// Streams and events.
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* s, unsigned) {
  *s = new CUstream_st;
  all().streams.insert(*s);
  return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t s) {
  drain(of(s));
  all().streams.erase(s);
  delete s;
  return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t s) { return drain(of(s)); }
cudaError_t cudaDeviceSynchronize() { return drain_all(); }
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* e, unsigned) {
  return *e = new CUevent_st, cudaSuccess;
}
cudaError_t cudaEventCreate(cudaEvent_t* e) { return cudaEventCreateWithFlags(e, 0); }
cudaError_t cudaEventDestroy(cudaEvent_t e) {
  drain_all();
  delete e;
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t e, cudaStream_t s) {
  queue(s, [e, n = ++e->recorded] { e->done = n; });
  return cudaSuccess;
}
/// Ready when somebody waited, or when asked often: then the device is taken to be faster than the
/// host.
cudaError_t cudaEventQuery(cudaEvent_t e) {
  if (e->done != e->recorded && ++e->asked % 4 == 0) drain_all();
  return e->done == e->recorded ? cudaSuccess : result(cudaErrorNotReady);
}
/// Does what was queued up to the event, no more.
cudaError_t cudaEventSynchronize(cudaEvent_t e) {
  for (CUstream_st* s : all().streams) {
    while (e->done != e->recorded && !s->work.empty()) step(*s);
  }
  return result(all().broken);
}
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t, cudaEvent_t) {
  return *milliseconds = 1, cudaSuccess;
}

}  // extern "C"
