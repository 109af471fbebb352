// SPDX-License-Identifier: Apache-2.0
#include "engine.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <thread>

#include "error.h"

namespace skv {
uint64_t now_ns() {
  return static_cast<uint64_t>(
      std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch())
          .count());
}

namespace {

constexpr int32_t kMaxThreads = 256;
constexpr int32_t kDefaultThreads = 8;  // beyond it a memory-bound codec only takes cores from its host

int32_t default_threads() {
  const auto cores = static_cast<int32_t>(std::thread::hardware_concurrency());
  return std::clamp(cores, 1, kDefaultThreads);
}

const kernels::Kernels* default_kernels() {
  const char* wanted = std::getenv("SPECTRUMKV_TARGET");
  if (wanted == nullptr || *wanted == '\0' || std::strcmp(wanted, "auto") == 0) {
    return kernels::kernels_of(SKV_TARGET_AUTO);
  }
  for (int32_t target = SKV_TARGET_SCALAR; target <= SKV_TARGET_NEON; ++target) {
    const kernels::Kernels* found = kernels::kernels_of(target);
    if (found != nullptr && std::strcmp(found->name, wanted) == 0) return found;
  }
  fail(SKV_E_UNAVAILABLE,
       "SPECTRUMKV_TARGET=%s: no such kernels on this CPU; wanted auto, scalar, avx2, avx512 or neon", wanted);
}

}  // namespace

Engine::Engine(int32_t device) : kernels_(nullptr), threads_(default_threads()) {
  if (device < SKV_DEVICE_CPU) fail(SKV_E_RANGE, "device %d: wanted SKV_DEVICE_CPU (-1) or a CUDA ordinal", device);
  if (device >= 0) device_ = std::make_unique<Device>(device);
  kernels_ = default_kernels();
}

Engine::~Engine() = default;

Engine& Engine::host() {
  if (device_ == nullptr) return *this;
  if (host_ == nullptr) host_ = std::make_unique<Engine>(SKV_DEVICE_CPU);
  host_->kernels_ = kernels_;
  if (host_->executor_ != executor_) host_->set_executor(executor_);
  if (host_->threads_ != threads_) host_->set(SKV_ENGINE_THREADS, threads_);
  return *host_;
}

void Engine::set_executor(const Executor& executor) {
  if (executor.run == nullptr) {
    if (executor_.run == nullptr) return;
    workers_.reset();
    executor_ = {};
    threads_ = default_threads();
    return;
  }
  if (executor.width < 1 || executor.width > kMaxThreads) {
    fail(SKV_E_RANGE, "executor of width %d: wanted 1..%d", executor.width, kMaxThreads);
  }
  workers_ = make_borrowed(executor);
  executor_ = executor;
  threads_ = executor.width;
}

void Engine::set(int32_t key, int64_t value) {
  switch (key) {
    case SKV_ENGINE_THREADS:
      if (value < 0 || value > kMaxThreads) {
        fail(SKV_E_RANGE, "engine threads %lld: wanted 0..%d", static_cast<long long>(value), kMaxThreads);
      }
      if (executor_.run != nullptr) {
        fail(SKV_E_STATE, "engine threads %lld: an executor of width %d is set, which has the threads",
             static_cast<long long>(value), executor_.width);
      }
      workers_.reset();
      threads_ = value == 0 ? default_threads() : static_cast<int32_t>(value);
      return;
    case SKV_ENGINE_TARGET: {
      if (value < SKV_TARGET_AUTO || value > SKV_TARGET_NEON) {
        fail(SKV_E_RANGE, "engine target %lld: wanted one of SKV_TARGET_* (0..4)", static_cast<long long>(value));
      }
      const kernels::Kernels* found = kernels::kernels_of(static_cast<int32_t>(value));
      if (found == nullptr) {
        fail(SKV_E_UNAVAILABLE, "engine target %lld: not on this CPU or not in this build (best here: %s)",
             static_cast<long long>(value), kernels::kernels_of(SKV_TARGET_AUTO)->name);
      }
      kernels_ = found;
      return;
    }
    default:
      fail(SKV_E_KEY, "engine option %d: wanted SKV_ENGINE_THREADS (1) or SKV_ENGINE_TARGET (2)", key);
  }
}

int64_t Engine::get(int32_t key) const {
  switch (key) {
    case SKV_ENGINE_THREADS:
      return threads_;
    case SKV_ENGINE_TARGET:
      return kernels_->target;
    default:
      fail(SKV_E_KEY, "engine option %d: wanted SKV_ENGINE_THREADS (1) or SKV_ENGINE_TARGET (2)", key);
  }
}

std::string Engine::describe() const {
  char line[96];
  std::snprintf(line, sizeof line, "cpu %s %d thread%s", kernels_->name, threads_, threads_ == 1 ? "" : "s");
  if (device_ == nullptr) return line;
  char prefix[24];
  std::snprintf(prefix, sizeof prefix, "cuda:%d ", device_->ordinal());
  return prefix + device_->name() + ", " + line;
}

void Engine::run_units(size_t count, const Workers::Work& work) {
  if (count == 0) return;
  if (threads_ == 1 || count == 1) {
    least_.give(own_);
    for (size_t unit = 0; unit < count; ++unit) work(unit, own_);
    return;
  }
  if (workers_ == nullptr) workers_ = make_threads(threads_ - 1);
  workers_->run(count, work, least_, own_);
}

}  // namespace skv
