// SPDX-License-Identifier: Apache-2.0
// Numbers that invite mistakes, verdicts, and the choice of targets.
#include "chunk.h"

namespace skv::parity {
namespace {

constexpr uint32_t kAll = tiers::kMean | tiers::kBalance | tiers::kHadamard8;

std::vector<const Kernels*> all_targets() {
  std::vector<const Kernels*> all = targets();
  all.push_back(&reference());
  return all;
}

class Specials : public testing::TestWithParam<const Kernels*> {
 protected:
  // Verdict of packing, with neutral vectors where flags ask for some.
  static Verdict pack(const Kernels& k, Memory& memory, const std::vector<uint8_t>& tiers, uint32_t flags,
                      int32_t raw_dtype, Room& room, int32_t code = 0) {
    Vectors vectors(static_cast<size_t>(memory.shape.heads * memory.shape.dim));
    for (float& v : vectors.recip32) v = 1.0F;
    return k.pack({memory.rows(), tiers.data(), vectors.transform(flags), code, raw_dtype, room.sections()});
  }
  static void expect(const Verdict& got, Verdict::Kind kind, int32_t token, int32_t head) {
    EXPECT_EQ(got.kind, kind);
    EXPECT_EQ(got.token, token);
    EXPECT_EQ(got.head, head);
  }
};

TEST_P(Specials, ScaleNearZeroGivesTheReferencesBytes) {
  for (const int32_t dim : {64, 80, 128, 256}) {
    for (const uint32_t flags : {0U, tiers::kHadamard8, kAll}) {
      for (int exponent = -149; exponent <= -2; ++exponent) {
        const Shape shape{16, 2, dim, tiers::kF32, Layout::kTokenMajor};
        Memory memory(shape);
        memory.fill(static_cast<uint32_t>(exponent + 200));
        for (int32_t t = 0; t < 16; ++t) {
          for (int32_t h = 0; h < 2; ++h) {
            for (int32_t c = 0; c < dim; ++c) memory.set(t, h, c, std::ldexp(memory.get(t, h, c), exponent));
          }
        }
        for (const int32_t code : {0, 1}) {
          std::vector<uint8_t> tiers(16);
          for (size_t t = 0; t < 16; ++t) tiers[t] = static_cast<uint8_t>(code == 0 ? 1 + t % 4 : 2 + 2 * (t % 2));
          Room want(tiers, 2, dim, 3);
          Room got(tiers, 2, dim, 3);
          EXPECT_EQ(pack(reference(), memory, tiers, flags, 3, want, code).kind, Verdict::kOk);
          EXPECT_EQ(pack(*GetParam(), memory, tiers, flags, 3, got, code).kind, Verdict::kOk);
          ASSERT_TRUE(same(want.bytes, got.bytes)) << dim << " " << flags << " 2^" << exponent << " code " << code;
        }
      }
    }
  }
}

TEST_P(Specials, ZerosKeepTheirSign) {
  for (const uint32_t flags : {0U, tiers::kMean, tiers::kBalance, tiers::kHadamard8}) {
    for (int32_t dtype = 1; dtype <= 3; ++dtype) {
      Memory memory({4, 2, 64, dtype, Layout::kTokenMajor});
      for (int32_t t = 0; t < 4; ++t) {
        for (int32_t h = 0; h < 2; ++h) {
          for (int32_t c = 0; c < 64; ++c) memory.set(t, h, c, c % 2 == 0 ? -0.0F : 0.0F);
        }
      }
      const std::vector<uint8_t> tiers{2, 5, 4, 0};
      Vectors vectors(128);
      Vectors wanted(128);
      EXPECT_EQ(wanted.make(reference(), memory.rows(), tiers, flags).kind, Verdict::kOk);
      EXPECT_EQ(vectors.make(*GetParam(), memory.rows(), tiers, flags).kind, Verdict::kOk);
      EXPECT_TRUE(same(wanted.sum, vectors.sum));
      EXPECT_TRUE(same(wanted.lo, vectors.lo));
      EXPECT_TRUE(same(wanted.hi, vectors.hi));
      for (float& v : vectors.mean32) v = -0.0F;
      Room room(tiers, 2, 64, dtype);
      EXPECT_EQ(pack(*GetParam(), memory, tiers, flags, dtype, room).kind, Verdict::kOk);
      Memory want(memory.shape);
      Memory got(memory.shape);
      const kernels::Transform transform = vectors.transform(flags);
      reference().unpack({want.rows(), tiers.data(), transform, 0, dtype, 2, 0, room.sections()});
      GetParam()->unpack({got.rows(), tiers.data(), transform, 0, dtype, 2, 0, room.sections()});
      EXPECT_TRUE(same(want.bytes, got.bytes));
    }
  }
}

TEST_P(Specials, DecodedValuesBeyondF16Saturate) {
  const std::vector<uint8_t> tiers{1, 2, 3, 4};
  for (const int32_t dim : {64, 128}) {
    for (const uint32_t flags : {0U, tiers::kHadamard8, kAll}) {
      Room room(tiers, 1, dim, 1);
      std::mt19937 random(5);
      for (std::byte& byte : room.bytes) byte = static_cast<std::byte>(random());
      for (size_t t = 0; t < 4; ++t) {
        const uint16_t scale = t % 2 == 0 ? 0x7BFF : 0x6400;
        std::memcpy(room.bytes.data() + 2 * t, &scale, 2);
      }
      Vectors vectors(static_cast<size_t>(dim));
      for (size_t c = 0; c < vectors.mean32.size(); ++c) {
        vectors.mean32[c] = c % 3 == 0 ? 65504.0F : -65504.0F;
        vectors.balance32[c] = c % 2 == 0 ? 65504.0F : 0.25F;
      }
      for (int32_t dtype = 1; dtype <= 3; ++dtype) {
        Memory want({4, 1, dim, dtype, Layout::kTokenMajor});
        Memory got(want.shape);
        reference().unpack({want.rows(), tiers.data(), vectors.transform(flags), 0, 1, 1, 0, room.sections()});
        GetParam()->unpack({got.rows(), tiers.data(), vectors.transform(flags), 0, 1, 1, 0, room.sections()});
        EXPECT_TRUE(same(want.bytes, got.bytes)) << dim << " " << flags << " " << dtype;
        float largest = 0.0F;
        for (int32_t c = 0; c < dim; ++c) largest = std::max(largest, std::fabs(got.get(0, 0, c)));
        if (dtype == 1) {
          EXPECT_EQ(largest, 65504.0F);
        }
        if (dtype == 3) {
          EXPECT_GT(largest, 65504.0F);
        }
      }
    }
  }
}

TEST_P(Specials, NonFiniteElementsAreBlamedOnTheirTokenAndHead) {
  for (const float bad : {INFINITY, -INFINITY, NAN}) {
    for (int32_t dtype = 1; dtype <= 3; ++dtype) {
      for (const Layout layout : {Layout::kTokenMajor, Layout::kTransposed}) {
        for (const int32_t dim : {16, 64, 80, 128}) {
          for (const uint32_t flags : {0U, tiers::kHadamard8, kAll}) {
            Memory memory({40, 3, dim, dtype, layout});
            memory.fill(2);
            memory.set(37, 0, 3, bad);
            memory.set(33, 2, dim - 1, bad);
            memory.set(35, 1, 0, bad);
            std::vector<uint8_t> tiers(40, 2);
            tiers[33] = 4;
            Room room(tiers, 3, dim, dtype);
            expect(pack(*GetParam(), memory, tiers, flags, dtype, room), Verdict::kNonFinite, 33, 2);
            std::vector<float> out(120);
            expect(GetParam()->absmax(memory.rows(), {}, out.data()), Verdict::kNonFinite, 33, 2);
            EXPECT_FALSE(std::isfinite(out[33 * 3 + 2]));
            EXPECT_FALSE(std::isfinite(out[37 * 3]));
            EXPECT_TRUE(std::isfinite(out[36 * 3]));
            Vectors vectors(static_cast<size_t>(3 * dim));
            expect(vectors.make(*GetParam(), memory.rows(), tiers, kAll), Verdict::kNonFinite, 0, 0);

            // RAW and DROP rows may hold anything, and RAW rows keep it.
            tiers[33] = tiers[35] = tiers[37] = tiers::kRaw;
            Room raw(tiers, 3, dim, dtype);
            EXPECT_EQ(vectors.make(*GetParam(), memory.rows(), tiers, kAll).kind, Verdict::kOk);
            EXPECT_EQ(pack(*GetParam(), memory, tiers, flags, dtype, raw).kind, Verdict::kOk);
            for (int32_t other = 1; other <= 3; ++other) {
              Memory want({40, 3, dim, other, layout});
              Memory got(want.shape);
              const kernels::Transform none{nullptr, nullptr, nullptr, tiers::hadamard_of(flags)};
              reference().unpack({want.rows(), tiers.data(), none, 0, dtype, 3, 0, raw.sections()});
              GetParam()->unpack({got.rows(), tiers.data(), none, 0, dtype, 3, 0, raw.sections()});
              EXPECT_TRUE(same(want.bytes, got.bytes));
              EXPECT_FALSE(std::isfinite(got.get(33, 2, dim - 1)));
            }
            if (HasFailure()) return;
          }
        }
      }
    }
  }
}

TEST_P(Specials, HugeElementsOverflowTheScaleOrTheMean) {
  for (const int32_t dim : {64, 128}) {
    Memory memory({40, 2, dim, tiers::kF32, Layout::kTokenMajor});
    memory.fill(2);
    memory.set(34, 1, 7, 9e6F);  // / 127 is beyond f16
    memory.set(36, 0, 7, INFINITY);
    std::vector<uint8_t> tiers(40, 3);
    Room room(tiers, 2, dim, 3);
    expect(pack(*GetParam(), memory, tiers, 0, 3, room), Verdict::kOverflow, 34, 1);
    expect(pack(*GetParam(), memory, tiers, tiers::kHadamard8, 3, room), Verdict::kOverflow, 34, 1);
    memory.set(34, 1, 7, 3.3e38F);
    memory.set(34, 1, 7 + dim / 8, 3.3e38F);  // the butterflies overflow
    expect(pack(*GetParam(), memory, tiers, tiers::kHadamard8, 3, room), Verdict::kNonFinite, 34, 1);

    tiers[36] = tiers::kRaw;
    for (int32_t t = 0; t < 40; ++t) memory.set(t, 1, 7, 70000.0F);
    Vectors vectors(static_cast<size_t>(2 * dim));
    expect(vectors.make(*GetParam(), memory.rows(), tiers, tiers::kMean), Verdict::kOverflow, 0, 1);
    EXPECT_EQ(vectors.make(*GetParam(), memory.rows(), tiers, tiers::kBalance).kind, Verdict::kOk);
  }
}

TEST_P(Specials, RawRowsThatOverflowTheirTypeAreBlamed) {
  Memory memory({3, 2, 64, tiers::kF32, Layout::kTokenMajor});
  memory.fill(2);
  const std::vector<uint8_t> tiers{2, 5, 5};
  memory.set(1, 0, 1, INFINITY);
  memory.set(2, 1, 9, 65519.0F);
  Room room(tiers, 2, 64, 1);
  EXPECT_EQ(pack(*GetParam(), memory, tiers, 0, 1, room).kind, Verdict::kOk);
  memory.set(2, 1, 9, -65520.0F);
  expect(pack(*GetParam(), memory, tiers, 0, 1, room), Verdict::kOverflow, 2, 1);
  EXPECT_EQ(pack(*GetParam(), memory, tiers, 0, 2, room).kind, Verdict::kOk);
  memory.set(2, 0, 9, 3.4e38F);
  expect(pack(*GetParam(), memory, tiers, 0, 2, room), Verdict::kOverflow, 2, 0);
}

INSTANTIATE_TEST_SUITE_P(Targets, Specials, testing::ValuesIn(all_targets()), name_of);

TEST(Targets, WhatTheCpuHasIsThere) {
  EXPECT_NE(kernels::kernels_of(SKV_TARGET_SCALAR), nullptr);
  ASSERT_NE(kernels::kernels_of(SKV_TARGET_AUTO), nullptr);
  EXPECT_EQ(kernels::kernels_of(99), nullptr);
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
    EXPECT_NE(kernels::kernels_of(SKV_TARGET_AVX2), nullptr);
  }
  if (__builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl")) {
    ASSERT_NE(kernels::kernels_of(SKV_TARGET_AVX512), nullptr);
    EXPECT_STREQ(kernels::kernels_of(SKV_TARGET_AUTO)->name, "avx512");
  }
  EXPECT_EQ(kernels::kernels_of(SKV_TARGET_NEON), nullptr);
#elif defined(__aarch64__)
  ASSERT_NE(kernels::kernels_of(SKV_TARGET_NEON), nullptr);
  EXPECT_STREQ(kernels::kernels_of(SKV_TARGET_NEON)->name, "neon");
  EXPECT_EQ(kernels::kernels_of(SKV_TARGET_AUTO), kernels::kernels_of(SKV_TARGET_NEON));
  EXPECT_EQ(kernels::kernels_of(SKV_TARGET_AVX2), nullptr);
#endif
}

}  // namespace
}  // namespace skv::parity
