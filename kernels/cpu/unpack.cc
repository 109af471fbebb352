// SPDX-License-Identifier: Apache-2.0
// "Decoding arithmetic": bit planes and scales to rows.
#include <cstring>

#include "kernels/cpu/hwy_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/unpack.cc"
#include "hwy/foreach_target.h"
#include "kernels/cpu/transform-inl.h"

HWY_BEFORE_NAMESPACE();
namespace skv::kernels::HWY_NAMESPACE {
#if SKV_SIMD
namespace {

// Where the planes of one row of one head are.
struct Source {
  const std::byte* body;  // two or nibble
  const std::byte* plane2;
  const std::byte* plane3;
  uint8_t tier;
};

// The codes k of a tier mean w = k * step + offset. 2w is an integer, and (2w) * (s/2) is w * s to the bit: neither
// factor is near the subnormal numbers.
struct Rule {
  int32_t shift;   // of k in 2w
  int32_t offset;  // 2w = (k << shift) + offset
};
HWY_INLINE Rule rule_of(int32_t code, uint8_t tier) {
  const tiers::Reconstruction r = tiers::reconstruction(code, tier);
  int32_t shift = 1;
  while (static_cast<float>(1 << shift) < 2.0F * r.step) ++shift;
  return {shift, static_cast<int32_t>(2.0F * r.offset)};
}

template <class D>
HWY_INLINE hn::VFromD<hn::RebindToSigned<D>> bytes(D, const std::byte* from) {
  const hn::RebindToSigned<D> di;
  const hn::Rebind<uint8_t, D> d8;
  return hn::PromoteTo(di, hn::LoadU(d8, reinterpret_cast<const uint8_t*>(from)));
}
template <class D>
HWY_INLINE int32_t within(int32_t at, int32_t n) {
  return at + lanes<D>() <= n ? at : n - lanes<D>();
}
template <class D, class VI>
HWY_INLINE void put_z(D d, VI k, int shift, hn::VFromD<hn::RebindToSigned<D>> offset, hn::VFromD<D> half_scale,
                      float* to) {
  const auto doubled = hn::Add(hn::ShiftLeftSame(k, shift), offset);
  hn::StoreU(hn::Mul(hn::ConvertTo(d, doubled), half_scale), d, to);
}

// w * scale of one row; scale = S / n.
template <class D>
void decode(const Source& from, int32_t code, float scale, int32_t dim, float* z) {
  const D d;
  const hn::RebindToSigned<D> di;
  const auto s = hn::Set(d, scale * 0.5F);
  const Rule rule = rule_of(code, from.tier);
  const int shift = rule.shift;
  const auto offset = hn::Set(di, rule.offset);
  const auto two = hn::Set(di, 3);
  const auto four = hn::Set(di, 15);
  const int32_t quarter = dim / 4;
  if (from.tier == 2) {
    const int32_t half = dim / 2;
    for (int32_t at = 0; at < half; at += lanes<D>()) {
      const int32_t j = within<D>(at, half);
      const auto byte = bytes(d, from.body + j);
      put_z(d, hn::And(byte, four), shift, offset, s, z + j);
      put_z(d, hn::ShiftRight<4>(byte), shift, offset, s, z + j + half);
    }
    return;
  }
  for (int32_t at = 0; at < quarter; at += lanes<D>()) {
    const int32_t j = within<D>(at, quarter);
    const auto first = bytes(d, from.body + j);
    if (from.tier == 1) {
      put_z(d, hn::And(first, two), shift, offset, s, z + j);
      put_z(d, hn::And(hn::ShiftRight<2>(first), two), shift, offset, s, z + j + quarter);
      put_z(d, hn::And(hn::ShiftRight<4>(first), two), shift, offset, s, z + j + 2 * quarter);
      put_z(d, hn::ShiftRight<6>(first), shift, offset, s, z + j + 3 * quarter);
      continue;
    }
    // Channels j + m * quarter: the nibble of m = 0, 2 is in byte j, of m = 1, 3 in byte j + quarter.
    const auto second = bytes(d, from.body + j + quarter);
    const auto p2 = bytes(d, from.plane2 + j);
    auto k0 = hn::Or(hn::ShiftLeft<2>(hn::And(first, four)), hn::And(p2, two));
    auto k1 = hn::Or(hn::ShiftLeft<2>(hn::And(second, four)), hn::And(hn::ShiftRight<2>(p2), two));
    auto k2 = hn::Or(hn::ShiftLeft<2>(hn::ShiftRight<4>(first)), hn::And(hn::ShiftRight<4>(p2), two));
    auto k3 = hn::Or(hn::ShiftLeft<2>(hn::ShiftRight<4>(second)), hn::ShiftRight<6>(p2));
    if (from.tier == 4) {
      const auto p3 = bytes(d, from.plane3 + j);
      k0 = hn::Or(hn::ShiftLeft<2>(k0), hn::And(p3, two));
      k1 = hn::Or(hn::ShiftLeft<2>(k1), hn::And(hn::ShiftRight<2>(p3), two));
      k2 = hn::Or(hn::ShiftLeft<2>(k2), hn::And(hn::ShiftRight<4>(p3), two));
      k3 = hn::Or(hn::ShiftLeft<2>(k3), hn::ShiftRight<6>(p3));
    }
    put_z(d, k0, shift, offset, s, z + j);
    put_z(d, k1, shift, offset, s, z + j + quarter);
    put_z(d, k2, shift, offset, s, z + j + 2 * quarter);
    put_z(d, k3, shift, offset, s, z + j + 3 * quarter);
  }
}
using Decode = void (*)(const Source& from, int32_t code, float scale, int32_t dim, float* z);

HWY_INLINE Decode decode_for(int32_t dim) {
  if (dim / 4 >= 16 && kWide >= 16) return &decode<Wide>;
  if (dim / 4 >= 8 && kWide >= 8) return &decode<Eight>;
  return dim / 4 >= 4 ? &decode<Four> : nullptr;
}

// Butterflies, balance, mean and conversion of one row; blocks end as in transform_row.
template <class D, class E, int kN, bool kAffine>
void finish_row(const float* z, const float* mean, const float* balance, int32_t dim, std::byte* to) {
  const D d;
  const int32_t block = dim / kN;
  for (int32_t at = 0; at < block; at += lanes<D>()) {
    const int32_t i = within<D>(at, block);
    hn::VFromD<D> v[kN];
    for (int k = 0; k < kN; ++k) v[k] = hn::LoadU(d, z + i + k * block);
    butterfly<kN>(v);
    for (int k = 0; k < kN; ++k) {
      const int32_t c = i + k * block;
      if (kAffine) v[k] = hn::Add(hn::Mul(v[k], hn::LoadU(d, balance + c)), hn::LoadU(d, mean + c));
      E::store(d, v[k], to + static_cast<int64_t>(c) * E::kBytes);
    }
  }
}
using Finish = void (*)(const float* z, const float* mean, const float* balance, int32_t dim, std::byte* to);

template <class D, class E, int kN>
HWY_INLINE Finish finish_of(bool affine) {
  return affine ? &finish_row<D, E, kN, true> : &finish_row<D, E, kN, false>;
}
template <class D, class E>
HWY_INLINE Finish finish_of(int32_t hadamard, bool affine) {
  return hadamard == 0   ? finish_of<D, E, 1>(affine)
         : hadamard == 8 ? finish_of<D, E, 8>(affine)
                         : finish_of<D, E, 16>(affine);
}
template <class D>
HWY_INLINE Finish finish_of(int32_t dtype, int32_t hadamard, bool affine) {
  return dtype == tiers::kF16    ? finish_of<D, F16>(hadamard, affine)
         : dtype == tiers::kBF16 ? finish_of<D, BF16>(hadamard, affine)
                                 : finish_of<D, F32>(hadamard, affine);
}
HWY_INLINE Finish finish_for(const Rows& rows, int32_t hadamard, bool affine) {
  const int32_t block = rows.dim / (hadamard == 0 ? 1 : hadamard);
  if (block < 4) return nullptr;
  if (block >= 16 && kWide >= 16) return finish_of<Wide>(rows.dtype, hadamard, affine);
  if (block >= 8 && kWide >= 8) return finish_of<Eight>(rows.dtype, hadamard, affine);
  return finish_of<Four>(rows.dtype, hadamard, affine);
}

struct Unpacker {
  const UnpackChunk& chunk;
  const Places places;
  const Affine affine;
  const Decode decode_row;
  const Finish finish;
  const int32_t dim;
  const float share;  // 1 / n
  HWY_ALIGN float z[kMaxDim];

  explicit Unpacker(const UnpackChunk& work)
      : chunk(work),
        places(work.tiers, work.rows.tokens),
        affine(work.transform.mean, -0.0F, work.transform.balance, work.rows.dim),
        decode_row(decode_for(work.rows.dim)),
        finish(finish_for(work.rows, work.transform.hadamard, affine.any)),
        dim(work.rows.dim),
        share(1.0F / static_cast<float>(work.transform.hadamard == 0 ? 1 : work.transform.hadamard)) {}

  void row(int32_t token, int32_t head, std::byte* to);
  void raw_row(const std::byte* from, std::byte* to) const;
};

// One row of one head to dim contiguous elements.
void Unpacker::row(int32_t token, int32_t head, std::byte* to) {
  const uint8_t tier = chunk.tiers[token];
  const int64_t heads = chunk.payload_heads;
  const int32_t from_head = chunk.first_head + head;
  const auto group = [heads, from_head](uint16_t row) HWY_ATTR { return row * heads + from_head; };
  if (tier == tiers::kDrop) {
    std::memset(to, 0, static_cast<size_t>(dim) * static_cast<size_t>(tiers::element_bytes(chunk.rows.dtype)));
    return;
  }
  if (tier == tiers::kRaw) {
    raw_row(chunk.from.raw + group(places.body[token]) * dim * tiers::element_bytes(chunk.raw_dtype), to);
    return;
  }
  Source from;
  from.tier = tier;
  from.body = tier == 1 ? chunk.from.two + group(places.body[token]) * (dim / 4)
                        : chunk.from.nibble + group(places.body[token]) * (dim / 2);
  from.plane2 = tier >= 3 ? chunk.from.plane2 + group(places.plane2[token]) * (dim / 4) : nullptr;
  from.plane3 = tier == 4 ? chunk.from.plane3 + group(places.plane3[token]) * (dim / 4) : nullptr;
  uint16_t scale16;
  hwy::CopyBytes<2>(chunk.from.scales + group(places.scale[token]) * 2, &scale16);
  decode_row(from, chunk.code, tiers::f16_to_f32(scale16) * share, dim, z);
  finish(z, affine.add_of(from_head), affine.mul_of(from_head), dim, to);
}

void Unpacker::raw_row(const std::byte* from, std::byte* to) const {
  const int32_t raw_bytes = tiers::element_bytes(chunk.raw_dtype);
  const int32_t bytes = tiers::element_bytes(chunk.rows.dtype);
  if (chunk.raw_dtype == chunk.rows.dtype) {
    std::memcpy(to, from, static_cast<size_t>(dim) * static_cast<size_t>(bytes));
    return;
  }
  // Hardware would make signalling NaNs quiet; the reference keeps their bits.
  for (int32_t c = 0; c < dim; ++c, from += raw_bytes, to += bytes) {
    tiers::store_element(to, chunk.rows.dtype, tiers::load_element(from, chunk.raw_dtype));
  }
}

}  // namespace

void unpack(const UnpackChunk& chunk) {
  const Rows& rows = chunk.rows;
  Unpacker unpacker(chunk);
  if (unpacker.decode_row == nullptr || unpacker.finish == nullptr) return scalar::unpack(chunk);
  if (contiguous(rows)) {
    for (int32_t t = 0; t < rows.tokens; ++t) {
      for (int32_t h = 0; h < rows.heads; ++h) unpacker.row(t, h, element_to(rows, t, h, 0));
    }
    return;
  }
  const int32_t run = tile_tokens(rows);
  const int64_t row_bytes = static_cast<int64_t>(rows.dim) * tiers::element_bytes(rows.dtype);
  HWY_ALIGN std::byte tile[kTileBytes];
  for (int32_t first = 0; first < rows.tokens; first += run) {
    const int32_t count = HWY_MIN(run, rows.tokens - first);
    for (int32_t h = 0; h < rows.heads; ++h) {
      for (int32_t t = 0; t < count; ++t) unpacker.row(first + t, h, tile + t * row_bytes);
      scatter_tile(rows, first, count, h, tile);
    }
  }
}

#endif  // SKV_SIMD
}  // namespace skv::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
