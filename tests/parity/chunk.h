// SPDX-License-Identifier: Apache-2.0
// Chunks to try kernels on: a cache in one of several layouts, tiers, and room for the sections.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <new>
#include <ostream>
#include <random>
#include <string>
#include <vector>

#include "kernels/kernels.h"
#include "kernels/tiers.h"
#include "spectrumkv.h"

namespace skv::kernels {
inline void PrintTo(const Kernels* k, std::ostream* out) { *out << k->name; }
}  // namespace skv::kernels

namespace skv::parity {

using kernels::Kernels;
using kernels::Rows;
using kernels::Verdict;

inline const Kernels& reference() { return *kernels::kernels_of(SKV_TARGET_SCALAR); }

// The targets that run here, but for the reference.
inline std::vector<const Kernels*> targets() {
  std::vector<const Kernels*> found;
  for (int32_t target = SKV_TARGET_SCALAR + 1; target <= SKV_TARGET_NEON; ++target) {
    if (const Kernels* k = kernels::kernels_of(target); k != nullptr) found.push_back(k);
  }
  return found;
}
inline std::string name_of(const testing::TestParamInfo<const Kernels*>& info) { return info.param->name; }

enum class Layout { kTokenMajor, kHeadMajor, kTransposed, kPaged, kSpread, kCount };

struct Shape {
  int32_t tokens;
  int32_t heads;
  int32_t dim;
  int32_t dtype;
  Layout layout;
};
inline std::ostream& operator<<(std::ostream& out, const Shape& s) {
  return out << s.tokens << " tokens, " << s.heads << " heads, dim " << s.dim << ", dtype " << s.dtype << ", layout "
             << static_cast<int>(s.layout);
}

// As caches are aligned: kernels store such rows in other ways.
template <class T>
struct LineAllocator {
  using value_type = T;
  LineAllocator() = default;
  template <class U>
  explicit LineAllocator(const LineAllocator<U>&) {}
  T* allocate(size_t n) { return static_cast<T*>(::operator new (n * sizeof(T), std::align_val_t{64})); }
  void deallocate(T* at, size_t) { ::operator delete (at, std::align_val_t{64}); }
  bool operator==(const LineAllocator&) const { return true; }
};
using Lines = std::vector<std::byte, LineAllocator<std::byte>>;

// Memory of one half in a layout, every byte of it 0xA5 at first.
struct Memory {
  Shape shape;
  Lines bytes;
  std::vector<int64_t> offsets;
  int64_t start = 0;
  int64_t stride_head = 0;
  int64_t stride_elem = 0;

  explicit Memory(const Shape& s) : shape(s), offsets(static_cast<size_t>(s.tokens)) {
    const int64_t eb = tiers::element_bytes(s.dtype);
    const int64_t row = s.dim * eb;
    stride_elem = eb;
    stride_head = row;
    int64_t size = row * s.heads * s.tokens;
    for (int32_t t = 0; t < s.tokens; ++t) {
      int64_t& at = offsets[static_cast<size_t>(t)];
      switch (s.layout) {
        case Layout::kTokenMajor:
          at = t * row * s.heads;
          break;
        case Layout::kHeadMajor:
          at = t * row;
          stride_head = row * s.tokens;
          break;
        case Layout::kTransposed:  // llama.cpp's v_trans, with room for more tokens
          at = t * eb;
          stride_elem = (s.tokens + 5) * eb;
          stride_head = stride_elem * s.dim;
          size = stride_head * s.heads;
          break;
        case Layout::kPaged: {  // blocks of 16 tokens, last one first, K and V side by side, off any alignment
          const int64_t blocks = (s.tokens + 15) / 16;
          start = eb;
          at = ((blocks - 1 - t / 16) * 2 * 16 + t % 16) * row * s.heads;
          size = start + blocks * 2 * 16 * row * s.heads;
          break;
        }
        default:  // every third element
          stride_elem = 3 * eb;
          stride_head = row * 3 + eb;
          at = t * stride_head * s.heads;
          size = stride_head * s.heads * s.tokens;
          break;
      }
    }
    bytes.assign(static_cast<size_t>(size), std::byte{0xA5});
  }
  Rows rows() {
    return {bytes.data() + start, offsets.data(), shape.tokens, shape.heads, shape.dim,
            shape.dtype,          stride_head,    stride_elem};
  }
  std::byte* at(int32_t t, int32_t h, int32_t c) {
    return bytes.data() + start + offsets[static_cast<size_t>(t)] + h * stride_head + c * stride_elem;
  }
  float get(int32_t t, int32_t h, int32_t c) { return tiers::load_element(at(t, h, c), shape.dtype); }
  void set(int32_t t, int32_t h, int32_t c, float value) { tiers::store_element(at(t, h, c), shape.dtype, value); }

  // Like keys: channels with offsets and spreads of their own, some heavy ones, zeros of both signs, tiny numbers.
  void fill(uint32_t seed) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    std::vector<float> mean(static_cast<size_t>(shape.heads * shape.dim));
    std::vector<float> spread(mean.size());
    for (size_t i = 0; i < mean.size(); ++i) {
      mean[i] = normal(random) * 2.0F;
      spread[i] = std::exp(normal(random)) * (i % 37 == 5 ? 20.0F : 1.0F);
    }
    for (int32_t t = 0; t < shape.tokens; ++t) {
      for (int32_t h = 0; h < shape.heads; ++h) {
        for (int32_t c = 0; c < shape.dim; ++c) {
          const auto i = static_cast<size_t>(h * shape.dim + c);
          float value = mean[i] + spread[i] * normal(random);
          if (random() % 64 == 0) value = random() % 2 == 0 ? 0.0F : -0.0F;
          if (random() % 64 == 0) value *= 1e-7F;
          set(t, h, c, value);
        }
      }
    }
  }
};

// All sections of a chunk, one after the other, every byte 0xA5 at first.
struct Room {
  std::vector<std::byte> bytes;
  size_t starts[6];

  Room(const std::vector<uint8_t>& tiers, int32_t heads, int32_t dim, int32_t raw_dtype) {
    size_t rows[6] = {};
    for (const uint8_t tier : tiers) {
      rows[0] += tiers::is_quantized(tier) ? 1 : 0;
      rows[1] += tier == 1 ? 1 : 0;
      rows[2] += tier >= 2 && tier <= 4 ? 1 : 0;
      rows[3] += tier == 3 || tier == 4 ? 1 : 0;
      rows[4] += tier == 4 ? 1 : 0;
      rows[5] += tier == tiers::kRaw ? 1 : 0;
    }
    const auto d = static_cast<size_t>(dim);
    const size_t width[6] = {2, d / 4, d / 2, d / 4, d / 4, d * static_cast<size_t>(tiers::element_bytes(raw_dtype))};
    size_t size = 0;
    for (int i = 0; i < 6; ++i) {
      starts[i] = size;
      size += rows[i] * width[i] * static_cast<size_t>(heads);
    }
    bytes.assign(size, std::byte{0xA5});
  }
  kernels::Sections sections() {
    std::byte* base = bytes.data();
    return {base + starts[0], base + starts[1], base + starts[2], base + starts[3], base + starts[4], base + starts[5]};
  }
};

enum class Pattern { kTwo, kFour, kSix, kEight, kMixed, kPaper, kCount };
inline int32_t code_of(Pattern pattern) { return pattern == Pattern::kPaper ? tiers::kCodePaper : 0; }

inline std::vector<uint8_t> tiers_of(Pattern pattern, int32_t tokens, uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<uint8_t> tiers(static_cast<size_t>(tokens));
  constexpr uint8_t kPaper[] = {0, 2, 4, 5, 2, 4};
  for (uint8_t& tier : tiers) {
    tier = pattern == Pattern::kMixed   ? static_cast<uint8_t>(random() % 6)
           : pattern == Pattern::kPaper ? kPaper[random() % 6]
                                        : static_cast<uint8_t>(static_cast<int>(pattern) + 1);
  }
  return tiers;
}

// Channel vectors of a half.
struct Vectors {
  std::vector<float> sum, lo, hi, mean32, balance32, recip32;
  std::vector<uint16_t> mean16, balance16;

  explicit Vectors(size_t n)
      : sum(n, 7.0F), lo(n, 7.0F), hi(n, 7.0F), mean32(n), balance32(n), recip32(n), mean16(n), balance16(n) {}
  Verdict make(const Kernels& k, Rows rows, const std::vector<uint8_t>& tiers, uint32_t transforms) {
    counted = k.stats(rows, tiers.data(), sum.data(), lo.data(), hi.data());
    return k.vectors(transforms, counted, rows.heads, rows.dim, sum.data(), lo.data(), hi.data(), mean16.data(),
                     balance16.data(), mean32.data(), balance32.data(), recip32.data());
  }
  kernels::Transform transform(uint32_t flags) const {
    return {(flags & tiers::kMean) != 0 ? mean32.data() : nullptr,
            (flags & tiers::kBalance) != 0 ? recip32.data() : nullptr,
            (flags & tiers::kBalance) != 0 ? balance32.data() : nullptr, tiers::hadamard_of(flags)};
  }
  int32_t counted = 0;
};

template <typename T, class A, class B>
bool same(const std::vector<T, A>& a, const std::vector<T, B>& b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0);
}

constexpr int32_t kDims[] = {8, 16, 64, 80, 96, 128, 192, 256, 576};
constexpr int32_t kHeads[] = {1, 2, 3, 8};
constexpr int32_t kTokens[] = {1, 31, 32, 33, 255, 256};
constexpr uint32_t kTransforms[] = {0,
                                    tiers::kMean,
                                    tiers::kBalance,
                                    tiers::kHadamard8,
                                    tiers::kHadamard16,
                                    tiers::kMean | tiers::kBalance | tiers::kHadamard8,
                                    tiers::kMean | tiers::kBalance | tiers::kHadamard16};
inline uint32_t transforms_for(uint32_t i, int32_t dim) {
  const uint32_t flags = kTransforms[i % std::size(kTransforms)];
  return dim % 16 != 0 && (flags & tiers::kHadamard16) != 0 ? flags ^ tiers::kHadamard16 ^ tiers::kHadamard8 : flags;
}

struct Case {
  Shape shape;
  uint32_t transforms;
  Pattern pattern;
  int32_t other_dtype;  // of the destination, and of RAW rows of an f32 source
  uint32_t seed;
};
inline std::ostream& operator<<(std::ostream& out, const Case& c) {
  return out << c.shape << ", transforms " << c.transforms << ", pattern " << static_cast<int>(c.pattern)
             << ", other dtype " << c.other_dtype;
}
inline int32_t raw_dtype_of(const Case& c) { return c.shape.dtype == tiers::kF32 ? c.other_dtype : c.shape.dtype; }

// Every layout with every shape, the rest in turn; and every combination of the rest with one shape per dim.
inline std::vector<Case> cases() {
  std::vector<Case> all;
  uint32_t n = 0;
  for (const int32_t dim : kDims) {
    for (const int32_t heads : kHeads) {
      for (const int32_t tokens : kTokens) {
        if (tokens > 200 && heads == 8 && dim > 128) continue;  // adds time, not paths
        for (int layout = 0; layout < static_cast<int>(Layout::kCount); ++layout, ++n) {
          // Steps coprime to the lengths, so that all pairs come up.
          all.push_back({{tokens, heads, dim, static_cast<int32_t>(n % 3) + 1, static_cast<Layout>(layout)},
                         transforms_for(n / 2, dim),
                         static_cast<Pattern>((n / 5) % static_cast<uint32_t>(Pattern::kCount)),
                         static_cast<int32_t>((n / 3) % 3) + 1,
                         n});
        }
      }
    }
    for (uint32_t i = 0; i < std::size(kTransforms); ++i) {
      for (int pattern = 0; pattern < static_cast<int>(Pattern::kCount); ++pattern) {
        for (int32_t dtype = 1; dtype <= 3; ++dtype, ++n) {
          all.push_back({{37, 2, dim, dtype, n % 4 == 0 ? Layout::kTransposed : Layout::kTokenMajor},
                         transforms_for(i, dim),
                         static_cast<Pattern>(pattern),
                         static_cast<int32_t>((n / 3) % 3) + 1,
                         n});
        }
      }
    }
  }
  return all;
}

}  // namespace skv::parity
