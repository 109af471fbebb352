// SPDX-License-Identifier: Apache-2.0
// "Decoding arithmetic": bit planes and scales to rows.
#include <cstring>

#include "kernels/cpu/hwy_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/unpack.cc"
#include "hwy/cache_control.h"
#include "hwy/foreach_target.h"
#include "kernels/cpu/unpack-inl.h"

HWY_BEFORE_NAMESPACE();
namespace skv::kernels::HWY_NAMESPACE {
#if SKV_SIMD
namespace {

// Tokens of one tier that are decoded by one call; their scales are looked at first.
constexpr int32_t kRunTokens = 32;

// Values are at most |w| * S * b + |mu|, |w| <= 128; below this they need no saturation, whatever the rounding.
constexpr float kSafeF16 = 65000.0F;

// Whether every row begins at a multiple of so many bytes.
bool aligned_to(const Rows& rows, int64_t bytes) {
  int64_t places = static_cast<int64_t>(reinterpret_cast<uintptr_t>(rows.base)) | rows.stride_head;
  for (int32_t t = 0; t < rows.tokens; ++t) places |= rows.token_offset[t];
  return places % bytes == 0;
}

// Rows are whole vectors that are worth it, and lie where memory takes those past the caches.
bool streamable(const Rows& rows, int32_t hadamard) {
  const int32_t block = rows.dim / (hadamard == 0 ? kPlainBlocks : hadamard);
  const int32_t stored = unpack_lanes(block) * tiers::element_bytes(rows.dtype);
  if (!contiguous(rows) || stored < kLeastStreamed || block % unpack_lanes(block) != 0) return false;
  return aligned_to(rows, stored);
}

using Bytes = hn::ScalableTag<uint8_t>;

// The same of rows that are copied.
bool raw_streamable(const Rows& rows) {
  const auto stored = static_cast<int64_t>(hn::Lanes(Bytes()));
  const int64_t row_bytes = static_cast<int64_t>(rows.dim) * tiers::element_bytes(rows.dtype);
  return contiguous(rows) && stored >= kLeastStreamed && row_bytes % stored == 0 && aligned_to(rows, stored);
}

struct Unpacker {
  const UnpackChunk& chunk;
  const Places places;
  const Affine affine;
  const UnpackRun quick;  // of rows that cannot leave f16
  const UnpackRun careful;
  const int32_t dim;
  const bool raw_streams;   // RAW rows past the caches
  uint32_t safe_scale = 0;  // bits of the largest |S| for quick
  Rule rules[5];            // of the tiers
  float half_shares[5];     // tiers::share() / 2

  explicit Unpacker(const UnpackChunk& work)
      : chunk(work),
        places(work.tiers, work.rows.tokens),
        affine(work.transform.mean, -0.0F, work.transform.balance, work.rows.dim),
        quick(unpack_for(
            work.rows, work.transform.hadamard, affine.any,
            work.stream && streamable(work.rows, work.transform.hadamard) ? Storing::kStreamed : Storing::kQuick)),
        careful(unpack_for(work.rows, work.transform.hadamard, affine.any, Storing::kSaturating)),
        dim(work.rows.dim),
        raw_streams(work.stream && work.raw_dtype == work.rows.dtype && raw_streamable(work.rows)) {
    const float room = kSafeF16 - largest(work.transform.mean);
    const float factor = 128.0F * HWY_MAX(largest(work.transform.balance), 1.0F);
    if (room > 0.0F) safe_scale = tiers::f32_to_f16(room / factor);
    for (uint8_t tier = 1; tier <= 4; ++tier) {
      if (work.code == tiers::kCodePaper && tier % 2 == 1) continue;  // not of that code
      rules[tier] = rule_of(work.code, tier);
      half_shares[tier] = 0.5F * tiers::share(work.code, tier, work.transform.hadamard, dim);
    }
  }

  float largest(const float* vector) const;
  void tokens(int32_t first, int32_t end, int32_t first_head, int32_t heads, std::byte* to, const int64_t* token_offset,
              int64_t to_step) const;
  void raw_row(const std::byte* from, std::byte* to) const;
};

// Of a channel vector over the heads that are read; 0 without one.
float Unpacker::largest(const float* vector) const {
  if (vector == nullptr) return 0.0F;
  const Four d;
  const float* from = vector + static_cast<int64_t>(chunk.first_head) * chunk.rows.dim;
  const int64_t n = static_cast<int64_t>(chunk.rows.heads) * chunk.rows.dim;
  auto most = hn::Zero(d);
  auto other = most;
  for (int64_t i = 0; i < n; i += 8) {
    most = hn::Max(most, hn::Abs(hn::LoadU(d, from + i)));
    other = hn::Max(other, hn::Abs(hn::LoadU(d, from + i + 4)));
  }
  return hn::GetLane(hn::MaxOfLanes(d, hn::Max(most, other)));
}

// Heads [first_head, + heads) of tokens [first, end); that of token t and head h to dim contiguous elements at
// to + token_offset[t - first] + h * to_step.
void Unpacker::tokens(int32_t first, int32_t end, int32_t first_head, int32_t heads, std::byte* to,
                      const int64_t* token_offset, int64_t to_step) const {
  const int32_t from_head = chunk.first_head + first_head;
  const int64_t raw_step = static_cast<int64_t>(dim) * tiers::element_bytes(chunk.raw_dtype);
  const auto row_of = [this, from_head](uint16_t row)
                          HWY_ATTR { return static_cast<int64_t>(row) * chunk.payload_heads + from_head; };
  while (first < end) {
    const uint8_t tier = chunk.tiers[first];
    int32_t count = 1;
    while (first + count < end && chunk.tiers[first + count] == tier && count < kRunTokens) ++count;
    if (tiers::is_quantized(tier)) {
      Run from;
      from.body = tier == 1 ? chunk.from.two + row_of(places.body[first]) * (dim / 4)
                            : chunk.from.nibble + row_of(places.body[first]) * (dim / 2);
      from.plane2 = tier >= 3 ? chunk.from.plane2 + row_of(places.plane2[first]) * (dim / 4) : from.body;
      from.plane3 = tier == 4 ? chunk.from.plane3 + row_of(places.plane3[first]) * (dim / 4) : from.body;
      from.scales = chunk.from.scales + row_of(places.scale[first]) * 2;
      from.mean = affine.add_of(from_head);
      from.balance = affine.mul_of(from_head);
      from.mean_step = affine.add_stride;
      from.balance_step = affine.mul_stride;
      from.tokens = count;
      from.heads = heads;
      from.skipped = chunk.payload_heads - heads;
      from.dim = dim;
      from.tier = tier;
      from.rule = rules[tier];
      from.half_share = half_shares[tier];
      from.to = to;
      from.token_offset = token_offset;
      from.to_step = to_step;
      uint32_t scale = 0;
      for (int32_t i = 0; i < count; ++i) {
        for (int32_t h = 0; h < heads; ++h) {
          uint16_t bits;
          hwy::CopyBytes<2>(from.scales + (static_cast<int64_t>(i) * chunk.payload_heads + h) * 2, &bits);
          scale = HWY_MAX(scale, bits & 0x7FFFU);  // f16 without sign sorts like its bits
        }
      }
      (scale <= safe_scale ? quick : careful)(from);
    } else {
      for (int32_t i = 0; i < count; ++i) {
        for (int32_t h = 0; h < heads; ++h) {
          std::byte* row = to + token_offset[i] + h * to_step;
          if (tier == tiers::kDrop) {
            std::memset(row, 0, static_cast<size_t>(dim) * static_cast<size_t>(tiers::element_bytes(chunk.rows.dtype)));
          } else {
            raw_row(chunk.from.raw + (row_of(places.body[first + i]) + h) * raw_step, row);
          }
        }
      }
    }
    first += count;
    token_offset += count;
  }
}

void Unpacker::raw_row(const std::byte* from, std::byte* to) const {
  const int32_t raw_bytes = tiers::element_bytes(chunk.raw_dtype);
  const int32_t bytes = tiers::element_bytes(chunk.rows.dtype);
  if (raw_streams) {
    const Bytes d;
    const size_t step = hn::Lanes(d);
    auto* at = reinterpret_cast<uint8_t*>(to);
    const auto* source = reinterpret_cast<const uint8_t*>(from);
    for (size_t i = 0; i < static_cast<size_t>(dim) * static_cast<size_t>(bytes); i += step) {
      hn::Stream(hn::LoadU(d, source + i), d, at + i);
    }
    return;
  }
  if (chunk.raw_dtype == chunk.rows.dtype) {
    std::memcpy(to, from, static_cast<size_t>(dim) * static_cast<size_t>(bytes));
    return;
  }
  // Hardware would make signalling NaNs quiet; the reference keeps their bits.
  for (int32_t c = 0; c < dim; ++c, from += raw_bytes, to += bytes) {
    tiers::store_element(to, chunk.rows.dtype, tiers::load_element(from, chunk.raw_dtype));
  }
}

void unpack_tiles(const Unpacker& unpacker, const Rows& rows) {
  const int64_t row_bytes = static_cast<int64_t>(rows.dim) * tiers::element_bytes(rows.dtype);
  const int32_t run = tile_tokens(rows);
  HWY_ALIGN std::byte tile[kTileBytes];
  int64_t token_offset[kTileTokens];
  for (int32_t t = 0; t < run; ++t) token_offset[t] = t * row_bytes;
  for (int32_t first = 0; first < rows.tokens; first += run) {
    const int32_t count = HWY_MIN(run, rows.tokens - first);
    for (int32_t h = 0; h < rows.heads; ++h) {
      unpacker.tokens(first, first + count, h, 1, tile, token_offset, row_bytes);
      scatter_tile(rows, first, count, h, tile);
    }
  }
}

}  // namespace

void unpack(const UnpackChunk& chunk) {
  const Rows& rows = chunk.rows;
  const Unpacker unpacker(chunk);
  if (unpacker.quick == nullptr) return scalar::unpack(chunk);
  if (contiguous(rows)) {
    unpacker.tokens(0, rows.tokens, 0, rows.heads, rows.base, rows.token_offset, rows.stride_head);
    if (chunk.stream) hwy::FlushStream();  // other threads read the rows
  } else {
    unpack_tiles(unpacker, rows);
  }
}

#endif  // SKV_SIMD
}  // namespace skv::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
