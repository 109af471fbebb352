// SPDX-License-Identifier: Apache-2.0
// Who runs an engine's units of work: threads of its own, or the caller's executor.
#pragma once

#include <spectrumkv.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

namespace skv {

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

// What every worker's scratch has before it takes a unit.
struct Least {
  size_t floats = 0;
  size_t offsets = 0;
  void give(Scratch& scratch) const {
    scratch.need_floats(floats);
    scratch.need_offsets(offsets);
  }
};

class Workers {
 public:
  using Work = std::function<void(size_t unit, Scratch& scratch)>;

  Workers() = default;
  virtual ~Workers() = default;
  Workers(const Workers&) = delete;
  Workers& operator=(const Workers&) = delete;

  // Runs every unit in [0, count), some of them on this thread with its own scratch; returns when all are done. The
  // first exception (lowest unit) is rethrown after the others finished.
  virtual void run(size_t count, const Work& work, const Least& least, Scratch& own) = 0;
};

// skv_engine_set_executor.
struct Executor {
  skv_executor run = nullptr;
  void* user = nullptr;
  int32_t width = 0;
  bool operator==(const Executor&) const = default;
};

// Starts `helpers` threads; throws NO_RESOURCE.
std::unique_ptr<Workers> make_threads(int32_t helpers);
std::unique_ptr<Workers> make_borrowed(const Executor& executor);

}  // namespace skv
