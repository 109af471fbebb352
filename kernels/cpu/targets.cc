// SPDX-License-Identifier: Apache-2.0
// The tables, and which of them this CPU can run.
#include "kernels/cpu/cpu.h"
#include "spectrumkv.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace skv::kernels {
namespace {

#define SKV_TABLE(target, name, space)                                                                                \
  {                                                                                                                   \
    target, name, space::stats, space::vectors, space::pack, space::unpack, space::absmax, space::dots, space::norms, \
        space::accumulate, space::softmax, space::charge, space::digest                                               \
  }

constexpr Kernels kScalar = SKV_TABLE(SKV_TARGET_SCALAR, "scalar", scalar);
#if defined(__x86_64__)
constexpr Kernels kAvx2 = SKV_TABLE(SKV_TARGET_AVX2, "avx2", N_AVX2);
constexpr Kernels kAvx512 = SKV_TABLE(SKV_TARGET_AVX512, "avx512", N_AVX3);

// What Highway's AVX2 and AVX3 targets are compiled with (hwy/ops/set_macros-inl.h, HWY_TARGET_STR). The built-in also
// asks the operating system for the registers.
bool has_f16c() {  // clang 14's built-in does not know it
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid(1, &a, &b, &c, &d) != 0 && (c & bit_F16C) != 0;
}
bool has_avx2() {
  __builtin_cpu_init();
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi") &&
         __builtin_cpu_supports("bmi2") && has_f16c() && __builtin_cpu_supports("aes") &&
         __builtin_cpu_supports("pclmul");
}
bool has_avx512() {
  return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw");
}
#elif defined(__aarch64__)
constexpr Kernels kNeon = SKV_TABLE(SKV_TARGET_NEON, "neon", N_NEON);
#endif
#undef SKV_TABLE

}  // namespace

const Kernels* kernels_of(int32_t target) {
  switch (target) {
    case SKV_TARGET_SCALAR:
      return &kScalar;
#if defined(__x86_64__)
    case SKV_TARGET_AVX2:
      return has_avx2() ? &kAvx2 : nullptr;
    case SKV_TARGET_AVX512:
      return has_avx512() ? &kAvx512 : nullptr;
    case SKV_TARGET_AUTO:
      return has_avx512() ? &kAvx512 : has_avx2() ? &kAvx2 : &kScalar;
#elif defined(__aarch64__)
    case SKV_TARGET_NEON:
    case SKV_TARGET_AUTO:
      return &kNeon;
#else
    case SKV_TARGET_AUTO:
      return &kScalar;
#endif
    default:
      return nullptr;
  }
}

}  // namespace skv::kernels
