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
// Less than this glibc keeps for the next call (M_MMAP_THRESHOLD's upper limit); more it maps anew each time, and a
// first write to a page of 4 KiB took 2 us on a virtual machine, as long as encoding what fits there
// (docs/results/performance.md).
constexpr size_t kLeastHuge = size_t{32} << 20U;

}  // namespace

std::shared_ptr<std::byte> payload_memory(size_t bytes) {
  const size_t page = bytes >= kLeastHuge ? kHugePage : kLine;
  const size_t rounded = bytes / page * page + (bytes % page != 0 ? page : 0);
  void* memory = bytes <= PTRDIFF_MAX ? std::aligned_alloc(page, rounded) : nullptr;
  if (memory == nullptr) fail(SKV_E_NO_MEMORY, "cannot allocate %zu bytes", bytes);
#ifdef MADV_HUGEPAGE
  if (page == kHugePage) static_cast<void>(::madvise(memory, rounded, MADV_HUGEPAGE));  // kernels may lack them
#endif
  return {static_cast<std::byte*>(memory), std::free};
}

}  // namespace skv
