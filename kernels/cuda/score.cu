// SPDX-License-Identifier: Apache-2.0
// What scoring measures of the rows themselves: the largest magnitude of every transformed (token, head) row.
#include "kernels/cuda/rows.h"

namespace skv::cuda {
namespace {

template <int POINTS, int WIDTH>
__global__ void __launch_bounds__(kThreads) absmax_kernel(const Half* halves, const Unit* units, Faults* faults) {
  const Unit unit = units[blockIdx.x];
  const Half half = halves[unit.half];
  const Split split = split_of<POINTS, WIDTH>(half.dim);
  const int32_t count = unit_tokens(half, unit);
  const int32_t per_block = kThreads / split.lanes;
  const int32_t first = static_cast<int32_t>(blockIdx.y) * per_block;
  if (first >= count * half.heads) return;
  const int32_t row = first + static_cast<int32_t>(threadIdx.x) / split.lanes;
  const int32_t lane = static_cast<int32_t>(threadIdx.x) % split.lanes;
  const bool present = row < count * half.heads;
  const int32_t token = static_cast<int32_t>(unit.chunk) * half.chunk + (present ? row / half.heads : 0);
  const int32_t head = present ? row % half.heads : 0;
  const std::byte* from = half.base + row_offset(half, token) + head * half.stride_head;
  const int64_t at = (static_cast<int64_t>(unit.chunk) * half.heads + head) * half.dim;
  const float* mean = (half.transforms & tiers::kMean) != 0 ? half.mean + at : nullptr;
  const float* recip = (half.transforms & tiers::kBalance) != 0 ? half.recip + at : nullptr;
  uint32_t largest = 0;
  for (int32_t part = lane; present && part < split.parts; part += split.lanes) {
    float y[POINTS * WIDTH];
    transform_part<POINTS, WIDTH>(half, from, mean, recip, split.apart, part, y);
    largest = largest_of<POINTS * WIDTH>(y, largest);
  }
  largest = largest_of_row(largest, split.lanes);
  if (!present || lane != 0) return;
  const float value = tiers::float_of(largest);
  half.absmax[static_cast<int64_t>(token) * half.heads + head] = value;
  if (!tiers::is_finite(value)) atomicMin(&faults->unit, unit.ordinal);
}

}  // namespace

int absmax(const Batch& batch, Faults* faults, void* stream) {
  if (batch.count == 0) return kSuccess;
  return with_variant(batch.variant, [&]<int POINTS, int WIDTH>() {
    auto* kernel = absmax_kernel<POINTS, WIDTH>;
    SKV_LAUNCH(kernel, grid_of(batch), dim3(kThreads), stream, batch.halves, batch.units, faults);
    return static_cast<int>(cudaGetLastError());
  });
}

}  // namespace skv::cuda
