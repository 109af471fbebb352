// SPDX-License-Identifier: Apache-2.0
// Rows into codes (docs/wire-format.md, "Encoding arithmetic", steps 5 to 9, and "Bits of a row"). A block is a slice
// of the (token, head) rows of one unit.
#include "kernels/cuda/rows.h"

namespace skv::cuda {
namespace {

// A 2-bit plane: four codes a byte, a quarter of the row apart.
template <int POINTS, int WIDTH>
SKV_DEVICE void store_plane(std::byte* to, const uint32_t* u, int32_t shift, int32_t apart, int32_t part) {
#pragma unroll
  for (int k = 0; k < POINTS / 4; ++k) {
    uint32_t words[kCodeWords<WIDTH>] = {};
#pragma unroll
    for (int i = 0; i < kCodeWords<WIDTH>; ++i) {
#pragma unroll
      for (int m = 0; m < 4; ++m) {
        words[i] |= (u[(k + m * POINTS / 4) * kCodeWords<WIDTH> + i] >> shift & 0x03030303U) << (2 * m);
      }
    }
    store_words<WIDTH>(to + part * WIDTH + k * apart, words);
  }
}

template <int POINTS, int WIDTH>
SKV_DEVICE void store_nibbles(std::byte* to, const uint32_t* u, int32_t apart, int32_t part) {
#pragma unroll
  for (int k = 0; k < POINTS / 2; ++k) {
    uint32_t words[kCodeWords<WIDTH>];
#pragma unroll
    for (int i = 0; i < kCodeWords<WIDTH>; ++i) {
      words[i] = (u[k * kCodeWords<WIDTH> + i] >> 4U & 0x0F0F0F0FU) |
                 (u[(k + POINTS / 2) * kCodeWords<WIDTH> + i] & 0xF0F0F0F0U);
    }
    store_words<WIDTH>(to + part * WIDTH + k * apart, words);
  }
}

// Part of a RAW row; false when a finite element overflows the raw dtype.
template <int POINTS, int WIDTH>
SKV_DEVICE bool copy_raw(const Half& half, const std::byte* row, std::byte* to, int32_t apart, int32_t part) {
  bool fits = true;
#pragma unroll
  for (int k = 0; k < POINTS; ++k) {
    const int32_t channel = part * WIDTH + k * apart;
    const std::byte* from = row + channel * half.stride_elem;
    uint32_t bits[WIDTH];
    if (half.dtype != tiers::kF32) {
      load_bits<WIDTH, 2>(from, half.stride_elem, bits);
      store_bits<WIDTH, 2>(to + channel * 2, 2, bits);
      continue;
    }
    load_bits<WIDTH, 4>(from, half.stride_elem, bits);
    if (half.raw_dtype == tiers::kF32) {
      store_bits<WIDTH, 4>(to + channel * 4, 4, bits);
      continue;
    }
    const bool f16 = half.raw_dtype == tiers::kF16;
#pragma unroll
    for (int w = 0; w < WIDTH; ++w) {
      const float x = tiers::float_of(bits[w]);
      const uint16_t narrow = f16 ? tiers::f32_to_f16(x) : tiers::f32_to_bf16(x);
      const uint32_t infinite = f16 ? 0x7C00U : 0x7F80U;
      fits = fits && (!tiers::is_finite(x) || (narrow & infinite) != infinite);
      bits[w] = narrow;
    }
    store_bits<WIDTH, 2>(to + channel * 2, 2, bits);
  }
  return fits;
}

template <int POINTS, int WIDTH>
__global__ void __launch_bounds__(kThreads, 2) pack_kernel(const Half* halves, const Unit* units, Faults* faults) {
  __shared__ Tokens tokens;
  __shared__ Places places;
  const Unit unit = units[blockIdx.x];
  const Half half = halves[unit.half];  // a copy: stores to rows could alias the original
  const Split split = split_of<POINTS, WIDTH>(half.dim);
  const int32_t count = unit_tokens(half, unit);
  const int32_t per_block = kThreads / split.lanes;
  const int32_t first = static_cast<int32_t>(blockIdx.y) * per_block;
  if (first >= count * half.heads) return;  // the whole block
  load_tokens(half, unit, count, tokens);
  __syncthreads();
  find_places(tokens, count, places);

  const int32_t row = first + static_cast<int32_t>(threadIdx.x) / split.lanes;
  const int32_t lane = static_cast<int32_t>(threadIdx.x) % split.lanes;
  const bool present = row < count * half.heads;
  const int32_t token = present ? row / half.heads : 0;
  const int32_t head = present ? row % half.heads : 0;
  const uint8_t tier = present ? tokens.tier[token] : tiers::kDrop;
  const bool quantized = tiers::is_quantized(tier);
  const std::byte* from = half.base + tokens.offset[token] + head * half.stride_head;
  const int64_t at = (static_cast<int64_t>(unit.chunk) * half.heads + head) * half.dim;
  const float* mean = (half.transforms & tiers::kMean) != 0 ? half.mean + at : nullptr;
  const float* recip = (half.transforms & tiers::kBalance) != 0 ? half.recip + at : nullptr;

  float y[POINTS * WIDTH];
  uint32_t largest = 0;
  for (int32_t part = lane; quantized && part < split.parts; part += split.lanes) {
    transform_part<POINTS, WIDTH>(half, from, mean, recip, split.apart, part, y);
    largest = largest_of<POINTS * WIDTH>(y, largest);
  }
  largest = largest_of_row(largest, split.lanes);
  if (tier == tiers::kRaw) {
    const int64_t group = (static_cast<int64_t>(unit.raw) + places.body[token]) * half.heads + head;
    std::byte* to = half.at.raw + group * half.dim * tiers::element_bytes(half.raw_dtype);
    for (int32_t part = lane; part < split.parts; part += split.lanes) {
      if (!copy_raw<POINTS, WIDTH>(half, from, to, split.apart, part)) atomicMin(&faults->unit, unit.ordinal);
    }
  }
  if (!quantized) return;

  const uint16_t scale16 = tiers::scale_of(tiers::float_of(largest), half.code, tier);
  const float scale = tiers::f16_to_f32(scale16);
  if (!tiers::is_finite(tiers::float_of(largest)) || !tiers::is_finite(scale)) {
    atomicMin(&faults->unit, unit.ordinal);
    return;
  }
  const auto group = [&](uint32_t before, uint16_t place) {
    return (static_cast<int64_t>(before) + place) * half.heads + head;
  };
  const int64_t scale_at = group(unit.quantized, places.scale[token]);
  if (lane == 0) store_as(half.at.scales + scale_at * 2, scale16);
  const float inverse = scale == 0.0F ? 0.0F : 1.0F / scale;
  const int32_t quarter = half.dim / 4;
  for (int32_t part = lane; part < split.parts; part += split.lanes) {
    if (split.parts > split.lanes) {  // more parts than a thread keeps
      transform_part<POINTS, WIDTH>(half, from, mean, recip, split.apart, part, y);
    }
    uint32_t u[POINTS * kCodeWords<WIDTH>] = {};
#pragma unroll
    for (int k = 0; k < POINTS; ++k) {
#pragma unroll
      for (int w = 0; w < WIDTH; ++w) {
        const uint32_t code = tiers::quantize(y[k * WIDTH + w], inverse, half.code, tier);
        u[k * kCodeWords<WIDTH> + w / 4] |= code << (8 * (w % 4));
      }
    }
    if (tier == 1) {
      store_plane<POINTS, WIDTH>(half.at.two + group(unit.two, places.body[token]) * quarter, u, 6, split.apart, part);
      continue;
    }
    store_nibbles<POINTS, WIDTH>(half.at.nibble + group(unit.nibble, places.body[token]) * (2 * quarter), u,
                                 split.apart, part);
    if (tier >= 3) {
      store_plane<POINTS, WIDTH>(half.at.plane2 + group(unit.plane2, places.plane2[token]) * quarter, u, 2, split.apart,
                                 part);
    }
    if (tier == 4) {
      store_plane<POINTS, WIDTH>(half.at.plane3 + group(unit.plane3, places.plane3[token]) * quarter, u, 0, split.apart,
                                 part);
    }
  }
}

__global__ void place_kernel(const Patch* patches) {
  const Patch patch = patches[blockIdx.x];
  for (uint64_t i = threadIdx.x; i < patch.bytes; i += blockDim.x) {
    patch.to[i] = patch.from == nullptr ? std::byte{0} : patch.from[i];
  }
}

}  // namespace

int pack(const Batch& batch, Faults* faults, void* stream) {
  if (batch.count == 0) return kSuccess;
  return with_variant(batch.variant, [&]<int POINTS, int WIDTH>() {
    auto* kernel = pack_kernel<POINTS, WIDTH>;
    SKV_LAUNCH(kernel, grid_of(batch), dim3(kThreads), stream, batch.halves, batch.units, faults);
    return static_cast<int>(cudaGetLastError());
  });
}

int loadable() {
  cudaFuncAttributes attributes;
  const cudaError_t status = cudaFuncGetAttributes(&attributes, place_kernel);
  if (status != cudaSuccess) static_cast<void>(cudaGetLastError());
  return static_cast<int>(status);
}

int place(const Patch* patches, uint32_t count, void* stream) {
  if (count == 0) return kSuccess;
  constexpr uint32_t kPlaceThreads = 64;
  SKV_LAUNCH(place_kernel, dim3(count), dim3(kPlaceThreads), stream, patches);
  return static_cast<int>(cudaGetLastError());
}

}  // namespace skv::cuda
