// SPDX-License-Identifier: Apache-2.0
// A payload and an upgrade of it from anywhere. Input: a byte of switches, the base's length (4 bytes), the base, the
// upgrade. Switches: 1 digests are made good, 2 the upgrade is told its base's digests.
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "codec_upgrade.h"
#include "error.h"
#include "kernels/kernels.h"
#include "payload.h"

namespace {

constexpr uint64_t kMaxTokens = 1U << 16U;  // a valid file of a few bytes may hold 2^28 dropped tokens

uint64_t digest(const void* bytes, size_t size) {
  return skv::kernels::kernels_of(SKV_TARGET_SCALAR)->digest(bytes, size);
}

void put(std::span<std::byte> bytes, size_t offset, uint64_t value) {
  std::memcpy(bytes.data() + offset, &value, sizeof value);
}

// Calls visit(segment) for every segment that can be found.
template <class Visit>
void each_segment(std::span<std::byte> payload, Visit&& visit) {
  for (size_t at = skv::kHeaderBytes; payload.size() >= at + skv::kSegmentHeaderBytes;) {
    uint64_t size = 0;
    std::memcpy(&size, payload.data() + at + 8, sizeof size);
    if (size < skv::kSegmentHeaderBytes || size > payload.size() - at) return;
    visit(payload.subspan(at, size));
    at += size;
  }
}

void make_good(std::span<std::byte> payload) {
  if (payload.size() < skv::kHeaderBytes) return;
  put(payload, 16, payload.size());
  put(payload, 120, digest(payload.data(), 120));
  each_segment(payload, [](std::span<std::byte> segment) {
    std::vector<uint64_t> leaves(skv::leaf_count(segment.size()));
    for (uint64_t i = 0; i < leaves.size(); ++i) {
      const std::span<const std::byte> leaf = skv::leaf_of(segment, i);
      leaves[i] = digest(leaf.data(), leaf.size());
    }
    skv::seal_segment(segment, leaves);
  });
}

void tell_base(std::span<std::byte> upgrade, std::span<std::byte> base) {
  std::vector<std::span<std::byte>> from;
  each_segment(base, [&](std::span<std::byte> segment) { from.push_back(segment); });
  size_t l = 0;
  each_segment(upgrade, [&](std::span<std::byte> segment) {
    if (l < from.size() && segment.size() >= 80) {
      std::memcpy(segment.data() + 64, from[l].data() + 56, 8);
      put(segment, 72, from[l].size());
    }
    ++l;
  });
}

void require(bool condition) {
  if (!condition) std::abort();
}

void join(std::span<const std::byte> base, std::span<const std::byte> upgrade) {
  const auto from = skv::Payload::open(base, nullptr);
  const auto added = skv::Payload::open(upgrade, nullptr);
  for (const skv::Segment& segment : from->segments()) {
    if (segment.shape.tokens > kMaxTokens) return;
  }
  const auto result = skv::apply_upgrade(*from, *added);
  const skv::Parsed parsed = skv::parse(result->bytes());
  require(parsed.header.flags == 0);
  for (const skv::Segment& segment : parsed.segments) {
    const auto own = result->bytes().subspan(segment.offset, segment.layout.bytes);
    skv::verify_segment(own, segment, digest);
    skv::check_scales(own, segment);
  }
  // What was raised can be cut again, to at most what the base had of quantized rows.
  skv::Plan plan;
  plan.options.unproven = true;
  plan.set_strategy("uniform-4");
  try {
    skv::solve_truncation(plan, *result, nullptr);
  } catch (const skv::Error& error) {
    require(error.status() == SKV_E_PERMITTED);  // the paper's code
    return;
  }
  skv::truncate(*result, plan);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 5) return 0;
  uint32_t length = 0;
  std::memcpy(&length, data + 1, sizeof length);
  const auto* bytes = reinterpret_cast<const std::byte*>(data);
  const size_t cut = std::min<size_t>(length, size - 5) + 5;
  std::vector<std::byte> base(bytes + 5, bytes + cut);
  std::vector<std::byte> upgrade(bytes + cut, bytes + size);
  if ((data[0] & 1U) != 0) make_good(base);
  if ((data[0] & 2U) != 0) tell_base(upgrade, base);
  if ((data[0] & 1U) != 0) make_good(upgrade);
  try {
    join(base, upgrade);
  } catch (const skv::Error&) {
    // Refused, as most inputs should be.
  }
  return 0;
}
