// SPDX-License-Identifier: Apache-2.0
#include "chunk.h"
#include "kernels/cpu/exp.h"

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
    const int64_t stride = c.shape.tokens + 3;
    std::vector<float> want(size(c.shape.tokens + 3), -1.0F);  // what lies between the rows stays
    std::vector<float> got = want;
    reference().dots(memory.rows(), head, q.data(), count, want.data(), stride);
    GetParam()->dots(memory.rows(), head, q.data(), count, got.data(), stride);
    EXPECT_TRUE(same(want, got));

    std::vector<float> squares(static_cast<size_t>(c.shape.tokens)), others(squares.size());
    reference().norms(memory.rows(), head, squares.data());
    GetParam()->norms(memory.rows(), head, others.data());
    EXPECT_TRUE(same(squares, others));
    for (int32_t t = 0; t < c.shape.tokens; ++t) {
      float all = 0;
      for (int32_t i = 0; i < c.shape.dim; ++i) all += memory.get(t, head, i) * memory.get(t, head, i);
      ASSERT_NEAR(squares[static_cast<size_t>(t)], all, 1e-4F * all);
    }

    const std::vector<float> weights = some(size(c.shape.tokens + 3), c.seed + 1);
    std::vector<float> sum = some(q.size(), c.seed + 2);
    std::vector<float> other = sum;
    reference().accumulate(memory.rows(), head, weights.data(), stride, count, sum.data());
    GetParam()->accumulate(memory.rows(), head, weights.data(), stride, count, other.data());
    EXPECT_TRUE(same(sum, other));
    if (HasFailure()) return;
  }
}

TEST_P(ScoreParity, SoftmaxIsTheReferences) {
  std::vector<float> x;
  for (double v = -104.0; v < 3.0; v += 0.00317) x.push_back(static_cast<float>(v));
  for (const float v : {0.0F, -0.0F, -INFINITY, -87.0F, -87.00001F, -1e30F, 1e-40F}) x.push_back(v);
  for (const float scale : {1.0F, 0.125F}) {
    for (const size_t n : {size_t{1}, size_t{3}, size_t{15}, size_t{16}, size_t{17}, size_t{100}, x.size()}) {
      std::vector<float> want(x.end() - static_cast<std::ptrdiff_t>(n), x.end());
      std::vector<float> got = want;
      reference().softmax(want.data(), n, scale);
      GetParam()->softmax(got.data(), n, scale);
      EXPECT_TRUE(same(want, got)) << n;
    }
  }
}

TEST_P(ScoreParity, ChargesAreTheReferences) {
  for (const size_t n : {1U, 7U, 16U, 31U, 256U}) {
    const std::vector<float> a = some(n, 1), products = some(n, 2), norms = some(n, 3);
    const std::vector<float> before = some(3 * n, 4);
    for (const bool values : {true, false}) {
      const auto charged = [&](const Kernels& kernels) {
        std::vector<float> out = before;
        kernels.charge(a.data(), values ? products.data() : nullptr, values ? norms.data() : nullptr, n, 0.3F, 1.7F,
                       out.data(), out.data() + n, values ? out.data() + 2 * n : nullptr);
        return out;
      };
      const std::vector<float> want = charged(reference());
      EXPECT_TRUE(same(want, charged(*GetParam()))) << n;
      EXPECT_FALSE(same(want, before));
    }
  }
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
    const auto x = static_cast<float>(v);
    const double want = std::exp(static_cast<double>(x));
    worst = std::max(worst, std::fabs(kernels::exp_of(x) - want) / want);
  }
  EXPECT_LT(worst, 1e-6);
  EXPECT_EQ(kernels::exp_of(-87.01F), 0.0F);
  EXPECT_EQ(kernels::exp_of(88.8F), INFINITY);
  EXPECT_EQ(kernels::exp_of(0.0F), 1.0F);
  EXPECT_TRUE(std::isnan(kernels::exp_of(NAN)));
}

TEST(ScoreReference, SoftmaxSumsToOne) {
  std::vector<float> x = some(1000, 5), want(1000);
  double sum = 0.0, all = 0.0;
  for (const float v : x) sum += std::exp(0.5 * v);
  for (size_t i = 0; i < x.size(); ++i) want[i] = static_cast<float>(std::exp(0.5 * x[i]) / sum);
  reference().softmax(x.data(), x.size(), 0.5F);
  for (size_t i = 0; i < x.size(); ++i) {
    EXPECT_NEAR(x[i], want[i], 1e-5F * want[i]);
    all += x[i];
  }
  EXPECT_NEAR(all, 1.0, 1e-5);
}

TEST(ScoreReference, ChargesAreTheFormula) {
  const float a = 0.5F, product = 2.0F, norm = 9.0F;
  float out[3] = {1, 2, 3};
  reference().charge(&a, &product, &norm, 1, 4.0F, 10.0F, out, out + 1, out + 2);
  EXPECT_EQ(out[0], 1.5F);
  EXPECT_EQ(out[1], 2.0F + 0.25F * 9.0F * 10.0F);
  EXPECT_EQ(out[2], 3.25F);
  const float near = 100.0F;  // a spread below 0 is rounding: no cost
  reference().charge(&a, &near, &norm, 1, 4.0F, 10.0F, out, out + 1, out + 2);
  EXPECT_EQ(out[1], 2.0F + 0.25F * 9.0F * 10.0F);
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
  reference().dots(memory.rows(), 0, q.data(), 1, &out, 1);
  EXPECT_EQ(tiers::bits_of(out), tiers::bits_of(lane[0]));
}

}  // namespace
}  // namespace skv::parity
