// SPDX-License-Identifier: Apache-2.0
#include "engine.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <mutex>
#include <system_error>
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

// Threads wait for a numbered job, take units from a shared counter, and report back.
struct Engine::Pool {
  explicit Pool(int32_t helpers) : scratch(static_cast<size_t>(helpers)) {
    threads.reserve(static_cast<size_t>(helpers));
    try {
      for (int32_t i = 0; i < helpers; ++i) threads.emplace_back([this, i] { serve(static_cast<size_t>(i)); });
    } catch (const std::system_error& e) {
      stop();
      fail(SKV_E_NO_RESOURCE, "could not start thread %d of %d: %s", static_cast<int>(threads.size()) + 1, helpers,
           e.what());
    }
  }
  ~Pool() { stop(); }
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  void stop() {
    {
      const std::lock_guard lock(mutex);
      stopping = true;
    }
    wake.notify_all();
    for (std::thread& thread : threads) thread.join();
    threads.clear();
  }

  void run(size_t units, const std::function<void(size_t, Scratch&)>& job, const Least& least_of_job, Scratch& own) {
    {
      const std::lock_guard lock(mutex);
      work = &job;
      count = units;
      least = least_of_job;
      next.store(0, std::memory_order_relaxed);
      failure = nullptr;
      failed_unit = units;
      busy = threads.size();
      ++generation;
    }
    wake.notify_all();
    take(own);
    std::unique_lock lock(mutex);
    done.wait(lock, [this] { return busy == 0; });  // bounded by the work itself: every worker only runs units
    work = nullptr;
    if (failure != nullptr) std::rethrow_exception(std::exchange(failure, nullptr));
  }

  // Every worker comes by in every run.
  void take(Scratch& own) {
    try {
      least.give(own);
    } catch (...) {
      const std::lock_guard lock(mutex);
      failed_unit = 0;
      failure = std::current_exception();
      return;
    }
    for (;;) {
      const size_t unit = next.fetch_add(1, std::memory_order_relaxed);
      if (unit >= count) return;
      try {
        (*work)(unit, own);
      } catch (...) {
        const std::lock_guard lock(mutex);
        if (unit < failed_unit) {
          failed_unit = unit;
          failure = std::current_exception();
        }
      }
    }
  }

  void serve(size_t index) {
    uint64_t seen = 0;
    std::unique_lock lock(mutex);
    for (;;) {
      wake.wait(lock, [&] { return stopping || generation != seen; });
      if (stopping) return;
      seen = generation;
      lock.unlock();
      take(scratch[index]);
      lock.lock();
      if (--busy == 0) done.notify_one();
    }
  }

  std::mutex mutex;
  std::condition_variable wake;
  std::condition_variable done;
  std::vector<Scratch> scratch;
  std::vector<std::thread> threads;
  const std::function<void(size_t, Scratch&)>* work = nullptr;
  size_t count = 0;
  Least least;
  std::atomic<size_t> next{0};
  size_t busy = 0;
  uint64_t generation = 0;
  bool stopping = false;
  std::exception_ptr failure;
  size_t failed_unit = 0;
};

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
  if (host_->threads_ != threads_) host_->set(SKV_ENGINE_THREADS, threads_);
  return *host_;
}

void Engine::set(int32_t key, int64_t value) {
  switch (key) {
    case SKV_ENGINE_THREADS:
      if (value < 0 || value > kMaxThreads) {
        fail(SKV_E_RANGE, "engine threads %lld: wanted 0..%d", static_cast<long long>(value), kMaxThreads);
      }
      pool_.reset();
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

void Engine::run_units(size_t count, const std::function<void(size_t, Scratch&)>& work) {
  if (count == 0) return;
  if (threads_ == 1 || count == 1) {
    least_.give(own_);
    for (size_t unit = 0; unit < count; ++unit) work(unit, own_);
    return;
  }
  if (pool_ == nullptr) pool_ = std::make_unique<Pool>(threads_ - 1);
  pool_->run(count, work, least_, own_);
}

}  // namespace skv
