// SPDX-License-Identifier: Apache-2.0
// The paper's policies: counts by its formulas, order by its importance, exact bytes, and who may drop tokens.
#include "policy.h"

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

std::vector<uint32_t> in_order(uint32_t n) {
  std::vector<uint32_t> order(n);
  std::iota(order.begin(), order.end(), 0U);
  return order;
}

std::array<int, 6> count(const std::vector<uint8_t>& tiers) {
  std::array<int, 6> out{};
  for (const uint8_t tier : tiers) ++out.at(tier);
  return out;
}

TEST(Policy, NamesAndImportances) {
  EXPECT_EQ(Policy::kGreedy, parse_policy("greedy")->policy);
  EXPECT_EQ(Importance::kPosition, parse_policy("greedy")->importance);
  EXPECT_EQ(Importance::kKeyNorm, parse_policy("sws:key-norm")->importance);
  EXPECT_FALSE(parse_policy("sws:key-norm")->numbers.decay);
  EXPECT_EQ(0.005, parse_policy("sws:attention:decay=0.005")->numbers.decay);
  EXPECT_EQ(Importance::kAttention, parse_policy("sws:attention:decay=0.005")->importance);
  EXPECT_EQ(0.001, parse_policy("greedy:decay=1e-3")->numbers.decay);
  EXPECT_EQ(0.0, parse_policy("pdtrim")->numbers.first);
  EXPECT_EQ(0.3, parse_policy("pdtrim:first=0.3")->numbers.first);
  for (const char* bad : {"",
                          ":",
                          "greed",
                          "greedy:",
                          "greedy:age",
                          "random:",
                          "random:recency",
                          "random:decay=0.1",
                          "pdtrim:attention",
                          "pdtrim:",
                          "pdtrim:first=",
                          "pdtrim:first=1.1",
                          "pdtrim:first=nan",
                          "pdtrim:first=-0.1",
                          "pdtrim:first=0.3:",
                          "pdtrim:first=0.3x",
                          "pdtrim:decay=0.1",
                          "greedy:first=0.3",
                          "greedy:recency:x",
                          "greedy:recency:decay=0.1",
                          "greedy:decay=inf",
                          "greedy:decay=0.1:attention",
                          "greedy:attention:decay=0.1:decay=0.1",
                          "sws:decay="}) {
    EXPECT_FALSE(parse_policy(bad)) << bad;
  }
}

TEST(Policy, ImportanceByPositionIsThePapers) {
  const std::vector<double> by = importance_by_position(Importance::kPosition, 1000, 4);
  EXPECT_EQ(1.0, by[0]);
  EXPECT_EQ(1.0, by[3]);
  EXPECT_NEAR(std::exp(-0.96), by[100], 1e-12);
  EXPECT_NEAR(0.3, by[800], 1e-12);
  EXPECT_NEAR(0.8, by[999], 1e-12);
  EXPECT_NEAR(std::exp(-0.192), importance_by_position(Importance::kPosition, 1000, 4, 0.002)[100], 1e-12);
  const std::vector<double> recent = importance_by_position(Importance::kRecency, 10, 4);
  EXPECT_TRUE(std::is_sorted(recent.begin(), recent.end()));
  // The paper's value-aware variant puts the very last tokens above the sinks.
  const std::vector<double> value = importance_by_position(Importance::kValueAware, 1000, 4);
  EXPECT_GT(value[999], value[0]);
  EXPECT_NO_THROW(importance_by_position(Importance::kPosition, 1, 4));
}

TEST(Policy, CountsFollowTheFormulas) {
  const std::vector<uint32_t> order = in_order(1000);
  // f8 = 4b - 1 at b = 0.4; f16 = 2b - 1 at 0.75.
  EXPECT_EQ((std::array<int, 6>{0, 0, 400, 0, 600, 0}), count(policy_tiers(Policy::kGreedy, 0.4, order, 4)));
  EXPECT_EQ((std::array<int, 6>{0, 0, 0, 0, 500, 500}), count(policy_tiers(Policy::kGreedy, 0.75, order, 4)));
  EXPECT_EQ((std::array<int, 6>{0, 0, 1000, 0, 0, 0}), count(policy_tiers(Policy::kGreedy, 0.25, order, 4)));
  EXPECT_EQ((std::array<int, 6>{0, 0, 0, 0, 0, 1000}), count(policy_tiers(Policy::kGreedy, 1.0, order, 4)));
  EXPECT_EQ((std::array<int, 6>{0, 0, 400, 0, 596, 4}), count(policy_tiers(Policy::kSinkProtect, 0.4, order, 4)));
  // R = 4b - 1 = 1: FP16 0.2, INT8 0.4, INT4 0.4.
  EXPECT_EQ((std::array<int, 6>{0, 0, 400, 0, 400, 200}), count(policy_tiers(Policy::kBalanced, 0.5, order, 4)));
  EXPECT_EQ((std::array<int, 6>{0, 0, 0, 0, 500, 500}), count(policy_tiers(Policy::kBalanced, 0.75, order, 4)));
  // Two tiers; below 0.5 tokens go.
  EXPECT_EQ((std::array<int, 6>{0, 0, 0, 0, 500, 500}), count(policy_tiers(Policy::kAdaptive, 0.75, order, 4)));
  EXPECT_EQ((std::array<int, 6>{400, 0, 0, 0, 600, 0}), count(policy_tiers(Policy::kAdaptive, 0.3, order, 4)));
  EXPECT_EQ((std::array<int, 6>{500, 0, 0, 0, 0, 500}), count(policy_tiers(Policy::kPdtrim, 0.5, order, 4)));
}

TEST(Policy, PdtrimKeepsSinksAndTheMostRecent) {
  const std::vector<uint8_t> tiers = policy_tiers(Policy::kPdtrim, 0.3, in_order(100), 4);
  for (uint32_t t = 0; t < 100; ++t) EXPECT_EQ(t < 4 || t >= 74 ? tiers::kRaw : tiers::kDrop, tiers[t]) << t;
}

TEST(Policy, PdtrimTakesAShareFromTheBeginning) {
  const auto kept = [](double first) {
    std::array<uint32_t, 2> ends{};
    const std::vector<uint8_t> tiers = policy_tiers(Policy::kPdtrim, 0.5, in_order(100), 4, first);
    while (tiers[ends[0]] == tiers::kRaw) ++ends[0];
    while (tiers[99 - ends[1]] == tiers::kRaw) ++ends[1];
    EXPECT_EQ((std::array<int, 6>{50, 0, 0, 0, 0, 50}), count(tiers)) << first;
    return ends;
  };
  EXPECT_EQ((std::array<uint32_t, 2>{4, 46}), kept(0));
  EXPECT_EQ((std::array<uint32_t, 2>{4, 46}), kept(0.06));  // the sinks, whatever the share
  EXPECT_EQ((std::array<uint32_t, 2>{15, 35}), kept(0.3));
  EXPECT_EQ((std::array<uint32_t, 2>{45, 5}), kept(0.9));
  EXPECT_EQ((std::array<uint32_t, 2>{50, 0}), kept(1));
}

TEST(Policy, DecayRanksOfEqualTokensTheEarlierFirst) {
  Geometry g;
  g.tokens = 600;
  Engine engine(SKV_DEVICE_CPU);
  Tensors from(g, Layout::kTokenMajor, true);
  from.cache().set(SKV_CACHE_CAN_MASK, 1);
  // Mean position of what is kept: the steeper the decay after the sinks, the earlier.
  const auto mean_kept = [&](const char* name) {
    Plan plan;
    plan.set_strategy(name);
    plan.set_fraction(0.4);
    solve(engine, plan, from.cache(), nullptr);
    double sum = 0;
    double n = 0;
    const std::vector<uint8_t>& tiers = plan.layers()[0].tiers[0];
    for (size_t t = 0; t < tiers.size(); ++t) {
      if (tiers[t] == tiers::kDrop) continue;
      sum += static_cast<double>(t);
      ++n;
    }
    return sum / n;
  };
  const double none = mean_kept("sws:key-norm");
  EXPECT_EQ(none, mean_kept("sws:key-norm:decay=0"));
  const double some = mean_kept("sws:key-norm:decay=0.001");
  EXPECT_GT(none, some);
  EXPECT_GT(some, mean_kept("sws:key-norm:decay=0.01"));
}

TEST(Policy, EveryPolicyMeetsItsByteBudget) {
  Geometry g;
  g.tokens = 900;
  g.layers = 3;
  Engine engine(SKV_DEVICE_CPU);
  Tensors from(g, Layout::kTokenMajor, true);
  Cache& cache = from.cache();
  cache.set(SKV_CACHE_CAN_MASK, 1);
  for (const char* name :
       {"greedy", "greedy:recency", "greedy:value-aware", "greedy:key-norm", "sink-protect", "balanced", "random",
        "adaptive", "pdtrim", "pdtrim:first=0.5", "sws", "sws:key-norm", "sws:decay=0.1"}) {
    uint64_t before = 0;
    for (const double fraction : {0.35, 0.45, 0.55, 0.7, 0.95}) {
      Plan plan;
      plan.options.unproven = true;
      plan.set_strategy(name);
      plan.set_fraction(fraction);
      solve(engine, plan, cache, nullptr);
      ASSERT_LE(plan.payload_bytes(), plan.budget_bytes()) << name << " " << fraction;
      EXPECT_GT(static_cast<double>(plan.payload_bytes()), 0.93 * static_cast<double>(plan.budget_bytes()))
          << name << " " << fraction;
      EXPECT_GE(plan.payload_bytes(), before);
      before = plan.payload_bytes();
      auto payload = Payload::create(cache, plan, {});
      encode_layers(engine, cache, plan, *payload, 0, g.layers);
      EXPECT_EQ(plan.payload_bytes(), parse(payload->bytes()).header.total_bytes) << name;
    }
  }
}

TEST(Policy, DroppingNeedsACacheThatCanMask) {
  Geometry g;
  Engine engine(SKV_DEVICE_CPU);
  Tensors from(g, Layout::kTokenMajor, true);
  for (const char* name : {"adaptive", "pdtrim", "sws"}) {
    Plan plan;
    plan.set_strategy(name);
    plan.set_fraction(0.4);
    try {
      solve(engine, plan, from.cache(), nullptr);
      ADD_FAILURE() << name;
    } catch (const Error& e) {
      EXPECT_EQ(SKV_E_PERMITTED, e.status()) << name;
    }
  }
}

TEST(Policy, AttentionNeedsQueries) {
  Geometry g;
  Engine engine(SKV_DEVICE_CPU);
  Tensors from(g, Layout::kTokenMajor, true);
  Plan plan;
  plan.options.unproven = true;
  plan.set_strategy("greedy:attention");
  plan.set_fraction(0.5);
  try {
    solve(engine, plan, from.cache(), nullptr);
    ADD_FAILURE();
  } catch (const Error& e) {
    EXPECT_EQ(SKV_E_STATE, e.status());
  }
}

TEST(Policy, ThePapersPolicyTakesOurCodeWhenAsked) {
  Geometry g;
  Engine engine(SKV_DEVICE_CPU);
  Tensors from(g, Layout::kTokenMajor, true);
  Plan plan;
  plan.options.unproven = true;
  plan.set_strategy("greedy");
  plan.set(SKV_PLAN_CODE, SKV_CODE_EMBEDDED);
  plan.set_fraction(0.5);
  solve(engine, plan, from.cache(), nullptr);
  EXPECT_EQ(SKV_CODE_EMBEDDED, plan.layers()[0].shape.code);
  EXPECT_NE(0, plan.layers()[0].shape.transforms[0]);
}

}  // namespace
}  // namespace skv
