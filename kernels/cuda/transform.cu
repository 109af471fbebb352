// SPDX-License-Identifier: Apache-2.0
// Channel vectors: the statistics of a chunk's quantized rows, then mean and balance (docs/wire-format.md, "Encoding
// arithmetic", steps 2 to 4). A block is one head of one unit.
#include "kernels/cuda/rows.h"

namespace skv::cuda {
namespace {

constexpr int32_t kLane = 8;                                      // channels of a thread: 16 bytes of a 16-bit row
constexpr int32_t kSlice = 128;                                   // channels in work at a time
constexpr int32_t kBlocks = tiers::kMaxChunk / tiers::kSumBlock;  // partial sums of a chunk
constexpr int32_t kStatThreads = kSlice / kLane * kBlocks;
static_assert(kStatThreads == kSlice);

SKV_DEVICE float infinity() { return tiers::float_of(0x7F800000U); }
SKV_DEVICE bool is_nan(float value) { return (tiers::bits_of(value) & 0x7FFFFFFFU) > 0x7F800000U; }

__global__ void __launch_bounds__(kStatThreads)
    statistics_kernel(const Half* halves, const Unit* units, Faults* faults) {
  __shared__ Tokens tokens;
  __shared__ float sums[kBlocks][kSlice];
  __shared__ float lows[kBlocks][kSlice];
  __shared__ float highs[kBlocks][kSlice];
  __shared__ float roots[kernels::kMaxDim];
  __shared__ int32_t counted;
  __shared__ float average;

  const Unit unit = units[blockIdx.x];
  const Half& half = halves[unit.half];
  const auto head = static_cast<int32_t>(blockIdx.y);
  if (head >= half.heads) return;
  const auto thread = static_cast<int32_t>(threadIdx.x);
  const int32_t dim = half.dim;
  const int32_t rows = unit_tokens(half, unit);
  const bool with_mean = (half.transforms & tiers::kMean) != 0;
  const bool with_balance = (half.transforms & tiers::kBalance) != 0;
  const int64_t channels = static_cast<int64_t>(half.heads) * dim;
  const int64_t scratch = unit.chunk * channels + static_cast<int64_t>(head) * dim;
  const int64_t vectors = (with_mean ? 1 : 0) + (with_balance ? 1 : 0);
  uint16_t* mean16 = nullptr;
  uint16_t* balance16 = nullptr;
  if (half.vectors != nullptr) {
    auto* stored =
        reinterpret_cast<uint16_t*>(half.vectors) + unit.chunk * channels * vectors + static_cast<int64_t>(head) * dim;
    mean16 = stored;
    balance16 = stored + (with_mean ? channels : 0);
  }

  if (thread == 0) counted = 0;
  load_tokens(half, unit, rows, tokens);
  __syncthreads();
  for (int32_t t = thread; t < kThreads; t += kStatThreads) {
    const uint32_t ballot = __ballot_sync(0xFFFFFFFFU, t < rows && tiers::is_quantized(tokens.tier[t]));
    if (thread % kWarp == 0 && ballot != 0) atomicAdd(&counted, __popc(ballot));
  }
  __syncthreads();
  const int32_t n = counted;

  for (int32_t slice = 0; slice < dim; slice += kSlice) {
    const int32_t block = thread / (kSlice / kLane);
    const int32_t lane = thread % (kSlice / kLane) * kLane;
    if (slice + lane < dim) {
      float sum[kLane];
      float low[kLane];
      float high[kLane];
      for (int32_t w = 0; w < kLane; ++w) {
        sum[w] = 0.0F;
        low[w] = infinity();
        high[w] = -infinity();
      }
      const std::byte* column = half.base + head * half.stride_head + (slice + lane) * half.stride_elem;
      const int32_t first = block * tiers::kSumBlock;
      const int32_t last = first + tiers::kSumBlock < rows ? first + tiers::kSumBlock : rows;
#pragma unroll 8
      for (int32_t t = first; t < last; ++t) {
        if (!tiers::is_quantized(tokens.tier[t])) continue;
        float x[kLane];
        load_floats<kLane>(column + tokens.offset[t], half.stride_elem, half.dtype, x);
#pragma unroll
        for (int32_t w = 0; w < kLane; ++w) {
          sum[w] = sum[w] + x[w];
          low[w] = x[w] < low[w] ? x[w] : low[w];
          high[w] = x[w] > high[w] ? x[w] : high[w];
        }
      }
      for (int32_t w = 0; w < kLane; ++w) {
        sums[block][lane + w] = sum[w];
        lows[block][lane + w] = low[w];
        highs[block][lane + w] = high[w];
      }
    }
    __syncthreads();
    const int32_t c = slice + thread;
    if (c < dim) {
      float sum = 0.0F;
      float low = infinity();
      float high = -infinity();
      for (int32_t b = 0; b * tiers::kSumBlock < rows; ++b) {
        sum = sum + sums[b][thread];
        low = lows[b][thread] < low ? lows[b][thread] : low;
        high = highs[b][thread] > high ? highs[b][thread] : high;
      }
      float mu = 0.0F;
      bool bad = false;
      if (n != 0) {
        // Inf lies in low or high; a NaN only shows in the sum, which finite rows can also drive to Inf.
        bad = !tiers::is_finite(low) || !tiers::is_finite(high) || is_nan(sum);
        if (with_mean) {
          const uint16_t stored = tiers::f32_to_f16(sum / static_cast<float>(n));
          mu = tiers::f16_to_f32(stored);
          bad = bad || !tiers::is_finite(mu);
          if (mean16 != nullptr) mean16[c] = stored;
        }
      } else if (with_mean && mean16 != nullptr) {
        mean16[c] = 0;
      }
      if (bad) atomicMin(&faults->unit, unit.ordinal);
      if (with_mean) half.mean[scratch + c] = mu;
      if (with_balance && n != 0) {
        const float above = high - mu;
        const float below = mu - low;
        roots[c] = sqrtf(above > below ? above : below);
      }
    }
    __syncthreads();
  }
  if (!with_balance) return;
  // In the order of the channels: one thread, from shared memory.
  if (thread == 0) {
    float sum = 0.0F;
    if (n != 0) {
#pragma unroll 8
      for (int32_t c = 0; c < dim; ++c) sum = sum + roots[c];
      sum = sum / static_cast<float>(dim);
    }
    average = sum;
  }
  __syncthreads();
  for (int32_t c = thread; c < dim; c += kStatThreads) {
    float b = 1.0F;
    if (average != 0.0F) {
      b = roots[c] / average;
      b = b > tiers::kMinBalance ? b : tiers::kMinBalance;
    }
    const uint16_t bits = tiers::f32_to_f16(b);
    const float value = tiers::f16_to_f32(bits);
    if (balance16 != nullptr) balance16[c] = bits;
    if (half.balance != nullptr) half.balance[scratch + c] = value;
    half.recip[scratch + c] = 1.0F / value;
  }
}

}  // namespace

int statistics(const Half* halves, const Unit* units, uint32_t count, int32_t heads, Faults* faults, void* stream) {
  if (count == 0) return kSuccess;
  SKV_LAUNCH(statistics_kernel, dim3(count, static_cast<uint32_t>(heads)), dim3(kStatThreads), stream, halves, units,
             faults);
  return static_cast<int>(cudaGetLastError());
}

}  // namespace skv::cuda
