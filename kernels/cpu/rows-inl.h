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

#include "hwy/cache_control.h"
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

// Element types: loads are exact; bits() takes finite values only and rounds to nearest even.
struct F16 {
  static constexpr int32_t kDtype = tiers::kF16;
  static constexpr int32_t kBytes = 2;
  using Bits = uint16_t;
  template <class D>
  static HWY_INLINE hn::VFromD<D> load(D d, const std::byte* from) {
    const hn::Rebind<hwy::float16_t, D> d16;
    return hn::PromoteTo(d, hn::LoadU(d16, reinterpret_cast<const hwy::float16_t*>(from)));
  }
  template <class D>
  static HWY_INLINE hn::VFromD<hn::Rebind<Bits, D>> bits(D, hn::VFromD<D> v) {
    return hn::BitCast(hn::Rebind<Bits, D>(), hn::DemoteTo(hn::Rebind<hwy::float16_t, D>(), v));
  }
};
// For values that may be beyond it.
struct F16Saturating : F16 {
  template <class D>
  static HWY_INLINE hn::VFromD<hn::Rebind<Bits, D>> bits(D d, hn::VFromD<D> v) {
    const auto limit = hn::Set(d, tiers::kF16Max);
    return F16::bits(d, hn::Max(hn::Min(v, limit), hn::Neg(limit)));
  }
};

struct BF16 {
  static constexpr int32_t kDtype = tiers::kBF16;
  static constexpr int32_t kBytes = 2;
  using Bits = uint16_t;
  template <class D>
  static HWY_INLINE hn::VFromD<D> load(D d, const std::byte* from) {
    const hn::Rebind<uint16_t, D> d16;
    const hn::RebindToUnsigned<D> d32;
    return hn::BitCast(d,
                       hn::ShiftLeft<16>(hn::PromoteTo(d32, hn::LoadU(d16, reinterpret_cast<const uint16_t*>(from)))));
  }
  template <class D>
  static HWY_INLINE hn::VFromD<hn::Rebind<Bits, D>> bits(D, hn::VFromD<D> v) {
    const hn::RebindToUnsigned<D> d32;
    const auto wide = hn::BitCast(d32, v);
    const auto odd = hn::And(hn::ShiftRight<16>(wide), hn::Set(d32, 1U));
    const auto rounded = hn::ShiftRight<16>(hn::Add(hn::Add(wide, hn::Set(d32, 0x7FFFU)), odd));
    return hn::TruncateTo(hn::Rebind<Bits, D>(), rounded);
  }
};

struct F32 {
  static constexpr int32_t kDtype = tiers::kF32;
  static constexpr int32_t kBytes = 4;
  using Bits = uint32_t;
  template <class D>
  static HWY_INLINE hn::VFromD<D> load(D d, const std::byte* from) {
    return hn::LoadU(d, reinterpret_cast<const float*>(from));
  }
  template <class D>
  static HWY_INLINE hn::VFromD<hn::Rebind<Bits, D>> bits(D, hn::VFromD<D> v) {
    return hn::BitCast(hn::Rebind<Bits, D>(), v);
  }
};

// Elements of type E to memory; past the caches when kStream, which wants `to` aligned to what is stored.
template <class E, bool kStream, class D>
HWY_INLINE void store_elements(D d, hn::VFromD<D> v, std::byte* to) {
  const hn::Rebind<typename E::Bits, D> bits;
  auto* at = reinterpret_cast<typename E::Bits*>(to);
  if constexpr (kStream) {
    hn::Stream(E::bits(d, v), bits, at);
  } else {
    hn::StoreU(E::bits(d, v), bits, at);
  }
}

// Bits of `mask` from yes, the others from no: one instruction where there is a ternary one.
template <class DI, class V>
HWY_INLINE V choose(DI d, int mask, V yes, V no) {
  const auto wanted = hn::Set(d, static_cast<hn::TFromD<DI>>(mask));
#if HWY_TARGET == HWY_AVX3
  return hn::IfVecThenElse(wanted, yes, no);  // by bits there, by whole lanes on others
#else
  return hn::Or(hn::And(wanted, yes), hn::AndNot(wanted, no));
#endif
}

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

constexpr int32_t kAhead = 32;  // channels

// A square of 16 bytes by as many elements, transposed; rows are `stride` bytes apart.
HWY_INLINE void transpose(uint16_t, const std::byte* from, int64_t from_stride, std::byte* to, int64_t to_stride) {
  const hn::FixedTag<uint16_t, 8> d16;
  const hn::FixedTag<uint32_t, 4> d32;
  const hn::FixedTag<uint64_t, 2> d64;
  hn::VFromD<hn::FixedTag<uint16_t, 8>> r[8];
  for (int i = 0; i < 8; ++i) r[i] = hn::LoadU(d16, reinterpret_cast<const uint16_t*>(from + i * from_stride));
  hn::VFromD<hn::FixedTag<uint64_t, 2>> u[8];  // [half of the rows][pair of columns]
  for (int half = 0; half < 2; ++half) {
    const auto* q = r + half * 4;
    const auto low0 = hn::BitCast(d32, hn::InterleaveLower(d16, q[0], q[1]));
    const auto low1 = hn::BitCast(d32, hn::InterleaveLower(d16, q[2], q[3]));
    const auto high0 = hn::BitCast(d32, hn::InterleaveUpper(d16, q[0], q[1]));
    const auto high1 = hn::BitCast(d32, hn::InterleaveUpper(d16, q[2], q[3]));
    u[half * 4] = hn::BitCast(d64, hn::InterleaveLower(d32, low0, low1));
    u[half * 4 + 1] = hn::BitCast(d64, hn::InterleaveUpper(d32, low0, low1));
    u[half * 4 + 2] = hn::BitCast(d64, hn::InterleaveLower(d32, high0, high1));
    u[half * 4 + 3] = hn::BitCast(d64, hn::InterleaveUpper(d32, high0, high1));
  }
  for (int i = 0; i < 4; ++i) {
    auto* row = reinterpret_cast<uint16_t*>(to + 2 * i * to_stride);
    auto* next = reinterpret_cast<uint16_t*>(to + (2 * i + 1) * to_stride);
    hn::StoreU(hn::BitCast(d16, hn::InterleaveLower(d64, u[i], u[i + 4])), d16, row);
    hn::StoreU(hn::BitCast(d16, hn::InterleaveUpper(d64, u[i], u[i + 4])), d16, next);
  }
}
HWY_INLINE void transpose(uint32_t, const std::byte* from, int64_t from_stride, std::byte* to, int64_t to_stride) {
  const hn::FixedTag<uint32_t, 4> d32;
  const hn::FixedTag<uint64_t, 2> d64;
  hn::VFromD<hn::FixedTag<uint32_t, 4>> r[4];
  for (int i = 0; i < 4; ++i) r[i] = hn::LoadU(d32, reinterpret_cast<const uint32_t*>(from + i * from_stride));
  const auto low0 = hn::BitCast(d64, hn::InterleaveLower(d32, r[0], r[1]));
  const auto low1 = hn::BitCast(d64, hn::InterleaveLower(d32, r[2], r[3]));
  const auto high0 = hn::BitCast(d64, hn::InterleaveUpper(d32, r[0], r[1]));
  const auto high1 = hn::BitCast(d64, hn::InterleaveUpper(d32, r[2], r[3]));
  const auto put = [to, to_stride](int i, hn::VFromD<hn::FixedTag<uint64_t, 2>> v) HWY_ATTR {
    const hn::FixedTag<uint32_t, 4> d;
    hn::StoreU(hn::BitCast(d, v), d, reinterpret_cast<uint32_t*>(to + i * to_stride));
  };
  put(0, hn::InterleaveLower(d64, low0, low1));
  put(1, hn::InterleaveUpper(d64, low0, low1));
  put(2, hn::InterleaveLower(d64, high0, high1));
  put(3, hn::InterleaveUpper(d64, high0, high1));
}

// How many tokens from `first` on are neighbours in memory, in whole squares.
template <typename T>
HWY_INLINE int32_t neighbours(const Rows& rows, int32_t first, int32_t count) {
  const int64_t* offset = rows.token_offset + first;
  int32_t n = 1;
  while (n < count && offset[n] == offset[0] + n * static_cast<int64_t>(sizeof(T))) ++n;
  constexpr auto kSide = static_cast<int32_t>(16 / sizeof(T));
  return n / kSide * kSide;
}

template <typename T>
HWY_INLINE void gather_as(const Rows& rows, int32_t first, int32_t count, int32_t head, std::byte* tile) {
  constexpr auto kSide = static_cast<int32_t>(16 / sizeof(T));
  constexpr auto kBytes = static_cast<int64_t>(sizeof(T));
  const int64_t row_bytes = rows.dim * kBytes;
  const int32_t squares = neighbours<T>(rows, first, count);
  const std::byte* base = rows.base + head * rows.stride_head;
  for (int32_t c = 0; c < rows.dim; c += kSide) {
    const std::byte* from = base + c * rows.stride_elem;
    // Hardware does not foresee a line of every channel.
    for (int32_t i = kAhead; i < kAhead + kSide && c + i < rows.dim; ++i) {
      hwy::Prefetch(from + rows.token_offset[first] + i * rows.stride_elem);
    }
    for (int32_t t = 0; t < squares; t += kSide) {
      transpose(T(), from + rows.token_offset[first + t], rows.stride_elem, tile + t * row_bytes + c * kBytes,
                row_bytes);
    }
    for (int32_t t = squares; t < count; ++t) {
      for (int32_t i = 0; i < kSide; ++i) {
        hwy::CopyBytes<sizeof(T)>(from + rows.token_offset[first + t] + i * rows.stride_elem,
                                  tile + t * row_bytes + (c + i) * kBytes);
      }
    }
  }
}
template <typename T>
HWY_INLINE void scatter_as(const Rows& rows, int32_t first, int32_t count, int32_t head, const std::byte* tile) {
  constexpr auto kSide = static_cast<int32_t>(16 / sizeof(T));
  constexpr auto kBytes = static_cast<int64_t>(sizeof(T));
  const int64_t row_bytes = rows.dim * kBytes;
  const int32_t squares = neighbours<T>(rows, first, count);
  std::byte* base = rows.base + head * rows.stride_head;
  for (int32_t c = 0; c < rows.dim; c += kSide) {
    std::byte* to = base + c * rows.stride_elem;
    for (int32_t t = 0; t < squares; t += kSide) {
      transpose(T(), tile + t * row_bytes + c * kBytes, row_bytes, to + rows.token_offset[first + t], rows.stride_elem);
    }
    for (int32_t t = squares; t < count; ++t) {
      for (int32_t i = 0; i < kSide; ++i) {
        hwy::CopyBytes<sizeof(T)>(tile + t * row_bytes + (c + i) * kBytes,
                                  to + rows.token_offset[first + t] + i * rows.stride_elem);
      }
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
