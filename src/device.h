// SPDX-License-Identifier: Apache-2.0
// A CUDA device as an engine uses it: checked calls, memory that is reused from call to call, and where addresses lie.
// Knows no tensors.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "kernels/cuda/cuda.h"

namespace skv {

// Throws for a cudaError_t that is not success: NO_MEMORY, else CUDA with the code in native.
void check_cuda(int code, const char* doing);

class Device {
 public:
  // RANGE, UNAVAILABLE (no CUDA in this build, no driver, no such device, or one its kernels were not built for).
  explicit Device(int32_t ordinal);
  ~Device();
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;

  int32_t ordinal() const { return ordinal_; }
  const std::string& name() const { return name_; }

  // Makes the device the calling thread's while it lives. Every call below and every launch needs one.
  class Use {
   public:
    explicit Use(int32_t ordinal);
    explicit Use(const Device& device) : Use(device.ordinal_) {}
    ~Use();
    Use(const Use&) = delete;
    Use& operator=(const Use&) = delete;

   private:
    int32_t before_ = 0;
    bool changed_ = false;
  };

  // Memory of the device that its last owner frees.
  std::shared_ptr<std::byte> allocate(size_t bytes) const;
  // Reused: valid until the next call of the same function; grows, never shrinks, so that a steady state allocates
  // nothing. staging is host memory the device copies from and to; arena and shelf are the device's.
  std::byte* staging(size_t bytes) { return staging_.need(bytes); }
  std::byte* arena(size_t bytes) { return arena_.need(bytes); }
  std::byte* shelf(size_t bytes) { return shelf_.need(bytes); }

  // ARGUMENT for memory the device cannot reach (plain host memory), RANGE for another device's. `what` names it.
  void need_reach(const void* base, size_t bytes, const char* what) const;
  // Copies device memory to the host on a stream of its own: what made the bytes must have ended.
  class Reader {
   public:
    explicit Reader(int32_t ordinal);
    ~Reader();
    Reader(const Reader&) = delete;
    Reader& operator=(const Reader&) = delete;
    void queue(void* to, const void* from, size_t bytes) const;
    void wait() const;

   private:
    Use use_;
    void* stream_ = nullptr;
  };
  static void read(int32_t ordinal, void* to, const void* from, size_t bytes);

 private:
  struct Reused {
    std::byte* memory = nullptr;
    size_t bytes = 0;
    bool pinned = false;
    std::byte* need(size_t wanted);
    void drop();
  };
  int32_t ordinal_;
  std::string name_;
  Reused staging_;
  Reused arena_;
  Reused shelf_;
};

}  // namespace skv
