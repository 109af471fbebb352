// SPDX-License-Identifier: Apache-2.0
// Planning and scoring: the budget is met and never exceeded, importance steers, queries are weighed as the formula
// says.
#include "plan.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "codec.h"
#include "error.h"
#include "tensors.h"

namespace skv {
namespace {

using test::Geometry;
using test::Layout;
using test::Tensors;

skv_status status_of(const std::function<void()>& call, std::string* message = nullptr) {
  try {
    call();
    return SKV_OK;
  } catch (const Error& e) {
    if (message != nullptr) *message = e.message();
    return e.status();
  }
}

TEST(Plan, MeetsEveryBudgetAndNeverExceedsIt) {
  Geometry g;
  g.tokens = 700;
  g.layers = 4;
  Engine engine(SKV_DEVICE_CPU);
  Tensors from(g, Layout::kTokenMajor, true);
  uint64_t before = 0;
  for (int percent = 23; percent <= 100; ++percent) {
    Plan plan;
    plan.options.unproven = true;
    plan.set_fraction(percent / 100.0);
    solve(engine, plan, from.cache(), nullptr);
    ASSERT_LE(plan.payload_bytes(), plan.budget_bytes()) << percent;
    // A K row of this geometry steps by at most 126 x 2 bytes; sections add at most 15 bytes of padding each.
    EXPECT_GE(plan.payload_bytes() + 1024, plan.budget_bytes()) << percent;
    EXPECT_GE(plan.payload_bytes() + 1024, before);
    before = plan.payload_bytes();
    auto payload = Payload::create(from.cache(), plan, {});
    encode_layers(engine, from.cache(), plan, *payload, 0, g.layers);
    EXPECT_EQ(plan.payload_bytes(), payload->bytes().size());
    EXPECT_EQ(plan.payload_bytes(), parse(payload->bytes()).header.total_bytes);
  }
}

TEST(Plan, AbsoluteBudgetsAreExactLimits) {
  Geometry g;
  Engine engine(SKV_DEVICE_CPU);
  Tensors from(g, Layout::kTokenMajor, true);
  for (const uint64_t bytes : {70000U, 77777U, 100003U, 250001U}) {
    Plan plan;
    plan.options.unproven = true;
    plan.set_bytes(bytes);
    solve(engine, plan, from.cache(), nullptr);
    EXPECT_LE(plan.payload_bytes(), bytes);
    EXPECT_GE(plan.payload_bytes() + 1024, bytes);
  }
}

TEST(Plan, BelowTheFloorNamesTheFloor) {
  Geometry g;
  Engine engine(SKV_DEVICE_CPU);
  Tensors from(g, Layout::kTokenMajor, true);
  for (const char* strategy : {"error-aware", "greedy"}) {
    Plan plan;
    plan.options.unproven = true;
    plan.set_strategy(strategy);
    plan.set_bytes(1000);
    std::string message;
    EXPECT_EQ(SKV_E_BUDGET, status_of([&] { solve(engine, plan, from.cache(), nullptr); }, &message));
    const size_t at = message.find("floor of ");
    ASSERT_NE(std::string::npos, at) << message;
    const uint64_t floor_bytes = std::stoull(message.substr(at + 9));
    plan.set_bytes(floor_bytes);  // the floor itself works, one byte less does not
    EXPECT_EQ(SKV_OK, status_of([&] { solve(engine, plan, from.cache(), nullptr); })) << strategy;
    EXPECT_EQ(floor_bytes, plan.payload_bytes());
    plan.set_bytes(floor_bytes - 1);
    EXPECT_EQ(SKV_E_BUDGET, status_of([&] { solve(engine, plan, from.cache(), nullptr); })) << strategy;
  }
}

TEST(Plan, SinksAreRawAndKeysNeverBelowFourBits) {
  Geometry g;
  Engine engine(SKV_DEVICE_CPU);
  Tensors from(g, Layout::kTokenMajor, true);
  for (const double budget : {0.25, 0.28, 0.5}) {
    Plan plan;
    plan.options.unproven = true;
    plan.set_fraction(budget);
    solve(engine, plan, from.cache(), nullptr);
    for (int32_t l = 0; l < g.layers; ++l) {
      for (int half = 0; half < 2; ++half) {
        const auto tiers = plan.tiers_of(l, half);
        for (int t = 0; t < 4; ++t) EXPECT_EQ(tiers::kRaw, tiers[static_cast<size_t>(t)]);
      }
      for (const uint8_t tier : plan.tiers_of(l, SKV_K)) EXPECT_GE(tier, 2);
    }
  }
}

TEST(Plan, SinksCountFromTheSequenceNotTheView) {
  Geometry g;
  Engine engine(SKV_DEVICE_CPU);
  Tensors from(g, Layout::kTokenMajor, true);
  from.cache().set_tokens(SKV_ALL, 2, g.tokens);
  Plan plan;
  plan.options.unproven = true;
  plan.set_strategy("uniform-4");
  solve(engine, plan, from.cache(), nullptr);
  EXPECT_EQ(tiers::kRaw, plan.tiers_of(0, SKV_K)[1]);
  EXPECT_EQ(2, plan.tiers_of(0, SKV_K)[2]);
}

TEST(Plan, CallerWeightsSteer) {
  Geometry g;
  g.tokens = 400;
  Engine engine(SKV_DEVICE_CPU);
  Tensors from(g, Layout::kTokenMajor, true);
  Scores scores;
  std::vector<float> weights(400, 1.0F);
  for (int t = 100; t < 120; ++t) weights[static_cast<size_t>(t)] = 1e6F;
  for (int32_t l = 0; l < g.layers; ++l) {
    scores.set_weights(l, SKV_K, weights);
    scores.set_weights(l, SKV_V, weights);
  }
  score(engine, from.cache(), scores);
  EXPECT_EQ(SKV_SCORED_CALLER, scores.scored());
  Plan plan;
  plan.options.unproven = true;
  plan.set_fraction(0.30);
  solve(engine, plan, from.cache(), &scores);
  for (int32_t l = 0; l < g.layers; ++l) {
    for (int half = 0; half < 2; ++half) {
      const auto tiers = plan.tiers_of(l, half);
      for (size_t t = 100; t < 120; ++t) EXPECT_GE(tiers[t], 4) << "layer " << l << " half " << half << " token " << t;
    }
  }
}

// Weights of every token of a layer, written from the formula in double precision.
std::vector<double> expected_costs(const Tensors& from, const Geometry& g, const std::vector<float>& q, int count,
                                   int q_heads, int half) {
  const int group = q_heads / g.heads;
  const int dim = g.dim[0];
  std::vector<double> cost(static_cast<size_t>(g.tokens), 0.0);
  for (int i = 0; i < count; ++i) {
    for (int qh = 0; qh < q_heads; ++qh) {
      const int h = qh / group;
      const float* query =
          q.data() +
          (static_cast<size_t>(i) * static_cast<size_t>(q_heads) + static_cast<size_t>(qh)) * static_cast<size_t>(dim);
      const int last = g.tokens - count + i;
      std::vector<double> a(static_cast<size_t>(g.tokens), 0.0);
      double top = -1e300;
      for (int t = 0; t <= last; ++t) {
        double dot = 0;
        for (int c = 0; c < dim; ++c) dot += static_cast<double>(query[c]) * from.at(0, SKV_K, t, h, c);
        a[static_cast<size_t>(t)] = dot / std::sqrt(static_cast<double>(dim));
        top = std::max(top, a[static_cast<size_t>(t)]);
      }
      double sum = 0;
      for (int t = 0; t <= last; ++t) sum += a[static_cast<size_t>(t)] = std::exp(a[static_cast<size_t>(t)] - top);
      std::vector<double> o(static_cast<size_t>(g.dim[1]), 0.0);
      for (int t = 0; t <= last; ++t) {
        a[static_cast<size_t>(t)] /= sum;
        for (int c = 0; c < g.dim[1]; ++c)
          o[static_cast<size_t>(c)] += a[static_cast<size_t>(t)] * from.at(0, SKV_V, t, h, c);
      }
      double q2 = 0;
      for (int c = 0; c < dim; ++c) q2 += static_cast<double>(query[c]) * query[c];
      for (int t = 0; t <= last; ++t) {
        double spread = 0;
        for (int c = 0; c < g.dim[1]; ++c) {
          const double d = from.at(0, SKV_V, t, h, c) - o[static_cast<size_t>(c)];
          spread += d * d;
        }
        const double a2 = a[static_cast<size_t>(t)] * a[static_cast<size_t>(t)];
        cost[static_cast<size_t>(t)] += half == SKV_V ? a2 : a2 * spread * q2;
      }
    }
  }
  return cost;
}

TEST(Scores, QueriesAreWeighedAsTheFormulaSays) {
  Geometry g;
  g.layers = 1;
  g.tokens = 140;
  g.dtype = SKV_F32;
  Engine engine(SKV_DEVICE_CPU);
  Tensors from(g, Layout::kTokenMajor, true);
  const int count = 8;
  const int q_heads = 6;
  std::mt19937 random(5);
  std::normal_distribution<float> normal;
  std::vector<float> q(static_cast<size_t>(count * q_heads * 64));
  for (float& x : q) x = normal(random) * 0.3F;
  QueryView view;
  view.base = reinterpret_cast<const std::byte*>(q.data());
  view.bytes = q.size() * 4;
  view.dtype = SKV_F32;
  view.count = count;
  view.heads = q_heads;
  view.stride_query = q_heads * 64 * 4;
  view.stride_head = 64 * 4;
  view.stride_elem = 4;
  Scores scores;
  scores.set_queries(0, view);
  score(engine, from.cache(), scores);
  EXPECT_EQ(SKV_SCORED_QUERIES, scores.scored());
  // Half of the cost is the prior's: what the queries attend to most must still rank first, and far from the end an
  // unattended token must rank below an attended one.
  for (int half = 0; half < 2; ++half) {
    const std::vector<double> expected = expected_costs(from, g, q, count, q_heads, half);
    const std::vector<float> got = scores.weights(0, half).list();
    const auto best = std::max_element(expected.begin() + 4, expected.end() - 32) - expected.begin();
    const auto least = std::min_element(expected.begin() + 4, expected.end() - 32) - expected.begin();
    EXPECT_GT(got[static_cast<size_t>(best)], 1.5F * got[static_cast<size_t>(least)]) << "half " << half;
    // Ranks agree (Spearman) away from the recent tokens that the prior lifts.
    std::vector<size_t> a(100);
    std::iota(a.begin(), a.end(), 4);
    std::vector<size_t> b = a;
    std::sort(a.begin(), a.end(), [&](size_t x, size_t y) { return expected[x] < expected[y]; });
    std::sort(b.begin(), b.end(), [&](size_t x, size_t y) { return got[x] < got[y]; });
    std::vector<double> rank_a(200);
    std::vector<double> rank_b(200);
    for (size_t i = 0; i < a.size(); ++i) rank_a[a[i]] = rank_b[b[i]] = static_cast<double>(i);
    double squares = 0;
    for (size_t t = 4; t < 104; ++t) squares += (rank_a[t] - rank_b[t]) * (rank_a[t] - rank_b[t]);
    const double spearman = 1 - 6 * squares / (100.0 * (100.0 * 100.0 - 1));
    EXPECT_GT(spearman, 0.7) << "half " << half;
  }
}

TEST(Scores, AreEqualForEveryTargetAndThreadCount) {
  Geometry g;
  g.tokens = 333;
  Tensors from(g, Layout::kTokenMajor, true);
  std::vector<float> q(16 * 4 * 64);
  for (size_t i = 0; i < q.size(); ++i) q[i] = std::sin(static_cast<float>(i) * 0.37F);
  std::vector<float> expected;
  for (int32_t target = SKV_TARGET_SCALAR; target <= SKV_TARGET_NEON; ++target) {
    if (kernels::kernels_of(target) == nullptr) continue;
    for (const int32_t threads : {1, 3}) {
      Engine engine(SKV_DEVICE_CPU);
      engine.set(SKV_ENGINE_TARGET, target);
      engine.set(SKV_ENGINE_THREADS, threads);
      Scores scores;
      scores.set_queries(1, {reinterpret_cast<const std::byte*>(q.data()), q.size() * 4, SKV_F32, 16, 4, 4 * 64 * 4,
                             64 * 4, 4, 0, 100});
      score(engine, from.cache(), scores);
      std::vector<float> got;
      for (int half = 0; half < 2; ++half) {
        for (int32_t l = 0; l < 2; ++l) {
          const std::vector<float> of = scores.weights(l, half).list();
          got.insert(got.end(), of.begin(), of.end());
        }
      }
      if (expected.empty()) expected = got;
      EXPECT_EQ(expected, got) << "target " << target << " threads " << threads;
    }
  }
}

TEST(Scores, NonsenseQueriesAreRefused) {
  Geometry g;
  Engine engine(SKV_DEVICE_CPU);
  Tensors from(g, Layout::kTokenMajor, true);
  std::vector<float> q(8 * 4 * 64, 0.1F);
  const auto base = reinterpret_cast<const std::byte*>(q.data());
  const auto run = [&](const QueryView& view) {
    return status_of([&] {
      Scores scores;
      scores.set_queries(0, view);
      score(engine, from.cache(), scores);
    });
  };
  const QueryView good{base, q.size() * 4, SKV_F32, 8, 4, 1024, 256, 4, 0, 0};
  EXPECT_EQ(SKV_OK, run(good));
  QueryView bad = good;
  bad.bytes -= 1;
  EXPECT_EQ(SKV_E_STRIDE, run(bad));
  bad = good;
  bad.stride_query = INT64_MAX;
  EXPECT_EQ(SKV_E_STRIDE, run(bad));
  bad = good;
  bad.heads = 3;
  EXPECT_EQ(SKV_E_GEOMETRY, run(bad));
  q[100] = NAN;
  EXPECT_EQ(SKV_E_NON_FINITE, run(good));
}

TEST(Plan, GreedyIsThePapersShape) {
  Geometry g;
  g.tokens = 1000;
  g.layers = 1;
  Engine engine(SKV_DEVICE_CPU);
  Tensors from(g, Layout::kTokenMajor, true);
  Plan plan;
  plan.options.unproven = true;
  plan.set_strategy("greedy");
  plan.set_fraction(0.45);
  solve(engine, plan, from.cache(), nullptr);
  EXPECT_LE(plan.payload_bytes(), plan.budget_bytes());
  EXPECT_EQ(SKV_CODE_PAPER, plan.layers()[0].shape.code);
  EXPECT_EQ(0, plan.layers()[0].shape.transforms[0]);
  const TierCounts& counts = plan.layers()[0].counts[0];
  EXPECT_EQ(1000U, counts.rows[2] + counts.rows[4]);
  EXPECT_GT(counts.rows[4], 500U);  // f8 = 4b - 1 = 0.8, less what scales and maps take
  plan.set_fraction(0.75);
  solve(engine, plan, from.cache(), nullptr);
  EXPECT_EQ(0U, plan.layers()[0].counts[0].rows[2]);
  EXPECT_GT(plan.layers()[0].counts[0].rows[tiers::kRaw], 300U);  // f16 = 2b - 1 = 0.5
}

}  // namespace
}  // namespace skv
