// SPDX-License-Identifier: Apache-2.0
#include "chunk.h"

namespace skv::parity {
namespace {

class ScoreParity : public testing::TestWithParam<const Kernels*> {};

std::vector<float> some(size_t n, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(n);
  for (float& value : values) value = normal(random);
  return values;
}

TEST_P(ScoreParity, DotProductsAndWeightedSumsAreTheReferences) {
  for (const Case& c : cases()) {
    if (c.seed % 5 != 0) continue;
    SCOPED_TRACE(testing::Message() << c);
    Memory memory(c.shape);
    memory.fill(c.seed);
    const int32_t head = c.shape.heads - 1;
    const int32_t count = 1 + static_cast<int32_t>(c.seed % 7);
    const auto size = [count](int32_t n) { return static_cast<size_t>(count) * static_cast<size_t>(n); };
    const std::vector<float> q = some(size(c.shape.dim), c.seed);
    std::vector<float> want(size(c.shape.tokens));
    std::vector<float> got(want.size());
    reference().dots(memory.rows(), head, q.data(), count, want.data());
    GetParam()->dots(memory.rows(), head, q.data(), count, got.data());
    EXPECT_TRUE(same(want, got));

    const int64_t stride = c.shape.tokens + 3;
    const std::vector<float> weights = some(size(c.shape.tokens + 3), c.seed + 1);
    std::vector<float> sum = some(q.size(), c.seed + 2);
    std::vector<float> other = sum;
    reference().accumulate(memory.rows(), head, weights.data(), stride, count, sum.data());
    GetParam()->accumulate(memory.rows(), head, weights.data(), stride, count, other.data());
    EXPECT_TRUE(same(sum, other));
    if (HasFailure()) return;
  }
}

TEST_P(ScoreParity, ExponentialsAreTheReferences) {
  std::vector<float> x;
  for (double v = -104.0; v < 90.0; v += 0.00317) x.push_back(static_cast<float>(v));
  for (const float v :
       {0.0F, -0.0F, INFINITY, -INFINITY, 88.72283F, 88.72284F, 88.7229F, -87.0F, -87.00001F, 1e30F, -1e30F, 1e-40F}) {
    x.push_back(v);
  }
  std::vector<float> want = x;
  std::vector<float> got = x;
  reference().exps(want.data(), want.size(), 1.0F, 0.0F);
  GetParam()->exps(got.data(), got.size(), 1.0F, 0.0F);
  EXPECT_TRUE(same(want, got));
  want = x;
  got = x;
  reference().exps(want.data(), want.size(), 0.125F, 3.25F);
  GetParam()->exps(got.data(), got.size(), 0.125F, 3.25F);
  EXPECT_TRUE(same(want, got));
  float nan[20];
  for (float& v : nan) v = NAN;
  GetParam()->exps(nan, 20, 1.0F, 0.0F);
  for (const float v : nan) EXPECT_TRUE(std::isnan(v));
}

TEST_P(ScoreParity, DigestIsTheReferences) {
  std::vector<unsigned char> bytes(70000);
  std::mt19937 random(3);
  for (unsigned char& byte : bytes) byte = static_cast<unsigned char>(random());
  for (const size_t size : {0U, 1U, 3U, 8U, 16U, 17U, 128U, 129U, 240U, 241U, 1024U, 4097U, 65536U, 69999U}) {
    EXPECT_EQ(reference().digest(bytes.data(), size), GetParam()->digest(bytes.data(), size)) << size;
    EXPECT_EQ(reference().digest(bytes.data() + 1, size), GetParam()->digest(bytes.data() + 1, size)) << size;
  }
}

INSTANTIATE_TEST_SUITE_P(Targets, ScoreParity, testing::ValuesIn(targets()), name_of);

TEST(ScoreReference, ExponentialIsWithinOneMillionth) {
  double worst = 0.0;
  for (double v = -87.0; v < 88.72; v += 0.000173) {
    float x = static_cast<float>(v);
    const double want = std::exp(static_cast<double>(x));
    reference().exps(&x, 1, 1.0F, 0.0F);
    worst = std::max(worst, std::fabs(x - want) / want);
  }
  EXPECT_LT(worst, 1e-6);
  float edge[3] = {-87.01F, 88.8F, 0.0F};
  reference().exps(edge, 3, 1.0F, 0.0F);
  EXPECT_EQ(edge[0], 0.0F);
  EXPECT_EQ(edge[1], INFINITY);
  EXPECT_EQ(edge[2], 1.0F);
}

TEST(ScoreReference, DigestIsXxh3) {  // of "" and "abc", seed 0, as xxhsum -H3 prints them
  EXPECT_EQ(reference().digest("", 0), 0x2D06800538D394C2ULL);
  EXPECT_EQ(reference().digest("abc", 3), 0x78AF5F94892F3950ULL);
}

TEST(ScoreReference, DotProductReducesByHalves) {
  const Shape shape{1, 1, 24, tiers::kF32, Layout::kTokenMajor};
  Memory memory(shape);
  memory.fill(9);
  const std::vector<float> q = some(24, 4);
  float lane[16];
  for (int i = 0; i < 16; ++i) {
    lane[i] = q[static_cast<size_t>(i)] * memory.get(0, 0, i);
    if (i < 8) lane[i] = lane[i] + q[static_cast<size_t>(i + 16)] * memory.get(0, 0, i + 16);
  }
  for (int half = 8; half > 0; half /= 2) {
    for (int i = 0; i < half; ++i) lane[i] = lane[i] + lane[i + half];
  }
  float out;
  reference().dots(memory.rows(), 0, q.data(), 1, &out);
  EXPECT_EQ(tiers::bits_of(out), tiers::bits_of(lane[0]));
}

}  // namespace
}  // namespace skv::parity
