// SPDX-License-Identifier: Apache-2.0
#include "payload.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>
#include <bit>
#include <cstring>

#include "error.h"
#include "payload_fields.h"

namespace skv {

namespace {}  // namespace

std::array<const Extent*, kSections> sections_of(const SegmentLayout& layout) {
  const HalfLayout& k = layout.half[0];
  const HalfLayout& v = layout.half[1];
  return {&layout.base, &k.vectors, &k.map,    &v.vectors, &v.map, &k.scales, &k.two,
          &k.nibble,    &k.plane1,  &k.plane2, &k.plane3,  &k.raw, &v.scales, &v.two,
          &v.nibble,    &v.plane1,  &v.plane2, &v.plane3,  &v.raw};
}

SegmentLayout layout_of(const SegmentShape& shape, const TierCounts counts[2], const uint32_t runs[2]) {
  SegmentLayout layout;
  uint64_t at = kSegmentHeaderBytes;
  const auto place = [&at](Extent& extent, uint64_t bytes) {
    at = align_up(at);
    extent = {at, bytes};
    at += bytes;
  };
  place(layout.base, 0);
  const uint64_t chunks = (uint64_t{shape.tokens} + shape.chunk - 1) / shape.chunk;
  const uint64_t words = (uint64_t{shape.tokens} + 63) / 64;
  for (int half = 0; half < 2; ++half) {
    HalfLayout& h = layout.half[half];
    const bool present = shape.dim[half] != 0;
    const uint64_t vector = uint64_t{shape.heads} * shape.dim[half] * 2;
    const uint64_t vectors = (shape.transforms[half] & 1U) + (shape.transforms[half] >> 1U & 1U);
    h.runs = runs[half];
    place(h.vectors, present ? chunks * vector * vectors : 0);
    place(h.map, !present ? 0 : runs[half] != 0 ? uint64_t{runs[half]} * 4 : words * 24);
  }
  for (int half = 0; half < 2; ++half) {
    HalfLayout& h = layout.half[half];
    const uint32_t* rows = counts[half].rows;
    const uint64_t heads = shape.heads;
    const uint64_t elements = heads * shape.dim[half];
    place(h.scales, (uint64_t{rows[1]} + rows[2] + rows[3] + rows[4]) * heads * 2);
    place(h.two, rows[1] * (elements / 4));
    place(h.nibble, (uint64_t{rows[2]} + rows[3] + rows[4]) * (elements / 2));
    place(h.plane1, 0);
    place(h.plane2, (uint64_t{rows[3]} + rows[4]) * (elements / 4));
    place(h.plane3, rows[4] * (elements / 4));
    place(h.raw, rows[5] * elements * raw_element_bytes(shape));
  }
  layout.bytes = align_up(at);
  return layout;
}

void count_tiers(std::span<const uint8_t> tiers, TierCounts& counts, uint32_t& runs) {
  counts = {};
  uint64_t changes = tiers.empty() ? 0 : 1;
  // Sums of a block fit a byte: vectors of bytes are compared and added as they are.
  constexpr size_t kBlock = 240;
  for (size_t first = 0; first < tiers.size(); first += kBlock) {
    const uint8_t* block = tiers.data() + first;
    const size_t count = std::min(kBlock, tiers.size() - first);
    for (uint8_t tier = 0; tier < 8; ++tier) {
      uint8_t rows = 0;
      for (size_t t = 0; t < count; ++t) rows = static_cast<uint8_t>(rows + (block[t] == tier ? 1 : 0));
      counts.rows[tier] += rows;
    }
    uint8_t changed = 0;
    for (size_t t = 1; t < count; ++t) changed = static_cast<uint8_t>(changed + (block[t] != block[t - 1] ? 1 : 0));
    changes += changed + (first != 0 && block[0] != block[-1] ? 1U : 0U);
  }
  runs = changes * 4 < 24 * ((tiers.size() + 63) / 64) ? static_cast<uint32_t>(changes) : 0;
}

void write_header(std::span<std::byte, kHeaderBytes> out, const Header& header) {
  std::memset(out.data(), 0, out.size());
  std::memcpy(out.data(), "SKV1", 4);
  put(out, 4, header.wire_major);
  put(out, 5, header.wire_minor);
  put(out, 6, static_cast<uint16_t>(kHeaderBytes));
  put(out, 8, header.flags);
  put(out, 12, header.layer_count);
  put(out, 16, header.total_bytes);
  std::memcpy(out.data() + 24, header.fingerprint.data(), header.fingerprint.size());
  std::memcpy(out.data() + 56, header.request_id.data(), header.request_id.size());
  put(out, 72, header.raw_bytes);
  put(out, 80, header.budget_bytes);
  put(out, 88, header.scored);
  put(out, 120, static_cast<uint64_t>(XXH3_64bits(out.data(), 120)));
}

void write_segment_header(std::span<std::byte> segment, const SegmentShape& shape, const SegmentLayout& layout) {
  std::memset(segment.data(), 0, kSegmentHeaderBytes);
  std::memcpy(segment.data(), "SEG1", 4);
  put(segment, 4, shape.layer);
  put(segment, 8, layout.bytes);
  put(segment, 16, shape.tokens);
  put(segment, 20, shape.heads);
  put(segment, 22, shape.first_head);
  put(segment, 24, shape.first_position);
  put(segment, 32, shape.dim[0]);
  put(segment, 34, shape.dim[1]);
  put(segment, 36, shape.chunk);
  put(segment, 38, shape.dtype);
  put(segment, 39, shape.raw_dtype);
  put(segment, 40, shape.code);
  put(segment, 41, shape.transforms[0]);
  put(segment, 42, shape.transforms[1]);
  put(segment, 43, shape.group);
  put(segment, 44, layout.half[0].runs);
  put(segment, 48, shape.dim[1] == 0 ? 0U : layout.half[1].runs);
}

void write_map(std::span<std::byte> segment, const HalfLayout& layout, std::span<const uint8_t> tiers) {
  std::byte* out = segment.data() + layout.map.offset;
  if (layout.runs != 0) {
    uint64_t at = 0;
    for (size_t t = 0; t < tiers.size();) {
      size_t end = t + 1;
      while (end < tiers.size() && tiers[end] == tiers[t]) ++end;
      const auto run = static_cast<uint32_t>(uint32_t{tiers[t]} << 29U | static_cast<uint32_t>(end - t));
      std::memcpy(out + at, &run, sizeof run);
      at += sizeof run;
      t = end;
    }
    return;
  }
  const uint64_t words = (tiers.size() + 63) / 64;
  for (uint64_t w = 0; w < words; ++w) {
    uint64_t plane[3] = {0, 0, 0};
    const size_t end = std::min<size_t>(tiers.size(), w * 64 + 64);
    for (size_t t = w * 64; t < end; ++t) {
      for (unsigned bit = 0; bit < 3; ++bit) plane[bit] |= uint64_t{tiers[t] >> bit & 1U} << (t % 64);
    }
    for (unsigned bit = 0; bit < 3; ++bit) std::memcpy(out + (bit * words + w) * 8, &plane[bit], 8);
  }
}

void zero_padding(std::span<std::byte> segment, const SegmentLayout& layout) {
  uint64_t at = kSegmentHeaderBytes;
  for (const Extent* extent : sections_of(layout)) {
    std::memset(segment.data() + at, 0, extent->offset - at);
    at = extent->offset + extent->bytes;
  }
  std::memset(segment.data() + at, 0, layout.bytes - at);
}

std::vector<Extent> gaps_of(const SegmentLayout& layout) {
  std::vector<Extent> gaps;
  uint64_t at = kSegmentHeaderBytes;
  const auto gap = [&](const Extent& extent) {
    if (extent.offset != at) gaps.push_back({at, extent.offset - at});
    at = extent.offset + extent.bytes;
  };
  for (const Extent* extent : sections_of(layout)) gap(*extent);
  gap({layout.bytes, 0});
  return gaps;
}

std::span<const std::byte> leaf_of(std::span<const std::byte> segment, uint64_t index) {
  const uint64_t begin = kSegmentHeaderBytes + index * kLeafBytes;
  return segment.subspan(begin, std::min<uint64_t>(kLeafBytes, segment.size() - begin));
}

namespace {

uint64_t root_of(std::span<const std::byte> segment, std::span<const uint64_t> leaves) {
  XXH3_state_t state;
  XXH3_64bits_reset(&state);
  XXH3_64bits_update(&state, segment.data(), 56);
  XXH3_64bits_update(&state, leaves.data(), leaves.size_bytes());
  return XXH3_64bits_digest(&state);
}

}  // namespace

void seal_segment(std::span<std::byte> segment, std::span<const uint64_t> leaf_digests) {
  put(segment, 56, root_of(segment, leaf_digests));
}

uint64_t digest_of(std::span<const std::byte> segment, Digest digest) {
  std::vector<uint64_t> leaves(leaf_count(segment.size()));
  for (uint64_t i = 0; i < leaves.size(); ++i) {
    const std::span<const std::byte> leaf = leaf_of(segment, i);
    leaves[i] = digest(leaf.data(), leaf.size());
  }
  return root_of(segment, leaves);
}

namespace {

void match_digest(const Segment& segment, uint64_t got) {
  if (got != segment.digest) {
    fail(SKV_E_CHECKSUM, "segment %u: digest is %016llx, its bytes give %016llx", segment.shape.layer,
         static_cast<unsigned long long>(segment.digest), static_cast<unsigned long long>(got));
  }
}

}  // namespace

void verify_segment(std::span<const std::byte> bytes, const Segment& segment, Digest digest) {
  match_digest(segment, digest_of(bytes, digest));
}
void verify_segment(std::span<const std::byte> bytes, const Segment& segment, std::span<const uint64_t> leaf_digests) {
  match_digest(segment, root_of(bytes, leaf_digests));
}

}  // namespace skv
