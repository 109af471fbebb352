// SPDX-License-Identifier: Apache-2.0
#include "chunk.h"
#include "spec.h"

namespace skv::parity {
namespace {

// A payload of one chunk, made by the reference.
struct Payload {
  Memory memory;
  std::vector<uint8_t> tiers;
  Vectors vectors;
  Room room;

  explicit Payload(const Case& c)
      : memory({c.shape.tokens, c.shape.heads, c.shape.dim, c.shape.dtype, Layout::kTokenMajor}),
        tiers(tiers_of(c.pattern, c.shape.tokens, c.seed)),
        vectors(static_cast<size_t>(c.shape.heads * c.shape.dim)),
        room(tiers, c.shape.heads, c.shape.dim, raw_dtype_of(c)) {
    memory.fill(c.seed);
    EXPECT_EQ(vectors.make(reference(), memory.rows(), tiers, c.transforms).kind, Verdict::kOk);
    const Verdict verdict = reference().pack({memory.rows(), tiers.data(), vectors.transform(c.transforms),
                                              code_of(c.pattern), raw_dtype_of(c), room.sections()});
    EXPECT_EQ(verdict.kind, Verdict::kOk);
  }
};

Memory unpacked(const Kernels& k, Payload& payload, const Case& c, int32_t first_head, int32_t heads,
                bool stream = false) {
  Memory to({c.shape.tokens, heads, c.shape.dim, c.other_dtype, c.shape.layout});
  k.unpack({to.rows(), payload.tiers.data(), payload.vectors.transform(c.transforms), code_of(c.pattern),
            raw_dtype_of(c), c.shape.heads, first_head, payload.room.sections(), stream});
  return to;
}

class UnpackParity : public testing::TestWithParam<const Kernels*> {};

TEST_P(UnpackParity, GivesTheBytesOfTheReference) {
  for (const Case& c : cases()) {
    SCOPED_TRACE(testing::Message() << c);
    Payload payload(c);
    const int32_t first = static_cast<int32_t>(c.seed) % c.shape.heads;
    const int32_t heads = 1 + static_cast<int32_t>(c.seed / 7) % (c.shape.heads - first);
    const std::vector<std::byte> before = payload.room.bytes;
    const Memory want = unpacked(reference(), payload, c, first, heads);
    const Memory got = unpacked(*GetParam(), payload, c, first, heads);
    EXPECT_TRUE(same(want.bytes, got.bytes));
    EXPECT_TRUE(same(want.bytes, unpacked(*GetParam(), payload, c, first, heads, true).bytes));
    EXPECT_TRUE(same(before, payload.room.bytes));
    if (HasFailure()) return;
  }
}

INSTANTIATE_TEST_SUITE_P(Targets, UnpackParity, testing::ValuesIn(targets()), name_of);

TEST(UnpackReference, AgreesWithASecondReadingOfTheFormat) {
  for (const Case& c : cases()) {
    if (c.shape.layout != Layout::kTokenMajor || c.seed % 3 == 2) continue;
    SCOPED_TRACE(testing::Message() << c);
    Payload payload(c);
    Memory got = unpacked(reference(), payload, c, 0, c.shape.heads);
    const std::vector<float> want = spec::decode(payload.room, c.shape, payload.tiers, c.transforms, code_of(c.pattern),
                                                 raw_dtype_of(c), payload.vectors.mean16, payload.vectors.balance16);
    size_t wrong = 0;
    size_t i = 0;
    for (int32_t t = 0; t < c.shape.tokens; ++t) {
      for (int32_t h = 0; h < c.shape.heads; ++h) {
        for (int32_t d = 0; d < c.shape.dim; ++d, ++i) {
          const float stored = spec::rounded(want[i], c.other_dtype);
          wrong += tiers::bits_of(stored) == tiers::bits_of(got.get(t, h, d)) ? 0 : 1;
        }
      }
    }
    EXPECT_EQ(wrong, 0U);
    if (HasFailure()) return;
  }
}

}  // namespace
}  // namespace skv::parity
