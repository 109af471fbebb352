// SPDX-License-Identifier: Apache-2.0
// Steps 5 to 9: rows to scales and bit planes.
//
// Rows are taken in batches: transformed into a buffer in L1 with their absmax, then all scales of the batch at once
// (so that two divisions and two conversions a row leave the critical path), then codes.
#include <cstring>

#include "kernels/cpu/hwy_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/pack.cc"
#include "hwy/foreach_target.h"
#include "kernels/cpu/transform-inl.h"

HWY_BEFORE_NAMESPACE();
namespace skv::kernels::HWY_NAMESPACE {
#if SKV_SIMD
namespace {

constexpr int32_t kBatch = 16;
constexpr int32_t kBatchFloats = kMaxDim;  // 16 KiB: half of L1; a batch of 16 rows up to dim 256

// Adding this to |v| < 2^22 rounds v to an integer, ties to even, kept in the low bits of the sum.
constexpr float kMagic = 12582912.0F;  // 1.5 * 2^23
constexpr int32_t kMagicBits = 0x4B400000;

// A scale below the normal f16 numbers is so coarse that absmax/scale may exceed the clamp by more than a half; above,
// its relative error of 2^-11 cannot make 127 round to 128, and the clamp changes nothing.
constexpr float kSmallestNormalF16 = 6.103515625e-5F;  // 2^-14

// Where one row of one head goes.
struct Item {
  std::byte* scale;
  std::byte* body;  // two or nibble
  std::byte* plane2;
  std::byte* plane3;
  uint8_t tier;
};

// Codes of the lanes of y: the low byte of each lane is u.
template <bool kClamp, class D>
HWY_INLINE hn::VFromD<hn::RebindToSigned<D>> codes(D d, const float* y, hn::VFromD<D> inverse) {
  const hn::RebindToSigned<D> di;
  const auto sum = hn::Add(hn::Mul(hn::LoadU(d, y), inverse), hn::Set(d, kMagic + 128.0F));
  auto bits = hn::BitCast(di, sum);
  if (kClamp) {
    bits = hn::Max(hn::Min(bits, hn::Set(di, kMagicBits + 128 + 127)), hn::Set(di, kMagicBits + 128 - 127));
  }
  return bits;
}

template <class D>
HWY_INLINE void store_bytes(D, hn::VFromD<hn::RebindToSigned<D>> v, std::byte* to) {
  const hn::RebindToUnsigned<D> du;
  const hn::Rebind<uint8_t, D> d8;
  hn::StoreU(hn::TruncateTo(d8, hn::BitCast(du, v)), d8, reinterpret_cast<uint8_t*>(to));
}

// Last start of a vector in [0, n).
template <class D>
HWY_INLINE int32_t within(int32_t at, int32_t n) {
  return at + lanes<D>() <= n ? at : n - lanes<D>();
}

template <class D, bool kClamp>
HWY_INLINE void nibbles(const float* y, float inverse, int32_t dim, std::byte* to) {
  const D d;
  const hn::RebindToSigned<D> di;
  const auto inv = hn::Set(d, inverse);
  const int32_t half = dim / 2;
  for (int32_t at = 0; at < half; at += lanes<D>()) {
    const int32_t j = within<D>(at, half);
    const auto low = hn::ShiftRight<4>(codes<kClamp>(d, y + j, inv));
    const auto high = codes<kClamp>(d, y + j + half, inv);
    store_bytes(d, hn::Or(hn::And(low, hn::Set(di, 0x0F)), hn::And(high, hn::Set(di, 0xF0))), to + j);
  }
}

// Two bits of each code from bit kShift on, four channels a byte.
template <class D, bool kClamp, int kShift>
HWY_INLINE void plane(const float* y, float inverse, int32_t dim, std::byte* to) {
  const D d;
  const hn::RebindToSigned<D> di;
  const auto inv = hn::Set(d, inverse);
  const auto two = hn::Set(di, 3);
  const int32_t quarter = dim / 4;
  for (int32_t at = 0; at < quarter; at += lanes<D>()) {
    const int32_t j = within<D>(at, quarter);
    const auto a = hn::And(hn::ShiftRight<kShift>(codes<kClamp>(d, y + j, inv)), two);
    const auto b = hn::And(hn::ShiftRight<kShift>(codes<kClamp>(d, y + j + quarter, inv)), two);
    const auto c = hn::And(hn::ShiftRight<kShift>(codes<kClamp>(d, y + j + 2 * quarter, inv)), two);
    const auto e = hn::And(hn::ShiftRight<kShift>(codes<kClamp>(d, y + j + 3 * quarter, inv)), two);
    store_bytes(d, hn::Or(hn::Or(a, hn::ShiftLeft<2>(b)), hn::Or(hn::ShiftLeft<4>(c), hn::ShiftLeft<6>(e))), to + j);
  }
}

// Code 1, tier 2: u = (q + 8) * 16, whose upper half is q + 8.
template <class D>
HWY_INLINE void paper_nibbles(const float* y, float inverse, int32_t dim, std::byte* to) {
  const D d;
  const hn::RebindToSigned<D> di;
  const auto inv = hn::Set(d, inverse);
  const auto magic = hn::Set(d, kMagic + 8.0F);
  const auto least = hn::Set(di, kMagicBits + 8 - 7);
  const auto most = hn::Set(di, kMagicBits + 8 + 7);
  const int32_t half = dim / 2;
  for (int32_t at = 0; at < half; at += lanes<D>()) {
    const int32_t j = within<D>(at, half);
    auto low = hn::BitCast(di, hn::Add(hn::Mul(hn::LoadU(d, y + j), inv), magic));
    auto high = hn::BitCast(di, hn::Add(hn::Mul(hn::LoadU(d, y + j + half), inv), magic));
    low = hn::And(hn::Max(hn::Min(low, most), least), hn::Set(di, 0x0F));
    high = hn::ShiftLeft<4>(hn::Max(hn::Min(high, most), least));  // bits above the byte are cut
    store_bytes(d, hn::Or(low, high), to + j);
  }
}

template <class D, bool kClamp>
HWY_INLINE void emit_codes(const float* y, float inverse, int32_t dim, const Item& item) {
  if (item.tier == 1) {
    plane<D, kClamp, 6>(y, inverse, dim, item.body);
    return;
  }
  nibbles<D, kClamp>(y, inverse, dim, item.body);
  if (item.tier >= 3) plane<D, kClamp, 2>(y, inverse, dim, item.plane2);
  if (item.tier == 4) plane<D, kClamp, 0>(y, inverse, dim, item.plane3);
}

template <class D>
void emit(const float* y, float scale, float inverse, int32_t dim, int32_t code, const Item& item) {
  if (code == tiers::kCodePaper && item.tier == 2) {
    paper_nibbles<D>(y, inverse, dim, item.body);
  } else if (scale >= kSmallestNormalF16) {
    emit_codes<D, false>(y, inverse, dim, item);
  } else {
    emit_codes<D, true>(y, inverse, dim, item);
  }
}
using Emit = void (*)(const float* y, float scale, float inverse, int32_t dim, int32_t code, const Item& item);

// The shortest vector loop is over a quarter of the channels.
HWY_INLINE Emit emit_for(int32_t dim) {
  if (dim / 4 >= 16 && kWide >= 16) return &emit<Wide>;
  if (dim / 4 >= 8 && kWide >= 8) return &emit<Eight>;
  return dim / 4 >= 4 ? &emit<Four> : nullptr;
}

struct Packer {
  const PackChunk& chunk;
  const Places places;
  const Affine affine;
  const TransformRow transform;
  const Emit put;
  const int32_t dim;
  const int32_t capacity;
  int32_t count = 0;
  bool failed = false;  // something is not finite: the reference tells what
  Item items[kBatch];
  HWY_ALIGN float largest[kBatch];
  HWY_ALIGN float limit[kBatch];
  HWY_ALIGN float scale[kBatch];
  HWY_ALIGN float inverse[kBatch];
  HWY_ALIGN uint16_t scale16[kBatch];
  HWY_ALIGN float y[kBatchFloats];

  explicit Packer(const PackChunk& work)
      : chunk(work),
        places(work.tiers, work.rows.tokens),
        affine(work.transform.mean, 0.0F, work.transform.recip, work.rows.dim),
        transform(transform_for(work.rows, work.transform.hadamard, affine.any)),
        put(emit_for(work.rows.dim)),
        dim(work.rows.dim),
        capacity(HWY_MIN(kBatch, kBatchFloats / work.rows.dim)) {}

  void add(const std::byte* x, int32_t token, int32_t head);
  void flush();
  void raw_row(const std::byte* x, int32_t token, int32_t head);
};

void Packer::add(const std::byte* x, int32_t token, int32_t head) {
  const uint8_t tier = chunk.tiers[token];
  const int64_t heads = chunk.rows.heads;
  const auto group = [heads, head](uint16_t row) HWY_ATTR { return row * heads + head; };
  Item& item = items[count];
  item.tier = tier;
  item.scale = chunk.to.scales + group(places.scale[token]) * 2;
  item.body = tier == 1 ? chunk.to.two + group(places.body[token]) * (dim / 4)
                        : chunk.to.nibble + group(places.body[token]) * (dim / 2);
  if (tier >= 3) item.plane2 = chunk.to.plane2 + group(places.plane2[token]) * (dim / 4);
  if (tier == 4) item.plane3 = chunk.to.plane3 + group(places.plane3[token]) * (dim / 4);
  largest[count] = tiers::float_of(
      transform(x, affine.add_of(head), affine.mul_of(head), dim, y + static_cast<int64_t>(count) * dim));
  limit[count] = tiers::q_max(chunk.code, tier);
  if (++count == capacity) flush();
}

void Packer::flush() {
  const Eight d;
  const hn::Rebind<hwy::float16_t, Eight> d16;
  for (int32_t i = count; i < kBatch; ++i) {
    largest[i] = 0.0F;
    limit[i] = 1.0F;
  }
  const auto zero = hn::Zero(d);
  auto fine = hn::Eq(zero, zero);
  for (int32_t i = 0; i < count; i += lanes<Eight>()) {
    const auto absmax = hn::Load(d, largest + i);
    const auto stored = hn::DemoteTo(d16, hn::Div(absmax, hn::Load(d, limit + i)));
    const auto s = hn::PromoteTo(d, stored);
    fine = hn::And(fine, hn::Eq(hn::Sub(s, s), zero));  // s is not finite when absmax is not
    hn::Store(stored, d16, reinterpret_cast<hwy::float16_t*>(scale16 + i));
    hn::Store(s, d, scale + i);
    hn::Store(hn::IfThenElseZero(hn::Gt(s, zero), hn::Div(hn::Set(d, 1.0F), s)), d, inverse + i);
  }
  if (!hn::AllTrue(d, fine)) {
    failed = true;
  } else {
    for (int32_t i = 0; i < count; ++i) {
      hwy::CopyBytes<2>(scale16 + i, items[i].scale);
      put(y + static_cast<int64_t>(i) * dim, scale[i], inverse[i], dim, chunk.code, items[i]);
    }
  }
  count = 0;
}

void Packer::raw_row(const std::byte* x, int32_t token, int32_t head) {
  const int32_t raw_bytes = tiers::element_bytes(chunk.raw_dtype);
  std::byte* to = chunk.to.raw + (static_cast<int64_t>(places.body[token]) * chunk.rows.heads + head) * dim * raw_bytes;
  if (chunk.raw_dtype == chunk.rows.dtype) {
    std::memcpy(to, x, static_cast<size_t>(dim) * static_cast<size_t>(raw_bytes));
    return;
  }
  for (int32_t c = 0; c < dim; ++c, to += 2) {  // the source is f32
    float value;
    hwy::CopyBytes<4>(x + static_cast<int64_t>(c) * 4, &value);
    const bool f16 = chunk.raw_dtype == tiers::kF16;
    const uint16_t half = f16 ? tiers::f32_to_f16(value) : tiers::f32_to_bf16(value);
    const float back = f16 ? tiers::f16_to_f32(half) : tiers::bf16_to_f32(half);
    failed = failed || (tiers::is_finite(value) && !tiers::is_finite(back));
    hwy::CopyBytes<2>(&half, to);
  }
}

}  // namespace

Verdict pack(const PackChunk& chunk) {
  const Rows& rows = chunk.rows;
  Packer packer(chunk);
  if (packer.transform == nullptr || packer.put == nullptr) return scalar::pack(chunk);
  const bool direct = contiguous(rows);
  const int32_t run = direct ? 1 : tile_tokens(rows);
  const int64_t row_bytes = static_cast<int64_t>(rows.dim) * tiers::element_bytes(rows.dtype);
  HWY_ALIGN std::byte tile[kTileBytes];
  for (int32_t first = 0; first < rows.tokens; first += run) {
    const int32_t end = HWY_MIN(rows.tokens, first + run);
    for (int32_t h = 0; h < rows.heads; ++h) {
      if (!direct) gather_tile(rows, first, end - first, h, tile);
      for (int32_t t = first; t < end; ++t) {
        const uint8_t tier = chunk.tiers[t];
        const std::byte* x = direct ? element(rows, t, h, 0) : tile + (t - first) * row_bytes;
        if (tiers::is_quantized(tier)) {
          packer.add(x, t, h);
        } else if (tier == tiers::kRaw) {
          packer.raw_row(x, t, h);
        }
      }
    }
  }
  packer.flush();
  return packer.failed ? scalar::pack(chunk) : Verdict{};
}

#endif  // SKV_SIMD
}  // namespace skv::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
