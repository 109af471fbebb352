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

// Adding this to |v| < 2^22 rounds v to an integer, ties to even, kept in the low bits of the sum.
constexpr float kMagic = 12582912.0F;  // 1.5 * 2^23
constexpr int32_t kMagicBits = 0x4B400000;

// A scale below the normal f16 numbers is so coarse that absmax/scale may exceed the clamp by more than a half; above,
// its relative error of 2^-11 cannot make 127 round to 128, and the clamp changes nothing.
constexpr float kSmallestNormalF16 = 6.103515625e-5F;  // 2^-14

// Where the rows of a batch go, and their scales.
struct Target {
  std::byte* scale_to[kBatch];
  std::byte* body[kBatch];  // two or nibble
  std::byte* plane2[kBatch];
  std::byte* plane3[kBatch];
  uint8_t tier[kBatch];
  HWY_ALIGN float limit[kBatch];
  HWY_ALIGN float scale[kBatch];
  HWY_ALIGN float inverse[kBatch];
  HWY_ALIGN uint16_t scale16[kBatch];
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

template <class D, bool kClamp>
HWY_INLINE void nibbles(const float* y, float inverse, int32_t dim, std::byte* to) {
  const D d;
  const hn::RebindToSigned<D> di;
  const auto inv = hn::Set(d, inverse);
  const int32_t half = dim / 2;
  for (int32_t at = 0; at < half; at += lanes<D>()) {
    const int32_t j = within<D>(at, half);
    const auto low = codes<kClamp>(d, y + j, inv);
    const auto high = codes<kClamp>(d, y + j + half, inv);
    store_bytes(d, choose(di, 0xF0, high, hn::ShiftRight<4>(low)), to + j);
  }
}

// The upper two bits of each code, four channels a byte.
template <class D, bool kClamp>
HWY_INLINE void pairs(const float* y, float inverse, int32_t dim, std::byte* to) {
  const D d;
  const hn::RebindToSigned<D> di;
  const auto inv = hn::Set(d, inverse);
  const int32_t quarter = dim / 4;
  for (int32_t at = 0; at < quarter; at += lanes<D>()) {
    const int32_t j = within<D>(at, quarter);
    const auto a = hn::ShiftRight<6>(codes<kClamp>(d, y + j, inv));
    const auto b = hn::ShiftRight<4>(codes<kClamp>(d, y + j + quarter, inv));
    const auto c = hn::ShiftRight<2>(codes<kClamp>(d, y + j + 2 * quarter, inv));
    const auto e = codes<kClamp>(d, y + j + 3 * quarter, inv);
    store_bytes(d, choose(di, 0x3F, choose(di, 0x0F, choose(di, 0x03, a, b), c), e), to + j);
  }
}

// Tiers 3 and 4: codes are made once and cut into all their planes.
template <class D, bool kClamp, bool kPlane3>
HWY_INLINE void planes(const float* y, float inverse, int32_t dim, std::byte* body, std::byte* plane2,
                       std::byte* plane3) {
  const D d;
  const hn::RebindToSigned<D> di;
  const auto inv = hn::Set(d, inverse);
  const int32_t quarter = dim / 4;
  for (int32_t at = 0; at < quarter; at += lanes<D>()) {
    const int32_t j = within<D>(at, quarter);
    const auto a = codes<kClamp>(d, y + j, inv);
    const auto b = codes<kClamp>(d, y + j + quarter, inv);
    const auto c = codes<kClamp>(d, y + j + 2 * quarter, inv);
    const auto e = codes<kClamp>(d, y + j + 3 * quarter, inv);
    store_bytes(d, choose(di, 0xF0, c, hn::ShiftRight<4>(a)), body + j);
    store_bytes(d, choose(di, 0xF0, e, hn::ShiftRight<4>(b)), body + j + quarter);
    const auto ab = choose(di, 0x03, hn::ShiftRight<2>(a), b);
    store_bytes(d, choose(di, 0x3F, choose(di, 0x0F, ab, hn::ShiftLeft<2>(c)), hn::ShiftLeft<4>(e)), plane2 + j);
    if (kPlane3) {
      const auto low = choose(di, 0x03, a, hn::ShiftLeft<2>(b));
      store_bytes(d, choose(di, 0x3F, choose(di, 0x0F, low, hn::ShiftLeft<4>(c)), hn::ShiftLeft<6>(e)), plane3 + j);
    }
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
HWY_INLINE void emit_codes(const float* y, int32_t dim, const Target& to, int32_t i) {
  const float inverse = to.inverse[i];
  switch (to.tier[i]) {
    case 1:
      return pairs<D, kClamp>(y, inverse, dim, to.body[i]);
    case 2:
      return nibbles<D, kClamp>(y, inverse, dim, to.body[i]);
    case 3:
      return planes<D, kClamp, false>(y, inverse, dim, to.body[i], to.plane2[i], nullptr);
    default:
      return planes<D, kClamp, true>(y, inverse, dim, to.body[i], to.plane2[i], to.plane3[i]);
  }
}

// Scales and codes of a batch. kDim 0: known at run time only.
template <class D, int32_t kDim>
void emit(const Batch& batch, int32_t code, const Target& to) {
  const int32_t dim = kDim == 0 ? batch.dim : kDim;
  const float* y = batch.y;
  for (int32_t i = 0; i < batch.count; ++i, y += dim) {
    hwy::CopyBytes<2>(to.scale16 + i, to.scale_to[i]);
    if (HWY_UNLIKELY(code == tiers::kCodePaper && to.tier[i] == 2)) {
      paper_nibbles<D>(y, to.inverse[i], dim, to.body[i]);
    } else if (HWY_LIKELY(to.scale[i] >= kSmallestNormalF16)) {
      emit_codes<D, false>(y, dim, to, i);
    } else {
      emit_codes<D, true>(y, dim, to, i);
    }
  }
}
using Emit = void (*)(const Batch& batch, int32_t code, const Target& to);

// The shortest vector loop is over a quarter of the channels.
HWY_INLINE Emit emit_for(int32_t dim) {
  if (dim == 64) return &emit<Wide, 64>;
  if (dim == 128) return &emit<Wide, 128>;
  if (dim == 256) return &emit<Wide, 256>;
  if (dim / 4 >= 16 && kWide >= 16) return &emit<Wide, 0>;
  if (dim / 4 >= 8 && kWide >= 8) return &emit<Eight, 0>;
  return dim / 4 >= 4 ? &emit<Four, 0> : nullptr;
}

struct Packer {
  const PackChunk& chunk;
  const Places places;
  const Affine affine;
  const TransformRows transform;
  const Emit put;
  const int32_t dim;
  bool failed = false;  // something is not finite: the reference tells what
  Batch batch;
  const int32_t capacity;
  Target target;

  explicit Packer(const PackChunk& work)
      : chunk(work),
        places(work.tiers, work.rows.tokens),
        affine(work.transform.mean, 0.0F, work.transform.recip, work.rows.dim),
        transform(transform_for(work.rows, work.transform.hadamard, affine.any)),
        put(emit_for(work.rows.dim)),
        dim(work.rows.dim),
        batch(affine, dim),
        capacity(batch.capacity()) {}

  void heads(int32_t token, int32_t first, int32_t count, const std::byte* x, int64_t x_step);
  void flush();
  void raw_row(const std::byte* x, std::byte* to);
};

// Heads [first, first + count) of one token.
void Packer::heads(int32_t token, int32_t first, int32_t count, const std::byte* x, int64_t x_step) {
  const uint8_t tier = chunk.tiers[token];
  const auto row_of = [this, first](uint16_t row)
                          HWY_ATTR { return static_cast<int64_t>(row) * chunk.rows.heads + first; };
  if (HWY_UNLIKELY(!tiers::is_quantized(tier))) {
    if (tier == tiers::kDrop) return;
    const int64_t raw_step = static_cast<int64_t>(dim) * tiers::element_bytes(chunk.raw_dtype);
    std::byte* to = chunk.to.raw + row_of(places.body[token]) * raw_step;
    for (int32_t h = 0; h < count; ++h) raw_row(x + h * x_step, to + h * raw_step);
    return;
  }
  const int64_t plane_step = dim / 4;
  const int64_t body_step = tier == 1 ? plane_step : dim / 2;
  std::byte* body = (tier == 1 ? chunk.to.two : chunk.to.nibble) + row_of(places.body[token]) * body_step;
  std::byte* scale = chunk.to.scales + row_of(places.scale[token]) * 2;
  std::byte* plane2 = tier >= 3 ? chunk.to.plane2 + row_of(places.plane2[token]) * plane_step : body;
  std::byte* plane3 = tier == 4 ? chunk.to.plane3 + row_of(places.plane3[token]) * plane_step : body;
  const float limit = tiers::q_max(chunk.code, tier);
  for (int32_t h = 0; h < count; ++h) {
    const int32_t i = batch.count;
    batch.x[i] = x + h * x_step;
    batch.head[i] = first + h;
    target.tier[i] = tier;
    target.limit[i] = limit;
    target.scale_to[i] = scale + h * 2;
    target.body[i] = body + h * body_step;
    target.plane2[i] = plane2 + h * plane_step;
    target.plane3[i] = plane3 + h * plane_step;
    if (++batch.count == capacity) flush();
  }
}

void Packer::flush() {
  if (batch.count == 0) return;
  const Eight d;
  const hn::Rebind<hwy::float16_t, Eight> d16;
  transform(batch);
  for (int32_t i = batch.count; i < kBatch; ++i) {
    batch.largest[i] = 0.0F;
    target.limit[i] = 1.0F;
  }
  const auto zero = hn::Zero(d);
  auto fine = hn::Eq(zero, zero);
  for (int32_t i = 0; i < batch.count; i += lanes<Eight>()) {
    const auto absmax = hn::Load(d, batch.largest + i);
    const auto stored = hn::DemoteTo(d16, hn::Div(absmax, hn::Load(d, target.limit + i)));
    const auto s = hn::PromoteTo(d, stored);
    fine = hn::And(fine, hn::Eq(hn::Sub(s, s), zero));  // s is not finite when absmax is not
    hn::Store(stored, d16, reinterpret_cast<hwy::float16_t*>(target.scale16 + i));
    hn::Store(s, d, target.scale + i);
    hn::Store(hn::IfThenElseZero(hn::Gt(s, zero), hn::Div(hn::Set(d, 1.0F), s)), d, target.inverse + i);
  }
  if (hn::AllTrue(d, fine)) {
    put(batch, chunk.code, target);
  } else {
    failed = true;
  }
  batch.count = 0;
}

void Packer::raw_row(const std::byte* x, std::byte* to) {
  if (chunk.raw_dtype == chunk.rows.dtype) {
    std::memcpy(to, x, static_cast<size_t>(dim) * static_cast<size_t>(tiers::element_bytes(chunk.raw_dtype)));
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
  if (contiguous(rows)) {
    for (int32_t t = 0; t < rows.tokens; ++t) {
      packer.heads(t, 0, rows.heads, element(rows, t, 0, 0), rows.stride_head);
    }
    packer.flush();
  } else {
    const int32_t run = tile_tokens(rows);
    const int64_t row_bytes = static_cast<int64_t>(rows.dim) * tiers::element_bytes(rows.dtype);
    HWY_ALIGN std::byte tile[kTileBytes];
    for (int32_t first = 0; first < rows.tokens; first += run) {
      const int32_t count = HWY_MIN(run, rows.tokens - first);
      for (int32_t h = 0; h < rows.heads; ++h) {
        gather_tile(rows, first, count, h, tile);
        for (int32_t t = 0; t < count; ++t) packer.heads(first + t, h, 1, tile + t * row_bytes, row_bytes);
        packer.flush();  // before the tile goes
      }
    }
  }
  return packer.failed ? scalar::pack(chunk) : Verdict{};
}

#endif  // SKV_SIMD
}  // namespace skv::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
