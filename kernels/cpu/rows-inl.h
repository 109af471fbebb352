// SPDX-License-Identifier: Apache-2.0
// Elements to f32 lanes and back, and tiles of rows whose channels are not neighbours in memory.
#include "kernels/cpu/cpu.h"

// Highway's guard: once per target.
#if defined(SKV_ROWS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SKV_ROWS_INL_H_
#undef SKV_ROWS_INL_H_
#else
#define SKV_ROWS_INL_H_
#endif

#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace skv::kernels::HWY_NAMESPACE {
#if SKV_SIMD
namespace hn = hwy::HWY_NAMESPACE;

// Vectors of the widest kind, and narrower ones for dimensions that are short of it.
using Wide = hn::CappedTag<float, 16>;
using Eight = hn::CappedTag<float, 8>;
using Four = hn::CappedTag<float, 4>;
constexpr int32_t kWide = static_cast<int32_t>(HWY_LANES(float) < 16 ? HWY_LANES(float) : 16);

template <class D>
HWY_INLINE constexpr int32_t lanes() {
  return static_cast<int32_t>(hn::MaxLanes(D()));
}

// Element types: loads are exact; stores take finite values only and round to nearest even.
struct F16 {
  static constexpr int32_t kDtype = tiers::kF16;
  static constexpr int32_t kBytes = 2;
  template <class D>
  static HWY_INLINE hn::VFromD<D> load(D d, const std::byte* from) {
    const hn::Rebind<hwy::float16_t, D> d16;
    return hn::PromoteTo(d, hn::LoadU(d16, reinterpret_cast<const hwy::float16_t*>(from)));
  }
  template <class D>
  static HWY_INLINE void store(D, hn::VFromD<D> v, std::byte* to) {
    const hn::Rebind<hwy::float16_t, D> d16;
    hn::StoreU(hn::DemoteTo(d16, v), d16, reinterpret_cast<hwy::float16_t*>(to));
  }
};
// For values that may be beyond it.
struct F16Saturating : F16 {
  template <class D>
  static HWY_INLINE void store(D d, hn::VFromD<D> v, std::byte* to) {
    const auto limit = hn::Set(d, tiers::kF16Max);
    F16::store(d, hn::Max(hn::Min(v, limit), hn::Neg(limit)), to);
  }
};

struct BF16 {
  static constexpr int32_t kDtype = tiers::kBF16;
  static constexpr int32_t kBytes = 2;
  template <class D>
  static HWY_INLINE hn::VFromD<D> load(D d, const std::byte* from) {
    const hn::Rebind<uint16_t, D> d16;
    const hn::RebindToUnsigned<D> d32;
    return hn::BitCast(d,
                       hn::ShiftLeft<16>(hn::PromoteTo(d32, hn::LoadU(d16, reinterpret_cast<const uint16_t*>(from)))));
  }
  template <class D>
  static HWY_INLINE void store(D, hn::VFromD<D> v, std::byte* to) {
    const hn::Rebind<uint16_t, D> d16;
    const hn::RebindToUnsigned<D> d32;
    const auto bits = hn::BitCast(d32, v);
    const auto odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(d32, 1U));
    const auto rounded = hn::ShiftRight<16>(hn::Add(hn::Add(bits, hn::Set(d32, 0x7FFFU)), odd));
    hn::StoreU(hn::TruncateTo(d16, rounded), d16, reinterpret_cast<uint16_t*>(to));
  }
};

struct F32 {
  static constexpr int32_t kDtype = tiers::kF32;
  static constexpr int32_t kBytes = 4;
  template <class D>
  static HWY_INLINE hn::VFromD<D> load(D d, const std::byte* from) {
    return hn::LoadU(d, reinterpret_cast<const float*>(from));
  }
  template <class D>
  static HWY_INLINE void store(D d, hn::VFromD<D> v, std::byte* to) {
    hn::StoreU(v, d, reinterpret_cast<float*>(to));
  }
};

// First channel of the vector that starts at `at` of n: the last one is moved back to end at n.
template <class D>
HWY_INLINE int32_t within(int32_t at, int32_t n) {
  return at + lanes<D>() <= n ? at : n - lanes<D>();
}

// Rows with a channel stride are copied through a tile of one head: [token][dim] elements. As many tokens as fit, up to
// 32 (a cache line of 16-bit elements when tokens are neighbours), so that a line is used whole when it is in L1.
constexpr int32_t kTileBytes = 32768;  // holds two rows of the largest dimension
constexpr int32_t kTileTokens = 32;

HWY_INLINE int32_t tile_tokens(const Rows& rows) {
  const int32_t row = rows.dim * tiers::element_bytes(rows.dtype);
  int32_t tokens = kTileTokens;
  while (tokens * row > kTileBytes) tokens /= 2;
  return tokens;
}
HWY_INLINE bool contiguous(const Rows& rows) { return rows.stride_elem == tiers::element_bytes(rows.dtype); }

template <typename T>
HWY_INLINE void gather_as(const Rows& rows, int32_t first, int32_t count, int32_t head, std::byte* tile) {
  const std::byte* base = rows.base + head * rows.stride_head;
  for (int32_t c = 0; c < rows.dim; ++c, base += rows.stride_elem) {
    for (int32_t t = 0; t < count; ++t) {
      hwy::CopyBytes<sizeof(T)>(base + rows.token_offset[first + t],
                                tile + (static_cast<int64_t>(t) * rows.dim + c) * static_cast<int64_t>(sizeof(T)));
    }
  }
}
template <typename T>
HWY_INLINE void scatter_as(const Rows& rows, int32_t first, int32_t count, int32_t head, const std::byte* tile) {
  std::byte* base = rows.base + head * rows.stride_head;
  for (int32_t c = 0; c < rows.dim; ++c, base += rows.stride_elem) {
    for (int32_t t = 0; t < count; ++t) {
      hwy::CopyBytes<sizeof(T)>(tile + (static_cast<int64_t>(t) * rows.dim + c) * static_cast<int64_t>(sizeof(T)),
                                base + rows.token_offset[first + t]);
    }
  }
}
// Tokens [first, first + count) of one head into the tile.
inline void gather_tile(const Rows& rows, int32_t first, int32_t count, int32_t head, std::byte* tile) {
  if (rows.dtype == tiers::kF32) {
    gather_as<uint32_t>(rows, first, count, head, tile);
  } else {
    gather_as<uint16_t>(rows, first, count, head, tile);
  }
}
// And back.
inline void scatter_tile(const Rows& rows, int32_t first, int32_t count, int32_t head, const std::byte* tile) {
  if (rows.dtype == tiers::kF32) {
    scatter_as<uint32_t>(rows, first, count, head, tile);
  } else {
    scatter_as<uint16_t>(rows, first, count, head, tile);
  }
}

#endif  // SKV_SIMD
}  // namespace skv::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif  // SKV_ROWS_INL_H_
