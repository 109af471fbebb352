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
  void dots(const Rows& rows, int32_t head, const float* vectors, int32_t count, float* out, int64_t out_stride);      \
  void norms(const Rows& rows, int32_t head, float* out);                                                              \
  void accumulate(const Rows& rows, int32_t head, const float* weights, int64_t weight_stride, int32_t count,          \
                  float* out);                                                                                         \
  void softmax(float* values, size_t n, float scale);                                                                  \
  void charge(const float* a, const float* products, const float* norms, size_t n, float output, float q2,             \
              float* mass, float* k, float* v);                                                                        \
  uint64_t digest(const void* bytes, size_t size);                                                                     \
  }

// The names but for the first are Highway's HWY_NAMESPACE.
SKV_DECLARE_KERNELS(scalar)
#if defined(__x86_64__)
SKV_DECLARE_KERNELS(N_AVX2)
SKV_DECLARE_KERNELS(N_AVX3)
#elif defined(__aarch64__)
SKV_DECLARE_KERNELS(N_NEON)
#endif
#undef SKV_DECLARE_KERNELS

namespace skv::kernels {

// One token of charge().
inline void charge_one(const float* a, const float* products, const float* norms, size_t i, float output, float q2,
                       float* mass, float* k, float* v) {
  const float square = a[i] * a[i];
  mass[i] = mass[i] + a[i];
  float distance = 1.0F;
  if (products != nullptr) {
    const float spread = (norms[i] - 2.0F * products[i]) + output;
    distance = spread > 0.0F ? spread : 0.0F;
    v[i] = v[i] + square;
  }
  k[i] = k[i] + (square * distance) * q2;
}

inline const std::byte* element(const Rows& rows, int32_t token, int32_t head, int32_t channel) {
  return rows.base + rows.token_offset[token] + head * rows.stride_head + channel * rows.stride_elem;
}
inline std::byte* element_to(const Rows& rows, int32_t token, int32_t head, int32_t channel) {
  return rows.base + rows.token_offset[token] + head * rows.stride_head + channel * rows.stride_elem;
}

// Index of each token's row in the sections that hold it (docs/wire-format.md, "Sections").
struct Places {
  uint16_t scale[tiers::kMaxChunk];
  uint16_t body[tiers::kMaxChunk];  // in the section two, nibble or raw, whichever the tier uses
  uint16_t plane2[tiers::kMaxChunk];
  uint16_t plane3[tiers::kMaxChunk];

  Places(const uint8_t* tier, int32_t tokens) {
    uint16_t scales = 0, twos = 0, nibbles = 0, planes2 = 0, planes3 = 0, raws = 0;
    for (int32_t t = 0; t < tokens; ++t) {
      scale[t] = scales;
      body[t] = tier[t] == tiers::kRaw ? raws : (tier[t] == 1 ? twos : nibbles);
      plane2[t] = planes2;
      plane3[t] = planes3;
      scales = static_cast<uint16_t>(scales + (tiers::is_quantized(tier[t]) ? 1 : 0));
      twos = static_cast<uint16_t>(twos + (tier[t] == 1 ? 1 : 0));
      nibbles = static_cast<uint16_t>(nibbles + (tier[t] >= 2 && tier[t] <= 4 ? 1 : 0));
      planes2 = static_cast<uint16_t>(planes2 + (tier[t] == 3 || tier[t] == 4 ? 1 : 0));
      planes3 = static_cast<uint16_t>(planes3 + (tier[t] == 4 ? 1 : 0));
      raws = static_cast<uint16_t>(raws + (tier[t] == tiers::kRaw ? 1 : 0));
    }
  }
};

}  // namespace skv::kernels
