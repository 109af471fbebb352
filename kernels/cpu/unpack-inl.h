// SPDX-License-Identifier: Apache-2.0
// One row of one head: codes to numbers, butterflies, balance, mean and conversion, all in registers.
#include "kernels/cpu/transform-inl.h"

#if defined(SKV_UNPACK_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SKV_UNPACK_INL_H_
#undef SKV_UNPACK_INL_H_
#else
#define SKV_UNPACK_INL_H_
#endif

HWY_BEFORE_NAMESPACE();
namespace skv::kernels::HWY_NAMESPACE {
#if SKV_SIMD

// The codes k of a tier mean w = k * step + offset. 2w is an integer, and (2w) * (s/2) is w * s to the bit: neither
// factor is near the subnormal numbers.
struct Rule {
  int32_t shift = 0;   // of k in 2w
  int32_t offset = 0;  // 2w = (k << shift) + offset
};
HWY_INLINE Rule rule_of(int32_t code, uint8_t tier) {
  const tiers::Reconstruction r = tiers::reconstruction(code, tier);
  Rule rule;
  while (static_cast<float>(1 << rule.shift) < 2.0F * r.step) ++rule.shift;
  rule.offset = static_cast<int32_t>(2.0F * r.offset);
  return rule;
}

// What to decode: the same heads of some tokens of one tier, and where to.
struct Run {
  const std::byte* body;    // two or nibble
  const std::byte* plane2;  // any address unless the tier has it
  const std::byte* plane3;
  const std::byte* scales;
  const float* mean;  // null without an affine step
  const float* balance;
  int64_t mean_step;  // floats from head to head
  int64_t balance_step;
  int32_t tokens;
  int32_t heads;
  int32_t skipped;  // heads of the payload that are not wanted, from a token's last to the next one's first
  int32_t dim;
  uint8_t tier;
  Rule rule;
  float half_share;  // tiers::share() / 2
  std::byte* to;     // of head 0 at token offset 0
  const int64_t* token_offset;
  int64_t to_step;  // bytes from head to head
};

// Codes to w * s.
template <class D>
struct Decoder {
  using DI = hn::RebindToSigned<D>;
  using VI = hn::VFromD<DI>;
  int shift;
  VI offset;
  hn::VFromD<D> scale;

  HWY_INLINE explicit Decoder(const Rule& rule) : shift(rule.shift), offset(hn::Set(DI(), rule.offset)) {}
  HWY_INLINE void set(hn::VFromD<D> half_scale) { scale = half_scale; }
  HWY_INLINE hn::VFromD<D> doubled(VI k) const {
    return hn::ConvertTo(D(), hn::Add(hn::ShiftLeftSame(k, shift), offset));
  }
  HWY_INLINE hn::VFromD<D> of(VI k) const { return hn::Mul(doubled(k), scale); }
};

// The same for 4-bit codes. AVX-512 looks all 16 numbers up: one shuffle an element, no conversion.
template <class D, int kLanes = lanes<D>()>
struct NibbleDecoder : Decoder<D> {
  using VI = typename Decoder<D>::VI;
  HWY_INLINE explicit NibbleDecoder(const Rule& rule) : Decoder<D>(rule) {}
  HWY_INLINE hn::VFromD<D> low(VI byte) const { return this->of(hn::And(byte, hn::Set(hn::RebindToSigned<D>(), 15))); }
  HWY_INLINE hn::VFromD<D> high(VI byte) const { return this->of(hn::ShiftRight<4>(byte)); }
};
#if HWY_TARGET == HWY_AVX3
template <class D>
struct NibbleDecoder<D, 16> {
  using VI = hn::VFromD<hn::RebindToSigned<D>>;
  hn::VFromD<D> numbers;  // 2w of every code
  hn::VFromD<D> table;
  HWY_INLINE explicit NibbleDecoder(const Rule& rule)
      : numbers(Decoder<D>(rule).doubled(hn::Iota(hn::RebindToSigned<D>(), 0))) {}
  HWY_INLINE void set(hn::VFromD<D> half_scale) { table = hn::Mul(numbers, half_scale); }
  // vpermps takes the low 4 bits of each index.
  HWY_INLINE hn::VFromD<D> low(VI byte) const { return hn::VFromD<D>{_mm512_permutexvar_ps(byte.raw, table.raw)}; }
  HWY_INLINE hn::VFromD<D> high(VI byte) const { return low(hn::ShiftRight<4>(byte)); }
};
template <class D>
struct NibbleDecoder<D, 8> {
  using VI = hn::VFromD<hn::RebindToSigned<D>>;
  hn::VFromD<D> numbers[2];
  hn::VFromD<D> table[2];
  HWY_INLINE explicit NibbleDecoder(const Rule& rule)
      : numbers{Decoder<D>(rule).doubled(hn::Iota(hn::RebindToSigned<D>(), 0)),
                Decoder<D>(rule).doubled(hn::Iota(hn::RebindToSigned<D>(), 8))} {}
  HWY_INLINE void set(hn::VFromD<D> half_scale) {
    table[0] = hn::Mul(numbers[0], half_scale);
    table[1] = hn::Mul(numbers[1], half_scale);
  }
  HWY_INLINE hn::VFromD<D> low(VI byte) const {
    return hn::VFromD<D>{_mm256_permutex2var_ps(table[0].raw, byte.raw, table[1].raw)};
  }
  HWY_INLINE hn::VFromD<D> high(VI byte) const { return low(hn::ShiftRight<4>(byte)); }
};
#endif

template <class D>
HWY_INLINE hn::VFromD<hn::RebindToSigned<D>> bytes_at(D, const std::byte* from) {
  const hn::Rebind<uint8_t, D> d8;
  return hn::PromoteTo(hn::RebindToSigned<D>(), hn::LoadU(d8, reinterpret_cast<const uint8_t*>(from)));
}

// Lanes [i, i + lanes) of all kBlocks blocks of a row.
template <class D, int kBlocks>
HWY_INLINE void read_codes(const NibbleDecoder<D>& decoder, const Run& from, int32_t i, int32_t block,
                           hn::VFromD<D>* v) {
  for (int k = 0; k < kBlocks / 2; ++k) {
    const auto byte = bytes_at(D(), from.body + i + k * block);
    v[k] = decoder.low(byte);
    v[k + kBlocks / 2] = decoder.high(byte);
  }
}

// The same for the tiers with 2-bit planes: four channels a byte, a quarter of the row apart.
template <class D, int kBlocks>
HWY_INLINE void read_codes(const Decoder<D>& decoder, const Run& from, int32_t i, int32_t block, hn::VFromD<D>* v) {
  constexpr int kQuarter = kBlocks / 4;
  const D d;
  const hn::RebindToSigned<D> di;
  const auto two = hn::Set(di, 3);
  const auto four = hn::Set(di, 15);
  for (int k = 0; k < kQuarter; ++k) {
    const int32_t j = i + k * block;
    const auto first = bytes_at(d, from.body + j);
    if (from.tier == 1) {
      v[k] = decoder.of(hn::And(first, two));
      v[k + kQuarter] = decoder.of(hn::And(hn::ShiftRight<2>(first), two));
      v[k + 2 * kQuarter] = decoder.of(hn::And(hn::ShiftRight<4>(first), two));
      v[k + 3 * kQuarter] = decoder.of(hn::ShiftRight<6>(first));
      continue;
    }
    // The nibbles of quarters 0 and 2 are in byte j, of 1 and 3 a quarter on.
    const auto second = bytes_at(d, from.body + j + kQuarter * block);
    const auto p2 = bytes_at(d, from.plane2 + j);
    auto k0 = hn::Or(hn::ShiftLeft<2>(hn::And(first, four)), hn::And(p2, two));
    auto k1 = hn::Or(hn::ShiftLeft<2>(hn::And(second, four)), hn::And(hn::ShiftRight<2>(p2), two));
    auto k2 = hn::Or(hn::ShiftLeft<2>(hn::ShiftRight<4>(first)), hn::And(hn::ShiftRight<4>(p2), two));
    auto k3 = hn::Or(hn::ShiftLeft<2>(hn::ShiftRight<4>(second)), hn::ShiftRight<6>(p2));
    if (from.tier == 4) {
      const auto p3 = bytes_at(d, from.plane3 + j);
      k0 = hn::Or(hn::ShiftLeft<2>(k0), hn::And(p3, two));
      k1 = hn::Or(hn::ShiftLeft<2>(k1), hn::And(hn::ShiftRight<2>(p3), two));
      k2 = hn::Or(hn::ShiftLeft<2>(k2), hn::And(hn::ShiftRight<4>(p3), two));
      k3 = hn::Or(hn::ShiftLeft<2>(k3), hn::ShiftRight<6>(p3));
    }
    v[k] = decoder.of(k0);
    v[k + kQuarter] = decoder.of(k1);
    v[k + 2 * kQuarter] = decoder.of(k2);
    v[k + 3 * kQuarter] = decoder.of(k3);
  }
}

// kBlocks blocks of a row; with a decoder for the tier.
template <class D, class E, int kHadamard, int kBlocks, bool kAffine, int32_t kDim, class Codes>
HWY_INLINE void unpack_heads(Run from) {
  const D d;
  const hn::CappedTag<float, 1> one;
  const hn::Rebind<hwy::float16_t, hn::CappedTag<float, 1>> half;
  const int32_t dim = kDim == 0 ? from.dim : kDim;
  const int32_t block = dim / kBlocks;
  const int64_t plane_step = dim / 4;
  const int64_t body_step = from.tier == 1 ? plane_step : dim / 2;
  const int64_t plane2_step = from.tier >= 3 ? plane_step : 0;
  const int64_t plane3_step = from.tier == 4 ? plane_step : 0;
  Codes codes(from.rule);
  for (int32_t t = 0; t < from.tokens; ++t) {
    std::byte* to = from.to + from.token_offset[t];
    const float* mean = from.mean;
    const float* balance = from.balance;
    for (int32_t h = 0; h < from.heads; ++h) {
      hwy::float16_t scale16;
      hwy::CopyBytes<2>(from.scales, &scale16);
      codes.set(hn::Set(d, hn::GetLane(hn::PromoteTo(one, hn::Load(half, &scale16))) * from.half_share));
      for (int32_t at = 0; at < block; at += lanes<D>()) {
        const int32_t i = within<D>(at, block);
        hn::VFromD<D> v[kBlocks];
        read_codes<D, kBlocks>(codes, from, i, block, v);
        butterfly<kHadamard>(v);
        for (int k = 0; k < kBlocks; ++k) {
          const int32_t c = i + k * block;
          if (kAffine) v[k] = hn::Add(hn::Mul(v[k], hn::LoadU(d, balance + c)), hn::LoadU(d, mean + c));
          E::store(d, v[k], to + static_cast<int64_t>(c) * E::kBytes);
        }
      }
      from.scales += 2;
      from.body += body_step;
      from.plane2 += plane2_step;
      from.plane3 += plane3_step;
      if (kAffine) {
        mean += from.mean_step;
        balance += from.balance_step;
      }
      to += from.to_step;
    }
    from.scales += from.skipped * 2;
    from.body += from.skipped * body_step;
    from.plane2 += from.skipped * plane2_step;
    from.plane3 += from.skipped * plane3_step;
  }
}

// kHadamard 1 is none: the row is then cut into the four blocks that share bytes. kDim 0: known at run time only.
template <class D, class E, int kHadamard, bool kAffine, int32_t kDim>
void unpack_run(const Run& from) {
  constexpr int kBlocks = kHadamard == 1 ? 4 : kHadamard;
  if (HWY_LIKELY(from.tier == 2)) {
    unpack_heads<D, E, kHadamard, kBlocks, kAffine, kDim, NibbleDecoder<D>>(from);
  } else {
    unpack_heads<D, E, kHadamard, kBlocks, kAffine, kDim, Decoder<D>>(from);
  }
}
using UnpackRun = void (*)(const Run& from);

template <class D, class E, int kHadamard, int32_t kDim = 0>
HWY_INLINE UnpackRun unpack_of(bool affine) {
  return affine ? &unpack_run<D, E, kHadamard, true, kDim> : &unpack_run<D, E, kHadamard, false, kDim>;
}
template <class D, class E>
HWY_INLINE UnpackRun unpack_of(int32_t hadamard, bool affine) {
  return hadamard == 0   ? unpack_of<D, E, 1>(affine)
         : hadamard == 8 ? unpack_of<D, E, 8>(affine)
                         : unpack_of<D, E, 16>(affine);
}
template <class E>
HWY_INLINE UnpackRun unpack_of(int32_t dim, int32_t hadamard, bool affine) {
  if (hadamard == 8 && dim == 64) return unpack_of<Eight, E, 8, 64>(affine);
  if (hadamard == 8 && dim == 128) return unpack_of<Wide, E, 8, 128>(affine);
  if (hadamard == 16 && dim == 256) return unpack_of<Wide, E, 16, 256>(affine);
  const int32_t block = dim / (hadamard == 0 ? 4 : hadamard);
  if (block < 4) return nullptr;
  if (block >= 16 && kWide >= 16) return unpack_of<Wide, E>(hadamard, affine);
  if (block >= 8 && kWide >= 8) return unpack_of<Eight, E>(hadamard, affine);
  return unpack_of<Four, E>(hadamard, affine);
}
// The function for rows of this kind; null when their blocks are shorter than the shortest vector.
HWY_INLINE UnpackRun unpack_for(const Rows& rows, int32_t hadamard, bool affine, bool saturate) {
  return rows.dtype == tiers::kF32    ? unpack_of<F32>(rows.dim, hadamard, affine)
         : rows.dtype == tiers::kBF16 ? unpack_of<BF16>(rows.dim, hadamard, affine)
         : saturate                   ? unpack_of<F16Saturating>(rows.dim, hadamard, affine)
                                      : unpack_of<F16>(rows.dim, hadamard, affine);
}

#endif  // SKV_SIMD
}  // namespace skv::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif  // SKV_UNPACK_INL_H_
