// SPDX-License-Identifier: Apache-2.0
// Profiles and probes: what is refused and with which status, what multipliers do, and that the logit probe says no to
// the paper's code, and yes to ours, on keys with large constant offsets.
#include "profile.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "codec.h"
#include "error.h"
#include "probe.h"
#include "tensors.h"

namespace skv {
namespace {

using test::Geometry;
using test::Layout;
using test::Tensors;

skv_status status_of(const std::function<void()>& call) {
  try {
    call();
    return SKV_OK;
  } catch (const Error& e) {
    return e.status();
  }
}

Profile sample() {
  std::array<uint8_t, 32> model{};
  for (size_t i = 0; i < model.size(); ++i) model[i] = static_cast<uint8_t>(i * 7);
  Profile profile(model, 2, SKV_CODE_EMBEDDED);
  profile.calibrate(0, SKV_K, SKV_SCORED_QUERIES, 0.1, 0.003);
  profile.calibrate(1, SKV_K, SKV_SCORED_QUERIES, 0.2, 1e-7 / 3);
  profile.calibrate(1, SKV_V, SKV_SCORED_KV, 0.25, 0.5);
  profile.set_verdict(SKV_PROBE_NEEDLE, {SKV_VERDICT_YES, 2, 3});
  return profile;
}

TEST(Profile, SurvivesJson) {
  const Profile from = sample();
  const std::string text = from.json();
  const Profile to = Profile::parse(text);
  EXPECT_EQ(text, to.json());
  EXPECT_EQ(from.fingerprint(), to.fingerprint());
  EXPECT_EQ(SKV_VERDICT_YES, to.int4());
  EXPECT_EQ(2, to.verdict(SKV_PROBE_NEEDLE).passed);
  EXPECT_TRUE(to.calibrated(SKV_SCORED_QUERIES));
  EXPECT_FALSE(to.calibrated(SKV_SCORED_KV));
  EXPECT_DOUBLE_EQ(0.03, to.multiplier(0, SKV_K, SKV_SCORED_QUERIES));
  EXPECT_EQ(1.0, to.multiplier(0, SKV_K, SKV_SCORED_KV));
}

TEST(Profile, EveryEditIsRefused) {
  const std::string text = sample().json();
  int refused = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    std::string edited = text;
    if (edited[i] == ' ' || edited[i] == '\n') continue;  // layout is not part of the text's meaning
    edited[i] = edited[i] == '1' ? '2' : '1';
    if (edited == text) continue;
    std::string meaning;
    const skv_status status = status_of([&] { meaning = Profile::parse(edited).json(); });
    if (status == SKV_OK && meaning == text) continue;  // a digit beyond a double's precision
    EXPECT_TRUE(status == SKV_E_CHECKSUM || status == SKV_E_MALFORMED || status == SKV_E_VERSION) << i << " " << status;
    ++refused;
  }
  EXPECT_GT(refused, 300);
  for (size_t cut = 0; cut + 2 < text.size(); ++cut) {
    EXPECT_NE(SKV_OK, status_of([&] { Profile::parse(text.substr(0, cut)); })) << cut;
  }
  EXPECT_EQ(SKV_E_MALFORMED, status_of([&] { Profile::parse(std::string(100000, '[')); }));
}

TEST(Profile, TamperedAndStaleOnesHaveTheirOwnStatus) {
  const auto with = [](const std::string& now, const std::string& then) {
    std::string text = sample().json();
    const size_t at = text.find(now);
    EXPECT_NE(std::string::npos, at) << now;
    return status_of([&] { Profile::parse(text.replace(at, now.size(), then)); });
  };
  EXPECT_EQ(SKV_E_CHECKSUM, with("cbd2d9\"", "cbd2d8\""));                     // of another model
  EXPECT_EQ(SKV_E_VERSION, with("\"codec\": \"1.0\"", "\"codec\": \"0.9\""));  // measured with another codec
}

TEST(Profile, OneNoIsANo) {
  Profile profile = sample();
  profile.set_verdict(SKV_PROBE_LOGITS, {SKV_VERDICT_NO, 0, 1});
  EXPECT_EQ(SKV_VERDICT_NO, profile.int4());
}

// Keys as in models with a bias on the key projection: a constant of magnitude 40..200 in a few channels of every head.
struct Injected {
  explicit Injected(bool offsets) {
    g.tokens = 600;
    g.layers = 2;
    g.heads = 2;
    g.dtype = SKV_F32;
    tensors = std::make_unique<Tensors>(g, Layout::kTokenMajor, true);
    std::mt19937 random(5);
    std::normal_distribution<float> normal(0.0F, 1.0F);
    for (int32_t l = 0; l < g.layers; ++l) {
      for (int32_t t = 0; t < g.tokens; ++t) {
        for (int32_t h = 0; h < g.heads; ++h) {
          for (int32_t c = 0; c < g.dim[SKV_K]; ++c) {
            const float offset = offsets && c % 8 == 3 ? 40.0F + 20.0F * static_cast<float>(c / 8) : 0.0F;
            tensors->put(l, SKV_K, t, h, c, normal(random) + offset);
          }
        }
      }
    }
    const auto dim = static_cast<size_t>(g.dim[SKV_K]);
    queries.resize(64 * static_cast<size_t>(g.heads) * dim);
    for (float& value : queries) value = normal(random);
    for (int32_t l = 0; l < g.layers; ++l) {
      QueryView q;
      q.base = reinterpret_cast<const std::byte*>(queries.data());
      q.bytes = queries.size() * 4;
      q.dtype = SKV_F32;
      q.count = 64;
      q.heads = g.heads;
      q.stride_query = static_cast<int64_t>(static_cast<size_t>(g.heads) * dim * 4);
      q.stride_head = static_cast<int64_t>(dim * 4);
      q.stride_elem = 4;
      scores.set_queries(l, q);
    }
  }
  Geometry g;
  std::unique_ptr<Tensors> tensors;
  std::vector<float> queries;
  Scores scores;
};

TEST(LogitProbe, SaysNoToThePapersCodeOnOffsetKeysAndYesToOurs) {
  Engine engine(SKV_DEVICE_CPU);
  for (const bool offsets : {false, true}) {
    Injected data(offsets);
    Cache& cache = data.tensors->cache();
    score(engine, cache, data.scores);
    Plan ours;
    ours.set_fraction(0.3);
    solve(engine, ours, cache, &data.scores);
    EXPECT_EQ(SKV_VERDICT_YES, ours.facts.int4) << offsets;
    EXPECT_EQ(SKV_PROOF_LOGITS, ours.facts.proof);
    EXPECT_GT(ours.facts.worst_snr_db, 12.0);
    Plan papers;
    papers.set_strategy("greedy");
    papers.set_fraction(0.3);
    if (!offsets) {
      solve(engine, papers, cache, &data.scores);
      EXPECT_EQ(SKV_VERDICT_YES, papers.facts.int4);
    } else {
      EXPECT_EQ(SKV_E_PERMITTED, status_of([&] { solve(engine, papers, cache, &data.scores); }));
      EXPECT_EQ(SKV_VERDICT_NO, papers.facts.int4);
      EXPECT_LT(papers.facts.worst_snr_db, 3.0);
    }
  }
}

TEST(LogitProbe, ReadsTheCallersQueriesWhileScoringOnly) {
  Engine engine(SKV_DEVICE_CPU);
  Injected data(false);
  Cache& cache = data.tensors->cache();
  score(engine, cache, data.scores);
  std::fill(data.queries.begin(), data.queries.end(), NAN);
  data.queries = {};
  Plan plan;
  plan.set_fraction(0.3);
  solve(engine, plan, cache, &data.scores);
  EXPECT_EQ(SKV_VERDICT_YES, plan.facts.int4);
  Plan unscored;
  unscored.set_fraction(0.3);
  const Scores none;
  EXPECT_EQ(SKV_E_STATE, status_of([&] { solve(engine, unscored, cache, &none); }));
}

TEST(LogitProbe, NoVerdictNoLowTiers) {
  Engine engine(SKV_DEVICE_CPU);
  Injected data(false);
  Cache& cache = data.tensors->cache();
  Plan plan;
  plan.set_fraction(0.3);
  EXPECT_EQ(SKV_E_PERMITTED, status_of([&] { solve(engine, plan, cache, nullptr); }));
  plan.set(SKV_PLAN_UNPROVEN, 1);
  EXPECT_EQ(SKV_OK, status_of([&] { solve(engine, plan, cache, nullptr); }));
  EXPECT_EQ(SKV_PROOF_CALLER, plan.facts.proof);
  // Lossless and 8-bit plans need no verdict.
  Plan raw;
  raw.set_strategy("raw");
  EXPECT_EQ(SKV_OK, status_of([&] { solve(engine, raw, cache, nullptr); }));
  Plan eight;
  eight.set_strategy("uniform-8");
  EXPECT_EQ(SKV_OK, status_of([&] { solve(engine, eight, cache, nullptr); }));
}

TEST(Profile, BindsAPlan) {
  Engine engine(SKV_DEVICE_CPU);
  Injected data(false);
  Cache& cache = data.tensors->cache();
  const auto with = [&](const Profile& profile) {
    Plan plan;
    plan.set_fraction(0.3);
    plan.profile = std::make_shared<const Profile>(profile);
    solve(engine, plan, cache, nullptr);
    return plan;
  };
  Profile yes(cache.fingerprint(), data.g.layers, SKV_CODE_EMBEDDED);
  EXPECT_EQ(SKV_E_PERMITTED, status_of([&] { with(yes); }));  // no verdict in it
  yes.set_verdict(SKV_PROBE_NEEDLE, {SKV_VERDICT_YES, 3, 3});
  EXPECT_EQ(SKV_PROOF_PROFILE, with(yes).facts.proof);
  Profile no = yes;
  no.set_verdict(SKV_PROBE_NEEDLE, {SKV_VERDICT_NO, 1, 3});
  EXPECT_EQ(SKV_E_BUDGET, status_of([&] { with(no); }));  // 8 bits do not fit 0.3
  std::array<uint8_t, 32> other = cache.fingerprint();
  other[0] ^= 1;
  EXPECT_EQ(SKV_E_MODEL, status_of([&] { with(Profile(other, data.g.layers, SKV_CODE_EMBEDDED)); }));
  EXPECT_EQ(SKV_E_LAYOUT, status_of([&] { with(Profile(cache.fingerprint(), 5, SKV_CODE_EMBEDDED)); }));
}

TEST(Profile, MultipliersMoveBitsWhereErrorsCost) {
  Engine engine(SKV_DEVICE_CPU);
  Injected data(false);
  Cache& cache = data.tensors->cache();
  Profile profile(cache.fingerprint(), data.g.layers, SKV_CODE_EMBEDDED);
  profile.set_verdict(SKV_PROBE_NEEDLE, {SKV_VERDICT_YES, 3, 3});
  for (int32_t l = 0; l < 2; ++l) {
    for (int32_t half = 0; half < 2; ++half) {
      profile.calibrate(l, half, SKV_SCORED_KV, 1.0, l == 1 && half == SKV_K ? 1.0 : 0.001);
    }
  }
  Plan plan;
  plan.set_fraction(0.4);
  plan.profile = std::make_shared<const Profile>(profile);
  solve(engine, plan, cache, nullptr);
  const auto planes = [&](int32_t l) {
    int sum = 0;
    for (const uint8_t tier : plan.tiers_of(l, SKV_K)) sum += tier;
    return sum;
  };
  EXPECT_GT(planes(1), planes(0) + 400);
  EXPECT_GT(plan.facts.predicted_kl, 0.0);
  EXPECT_NEAR(plan.facts.predicted_kl, plan.cost(0, 0) + plan.cost(0, 1) + plan.cost(1, 0) + plan.cost(1, 1), 1e-12);
}

TEST(NeedleProbe, TwoOfThree) {
  NeedleProbe probe(300);
  EXPECT_EQ(SKV_E_STATE, status_of([&] { probe.verdict(); }));
  for (int32_t trial = 0; trial < 3; ++trial) {
    const std::string& prompt = probe.prompt(trial);
    EXPECT_GT(prompt.size(), 1200U);
    EXPECT_NE(std::string::npos, prompt.find("As stated above"));
  }
  EXPECT_NE(probe.prompt(0), probe.prompt(1));
  EXPECT_TRUE(probe.answer(0, " 58314."));
  EXPECT_FALSE(probe.answer(1, " 12345."));
  EXPECT_EQ(SKV_E_STATE, status_of([&] { probe.answer(1, "70926"); }));
  EXPECT_EQ(SKV_E_RANGE, status_of([&] { probe.answer(3, "x"); }));
  EXPECT_TRUE(probe.answer(2, "it is 41687"));
  EXPECT_EQ(SKV_VERDICT_YES, probe.verdict().int4);
  EXPECT_EQ(2, probe.verdict().passed);
}

}  // namespace
}  // namespace skv
