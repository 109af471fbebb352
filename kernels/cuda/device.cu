// SPDX-License-Identifier: Apache-2.0
// The CUDA runtime behind cuda.h. The runtime is linked statically and finds the driver at its first call, so that a
// machine without one loads the library all the same.
#include <cstring>

#include "kernels/cuda/cuda.h"
#include "kernels/cuda/simt.h"

namespace skv::cuda {
namespace {

// Errors that are not sticky stay in the runtime until read, and would be taken for the next launch's.
int take(cudaError_t status) {
  if (status != cudaSuccess) static_cast<void>(cudaGetLastError());
  return static_cast<int>(status);
}

static_assert(kOutOfMemory == cudaErrorMemoryAllocation);
static_assert(kInsufficientDriver == cudaErrorInsufficientDriver);
static_assert(kNoDevice == cudaErrorNoDevice);
static_assert(kNotReady == cudaErrorNotReady);

}  // namespace

bool built() { return true; }
const char* error_name(int code) { return cudaGetErrorName(static_cast<cudaError_t>(code)); }
const char* error_text(int code) { return cudaGetErrorString(static_cast<cudaError_t>(code)); }

int device_count(int32_t* count) { return take(cudaGetDeviceCount(count)); }

int properties(int32_t device, Properties* out) {
  cudaDeviceProp all;
  const int status = take(cudaGetDeviceProperties(&all, device));
  if (status != kSuccess) return status;
  std::strncpy(out->name, all.name, sizeof out->name - 1);
  out->name[sizeof out->name - 1] = '\0';
  out->major = all.major;
  out->minor = all.minor;
  return kSuccess;
}

int current_device(int32_t* device) { return take(cudaGetDevice(device)); }
int use_device(int32_t device) { return take(cudaSetDevice(device)); }
int allocate(void** memory, size_t bytes) { return take(cudaMalloc(memory, bytes)); }
int release(void* memory) { return take(cudaFree(memory)); }
int allocate_pinned(void** memory, size_t bytes) { return take(cudaMallocHost(memory, bytes)); }
int release_pinned(void* memory) { return take(cudaFreeHost(memory)); }

int place_of(const void* address, Place* out) {
  cudaPointerAttributes attributes;
  const int status = take(cudaPointerGetAttributes(&attributes, address));
  if (status != kSuccess) return status;
  *out = {Place::kHost, attributes.device};
  if (attributes.type == cudaMemoryTypeHost) out->kind = Place::kPinned;
  if (attributes.type == cudaMemoryTypeDevice) out->kind = Place::kDevice;
  if (attributes.type == cudaMemoryTypeManaged) out->kind = Place::kManaged;
  return kSuccess;
}

int copy(void* to, const void* from, size_t bytes, void* stream) {
  return take(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, static_cast<cudaStream_t>(stream)));
}
int open_stream(void** stream) {
  return take(cudaStreamCreateWithFlags(reinterpret_cast<cudaStream_t*>(stream), cudaStreamNonBlocking));
}
int close_stream(void* stream) { return take(cudaStreamDestroy(static_cast<cudaStream_t>(stream))); }
int clear(void* memory, size_t bytes, void* stream) {
  return take(cudaMemsetAsync(memory, 0, bytes, static_cast<cudaStream_t>(stream)));
}
int open_event(void** event) {
  return take(cudaEventCreateWithFlags(reinterpret_cast<cudaEvent_t*>(event), cudaEventDisableTiming));
}
int close_event(void* event) { return take(cudaEventDestroy(static_cast<cudaEvent_t>(event))); }
int record(void* event, void* stream) {
  return take(cudaEventRecord(static_cast<cudaEvent_t>(event), static_cast<cudaStream_t>(stream)));
}
int query(void* event) { return take(cudaEventQuery(static_cast<cudaEvent_t>(event))); }
int wait_event(void* stream, void* event) {
  return take(cudaStreamWaitEvent(static_cast<cudaStream_t>(stream), static_cast<cudaEvent_t>(event), 0));
}
int synchronize(void* stream) { return take(cudaStreamSynchronize(static_cast<cudaStream_t>(stream))); }

}  // namespace skv::cuda
