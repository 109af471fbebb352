// SPDX-License-Identifier: Apache-2.0
// Rows of a payload at other tiers without their cache: planes of an upgrade added, or low planes left out. Pure bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "payload.h"

namespace skv {

// Plane 0 or 1 of one (row, head) of dim codes, out of its nibbles; and the nibbles out of both.
void plane_of_nibbles(const std::byte* nibbles, int plane, uint32_t dim, std::byte* out);
void nibbles_of_planes(const std::byte* plane0, const std::byte* plane1, uint32_t dim, std::byte* out);

// One segment's rows at new tiers. `upgrade` (with `added`, its bytes) is null when rows are only cut; then each tier
// is at most the base's, RAW and DROP rows staying what they are. Both segments were parsed and verified, and tiers
// are the base's after the upgrade's steps.
struct Retier {
  std::span<const std::byte> from;
  const Segment* base;
  std::span<const std::byte> added;
  const Segment* upgrade;
  std::span<const uint8_t> before[2];
  std::span<const uint8_t> after[2];
};

// The layout of the result, whose bytes write_retiered fills but for its digest.
SegmentLayout retiered_layout(const Retier& job);
void write_retiered(const Retier& job, const SegmentLayout& layout, std::span<std::byte> out);

}  // namespace skv
