// SPDX-License-Identifier: Apache-2.0
// How a layer's segment is cut into the units that kernels work on; shared by the codec's CPU and CUDA halves.
#pragma once

#include <spectrumkv.h>

#include <cstddef>
#include <cstdint>
#include <span>

#include "arena.h"
#include "kernels/kernels.h"
#include "kernels/tiers.h"
#include "payload.h"
#include "rows.h"

namespace skv {

inline const char* half_name(int half) { return half == SKV_K ? "K" : "V"; }

// Rows that precede a chunk in each section of a half.
struct Before {
  uint32_t rows[tiers::kTierCount + 2] = {};  // by tier
  uint64_t quantized() const { return uint64_t{rows[1]} + rows[2] + rows[3] + rows[4]; }
  uint64_t nibble() const { return uint64_t{rows[2]} + rows[3] + rows[4]; }
  uint64_t plane2() const { return uint64_t{rows[3]} + rows[4]; }
};

// One half of one layer, ready to be cut into chunks.
struct HalfWork {
  int32_t layer = 0;
  int half = 0;
  const SegmentShape* shape = nullptr;
  const HalfLayout* layout = nullptr;
  std::span<const uint8_t> tiers;
  std::span<Before> before;  // per chunk, in an arena

  uint32_t chunks() const { return chunks_of(shape->tokens, shape->chunk); }
};

// From the tiers.
void take_before(HalfWork& work, Arena& arena);  // the memory
void count_before(HalfWork& work);               // what is in it

// The first byte of a chunk's first row in every section.
kernels::Sections sections_at(std::byte* segment, const HalfWork& work, uint32_t chunk);

// Where a chunk's channel vectors lie: mean then balance.
std::byte* vectors_at(std::byte* segment, const HalfWork& work, uint32_t chunk);

// One chunk into its place in the segment.
kernels::Verdict encode_rows(const kernels::Kernels& k, const kernels::Rows& rows, const HalfWork& work, uint32_t index,
                             std::byte* segment, Scratch& scratch);

// Throws NON_FINITE or OVERFLOW for a verdict that is not kOk.
[[noreturn]] void refuse(const HalfWork& work, uint32_t chunk, const kernels::Verdict& verdict);

}  // namespace skv
