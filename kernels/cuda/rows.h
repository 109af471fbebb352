// SPDX-License-Identifier: Apache-2.0
// Device code the row kernels share: a chunk's tokens, and a thread's part of one (token, head) row in registers.
#pragma once

#include "kernels/cuda/cuda.h"
#include "kernels/cuda/simt.h"
#include "kernels/tiers.h"

namespace skv::cuda {

constexpr int32_t kThreads = 256;  // of a row kernel: one a token of the largest chunk
constexpr int32_t kWarp = 32;
static_assert(kThreads == tiers::kMaxChunk);

// ------------------------------------------------------------------------------------------- memory access

// One aligned access of 2, 4, 8 or 16 bytes.
template <class T>
SKV_DEVICE T load_as(const std::byte* from) {
#if defined(__CUDA_ARCH__)
  return *reinterpret_cast<const T*>(from);
#else
  T value;
  memcpy(&value, from, sizeof value);
  return value;
#endif
}
template <class T>
SKV_DEVICE void store_as(std::byte* to, const T& value) {
#if defined(__CUDA_ARCH__)
  *reinterpret_cast<T*>(to) = value;
#else
  memcpy(to, &value, sizeof value);
#endif
}

// BYTES (1 .. 32, a power of two) aligned to min(BYTES, 16), as little-endian words.
template <int BYTES>
SKV_DEVICE void load_words(const std::byte* from, uint32_t* words) {
  if constexpr (BYTES == 1) {
    words[0] = load_as<uint8_t>(from);
  } else if constexpr (BYTES == 2) {
    words[0] = load_as<uint16_t>(from);
  } else if constexpr (BYTES == 4) {
    words[0] = load_as<uint32_t>(from);
  } else if constexpr (BYTES == 8) {
    const uint2 two = load_as<uint2>(from);
    words[0] = two.x;
    words[1] = two.y;
  } else {
#pragma unroll
    for (int i = 0; i < BYTES / 16; ++i) {
      const uint4 four = load_as<uint4>(from + 16 * i);
      words[4 * i] = four.x;
      words[4 * i + 1] = four.y;
      words[4 * i + 2] = four.z;
      words[4 * i + 3] = four.w;
    }
  }
}
template <int BYTES>
SKV_DEVICE void store_words(std::byte* to, const uint32_t* words) {
  if constexpr (BYTES == 1) {
    store_as(to, static_cast<uint8_t>(words[0]));
  } else if constexpr (BYTES == 2) {
    store_as(to, static_cast<uint16_t>(words[0]));
  } else if constexpr (BYTES == 4) {
    store_as(to, words[0]);
  } else if constexpr (BYTES == 8) {
    store_as(to, uint2{words[0], words[1]});
  } else {
#pragma unroll
    for (int i = 0; i < BYTES / 16; ++i) {
      store_as(to + 16 * i, uint4{words[4 * i], words[4 * i + 1], words[4 * i + 2], words[4 * i + 3]});
    }
  }
}

template <int BYTES>
SKV_DEVICE bool aligned(const std::byte* address) {
  constexpr uintptr_t kMask = (BYTES < 16 ? BYTES : 16) - 1;
  return (reinterpret_cast<uintptr_t>(address) & kMask) == 0;
}

// WIDTH neighbouring channels of a row as the bits of their elements.
template <int WIDTH, int SIZE>
SKV_DEVICE void load_bits(const std::byte* from, int64_t stride_elem, uint32_t* bits) {
  if (stride_elem == SIZE && aligned<WIDTH * SIZE>(from)) {
    constexpr int kWords = WIDTH * SIZE < 4 ? 1 : WIDTH * SIZE / 4;
    uint32_t words[kWords];
    load_words<WIDTH * SIZE>(from, words);
#pragma unroll
    for (int w = 0; w < WIDTH; ++w) bits[w] = SIZE == 4 ? words[w] : words[w / 2] >> (16 * (w % 2)) & 0xFFFFU;
    return;
  }
#pragma unroll
  for (int w = 0; w < WIDTH; ++w) {
    const std::byte* element = from + w * stride_elem;
    bits[w] = SIZE == 4 ? load_as<uint32_t>(element) : load_as<uint16_t>(element);
  }
}
template <int WIDTH, int SIZE>
SKV_DEVICE void store_bits(std::byte* to, int64_t stride_elem, const uint32_t* bits) {
  if (stride_elem == SIZE && aligned<WIDTH * SIZE>(to)) {
    constexpr int kWords = WIDTH * SIZE < 4 ? 1 : WIDTH * SIZE / 4;
    uint32_t words[kWords] = {};
#pragma unroll
    for (int w = 0; w < WIDTH; ++w) {
      if (SIZE == 4) {
        words[w % kWords] = bits[w];
      } else {
        words[w / 2] |= bits[w] << (16 * (w % 2));
      }
    }
    store_words<WIDTH * SIZE>(to, words);
    return;
  }
#pragma unroll
  for (int w = 0; w < WIDTH; ++w) {
    std::byte* element = to + w * stride_elem;
    if (SIZE == 4) {
      store_as(element, bits[w]);
    } else {
      store_as(element, static_cast<uint16_t>(bits[w]));
    }
  }
}

// -------------------------------------------------------------------------------------------- conversions

// Exact, like tiers::f16_to_f32, but for the payload of a NaN: the rows this is used on either hold none or are
// refused.
SKV_DEVICE float widen_f16(uint32_t bits) {
#if defined(__CUDA_ARCH__)
  float value;
  asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(static_cast<uint16_t>(bits)));
  return value;
#else
  return tiers::f16_to_f32(static_cast<uint16_t>(bits));
#endif
}
// Nearest even, like tiers::f32_to_f16 of a number that is finite or infinite.
SKV_DEVICE uint32_t narrow_f16(float value) {
#if defined(__CUDA_ARCH__)
  uint16_t bits;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value));
  return bits;
#else
  return tiers::f32_to_f16(value);
#endif
}

template <int WIDTH>
SKV_DEVICE void load_floats(const std::byte* from, int64_t stride_elem, int32_t dtype, float* out) {
  uint32_t bits[WIDTH];
  if (dtype == tiers::kF32) {
    load_bits<WIDTH, 4>(from, stride_elem, bits);
#pragma unroll
    for (int w = 0; w < WIDTH; ++w) out[w] = tiers::float_of(bits[w]);
    return;
  }
  load_bits<WIDTH, 2>(from, stride_elem, bits);
#pragma unroll
  for (int w = 0; w < WIDTH; ++w) out[w] = dtype == tiers::kF16 ? widen_f16(bits[w]) : tiers::float_of(bits[w] << 16U);
}
// Finite values, as tiers::store_element.
template <int WIDTH>
SKV_DEVICE void store_floats(std::byte* to, int64_t stride_elem, int32_t dtype, const float* values) {
  uint32_t bits[WIDTH];
  if (dtype == tiers::kF32) {
#pragma unroll
    for (int w = 0; w < WIDTH; ++w) bits[w] = tiers::bits_of(values[w]);
    store_bits<WIDTH, 4>(to, stride_elem, bits);
    return;
  }
#pragma unroll
  for (int w = 0; w < WIDTH; ++w) {
    const float value = values[w];
    bits[w] = dtype == tiers::kF16 ? narrow_f16(value > tiers::kF16Max    ? tiers::kF16Max
                                                : value < -tiers::kF16Max ? -tiers::kF16Max
                                                                          : value)
                                   : tiers::f32_to_bf16(value);
  }
  store_bits<WIDTH, 2>(to, stride_elem, bits);
}

// ------------------------------------------------------------------------------------------------- tokens

// The tokens of a unit, in shared memory.
struct Tokens {
  int64_t offset[tiers::kMaxChunk];
  uint8_t tier[tiers::kMaxChunk];
};

SKV_DEVICE int32_t unit_tokens(const Half& half, const Unit& unit) {
  const int32_t left = half.tokens - static_cast<int32_t>(unit.chunk) * half.chunk;
  return left < half.chunk ? left : half.chunk;
}

SKV_DEVICE int64_t row_offset(const Half& half, int32_t token) {
  if (half.blocks == nullptr) return token * half.stride_token;
  return half.blocks[token / half.block_tokens] * half.stride_block + (token % half.block_tokens) * half.stride_token;
}

// Called by all threads of a block; the caller synchronises.
SKV_DEVICE void load_tokens(const Half& half, const Unit& unit, int32_t tokens, Tokens& out) {
  const int32_t first = static_cast<int32_t>(unit.chunk) * half.chunk;
  for (int32_t t = static_cast<int32_t>(threadIdx.x); t < tokens; t += static_cast<int32_t>(blockDim.x)) {
    out.offset[t] = row_offset(half, first + t);
    out.tier[t] = half.tiers[first + t];
  }
}

// Index of each token's row within the chunk's part of the sections that hold it, by prefix popcounts of ballots.
struct Places {
  uint16_t scale[tiers::kMaxChunk];
  uint16_t body[tiers::kMaxChunk];  // in the section two, nibble or raw, whichever the tier uses
  uint16_t plane2[tiers::kMaxChunk];
  uint16_t plane3[tiers::kMaxChunk];
  uint16_t warp[5][kThreads / kWarp];
};

// Called by all kThreads threads, after the tokens are in; ends synchronised.
SKV_DEVICE void find_places(const Tokens& in, int32_t tokens, Places& out) {
  const auto t = static_cast<int32_t>(threadIdx.x);
  const uint8_t tier = t < tokens ? in.tier[t] : tiers::kDrop;
  const uint32_t before = (1U << (threadIdx.x % kWarp)) - 1U;
  const uint32_t ballot[5] = {__ballot_sync(0xFFFFFFFFU, tiers::is_quantized(tier)),
                              __ballot_sync(0xFFFFFFFFU, tier == 1), __ballot_sync(0xFFFFFFFFU, tier == 3 || tier == 4),
                              __ballot_sync(0xFFFFFFFFU, tier == 4), __ballot_sync(0xFFFFFFFFU, tier == tiers::kRaw)};
  const uint32_t warp = threadIdx.x / kWarp;
  if (threadIdx.x % kWarp == 0) {
    for (int i = 0; i < 5; ++i) out.warp[i][warp] = static_cast<uint16_t>(__popc(ballot[i]));
  }
  __syncthreads();
  uint32_t place[5];
  for (int i = 0; i < 5; ++i) {
    place[i] = static_cast<uint32_t>(__popc(ballot[i] & before));
    for (uint32_t w = 0; w < warp; ++w) place[i] += out.warp[i][w];
  }
  out.scale[t] = static_cast<uint16_t>(place[0]);
  out.body[t] = static_cast<uint16_t>(tier == tiers::kRaw ? place[4] : tier == 1 ? place[1] : place[0] - place[1]);
  out.plane2[t] = static_cast<uint16_t>(place[2]);
  out.plane3[t] = static_cast<uint16_t>(place[3]);
  __syncthreads();
}

// ---------------------------------------------------------------------------------------------------- rows

// A thread keeps the codes of its part one a byte, WIDTH neighbouring channels to a group of kCodeWords words: the
// codes that share a byte of a plane are whole groups apart, so that planes are shifts and masks of words.
template <int WIDTH>
constexpr int kCodeWords = WIDTH < 4 ? 1 : WIDTH / 4;

// How the rows of a half are split over threads.
struct Split {
  int32_t apart;  // channels between two of a thread's groups: dim / points
  int32_t parts;  // groups a row has: apart / width
  int32_t lanes;  // threads a row gets, a power of two, at most a warp
};
constexpr int32_t lanes_of(int32_t parts) {
  int32_t lanes = 1;
  while (lanes < parts && lanes < kWarp) lanes *= 2;
  return lanes;
}
template <int POINTS, int WIDTH>
SKV_DEVICE Split split_of(int32_t dim) {
  const int32_t apart = dim / POINTS;
  const int32_t parts = apart / WIDTH;
  int32_t lanes = 1;
  while (lanes < parts && lanes < kWarp) lanes *= 2;
  return {apart, parts, lanes};
}

// Steps 5 and 6: part `part` of a row into y[POINTS][WIDTH]; mean and recip are the head's, or null.
template <int POINTS, int WIDTH>
SKV_DEVICE void transform_part(const Half& half, const std::byte* row, const float* mean, const float* recip,
                               int32_t apart, int32_t part, float* y) {
#pragma unroll
  for (int k = 0; k < POINTS; ++k) {
    const int32_t channel = part * WIDTH + k * apart;
    load_floats<WIDTH>(row + channel * half.stride_elem, half.stride_elem, half.dtype, y + k * WIDTH);
  }
  uint32_t words[WIDTH];
  if (mean != nullptr) {
#pragma unroll
    for (int k = 0; k < POINTS; ++k) {
      load_words<WIDTH * 4>(reinterpret_cast<const std::byte*>(mean + part * WIDTH + k * apart), words);
#pragma unroll
      for (int w = 0; w < WIDTH; ++w) y[k * WIDTH + w] = y[k * WIDTH + w] - tiers::float_of(words[w]);
    }
  }
  if (recip != nullptr) {
#pragma unroll
    for (int k = 0; k < POINTS; ++k) {
      load_words<WIDTH * 4>(reinterpret_cast<const std::byte*>(recip + part * WIDTH + k * apart), words);
#pragma unroll
      for (int w = 0; w < WIDTH; ++w) y[k * WIDTH + w] = y[k * WIDTH + w] * tiers::float_of(words[w]);
    }
  }
  if ((half.transforms & (tiers::kHadamard8 | tiers::kHadamard16)) != 0) tiers::butterflies(y, WIDTH, POINTS);
}

// Step 7's A as bits: NaN sorts above Inf above every number.
template <int COUNT>
SKV_DEVICE uint32_t largest_of(const float* y, uint32_t largest) {
#pragma unroll
  for (int i = 0; i < COUNT; ++i) {
    const uint32_t magnitude = tiers::bits_of(y[i]) & 0x7FFFFFFFU;
    largest = magnitude > largest ? magnitude : largest;
  }
  return largest;
}
// Over the lanes of a row; all lanes of the warp take part.
SKV_DEVICE uint32_t largest_of_row(uint32_t largest, int32_t lanes) {
  for (int32_t apart = lanes / 2; apart > 0; apart /= 2) {
    const uint32_t other = __shfl_xor_sync(0xFFFFFFFFU, largest, apart);
    largest = other > largest ? other : largest;
  }
  return largest;
}

// Calls launch(std::integral_constant...) for a variant; shared by the launchers.
template <class Launch>
int with_variant(int32_t variant, Launch&& launch) {
  switch (variant) {
    case 0:
      return launch.template operator()<8, 8>();
    case 1:
      return launch.template operator()<8, 4>();
    case 2:
      return launch.template operator()<8, 2>();
    case 3:
      return launch.template operator()<8, 1>();
    case 4:
      return launch.template operator()<16, 4>();
    default:
      return launch.template operator()<16, 1>();
  }
}

// Blocks along x are units, along y slices of their rows.
inline dim3 grid_of(const Batch& batch) {
  const Variant variant = kVariants[batch.variant];
  // Fewer lanes a row mean more rows a block: the widest row of the batch needs the most blocks.
  const int32_t rows_per_block = kThreads / lanes_of(batch.dim / variant.points / variant.width);
  return dim3(batch.count, static_cast<uint32_t>((batch.rows + rows_per_block - 1) / rows_per_block));
}

}  // namespace skv::cuda
