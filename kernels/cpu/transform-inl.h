// SPDX-License-Identifier: Apache-2.0
// Steps 5 and 6 of docs/wire-format.md on one row of one head, and their inverse's butterflies.
#include "kernels/cpu/rows-inl.h"

#if defined(SKV_TRANSFORM_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SKV_TRANSFORM_INL_H_
#undef SKV_TRANSFORM_INL_H_
#else
#define SKV_TRANSFORM_INL_H_
#endif

HWY_BEFORE_NAMESPACE();
namespace skv::kernels::HWY_NAMESPACE {
#if SKV_SIMD

// The butterflies over y[0..n): each y[k] holds lanes of block k, so that they are plain adds.
template <int kN, class V>
HWY_INLINE void butterfly(V* y) {
  for (int h = 1; h < kN; h *= 2) {
    for (int k = 0; k < kN; ++k) {
      if ((k & h) != 0) continue;
      const V a = y[k];
      const V b = y[k + h];
      y[k] = hn::Add(a, b);
      y[k + h] = hn::Sub(a, b);
    }
  }
}

// x to y[dim]; returns the bits of max |y| (integer maximum: NaN > Inf > finite). Blocks of dim/n channels that are no
// multiple of the vector end with one that overlaps the last but one: it writes the same values again.
template <class D, class E, int kN, bool kAffine>
uint32_t transform_row(const std::byte* x, const float* mean, const float* recip, int32_t dim, float* y) {
  const D d;
  const hn::RebindToSigned<D> di;
  constexpr int32_t kLanes = lanes<D>();
  const int32_t block = dim / kN;
  auto largest = hn::Zero(di);
  for (int32_t at = 0; at < block; at += kLanes) {
    const int32_t i = at + kLanes <= block ? at : block - kLanes;
    hn::VFromD<D> v[kN];
    for (int k = 0; k < kN; ++k) {
      const int32_t c = i + k * block;
      v[k] = E::load(d, x + static_cast<int64_t>(c) * E::kBytes);
      if (kAffine) v[k] = hn::Mul(hn::Sub(v[k], hn::LoadU(d, mean + c)), hn::LoadU(d, recip + c));
    }
    butterfly<kN>(v);
    for (int k = 0; k < kN; ++k) {
      hn::StoreU(v[k], d, y + i + k * block);
      largest = hn::Max(largest, hn::BitCast(di, hn::Abs(v[k])));
    }
  }
  return static_cast<uint32_t>(hn::GetLane(hn::MaxOfLanes(di, largest)));
}

using TransformRow = uint32_t (*)(const std::byte* x, const float* mean, const float* recip, int32_t dim, float* y);

template <class D, class E, int kN>
HWY_INLINE TransformRow transform_of(bool affine) {
  return affine ? &transform_row<D, E, kN, true> : &transform_row<D, E, kN, false>;
}
template <class D, class E>
HWY_INLINE TransformRow transform_of(int32_t hadamard, bool affine) {
  return hadamard == 0   ? transform_of<D, E, 1>(affine)
         : hadamard == 8 ? transform_of<D, E, 8>(affine)
                         : transform_of<D, E, 16>(affine);
}
template <class D>
HWY_INLINE TransformRow transform_of(int32_t dtype, int32_t hadamard, bool affine) {
  return dtype == tiers::kF16    ? transform_of<D, F16>(hadamard, affine)
         : dtype == tiers::kBF16 ? transform_of<D, BF16>(hadamard, affine)
                                 : transform_of<D, F32>(hadamard, affine);
}
// The function for rows of this kind; null when their blocks are shorter than the shortest vector.
HWY_INLINE TransformRow transform_for(const Rows& rows, int32_t hadamard, bool affine) {
  const int32_t block = rows.dim / (hadamard == 0 ? 1 : hadamard);
  if (block < 4) return nullptr;
  if (block >= 16 && kWide >= 16) return transform_of<Wide>(rows.dtype, hadamard, affine);
  if (block >= 8 && kWide >= 8) return transform_of<Eight>(rows.dtype, hadamard, affine);
  return transform_of<Four>(rows.dtype, hadamard, affine);
}

// Vectors of an affine step per head; a missing one is replaced by one that changes nothing, not even the sign of zero.
struct Affine {
  const float* add;
  const float* mul;
  int64_t add_stride;
  int64_t mul_stride;
  bool any;
  float neutral[kMaxDim];

  Affine(const float* add_to, float nothing, const float* mul_by, int32_t dim)
      : add(add_to), mul(mul_by), add_stride(dim), mul_stride(dim), any(add_to != nullptr || mul_by != nullptr) {
    if (!any || (add_to != nullptr && mul_by != nullptr)) return;
    for (int32_t c = 0; c < dim; ++c) neutral[c] = add_to == nullptr ? nothing : 1.0F;
    if (add_to == nullptr) {
      add = neutral;
      add_stride = 0;
    } else {
      mul = neutral;
      mul_stride = 0;
    }
  }
  const float* add_of(int32_t head) const { return any ? add + head * add_stride : nullptr; }
  const float* mul_of(int32_t head) const { return any ? mul + head * mul_stride : nullptr; }
};

#endif  // SKV_SIMD
}  // namespace skv::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif  // SKV_TRANSFORM_INL_H_
