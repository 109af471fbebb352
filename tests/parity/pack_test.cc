// SPDX-License-Identifier: Apache-2.0
#include "chunk.h"
#include "spec.h"

namespace skv::parity {
namespace {

struct Packed {
  Vectors vectors;
  Room room;
  Verdict verdict;
};

Packed packed(const Kernels& k, Memory& memory, const Case& c, const std::vector<uint8_t>& tiers) {
  const auto channels = static_cast<size_t>(c.shape.heads * c.shape.dim);
  Packed out{Vectors(channels), Room(tiers, c.shape.heads, c.shape.dim, raw_dtype_of(c)), {}};
  const Verdict made = out.vectors.make(k, memory.rows(), tiers, c.transforms);
  EXPECT_EQ(made.kind, Verdict::kOk);
  out.verdict = k.pack({memory.rows(), tiers.data(), out.vectors.transform(c.transforms), code_of(c.pattern),
                        raw_dtype_of(c), out.room.sections()});
  return out;
}

class PackParity : public testing::TestWithParam<const Kernels*> {};

TEST_P(PackParity, GivesTheBytesOfTheReference) {
  for (const Case& c : cases()) {
    SCOPED_TRACE(testing::Message() << c);
    Memory memory(c.shape);
    memory.fill(c.seed);
    const std::vector<uint8_t> tiers = tiers_of(c.pattern, c.shape.tokens, c.seed);
    const Lines before = memory.bytes;
    const Packed want = packed(reference(), memory, c, tiers);
    const Packed got = packed(*GetParam(), memory, c, tiers);
    EXPECT_EQ(want.vectors.counted, got.vectors.counted);
    EXPECT_TRUE(same(want.vectors.sum, got.vectors.sum));
    EXPECT_TRUE(same(want.vectors.lo, got.vectors.lo));
    EXPECT_TRUE(same(want.vectors.hi, got.vectors.hi));
    EXPECT_TRUE(same(want.vectors.mean16, got.vectors.mean16));
    EXPECT_TRUE(same(want.vectors.balance16, got.vectors.balance16));
    EXPECT_TRUE(same(want.vectors.mean32, got.vectors.mean32));
    EXPECT_TRUE(same(want.vectors.balance32, got.vectors.balance32));
    EXPECT_TRUE(same(want.vectors.recip32, got.vectors.recip32));
    EXPECT_EQ(want.verdict.kind, Verdict::kOk);
    EXPECT_EQ(got.verdict.kind, Verdict::kOk);
    EXPECT_TRUE(same(want.room.bytes, got.room.bytes));
    EXPECT_TRUE(same(before, memory.bytes));
    if (HasFailure()) return;
  }
}

INSTANTIATE_TEST_SUITE_P(Targets, PackParity, testing::ValuesIn(targets()), name_of);

TEST(PackReference, AgreesWithASecondReadingOfTheFormat) {
  for (const Case& c : cases()) {
    if (c.shape.layout != Layout::kTokenMajor || c.seed % 3 == 1) continue;
    SCOPED_TRACE(testing::Message() << c);
    Memory memory(c.shape);
    memory.fill(c.seed);
    const std::vector<uint8_t> tiers = tiers_of(c.pattern, c.shape.tokens, c.seed);
    const Packed got = packed(reference(), memory, c, tiers);
    const spec::Encoded want = spec::encode(memory, tiers, c.transforms, code_of(c.pattern), raw_dtype_of(c));
    if ((c.transforms & tiers::kMean) != 0) {
      EXPECT_TRUE(same(want.mean, got.vectors.mean16));
    }
    if ((c.transforms & tiers::kBalance) != 0) {
      EXPECT_TRUE(same(want.balance, got.vectors.balance16));
    }
    EXPECT_TRUE(same(want.sections, got.room.bytes));
    if (HasFailure()) return;
  }
}

}  // namespace
}  // namespace skv::parity
