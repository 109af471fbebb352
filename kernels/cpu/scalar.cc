// SPDX-License-Identifier: Apache-2.0
// The reference: plain loops over tiers.h. Other targets must give the same bytes; it also settles which (token, head)
// a failing chunk is blamed on, so that the fast kernels only need to notice that something failed.
#include <cmath>
#include <cstring>

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/exp.h"

namespace skv::kernels::scalar {
namespace {

using tiers::element_bytes;
using tiers::load_element;

// Steps 5 and 6 of one (token, head) into y[dim]; returns the bits of step 7's A. Integer maximum over |bits|: NaN
// sorts above Inf above every finite number, so neither can hide.
uint32_t transform_row(const Rows& rows, const Transform& transform, int32_t token, int32_t head, float* y) {
  const int32_t dim = rows.dim;
  const float* mean = transform.mean == nullptr ? nullptr : transform.mean + static_cast<int64_t>(head) * dim;
  const float* recip = transform.recip == nullptr ? nullptr : transform.recip + static_cast<int64_t>(head) * dim;
  for (int32_t c = 0; c < dim; ++c) {
    float x = load_element(element(rows, token, head, c), rows.dtype);
    if (mean != nullptr) x = x - mean[c];
    if (recip != nullptr) x = x * recip[c];
    y[c] = x;
  }
  if (transform.hadamard != 0) tiers::butterflies(y, dim / transform.hadamard, transform.hadamard);
  uint32_t largest = 0;
  for (int32_t c = 0; c < dim; ++c) {
    const uint32_t magnitude = tiers::bits_of(y[c]) & 0x7FFFFFFFU;
    if (magnitude > largest) largest = magnitude;
  }
  return largest;
}

// Four 2-bit codes a byte, dim/4 apart.
void put_plane(const uint8_t* u, int32_t dim, int32_t shift, std::byte* to) {
  const int32_t quarter = dim / 4;
  for (int32_t j = 0; j < quarter; ++j) {
    uint32_t byte = 0;
    for (int32_t m = 0; m < 4; ++m) {
      byte |= ((static_cast<uint32_t>(u[j + m * quarter]) >> static_cast<uint32_t>(shift)) & 3U)
              << (2U * static_cast<uint32_t>(m));
    }
    to[j] = static_cast<std::byte>(byte);
  }
}

void put_nibbles(const uint8_t* u, int32_t dim, std::byte* to) {
  const int32_t half = dim / 2;
  for (int32_t j = 0; j < half; ++j) to[j] = static_cast<std::byte>((u[j] >> 4U) | (u[j + half] & 0xF0U));
}

void add_plane(const std::byte* from, int32_t dim, int32_t shift, uint8_t* u) {
  const int32_t quarter = dim / 4;
  for (int32_t j = 0; j < quarter; ++j) {
    for (int32_t m = 0; m < 4; ++m) {
      const uint32_t two = (std::to_integer<uint32_t>(from[j]) >> (2U * static_cast<uint32_t>(m))) & 3U;
      u[j + m * quarter] = static_cast<uint8_t>(u[j + m * quarter] | (two << static_cast<uint32_t>(shift)));
    }
  }
}

void add_nibbles(const std::byte* from, int32_t dim, uint8_t* u) {
  const int32_t half = dim / 2;
  for (int32_t j = 0; j < half; ++j) {
    const auto byte = std::to_integer<uint32_t>(from[j]);
    u[j] = static_cast<uint8_t>((byte & 0xFU) << 4U);
    u[j + half] = static_cast<uint8_t>(byte & 0xF0U);
  }
}

// One RAW row; the head whose finite element overflows the raw dtype, or -1.
int32_t pack_raw(const PackChunk& chunk, int32_t token, std::byte* to) {
  const Rows& rows = chunk.rows;
  const int32_t raw_bytes = element_bytes(chunk.raw_dtype);
  for (int32_t h = 0; h < rows.heads; ++h) {
    for (int32_t c = 0; c < rows.dim; ++c, to += raw_bytes) {
      const std::byte* from = element(rows, token, h, c);
      if (chunk.raw_dtype == rows.dtype) {
        std::memcpy(to, from, static_cast<size_t>(raw_bytes));
        continue;
      }
      const float x = load_element(from, rows.dtype);
      const bool f16 = chunk.raw_dtype == tiers::kF16;
      const uint16_t half = f16 ? tiers::f32_to_f16(x) : tiers::f32_to_bf16(x);
      std::memcpy(to, &half, sizeof half);
      const float back = f16 ? tiers::f16_to_f32(half) : tiers::bf16_to_f32(half);
      if (tiers::is_finite(x) && !tiers::is_finite(back)) return h;
    }
  }
  return -1;
}

}  // namespace

int32_t stats(const Rows& rows, const uint8_t* tiers, float* sum, float* lo, float* hi) {
  int32_t counted = 0;
  for (int32_t t = 0; t < rows.tokens; ++t) counted += tiers::is_quantized(tiers[t]) ? 1 : 0;
  float block[kMaxDim];
  for (int32_t h = 0; h < rows.heads; ++h, sum += rows.dim, lo += rows.dim, hi += rows.dim) {
    for (int32_t c = 0; c < rows.dim; ++c) sum[c] = 0.0F;
    if (counted == 0) continue;
    for (int32_t c = 0; c < rows.dim; ++c) {
      lo[c] = INFINITY;
      hi[c] = -INFINITY;
    }
    for (int32_t first = 0; first < rows.tokens; first += tiers::kSumBlock) {
      for (int32_t c = 0; c < rows.dim; ++c) block[c] = 0.0F;
      for (int32_t t = first; t < rows.tokens && t < first + tiers::kSumBlock; ++t) {
        if (!tiers::is_quantized(tiers[t])) continue;
        for (int32_t c = 0; c < rows.dim; ++c) {
          const float x = load_element(element(rows, t, h, c), rows.dtype);
          block[c] = block[c] + x;
          lo[c] = x < lo[c] ? x : lo[c];
          hi[c] = x > hi[c] ? x : hi[c];
        }
      }
      for (int32_t c = 0; c < rows.dim; ++c) sum[c] = sum[c] + block[c];
    }
  }
  return counted;
}

// Per channel and chunk, not per element: the same code serves every target.
Verdict vectors(uint32_t transforms, int32_t counted, int32_t heads, int32_t dim, const float* sum, const float* lo,
                const float* hi, uint16_t* mean16, uint16_t* balance16, float* mean32, float* balance32,
                float* recip32) {
  const bool with_mean = (transforms & tiers::kMean) != 0;
  const bool with_balance = (transforms & tiers::kBalance) != 0;
  float mu[kMaxDim];
  float g[kMaxDim];
  for (int32_t h = 0; h < heads; ++h) {
    const int64_t at = static_cast<int64_t>(h) * dim;
    for (int32_t c = 0; c < dim; ++c) {
      mu[c] = 0.0F;
      if (counted == 0) {
        if (with_mean) mean16[at + c] = 0;
      } else {
        // Inf lies in lo or hi; a NaN only shows in the sum, which finite rows can also drive to Inf.
        if (!tiers::is_finite(lo[at + c]) || !tiers::is_finite(hi[at + c]) || std::isnan(sum[at + c])) {
          return {Verdict::kNonFinite, 0, h};
        }
        if (with_mean) {
          mean16[at + c] = tiers::f32_to_f16(sum[at + c] / static_cast<float>(counted));
          mu[c] = tiers::f16_to_f32(mean16[at + c]);
          if (!tiers::is_finite(mu[c])) return {Verdict::kOverflow, 0, h};
        }
      }
      if (with_mean) mean32[at + c] = mu[c];
    }
    if (!with_balance) continue;
    float avg = 0.0F;
    if (counted != 0) {
      for (int32_t c = 0; c < dim; ++c) {
        const float above = hi[at + c] - mu[c];
        const float below = mu[c] - lo[at + c];
        g[c] = std::sqrt(above > below ? above : below);
        avg = avg + g[c];
      }
      avg = avg / static_cast<float>(dim);
    }
    for (int32_t c = 0; c < dim; ++c) {
      float b = 1.0F;
      if (avg != 0.0F) {
        b = g[c] / avg;
        b = b > tiers::kMinBalance ? b : tiers::kMinBalance;
      }
      balance16[at + c] = tiers::f32_to_f16(b);
      const float stored = tiers::f16_to_f32(balance16[at + c]);
      balance32[at + c] = stored;
      recip32[at + c] = 1.0F / stored;
    }
  }
  return {};
}

Verdict pack(const PackChunk& chunk) {
  const Rows& rows = chunk.rows;
  const int32_t dim = rows.dim;
  Sections to = chunk.to;
  float y[kMaxDim];
  uint8_t u[kMaxDim];
  for (int32_t t = 0; t < rows.tokens; ++t) {
    const uint8_t tier = chunk.tiers[t];
    if (tier == tiers::kRaw) {
      const int32_t head = pack_raw(chunk, t, to.raw);
      if (head >= 0) return {Verdict::kOverflow, t, head};
      to.raw += static_cast<int64_t>(rows.heads) * dim * element_bytes(chunk.raw_dtype);
    }
    if (!tiers::is_quantized(tier)) continue;
    for (int32_t h = 0; h < rows.heads; ++h) {
      const float absmax = tiers::float_of(transform_row(rows, chunk.transform, t, h, y));
      if (!tiers::is_finite(absmax)) return {Verdict::kNonFinite, t, h};
      const uint16_t scale16 = tiers::scale_of(absmax, chunk.code, tier);
      const float scale = tiers::f16_to_f32(scale16);
      if (!tiers::is_finite(scale)) return {Verdict::kOverflow, t, h};
      std::memcpy(to.scales, &scale16, sizeof scale16);
      to.scales += sizeof scale16;
      const float inverse = scale == 0.0F ? 0.0F : 1.0F / scale;
      for (int32_t c = 0; c < dim; ++c) u[c] = tiers::quantize(y[c], inverse, chunk.code, tier);
      if (tier == 1) {
        put_plane(u, dim, 6, to.two);
        to.two += dim / 4;
        continue;
      }
      put_nibbles(u, dim, to.nibble);
      to.nibble += dim / 2;
      if (tier >= 3) {
        put_plane(u, dim, 2, to.plane2);
        to.plane2 += dim / 4;
      }
      if (tier == 4) {
        put_plane(u, dim, 0, to.plane3);
        to.plane3 += dim / 4;
      }
    }
  }
  return {};
}

void unpack(const UnpackChunk& chunk) {
  const Rows& rows = chunk.rows;
  const Transform& transform = chunk.transform;
  const int32_t dim = rows.dim;
  const int32_t raw_bytes = element_bytes(chunk.raw_dtype);
  float z[kMaxDim];
  uint8_t u[kMaxDim];
  int64_t raw_row = 0;
  int64_t quantized_row = 0;
  int64_t two_row = 0;
  int64_t nibble_row = 0;
  int64_t plane2_row = 0;
  int64_t plane3_row = 0;
  for (int32_t t = 0; t < rows.tokens; ++t) {
    const uint8_t tier = chunk.tiers[t];
    for (int32_t h = 0; h < rows.heads; ++h) {
      const int32_t from_head = chunk.first_head + h;
      const auto group = [&](int64_t row) { return row * chunk.payload_heads + from_head; };
      if (tier == tiers::kDrop) {
        for (int32_t c = 0; c < dim; ++c) tiers::store_element(element_to(rows, t, h, c), rows.dtype, 0.0F);
        continue;
      }
      if (tier == tiers::kRaw) {
        const std::byte* from = chunk.from.raw + group(raw_row) * dim * raw_bytes;
        for (int32_t c = 0; c < dim; ++c, from += raw_bytes) {
          std::byte* to = element_to(rows, t, h, c);
          if (chunk.raw_dtype == rows.dtype) {
            std::memcpy(to, from, static_cast<size_t>(raw_bytes));
          } else {
            tiers::store_element(to, rows.dtype, load_element(from, chunk.raw_dtype));
          }
        }
        continue;
      }
      if (tier == 1) {
        std::memset(u, 0, static_cast<size_t>(dim));
        add_plane(chunk.from.two + group(two_row) * (dim / 4), dim, 6, u);
      } else {
        add_nibbles(chunk.from.nibble + group(nibble_row) * (dim / 2), dim, u);
        if (tier >= 3) add_plane(chunk.from.plane2 + group(plane2_row) * (dim / 4), dim, 2, u);
        if (tier == 4) add_plane(chunk.from.plane3 + group(plane3_row) * (dim / 4), dim, 0, u);
      }
      uint16_t scale16;
      std::memcpy(&scale16, chunk.from.scales + group(quantized_row) * 2, sizeof scale16);
      const int32_t n = transform.hadamard == 0 ? 1 : transform.hadamard;
      const float scale = tiers::f16_to_f32(scale16) * tiers::share(chunk.code, tier, transform.hadamard, dim);
      const tiers::Reconstruction rule = tiers::reconstruction(chunk.code, tier);
      for (int32_t c = 0; c < dim; ++c) {
        const float w = static_cast<float>(u[c] >> (8 - 2 * tier)) * rule.step + rule.offset;
        z[c] = w * scale;
      }
      if (transform.hadamard != 0) tiers::butterflies(z, dim / n, n);
      const int64_t at = static_cast<int64_t>(from_head) * dim;
      for (int32_t c = 0; c < dim; ++c) {
        float x = z[c];
        if (transform.balance != nullptr) x = x * transform.balance[at + c];
        if (transform.mean != nullptr) x = x + transform.mean[at + c];
        tiers::store_element(element_to(rows, t, h, c), rows.dtype, x);
      }
    }
    raw_row += tier == tiers::kRaw ? 1 : 0;
    if (!tiers::is_quantized(tier)) continue;
    quantized_row += 1;
    two_row += tier == 1 ? 1 : 0;
    nibble_row += tier >= 2 ? 1 : 0;
    plane2_row += tier >= 3 ? 1 : 0;
    plane3_row += tier == 4 ? 1 : 0;
  }
}

Verdict absmax(const Rows& rows, const Transform& transform, float* out) {
  float y[kMaxDim];
  Verdict verdict;
  for (int32_t t = 0; t < rows.tokens; ++t) {
    for (int32_t h = 0; h < rows.heads; ++h) {
      const float value = tiers::float_of(transform_row(rows, transform, t, h, y));
      out[static_cast<int64_t>(t) * rows.heads + h] = value;
      if (verdict.kind == Verdict::kOk && !tiers::is_finite(value)) verdict = {Verdict::kNonFinite, t, h};
    }
  }
  return verdict;
}

namespace {

float dot(const float* a, const float* b, int32_t dim) {
  float lane[16] = {};
  for (int32_t c = 0; c < dim; ++c) lane[c % 16] = lane[c % 16] + a[c] * b[c];
  for (int32_t half = 8; half >= 1; half /= 2) {
    for (int32_t l = 0; l < half; ++l) lane[l] = lane[l] + lane[l + half];
  }
  return lane[0];
}

}  // namespace

void dots(const Rows& rows, int32_t head, const float* vectors, int32_t count, float* out, int64_t out_stride) {
  float x[kMaxDim];
  for (int32_t t = 0; t < rows.tokens; ++t) {
    for (int32_t c = 0; c < rows.dim; ++c) x[c] = load_element(element(rows, t, head, c), rows.dtype);
    for (int32_t i = 0; i < count; ++i) {
      out[i * out_stride + t] = dot(vectors + static_cast<int64_t>(i) * rows.dim, x, rows.dim);
    }
  }
}

void norms(const Rows& rows, int32_t head, float* out) {
  float x[kMaxDim];
  for (int32_t t = 0; t < rows.tokens; ++t) {
    for (int32_t c = 0; c < rows.dim; ++c) x[c] = load_element(element(rows, t, head, c), rows.dtype);
    out[t] = dot(x, x, rows.dim);
  }
}

void accumulate(const Rows& rows, int32_t head, const float* weights, int64_t weight_stride, int32_t count,
                float* out) {
  float x[kMaxDim];
  for (int32_t t = 0; t < rows.tokens; ++t) {
    for (int32_t c = 0; c < rows.dim; ++c) x[c] = load_element(element(rows, t, head, c), rows.dtype);
    for (int32_t i = 0; i < count; ++i) {
      const float weight = weights[i * weight_stride + t];
      float* sums = out + static_cast<int64_t>(i) * rows.dim;
      for (int32_t c = 0; c < rows.dim; ++c) sums[c] = sums[c] + weight * x[c];
    }
  }
}

void softmax(float* values, size_t n, float scale) {
  float top = values[0];
  for (size_t i = 1; i < n; ++i) top = values[i] > top ? values[i] : top;
  const float shift = top * scale;
  float lane[16] = {};
  for (size_t i = 0; i < n; ++i) {
    values[i] = exp_of(values[i] * scale - shift);
    lane[i % 16] = lane[i % 16] + values[i];
  }
  for (int32_t half = 8; half >= 1; half /= 2) {
    for (int32_t l = 0; l < half; ++l) lane[l] = lane[l] + lane[l + half];
  }
  const float inverse = 1.0F / lane[0];
  for (size_t i = 0; i < n; ++i) values[i] = values[i] * inverse;
}

void charge(const float* a, const float* products, const float* norms, size_t n, float output, float q2, float* mass,
            float* k, float* v) {
  for (size_t i = 0; i < n; ++i) charge_one(a, products, norms, i, output, q2, mass, k, v);
}

}  // namespace skv::kernels::scalar
