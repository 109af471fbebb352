// SPDX-License-Identifier: Apache-2.0
// The payload format, docs/wire-format.md, as bytes: sizes, writers, and a reader for untrusted input. Knows no tensors
// and no devices.
#pragma once

#include <spectrumkv.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

namespace skv {

constexpr uint64_t kHeaderBytes = 128;
constexpr uint64_t kSegmentHeaderBytes = 64;
constexpr uint64_t kSectionAlign = 16;
constexpr uint64_t kLeafBytes = 65536;
constexpr uint32_t kMaxLayers = 4096;
constexpr uint32_t kMaxTokens = 1U << 28U;
constexpr uint32_t kFlagUpgrade = 1U;  // header flag: the segments raise those of another payload

struct Header {
  uint8_t wire_major = 1;
  uint8_t wire_minor = 0;
  uint32_t flags = 0;
  uint32_t layer_count = 0;
  uint64_t total_bytes = 0;
  std::array<uint8_t, 32> fingerprint{};
  std::array<uint8_t, 16> request_id{};
  uint64_t raw_bytes = 0;
  uint64_t budget_bytes = 0;
  uint32_t scored = 0;
};

struct SegmentShape {
  uint32_t layer;
  uint32_t tokens;
  uint16_t heads;
  uint16_t first_head;
  uint64_t first_position;
  uint16_t dim[2];  // K, V; V may be 0
  uint16_t chunk;
  uint8_t dtype;
  uint8_t raw_dtype;
  uint8_t code;
  uint8_t transforms[2];
  uint8_t group;
};
inline uint32_t raw_element_bytes(const SegmentShape& shape) { return shape.raw_dtype == SKV_F32 ? 4 : 2; }

// Rows by tier; 6 and 7 stay 0.
struct TierCounts {
  uint32_t rows[8] = {};
};

// A row's tier before and after an upgrade. Steps are numbered: 0 leaves a row as it is, 1..15 are the pairs
// from < to in order.
struct Step {
  uint8_t from;
  uint8_t to;
};
constexpr uint8_t kStepCount = 16;
Step step_tiers(uint8_t step);  // {0, 0} for step 0, which leaves any tier
uint8_t step_of(uint8_t from, uint8_t to);

// Rows by step.
struct StepCounts {
  uint32_t rows[kStepCount] = {};
};

// Rows that steps put into each section.
struct StepRows {
  uint64_t scales, two, nibble, plane1, plane2, plane3, raw;
};
StepRows step_rows(const StepCounts& counts);
// Whether the code has a step: the paper's is not nested, so its rows are sent anew, RAW, or not at all.
bool has_step(uint8_t code, uint8_t step);

// A piece of a segment, from the segment's first byte.
struct Extent {
  uint64_t offset = 0;
  uint64_t bytes = 0;
};

struct HalfLayout {
  Extent vectors, map, scales, two, nibble, plane1, plane2, plane3, raw;  // plane1: upgrades only; vectors: never there
  uint32_t runs = 0;                                                      // 0: the map is in bit-plane form
};

struct SegmentLayout {
  Extent base;  // upgrades only: which segment they raise
  HalfLayout half[2];
  uint64_t bytes = 0;
};
// All sections in wire order, empty ones included.
constexpr size_t kSections = 19;
std::array<const Extent*, kSections> sections_of(const SegmentLayout& layout);

// Where everything lies; a pure function of shape, tier counts and map forms. Cannot overflow for shapes in range.
SegmentLayout layout_of(const SegmentShape& shape, const TierCounts counts[2], const uint32_t runs[2]);

// Counts rows by tier; runs is the number of runs if the writer uses the run form for this map, else 0.
void count_tiers(std::span<const uint8_t> tiers, TierCounts& counts, uint32_t& runs);

// The same of an upgrade's segment; runs: of the step maps.
SegmentLayout upgrade_layout_of(const SegmentShape& shape, const StepCounts steps[2], const uint32_t runs[2]);
void count_steps(std::span<const uint8_t> steps, StepCounts& counts, uint32_t& runs);

// --- writers; the segment is the whole segment's memory ------------------------------------------------------------
void write_header(std::span<std::byte, kHeaderBytes> out, const Header& header);
void write_segment_header(std::span<std::byte> segment, const SegmentShape& shape, const SegmentLayout& layout);
void write_map(std::span<std::byte> segment, const HalfLayout& layout, std::span<const uint8_t> tiers);
// An upgrade's segment header and what it says of its base; its step map.
void write_upgrade_header(std::span<std::byte> segment, const SegmentShape& shape, const SegmentLayout& layout,
                          uint64_t base_digest, uint64_t base_bytes);
void write_steps(std::span<std::byte> segment, const HalfLayout& layout, std::span<const uint8_t> steps);
// Zeros the bytes between sections.
void zero_padding(std::span<std::byte> segment, const SegmentLayout& layout);
// The same bytes as extents, for a writer that puts them elsewhere; empty ones are left out.
std::vector<Extent> gaps_of(const SegmentLayout& layout);
// Writes the digest once everything else is in.
void seal_segment(std::span<std::byte> segment, std::span<const uint64_t> leaf_digests);

inline uint64_t leaf_count(uint64_t segment_bytes) {
  return (segment_bytes - kSegmentHeaderBytes + kLeafBytes - 1) / kLeafBytes;
}
std::span<const std::byte> leaf_of(std::span<const std::byte> segment, uint64_t index);

// --- reader --------------------------------------------------------------------------------------------------------
struct Segment {
  SegmentShape shape{};
  SegmentLayout layout;
  TierCounts counts[2];  // of an upgrade: of the rows it raises, by their new tier
  uint64_t offset = 0;   // from the payload's first byte
  uint64_t digest = 0;
  StepCounts steps[2];  // of an upgrade, as what follows
  uint64_t base_digest = 0;
  uint64_t base_bytes = 0;
};

struct Parsed {
  Header header;
  std::vector<Segment> segments;
};

// Checks every rule of the text but segment digests and scales. Throws with the text's statuses. Allocates in
// proportion to the layers present, never to a claimed size.
Parsed parse(std::span<const std::byte> bytes);
// The same of bytes that lie elsewhere: `fetch` is called before any of the extents is looked at, and brings them into
// `bytes`. Rows are never fetched.
using Fetch = std::function<void(std::span<const Extent>)>;
Parsed parse(std::span<const std::byte> bytes, const Fetch& fetch);

// The same piece by piece, for a payload that is still arriving. bytes: all of the payload's memory, of which only the
// header is read; segment: exactly one segment's bytes.
Header parse_header(std::span<const std::byte> bytes);
Segment parse_segment(std::span<const std::byte> segment, const Header& header, uint32_t ordinal, uint64_t offset,
                      const Fetch& fetch = {});

using Digest = uint64_t (*)(const void* bytes, size_t size);
// Of a segment, or of a record of the packed form.
uint64_t digest_of(std::span<const std::byte> segment, Digest digest);
// Throws CHECKSUM. The second takes the leaves' digests, as seal_segment does.
void verify_segment(std::span<const std::byte> bytes, const Segment& segment, Digest digest);
void verify_segment(std::span<const std::byte> bytes, const Segment& segment, std::span<const uint64_t> leaf_digests);
// Throws MALFORMED for a scale that is Inf or NaN.
void check_scales(std::span<const std::byte> bytes, const Segment& segment);
// Tiers of tokens [first, first + out.size()) of one half.
void read_tiers(std::span<const std::byte> bytes, const Segment& segment, int half, uint64_t first,
                std::span<uint8_t> out);

// Steps of all tokens of one half of an upgrade's segment.
void read_steps(std::span<const std::byte> bytes, const Segment& segment, int half, std::span<uint8_t> out);
// A step map, counted and checked against the code; throws MALFORMED.
void parse_steps(std::span<const std::byte> map, uint32_t ordinal, int half, const SegmentShape& shape, uint32_t runs,
                 StepCounts& counts);

}  // namespace skv
