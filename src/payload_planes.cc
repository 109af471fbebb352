// SPDX-License-Identifier: Apache-2.0
#include "payload_planes.h"

#include <spectrumkv.h>

#include <cstring>

namespace skv {
namespace {

constexpr uint8_t kRawTier = 5;

bool quantized(uint8_t tier) { return tier >= 1 && tier <= 4; }

// Rows of one section, taken from the front.
template <class Byte>
class Cursor {
 public:
  Cursor(std::span<Byte> segment, const Extent& extent, uint64_t row)
      : at_(segment.data() + extent.offset), row_(row) {}
  Byte* take(uint64_t rows) {
    Byte* here = at_;
    at_ += rows * row_;
    return here;
  }
  uint64_t size(uint64_t rows) const { return rows * row_; }

 private:
  Byte* at_;
  uint64_t row_;
};

template <class Byte>
struct Cursors {
  Cursor<Byte> scales, two, nibble, plane1, plane2, plane3, raw;

  Cursors(std::span<Byte> segment, const HalfLayout& layout, const SegmentShape& shape, int half)
      : Cursors(segment, layout, shape, uint64_t{shape.heads} * shape.dim[half]) {}

 private:
  Cursors(std::span<Byte> segment, const HalfLayout& layout, const SegmentShape& shape, uint64_t elements)
      : scales(segment, layout.scales, uint64_t{shape.heads} * 2),
        two(segment, layout.two, elements / 4),
        nibble(segment, layout.nibble, elements / 2),
        plane1(segment, layout.plane1, elements / 4),
        plane2(segment, layout.plane2, elements / 4),
        plane3(segment, layout.plane3, elements / 4),
        raw(segment, layout.raw, elements * raw_element_bytes(shape)) {}
};

// Rows of equal tiers, before and after.
void move_rows(uint64_t rows, uint8_t from, uint8_t to, uint64_t heads, uint32_t dim, Cursors<const std::byte>& base,
               Cursors<const std::byte>* added, Cursors<std::byte>& out) {
  const auto put = [rows](Cursor<std::byte>& section, const std::byte* source) {
    std::memcpy(section.take(rows), source, section.size(rows));
  };
  const std::byte* scales = quantized(from) ? base.scales.take(rows) : nullptr;
  const std::byte* two = from == 1 ? base.two.take(rows) : nullptr;
  const std::byte* nibble = from >= 2 && from <= 4 ? base.nibble.take(rows) : nullptr;
  const std::byte* plane2 = from == 3 || from == 4 ? base.plane2.take(rows) : nullptr;
  const std::byte* plane3 = from == 4 ? base.plane3.take(rows) : nullptr;
  const std::byte* raw = from == kRawTier ? base.raw.take(rows) : nullptr;
  if (to == kRawTier) {
    put(out.raw, raw != nullptr ? raw : added->raw.take(rows));
    return;
  }
  if (!quantized(to)) return;
  put(out.scales, scales != nullptr ? scales : added->scales.take(rows));
  if (to == 1) {
    if (two != nullptr || nibble == nullptr) {
      put(out.two, two != nullptr ? two : added->two.take(rows));
      return;
    }
    std::byte* cut = out.two.take(rows);
    for (uint64_t i = 0; i < rows * heads; ++i) plane_of_nibbles(nibble + i * (dim / 2), 0, dim, cut + i * (dim / 4));
    return;
  }
  if (two != nullptr) {
    const std::byte* plane1 = added->plane1.take(rows);
    std::byte* joined = out.nibble.take(rows);
    for (uint64_t i = 0; i < rows * heads; ++i) {
      nibbles_of_planes(two + i * (dim / 4), plane1 + i * (dim / 4), dim, joined + i * (dim / 2));
    }
  } else {
    put(out.nibble, nibble != nullptr ? nibble : added->nibble.take(rows));
  }
  if (to >= 3) put(out.plane2, plane2 != nullptr ? plane2 : added->plane2.take(rows));
  if (to == 4) put(out.plane3, plane3 != nullptr ? plane3 : added->plane3.take(rows));
}

}  // namespace

// Nibble byte j holds codes j and j + d/2; plane byte j codes j, j + d/4, j + d/2, j + 3d/4.
void plane_of_nibbles(const std::byte* nibbles, int plane, uint32_t dim, std::byte* out) {
  const uint32_t quarter = dim / 4;
  const unsigned shift = plane == 0 ? 2 : 0;
  for (uint32_t j = 0; j < quarter; ++j) {
    const unsigned a = static_cast<unsigned>(nibbles[j]) >> shift;
    const unsigned b = static_cast<unsigned>(nibbles[j + quarter]) >> shift;
    out[j] = static_cast<std::byte>((a & 3U) | (b & 3U) << 2U | (a & 0x30U) | (b & 0x30U) << 2U);
  }
}

void nibbles_of_planes(const std::byte* plane0, const std::byte* plane1, uint32_t dim, std::byte* out) {
  const uint32_t quarter = dim / 4;
  for (uint32_t j = 0; j < quarter; ++j) {
    const auto high = static_cast<unsigned>(plane0[j]);
    const auto low = static_cast<unsigned>(plane1[j]);
    out[j] = static_cast<std::byte>((high & 0x33U) << 2U | (low & 0x33U));
    out[j + quarter] = static_cast<std::byte>((high & 0xCCU) | (low & 0xCCU) >> 2U);
  }
}

SegmentLayout retiered_layout(const Retier& job) {
  TierCounts counts[2];
  uint32_t runs[2] = {0, 0};
  for (int half = 0; half < 2; ++half) {
    if (job.base->shape.dim[half] != 0) count_tiers(job.after[half], counts[half], runs[half]);
  }
  return layout_of(job.base->shape, counts, runs);
}

void write_retiered(const Retier& job, const SegmentLayout& layout, std::span<std::byte> out) {
  const SegmentShape& shape = job.base->shape;
  write_segment_header(out, shape, layout);
  zero_padding(out, layout);
  for (int half = 0; half < 2; ++half) {
    if (shape.dim[half] == 0) continue;
    const HalfLayout& from = job.base->layout.half[half];
    const HalfLayout& to = layout.half[half];
    if (from.vectors.bytes != 0) {
      std::memcpy(out.data() + to.vectors.offset, job.from.data() + from.vectors.offset, from.vectors.bytes);
    }
    write_map(out, to, job.after[half]);
    Cursors<const std::byte> base(job.from, from, shape, half);
    Cursors<const std::byte> added(job.upgrade == nullptr ? job.from : job.added,
                                   job.upgrade == nullptr ? from : job.upgrade->layout.half[half], shape, half);
    Cursors<std::byte> rows(out, to, shape, half);
    const std::span<const uint8_t> before = job.before[half];
    const std::span<const uint8_t> after = job.after[half];
    for (size_t t = 0; t < after.size();) {
      size_t end = t + 1;
      while (end < after.size() && before[end] == before[t] && after[end] == after[t]) ++end;
      move_rows(end - t, before[t], after[t], shape.heads, shape.dim[half], base,
                job.upgrade == nullptr ? nullptr : &added, rows);
      t = end;
    }
  }
}

}  // namespace skv
