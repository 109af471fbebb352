// SPDX-License-Identifier: Apache-2.0
// CUDA's words for a host compiler: force-included before a .cu file, it makes the kernels plain functions that run one
// block at a time, each thread a fiber that gives way where threads meet. Test-only. What it cannot show: races between
// blocks, and what hardware conversions and caches do; tests/gpu is for those.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>

#define __global__
#define __device__
#define __host__
#define __constant__ static const
#define __shared__ static
#define __forceinline__ inline
#define __launch_bounds__(...)

struct uint2 {
  uint32_t x, y;
};
struct uint4 {
  uint32_t x, y, z, w;
};
struct dim3 {
  explicit dim3(uint32_t a = 1, uint32_t b = 1, uint32_t c = 1) : x(a), y(b), z(c) {}
  uint32_t x, y, z;
};

// Of the running thread. Blocks have one dimension here.
extern dim3 threadIdx;
extern dim3 blockIdx;
extern dim3 blockDim;
extern dim3 gridDim;

namespace skv::shim {
void launch(dim3 grid, dim3 block, const std::function<void()>& kernel);
void meet_block();
// Puts `value` up for the other lanes of the warp and returns all 32 once every lane has.
const uint64_t* meet_warp(uint32_t mask, uint64_t value);
uint32_t lane();
}  // namespace skv::shim

#define SKV_LAUNCH(kernel, grid, block, stream, ...)                  \
  do {                                                                \
    static_cast<void>(stream);                                        \
    skv::shim::launch((grid), (block), [&] { kernel(__VA_ARGS__); }); \
  } while (false)

inline void __syncthreads() { skv::shim::meet_block(); }
inline uint32_t __ballot_sync(uint32_t mask, bool predicate) {
  const uint64_t* all = skv::shim::meet_warp(mask, predicate ? 1 : 0);
  uint32_t ballot = 0;
  for (uint32_t i = 0; i < 32; ++i) ballot |= static_cast<uint32_t>(all[i]) << i;
  return ballot;
}
inline uint32_t __shfl_xor_sync(uint32_t mask, uint32_t value, int32_t apart) {
  return static_cast<uint32_t>(skv::shim::meet_warp(mask, value)[skv::shim::lane() ^ static_cast<uint32_t>(apart)]);
}
inline int __popc(uint32_t value) { return std::popcount(value); }
inline uint64_t __umul64hi(uint64_t a, uint64_t b) {
  __extension__ using Wide = unsigned __int128;
  return static_cast<uint64_t>(static_cast<Wide>(a) * b >> 64U);
}
template <class T>
T atomicMin(T* at, T value) {
  const T before = *at;
  if (value < before) *at = value;
  return before;
}
template <class T>
T atomicAdd(T* at, T value) {
  const T before = *at;
  *at = before + value;
  return before;
}

// -------------------------------------------------------------------------------- the runtime, over host memory

enum cudaError_t : int {
  cudaSuccess = 0,
  cudaErrorInvalidValue = 1,
  cudaErrorMemoryAllocation = 2,
  cudaErrorInsufficientDriver = 35,
  cudaErrorNoDevice = 100,
  cudaErrorInvalidDevice = 101,
  cudaErrorNotReady = 600,
  cudaErrorLaunchFailure = 719,
};
enum cudaMemoryType { cudaMemoryTypeUnregistered, cudaMemoryTypeHost, cudaMemoryTypeDevice, cudaMemoryTypeManaged };
enum cudaMemcpyKind { cudaMemcpyDefault = 4 };
using cudaStream_t = void*;
struct cudaPointerAttributes {
  cudaMemoryType type;
  int device;
};
struct cudaDeviceProp {
  char name[256];
  int major;
  int minor;
};

const char* cudaGetErrorName(cudaError_t);
const char* cudaGetErrorString(cudaError_t);
cudaError_t cudaGetLastError();
cudaError_t cudaGetDeviceCount(int*);
cudaError_t cudaGetDeviceProperties(cudaDeviceProp*, int);
cudaError_t cudaGetDevice(int*);
cudaError_t cudaSetDevice(int);
cudaError_t cudaMalloc(void**, size_t);
cudaError_t cudaFree(void*);
cudaError_t cudaMallocHost(void**, size_t);
cudaError_t cudaFreeHost(void*);
cudaError_t cudaPointerGetAttributes(cudaPointerAttributes*, const void*);
cudaError_t cudaMemcpyAsync(void*, const void*, size_t, cudaMemcpyKind, cudaStream_t);
cudaError_t cudaMemsetAsync(void*, int, size_t, cudaStream_t);
cudaError_t cudaStreamCreateWithFlags(cudaStream_t*, unsigned);
cudaError_t cudaStreamDestroy(cudaStream_t);
constexpr unsigned cudaStreamNonBlocking = 1;
struct cudaFuncAttributes {};
template <class Kernel>
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes*, Kernel*) {
  return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t);
using cudaEvent_t = void*;
constexpr unsigned cudaEventDisableTiming = 2;
cudaError_t cudaEventCreateWithFlags(cudaEvent_t*, unsigned);
cudaError_t cudaEventDestroy(cudaEvent_t);
cudaError_t cudaEventRecord(cudaEvent_t, cudaStream_t);
cudaError_t cudaEventQuery(cudaEvent_t);
cudaError_t cudaStreamWaitEvent(cudaStream_t, cudaEvent_t, unsigned);

namespace skv::shim {
// What the machine pretends to be; tests change it and put it back.
struct Machine {
  int driver = cudaSuccess;  // what cudaGetDeviceCount answers
  int devices = 2;
  int fail_launch = 0;       // the next launch's cudaGetLastError
  int64_t memory = -1;       // device bytes left to give, -1: no limit
  uint64_t allocations = 0;  // so far
  uint64_t launches = 0;
};
extern Machine machine;
}  // namespace skv::shim
