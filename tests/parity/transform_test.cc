// SPDX-License-Identifier: Apache-2.0
#include "chunk.h"

namespace skv::parity {
namespace {

class TransformParity : public testing::TestWithParam<const Kernels*> {};

TEST_P(TransformParity, AbsmaxIsTheReferences) {
  for (const Case& c : cases()) {
    if (c.seed % 2 == 1) continue;
    SCOPED_TRACE(testing::Message() << c);
    Memory memory(c.shape);
    memory.fill(c.seed);
    const std::vector<uint8_t> tiers = tiers_of(c.pattern, c.shape.tokens, c.seed);
    Vectors vectors(static_cast<size_t>(c.shape.heads * c.shape.dim));
    ASSERT_EQ(vectors.make(reference(), memory.rows(), tiers, c.transforms).kind, Verdict::kOk);
    std::vector<float> want(static_cast<size_t>(c.shape.tokens * c.shape.heads));
    std::vector<float> got(want.size());
    const Verdict a = reference().absmax(memory.rows(), vectors.transform(c.transforms), want.data());
    const Verdict b = GetParam()->absmax(memory.rows(), vectors.transform(c.transforms), got.data());
    EXPECT_EQ(a.kind, Verdict::kOk);
    EXPECT_EQ(b.kind, Verdict::kOk);
    EXPECT_TRUE(same(want, got));
    if (HasFailure()) return;
  }
}

TEST_P(TransformParity, StatisticsOfNoRowsLeaveTheExtremesAlone) {
  const Shape shape{40, 2, 64, tiers::kF16, Layout::kTokenMajor};
  Memory memory(shape);
  memory.fill(1);
  const std::vector<uint8_t> tiers(40, tiers::kRaw);
  Vectors want(128);
  Vectors got(128);
  constexpr uint32_t kFlags = tiers::kMean | tiers::kBalance;
  EXPECT_EQ(want.make(reference(), memory.rows(), tiers, kFlags).kind, Verdict::kOk);
  EXPECT_EQ(got.make(*GetParam(), memory.rows(), tiers, kFlags).kind, Verdict::kOk);
  EXPECT_EQ(got.counted, 0);
  EXPECT_EQ(got.sum[5], 0.0F);
  EXPECT_EQ(got.lo[5], 7.0F);
  EXPECT_EQ(got.hi[127], 7.0F);
  EXPECT_EQ(got.balance32[9], 1.0F);
  EXPECT_EQ(got.recip32[9], 1.0F);
  EXPECT_TRUE(same(want.mean16, got.mean16));
  EXPECT_TRUE(same(want.balance16, got.balance16));
}

INSTANTIATE_TEST_SUITE_P(Targets, TransformParity, testing::ValuesIn(targets()), name_of);

}  // namespace
}  // namespace skv::parity
