// SPDX-License-Identifier: Apache-2.0
#include "counted_memory.h"

#include <malloc.h>

#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstring>

// glibc's own, which a program's malloc stands before.
extern "C" {
void* __libc_malloc(size_t size);
void* __libc_calloc(size_t count, size_t size);
void* __libc_realloc(void* old, size_t size);
void* __libc_memalign(size_t alignment, size_t size);
void __libc_free(void* memory);
}

namespace {

std::atomic<bool> counting{false};
std::atomic<uint64_t> calls{0};
std::atomic<int64_t> live{0};
std::atomic<int64_t> peak{0};

void* taken(void* memory) {
  if (memory == nullptr || !counting.load(std::memory_order_relaxed)) return memory;
  calls.fetch_add(1);
  const auto size = static_cast<int64_t>(malloc_usable_size(memory));
  const int64_t now = live.fetch_add(size) + size;
  int64_t most = peak.load();
  while (now > most && !peak.compare_exchange_weak(most, now)) {
  }
  return memory;
}
void given_back(void* memory) {
  if (memory == nullptr || !counting.load(std::memory_order_relaxed)) return;
  live.fetch_sub(static_cast<int64_t>(malloc_usable_size(memory)));
}

}  // namespace

extern "C" {
void* malloc(size_t size) { return taken(__libc_malloc(size)); }
void* calloc(size_t count, size_t size) { return taken(__libc_calloc(count, size)); }
void* realloc(void* old, size_t size) {
  given_back(old);
  return taken(__libc_realloc(old, size));
}
void* memalign(size_t alignment, size_t size) { return taken(__libc_memalign(alignment, size)); }
void* aligned_alloc(size_t alignment, size_t size) { return taken(__libc_memalign(alignment, size)); }
int posix_memalign(void** out, size_t alignment, size_t size) {
  void* memory = taken(__libc_memalign(alignment, size));
  if (memory == nullptr) return ENOMEM;
  *out = memory;
  return 0;
}
void free(void* memory) {
  given_back(memory);
  __libc_free(memory);
}
}

namespace skv::test {

void start_counting() {
  calls = 0;
  live = 0;
  peak = 0;
  counting = true;
}

Taken stop_counting() {
  counting = false;
  return {calls.load(), peak.load(), live.load()};
}

}  // namespace skv::test
