// SPDX-License-Identifier: Apache-2.0
// A payload from anywhere: the first byte of the input says whether digests are made good before it is read.
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "codec.h"
#include "error.h"
#include "kernels/kernels.h"
#include "payload.h"

namespace {

using skv::Segment;

constexpr uint64_t kMaxTiers = 1U << 20U;  // a valid file of a few bytes may hold 2^28 dropped tokens

uint64_t digest(const void* bytes, size_t size) {
  return skv::kernels::kernels_of(SKV_TARGET_SCALAR)->digest(bytes, size);
}

void put(std::span<std::byte> bytes, size_t offset, uint64_t value) {
  std::memcpy(bytes.data() + offset, &value, sizeof value);
}

// The same of a packed payload and its records.
void make_good_packed(std::span<std::byte> packed) {
  if (packed.size() < skv::kPackedFrontBytes) return;
  put(packed, 16, packed.size());
  put(packed, 56, digest(packed.data(), 56));
  put(packed, skv::kPackedHeaderBytes + 120, digest(packed.data() + skv::kPackedHeaderBytes, 120));
  for (size_t at = skv::kPackedFrontBytes; packed.size() - at > skv::kRecordHeaderBytes;) {
    uint64_t size = 0;
    std::memcpy(&size, packed.data() + at + 8, sizeof size);
    if (size <= skv::kRecordHeaderBytes || size > packed.size() - at) return;
    const std::span<std::byte> record = packed.subspan(at, size);
    std::vector<uint64_t> leaves(skv::leaf_count(size));
    for (uint64_t i = 0; i < leaves.size(); ++i) {
      const std::span<const std::byte> leaf = skv::leaf_of(record, i);
      leaves[i] = digest(leaf.data(), leaf.size());
    }
    skv::seal_segment(record, leaves);
    at += size;
  }
}

// Total and digests made to agree with the bytes, as far as segments can be found in them.
void make_good(std::span<std::byte> payload) {
  if (payload.size() < skv::kHeaderBytes) return;
  put(payload, 16, payload.size());
  put(payload, 120, digest(payload.data(), 120));
  for (size_t at = skv::kHeaderBytes; payload.size() - at >= skv::kSegmentHeaderBytes;) {
    uint64_t size = 0;
    std::memcpy(&size, payload.data() + at + 8, sizeof size);
    if (size < skv::kSegmentHeaderBytes || size > payload.size() - at) return;
    const std::span<std::byte> segment = payload.subspan(at, size);
    std::vector<uint64_t> leaves(skv::leaf_count(size));
    for (uint64_t i = 0; i < leaves.size(); ++i) {
      const std::span<const std::byte> leaf = skv::leaf_of(segment, i);
      leaves[i] = digest(leaf.data(), leaf.size());
    }
    skv::seal_segment(segment, leaves);
    at += size;
  }
}

void require(bool condition) {
  if (!condition) std::abort();
}

void read(std::span<const std::byte> bytes) {
  if (skv::is_packed(bytes)) {
    const auto payload = skv::Payload::open(bytes, nullptr);
    skv::verify_layers(nullptr, *payload, 0, static_cast<int32_t>(payload->segments().size()));
    payload->receipt();
    return;
  }
  const skv::Parsed parsed = skv::parse(bytes);
  uint64_t at = skv::kHeaderBytes;
  for (const Segment& segment : parsed.segments) {
    require(segment.offset == at && segment.layout.bytes <= bytes.size() - at);
    at += segment.layout.bytes;
    const std::span<const std::byte> own = bytes.subspan(segment.offset, segment.layout.bytes);
    for (const int half : {0, 1}) {
      if (segment.shape.dim[half] == 0 || segment.shape.tokens > kMaxTiers) continue;
      if ((parsed.header.flags & skv::kFlagUpgrade) != 0) {
        std::vector<uint8_t> steps(segment.shape.tokens);
        skv::read_steps(own, segment, half, steps);
        skv::StepCounts counts;
        uint32_t runs = 0;
        skv::count_steps(steps, counts, runs);
        require(std::memcmp(counts.rows, segment.steps[half].rows, sizeof counts.rows) == 0);
        continue;
      }
      std::vector<uint8_t> tiers(segment.shape.tokens);
      skv::read_tiers(own, segment, half, 0, tiers);
      skv::TierCounts counts;
      uint32_t runs = 0;
      skv::count_tiers(tiers, counts, runs);
      require(std::memcmp(counts.rows, segment.counts[half].rows, sizeof counts.rows) == 0);
    }
    skv::verify_segment(own, segment, digest);
    skv::check_scales(own, segment);
  }
  require(at == bytes.size());
  const auto payload = skv::Payload::open(bytes, nullptr);
  payload->receipt();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  std::vector<std::byte> bytes(size - 1);
  if (!bytes.empty()) std::memcpy(bytes.data(), data + 1, bytes.size());
  if ((data[0] & 1U) != 0) skv::is_packed(bytes) ? make_good_packed(bytes) : make_good(bytes);
  try {
    read(bytes);
  } catch (const skv::Error&) {
    // Refused, as most inputs should be.
  }
  return 0;
}
