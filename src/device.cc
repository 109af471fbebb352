// SPDX-License-Identifier: Apache-2.0
#include "device.h"

#include <algorithm>
#include <cstdio>

#include "error.h"

namespace skv {

void check_cuda(int code, const char* doing) {
  if (code == cuda::kSuccess) return;
  char message[200];
  std::snprintf(message, sizeof message, "%s: %s (%s)", doing, cuda::error_name(code), cuda::error_text(code));
  throw Error(code == cuda::kOutOfMemory ? SKV_E_NO_MEMORY : SKV_E_CUDA, message, code);
}

Device::Device(int32_t ordinal) : ordinal_(ordinal) {
  staging_.pinned = true;
  if (!cuda::built()) {
    fail(SKV_E_UNAVAILABLE,
         "device %d: this build has no CUDA (SPECTRUMKV_CUDA=ON and nvcc); wanted SKV_DEVICE_CPU (-1)", ordinal);
  }
  int32_t count = 0;
  const int counted = cuda::device_count(&count);
  if (counted != cuda::kSuccess) {
    char message[248];
    std::snprintf(
        message, sizeof message,
        "device %d: %s (%s); wanted an NVIDIA driver of this build's CUDA major or newer (libcuda.so.1) and a "
        "GPU, or SKV_DEVICE_CPU (-1)",
        ordinal, cuda::error_name(counted), cuda::error_text(counted));
    throw Error(SKV_E_UNAVAILABLE, message, counted);
  }
  if (ordinal >= count) {
    fail(SKV_E_UNAVAILABLE,
         "device %d: this process sees %d (CUDA_VISIBLE_DEVICES); wanted 0..%d or SKV_DEVICE_CPU (-1)", ordinal, count,
         count - 1);
  }
  const Use use(*this);
  cuda::Properties properties{};
  check_cuda(cuda::properties(ordinal, &properties), "reading the device's properties");
  name_ = properties.name;
  const int loaded = cuda::loadable();
  if (loaded != cuda::kSuccess) {
    char message[248];
    std::snprintf(message, sizeof message, "device %d: %s, compute capability %d.%d: %s; wanted 8.0 or newer", ordinal,
                  properties.name, properties.major, properties.minor, cuda::error_name(loaded));
    throw Error(SKV_E_UNAVAILABLE, message, loaded);
  }
}

Device::~Device() {
  staging_.drop();
  arena_.drop();
  shelf_.drop();
}

Device::Use::Use(int32_t ordinal) {
  check_cuda(cuda::current_device(&before_), "asking for the current device");
  if (before_ == ordinal) return;
  check_cuda(cuda::use_device(ordinal), "making the device current");
  changed_ = true;
}
Device::Use::~Use() {
  if (changed_) static_cast<void>(cuda::use_device(before_));
}

std::shared_ptr<std::byte> Device::allocate(size_t bytes) const {
  void* memory = nullptr;
  check_cuda(cuda::allocate(&memory, bytes), "allocating the payload");
  return {static_cast<std::byte*>(memory), [](std::byte* p) { static_cast<void>(cuda::release(p)); }};
}

std::byte* Device::Reused::need(size_t wanted) {
  if (bytes >= wanted) return memory;
  drop();
  const size_t rounded = std::max<size_t>(wanted + wanted / 4, size_t{1} << 16U);
  void* got = nullptr;
  check_cuda(pinned ? cuda::allocate_pinned(&got, rounded) : cuda::allocate(&got, rounded),
             pinned ? "allocating staging memory" : "allocating scratch memory");
  memory = static_cast<std::byte*>(got);
  bytes = rounded;
  return memory;
}
void Device::Reused::drop() {
  if (memory != nullptr) static_cast<void>(pinned ? cuda::release_pinned(memory) : cuda::release(memory));
  memory = nullptr;
  bytes = 0;
}

void Device::need_reach(const void* base, size_t bytes, const char* what) const {
  const auto* first = static_cast<const std::byte*>(base);
  for (const std::byte* at : {first, first + bytes - 1}) {
    cuda::Place place{};
    check_cuda(cuda::place_of(at, &place), "asking where memory lies");
    if (place.kind == cuda::Place::kHost) {
      fail(SKV_E_ARGUMENT, "%s at %p of %zu bytes is not in CUDA memory; wanted memory of device %d, or pinned", what,
           base, bytes, ordinal_);
    }
    if (place.kind == cuda::Place::kDevice && place.device != ordinal_) {
      fail(SKV_E_RANGE, "%s at %p is in device %d; wanted device %d", what, base, place.device, ordinal_);
    }
  }
}

Device::Reader::Reader(int32_t ordinal) : use_(ordinal) { check_cuda(cuda::open_stream(&stream_), "opening a stream"); }
Device::Reader::~Reader() { static_cast<void>(cuda::close_stream(stream_)); }
void Device::Reader::queue(void* to, const void* from, size_t bytes) const {
  check_cuda(cuda::copy(to, from, bytes, stream_), "copying from the device");
}
void Device::Reader::wait() const { check_cuda(cuda::synchronize(stream_), "copying from the device"); }

void Device::read(int32_t ordinal, void* to, const void* from, size_t bytes) {
  const Reader reader(ordinal);
  reader.queue(to, from, bytes);
  reader.wait();
}

}  // namespace skv
