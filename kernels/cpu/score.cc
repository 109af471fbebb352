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
constexpr int32_t kTurnedDim = 1024;                     // of the rows that dots() turns: 64 KiB of stack
constexpr int kVectorsAtOnce = 4;  // of dot_turned(): their innermost sums and a row of lanes fit 16 registers
constexpr int kOutputsAtOnce = HWY_TARGET == HWY_AVX2 ? 2 : 4;  // of add_rows(): four vectors of sums each

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

// The dot product of a vector and a row.
HWY_INLINE void dot_row(const float* vector, const float* x, int32_t dim, float* out) {
  const Wide d;
  const Four d4;
  hn::VFromD<Wide> sum[kParts];
  for (int p = 0; p < kParts; ++p) sum[p] = hn::Zero(d);
  int32_t c = 0;
  for (; c + kAccumulators <= dim; c += kAccumulators) {
    for (int p = 0; p < kParts; ++p) {
      const int32_t at = c + p * kWide;
      sum[p] = hn::Add(sum[p], hn::Mul(hn::LoadU(d, vector + at), hn::LoadU(d, x + at)));
    }
  }
  if (c < dim) {  // 8 channels are left, of the first 8 accumulators
    HWY_ALIGN float lane[kAccumulators];
    for (int p = 0; p < kParts; ++p) hn::Store(sum[p], d, lane + p * kWide);
    for (int32_t l = 0; l < 8; l += 4) {
      const auto product = hn::Mul(hn::LoadU(d4, vector + c + l), hn::LoadU(d4, x + c + l));
      hn::Store(hn::Add(hn::Load(d4, lane + l), product), d4, lane + l);
    }
    for (int p = 0; p < kParts; ++p) sum[p] = hn::Load(d, lane + p * kWide);
  }
  HWY_ALIGN float lane[4];
  hn::Store(fold(sum), d4, lane);
  *out = (lane[0] + lane[2]) + (lane[1] + lane[3]);
}

// Calls use(first, n, x) for runs of tokens with their rows [n][dim] as f32.
template <class Use>
HWY_INLINE void each_run(const Rows& rows, int32_t head, const Use& use) {
  HWY_ALIGN std::byte tile[kTileBytes];
  HWY_ALIGN float x[kTileBytes / 4];
  const int32_t run = rows_at_once(rows);
  for (int32_t first = 0; first < rows.tokens; first += run) {
    const int32_t n = HWY_MIN(run, rows.tokens - first);
    widen_rows(rows, first, n, head, tile, x);
    use(first, n, static_cast<const float*>(x));
  }
}

// Up to kWide tokens from `first` on, one a lane: [dim][kWide]. What is in the lanes beyond `count` is unspecified.
HWY_INLINE void turn_rows(const Rows& rows, int32_t first, int32_t count, int32_t head, std::byte* tile, float* x,
                          float* turned) {
  const auto dim = static_cast<int64_t>(rows.dim);
  const int32_t run = rows_at_once(rows) / 4 * 4;  // at least 8 rows of kTurnedDim
  for (int32_t at = 0; at < count; at += run) {
    const int32_t n = HWY_MIN(run, count - at);
    widen_rows(rows, first + at, n, head, tile, x);
    for (int32_t t = 0; t < n; t += 4) {
      for (int64_t missing = n; missing < t + 4; ++missing) {
        for (int64_t c = 0; c < dim; ++c) x[missing * dim + c] = 0.0F;
      }
      for (int64_t c = 0; c < dim; c += 4) {
        transpose(uint32_t{}, reinterpret_cast<const std::byte*>(x + t * dim + c), dim * 4,
                  reinterpret_cast<std::byte*>(turned + c * kWide + at + t), kWide * 4);
      }
    }
  }
}

// The accumulators l, l + kStep, l + 2 kStep … of kCount vectors' dot products with kWide tokens, added up by halves:
// the innermost pairs first, so that few are alive at once.
template <int kStep, int kCount>
HWY_INLINE void tree(const float* vectors, const float* turned, int32_t dim, int32_t l,
                     hn::VFromD<Wide> (&sum)[kCount]) {
  const Wide d;
  if constexpr (kStep == kAccumulators) {
    for (int i = 0; i < kCount; ++i) sum[i] = hn::Zero(d);
    if (l >= dim) return;  // of dim 8
    const auto first = hn::LoadU(d, turned + static_cast<int64_t>(l) * kWide);
    for (int i = 0; i < kCount; ++i) sum[i] = hn::Mul(hn::Set(d, vectors[static_cast<int64_t>(i) * dim + l]), first);
    for (int32_t c = l + kAccumulators; c < dim; c += kAccumulators) {
      const auto x = hn::LoadU(d, turned + static_cast<int64_t>(c) * kWide);
      for (int i = 0; i < kCount; ++i) {
        sum[i] = hn::Add(sum[i], hn::Mul(hn::Set(d, vectors[static_cast<int64_t>(i) * dim + c]), x));
      }
    }
  } else {
    hn::VFromD<Wide> other[kCount];
    tree<2 * kStep>(vectors, turned, dim, l, sum);
    tree<2 * kStep>(vectors, turned, dim, l + kStep, other);
    for (int i = 0; i < kCount; ++i) sum[i] = hn::Add(sum[i], other[i]);
  }
}

// kCount vectors' dot products with n turned tokens.
template <int kCount>
HWY_INLINE void dot_turned(const float* vectors, const float* turned, int32_t dim, int32_t n, float* out,
                           int64_t out_stride) {
  const Wide d;
  hn::VFromD<Wide> sum[kCount];
  tree<1>(vectors, turned, dim, 0, sum);
  for (int i = 0; i < kCount; ++i) {
    sum[i] = hn::Add(sum[i], hn::Zero(d));  // accumulators begin at 0: never -0
    float* to = out + i * out_stride;
    if (n == kWide) {
      hn::StoreU(sum[i], d, to);
    } else {
      HWY_ALIGN float lane[kWide];
      hn::Store(sum[i], d, lane);
      for (int32_t t = 0; t < n; ++t) to[t] = lane[t];
    }
  }
}

// kVectors of channels of kCount output rows over n tokens.
template <class D, int kVectors, int kCount>
HWY_INLINE void add_weighted(const float* weights, int64_t weight_stride, const float* x, int32_t n, int64_t dim,
                             float* out) {
  const D d;
  hn::VFromD<D> sum[kCount][kVectors];
  for (int i = 0; i < kCount; ++i) {
    for (int p = 0; p < kVectors; ++p) sum[i][p] = hn::LoadU(d, out + i * dim + p * lanes<D>());
  }
  for (int32_t t = 0; t < n; ++t, x += dim) {
    hn::VFromD<D> row[kVectors];
    for (int p = 0; p < kVectors; ++p) row[p] = hn::LoadU(d, x + p * lanes<D>());
    for (int i = 0; i < kCount; ++i) {
      const auto w = hn::Set(d, weights[i * weight_stride + t]);
      for (int p = 0; p < kVectors; ++p) sum[i][p] = hn::Add(sum[i][p], hn::Mul(w, row[p]));
    }
  }
  for (int i = 0; i < kCount; ++i) {
    for (int p = 0; p < kVectors; ++p) hn::StoreU(sum[i][p], d, out + i * dim + p * lanes<D>());
  }
}
template <int kCount>
HWY_INLINE void add_rows(const float* weights, int64_t weight_stride, const float* x, int32_t n, int32_t dim,
                         float* out) {
  int32_t c = 0;
  for (; c + 4 * kWide <= dim; c += 4 * kWide) {
    add_weighted<Wide, 4, kCount>(weights, weight_stride, x + c, n, dim, out + c);
  }
  for (; c + kWide <= dim; c += kWide) {
    add_weighted<Wide, 1, kCount>(weights, weight_stride, x + c, n, dim, out + c);
  }
  for (; c < dim; c += 4) add_weighted<Four, 1, kCount>(weights, weight_stride, x + c, n, dim, out + c);
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

void dots(const Rows& rows, int32_t head, const float* vectors, int32_t count, float* out, int64_t out_stride) {
  const auto dim = static_cast<int64_t>(rows.dim);
  if (dim > kTurnedDim) {
    each_run(rows, head, [&](int32_t first, int32_t n, const float* x) HWY_ATTR {
      for (int32_t i = 0; i < count; ++i) {
        float* to = out + i * out_stride + first;
        for (int32_t t = 0; t < n; ++t) dot_row(vectors + i * dim, x + t * dim, rows.dim, to + t);
      }
    });
    return;
  }
  HWY_ALIGN std::byte tile[kTileBytes];
  HWY_ALIGN float x[kTileBytes / 4];
  HWY_ALIGN float turned[kTurnedDim * kWide];
  for (int64_t i = 0; rows.tokens < kWide && i < dim * kWide; ++i) turned[i] = 0.0F;
  for (int32_t first = 0; first < rows.tokens; first += kWide) {
    const int32_t n = HWY_MIN(kWide, rows.tokens - first);
    turn_rows(rows, first, n, head, tile, x, turned);
    int32_t i = 0;
    for (; i + kVectorsAtOnce <= count; i += kVectorsAtOnce) {
      dot_turned<kVectorsAtOnce>(vectors + i * dim, turned, rows.dim, n, out + i * out_stride + first, out_stride);
    }
    for (; i < count; ++i) {
      dot_turned<1>(vectors + i * dim, turned, rows.dim, n, out + i * out_stride + first, out_stride);
    }
  }
}

void norms(const Rows& rows, int32_t head, float* out) {
  const auto dim = static_cast<int64_t>(rows.dim);
  each_run(rows, head, [&](int32_t first, int32_t n, const float* x) HWY_ATTR {
    for (int32_t t = 0; t < n; ++t) dot_row(x + t * dim, x + t * dim, rows.dim, out + first + t);
  });
}

void accumulate(const Rows& rows, int32_t head, const float* weights, int64_t weight_stride, int32_t count,
                float* out) {
  const auto dim = static_cast<int64_t>(rows.dim);
  each_run(rows, head, [&](int32_t first, int32_t n, const float* x) HWY_ATTR {
    int32_t i = 0;
    for (; i + kOutputsAtOnce <= count; i += kOutputsAtOnce) {
      add_rows<kOutputsAtOnce>(weights + i * weight_stride + first, weight_stride, x, n, rows.dim, out + i * dim);
    }
    for (; i < count; ++i) {
      add_rows<1>(weights + i * weight_stride + first, weight_stride, x, n, rows.dim, out + i * dim);
    }
  });
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
