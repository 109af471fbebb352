// SPDX-License-Identifier: Apache-2.0
// The tables, and which of them this CPU can run.
#include "kernels/cpu/cpu.h"
#include "spectrumkv.h"

namespace skv::kernels {
namespace {

constexpr Kernels kScalar = {SKV_TARGET_SCALAR,  "scalar",       scalar::stats,  scalar::vectors,
                             scalar::pack,       scalar::unpack, scalar::absmax, scalar::dots,
                             scalar::accumulate, scalar::exps,   scalar::digest};

}  // namespace

const Kernels* kernels_of(int32_t target) {
  switch (target) {
    case SKV_TARGET_AUTO:
    case SKV_TARGET_SCALAR:
      return &kScalar;
    default:
      return nullptr;
  }
}

}  // namespace skv::kernels
