// SPDX-License-Identifier: Apache-2.0
// The codec's arithmetic, once, for host and device (docs/wire-format.md, "Encoding arithmetic" and "Decoding
// arithmetic"). Compile with -ffp-contract=off / --fmad=false: payload bytes must be equal on every target.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#if defined(__CUDACC__)
#define SKV_HD __host__ __device__ inline
#else
#define SKV_HD inline
#endif
#if defined(__CUDA_ARCH__)
#define SKV_UNROLL _Pragma("unroll")  // keeps a thread's part of a row in registers
#else
#define SKV_UNROLL
#endif

namespace skv::tiers {

// Element types; values of the ABI and the wire.
constexpr int32_t kF16 = 1;
constexpr int32_t kBF16 = 2;
constexpr int32_t kF32 = 3;

// Tiers; 1..4 are the number of 2-bit planes sent.
constexpr uint8_t kDrop = 0;
constexpr uint8_t kRaw = 5;
constexpr uint8_t kTierCount = 6;

constexpr int32_t kCodeEmbedded = 0;
constexpr int32_t kCodePaper = 1;

constexpr uint32_t kMean = 1;
constexpr uint32_t kBalance = 2;
constexpr uint32_t kHadamard8 = 4;
constexpr uint32_t kHadamard16 = 8;

constexpr int32_t kMaxChunk =
    256;  // tokens that share channel vectors: rotary drift makes longer ones lose at 6k tokens
constexpr int32_t kSumBlock = 32;         // tokens of one partial sum of the mean
constexpr float kMinBalance = 0.015625F;  // 2^-6: keeps 1/b and quiet channels bounded
constexpr float kF16Max = 65504.0F;

SKV_HD int32_t element_bytes(int32_t dtype) { return dtype == kF32 ? 4 : 2; }
SKV_HD bool is_quantized(uint8_t tier) { return tier >= 1 && tier <= 4; }
SKV_HD int32_t hadamard_of(uint32_t transforms) {
  return (transforms & kHadamard8) != 0 ? 8 : (transforms & kHadamard16) != 0 ? 16 : 0;
}

SKV_HD uint32_t bits_of(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  return bits;
}
SKV_HD float float_of(uint32_t bits) {
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}
SKV_HD bool is_finite(float value) { return (bits_of(value) & 0x7F800000U) != 0x7F800000U; }

// binary16 -> binary32, exact.
SKV_HD float f16_to_f32(uint16_t half) {
  const uint32_t sign = static_cast<uint32_t>(half & 0x8000U) << 16U;
  const uint32_t magnitude = half & 0x7FFFU;
  if (magnitude >= 0x7C00U) return float_of(sign | 0x7F800000U | ((magnitude & 0x3FFU) << 13U));
  if (magnitude >= 0x0400U) return float_of(sign | ((magnitude << 13U) + 0x38000000U));
  const float subnormal = static_cast<float>(magnitude) * 5.9604644775390625e-8F;  // 2^-24
  return float_of(sign | bits_of(subnormal));
}

// binary32 -> binary16, nearest even; overflow gives Inf (as hardware does).
SKV_HD uint16_t f32_to_f16(float value) {
  const uint32_t bits = bits_of(value);
  const uint32_t sign = (bits >> 16U) & 0x8000U;
  const uint32_t magnitude = bits & 0x7FFFFFFFU;
  if (magnitude > 0x7F800000U)
    return static_cast<uint16_t>(sign | 0x7E00U | ((magnitude >> 13U) & 0x3FFU));  // quiet NaN
  if (magnitude >= 0x477FF000U) return static_cast<uint16_t>(sign | 0x7C00U);      // rounds beyond 65504
  if (magnitude >= 0x38800000U) {                                                  // normal: round the 13 bits that go
    const uint32_t rounded = magnitude + 0x0FFFU + ((magnitude >> 13U) & 1U);
    return static_cast<uint16_t>(sign | ((rounded - 0x38000000U) >> 13U));
  }
  if (magnitude < 0x33000000U) return static_cast<uint16_t>(sign);  // below half of 2^-24 (a tie at exactly it: even)
  const uint32_t shift = 126U - (magnitude >> 23U);                 // 14..24
  const uint32_t mantissa = (magnitude & 0x7FFFFFU) | 0x800000U;
  const uint32_t kept = mantissa >> shift;
  const uint32_t rest = mantissa & ((1U << shift) - 1U);
  const uint32_t half = 1U << (shift - 1U);
  return static_cast<uint16_t>(sign | (kept + ((rest > half || (rest == half && (kept & 1U) != 0)) ? 1U : 0U)));
}

SKV_HD float bf16_to_f32(uint16_t bits) { return float_of(static_cast<uint32_t>(bits) << 16U); }

// binary32 -> bfloat16, nearest even.
SKV_HD uint16_t f32_to_bf16(float value) {
  const uint32_t bits = bits_of(value);
  if ((bits & 0x7FFFFFFFU) > 0x7F800000U) return static_cast<uint16_t>((bits >> 16U) | 0x0040U);  // quiet NaN
  return static_cast<uint16_t>((bits + 0x7FFFU + ((bits >> 16U) & 1U)) >> 16U);
}

SKV_HD float load_element(const void* address, int32_t dtype) {
  if (dtype == kF32) {
    float value;
    memcpy(&value, address, sizeof value);
    return value;
  }
  uint16_t half;
  memcpy(&half, address, sizeof half);
  return dtype == kF16 ? f16_to_f32(half) : bf16_to_f32(half);
}

// Finite values beyond f16 saturate; Inf and NaN stay.
SKV_HD void store_element(void* address, int32_t dtype, float value) {
  if (dtype == kF32) {
    memcpy(address, &value, sizeof value);
    return;
  }
  if (dtype == kF16 && is_finite(value)) value = value > kF16Max ? kF16Max : (value < -kF16Max ? -kF16Max : value);
  const uint16_t half = dtype == kF16 ? f32_to_f16(value) : f32_to_bf16(value);
  memcpy(address, &half, sizeof half);
}

// Unnormalised Walsh-Hadamard butterflies over values[i + k*stride], k < n, for all i < stride. Its own inverse up to
// 1/n.
SKV_HD void butterflies(float* values, int32_t stride, int32_t n) {
  SKV_UNROLL for (int32_t h = 1; h < n; h *= 2) {
    SKV_UNROLL for (int32_t k = 0; k < n; ++k) {
      if ((k & h) != 0) continue;
      SKV_UNROLL for (int32_t i = 0; i < stride; ++i) {
        const float a = values[i + k * stride];
        const float b = values[i + (k + h) * stride];
        values[i + k * stride] = a + b;
        values[i + (k + h) * stride] = a - b;
      }
    }
  }
}

// Divisor of absmax that gives the scale, and the clamp of q.
SKV_HD float q_max(int32_t code, uint8_t tier) { return code == kCodePaper && tier == 2 ? 7.0F : 127.0F; }

// The stored scale of a (row, head) whose largest magnitude is absmax.
SKV_HD uint16_t scale_of(float absmax, int32_t code, uint8_t tier) { return f32_to_f16(absmax / q_max(code, tier)); }

// rint of |value| < 2^22, ties to even: one addition puts the integer into the low bits (a GPU converts at a quarter of
// the rate it adds at).
SKV_HD int32_t nearest(float value) {
  return static_cast<int32_t>(bits_of(value + 12582912.0F)) - 0x4B400000;  // 1.5 * 2^23 and its bits
}

// Code u of one value; inverse_scale = 1 / S, or 0 when S = 0.
SKV_HD uint8_t quantize(float y, float inverse_scale, int32_t code, uint8_t tier) {
  const float limit = q_max(code, tier);
  float scaled = y * inverse_scale;
  scaled = scaled > limit ? limit : (scaled < -limit ? -limit : scaled);
  const int32_t q = nearest(scaled);
  return static_cast<uint8_t>(code == kCodePaper && tier == 2 ? (q + 8) * 16 : q + 128);
}

// Reconstruction w = k * step + offset of the top bits k (docs/wire-format.md, "Decoding arithmetic").
struct Reconstruction {
  float step;
  float offset;
};
SKV_HD Reconstruction reconstruction(int32_t code, uint8_t tier) {
  if (code == kCodePaper) return {1.0F, tier == 2 ? -8.0F : -128.0F};
  const float step = static_cast<float>(1 << (8 - 2 * tier));
  return {step, (step - 1.0F) * 0.5F - 128.0F};
}

// Factor g of the scale, docs/wire-format.md: 1/n of the Hadamard, and what the outermost intervals take from a row of
// d normal values, whose top bits alone give back only 1/gain of it. Errors that have a row's own sign do not average
// out over tokens, as noise does: steps with 8 % less squared error but 12 % less gain had seven times the KL
// (docs/results/quality.md).
SKV_HD float share(int32_t code, uint8_t tier, int32_t hadamard, int32_t dim) {
  if (hadamard == 0) return 1.0F;
  float gain = 1.0F;
  if (code == kCodeEmbedded && tier <= 3) {
    // By d: 8, 16, 32, 64, 96, 128, 192, 256, 512, 1024 and up; the largest that is not above the row's.
    const int32_t column = dim < 16     ? 0
                           : dim < 32   ? 1
                           : dim < 64   ? 2
                           : dim < 96   ? 3
                           : dim < 128  ? 4
                           : dim < 192  ? 5
                           : dim < 256  ? 6
                           : dim < 512  ? 7
                           : dim < 1024 ? 8
                                        : 9;
    const float gains[3][10] = {
        {1.1352F, 1.0901F, 1.0578F, 1.0355F, 1.0265F, 1.0209F, 1.0149F, 1.0114F, 1.0045F, 0.9993F},
        {1.0251F, 1.0165F, 1.0105F, 1.0064F, 1.0047F, 1.0038F, 1.0028F, 1.0023F, 1.0013F, 1.0008F},
        {1.0034F, 1.0022F, 1.0014F, 1.0008F, 1.0006F, 1.0005F, 1.0004F, 1.0003F, 1.0002F, 1.0001F},
    };
    gain = gains[tier - 1][column];
  }
  return gain / static_cast<float>(hadamard);
}

}  // namespace skv::tiers
