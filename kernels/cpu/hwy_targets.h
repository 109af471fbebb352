// SPDX-License-Identifier: Apache-2.0
// Before foreach_target.h: which Highway targets are compiled. Highway is used header-only, so its own run-time choice
// (hwy::SupportedTargets, in libhwy) is out; targets.cc chooses.
#pragma once

#include "hwy/detect_targets.h"

// The baseline of x86-64 cannot be switched off: files leave it empty by SKV_SIMD.
#undef HWY_DISABLED_TARGETS
#define HWY_DISABLED_TARGETS (HWY_AVX3_DL | HWY_SSE4 | HWY_SSSE3 | HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128)

#define SKV_SIMD (HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_NEON)
