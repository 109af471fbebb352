// SPDX-License-Identifier: Apache-2.0
// Steps 5 and 6 of docs/wire-format.md on one row of one head, and their inverse's butterflies.
#include <utility>

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

// One pair of a step, if kAt is the lower one.
template <int kStep, int kAt, class V>
HWY_INLINE void butterfly_pair(V* y) {
  if constexpr ((kAt & kStep) == 0) {
    const V a = y[kAt];
    const V b = y[kAt + kStep];
    y[kAt] = hn::Add(a, b);
    // a - b to the bit, where additions have two pipes and products two others (Zen): 1.1 to 1.2 times as fast.
    y[kAt + kStep] = hn::NegMulAdd(b, hn::Set(hn::DFromV<V>(), 1.0F), a);
  }
}
template <int kStep, class V, int... kAt>
HWY_INLINE void butterfly_step(V* y, std::integer_sequence<int, kAt...>) {
  (butterfly_pair<kStep, kAt>(y), ...);
}
// The butterflies over y[0..n): each y[k] holds lanes of block k, so that they are plain adds. Indices are constants: a
// compiler that leaves one loop of 16 blocks keeps y in memory, at 2.6 times the cost.
template <int kN, int kStep = 1, class V>
HWY_INLINE void butterfly(V* y) {
  if constexpr (kStep < kN) {
    butterfly_step<kStep>(y, std::make_integer_sequence<int, kN>());
    butterfly<kN, kStep * 2>(y);
  }
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

// Rows to transform, some at a time, so that a call and its constants are paid for once.
constexpr int32_t kBatch = 16;
constexpr int32_t kBatchFloats = kMaxDim;  // 16 KiB, half of L1: 16 rows up to dim 256
struct Batch {
  int32_t count = 0;
  int32_t dim;
  const Affine& affine;
  const std::byte* x[kBatch];  // dim contiguous elements
  int32_t head[kBatch];
  HWY_ALIGN float largest[kBatch];  // step 7's A
  HWY_ALIGN float y[kBatchFloats];  // [count][dim]

  Batch(const Affine& with, int32_t of_dim) : dim(of_dim), affine(with) {}
  int32_t capacity() const { return HWY_MIN(kBatch, kBatchFloats / dim); }
};

// Fills y and largest: integer maximum over |bits|, as NaN > Inf > finite. Blocks of dim/n channels that are no
// multiple of the vector end with one that overlaps the last but one: it writes the same values again. kDim 0: known at
// run time only. Without kKeep y is left as it is: absmax wants nothing else.
template <class D, class E, int kN, bool kAffine, bool kKeep, int32_t kDim>
void transform_rows(Batch& batch) {
  const D d;
  const hn::RebindToSigned<D> di;
  const int32_t dim = kDim == 0 ? batch.dim : kDim;
  const int32_t block = dim / kN;
  float* y = batch.y;
  for (int32_t row = 0; row < batch.count; ++row, y += dim) {
    const std::byte* x = batch.x[row];
    const float* mean = kAffine ? batch.affine.add_of(batch.head[row]) : nullptr;
    const float* recip = kAffine ? batch.affine.mul_of(batch.head[row]) : nullptr;
    auto largest = hn::Zero(di);
    for (int32_t at = 0; at < block; at += lanes<D>()) {
      const int32_t i = within<D>(at, block);
      hn::VFromD<D> v[kN];
      for (int k = 0; k < kN; ++k) {
        const int32_t c = i + k * block;
        v[k] = E::load(d, x + static_cast<int64_t>(c) * E::kBytes);
        if (kAffine) v[k] = hn::Mul(hn::Sub(v[k], hn::LoadU(d, mean + c)), hn::LoadU(d, recip + c));
      }
      butterfly<kN>(v);
      for (int k = 0; k < kN; ++k) {
        if (kKeep) hn::StoreU(v[k], d, y + i + k * block);
        largest = hn::Max(largest, hn::BitCast(di, hn::Abs(v[k])));
      }
    }
    batch.largest[row] = tiers::float_of(static_cast<uint32_t>(hn::GetLane(hn::MaxOfLanes(di, largest))));
  }
}
using TransformRows = void (*)(Batch& batch);

template <class D, class E, bool kKeep, int kN, int32_t kDim = 0>
HWY_INLINE TransformRows transform_of(bool affine) {
  return affine ? &transform_rows<D, E, kN, true, kKeep, kDim> : &transform_rows<D, E, kN, false, kKeep, kDim>;
}
template <class D, class E, bool kKeep>
HWY_INLINE TransformRows transform_of(int32_t hadamard, bool affine) {
  return hadamard == 0   ? transform_of<D, E, kKeep, 1>(affine)
         : hadamard == 8 ? transform_of<D, E, kKeep, 8>(affine)
                         : transform_of<D, E, kKeep, 16>(affine);
}
template <class E, bool kKeep>
HWY_INLINE TransformRows transform_of(int32_t dim, int32_t hadamard, bool affine) {
  if (hadamard == 8 && dim == 64) return transform_of<Eight, E, kKeep, 8, 64>(affine);
  if (hadamard == 8 && dim == 128) return transform_of<Wide, E, kKeep, 8, 128>(affine);
  if (hadamard == 16 && dim == 256) return transform_of<Wide, E, kKeep, 16, 256>(affine);
  const int32_t block = dim / (hadamard == 0 ? 1 : hadamard);
  if (block < 4) return nullptr;
  if (block >= 16 && kWide >= 16) return transform_of<Wide, E, kKeep>(hadamard, affine);
  if (block >= 8 && kWide >= 8) return transform_of<Eight, E, kKeep>(hadamard, affine);
  return transform_of<Four, E, kKeep>(hadamard, affine);
}
// The function for rows of this kind; null when their blocks are shorter than the shortest vector.
template <bool kKeep = true>
HWY_INLINE TransformRows transform_for(const Rows& rows, int32_t hadamard, bool affine) {
  return rows.dtype == tiers::kF16    ? transform_of<F16, kKeep>(rows.dim, hadamard, affine)
         : rows.dtype == tiers::kBF16 ? transform_of<BF16, kKeep>(rows.dim, hadamard, affine)
                                      : transform_of<F32, kKeep>(rows.dim, hadamard, affine);
}

#endif  // SKV_SIMD
}  // namespace skv::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif  // SKV_TRANSFORM_INL_H_
