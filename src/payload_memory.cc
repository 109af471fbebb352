// SPDX-License-Identifier: Apache-2.0
#include "payload_memory.h"

#include <sys/mman.h>

#include <cstdint>
#include <cstdlib>

#include "error.h"

namespace skv {
namespace {

constexpr size_t kLine = 64;
constexpr size_t kHugePage = size_t{2} << 20U;  // x86-64's, and AArch64's with pages of 4 KiB
// A first write to a page of 4 KiB took 2 us on a virtual machine, as long as encoding what fits there
// (docs/results/performance.md).
constexpr size_t kLeastHuge = 2 * kHugePage;
// More than this glibc maps anew each time (M_MMAP_THRESHOLD's upper limit). Of less it keeps what was freed, and
// touched, for the next call: no reason to ask for another place.
constexpr size_t kLeastAligned = size_t{32} << 20U;

// Asks for huge pages where whole ones lie in the memory. Kernels may lack them.
void want_huge_pages(void* memory, size_t bytes) {
#ifdef MADV_HUGEPAGE
  const auto at = reinterpret_cast<uintptr_t>(memory);
  const uintptr_t first = (at + kHugePage - 1) / kHugePage * kHugePage;
  const uintptr_t end = (at + bytes) / kHugePage * kHugePage;
  if (first < end) static_cast<void>(::madvise(reinterpret_cast<void*>(first), end - first, MADV_HUGEPAGE));
#endif
}

}  // namespace

std::shared_ptr<std::byte> payload_memory(size_t bytes) {
  const size_t alignment = bytes >= kLeastAligned ? kHugePage : kLine;
  const size_t rounded = bytes / alignment * alignment + (bytes % alignment != 0 ? alignment : 0);
  void* memory = bytes <= PTRDIFF_MAX ? std::aligned_alloc(alignment, rounded) : nullptr;
  if (memory == nullptr) fail(SKV_E_NO_MEMORY, "cannot allocate %zu bytes", bytes);
  if (bytes >= kLeastHuge) want_huge_pages(memory, rounded);
  return {static_cast<std::byte*>(memory), std::free};
}

}  // namespace skv
