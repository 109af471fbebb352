// SPDX-License-Identifier: Apache-2.0
#include "transport/device_calls.h"

#include <atomic>
#include <cstdio>

#include "error.h"
#include "kernels/cuda/cuda.h"
#include "transport/digest.h"

namespace skv::transport {
namespace {

// Bytes of a segment that its leaves do not cover: cuda::digest_leaves begins behind them (kernels/cuda/digest.cu).
constexpr std::size_t kSegmentHeaderBytes = 64;
constexpr std::size_t kWord = 16;  // no leaf may have less, and the kernel reads 8 at a time

static_assert(DeviceCalls::kNotReady == cuda::kNotReady);
static_assert(DeviceCalls::kOutOfMemory == cuda::kOutOfMemory);

class CudaCalls final : public DeviceCalls {
 public:
  int count(std::int32_t* devices) override { return cuda::device_count(devices); }
  int use(std::int32_t device) override { return cuda::use_device(device); }
  int current(std::int32_t* device) override { return cuda::current_device(device); }
  int allocate(void** memory, std::size_t bytes) override { return cuda::allocate(memory, bytes); }
  int release(void* memory) override { return cuda::release(memory); }
  int allocate_pinned(void** memory, std::size_t bytes) override { return cuda::allocate_pinned(memory, bytes); }
  int release_pinned(void* memory) override { return cuda::release_pinned(memory); }
  int place_of(const void* address, Place* out) override {
    cuda::Place place{};
    const int code = cuda::place_of(address, &place);
    if (code != cuda::kSuccess) return code;
    const bool device = place.kind == cuda::Place::kDevice;
    *out = {place.kind != cuda::Place::kHost, device ? place.device : -1};
    return code;
  }
  int open_stream(void** stream) override { return cuda::open_stream(stream); }
  int close_stream(void* stream) override { return cuda::close_stream(stream); }
  int open_event(void** event) override { return cuda::open_event(event); }
  int close_event(void* event) override { return cuda::close_event(event); }
  int record(void* event, void* stream) override { return cuda::record(event, stream); }
  int query(void* event) override { return cuda::query(event); }
  int wait_event(void* stream, void* event) override { return cuda::wait_event(stream, event); }
  int copy(void* to, const void* from, std::size_t bytes, void* stream) override {
    return cuda::copy(to, from, bytes, stream);
  }
  std::size_t leaves_room(std::size_t pieces, std::size_t leaves) override {
    return pieces * sizeof(cuda::Segment) + leaves * sizeof(std::uint64_t);
  }
  int leaves(std::span<const std::span<const std::byte>> pieces, std::byte* room, void* stream,
             const std::uint64_t** out) override {
    auto* segments = reinterpret_cast<cuda::Segment*>(room);
    std::uint64_t count = 0;
    for (std::size_t i = 0; i < pieces.size(); i++) {
      // Segments and the header of a payload are multiples of it.
      if (pieces[i].size() % kWord != 0 || reinterpret_cast<std::uintptr_t>(pieces[i].data()) % kWord != 0) return 1;
      cuda::Segment segment{};
      segment.bytes = const_cast<std::byte*>(pieces[i].data()) - kSegmentHeaderBytes;
      segment.size = pieces[i].size() + kSegmentHeaderBytes;
      segment.first_leaf = count;
      segments[i] = segment;
      count += (pieces[i].size() + kLeafBytes - 1) / kLeafBytes;
    }
    auto* found = reinterpret_cast<std::uint64_t*>(segments + pieces.size());
    *out = found;
    return cuda::digest_leaves(segments, static_cast<std::uint32_t>(pieces.size()), count, found, stream);
  }
  const char* text(int code) override { return cuda::error_text(code); }
  const char* name(int code) override { return cuda::error_name(code); }
};

std::atomic<DeviceCalls*> replaced{nullptr};

}  // namespace

DeviceCalls& cuda_calls() {
  static CudaCalls calls;
  DeviceCalls* const other = replaced;
  return other != nullptr ? *other : calls;
}

void replace_cuda_calls(DeviceCalls& calls) { replaced = &calls; }

void check_device(DeviceCalls& calls, int code, const char* doing) {
  if (code == 0) return;
  char message[200];
  std::snprintf(message, sizeof message, "%s: %s (%s)", doing, calls.name(code), calls.text(code));
  throw Error(code == DeviceCalls::kOutOfMemory ? SKV_E_NO_MEMORY : SKV_E_CUDA, message, code);
}

}  // namespace skv::transport
