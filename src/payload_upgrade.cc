// SPDX-License-Identifier: Apache-2.0
// Upgrade segments of docs/wire-format.md: which rows are raised, from which tier to which, and where what they need
// lies. The reader's part takes untrusted bytes.
#include <algorithm>
#include <bit>
#include <cstring>

#include "error.h"
#include "payload.h"
#include "payload_fields.h"

namespace skv {
namespace {

using ull = unsigned long long;

constexpr uint8_t kRawTier = 5;
constexpr uint64_t kMapBits = 4;
constexpr uint64_t kBaseBytes = 16;           // digest and length of the base's segment
constexpr uint32_t kRunTokens = 0x0FFFFFFFU;  // of a run's word; the step is above, and the count less one here

constexpr Step kSteps[kStepCount] = {{0, 0}, {0, 1}, {0, 2}, {0, 3}, {0, 4}, {0, 5}, {1, 2}, {1, 3},
                                     {1, 4}, {1, 5}, {2, 3}, {2, 4}, {2, 5}, {3, 4}, {3, 5}, {4, 5}};

const char* half_name(int half) { return half == 0 ? "K" : "V"; }

uint64_t words_of(uint64_t tokens) { return (tokens + 63) / 64; }

// Rows whose step satisfies a condition on (from, to).
template <class Wanted>
uint64_t rows_where(const StepCounts& counts, Wanted&& wanted) {
  uint64_t rows = 0;
  for (uint8_t step = 1; step < kStepCount; ++step) {
    if (wanted(kSteps[step].from, kSteps[step].to)) rows += counts.rows[step];
  }
  return rows;
}

}  // namespace

Step step_tiers(uint8_t step) { return kSteps[step % kStepCount]; }

uint8_t step_of(uint8_t from, uint8_t to) {
  if (from >= to || to > kRawTier) return 0;
  // Pairs before those of `from`, then the ones before `to`.
  return static_cast<uint8_t>(from * (2 * kRawTier - from - 1) / 2 + to);
}

bool has_step(uint8_t code, uint8_t step) {
  if (step == 0 || code != SKV_CODE_PAPER) return true;
  const auto [from, to] = kSteps[step];
  return from != 1 && from != 3 && (to == kRawTier || (from == 0 && (to == 2 || to == 4)));
}

StepRows step_rows(const StepCounts& counts) {
  const auto rows = [&](auto&& wanted) { return rows_where(counts, wanted); };
  return {rows([](int from, int to) { return from == 0 && to != kRawTier; }),
          rows([](int from, int to) { return from == 0 && to == 1; }),
          rows([](int from, int to) { return from == 0 && to >= 2 && to <= 4; }),
          rows([](int from, int to) { return from == 1 && to != kRawTier; }),
          rows([](int from, int to) { return from <= 2 && (to == 3 || to == 4); }),
          rows([](int from, int to) { return from <= 3 && to == 4; }),
          rows([](int, int to) { return to == kRawTier; })};
}

SegmentLayout upgrade_layout_of(const SegmentShape& shape, const StepCounts steps[2], const uint32_t runs[2]) {
  SegmentLayout layout;
  uint64_t at = kSegmentHeaderBytes;
  const auto place = [&at](Extent& extent, uint64_t bytes) {
    at = align_up(at);
    extent = {at, bytes};
    at += bytes;
  };
  place(layout.base, kBaseBytes);
  for (int half = 0; half < 2; ++half) {
    HalfLayout& h = layout.half[half];
    h.runs = runs[half];
    place(h.vectors, 0);
    place(h.map, shape.dim[half] == 0 ? 0
                 : runs[half] != 0    ? uint64_t{runs[half]} * 4
                                      : words_of(shape.tokens) * kMapBits * 8);
  }
  for (int half = 0; half < 2; ++half) {
    HalfLayout& h = layout.half[half];
    const StepRows rows = step_rows(steps[half]);
    const uint64_t heads = shape.heads;
    const uint64_t elements = heads * shape.dim[half];
    place(h.scales, rows.scales * heads * 2);
    place(h.two, rows.two * (elements / 4));
    place(h.nibble, rows.nibble * (elements / 2));
    place(h.plane1, rows.plane1 * (elements / 4));
    place(h.plane2, rows.plane2 * (elements / 4));
    place(h.plane3, rows.plane3 * (elements / 4));
    place(h.raw, rows.raw * elements * raw_element_bytes(shape));
  }
  layout.bytes = align_up(at);
  return layout;
}

void count_steps(std::span<const uint8_t> steps, StepCounts& counts, uint32_t& runs) {
  counts = {};
  uint64_t changes = steps.empty() ? 0 : 1;
  for (size_t t = 0; t < steps.size(); ++t) {
    ++counts.rows[steps[t] % kStepCount];
    changes += t > 0 && steps[t] != steps[t - 1] ? 1 : 0;
  }
  runs = changes * 4 < words_of(steps.size()) * kMapBits * 8 ? static_cast<uint32_t>(changes) : 0;
}

void write_upgrade_header(std::span<std::byte> segment, const SegmentShape& shape, const SegmentLayout& layout,
                          uint64_t base_digest, uint64_t base_bytes) {
  write_segment_header(segment, shape, layout);
  std::memcpy(segment.data(), "UPG1", 4);
  std::memcpy(segment.data() + layout.base.offset, &base_digest, 8);
  std::memcpy(segment.data() + layout.base.offset + 8, &base_bytes, 8);
}

void write_steps(std::span<std::byte> segment, const HalfLayout& layout, std::span<const uint8_t> steps) {
  std::byte* out = segment.data() + layout.map.offset;
  if (layout.runs != 0) {
    for (size_t t = 0; t < steps.size(); out += 4) {
      size_t end = t + 1;
      while (end < steps.size() && steps[end] == steps[t]) ++end;
      const auto run = static_cast<uint32_t>(uint32_t{steps[t]} << 28U | static_cast<uint32_t>(end - t - 1));
      std::memcpy(out, &run, sizeof run);
      t = end;
    }
    return;
  }
  const uint64_t words = words_of(steps.size());
  for (uint64_t w = 0; w < words; ++w) {
    uint64_t plane[kMapBits] = {};
    const size_t end = std::min<size_t>(steps.size(), w * 64 + 64);
    for (size_t t = w * 64; t < end; ++t) {
      for (unsigned bit = 0; bit < kMapBits; ++bit) plane[bit] |= uint64_t{steps[t] >> bit & 1U} << (t % 64);
    }
    for (unsigned bit = 0; bit < kMapBits; ++bit) std::memcpy(out + (bit * words + w) * 8, &plane[bit], 8);
  }
}

void parse_steps(std::span<const std::byte> map, uint32_t ordinal, int half, const SegmentShape& shape, uint32_t runs,
                 StepCounts& counts) {
  const auto count = [&](uint32_t step, uint32_t rows) {
    if (rows != 0 && !has_step(shape.code, static_cast<uint8_t>(step))) {
      fail(SKV_E_MALFORMED, "segment %u %s steps: tier %u to %u with the paper's code", ordinal, half_name(half),
           kSteps[step].from, kSteps[step].to);
    }
    counts.rows[step] += rows;
  };
  if (runs != 0) {
    uint64_t sum = 0;
    uint32_t before = kStepCount;
    for (uint32_t i = 0; i < runs; ++i) {
      const uint32_t run = take<uint32_t>(map, uint64_t{i} * 4);
      const uint32_t step = run >> 28U;
      if (step == before) {
        fail(SKV_E_MALFORMED, "segment %u %s steps: runs %u and %u have the same step %u", ordinal, half_name(half),
             i - 1, i, step);
      }
      const uint32_t rows = (run & kRunTokens) + 1;
      sum += rows;
      if (sum > shape.tokens) break;
      count(step, rows);
      before = step;
    }
    if (sum != shape.tokens) {
      fail(SKV_E_MALFORMED, "segment %u %s steps: runs sum to %llu of %u tokens", ordinal, half_name(half),
           static_cast<ull>(sum), shape.tokens);
    }
    return;
  }
  const uint64_t words = words_of(shape.tokens);
  uint32_t rows[kStepCount] = {};
  for (uint64_t w = 0; w < words; ++w) {
    const uint64_t inside = w + 1 < words || shape.tokens % 64 == 0 ? ~0ULL : (1ULL << (shape.tokens % 64)) - 1;
    uint64_t plane[kMapBits];
    uint64_t any = 0;
    for (uint64_t bit = 0; bit < kMapBits; ++bit) {
      plane[bit] = take<uint64_t>(map, (bit * words + w) * 8);
      any |= plane[bit];
    }
    if ((any & ~inside) != 0) {
      fail(SKV_E_MALFORMED, "segment %u %s steps: bits beyond token %u are set", ordinal, half_name(half),
           shape.tokens);
    }
    for (uint32_t step = 0; step < kStepCount; ++step) {
      uint64_t is = inside;
      for (uint32_t bit = 0; bit < kMapBits; ++bit) is &= (step >> bit & 1U) != 0 ? plane[bit] : ~plane[bit];
      rows[step] += static_cast<uint32_t>(std::popcount(is));
    }
  }
  for (uint32_t step = 0; step < kStepCount; ++step) count(step, rows[step]);
}

void read_steps(std::span<const std::byte> bytes, const Segment& segment, int half, std::span<uint8_t> out) {
  const HalfLayout& h = segment.layout.half[half];
  const std::span<const std::byte> map = bytes.subspan(h.map.offset, h.map.bytes);
  const size_t tokens = segment.shape.dim[half] == 0 ? 0 : segment.shape.tokens;
  if (out.size() != tokens) fail(SKV_E_RANGE, "room for %zu steps, wanted exactly %zu", out.size(), tokens);
  if (h.runs != 0) {
    size_t at = 0;
    for (uint32_t i = 0; i < h.runs; ++i) {
      const uint32_t run = take<uint32_t>(map, uint64_t{i} * 4);
      const size_t end = std::min<size_t>(tokens, at + (run & kRunTokens) + 1);
      std::fill(out.begin() + static_cast<ptrdiff_t>(at), out.begin() + static_cast<ptrdiff_t>(end),
                static_cast<uint8_t>(run >> 28U));
      at = end;
    }
    return;
  }
  const uint64_t words = words_of(tokens);
  for (uint64_t w = 0; w < (tokens == 0 ? 0 : words); ++w) {
    uint64_t plane[kMapBits];
    for (uint64_t bit = 0; bit < kMapBits; ++bit) plane[bit] = take<uint64_t>(map, (bit * words + w) * 8);
    for (size_t t = w * 64; t < std::min<size_t>(tokens, w * 64 + 64); ++t) {
      uint8_t step = 0;
      for (unsigned bit = 0; bit < kMapBits; ++bit) step |= static_cast<uint8_t>((plane[bit] >> (t % 64) & 1U) << bit);
      out[t] = step;
    }
  }
}

}  // namespace skv
