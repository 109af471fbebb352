// SPDX-License-Identifier: Apache-2.0
// Statistics of a chunk, the channel vectors made of them, and absmax.
#include "kernels/cpu/hwy_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/transform.cc"
#include "hwy/cache_control.h"
#include "hwy/foreach_target.h"
#include "kernels/cpu/transform-inl.h"

HWY_BEFORE_NAMESPACE();
namespace skv::kernels::HWY_NAMESPACE {
#if SKV_SIMD
namespace {

// Four rows a turn: the accumulators are loaded and stored once for them.
constexpr int32_t kTogether = 4;
constexpr int64_t kLine = 64;
constexpr int32_t kLineChannels = 32;  // of 16 bits
constexpr int64_t kAheadBytes = 4096;

// x < lo ? x : lo, as the reference has it.
template <class V>
HWY_INLINE V lesser(V x, V lo) {
#if HWY_TARGET == HWY_NEON
  return hn::IfThenElse(hn::Lt(x, lo), x, lo);
#else
  return hn::Min(x, lo);  // minps: the second operand unless the first is less
#endif
}
template <class V>
HWY_INLINE V greater(V x, V hi) {
#if HWY_TARGET == HWY_NEON
  return hn::IfThenElse(hn::Gt(x, hi), x, hi);
#else
  return hn::Max(x, hi);
#endif
}

template <class D, class E, int kCount>
HWY_INLINE void add_lanes(const std::byte* const* x, int32_t c, float* sum, float* lo, float* hi) {
  const D d;
  auto s = hn::LoadU(d, sum + c);
  auto l = hn::LoadU(d, lo + c);
  auto h = hn::LoadU(d, hi + c);
  for (int i = 0; i < kCount; ++i) {
    const auto v = E::load(d, x[i] + static_cast<int64_t>(c) * E::kBytes);
    s = hn::Add(s, v);
    l = lesser(v, l);
    h = greater(v, h);
  }
  hn::StoreU(s, d, sum + c);
  hn::StoreU(l, d, lo + c);
  hn::StoreU(h, d, hi + c);
}

// The lines of rows to come, one after the other, while others are worked on. Read four rows abreast, memory gives half
// of what it gives in order (14.7 and 31 GB/s on Zen 4): prefetchers follow few streams a page.
struct Ahead {
  const std::byte* const* x;
  int32_t left;   // rows
  int64_t bytes;  // of a row
  int64_t first;  // byte of it
  int64_t at = 0;

  HWY_INLINE void next(int lines) {
    for (int i = 0; i < lines && left > 0; ++i) {
      hwy::Prefetch(*x + first + at);
      at += kLine;
      if (at >= bytes) {
        at = 0;
        ++x;
        --left;
      }
    }
  }
};

template <class E, int kCount>
void add_rows(const std::byte* const* x, int32_t n, Ahead ahead, float* sum, float* lo, float* hi) {
  int32_t c = 0;
  for (; c + kWide <= n; c += kWide) {
    if (c % kLineChannels == 0) ahead.next(kCount * E::kBytes / 2);
    add_lanes<Wide, E, kCount>(x, c, sum, lo, hi);
  }
  for (; c < n; c += 4) add_lanes<Four, E, kCount>(x, c, sum, lo, hi);  // n is a multiple of 8
}

// One block's sums, and extremes, of rows [first, end) of x[..total), `strip` channels from byte `from` on.
template <class E>
void add_block(const std::byte* const* x, int32_t first, int32_t end, int32_t total, int64_t from, int32_t strip,
               float* sum, float* lo, float* hi) {
  HWY_ALIGN float block[kMaxDim];
  const Four d;
  const int64_t bytes = static_cast<int64_t>(strip) * E::kBytes;
  const int32_t distance = HWY_MAX(kTogether, static_cast<int32_t>((kAheadBytes + bytes - 1) / bytes));
  const std::byte* rows[kTogether];
  for (int32_t c = 0; c < strip; ++c) block[c] = 0.0F;
  int32_t i = first;
  for (; i + kTogether <= end; i += kTogether) {
    for (int32_t r = 0; r < kTogether; ++r) rows[r] = x[i + r] + from;
    const int32_t soon = HWY_MIN(total, i + distance);
    const Ahead ahead = {x + soon, HWY_MIN(kTogether, total - soon), bytes, from};
    add_rows<E, kTogether>(rows, strip, ahead, block, lo, hi);
  }
  for (; i < end; ++i) {
    rows[0] = x[i] + from;
    add_rows<E, 1>(rows, strip, {x, 0, 0, 0}, block, lo, hi);
  }
  for (int32_t c = 0; c < strip; c += 4) {
    hn::StoreU(hn::Add(hn::LoadU(d, sum + c), hn::Load(d, block + c)), d, sum + c);
  }
}

template <class E>
void stats_of(const Rows& rows, const uint8_t* tiers, float* sum, float* lo, float* hi) {
  const int32_t dim = rows.dim;
  const int32_t all = rows.heads * dim;
  const int64_t row_bytes = static_cast<int64_t>(dim) * E::kBytes;
  const std::byte* x[tiers::kMaxChunk];
  int32_t starts[tiers::kMaxChunk / tiers::kSumBlock + 1];  // of the blocks in x
  int32_t total = 0;
  for (int32_t t = 0; t < rows.tokens; ++t) {
    if (t % tiers::kSumBlock == 0) starts[t / tiers::kSumBlock] = total;
    if (tiers::is_quantized(tiers[t])) x[total++] = rows.base + rows.token_offset[t];
  }
  const int32_t blocks = (rows.tokens + tiers::kSumBlock - 1) / tiers::kSumBlock;
  starts[blocks] = total;
  // Heads that follow each other are one long row.
  const int32_t strip = rows.stride_head == row_bytes && all <= kMaxDim ? all : dim;
  for (int32_t b = 0; b < blocks; ++b) {
    for (int32_t at = 0; at < all; at += strip) {
      add_block<E>(x, starts[b], starts[b + 1], total, at / dim * rows.stride_head, strip, sum + at, lo + at, hi + at);
    }
  }
}

// The same through tiles. A tile may hold less than a block of 32 tokens: then sums go on in the next one.
template <class E>
void stats_of_tiles(const Rows& rows, const uint8_t* tiers, float* sum, float* lo, float* hi) {
  HWY_ALIGN std::byte tile[kTileBytes];
  HWY_ALIGN float block[kMaxDim];
  const int64_t row_bytes = static_cast<int64_t>(rows.dim) * E::kBytes;
  const int32_t run = tile_tokens(rows);
  for (int32_t first = 0; first < rows.tokens; first += tiers::kSumBlock) {
    const int32_t end = HWY_MIN(rows.tokens, first + tiers::kSumBlock);
    for (int32_t h = 0; h < rows.heads; ++h) {
      const int64_t at = static_cast<int64_t>(h) * rows.dim;
      for (int32_t c = 0; c < rows.dim; ++c) block[c] = 0.0F;
      for (int32_t from = first; from < end; from += run) {
        const int32_t count = HWY_MIN(run, end - from);
        gather_tile(rows, from, count, h, tile);
        const std::byte* x[kTileTokens];
        int32_t quantized = 0;
        for (int32_t t = 0; t < count; ++t) {
          if (tiers::is_quantized(tiers[from + t])) x[quantized++] = tile + t * row_bytes;
        }
        int32_t i = 0;
        for (; i + kTogether <= quantized; i += kTogether) {
          add_rows<E, kTogether>(x + i, rows.dim, {x, 0, 0, 0}, block, lo + at, hi + at);
        }
        for (; i < quantized; ++i) add_rows<E, 1>(x + i, rows.dim, {x, 0, 0, 0}, block, lo + at, hi + at);
      }
      for (int32_t c = 0; c < rows.dim; ++c) sum[at + c] = sum[at + c] + block[c];
    }
  }
}

template <class E>
HWY_INLINE void stats_as(const Rows& rows, const uint8_t* tiers, float* sum, float* lo, float* hi) {
  if (contiguous(rows)) {
    stats_of<E>(rows, tiers, sum, lo, hi);
  } else {
    stats_of_tiles<E>(rows, tiers, sum, lo, hi);
  }
}

}  // namespace

int32_t stats(const Rows& rows, const uint8_t* tiers, float* sum, float* lo, float* hi) {
  int32_t counted = 0;
  for (int32_t t = 0; t < rows.tokens; ++t) counted += tiers::is_quantized(tiers[t]) ? 1 : 0;
  const int32_t all = rows.heads * rows.dim;
  for (int32_t c = 0; c < all; ++c) sum[c] = 0.0F;
  if (counted == 0) return 0;
  for (int32_t c = 0; c < all; ++c) {
    lo[c] = tiers::float_of(0x7F800000U);
    hi[c] = tiers::float_of(0xFF800000U);
  }
  if (rows.dtype == tiers::kF16) {
    stats_as<F16>(rows, tiers, sum, lo, hi);
  } else if (rows.dtype == tiers::kBF16) {
    stats_as<BF16>(rows, tiers, sum, lo, hi);
  } else {
    stats_as<F32>(rows, tiers, sum, lo, hi);
  }
  return counted;
}

Verdict vectors(uint32_t transforms, int32_t counted, int32_t heads, int32_t dim, const float* sum, const float* lo,
                const float* hi, uint16_t* mean16, uint16_t* balance16, float* mean32, float* balance32,
                float* recip32) {
  const Eight d;
  const hn::Rebind<hwy::float16_t, Eight> d16;
  constexpr int32_t kLanes = lanes<Eight>();
  const bool with_mean = (transforms & tiers::kMean) != 0;
  const bool with_balance = (transforms & tiers::kBalance) != 0;
  if (counted == 0) {  // rare, and all constants
    return scalar::vectors(transforms, counted, heads, dim, sum, lo, hi, mean16, balance16, mean32, balance32, recip32);
  }
  const auto n = hn::Set(d, static_cast<float>(counted));
  const auto zero = hn::Zero(d);
  HWY_ALIGN float g[kMaxDim];
  auto fine = hn::FirstN(d, static_cast<size_t>(kLanes));
  for (int32_t h = 0; h < heads; ++h) {
    const int64_t at = static_cast<int64_t>(h) * dim;
    for (int32_t c = 0; c < dim; c += kLanes) {
      const auto total = hn::LoadU(d, sum + at + c);
      const auto least = hn::LoadU(d, lo + at + c);
      const auto most = hn::LoadU(d, hi + at + c);
      // x - x is 0 for finite x only.
      fine = hn::And(fine, hn::Eq(hn::Sub(least, least), zero));
      fine = hn::And(fine, hn::Eq(hn::Sub(most, most), zero));
      fine = hn::And(fine, hn::Eq(total, total));
      auto mu = zero;
      if (with_mean) {
        const auto stored = hn::DemoteTo(d16, hn::Div(total, n));
        hn::StoreU(stored, d16, reinterpret_cast<hwy::float16_t*>(mean16 + at + c));
        mu = hn::PromoteTo(d, stored);
        fine = hn::And(fine, hn::Eq(hn::Sub(mu, mu), zero));
        hn::StoreU(mu, d, mean32 + at + c);
      }
      hn::StoreU(hn::Sqrt(greater(hn::Sub(most, mu), hn::Sub(mu, least))), d, g + c);
    }
    if (!with_balance) continue;
    float avg = 0.0F;
    for (int32_t c = 0; c < dim; ++c) avg = avg + g[c];
    avg = avg / static_cast<float>(dim);
    const auto divisor = hn::Set(d, avg);
    const auto one = hn::Set(d, 1.0F);
    for (int32_t c = 0; c < dim; c += kLanes) {
      auto b = one;
      if (avg != 0.0F) b = greater(hn::Div(hn::LoadU(d, g + c), divisor), hn::Set(d, tiers::kMinBalance));
      const auto stored = hn::DemoteTo(d16, b);
      hn::StoreU(stored, d16, reinterpret_cast<hwy::float16_t*>(balance16 + at + c));
      const auto balance = hn::PromoteTo(d, stored);
      hn::StoreU(balance, d, balance32 + at + c);
      hn::StoreU(hn::Div(one, balance), d, recip32 + at + c);
    }
  }
  if (hn::AllTrue(d, fine)) return {};
  return scalar::vectors(transforms, counted, heads, dim, sum, lo, hi, mean16, balance16, mean32, balance32, recip32);
}

Verdict absmax(const Rows& rows, const Transform& transform, float* out) {
  const Affine affine(transform.mean, 0.0F, transform.recip, rows.dim);
  const TransformRows transform_rows = transform_for<false>(rows, transform.hadamard, affine.any);
  if (transform_rows == nullptr) return scalar::absmax(rows, transform, out);
  Batch batch(affine, rows.dim);
  const int32_t capacity = batch.capacity();
  const bool direct = contiguous(rows);
  const int32_t run = direct ? rows.tokens : tile_tokens(rows);
  const int64_t row_bytes = static_cast<int64_t>(rows.dim) * tiers::element_bytes(rows.dtype);
  HWY_ALIGN std::byte tile[kTileBytes];
  bool fine = true;
  // Direct rows go token by token, tiles head by head. A tile's rows must be done before the next one.
  for (int32_t first = 0; first < rows.tokens; first += run) {
    const int32_t count = HWY_MIN(run, rows.tokens - first);
    const int32_t items = count * rows.heads;
    float* to[kBatch];
    for (int32_t i = 0; i < items; ++i) {
      const int32_t t = direct ? i / rows.heads : i % count;
      const int32_t h = direct ? i % rows.heads : i / count;
      if (!direct && t == 0) gather_tile(rows, first, count, h, tile);
      batch.x[batch.count] = direct ? element(rows, t, h, 0) : tile + t * row_bytes;
      batch.head[batch.count] = h;
      to[batch.count] = out + static_cast<int64_t>(first + t) * rows.heads + h;
      if (++batch.count < capacity && i + 1 < items && (direct || t + 1 < count)) continue;
      transform_rows(batch);
      for (int32_t j = 0; j < batch.count; ++j) {
        *to[j] = batch.largest[j];
        fine = fine && tiers::is_finite(batch.largest[j]);
      }
      batch.count = 0;
    }
  }
  return fine ? Verdict{} : scalar::absmax(rows, transform, out);
}

#endif  // SKV_SIMD
}  // namespace skv::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
