// SPDX-License-Identifier: Apache-2.0
// A device with its threads, scratch and kernels. One call at a time uses an engine.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "device.h"
#include "kernels/kernels.h"

namespace skv {

// The receipts' clock, monotonic.
uint64_t now_ns();

// What one worker needs for one (half, chunk), reused for ever: no allocation in steady state.
struct Scratch {
  std::vector<float> floats;
  std::vector<int64_t> offsets;
  std::vector<uint8_t> bytes;

  // At least n floats; contents are undefined.
  float* need_floats(size_t n) {
    if (floats.size() < n) floats.resize(n);
    return floats.data();
  }
  int64_t* need_offsets(size_t n) {
    if (offsets.size() < n) offsets.resize(n);
    return offsets.data();
  }
};

class Engine {
 public:
  explicit Engine(int32_t device);
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  void set(int32_t key, int64_t value);
  int64_t get(int32_t key) const;
  std::string describe() const;

  const kernels::Kernels& kernels() const { return *kernels_; }
  int32_t threads() const { return threads_; }
  // The CUDA device, null on the CPU. A CUDA engine keeps the CPU's kernels and threads for what the host does.
  Device* device() const { return device_.get(); }
  // This engine on the CPU: itself, or one of a CUDA engine's own for what is done on copies in host memory.
  Engine& host();

  // Runs work(unit, scratch) for every unit in [0, count), split over the engine's threads (the caller's is one of
  // them); returns when all are done. The first exception (lowest unit) is rethrown after the others finished.
  void run(size_t count, const std::function<void(size_t unit, Scratch& scratch)>& work);

 private:
  struct Pool;
  std::unique_ptr<Device> device_;
  std::unique_ptr<Engine> host_;
  const kernels::Kernels* kernels_;
  int32_t threads_;
  std::unique_ptr<Pool> pool_;  // started on first use
  Scratch own_;                 // the caller's thread
};

}  // namespace skv
