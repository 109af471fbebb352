// SPDX-License-Identifier: Apache-2.0
// Dot products, weighted sums, softmax and costs for the scores.
#include "kernels/cpu/exp.h"
#include "kernels/cpu/hwy_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/score.cc"
#include "hwy/foreach_target.h"
#include "kernels/cpu/rows-inl.h"

HWY_BEFORE_NAMESPACE();
namespace skv::kernels::HWY_NAMESPACE {
#if SKV_SIMD
namespace {

constexpr int32_t kAccumulators = 16;                    // of a dot product, by definition (kernels.h)
constexpr int32_t kParts = kAccumulators / kWide;        // vectors that hold them
constexpr int32_t kTokensAtOnce = kTileBytes / 4 / 512;  // 16 rows of dim 512 as f32

// Rows [first, first + count) of a head as f32, [count][dim].
template <class E>
HWY_INLINE void widen(const std::byte* x, int32_t dim, float* to) {
  int32_t c = 0;
  for (; c + kWide <= dim; c += kWide) {
    hn::StoreU(E::load(Wide(), x + static_cast<int64_t>(c) * E::kBytes), Wide(), to + c);
  }
  for (; c < dim; c += 4) hn::StoreU(E::load(Four(), x + static_cast<int64_t>(c) * E::kBytes), Four(), to + c);
}
void widen_rows(const Rows& rows, int32_t first, int32_t count, int32_t head, std::byte* tile, float* to) {
  const bool direct = contiguous(rows);
  const int64_t row_bytes = static_cast<int64_t>(rows.dim) * tiers::element_bytes(rows.dtype);
  if (!direct) gather_tile(rows, first, count, head, tile);
  for (int32_t t = 0; t < count; ++t, to += rows.dim) {
    const std::byte* x = direct ? element(rows, first + t, head, 0) : tile + t * row_bytes;
    if (rows.dtype == tiers::kF16) {
      widen<F16>(x, rows.dim, to);
    } else if (rows.dtype == tiers::kBF16) {
      widen<BF16>(x, rows.dim, to);
    } else {
      widen<F32>(x, rows.dim, to);
    }
  }
}
HWY_INLINE int32_t rows_at_once(const Rows& rows) {
  return HWY_MAX(1, HWY_MIN(tile_tokens(rows), HWY_MIN(kTokensAtOnce, kTileBytes / 4 / rows.dim)));
}

// The 16 accumulators by halves: l with l+8, then with l+4.
template <int kVectors, class V>
HWY_INLINE hn::VFromD<Four> fold(const V (&sum)[kVectors]) {
  const Four d4;
  if constexpr (kVectors == 1) {
    const hn::Half<Wide> d8;
    const auto eight = hn::Add(hn::LowerHalf(d8, sum[0]), hn::UpperHalf(d8, sum[0]));
    return hn::Add(hn::LowerHalf(d4, eight), hn::UpperHalf(d4, eight));
  } else if constexpr (kVectors == 2) {
    const auto eight = hn::Add(sum[0], sum[1]);
    return hn::Add(hn::LowerHalf(d4, eight), hn::UpperHalf(d4, eight));
  } else {
    return hn::Add(hn::Add(sum[0], sum[2]), hn::Add(sum[1], sum[3]));
  }
}

// Dot products of one vector with kRows rows, 4 or 1: the vector's lanes are loaded once for them.
template <int kRows>
HWY_INLINE void dot_rows(const float* vector, const float* x, int32_t dim, float* out) {
  const Wide d;
  const Four d4;
  hn::VFromD<Wide> sum[kRows][kParts];
  for (int r = 0; r < kRows; ++r) {
    for (int p = 0; p < kParts; ++p) sum[r][p] = hn::Zero(d);
  }
  int32_t c = 0;
  for (; c + kAccumulators <= dim; c += kAccumulators) {
    for (int p = 0; p < kParts; ++p) {
      const auto v = hn::LoadU(d, vector + c + p * kWide);
      for (int r = 0; r < kRows; ++r) {
        const auto product = hn::Mul(v, hn::LoadU(d, x + static_cast<int64_t>(r) * dim + c + p * kWide));
        sum[r][p] = hn::Add(sum[r][p], product);
      }
    }
  }
  if (c < dim) {  // 8 channels are left, of the first 8 accumulators
    HWY_ALIGN float lane[kAccumulators];
    for (int r = 0; r < kRows; ++r) {
      for (int p = 0; p < kParts; ++p) hn::Store(sum[r][p], d, lane + p * kWide);
      for (int32_t l = 0; l < 8; l += 4) {
        const auto product =
            hn::Mul(hn::LoadU(d4, vector + c + l), hn::LoadU(d4, x + static_cast<int64_t>(r) * dim + c + l));
        hn::Store(hn::Add(hn::Load(d4, lane + l), product), d4, lane + l);
      }
      for (int p = 0; p < kParts; ++p) sum[r][p] = hn::Load(d, lane + p * kWide);
    }
  }
  if constexpr (kRows == 4) {  // the last two halvings of all four at once
    const auto s0 = fold(sum[0]), s1 = fold(sum[1]), s2 = fold(sum[2]), s3 = fold(sum[3]);
    const auto s01 = hn::Add(hn::InterleaveLower(d4, s0, s1), hn::InterleaveUpper(d4, s0, s1));
    const auto s23 = hn::Add(hn::InterleaveLower(d4, s2, s3), hn::InterleaveUpper(d4, s2, s3));
    hn::StoreU(hn::Add(hn::ConcatLowerLower(d4, s23, s01), hn::ConcatUpperUpper(d4, s23, s01)), d4, out);
  } else {
    HWY_ALIGN float lane[4];
    hn::Store(fold(sum[0]), d4, lane);
    out[0] = (lane[0] + lane[2]) + (lane[1] + lane[3]);
  }
}

// kLanes channels of one output row over count tokens.
template <class D, int kVectors>
HWY_INLINE void add_weighted(const float* weight, const float* x, int32_t count, int32_t dim, float* out) {
  const D d;
  hn::VFromD<D> sum[kVectors];
  for (int p = 0; p < kVectors; ++p) sum[p] = hn::LoadU(d, out + p * lanes<D>());
  for (int32_t t = 0; t < count; ++t, x += dim) {
    const auto w = hn::Set(d, weight[t]);
    for (int p = 0; p < kVectors; ++p) sum[p] = hn::Add(sum[p], hn::Mul(w, hn::LoadU(d, x + p * lanes<D>())));
  }
  for (int p = 0; p < kVectors; ++p) hn::StoreU(sum[p], d, out + p * lanes<D>());
}

template <class D>
HWY_INLINE hn::VFromD<D> exp_lanes(D d, hn::VFromD<D> x) {
  const hn::RebindToUnsigned<D> du;
  const hn::RebindToSigned<D> di;
  const auto magic = hn::Set(d, kExpMagic);
  const auto rounded = hn::Add(hn::Mul(x, hn::Set(d, kExpLog2e)), magic);
  const auto n = hn::Sub(hn::BitCast(du, rounded), hn::Set(du, kExpMagicBits));
  const auto whole = hn::Sub(rounded, magic);
  const auto r = hn::Sub(hn::Sub(x, hn::Mul(whole, hn::Set(d, kExpLn2High))), hn::Mul(whole, hn::Set(d, kExpLn2Low)));
  auto p = hn::Set(d, kExpPoly[0]);
  for (int i = 1; i < 6; ++i) p = hn::Add(hn::Mul(p, r), hn::Set(d, kExpPoly[i]));
  p = hn::Add(hn::Add(hn::Mul(p, hn::Mul(r, r)), r), hn::Set(d, 1.0F));
  const auto half = hn::BitCast(du, hn::ShiftRight<1>(hn::BitCast(di, n)));
  const auto bias = hn::Set(du, 127U);
  const auto low = hn::BitCast(d, hn::ShiftLeft<23>(hn::Add(half, bias)));
  const auto high = hn::BitCast(d, hn::ShiftLeft<23>(hn::Add(hn::Sub(n, half), bias)));
  auto value = hn::Mul(hn::Mul(p, low), high);
  value = hn::IfThenElse(hn::Gt(x, hn::Set(d, kExpHighest)), hn::Inf(d), value);
  return hn::IfThenElse(hn::Lt(x, hn::Set(d, kExpLowest)), hn::Zero(d), value);
}

}  // namespace

void dots(const Rows& rows, int32_t head, const float* vectors, int32_t count, float* out) {
  HWY_ALIGN std::byte tile[kTileBytes];
  HWY_ALIGN float x[kTileBytes / 4];
  const int32_t run = rows_at_once(rows);
  for (int32_t first = 0; first < rows.tokens; first += run) {
    const int32_t n = HWY_MIN(run, rows.tokens - first);
    widen_rows(rows, first, n, head, tile, x);
    for (int32_t i = 0; i < count; ++i) {
      const float* vector = vectors + static_cast<int64_t>(i) * rows.dim;
      float* to = out + static_cast<int64_t>(i) * rows.tokens + first;
      int32_t t = 0;
      for (; t + 4 <= n; t += 4) dot_rows<4>(vector, x + static_cast<int64_t>(t) * rows.dim, rows.dim, to + t);
      for (; t < n; ++t) dot_rows<1>(vector, x + static_cast<int64_t>(t) * rows.dim, rows.dim, to + t);
    }
  }
}

void accumulate(const Rows& rows, int32_t head, const float* weights, int64_t weight_stride, int32_t count,
                float* out) {
  HWY_ALIGN std::byte tile[kTileBytes];
  HWY_ALIGN float x[kTileBytes / 4];
  const int32_t run = rows_at_once(rows);
  const int32_t dim = rows.dim;
  for (int32_t first = 0; first < rows.tokens; first += run) {
    const int32_t n = HWY_MIN(run, rows.tokens - first);
    widen_rows(rows, first, n, head, tile, x);
    for (int32_t i = 0; i < count; ++i) {
      const float* weight = weights + i * weight_stride + first;
      float* to = out + static_cast<int64_t>(i) * dim;
      int32_t c = 0;
      for (; c + 4 * kWide <= dim; c += 4 * kWide) add_weighted<Wide, 4>(weight, x + c, n, dim, to + c);
      for (; c + kWide <= dim; c += kWide) add_weighted<Wide, 1>(weight, x + c, n, dim, to + c);
      for (; c < dim; c += 4) add_weighted<Four, 1>(weight, x + c, n, dim, to + c);
    }
  }
}

void softmax(float* values, size_t n, float scale) {
  const Wide d;
  const Four d4;
  constexpr size_t kLanes = hn::MaxLanes(Wide());
  constexpr size_t kBlock = kAccumulators;
  const size_t whole = n / kBlock * kBlock;
  float top = values[0];
  if (whole != 0) {
    auto most = hn::LoadU(d, values);
    for (size_t i = kLanes; i < whole; i += kLanes) most = hn::Max(most, hn::LoadU(d, values + i));
    top = hn::GetLane(hn::MaxOfLanes(d, most));
  }
  for (size_t i = whole; i < n; ++i) top = values[i] > top ? values[i] : top;
  const float shift = top * scale;
  const auto times = hn::Set(d, scale);
  const auto less = hn::Set(d, shift);
  hn::VFromD<Wide> sum[kParts];
  for (int p = 0; p < kParts; ++p) sum[p] = hn::Zero(d);
  for (size_t i = 0; i < whole; i += kBlock) {
    for (int p = 0; p < kParts; ++p) {
      float* at = values + i + static_cast<size_t>(p) * kLanes;
      const auto e = exp_lanes(d, hn::Sub(hn::Mul(hn::LoadU(d, at), times), less));
      hn::StoreU(e, d, at);
      sum[p] = hn::Add(sum[p], e);
    }
  }
  HWY_ALIGN float lane[kAccumulators];
  for (int p = 0; p < kParts; ++p) hn::Store(sum[p], d, lane + p * kWide);
  for (size_t i = whole; i < n; ++i) {
    values[i] = exp_of(values[i] * scale - shift);
    lane[i - whole] += values[i];
  }
  for (int p = 0; p < kParts; ++p) sum[p] = hn::Load(d, lane + p * kWide);
  hn::Store(fold(sum), d4, lane);
  const float inverse = 1.0F / ((lane[0] + lane[2]) + (lane[1] + lane[3]));
  const auto by = hn::Set(d, inverse);
  for (size_t i = 0; i < whole; i += kLanes) hn::StoreU(hn::Mul(hn::LoadU(d, values + i), by), d, values + i);
  for (size_t i = whole; i < n; ++i) values[i] *= inverse;
}

void charge(const float* a, const float* products, const float* norms, size_t n, float output, float q2, float* mass,
            float* k, float* v) {
  const Wide d;
  constexpr size_t kLanes = hn::MaxLanes(Wide());
  const auto out = hn::Set(d, output);
  const auto squares = hn::Set(d, q2);
  size_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    const auto x = hn::LoadU(d, a + i);
    const auto square = hn::Mul(x, x);
    hn::StoreU(hn::Add(hn::LoadU(d, mass + i), x), d, mass + i);
    auto distance = hn::Set(d, 1.0F);
    if (products != nullptr) {
      const auto twice = hn::Mul(hn::Set(d, 2.0F), hn::LoadU(d, products + i));
      distance = hn::Max(hn::Add(hn::Sub(hn::LoadU(d, norms + i), twice), out), hn::Zero(d));  // a NaN gives 0
      hn::StoreU(hn::Add(hn::LoadU(d, v + i), square), d, v + i);
    }
    const auto cost = hn::Mul(hn::Mul(square, distance), squares);
    hn::StoreU(hn::Add(hn::LoadU(d, k + i), cost), d, k + i);
  }
  for (; i < n; ++i) charge_one(a, products, norms, i, output, q2, mass, k, v);
}

#endif  // SKV_SIMD
}  // namespace skv::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
