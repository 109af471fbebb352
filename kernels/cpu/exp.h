// SPDX-License-Identifier: Apache-2.0
// exp(x) by Cody-Waite reduction and the degree-5 polynomial of Cephes expf (netlib.org/cephes, single/expf.c), in an
// order of operations that every target repeats.
#pragma once

#include "kernels/tiers.h"

namespace skv::kernels {

constexpr float kExpLowest = -87.0F;        // exp is 0 below: the result stays a normal number above
constexpr float kExpHighest = 88.7228394F;  // exp(x) is Inf above (log of the largest float)
constexpr float kExpLog2e = 1.44269504088896341F;
constexpr float kExpLn2High = 0.693359375F;  // 9 bits: n * high is exact for |n| <= 2^15
constexpr float kExpLn2Low = -2.12194440e-4F;
constexpr float kExpMagic = 12582912.0F;         // 1.5 * 2^23: adding it rounds to an integer kept in the low bits
constexpr uint32_t kExpMagicBits = 0x4B400000U;  // its bits
constexpr float kExpPoly[6] = {1.9875691500e-4F, 1.3981999507e-3F, 8.3334519073e-3F,
                               4.1665795894e-2F, 1.6666665459e-1F, 5.0000001201e-1F};

// Bits of 2^n, -126 <= n <= 127.
inline float exp_power(uint32_t n) { return tiers::float_of((n + 127U) << 23U); }

inline float exp_of(float x) {
  const float rounded = x * kExpLog2e + kExpMagic;
  const uint32_t n = tiers::bits_of(rounded) - kExpMagicBits;  // two's complement
  const float whole = rounded - kExpMagic;
  const float r = (x - whole * kExpLn2High) - whole * kExpLn2Low;
  float p = kExpPoly[0];
  for (int i = 1; i < 6; ++i) p = p * r + kExpPoly[i];
  p = (p * (r * r) + r) + 1.0F;
  // 2^128 is no float: two factors.
  const uint32_t half = static_cast<uint32_t>(static_cast<int32_t>(n) >> 1);
  const float value = (p * exp_power(half)) * exp_power(n - half);
  return x < kExpLowest ? 0.0F : (x > kExpHighest ? tiers::float_of(0x7F800000U) : value);
}

}  // namespace skv::kernels
