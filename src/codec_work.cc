// SPDX-License-Identifier: Apache-2.0
#include "codec_work.h"

#include "error.h"
#include "plan.h"

namespace skv {

void take_before(HalfWork& work, Arena& arena) { work.before = arena.take<Before>(work.chunks()); }

void count_before(HalfWork& work) {
  Before running;
  for (uint32_t c = 0; c < work.chunks(); ++c) {
    work.before[c] = running;
    const ChunkRange range = chunk_range(work.shape->tokens, work.shape->chunk, c);
    for (uint32_t t = 0; t < range.tokens; ++t) ++running.rows[work.tiers[range.first + t]];
  }
}

kernels::Sections sections_at(std::byte* segment, const HalfWork& work, uint32_t chunk) {
  const HalfLayout& layout = *work.layout;
  const Before& before = work.before[chunk];
  const uint64_t heads = work.shape->heads;
  const uint64_t dim = work.shape->dim[work.half];
  return {segment + layout.scales.offset + before.quantized() * heads * 2,
          segment + layout.two.offset + before.rows[1] * heads * (dim / 4),
          segment + layout.nibble.offset + before.nibble() * heads * (dim / 2),
          segment + layout.plane2.offset + before.plane2() * heads * (dim / 4),
          segment + layout.plane3.offset + before.rows[4] * heads * (dim / 4),
          segment + layout.raw.offset + before.rows[tiers::kRaw] * row_bytes(*work.shape, work.half, tiers::kRaw)};
}

std::byte* vectors_at(std::byte* segment, const HalfWork& work, uint32_t chunk) {
  const uint32_t flags = work.shape->transforms[work.half];
  const uint64_t one = uint64_t{work.shape->heads} * work.shape->dim[work.half] * 2;
  const uint64_t per_chunk = ((flags & tiers::kMean) != 0 ? one : 0) + ((flags & tiers::kBalance) != 0 ? one : 0);
  return segment + work.layout->vectors.offset + chunk * per_chunk;
}

kernels::Verdict encode_rows(const kernels::Kernels& k, const kernels::Rows& rows, const HalfWork& work, uint32_t index,
                             std::byte* segment, Scratch& scratch) {
  const SegmentShape& shape = *work.shape;
  const ChunkRange range = chunk_range(shape.tokens, shape.chunk, index);
  const size_t channels = size_t{shape.heads} * shape.dim[work.half];
  const uint32_t flags = shape.transforms[work.half];
  kernels::PackChunk job{
      rows, work.tiers.data() + range.first, {}, shape.code, shape.raw_dtype, sections_at(segment, work, index)};
  job.transform.hadamard = tiers::hadamard_of(flags);
  if ((flags & (tiers::kMean | tiers::kBalance)) != 0) {
    float* floats = scratch.need_floats(6 * channels);
    float* mean = floats + 3 * channels;
    float* balance = floats + 4 * channels;
    float* recip = floats + 5 * channels;
    std::byte* stored = vectors_at(segment, work, index);
    auto* mean16 = (flags & tiers::kMean) != 0 ? reinterpret_cast<uint16_t*>(stored) : nullptr;
    auto* balance16 = (flags & tiers::kBalance) != 0
                          ? reinterpret_cast<uint16_t*>(stored + (mean16 != nullptr ? channels * 2 : 0))
                          : nullptr;
    const int32_t counted = k.stats(job.rows, job.tiers, floats, floats + channels, floats + 2 * channels);
    const kernels::Verdict verdict =
        k.vectors(flags & (tiers::kMean | tiers::kBalance), counted, shape.heads, shape.dim[work.half], floats,
                  floats + channels, floats + 2 * channels, mean16, balance16, mean, balance, recip);
    if (verdict.kind == kernels::Verdict::kOverflow) return verdict;
    if (verdict.kind == kernels::Verdict::kNonFinite) {
      // The statistics only know the head: packing the rows as they are names the row. When all rows are finite, it was
      // the sum that overflowed.
      const kernels::Verdict row = k.pack(job);
      return row.kind != kernels::Verdict::kOk ? row : kernels::Verdict{kernels::Verdict::kOverflow, 0, verdict.head};
    }
    if (mean16 != nullptr) job.transform.mean = mean;
    if (balance16 != nullptr) job.transform.recip = recip;
  }
  return k.pack(job);
}

void refuse(const HalfWork& work, uint32_t chunk, const kernels::Verdict& verdict) {
  const uint32_t token = chunk * work.shape->chunk + static_cast<uint32_t>(verdict.token);
  if (verdict.kind == kernels::Verdict::kNonFinite) {
    fail(SKV_E_NON_FINITE,
         "layer %d %s token %u head %d: Inf or NaN in a row of a quantized tier; wanted finite values", work.layer,
         half_name(work.half), token, verdict.head);
  }
  fail(SKV_E_OVERFLOW, "layer %d %s token %u head %d: a value too large for the 16-bit scale, mean or raw element",
       work.layer, half_name(work.half), token, verdict.head);
}

}  // namespace skv
