// SPDX-License-Identifier: Apache-2.0
// Devices on the host: memory that is told apart by where it was allocated, streams that are threads working through a
// queue, events that a stream passes. In the place of CUDA's behind DeviceCalls.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <thread>

#include "host_stream.h"
#include "transport/device_calls.h"
#include "transport/digest.h"

namespace skv::transport {

class HostDevices : public DeviceCalls {
 public:
  std::atomic<int> devices{4};
  std::atomic<int> no_driver{0};         // what count() answers instead of 0
  std::atomic<bool> reach_all{true};     // plain memory passes for every device's
  std::atomic<std::int64_t> memory{-1};  // bytes left to give, -1: no limit
  std::atomic<int> streams{0}, events{0}, copies{0};

  int count(std::int32_t* out) override {
    *out = devices;
    return no_driver;
  }
  int use(std::int32_t device) override {
    if (device < 0 || device >= devices) return 101;
    current_() = device;
    return 0;
  }
  int current(std::int32_t* device) override {
    *device = current_();
    return 0;
  }
  int allocate(void** out, std::size_t bytes) override {
    if (memory >= 0 && static_cast<std::int64_t>(bytes) > memory) return kOutOfMemory;
    *out = std::aligned_alloc(256, (bytes + 255) / 256 * 256);
    std::lock_guard lock(mutex_);
    ranges_[static_cast<std::byte*>(*out)] = {bytes, current_()};
    return 0;
  }
  int release(void* memory) override {
    std::lock_guard lock(mutex_);
    if (memory != nullptr && ranges_.erase(static_cast<std::byte*>(memory)) == 0) return 1;
    std::free(memory);
    return 0;
  }
  int allocate_pinned(void** out, std::size_t bytes) override {
    *out = std::aligned_alloc(256, (bytes + 255) / 256 * 256);
    return 0;
  }
  int release_pinned(void* memory) override {
    std::free(memory);
    return 0;
  }
  int place_of(const void* address, Place* out) override {
    const auto* at = static_cast<const std::byte*>(address);
    std::lock_guard lock(mutex_);
    auto found = ranges_.upper_bound(const_cast<std::byte*>(at));
    *out = {reach_all, -1};
    if (found == ranges_.begin()) return 0;
    --found;
    if (at < found->first + found->second.bytes) *out = {true, found->second.device};
    return 0;
  }
  int open_stream(void** out) override {
    streams++;
    *out = new Queue;
    return 0;
  }
  int close_stream(void* stream) override {
    streams--;
    delete static_cast<Queue*>(stream);
    return 0;
  }
  int open_event(void** out) override {
    events++;
    *out = new Event;
    return 0;
  }
  int close_event(void* event) override {
    events--;
    auto* made = static_cast<Event*>(event);
    if (made->release()) delete made;
    return 0;
  }
  int record(void* event, void* stream) override {
    auto* made = static_cast<Event*>(event);
    made->asked++;
    made->users++;
    static_cast<Queue*>(stream)->put([made] {
      {
        std::lock_guard lock(made->mutex);
        made->passed++;
        made->changed.notify_all();
      }
      if (made->release()) delete made;
    });
    return 0;
  }
  int query(void* event) override {
    auto* made = static_cast<Event*>(event);
    std::lock_guard lock(made->mutex);
    return made->passed == made->asked ? 0 : kNotReady;
  }
  int wait_event(void* stream, void* event) override {
    auto* made = static_cast<Event*>(event);
    if (stream == nullptr) {  // the default stream: what follows is the caller's own
      std::unique_lock lock(made->mutex);
      made->changed.wait(lock, [&] { return made->passed == made->asked; });
      return 0;
    }
    made->users++;
    static_cast<Queue*>(stream)->put([made] {
      {
        std::unique_lock lock(made->mutex);
        made->changed.wait(lock, [&] { return made->passed == made->asked; });
      }
      if (made->release()) delete made;
    });
    return 0;
  }
  int copy(void* to, const void* from, std::size_t bytes, void* stream) override {
    copies++;
    static_cast<Queue*>(stream)->put([=] { std::memcpy(to, from, bytes); });
    return 0;
  }
  std::size_t leaves_room(std::size_t, std::size_t leaves) override { return 8 * leaves; }
  int leaves(std::span<const std::span<const std::byte>> pieces, std::byte* room, void* stream,
             const std::uint64_t** out) override {
    auto* digests = reinterpret_cast<std::uint64_t*>(room);
    *out = digests;
    static_cast<Queue*>(stream)->put([digests, all = std::vector(pieces.begin(), pieces.end())] {
      std::size_t n = 0;
      for (const auto& piece : all) {
        for (std::size_t at = 0; at < piece.size(); at += kLeafBytes) {
          digests[n++] = digest64(piece.subspan(at, std::min(kLeafBytes, piece.size() - at)));
        }
      }
    });
    return 0;
  }
  const char* text(int) override { return "as the test wants it"; }
  const char* name(int code) override {
    return code == kOutOfMemory ? "cudaErrorMemoryAllocation" : "cudaErrorNoDevice";
  }

 private:
  // Its thread is detached: one that a test leaves hanging is nobody's to join.
  class Queue final : public HostStream {
   public:
    Queue() {
      enqueue = [](HostStream* stream, void (*run)(void*), void* argument) {
        static_cast<Queue*>(stream)->put([=] { run(argument); });
      };
      std::thread([it = it_] {
        std::unique_lock lock(it->mutex);
        for (;;) {
          it->changed.wait(lock, [&] { return it->over || !it->work.empty(); });
          if (it->work.empty()) break;
          const auto next = std::move(it->work.front());
          it->work.pop_front();
          lock.unlock();
          next();
          lock.lock();
        }
        it->gone = true;
        it->changed.notify_all();
      }).detach();
    }
    ~Queue() {
      std::unique_lock lock(it_->mutex);
      it_->over = true;
      it_->changed.notify_all();
      it_->changed.wait(lock, [this] { return it_->gone; });
    }
    void put(std::function<void()> work) {
      std::lock_guard lock(it_->mutex);
      it_->work.push_back(std::move(work));
      it_->changed.notify_all();
    }

   private:
    struct Shared {
      std::mutex mutex;
      std::condition_variable changed;
      std::deque<std::function<void()>> work;
      bool over = false, gone = false;
    };
    const std::shared_ptr<Shared> it_ = std::make_shared<Shared>();
  };
  struct Event {
    std::mutex mutex;
    std::condition_variable changed;
    std::atomic<int> asked{0};
    int passed = 0;
    std::atomic<int> users{1};  // the handle, and what is queued
    bool release() { return --users == 0; }
  };
  struct Range {
    std::size_t bytes;
    std::int32_t device;
  };
  static std::int32_t& current_() {
    static thread_local std::int32_t device = 0;
    return device;
  }
  std::mutex mutex_;
  std::map<std::byte*, Range> ranges_;
};

// Never destroyed: what a test poisons hangs in it.
inline HostDevices& host_devices() {
  static auto* const it = new HostDevices;
  return *it;
}

}  // namespace skv::transport
