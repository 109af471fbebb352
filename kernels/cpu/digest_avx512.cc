// SPDX-License-Identifier: Apache-2.0
// XXH3-64 with AVX-512. A file of its own: xxhash.h can be compiled once per translation unit.
#include "kernels/cpu/cpu.h"

#if defined(__x86_64__)
#if defined(__GNUC__) && !defined(__clang__)
// _mm512_undefined_epi32 of GCC 12 (gcc.gnu.org/PR105593).
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
// Before the pragma: nothing of these may be compiled for a CPU that is not there.
#include <assert.h>
#include <immintrin.h>
#include <limits.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f")
#endif

#define XXH_INLINE_ALL
#define XXH_VECTOR 3  // XXH_AVX512
#include <xxhash.h>

namespace skv::kernels::N_AVX3 {

uint64_t digest(const void* bytes, size_t size) { return XXH3_64bits(bytes, size); }

}  // namespace skv::kernels::N_AVX3

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif  // __x86_64__
