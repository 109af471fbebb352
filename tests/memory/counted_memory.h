// SPDX-License-Identifier: Apache-2.0
// Counts what a process takes from malloc: link counted_memory.cc into a program, and its malloc and that of every
// library in it (operator new ends there too) is glibc's with a tally.
#pragma once

#include <cstdint>

namespace skv::test {

// From the last start_counting() on, in all threads.
struct Taken {
  uint64_t calls = 0;       // that took memory
  int64_t peak_bytes = 0;   // most at any time beyond what there was at the start
  int64_t bytes_after = 0;  // still there beyond it
};

void start_counting();
Taken stop_counting();

}  // namespace skv::test
