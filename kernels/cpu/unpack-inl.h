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
  template <int32_t kDim>
  HWY_INLINE void begin(const Run&, int32_t) {}
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
  template <int32_t kDim>
  HWY_INLINE void begin(const Run&, int32_t) {}
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
  template <int32_t kDim>
  HWY_INLINE void begin(const Run&, int32_t) {}
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

// The tiers with 2-bit planes: four channels a byte, a quarter of the row apart. Codes are put together as bytes, four
// times as many a vector as there are numbers, in the upper bits: then 2w = 2u + offset in each of these tiers.
struct Planes {
  template <int kBits, class V>
  static HWY_INLINE V left(V v) {
    const hn::DFromV<V> d;
    return hn::BitCast(d, hn::ShiftLeft<kBits>(hn::BitCast(hn::Repartition<uint16_t, decltype(d)>(), v)));
  }
  template <int kBits, class V>
  static HWY_INLINE V right(V v) {
    const hn::DFromV<V> d;
    return hn::BitCast(d, hn::ShiftRight<kBits>(hn::BitCast(hn::Repartition<uint16_t, decltype(d)>(), v)));
  }

  // One vector of bytes of each plane to one of each quarter. Shifts carry bits from byte to byte: choose() cuts them.
  template <uint8_t kTier, class D>
  static HWY_INLINE void assemble(D d, const Run& from, int32_t j, int32_t quarter, uint8_t* to) {
    const auto at = [d](const std::byte* p) HWY_ATTR { return hn::LoadU(d, reinterpret_cast<const uint8_t*>(p)); };
    const auto first = at(from.body + j);
    if constexpr (kTier == 1) {
      const auto upper = hn::Set(d, uint8_t{0xC0});
      hn::StoreU(hn::And(left<6>(first), upper), d, to + j);
      hn::StoreU(hn::And(left<4>(first), upper), d, to + j + quarter);
      hn::StoreU(hn::And(left<2>(first), upper), d, to + j + 2 * quarter);
      hn::StoreU(hn::And(first, upper), d, to + j + 3 * quarter);
      return;
    }
    // The nibbles of quarters 0 and 2 are in byte j, of 1 and 3 a quarter on.
    const auto second = at(from.body + j + quarter);
    const auto p2 = at(from.plane2 + j);
    const auto p3 = kTier == 4 ? at(from.plane3 + j) : hn::Zero(d);
    const auto low0 = choose(d, 0x0C, left<2>(p2), p3);
    const auto low1 = choose(d, 0x0C, p2, right<2>(p3));
    const auto low2 = choose(d, 0x0C, right<2>(p2), right<4>(p3));
    const auto low3 = choose(d, 0x0C, right<4>(p2), right<6>(p3));
    hn::StoreU(choose(d, 0xF0, left<4>(first), low0), d, to + j);
    hn::StoreU(choose(d, 0xF0, left<4>(second), low1), d, to + j + quarter);
    hn::StoreU(choose(d, 0xF0, first, low2), d, to + j + 2 * quarter);
    hn::StoreU(choose(d, 0xF0, second, low3), d, to + j + 3 * quarter);
  }
  template <uint8_t kTier, class D>
  static HWY_INLINE void row(D d, const Run& from, int32_t quarter, uint8_t* to) {
    constexpr auto kLanes = static_cast<int32_t>(hn::MaxLanes(d));
    for (int32_t at = 0; at < quarter; at += kLanes) {
      assemble<kTier>(d, from, at + kLanes <= quarter ? at : quarter - kLanes, quarter, to);
    }
  }
  template <class D>
  static HWY_INLINE void row(D d, const Run& from, int32_t quarter, uint8_t* to) {
    if (from.tier == 1) {
      row<1>(d, from, quarter, to);
    } else if (from.tier == 3) {
      row<3>(d, from, quarter, to);
    } else {
      row<4>(d, from, quarter, to);
    }
  }
  // Of any dim; once in the library, not in each of its callers.
  static HWY_NOINLINE void row_of(const Run& from, int32_t dim, uint8_t* to) {
    const int32_t quarter = dim / 4;
    if (quarter >= 32) {
      row(hn::CappedTag<uint8_t, 32>(), from, quarter, to);
    } else if (quarter >= 16) {
      row(hn::CappedTag<uint8_t, 16>(), from, quarter, to);
    } else if (quarter >= 8) {
      row(hn::CappedTag<uint8_t, 8>(), from, quarter, to);
    } else {
      row(hn::CappedTag<uint8_t, 2>(), from, quarter, to);  // a row has 8 channels at least
    }
  }
};

// A row's codes, of which read_codes() then takes some lanes of each block.
template <class D>
struct PlaneDecoder {
  using VI = hn::VFromD<hn::RebindToSigned<D>>;
  VI offset;
  hn::VFromD<D> scale;
  uint8_t codes[kMaxDim];

  HWY_INLINE explicit PlaneDecoder(const Rule& rule) : offset(hn::Set(hn::RebindToSigned<D>(), rule.offset)) {}
  HWY_INLINE void set(hn::VFromD<D> half_scale) { scale = half_scale; }
  template <int32_t kDim>
  HWY_INLINE void begin(const Run& from, int32_t dim) {
    if constexpr (kDim == 0) {
      Planes::row_of(from, dim, codes);
    } else {
      Planes::row(hn::CappedTag<uint8_t, HWY_MIN(kDim / 4, 32)>(), from, kDim / 4, codes);
    }
  }
};
template <class D, int kBlocks>
HWY_INLINE void read_codes(const PlaneDecoder<D>& decoder, const Run&, int32_t i, int32_t block, hn::VFromD<D>* v) {
  const hn::RebindToSigned<D> di;
  for (int k = 0; k < kBlocks; ++k) {
    const auto u = hn::PromoteTo(di, hn::LoadU(hn::Rebind<uint8_t, D>(), decoder.codes + i + k * block));
    v[k] = hn::Mul(hn::ConvertTo(D(), hn::Add(hn::Add(u, u), decoder.offset)), decoder.scale);
  }
}

// kBlocks blocks of a row; with a decoder for the tier.
template <class D, class E, int kHadamard, int kBlocks, bool kAffine, bool kStream, int32_t kDim, class Codes>
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
      codes.template begin<kDim>(from, dim);
      for (int32_t at = 0; at < block; at += lanes<D>()) {
        const int32_t i = within<D>(at, block);
        hn::VFromD<D> v[kBlocks];
        read_codes<D, kBlocks>(codes, from, i, block, v);
        butterfly<kHadamard>(v);
        for (int k = 0; k < kBlocks; ++k) {
          const int32_t c = i + k * block;
          if (kAffine) v[k] = hn::Add(hn::Mul(v[k], hn::LoadU(d, balance + c)), hn::LoadU(d, mean + c));
          store_elements<E, kStream>(d, v[k], to + static_cast<int64_t>(c) * E::kBytes);
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

// A row without butterflies is cut into the four blocks that share bytes.
constexpr int kPlainBlocks = 4;

// kHadamard 1 is none. kDim 0: known at run time only.
template <class D, class E, int kHadamard, bool kAffine, bool kStream, int32_t kDim>
void unpack_run(const Run& from) {
  constexpr int kBlocks = kHadamard == 1 ? kPlainBlocks : kHadamard;
  if (HWY_LIKELY(from.tier == 2)) {
    unpack_heads<D, E, kHadamard, kBlocks, kAffine, kStream, kDim, NibbleDecoder<D>>(from);
  } else {
    unpack_heads<D, E, kHadamard, kBlocks, kAffine, kStream, kDim, PlaneDecoder<D>>(from);
  }
}
using UnpackRun = void (*)(const Run& from);

// Lanes of the vectors that blocks of this many channels are cut into.
HWY_INLINE int32_t unpack_lanes(int32_t block) {
  return block >= 16 && kWide >= 16 ? 16 : block >= 8 && kWide >= 8 ? 8 : 4;
}

// How rows are stored.
enum class Storing : uint8_t { kQuick, kStreamed, kSaturating };

// What a vector stores must be half a line at least to go past the caches: quarters (8 halves, as of rows of 64) were
// slower than ordinary stores.
constexpr int32_t kLeastStreamed = 32;

template <class D, class E, int kHadamard, bool kStream, int32_t kDim = 0>
HWY_INLINE UnpackRun unpack_of(bool affine) {
  constexpr bool kStreams = kStream && lanes<D>() * E::kBytes >= kLeastStreamed;
  return affine ? &unpack_run<D, E, kHadamard, true, kStreams, kDim>
                : &unpack_run<D, E, kHadamard, false, kStreams, kDim>;
}
template <class D, class E, bool kStream>
HWY_INLINE UnpackRun unpack_of(int32_t hadamard, bool affine) {
  return hadamard == 0   ? unpack_of<D, E, 1, kStream>(affine)
         : hadamard == 8 ? unpack_of<D, E, 8, kStream>(affine)
                         : unpack_of<D, E, 16, kStream>(affine);
}
template <class E, bool kStream>
HWY_INLINE UnpackRun unpack_of(int32_t dim, int32_t hadamard, bool affine) {
  if (hadamard == 8 && dim == 64) return unpack_of<Eight, E, 8, kStream, 64>(affine);
  if (hadamard == 8 && dim == 128) return unpack_of<Wide, E, 8, kStream, 128>(affine);
  if (hadamard == 16 && dim == 256) return unpack_of<Wide, E, 16, kStream, 256>(affine);
  const int32_t block = dim / (hadamard == 0 ? kPlainBlocks : hadamard);
  if (block < 4) return nullptr;
  const int32_t lanes_of = unpack_lanes(block);
  if (lanes_of == 16) return unpack_of<Wide, E, kStream>(hadamard, affine);
  if (lanes_of == 8) return unpack_of<Eight, E, kStream>(hadamard, affine);
  return unpack_of<Four, E, kStream>(hadamard, affine);
}
// The function for rows of this kind; null when their blocks are shorter than the shortest vector.
HWY_INLINE UnpackRun unpack_for(const Rows& rows, int32_t hadamard, bool affine, Storing storing) {
  const int32_t dim = rows.dim;
  if (storing == Storing::kStreamed) {
    return rows.dtype == tiers::kF32    ? unpack_of<F32, true>(dim, hadamard, affine)
           : rows.dtype == tiers::kBF16 ? unpack_of<BF16, true>(dim, hadamard, affine)
                                        : unpack_of<F16, true>(dim, hadamard, affine);
  }
  return rows.dtype == tiers::kF32         ? unpack_of<F32, false>(dim, hadamard, affine)
         : rows.dtype == tiers::kBF16      ? unpack_of<BF16, false>(dim, hadamard, affine)
         : storing == Storing::kSaturating ? unpack_of<F16Saturating, false>(dim, hadamard, affine)
                                           : unpack_of<F16, false>(dim, hadamard, affine);
}

#endif  // SKV_SIMD
}  // namespace skv::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif  // SKV_UNPACK_INL_H_
