// SPDX-License-Identifier: Apache-2.0
// What the CPU kernel files share: the entry points of each target, to be assembled in targets.cc.
#pragma once

#include "kernels/kernels.h"
#include "kernels/tiers.h"

// One declaration per kernel and target; each is defined in the .cc named after its group.
#define SKV_DECLARE_KERNELS(target)                                                                                    \
  namespace skv::kernels::target {                                                                                     \
  int32_t stats(const Rows& rows, const uint8_t* tiers, float* sum, float* lo, float* hi);                             \
  Verdict vectors(uint32_t transforms, int32_t counted, int32_t heads, int32_t dim, const float* sum, const float* lo, \
                  const float* hi, uint16_t* mean16, uint16_t* balance16, float* mean32, float* balance32,             \
                  float* recip32);                                                                                     \
  Verdict pack(const PackChunk& chunk);                                                                                \
  void unpack(const UnpackChunk& chunk);                                                                               \
  Verdict absmax(const Rows& rows, const Transform& transform, float* out);                                            \
  void dots(const Rows& rows, int32_t head, const float* vectors, int32_t count, float* out);                          \
  void accumulate(const Rows& rows, int32_t head, const float* weights, int64_t weight_stride, int32_t count,          \
                  float* out);                                                                                         \
  void exps(float* values, size_t n, float scale, float shift);                                                        \
  uint64_t digest(const void* bytes, size_t size);                                                                     \
  }

SKV_DECLARE_KERNELS(scalar)
#if defined(__x86_64__)
SKV_DECLARE_KERNELS(avx2)
SKV_DECLARE_KERNELS(avx512)
#elif defined(__aarch64__)
SKV_DECLARE_KERNELS(neon)
#endif
#undef SKV_DECLARE_KERNELS

namespace skv::kernels {

inline const std::byte* element(const Rows& rows, int32_t token, int32_t head, int32_t channel) {
  return rows.base + rows.token_offset[token] + head * rows.stride_head + channel * rows.stride_elem;
}
inline std::byte* element_to(const Rows& rows, int32_t token, int32_t head, int32_t channel) {
  return rows.base + rows.token_offset[token] + head * rows.stride_head + channel * rows.stride_elem;
}

}  // namespace skv::kernels
