// SPDX-License-Identifier: Apache-2.0
// XXH3-64 with the baseline's instructions (SSE2 on x86-64, NEON on aarch64).
#include "kernels/cpu/cpu.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace skv::kernels {

namespace scalar {
uint64_t digest(const void* bytes, size_t size) { return XXH3_64bits(bytes, size); }
}  // namespace scalar

#if defined(__aarch64__)
namespace N_NEON {
uint64_t digest(const void* bytes, size_t size) { return XXH3_64bits(bytes, size); }
}  // namespace N_NEON
#endif

}  // namespace skv::kernels
