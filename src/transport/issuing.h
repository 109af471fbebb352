// SPDX-License-Identifier: Apache-2.0
// The one thread that issues NCCL's calls for a device, whatever endpoints and conns they are for: two that did so at
// once could post in different orders and wait for each other for ever. A watch beside it knows what call it is in,
// ends that by aborting its communicator once a transfer that is to stop is kept waiting by it, and gives the thread up
// if that fails.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "transport/device_calls.h"
#include "transport/nccl_library.h"

namespace skv::transport {

// A communicator that is being aborted, on a thread of its own.
struct Abort;
// Revokes (where NCCL can) and, unless only that is wanted, aborts. Never waits.
std::shared_ptr<Abort> abort_communicator(std::shared_ptr<const NcclLibrary> library, DeviceCalls& calls,
                                          std::int32_t device, nccl::Comm comm, std::uint64_t bound_ns,
                                          bool only_revoke = false);
bool aborted(const Abort& abort);
bool overdue(const Abort& abort, std::uint64_t now);  // its bound passed and it has not returned

// Something the thread runs again and again while it has work.
class Issued {
 public:
  enum class State { kIdle, kBusy, kMoved, kOver };
  virtual ~Issued() = default;
  virtual State step(std::uint64_t now) = 0;  // kOver: forget me
};

class IssuingThread {
 public:
  // The device's, started if there is none.
  static std::shared_ptr<IssuingThread> of(DeviceCalls& calls, std::int32_t device);
  ~IssuingThread();
  IssuingThread(const IssuingThread&) = delete;
  IssuingThread& operator=(const IssuingThread&) = delete;

  struct State;
  const std::shared_ptr<State>& state() const { return state_; }

 private:
  IssuingThread(DeviceCalls& calls, std::int32_t device);
  std::shared_ptr<State> state_;
};

// For those that the thread works for; any thread. What is posted to a thread that was given up does nothing.
void post(IssuingThread::State& thread, std::function<void()> command);
void add(IssuingThread::State& thread, std::shared_ptr<Issued> work);
bool poisoned(const IssuingThread::State& thread) noexcept;
void poison(IssuingThread::State& thread) noexcept;
// Until the token is dropped a call that the thread hangs in is ended, or after `bound_ns` the thread given up: then
// `given_up` is called, by the watch.
std::shared_ptr<void> expect(const std::shared_ptr<IssuingThread::State>& thread, std::uint64_t bound_ns,
                             std::function<void()> given_up);

// Keeps what a device may still touch, for as long as the process lives.
void bury(std::shared_ptr<const void> remains);

// Drops it on a thread of its own: freeing device memory waits for what runs on the device, and that may wait for a
// frame that the progress loop has yet to send.
void drop_elsewhere(std::shared_ptr<const void> last) noexcept;

// On the thread itself, around a call that may hang. The constructor throws Abandoned if the thread was given up.
struct Abandoned {};
class Inside {
 public:
  // comm: what to abort if the call hangs; may be null.
  Inside(IssuingThread::State& thread, const std::shared_ptr<const NcclLibrary>& library, nccl::Comm comm);
  ~Inside();
  // The call is over: the abort of its communicator that the watch began, if it did. Throws Abandoned.
  std::shared_ptr<Abort> leave();

 private:
  IssuingThread::State& thread_;
};

}  // namespace skv::transport
