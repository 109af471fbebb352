// SPDX-License-Identifier: Apache-2.0
// XXH3-64 with AVX2. A file of its own: xxhash.h can be compiled once per translation unit.
#include "kernels/cpu/cpu.h"

#if defined(__x86_64__)
// Before the pragma: nothing of these may be compiled for a CPU that is not there.
#include <assert.h>
#include <immintrin.h>
#include <limits.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2")
#endif

#define XXH_INLINE_ALL
#define XXH_VECTOR 2  // XXH_AVX2
#include <xxhash.h>

namespace skv::kernels::N_AVX2 {

uint64_t digest(const void* bytes, size_t size) { return XXH3_64bits(bytes, size); }

}  // namespace skv::kernels::N_AVX2

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif  // __x86_64__
