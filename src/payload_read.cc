// SPDX-License-Identifier: Apache-2.0
// The reader of docs/wire-format.md. Input is untrusted: nothing is used before it was bounded, nothing is allocated
// from a claimed size.
#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>
#include <bit>
#include <cstring>

#include "error.h"
#include "payload.h"
#include "payload_fields.h"

namespace skv {
namespace {

using ull = unsigned long long;

const char* half_name(int half) { return half == 0 ? "K" : "V"; }

// A newer minor may have put ignorable fields into reserved space.
bool newer(const Header& header) { return header.wire_minor > SKV_WIRE_MINOR; }

bool is_upgrade(const Header& header) { return (header.flags & kFlagUpgrade) != 0; }

}  // namespace

Header parse_header(std::span<const std::byte> bytes) {
  if (bytes.size() < kHeaderBytes) {
    fail(SKV_E_TRUNCATED, "payload of %zu bytes: the header alone has 128", bytes.size());
  }
  if (std::memcmp(bytes.data(), "SKV1", 4) != 0) {
    fail(SKV_E_MALFORMED, "magic %08x: wanted \"SKV1\", not a spectrumkv payload", take<uint32_t>(bytes, 0));
  }
  Header header;
  header.wire_major = take<uint8_t>(bytes, 4);
  header.wire_minor = take<uint8_t>(bytes, 5);
  if (header.wire_major != SKV_WIRE_MAJOR) {
    fail(SKV_E_VERSION, "wire major %u: this library reads %d", header.wire_major, SKV_WIRE_MAJOR);
  }
  const uint64_t digest = XXH3_64bits(bytes.data(), 120);
  if (digest != take<uint64_t>(bytes, 120)) {
    fail(SKV_E_CHECKSUM, "header digest is %016llx, its bytes give %016llx",
         static_cast<ull>(take<uint64_t>(bytes, 120)), static_cast<ull>(digest));
  }
  if (take<uint16_t>(bytes, 6) != kHeaderBytes) {
    fail(SKV_E_MALFORMED, "header of %u bytes, wanted 128", take<uint16_t>(bytes, 6));
  }
  header.layer_count = take<uint32_t>(bytes, 12);
  if (header.layer_count == 0 || header.layer_count > kMaxLayers) {
    fail(SKV_E_MALFORMED, "%u layers, wanted 1..%u", header.layer_count, kMaxLayers);
  }
  header.scored = take<uint32_t>(bytes, 88);
  if (!newer(header)) {
    if (header.scored > 3) fail(SKV_E_MALFORMED, "scored %u, wanted 0..3", header.scored);
    if (!all_zero(bytes.subspan(92, 28))) fail(SKV_E_MALFORMED, "reserved header bytes 92-119 are not zero");
  }
  header.flags = take<uint32_t>(bytes, 8);
  if ((header.flags & 0xFFFFU & ~kFlagUpgrade) != 0) {
    fail(SKV_E_FEATURE, "flags %08x: bits 1-15 need a newer reader", header.flags);
  }
  header.total_bytes = take<uint64_t>(bytes, 16);
  if (header.total_bytes > bytes.size()) {
    fail(SKV_E_TRUNCATED, "payload of %llu bytes, got %zu", static_cast<ull>(header.total_bytes), bytes.size());
  }
  if (header.total_bytes < bytes.size()) {
    fail(SKV_E_TRAILING, "payload of %llu bytes, got %zu", static_cast<ull>(header.total_bytes), bytes.size());
  }
  std::memcpy(header.fingerprint.data(), bytes.data() + 24, 32);
  std::memcpy(header.request_id.data(), bytes.data() + 56, 16);
  header.raw_bytes = take<uint64_t>(bytes, 72);
  header.budget_bytes = take<uint64_t>(bytes, 80);
  return header;
}

namespace {

void check_dim(uint32_t layer, const char* name, uint32_t dim, bool may_be_absent) {
  if ((dim == 0 && may_be_absent) || (dim >= 8 && dim <= 4096 && dim % 8 == 0)) return;
  fail(SKV_E_MALFORMED, "segment %u: %s %u, wanted a multiple of 8 in 8..4096%s", layer, name, dim,
       may_be_absent ? " or 0" : "");
}

void check_transforms(const SegmentShape& shape, int half) {
  const uint32_t flags = shape.transforms[half];
  if ((flags & 0xF0U) != 0) {
    fail(SKV_E_FEATURE, "segment %u: %s transforms 0x%02x need a newer reader", shape.layer, half_name(half), flags);
  }
  if ((flags & 12U) == 12U) {
    fail(SKV_E_MALFORMED, "segment %u: %s transforms 0x%02x name two Hadamards", shape.layer, half_name(half), flags);
  }
  if (shape.dim[half] == 0 && flags != 0) {
    fail(SKV_E_MALFORMED, "segment %u: transforms 0x%02x of a %s that is not there", shape.layer, flags,
         half_name(half));
  }
  if ((flags & 8U) != 0 && shape.dim[half] % 16 != 0) {
    fail(SKV_E_MALFORMED, "segment %u: Hadamard-16 over %s dim %u", shape.layer, half_name(half), shape.dim[half]);
  }
}

// Reads the fixed header of a segment; `left` starts at its first byte.
SegmentShape parse_shape(std::span<const std::byte> left, const Header& header, uint32_t ordinal, uint64_t& bytes,
                         uint32_t runs[2], uint64_t& digest) {
  if (left.size() < kSegmentHeaderBytes) {
    fail(SKV_E_MALFORMED, "segment %u: %zu bytes left for its 64-byte header", ordinal, left.size());
  }
  const char* magic = is_upgrade(header) ? "UPG1" : "SEG1";
  if (std::memcmp(left.data(), magic, 4) != 0) {
    fail(SKV_E_MALFORMED, "segment %u: magic %08x, wanted \"%s\"", ordinal, take<uint32_t>(left, 0), magic);
  }
  SegmentShape shape{};
  shape.layer = take<uint32_t>(left, 4);
  if (shape.layer != ordinal) fail(SKV_E_MALFORMED, "segment %u says it is layer %u", ordinal, shape.layer);
  bytes = take<uint64_t>(left, 8);
  if (bytes < kSegmentHeaderBytes || bytes % kSectionAlign != 0 || bytes > left.size()) {
    fail(SKV_E_MALFORMED, "segment %u: %llu bytes, wanted a multiple of 16 in 64..%zu", ordinal,
         static_cast<ull>(bytes), left.size());
  }
  shape.tokens = take<uint32_t>(left, 16);
  if (shape.tokens == 0 || shape.tokens > kMaxTokens) {
    fail(SKV_E_MALFORMED, "segment %u: %u tokens, wanted 1..%u", ordinal, shape.tokens, kMaxTokens);
  }
  shape.heads = take<uint16_t>(left, 20);
  if (shape.heads == 0 || shape.heads > 1024) {
    fail(SKV_E_MALFORMED, "segment %u: %u kv-heads, wanted 1..1024", ordinal, shape.heads);
  }
  shape.first_head = take<uint16_t>(left, 22);
  shape.first_position = take<uint64_t>(left, 24);
  if (shape.first_position > 1ULL << 62U) {
    fail(SKV_E_MALFORMED, "segment %u: first position %llu, wanted at most 2^62", ordinal,
         static_cast<ull>(shape.first_position));
  }
  shape.dim[0] = take<uint16_t>(left, 32);
  shape.dim[1] = take<uint16_t>(left, 34);
  check_dim(ordinal, "k_dim", shape.dim[0], false);
  check_dim(ordinal, "v_dim", shape.dim[1], true);
  shape.chunk = take<uint16_t>(left, 36);
  if (shape.chunk < 32 || shape.chunk > 256 || shape.chunk % 32 != 0) {
    fail(SKV_E_MALFORMED, "segment %u: chunk of %u tokens, wanted 32..256 in steps of 32", ordinal, shape.chunk);
  }
  shape.dtype = take<uint8_t>(left, 38);
  shape.raw_dtype = take<uint8_t>(left, 39);
  if (shape.dtype < SKV_F16 || shape.dtype > SKV_F32) {
    fail(SKV_E_FEATURE, "segment %u: dtype %u needs a newer reader", ordinal, shape.dtype);
  }
  if (shape.raw_dtype < SKV_F16 || shape.raw_dtype > SKV_F32) {
    fail(SKV_E_FEATURE, "segment %u: raw dtype %u needs a newer reader", ordinal, shape.raw_dtype);
  }
  if (shape.dtype != SKV_F32 && shape.raw_dtype != shape.dtype) {
    fail(SKV_E_MALFORMED, "segment %u: raw dtype %u of dtype %u", ordinal, shape.raw_dtype, shape.dtype);
  }
  shape.code = take<uint8_t>(left, 40);
  if (shape.code > SKV_CODE_PAPER) fail(SKV_E_FEATURE, "segment %u: code %u needs a newer reader", ordinal, shape.code);
  shape.transforms[0] = take<uint8_t>(left, 41);
  shape.transforms[1] = take<uint8_t>(left, 42);
  check_transforms(shape, 0);
  check_transforms(shape, 1);
  shape.group = take<uint8_t>(left, 43);
  for (int half = 0; half < 2; ++half) {
    runs[half] = take<uint32_t>(left, 44 + 4 * static_cast<uint64_t>(half));
    const uint32_t most = shape.dim[half] == 0 ? 0 : shape.tokens;
    if (runs[half] > most) {
      fail(SKV_E_MALFORMED, "segment %u: %u %s runs for %u tokens", ordinal, runs[half], half_name(half), most);
    }
  }
  if (!newer(header) && take<uint32_t>(left, 52) != 0) {
    fail(SKV_E_MALFORMED, "segment %u: reserved bytes 52-55 are not zero", ordinal);
  }
  digest = take<uint64_t>(left, 56);
  return shape;
}

void count_tier(uint32_t ordinal, int half, const SegmentShape& shape, uint32_t tier, uint32_t rows,
                TierCounts& counts) {
  if (rows == 0) return;
  if (tier > 5) fail(SKV_E_FEATURE, "segment %u %s map: tier %u needs a newer reader", ordinal, half_name(half), tier);
  if (shape.code == SKV_CODE_PAPER && (tier == 1 || tier == 3)) {
    fail(SKV_E_MALFORMED, "segment %u %s map: tier %u with the paper's code", ordinal, half_name(half), tier);
  }
  counts.rows[tier] += rows;
}

void parse_runs(std::span<const std::byte> map, uint32_t ordinal, int half, const SegmentShape& shape, uint32_t runs,
                TierCounts& counts) {
  uint64_t sum = 0;
  uint32_t before = 8;
  for (uint32_t i = 0; i < runs; ++i) {
    const auto run = take<uint32_t>(map, uint64_t{i} * 4);
    const uint32_t tier = run >> 29U;
    const uint32_t count = run & 0x1FFFFFFFU;
    if (count == 0) fail(SKV_E_MALFORMED, "segment %u %s map: run %u has count 0", ordinal, half_name(half), i);
    if (tier == before) {
      fail(SKV_E_MALFORMED, "segment %u %s map: runs %u and %u have the same tier %u", ordinal, half_name(half), i - 1,
           i, tier);
    }
    sum += count;
    if (sum > shape.tokens) break;
    count_tier(ordinal, half, shape, tier, count, counts);
    before = tier;
  }
  if (sum != shape.tokens) {
    fail(SKV_E_MALFORMED, "segment %u %s map: runs sum to %llu of %u tokens", ordinal, half_name(half),
         static_cast<ull>(sum), shape.tokens);
  }
}

void parse_planes(std::span<const std::byte> map, uint32_t ordinal, int half, const SegmentShape& shape,
                  TierCounts& counts) {
  const uint64_t words = (uint64_t{shape.tokens} + 63) / 64;
  uint32_t rows[8] = {};
  for (uint64_t w = 0; w < words; ++w) {
    const uint64_t inside = w + 1 < words || shape.tokens % 64 == 0 ? ~0ULL : (1ULL << (shape.tokens % 64)) - 1;
    uint64_t plane[3];
    for (uint64_t bit = 0; bit < 3; ++bit) plane[bit] = take<uint64_t>(map, (bit * words + w) * 8);
    if (((plane[0] | plane[1] | plane[2]) & ~inside) != 0) {
      fail(SKV_E_MALFORMED, "segment %u %s map: bits beyond token %u are set", ordinal, half_name(half), shape.tokens);
    }
    for (uint32_t tier = 0; tier < 8; ++tier) {
      uint64_t is = inside;
      for (uint32_t bit = 0; bit < 3; ++bit) is &= (tier >> bit & 1U) != 0 ? plane[bit] : ~plane[bit];
      rows[tier] += static_cast<uint32_t>(std::popcount(is));
    }
  }
  for (uint32_t tier = 0; tier < 8; ++tier) count_tier(ordinal, half, shape, tier, rows[tier], counts);
}

// Binary16 values that are not finite have all exponent bits set.
bool all_finite(std::span<const std::byte> halves, uint64_t& at) {
  for (at = 0; at < halves.size() / 2; ++at) {
    if ((take<uint16_t>(halves, at * 2) & 0x7C00U) == 0x7C00U) return false;
  }
  return true;
}

void check_padding(std::span<const std::byte> bytes, const Segment& segment, const Fetch& fetch) {
  if (fetch) {
    std::vector<Extent> gaps = gaps_of(segment.layout);
    for (Extent& gap : gaps) gap.offset += segment.offset;
    fetch(gaps);
  }
  uint64_t at = kSegmentHeaderBytes;
  const auto gap = [&](const Extent& extent) {
    if (!all_zero(bytes.subspan(at, extent.offset - at))) {
      fail(SKV_E_MALFORMED, "segment %u: padding before byte %llu is not zero", segment.shape.layer,
           static_cast<ull>(extent.offset));
    }
    at = extent.offset + extent.bytes;
  };
  for (const Extent* extent : sections_of(segment.layout)) gap(*extent);
  gap({segment.layout.bytes, 0});
}

void fetch_one(const Fetch& fetch, uint64_t offset, uint64_t bytes) {
  const Extent extent{offset, bytes};
  if (fetch && bytes != 0) fetch({&extent, 1});
}

}  // namespace

Segment parse_segment(std::span<const std::byte> left, const Header& header, uint32_t ordinal, uint64_t offset,
                      const Fetch& fetch) {
  Segment segment;
  segment.offset = offset;
  fetch_one(fetch, offset, std::min<uint64_t>(kSegmentHeaderBytes, left.size()));
  uint64_t bytes = 0;
  uint32_t runs[2];
  segment.shape = parse_shape(left, header, ordinal, bytes, runs, segment.digest);
  const std::span<const std::byte> whole = left.first(bytes);
  const bool upgrade = is_upgrade(header);
  // Vectors and maps do not depend on the tiers: with them in bounds the maps can be read, then the rest placed.
  const TierCounts none[2];
  const StepCounts still[2];
  const SegmentLayout head =
      upgrade ? upgrade_layout_of(segment.shape, still, runs) : layout_of(segment.shape, none, runs);
  if (head.bytes > bytes) {
    fail(SKV_E_MALFORMED, "segment %u: %llu bytes, its vectors and maps alone need %llu", ordinal,
         static_cast<ull>(bytes), static_cast<ull>(head.bytes));
  }
  fetch_one(fetch, offset + kSegmentHeaderBytes, head.bytes - kSegmentHeaderBytes);
  if (upgrade) {
    segment.base_digest = take<uint64_t>(whole, head.base.offset);
    segment.base_bytes = take<uint64_t>(whole, head.base.offset + 8);
  }
  for (int half = 0; half < 2; ++half) {
    if (segment.shape.dim[half] == 0) continue;
    const HalfLayout& h = head.half[half];
    const std::span<const std::byte> map = whole.subspan(h.map.offset, h.map.bytes);
    if (upgrade) {
      parse_steps(map, ordinal, half, segment.shape, runs[half], segment.steps[half]);
      for (uint8_t step = 1; step < kStepCount; ++step) {
        segment.counts[half].rows[step_tiers(step).to] += segment.steps[half].rows[step];
      }
      continue;
    }
    if (runs[half] != 0) {
      parse_runs(map, ordinal, half, segment.shape, runs[half], segment.counts[half]);
    } else {
      parse_planes(map, ordinal, half, segment.shape, segment.counts[half]);
    }
    uint64_t at = 0;
    if (!all_finite(whole.subspan(h.vectors.offset, h.vectors.bytes), at)) {
      fail(SKV_E_MALFORMED, "segment %u: %s channel vector value %llu is Inf or NaN", ordinal, half_name(half),
           static_cast<ull>(at));
    }
  }
  segment.layout =
      upgrade ? upgrade_layout_of(segment.shape, segment.steps, runs) : layout_of(segment.shape, segment.counts, runs);
  if (segment.layout.bytes != bytes) {
    fail(SKV_E_MALFORMED, "segment %u: %llu bytes, its maps imply %llu", ordinal, static_cast<ull>(bytes),
         static_cast<ull>(segment.layout.bytes));
  }
  check_padding(whole, segment, fetch);
  return segment;
}

Parsed parse(std::span<const std::byte> bytes) { return parse(bytes, {}); }

Parsed parse(std::span<const std::byte> bytes, const Fetch& fetch) {
  Parsed parsed;
  fetch_one(fetch, 0, std::min<uint64_t>(kHeaderBytes, bytes.size()));
  parsed.header = parse_header(bytes);
  uint64_t offset = kHeaderBytes;
  uint64_t raw = 0;
  for (uint32_t l = 0; l < parsed.header.layer_count; ++l) {
    const Segment& segment =
        parsed.segments.emplace_back(parse_segment(bytes.subspan(offset), parsed.header, l, offset, fetch));
    offset += segment.layout.bytes;
    // At most 2^52 a segment, so the sum is caught before it can wrap.
    raw += 2ULL * segment.shape.tokens * segment.shape.heads * (uint64_t{segment.shape.dim[0]} + segment.shape.dim[1]);
    if (raw > static_cast<uint64_t>(INT64_MAX)) {
      fail(SKV_E_MALFORMED, "segments 0..%u claim %llu raw bytes, wanted less than 2^63", l, static_cast<ull>(raw));
    }
  }
  if (offset != bytes.size()) {
    fail(SKV_E_MALFORMED, "%u segments end at byte %llu of %zu", parsed.header.layer_count, static_cast<ull>(offset),
         bytes.size());
  }
  if (raw != parsed.header.raw_bytes) {
    fail(SKV_E_MALFORMED, "raw bytes %llu, the segments give %llu", static_cast<ull>(parsed.header.raw_bytes),
         static_cast<ull>(raw));
  }
  return parsed;
}

void check_scales(std::span<const std::byte> bytes, const Segment& segment) {
  for (int half = 0; half < 2; ++half) {
    const Extent& scales = segment.layout.half[half].scales;
    uint64_t at = 0;
    if (!all_finite(bytes.subspan(scales.offset, scales.bytes), at)) {
      fail(SKV_E_MALFORMED, "segment %u: %s scale %llu is Inf or NaN", segment.shape.layer, half_name(half),
           static_cast<ull>(at));
    }
  }
}

void read_tiers(std::span<const std::byte> bytes, const Segment& segment, int half, uint64_t first,
                std::span<uint8_t> out) {
  const HalfLayout& h = segment.layout.half[half];
  const std::span<const std::byte> map = bytes.subspan(h.map.offset, h.map.bytes);
  const uint64_t tokens = segment.shape.dim[half] == 0 ? 0 : segment.shape.tokens;
  if (first > tokens || out.size() > tokens - first) {
    fail(SKV_E_RANGE, "%zu tiers from token %llu of %llu", out.size(), static_cast<ull>(first),
         static_cast<ull>(tokens));
  }
  const uint64_t end = first + out.size();
  if (h.runs == 0) {
    const uint64_t words = (uint64_t{segment.shape.tokens} + 63) / 64;
    for (uint64_t t = first; t < end;) {
      const uint64_t w = t / 64;
      uint64_t plane[3];
      for (uint64_t bit = 0; bit < 3; ++bit) plane[bit] = take<uint64_t>(map, (bit * words + w) * 8) >> (t % 64);
      for (const uint64_t stop = std::min(end, w * 64 + 64); t < stop; ++t) {
        out[t - first] = static_cast<uint8_t>((plane[0] & 1U) | (plane[1] & 1U) << 1U | (plane[2] & 1U) << 2U);
        for (uint64_t& bits : plane) bits >>= 1U;
      }
    }
    return;
  }
  uint64_t at = 0;
  for (uint32_t i = 0; i < h.runs && at < end; ++i) {
    const auto run = take<uint32_t>(map, uint64_t{i} * 4);
    const uint64_t next = at + (run & 0x1FFFFFFFU);
    for (uint64_t t = std::max(at, first); t < std::min(next, end); ++t)
      out[t - first] = static_cast<uint8_t>(run >> 29U);
    at = next;
  }
}

}  // namespace skv
