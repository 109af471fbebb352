// SPDX-License-Identifier: Apache-2.0
// docs/wire-format.md a second time, written from its text alone and for the eye: nothing of tiers.h is used but the
// names of constants. Slow on purpose.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <iterator>
#include <map>
#include <vector>

#include "chunk.h"

namespace skv::parity::spec {

// A binary float format of `mantissa` bits whose smallest normal exponent is `least`, largest finite number `most`.
struct Format {
  int mantissa;
  int least;
  double most;
};
constexpr Format kHalf = {10, -14, 65504.0};
constexpr Format kBrain = {7, -126, 3.3895313892515355e38};

// Nearest number of a format, ties to even; infinite beyond half a step over the largest. Doubles hold all of it.
inline float nearest(double value, Format format) {
  if (value == 0.0 || !std::isfinite(value)) return static_cast<float>(value);
  const int exponent = std::max(std::ilogb(value), format.least);
  const double step = std::ldexp(1.0, exponent - format.mantissa);
  const double result = std::nearbyint(value / step) * step;
  if (std::fabs(result) > format.most) return static_cast<float>(std::copysign(INFINITY, value));
  return static_cast<float>(std::copysign(result, value));
}
inline float half(float value) { return nearest(value, kHalf); }

// As the decoder stores it: finite values beyond f16 saturate.
inline float rounded(float value, int32_t dtype) {
  if (dtype == tiers::kF32) return value;
  if (dtype == tiers::kBF16) return nearest(value, kBrain);
  return std::isfinite(value) ? half(std::clamp(value, -65504.0F, 65504.0F)) : value;
}

// Bits of a number that the format holds exactly.
inline uint16_t half_bits(float value) {
  const uint16_t sign = std::signbit(value) ? 0x8000 : 0;
  const double magnitude = std::fabs(value);
  if (magnitude < std::ldexp(1.0, -14))
    return static_cast<uint16_t>(sign | static_cast<uint16_t>(std::ldexp(magnitude, 24)));
  const int exponent = std::ilogb(magnitude);
  const double fraction = magnitude / std::ldexp(1.0, exponent) - 1.0;
  return static_cast<uint16_t>(sign | ((exponent + 15) << 10) | static_cast<int>(fraction * 1024.0));
}
inline float half_value(uint16_t bits) {
  const int exponent = (bits >> 10) & 31;
  const int fraction = bits & 1023;
  const double magnitude =
      exponent == 0 ? std::ldexp(fraction, -24) : std::ldexp(1.0 + fraction / 1024.0, exponent - 15);
  return static_cast<float>((bits & 0x8000) != 0 ? -magnitude : magnitude);
}

inline bool quantized(uint8_t tier) { return tier >= 1 && tier <= 4; }
inline int points(uint32_t transforms) { return (transforms & 4U) != 0 ? 8 : (transforms & 8U) != 0 ? 16 : 1; }

// Step 6.
inline void hadamard(std::vector<float>& values, int n) {
  const size_t apart = values.size() / static_cast<size_t>(n);
  for (size_t i = 0; i < apart; ++i) {
    for (int h = 1; h < n; h *= 2) {
      for (int k = 0; k < n; ++k) {
        if ((k & h) != 0) continue;
        float& one = values[i + static_cast<size_t>(k) * apart];
        float& two = values[i + static_cast<size_t>(k + h) * apart];
        const float plus = one + two;
        const float minus = one - two;
        one = plus;
        two = minus;
      }
    }
  }
}

struct Encoded {
  std::vector<uint16_t> mean, balance;  // f16[H][d]
  std::vector<std::byte> sections;      // scales, two, nibble, plane 2, plane 3, raw, without padding
};

inline Encoded encode(Memory& cache, const std::vector<uint8_t>& tiers, uint32_t transforms, int32_t code,
                      int32_t raw_dtype) {
  const Shape& s = cache.shape;
  const auto dim = static_cast<size_t>(s.dim);
  Encoded out;
  std::vector<std::byte> section[6];
  std::vector<float> mu(static_cast<size_t>(s.heads) * dim, 0.0F);
  std::vector<float> r(mu.size(), 1.0F);
  for (int32_t h = 0; h < s.heads; ++h) {  // steps 2 to 4
    std::vector<float> g(dim, 0.0F);
    float avg = 0.0F;
    int rows = 0;
    for (int32_t c = 0; c < s.dim; ++c) {
      float sum = 0.0F, low = INFINITY, high = -INFINITY;
      rows = 0;
      for (int32_t first = 0; first < s.tokens; first += 32) {
        float block = 0.0F;
        for (int32_t t = first; t < std::min(first + 32, s.tokens); ++t) {
          if (!quantized(tiers[static_cast<size_t>(t)])) continue;
          const float x = cache.get(t, h, c);
          block = block + x;
          low = std::min(low, x);
          high = std::max(high, x);
          ++rows;
        }
        sum = sum + block;
      }
      float& m = mu[static_cast<size_t>(h) * dim + static_cast<size_t>(c)];
      if ((transforms & 1U) != 0 && rows > 0) m = half(sum / static_cast<float>(rows));
      if (rows > 0) g[static_cast<size_t>(c)] = std::sqrt(std::max(high - m, m - low));
      avg = avg + g[static_cast<size_t>(c)];
      if ((transforms & 1U) != 0) out.mean.push_back(half_bits(m));
    }
    avg = avg / static_cast<float>(s.dim);
    for (size_t c = 0; c < dim && (transforms & 2U) != 0; ++c) {
      const float b = avg == 0.0F || rows == 0 ? 1.0F : half(std::max(g[c] / avg, 0.015625F));
      out.balance.push_back(half_bits(b));
      r[static_cast<size_t>(h) * dim + c] = 1.0F / b;
    }
  }
  for (int32_t t = 0; t < s.tokens; ++t) {
    const uint8_t tier = tiers[static_cast<size_t>(t)];
    for (int32_t h = 0; h < s.heads; ++h) {
      if (tier == 5) {
        for (int32_t c = 0; c < s.dim; ++c) {
          if (raw_dtype == s.dtype) {
            const std::byte* at = cache.at(t, h, c);
            section[5].insert(section[5].end(), at, at + (s.dtype == 3 ? 4 : 2));
            continue;
          }
          const float value = nearest(cache.get(t, h, c), raw_dtype == 1 ? kHalf : kBrain);
          uint32_t wide;
          std::memcpy(&wide, &value, 4);
          const uint16_t bits = raw_dtype == 1 ? half_bits(value) : static_cast<uint16_t>(wide >> 16U);
          section[5].push_back(static_cast<std::byte>(bits & 255U));
          section[5].push_back(static_cast<std::byte>(bits >> 8U));
        }
        continue;
      }
      if (!quantized(tier)) continue;
      std::vector<float> y(dim);  // steps 5 to 9
      for (size_t c = 0; c < dim; ++c) {
        const size_t i = static_cast<size_t>(h) * dim + c;
        y[c] = cache.get(t, h, static_cast<int32_t>(c));
        if ((transforms & 1U) != 0) y[c] = y[c] - mu[i];
        if ((transforms & 2U) != 0) y[c] = y[c] * r[i];
      }
      hadamard(y, points(transforms));
      float largest = 0.0F;
      for (const float v : y) largest = std::max(largest, std::fabs(v));
      const float limit = code == 1 && tier == 2 ? 7.0F : 127.0F;
      const float scale = half(largest / limit);
      const uint16_t bits = half_bits(scale);
      section[0].push_back(static_cast<std::byte>(bits & 255U));
      section[0].push_back(static_cast<std::byte>(bits >> 8U));
      std::vector<unsigned> u(dim);
      for (size_t c = 0; c < dim; ++c) {
        const float q = scale == 0.0F ? 0.0F : std::nearbyint(std::clamp(y[c] * (1.0F / scale), -limit, limit));
        u[c] = static_cast<unsigned>(code == 1 && tier == 2 ? (q + 8.0F) * 16.0F : q + 128.0F);
      }
      for (size_t j = 0; j < dim / 2 && tier >= 2; ++j) {
        section[2].push_back(static_cast<std::byte>((u[j] >> 4U) + ((u[j + dim / 2] >> 4U) << 4U)));
      }
      const auto plane = [&u, dim](std::vector<std::byte>& to, unsigned shift) {
        for (size_t j = 0; j < dim / 4; ++j) {
          unsigned byte = 0;
          for (unsigned m = 0; m < 4; ++m) byte += ((u[j + m * dim / 4] >> shift) & 3U) << (2U * m);
          to.push_back(static_cast<std::byte>(byte));
        }
      };
      if (tier == 1) plane(section[1], 6);
      if (tier >= 3) plane(section[3], 2);
      if (tier == 4) plane(section[4], 0);
    }
  }
  for (const std::vector<std::byte>& one : section) out.sections.insert(out.sections.end(), one.begin(), one.end());
  return out;
}

// The table of "Decoding arithmetic".
inline float share(uint8_t tier, int32_t code, int32_t points, int32_t dim) {
  static const std::map<int32_t, std::array<float, 3>> table = {
      {8, {1.1352F, 1.0251F, 1.0034F}},   {16, {1.0901F, 1.0165F, 1.0022F}},  {32, {1.0578F, 1.0105F, 1.0014F}},
      {64, {1.0355F, 1.0064F, 1.0008F}},  {96, {1.0265F, 1.0047F, 1.0006F}},  {128, {1.0209F, 1.0038F, 1.0005F}},
      {192, {1.0149F, 1.0028F, 1.0004F}}, {256, {1.0114F, 1.0023F, 1.0003F}}, {512, {1.0045F, 1.0013F, 1.0002F}},
      {1024, {0.9993F, 1.0008F, 1.0001F}}};
  const float n = static_cast<float>(points);
  if (points == 1 || code == 1 || tier == 4) return 1.0F / n;
  return std::prev(table.upper_bound(dim))->second[tier - 1U] / n;
}

// [T][H][d] before the conversion to the destination; DROP rows are zeros.
inline std::vector<float> decode(Room& room, const Shape& s, const std::vector<uint8_t>& tiers, uint32_t transforms,
                                 int32_t code, int32_t raw_dtype, const std::vector<uint16_t>& mean,
                                 const std::vector<uint16_t>& balance) {
  kernels::Sections at = room.sections();
  const auto dim = static_cast<size_t>(s.dim);
  const auto byte = [](const std::byte* from, size_t j) { return std::to_integer<unsigned>(from[j]); };
  std::vector<float> out;
  for (const uint8_t tier : tiers) {
    for (int32_t h = 0; h < s.heads; ++h) {
      std::vector<float> row(dim, 0.0F);
      if (tier == 5) {
        for (float& x : row) {
          x = tiers::load_element(at.raw, raw_dtype);
          at.raw += raw_dtype == 3 ? 4 : 2;
        }
      } else if (quantized(tier)) {
        const float scale = half_value(static_cast<uint16_t>(byte(at.scales, 0) | (byte(at.scales, 1) << 8U)));
        at.scales += 2;
        for (size_t c = 0; c < dim; ++c) {
          const auto two = [&](const std::byte* from) {
            return (byte(from, c % (dim / 4)) >> (2 * (c / (dim / 4)))) & 3U;
          };
          unsigned k = tier == 1 ? two(at.two) : (byte(at.nibble, c % (dim / 2)) >> (4 * (c / (dim / 2)))) & 15U;
          if (tier >= 3) k = k * 4 + two(at.plane2);
          if (tier == 4) k = k * 4 + two(at.plane3);
          const double cell = std::ldexp(1.0, 8 - 2 * tier);
          const double w = code == 1 ? k - (tier == 4 ? 128.0 : 8.0) : k * cell + (cell - 1.0) / 2.0 - 128.0;
          row[c] = static_cast<float>(w) * (scale * share(tier, code, points(transforms), s.dim));
        }
        at.two += tier == 1 ? dim / 4 : 0;
        at.nibble += tier >= 2 ? dim / 2 : 0;
        at.plane2 += tier >= 3 ? dim / 4 : 0;
        at.plane3 += tier == 4 ? dim / 4 : 0;
        hadamard(row, points(transforms));
        for (size_t c = 0; c < dim; ++c) {
          const size_t i = static_cast<size_t>(h) * dim + c;
          if ((transforms & 2U) != 0) row[c] = row[c] * half_value(balance[i]);
          if ((transforms & 1U) != 0) row[c] = row[c] + half_value(mean[i]);
        }
      }
      out.insert(out.end(), row.begin(), row.end());
    }
  }
  return out;
}

}  // namespace skv::parity::spec
