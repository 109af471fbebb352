// SPDX-License-Identifier: Apache-2.0
// Codes into rows of any layout and dtype (docs/wire-format.md, "Decoding arithmetic"). A block is a slice of the
// (token, head) rows of one unit. Sections and vectors were validated.
#include "kernels/cuda/rows.h"

namespace skv::cuda {
namespace {

template <int POINTS, int WIDTH>
SKV_DEVICE void add_plane(const std::byte* from, uint32_t* u, int32_t shift, int32_t apart, int32_t part) {
#pragma unroll
  for (int k = 0; k < POINTS / 4; ++k) {
    uint32_t words[kCodeWords<WIDTH>];
    load_words<WIDTH>(from + part * WIDTH + k * apart, words);
#pragma unroll
    for (int i = 0; i < kCodeWords<WIDTH>; ++i) {
#pragma unroll
      for (int m = 0; m < 4; ++m) {
        u[(k + m * POINTS / 4) * kCodeWords<WIDTH> + i] |= (words[i] >> (2 * m) & 0x03030303U) << shift;
      }
    }
  }
}

template <int POINTS, int WIDTH>
SKV_DEVICE void add_nibbles(const std::byte* from, uint32_t* u, int32_t apart, int32_t part) {
#pragma unroll
  for (int k = 0; k < POINTS / 2; ++k) {
    uint32_t words[kCodeWords<WIDTH>];
    load_words<WIDTH>(from + part * WIDTH + k * apart, words);
#pragma unroll
    for (int i = 0; i < kCodeWords<WIDTH>; ++i) {
      u[k * kCodeWords<WIDTH> + i] = (words[i] & 0x0F0F0F0FU) << 4U;
      u[(k + POINTS / 2) * kCodeWords<WIDTH> + i] = words[i] & 0xF0F0F0F0U;
    }
  }
}

// x = x op f16 vector, of the part's channels.
template <int POINTS, int WIDTH, class Apply>
SKV_DEVICE void with_vector(const std::byte* vector, int32_t apart, int32_t part, float* x, Apply&& apply) {
#pragma unroll
  for (int k = 0; k < POINTS; ++k) {
    uint32_t bits[WIDTH];
    load_bits<WIDTH, 2>(vector + (part * WIDTH + k * apart) * 2, 2, bits);
#pragma unroll
    for (int w = 0; w < WIDTH; ++w) x[k * WIDTH + w] = apply(x[k * WIDTH + w], widen_f16(bits[w]));
  }
}

template <int POINTS, int WIDTH>
SKV_DEVICE void unpack_raw(const Half& half, const std::byte* from, std::byte* row, int32_t apart, int32_t part) {
#pragma unroll
  for (int k = 0; k < POINTS; ++k) {
    const int32_t channel = part * WIDTH + k * apart;
    std::byte* to = row + channel * half.stride_elem;
    uint32_t bits[WIDTH];
    if (half.raw_dtype == tiers::kF32) {
      load_bits<WIDTH, 4>(from + channel * 4, 4, bits);
    } else {
      load_bits<WIDTH, 2>(from + channel * 2, 2, bits);
    }
    if (half.raw_dtype != half.dtype) {
      // Through f32 with tiers.h: a NaN keeps its sign and leading bits.
#pragma unroll
      for (int w = 0; w < WIDTH; ++w) {
        const auto narrow = static_cast<uint16_t>(bits[w]);
        const float x = half.raw_dtype == tiers::kF32   ? tiers::float_of(bits[w])
                        : half.raw_dtype == tiers::kF16 ? tiers::f16_to_f32(narrow)
                                                        : tiers::bf16_to_f32(narrow);
        bits[w] = 0;
        tiers::store_element(&bits[w], half.dtype, x);
      }
    }
    if (half.dtype == tiers::kF32) {
      store_bits<WIDTH, 4>(to, half.stride_elem, bits);
    } else {
      store_bits<WIDTH, 2>(to, half.stride_elem, bits);
    }
  }
}

template <int POINTS, int WIDTH>
__global__ void __launch_bounds__(kThreads, 2)
    unpack_kernel(const Half* halves, const Unit* units, const Faults* faults) {
  __shared__ Tokens tokens;
  __shared__ Places places;
  if (faults->segment != UINT32_MAX) return;  // a digest differed: nothing is written
  const Unit unit = units[blockIdx.x];
  const Half half = halves[unit.half];  // a copy: stores to rows could alias the original
  const Split split = split_of<POINTS, WIDTH>(half.dim);
  const int32_t count = unit_tokens(half, unit);
  const int32_t per_block = kThreads / split.lanes;
  const int32_t first = static_cast<int32_t>(blockIdx.y) * per_block;
  if (first >= count * half.heads) return;
  load_tokens(half, unit, count, tokens);
  __syncthreads();
  find_places(tokens, count, places);

  const int32_t row = first + static_cast<int32_t>(threadIdx.x) / split.lanes;
  const int32_t lane = static_cast<int32_t>(threadIdx.x) % split.lanes;
  if (row >= count * half.heads) return;
  const int32_t token = row / half.heads;
  const int32_t head = row % half.heads;
  const int32_t from_head = half.first_head + head;
  const uint8_t tier = tokens.tier[token];
  const int32_t dim = half.dim;
  const int32_t quarter = dim / 4;
  std::byte* to = half.base + tokens.offset[token] + head * half.stride_head;
  const auto group = [&](uint32_t before, uint16_t place) {
    return (static_cast<int64_t>(before) + place) * half.payload_heads + from_head;
  };
  const int64_t channels = static_cast<int64_t>(half.payload_heads) * dim;
  const bool with_mean = (half.transforms & tiers::kMean) != 0;
  const bool with_balance = (half.transforms & tiers::kBalance) != 0;
  const std::byte* mean = half.vectors + (unit.chunk * channels * ((with_mean ? 1 : 0) + (with_balance ? 1 : 0)) +
                                          static_cast<int64_t>(from_head) * dim) *
                                             2;
  const std::byte* balance = mean + (with_mean ? channels * 2 : 0);

  for (int32_t part = lane; part < split.parts; part += split.lanes) {
    if (tier == tiers::kDrop) {
      const uint32_t zeros[WIDTH] = {};
      for (int k = 0; k < POINTS; ++k) {
        std::byte* at = to + (part * WIDTH + k * split.apart) * half.stride_elem;
        if (half.dtype == tiers::kF32) {
          store_bits<WIDTH, 4>(at, half.stride_elem, zeros);
        } else {
          store_bits<WIDTH, 2>(at, half.stride_elem, zeros);
        }
      }
      continue;
    }
    if (tier == tiers::kRaw) {
      unpack_raw<POINTS, WIDTH>(
          half, half.at.raw + group(unit.raw, places.body[token]) * dim * tiers::element_bytes(half.raw_dtype), to,
          split.apart, part);
      continue;
    }
    uint32_t u[POINTS * kCodeWords<WIDTH>] = {};
    if (tier == 1) {
      add_plane<POINTS, WIDTH>(half.at.two + group(unit.two, places.body[token]) * quarter, u, 6, split.apart, part);
    } else {
      add_nibbles<POINTS, WIDTH>(half.at.nibble + group(unit.nibble, places.body[token]) * (2 * quarter), u,
                                 split.apart, part);
      if (tier >= 3) {
        add_plane<POINTS, WIDTH>(half.at.plane2 + group(unit.plane2, places.plane2[token]) * quarter, u, 2, split.apart,
                                 part);
      }
      if (tier == 4) {
        add_plane<POINTS, WIDTH>(half.at.plane3 + group(unit.plane3, places.plane3[token]) * quarter, u, 0, split.apart,
                                 part);
      }
    }
    const int32_t hadamard = tiers::hadamard_of(half.transforms);
    const uint16_t scale16 = load_as<uint16_t>(half.at.scales + group(unit.quantized, places.scale[token]) * 2);
    const float scale = tiers::f16_to_f32(scale16) * tiers::share(half.code, tier, hadamard, static_cast<int32_t>(dim));
    const tiers::Reconstruction rule = tiers::reconstruction(half.code, tier);
    const int32_t low = 8 - 2 * tier;
    float x[POINTS * WIDTH];
#pragma unroll
    for (int k = 0; k < POINTS; ++k) {
#pragma unroll
      for (int w = 0; w < WIDTH; ++w) {
        const uint32_t code = u[k * kCodeWords<WIDTH> + w / 4] >> (8 * (w % 4)) & 0xFFU;
        const float middle = static_cast<float>(code >> low) * rule.step + rule.offset;
        x[k * WIDTH + w] = middle * scale;
      }
    }
    if (hadamard != 0) tiers::butterflies(x, WIDTH, POINTS);
    if (with_balance) {
      with_vector<POINTS, WIDTH>(balance, split.apart, part, x, [](float a, float b) { return a * b; });
    }
    if (with_mean) {
      with_vector<POINTS, WIDTH>(mean, split.apart, part, x, [](float a, float b) { return a + b; });
    }
#pragma unroll
    for (int k = 0; k < POINTS; ++k) {
      store_floats<WIDTH>(to + (part * WIDTH + k * split.apart) * half.stride_elem, half.stride_elem, half.dtype,
                          x + k * WIDTH);
    }
  }
}

}  // namespace

int unpack(const Batch& batch, const Faults* faults, void* stream) {
  if (batch.count == 0) return kSuccess;
  return with_variant(batch.variant, [&]<int POINTS, int WIDTH>() {
    auto* kernel = unpack_kernel<POINTS, WIDTH>;
    SKV_LAUNCH(kernel, grid_of(batch), dim3(kThreads), stream, batch.halves, batch.units, faults);
    return static_cast<int>(cudaGetLastError());
  });
}

}  // namespace skv::cuda
