// SPDX-License-Identifier: Apache-2.0
// The switches of the libnccl.so.2 that tests build. Found with dlsym("fake_nccl"), the same in every process.
#pragma once

#include <atomic>

struct FakeNccl {
  std::atomic<int> version{22701};
  std::atomic<int> calls{0};               // counted ones so far: ids, meetings, groups, sends, receives
  std::atomic<int> fail_at{0};             // that call fails with fail_result; 0: none
  std::atomic<int> fail_result{3};         // ncclInternalError
  std::atomic<int> hang_at{0};             // that call does not return before its communicator is aborted
  std::atomic<bool> hang_for_good{false};  // ... nor after
  std::atomic<int> abort_ms{0};            // ncclCommAbort takes so long
  std::atomic<bool> abort_hangs{false};    // ... for ever
  std::atomic<int> corrupt_at{0};          // that call is a receive whose first byte arrives changed
  std::atomic<int> ids{0}, comms{0}, aborts{0}, revokes{0}, sends{0};
  std::atomic<int> live{0};       // communicators not aborted yet
  std::atomic<int> most_ctas{0};  // of the last config

  void reset() {
    version = 22701;
    calls = fail_at = hang_at = abort_ms = corrupt_at = ids = comms = aborts = revokes = sends = 0;
    fail_result = 3;
    hang_for_good = abort_hangs = false;
  }
};
