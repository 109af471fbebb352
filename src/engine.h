// SPDX-License-Identifier: Apache-2.0
// A device with its threads, scratch and kernels. One call at a time uses an engine.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "arena.h"
#include "device.h"
#include "kernels/kernels.h"
#include "spread.h"
#include "workers.h"

namespace skv {

// The receipts' clock, monotonic.
uint64_t now_ns();

class Engine {
 public:
  explicit Engine(int32_t device);
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  void set(int32_t key, int64_t value);
  int64_t get(int32_t key) const;
  // From now on units run where this says; run null: on own threads again.
  void set_executor(const Executor& executor);
  std::string describe() const;

  const kernels::Kernels& kernels() const { return *kernels_; }
  int32_t threads() const { return threads_; }
  // The CUDA device, null on the CPU. A CUDA engine keeps the CPU's kernels and threads for what the host does.
  Device* device() const { return device_.get(); }
  // This engine on the CPU: itself, or one of a CUDA engine's own for what is done on copies in host memory.
  Engine& host();

  // Runs work(unit, scratch) for every unit in [0, count), split over the engine's threads (the caller's is one of
  // them); returns when all are done. The first exception (lowest unit) is rethrown after the others finished.
  template <class Work>
  void run(size_t count, const Work& work) {
    run_units(count, std::cref(work));  // a reference fits into a std::function without an allocation
  }
  // The same for what needs to know no engine.
  Spread spread() {
    return {static_cast<size_t>(threads_),
            [this](size_t count, const Spread::Work& work) { run(count, [&](size_t i, Scratch&) { work(i); }); }};
  }
  // What every worker's scratch has at least, from the next run on: none has to allocate in a later one, whichever
  // units it gets.
  void reserve(size_t floats, size_t offsets) {
    least_ = {std::max(least_.floats, floats), std::max(least_.offsets, offsets)};
  }
  // For the arrays of the call that uses this engine, on its own thread; each call begins with a reset().
  Arena& arena() { return arena_; }

 private:
  void run_units(size_t count, const Workers::Work& work);

  std::unique_ptr<Device> device_;
  std::unique_ptr<Engine> host_;
  const kernels::Kernels* kernels_;
  int32_t threads_;
  std::unique_ptr<Workers> workers_;  // own threads, started on first use, or the executor's
  Executor executor_;
  Scratch own_;  // the caller's thread
  Least least_;
  Arena arena_;
};

}  // namespace skv
