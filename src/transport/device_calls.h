// SPDX-License-Identifier: Apache-2.0
// What planes on devices use of them, behind an interface, so that tests can put a host's memory and threads in its
// place. Every call returns a cudaError_t as an int, 0 for success. Any thread; `device` is made current by use().
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

namespace skv::transport {

class DeviceCalls {
 public:
  static constexpr int kNotReady = 600;   // cudaErrorNotReady
  static constexpr int kOutOfMemory = 2;  // cudaErrorMemoryAllocation
  // Where an address lies. device: -1 for memory of the host that devices cannot reach.
  struct Place {
    bool reachable = false;
    std::int32_t device = -1;  // -1 with reachable: pinned memory of the host
  };

  virtual ~DeviceCalls() = default;
  virtual int count(std::int32_t* devices) = 0;
  virtual int use(std::int32_t device) = 0;  // makes it the calling thread's
  virtual int current(std::int32_t* device) = 0;
  virtual int allocate(void** memory, std::size_t bytes) = 0;
  virtual int release(void* memory) = 0;
  virtual int allocate_pinned(void** memory, std::size_t bytes) = 0;
  virtual int release_pinned(void* memory) = 0;
  virtual int place_of(const void* address, Place* out) = 0;
  virtual int open_stream(void** stream) = 0;
  virtual int close_stream(void* stream) = 0;
  virtual int open_event(void** event) = 0;
  virtual int close_event(void* event) = 0;
  virtual int record(void* event, void* stream) = 0;
  virtual int query(void* event) = 0;  // kNotReady until what was recorded is done
  virtual int wait_event(void* stream, void* event) = 0;
  virtual int copy(void* to, const void* from, std::size_t bytes, void* stream) = 0;
  // Bytes of pinned memory that leaves() of so many pieces and leaves works in.
  virtual std::size_t leaves_room(std::size_t pieces, std::size_t leaves) = 0;
  // XXH3-64 of every 64 KiB leaf of each piece, in order, on the stream. Returns where in `room` they will be.
  virtual int leaves(std::span<const std::span<const std::byte>> pieces, std::byte* room, void* stream,
                     const std::uint64_t** out) = 0;
  virtual const char* text(int code) = 0;
  virtual const char* name(int code) = 0;
};

// The CUDA runtime, as far as this build has it. Static storage.
DeviceCalls& cuda_calls();
// Tests: what cuda_calls() gives from now on.
void replace_cuda_calls(DeviceCalls& calls);

// Throws for a code that is not 0: NO_MEMORY, else CUDA with the code in native.
void check_device(DeviceCalls& calls, int code, const char* doing);

}  // namespace skv::transport
