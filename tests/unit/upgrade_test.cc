// SPDX-License-Identifier: Apache-2.0
// Upgrades and truncation: the bytes of encoding at the new tiers directly, budgets kept to the byte, other bases and
// changed caches refused, hostile upgrades survived.
#include <gtest/gtest.h>

#include <random>
#include <set>

#include "codec_upgrade.h"
#include "error.h"
#include "payload_bytes.h"
#include "tensors.h"

namespace skv {
namespace {

using test::Bytes;
using test::Geometry;
using test::Layout;
using test::Tensors;

using Tiers = std::vector<std::vector<uint8_t>>;  // K, V of layer 0, K, V of layer 1, ...

Bytes copy_of(const Payload& payload) { return {payload.bytes().begin(), payload.bytes().end()}; }

template <class Work>
skv_status status_of(Work&& work) {
  try {
    work();
  } catch (const Error& error) {
    EXPECT_FALSE(error.message().empty());
    return error.status();
  }
  return SKV_OK;
}

std::vector<int32_t> targets() {
  std::vector<int32_t> found;
  for (int32_t t = SKV_TARGET_SCALAR; t <= SKV_TARGET_NEON; ++t) {
    if (kernels::kernels_of(t) != nullptr) found.push_back(t);
  }
  return found;
}

// One of the tiers [least, most] for every row; in stretches, so that both forms of the maps occur.
Tiers random_tiers(std::mt19937& random, const Geometry& g, uint8_t least, uint8_t most) {
  Tiers out;
  for (int32_t i = 0; i < 2 * g.layers; ++i) {
    std::vector<uint8_t>& tiers = out.emplace_back();
    const size_t stretch = i % 2 == 0 ? 1 : 90;
    const auto tokens = static_cast<size_t>(g.dim[i % 2] == 0 ? 0 : g.tokens);
    while (tiers.size() < tokens) {
      const size_t end = std::min(tokens, tiers.size() + 1 + random() % stretch);
      tiers.resize(end, static_cast<uint8_t>(least + random() % (most - least + 1U)));
    }
  }
  return out;
}

Tiers raised(std::mt19937& random, const Tiers& from, uint8_t most) {
  Tiers out = from;
  for (std::vector<uint8_t>& tiers : out) {
    for (uint8_t& tier : tiers) {
      if (tier < most && random() % 3 != 0) tier = static_cast<uint8_t>(tier + random() % (most - tier + 1U));
    }
  }
  return out;
}

void give(Plan& plan, const Tiers& tiers) {
  for (size_t i = 0; i < tiers.size(); ++i) {
    if (!tiers[i].empty()) plan.set_tiers(static_cast<int32_t>(i / 2), static_cast<int>(i % 2), tiers[i]);
  }
}

std::unique_ptr<Payload> encode_at(Engine& engine, Tensors& from, const Tiers& tiers, int32_t chunk = 256) {
  Plan plan;
  plan.options.unproven = true;
  plan.options.chunk = chunk;
  plan.set_strategy("uniform-4");
  from.cache().set(SKV_CACHE_CAN_MASK, 1);
  solve(engine, plan, from.cache(), nullptr);
  give(plan, tiers);
  auto payload = Payload::create(from.cache(), plan, {});
  encode_layers(engine, from.cache(), plan, *payload, 0, from.cache().layer_count());
  return payload;
}

std::unique_ptr<Payload> upgrade_to(Engine& engine, Tensors& from, Payload& base, const Tiers& tiers) {
  Plan plan;
  solve_upgrade(engine, plan, base, from.cache(), nullptr);
  give(plan, tiers);
  auto upgrade = encode_upgrade(engine, from.cache(), base, plan);
  EXPECT_EQ(upgrade->bytes().size(), plan.payload_bytes());
  EXPECT_EQ(upgrade->receipt().payload_bytes, plan.payload_bytes());
  return upgrade;
}

TEST(Upgrade, GivesTheBytesOfEncodingAtTheNewTiers) {
  std::mt19937 random(1);
  for (const int32_t dim : {8, 64, 80, 256}) {
    for (const int32_t dtype : {SKV_F16, SKV_BF16, SKV_F32}) {
      Geometry g;
      g.dim[0] = dim;
      g.dim[1] = dim == 8 ? 0 : dim;
      g.dtype = dtype;
      g.tokens = dim == 64 ? 601 : 130;
      const Tiers before = random_tiers(random, g, 1, 4);
      const Tiers after = raised(random, before, 4);
      Bytes upgrade_bytes;
      for (const int32_t target : targets()) {
        for (const Layout layout :
             {Layout::kTokenMajor, Layout::kHeadMajor, Layout::kPaged16, Layout::kPaged32Padded, Layout::kTransposed}) {
          for (const int32_t threads : {1, 3}) {
            Engine engine(SKV_DEVICE_CPU);
            engine.set(SKV_ENGINE_TARGET, target);
            engine.set(SKV_ENGINE_THREADS, threads);
            Tensors from(g, layout, true);
            const auto base = encode_at(engine, from, before);
            const auto upgrade = upgrade_to(engine, from, *base, after);
            if (upgrade_bytes.empty()) upgrade_bytes = copy_of(*upgrade);
            ASSERT_EQ(copy_of(*upgrade), upgrade_bytes) << "target " << target << " dim " << dim;
            const auto result = apply_upgrade(*base, *upgrade);
            ASSERT_EQ(copy_of(*result), copy_of(*encode_at(engine, from, after)))
                << "target " << target << " dim " << dim << " dtype " << dtype << " layout "
                << static_cast<int>(layout);
          }
        }
      }
    }
  }
}

TEST(Upgrade, SeveralInARowAreAsOne) {
  std::mt19937 random(2);
  Geometry g;
  Tensors from(g, Layout::kPaged16, true);
  Engine engine(SKV_DEVICE_CPU);
  const Tiers first = random_tiers(random, g, 0, 5);
  const Tiers second = raised(random, first, 5);
  const Tiers third = raised(random, second, 5);
  const auto base = encode_at(engine, from, first, 32);
  const auto better = apply_upgrade(*base, *upgrade_to(engine, from, *base, second));
  const auto best = apply_upgrade(*better, *upgrade_to(engine, from, *better, third));
  const auto at_once = apply_upgrade(*base, *upgrade_to(engine, from, *base, third));
  EXPECT_EQ(copy_of(*best), copy_of(*at_once));
}

TEST(Upgrade, RowsThatBecomeRawAreExactAndOthersStay) {
  std::mt19937 random(3);
  Geometry g;
  Tensors from(g, Layout::kTokenMajor, true);
  Engine engine(SKV_DEVICE_CPU);
  const Tiers before = random_tiers(random, g, 0, 4);
  Tiers after = before;
  for (std::vector<uint8_t>& tiers : after) {
    for (size_t t = 0; t < tiers.size(); t += 3) tiers[t] = 5;
  }
  const auto base = encode_at(engine, from, before);
  const auto result = apply_upgrade(*base, *upgrade_to(engine, from, *base, after));
  Tensors low(g, Layout::kTokenMajor, false);
  Tensors high(g, Layout::kTokenMajor, false);
  for (Tensors* to : {&low, &high}) to->cache().set(SKV_CACHE_CAN_MASK, 1);
  decode_layers(engine, *base, low.cache(), 0, g.layers);
  decode_layers(engine, *result, high.cache(), 0, g.layers);
  for (int32_t l = 0; l < g.layers; ++l) {
    for (const int half : {0, 1}) {
      for (int32_t t = 0; t < g.tokens; ++t) {
        const Tensors& wanted = t % 3 == 0 ? from : low;
        for (int32_t c = 0; c < g.dim[half]; ++c) {
          ASSERT_EQ(high.at(l, half, t, 1, c), wanted.at(l, half, t, 1, c)) << "token " << t;
        }
      }
    }
  }
}

TEST(Upgrade, BudgetIsKeptAndSpentWhereItCounts) {
  Geometry g;
  g.tokens = 900;
  Tensors from(g, Layout::kTokenMajor, true);
  Engine engine(SKV_DEVICE_CPU);
  Plan low;
  low.options.unproven = true;
  low.set_fraction(0.24);
  solve(engine, low, from.cache(), nullptr);
  const auto base = Payload::create(from.cache(), low, {});
  encode_layers(engine, from.cache(), low, *base, 0, g.layers);
  const auto cost = [&](const Plan& plan) {
    double sum = 0;
    for (int32_t l = 0; l < g.layers; ++l) sum += plan.cost(l, SKV_K) + plan.cost(l, SKV_V);
    return sum;
  };
  double before = cost(low);
  const double start = before;
  for (const double fraction : {0.01, 0.04, 0.08, 0.15, 0.3, 0.6, 1.1}) {
    Plan plan;
    plan.set_fraction(fraction);
    solve_upgrade(engine, plan, *base, from.cache(), nullptr);
    EXPECT_LE(plan.payload_bytes(), plan.budget_bytes());
    EXPECT_LT(cost(plan), before) << fraction;
    before = cost(plan);
    for (int32_t l = 0; l < g.layers; ++l) {
      for (const int half : {0, 1}) {
        for (size_t t = 0; t < 900; ++t) ASSERT_GE(plan.tiers_of(l, half)[t], low.tiers_of(l, half)[t]);
      }
    }
    const auto upgrade = encode_upgrade(engine, from.cache(), *base, plan);
    EXPECT_EQ(upgrade->bytes().size(), plan.payload_bytes());
    EXPECT_EQ(upgrade->receipt().budget_bytes, plan.budget_bytes());
    const auto result = apply_upgrade(*base, *upgrade);
    EXPECT_EQ(result->header().budget_bytes, base->header().budget_bytes + plan.budget_bytes());
    EXPECT_TRUE(fraction == 1.1 || plan.payload_bytes() + 2048 > plan.budget_bytes());
    // Nearly as good as a plan of as many bytes in the first place.
    if (fraction == 0.15) {
      Plan direct;
      direct.options.unproven = true;
      direct.set_bytes(result->bytes().size());
      solve(engine, direct, from.cache(), nullptr);
      EXPECT_LT(cost(plan), 1.1 * cost(direct));
      EXPECT_LT(cost(plan), 0.2 * start);
    }
  }
  EXPECT_EQ(before, 0) << "everything is RAW at last";
  Plan plan;
  plan.set_bytes(200);
  EXPECT_EQ(status_of([&] { solve_upgrade(engine, plan, *base, from.cache(), nullptr); }), SKV_E_BUDGET);
}

TEST(Upgrade, StrategiesRaiseEveryRow) {
  std::mt19937 random(4);
  Geometry g;
  Tensors from(g, Layout::kTokenMajor, true);
  Engine engine(SKV_DEVICE_CPU);
  const Tiers before = random_tiers(random, g, 0, 5);
  const auto base = encode_at(engine, from, before);
  for (const auto& [name, tier] : {std::pair{"uniform-6", 3}, {"uniform-8", 4}, {"raw", 5}}) {
    Plan plan;
    plan.set_strategy(name);
    solve_upgrade(engine, plan, *base, from.cache(), nullptr);
    for (size_t i = 0; i < before.size(); ++i) {
      const auto got = plan.tiers_of(static_cast<int32_t>(i / 2), static_cast<int>(i % 2));
      for (size_t t = 0; t < got.size(); ++t) {
        ASSERT_EQ(got[t], before[i][t] == 0 ? 0 : std::max<int>(before[i][t], tier)) << name;
      }
    }
    apply_upgrade(*base, *encode_upgrade(engine, from.cache(), *base, plan));
  }
  Plan plan;
  plan.set_strategy("greedy");
  plan.set_fraction(0.5);
  EXPECT_EQ(status_of([&] { solve_upgrade(engine, plan, *base, from.cache(), nullptr); }), SKV_E_ARGUMENT);
}

TEST(Upgrade, OtherBasesAndChangedCachesAreRefused) {
  std::mt19937 random(5);
  Geometry g;
  Engine engine(SKV_DEVICE_CPU);
  Tensors from(g, Layout::kTokenMajor, true);
  const Tiers before = random_tiers(random, g, 1, 3);
  Tiers after = before;
  after[0][17] = 4;
  after[0][18] = 5;
  const auto base = encode_at(engine, from, before);
  const auto upgrade = upgrade_to(engine, from, *base, after);
  Tiers elsewhere = before;
  elsewhere[2][5] = elsewhere[2][5] == 2 ? 3 : 2;
  const auto other = encode_at(engine, from, elsewhere);
  EXPECT_EQ(status_of([&] { apply_upgrade(*other, *upgrade); }), SKV_E_BASE);
  EXPECT_EQ(status_of([&] { apply_upgrade(*upgrade, *upgrade); }), SKV_E_STATE);
  EXPECT_EQ(status_of([&] { apply_upgrade(*base, *base); }), SKV_E_STATE);

  Plan plan;
  EXPECT_EQ(status_of([&] { encode_upgrade(engine, from.cache(), *base, plan); }), SKV_E_STATE);
  EXPECT_EQ(status_of([&] { solve_upgrade(engine, plan, *upgrade, from.cache(), nullptr); }), SKV_E_STATE);
  solve_upgrade(engine, plan, *base, from.cache(), nullptr);
  give(plan, after);
  EXPECT_EQ(status_of([&] { encode_upgrade(engine, from.cache(), *other, plan); }), SKV_E_BASE);
  EXPECT_EQ(status_of([&] { Payload::create(from.cache(), plan, {}); }), SKV_E_STATE);
  EXPECT_EQ(status_of([&] { truncate(*base, plan); }), SKV_E_STATE);
  std::vector<uint8_t> lower = before[0];
  lower[3] = 0;
  EXPECT_EQ(status_of([&] { plan.set_tiers(0, SKV_K, lower); }), SKV_E_RANGE);
  lower[3] = 6;
  EXPECT_EQ(status_of([&] { plan.set_tiers(0, SKV_K, lower); }), SKV_E_RANGE);

  Tensors to(g, Layout::kTokenMajor, false);
  EXPECT_EQ(status_of([&] { decode_layers(engine, *upgrade, to.cache(), 0, g.layers); }), SKV_E_STATE);
  EXPECT_TRUE(to.untouched());
  std::vector<uint8_t> tiers(static_cast<size_t>(g.tokens));
  EXPECT_EQ(status_of([&] { upgrade->tiers(0, SKV_K, tiers); }), SKV_E_STATE);

  // A row that is not raised may have changed; one that is may not, be it raised to RAW.
  from.put(0, SKV_K, 16, 0, 3, 40.0F);
  EXPECT_EQ(copy_of(*encode_upgrade(engine, from.cache(), *base, plan)), copy_of(*upgrade));
  for (const int32_t token : {17, 18}) {
    const float was = from.at(0, SKV_K, token, 1, 5);
    from.put(0, SKV_K, token, 1, 5, was + 30.0F);  // what the 2-bit tier resolves
    EXPECT_EQ(status_of([&] { encode_upgrade(engine, from.cache(), *base, plan); }), SKV_E_BASE);
    from.put(0, SKV_K, token, 1, 5, was);
  }
  Geometry shorter = g;
  shorter.tokens = 299;
  Tensors small(shorter, Layout::kTokenMajor, true);
  EXPECT_EQ(status_of([&] { solve_upgrade(engine, plan, *base, small.cache(), nullptr); }), SKV_E_LAYOUT);
  std::array<uint8_t, 32> model{1};
  from.cache().set_identity(model.data(), nullptr);
  EXPECT_EQ(status_of([&] { solve_upgrade(engine, plan, *base, from.cache(), nullptr); }), SKV_E_MODEL);
}

TEST(Upgrade, DroppedRowsMustBeFiniteToBeQuantized) {
  Geometry g;
  Engine engine(SKV_DEVICE_CPU);
  Tensors from(g, Layout::kTokenMajor, true);
  std::mt19937 random(6);
  Tiers before = random_tiers(random, g, 2, 2);
  before[0][9] = 0;
  from.put(0, SKV_K, 9, 0, 0, INFINITY);
  const auto base = encode_at(engine, from, before);
  Tiers after = before;
  after[0][9] = 4;
  EXPECT_EQ(status_of([&] { upgrade_to(engine, from, *base, after); }), SKV_E_NON_FINITE);
  after[0][9] = 5;
  apply_upgrade(*base, *upgrade_to(engine, from, *base, after));
}

// ----------------------------------------------------------------------------------------------- hostile bytes

struct Pair {
  Bytes base;
  Bytes upgrade;
};

std::vector<Pair> pairs() {
  std::mt19937 random(7);
  Engine engine(SKV_DEVICE_CPU);
  std::vector<Pair> out;
  for (const int32_t tokens : {1, 40, 90}) {
    Geometry g;
    g.layers = tokens == 40 ? 2 : 1;
    g.heads = 1;
    g.tokens = tokens;
    g.dim[0] = 8;
    g.dim[1] = tokens == 90 ? 0 : 16;
    Tensors from(g, Layout::kTokenMajor, true);
    const Tiers before = random_tiers(random, g, 0, 4);
    const auto base = encode_at(engine, from, before, 32);
    out.push_back({copy_of(*base), copy_of(*upgrade_to(engine, from, *base, raised(random, before, 5)))});
  }
  return out;
}

skv_status apply_status(const Bytes& base, const Bytes& upgrade) {
  return status_of([&] {
    const auto from = Payload::open(base, nullptr);
    const auto added = Payload::open(upgrade, nullptr);
    const auto result = apply_upgrade(*from, *added);
    for (const Segment& segment : parse(result->bytes()).segments) {
      verify_segment(result->bytes().subspan(segment.offset, segment.layout.bytes), segment, test::digest_function());
    }
  });
}

TEST(Upgrade, EveryFlippedBitIsFound) {
  for (Pair& pair : pairs()) {
    ASSERT_EQ(apply_status(pair.base, pair.upgrade), SKV_OK);
    for (Bytes* bytes : {&pair.base, &pair.upgrade}) {
      for (size_t i = 0; i < bytes->size() * 8; ++i) {
        const auto bit = static_cast<std::byte>(1U << (i % 8));
        (*bytes)[i / 8] ^= bit;
        ASSERT_NE(apply_status(pair.base, pair.upgrade), SKV_OK) << "bit " << i % 8 << " of byte " << i / 8;
        (*bytes)[i / 8] ^= bit;
      }
    }
  }
}

TEST(Upgrade, EveryCutIsFound) {
  for (const Pair& pair : pairs()) {
    for (size_t size = 0; size < pair.upgrade.size(); ++size) {
      Bytes cut(pair.upgrade.begin(), pair.upgrade.begin() + static_cast<ptrdiff_t>(size));
      ASSERT_EQ(apply_status(pair.base, cut), SKV_E_TRUNCATED) << size;
      if (size < kHeaderBytes) continue;
      put<uint64_t>(cut, 16, size);
      test::seal_all(cut);
      ASSERT_EQ(apply_status(pair.base, cut), SKV_E_MALFORMED) << size;
    }
    Bytes longer = pair.upgrade;
    longer.push_back(std::byte{0});
    EXPECT_EQ(apply_status(pair.base, longer), SKV_E_TRAILING);
  }
}

TEST(Upgrade, SurvivesRandomMutations) {
  std::mt19937 random(8);
  const std::vector<Pair> from = pairs();
  std::set<skv_status> seen;
  for (int i = 0; i < 60'000; ++i) {
    const Pair& pair = from[random() % from.size()];
    Bytes bytes = pair.upgrade;
    for (int n = 1 + static_cast<int>(random() % 3); n > 0; --n) {
      const bool head = random() % 2 != 0;  // headers and maps more often than rows
      const size_t at = random() % (head ? std::min<size_t>(bytes.size(), 300) : bytes.size());
      bytes[at] = static_cast<std::byte>(random() % 2 != 0 ? random() : (random() % 2 != 0 ? 0 : 1U << (random() % 8)));
    }
    if (random() % 8 != 0) test::seal_all(bytes);
    seen.insert(apply_status(pair.base, bytes));
  }
  for (const skv_status wanted : {SKV_OK, SKV_E_MALFORMED, SKV_E_CHECKSUM, SKV_E_FEATURE, SKV_E_VERSION,
                                  SKV_E_TRUNCATED, SKV_E_TRAILING, SKV_E_BASE, SKV_E_MODEL, SKV_E_REQUEST}) {
    EXPECT_TRUE(seen.contains(wanted)) << status_name(wanted);
    seen.erase(wanted);
  }
  EXPECT_TRUE(seen.empty() || *seen.begin() == SKV_E_STATE) << status_name(*seen.begin());
}

// -------------------------------------------------------------------------------------------------- truncation

TEST(Truncation, GivesTheBytesOfEncodingAtTheLowerTiers) {
  std::mt19937 random(9);
  for (const int32_t dtype : {SKV_F16, SKV_F32}) {
    Geometry g;
    g.dtype = dtype;
    g.dim[1] = 80;
    Tensors from(g, Layout::kPaged16, true);
    Engine engine(SKV_DEVICE_CPU);
    const Tiers before = random_tiers(random, g, 0, 5);
    const auto whole = encode_at(engine, from, before);
    Tiers after = before;
    for (size_t i = 0; i < after.size(); ++i) {
      const uint8_t least = i % 2 == 0 ? 2 : 1;
      for (uint8_t& tier : after[i]) {
        if (tier > least && tier < 5) tier = static_cast<uint8_t>(least + random() % (tier - least + 1U));
      }
    }
    Plan plan;
    plan.options.unproven = true;
    solve_truncation(plan, *whole, nullptr);
    EXPECT_EQ(copy_of(*truncate(*whole, plan)), copy_of(*whole)) << "every tier is permitted: nothing is cut";
    give(plan, after);
    const auto cut = truncate(*whole, plan);
    EXPECT_EQ(cut->bytes().size(), plan.payload_bytes());
    EXPECT_EQ(copy_of(*cut), copy_of(*encode_at(engine, from, after)));
    // The planes that were cut can follow.
    const auto again = apply_upgrade(*cut, *upgrade_to(engine, from, *cut, before));
    EXPECT_EQ(copy_of(*again), copy_of(*whole));

    std::vector<uint8_t> tiers = before[0];
    const auto row = static_cast<size_t>(std::find(tiers.begin(), tiers.end(), 3) - tiers.begin());
    for (const uint8_t tier : {0, 1, 4, 5}) {
      tiers[row] = tier;
      EXPECT_EQ(status_of([&] { plan.set_tiers(0, SKV_K, tiers); }), SKV_E_RANGE) << int{tier};
    }
    Plan another;
    EXPECT_EQ(status_of([&] { truncate(*whole, another); }), SKV_E_STATE);
    EXPECT_EQ(status_of([&] { truncate(*cut, plan); }), SKV_E_BASE);
    EXPECT_EQ(status_of([&] { encode_upgrade(engine, from.cache(), *whole, plan); }), SKV_E_STATE);
  }
}

TEST(Truncation, CapsAreKeptAndKeysHaveAFloor) {
  std::mt19937 random(10);
  Geometry g;
  Tensors from(g, Layout::kTokenMajor, true);
  Engine engine(SKV_DEVICE_CPU);
  const Tiers before = random_tiers(random, g, 0, 5);
  const auto whole = encode_at(engine, from, before);
  const auto cut_to = [&](Plan& plan, uint8_t k, uint8_t v) {
    solve_truncation(plan, *whole, nullptr);
    for (size_t i = 0; i < before.size(); ++i) {
      const auto got = plan.tiers_of(static_cast<int32_t>(i / 2), static_cast<int>(i % 2));
      const uint8_t cap = i % 2 == 0 ? k : v;
      for (size_t t = 0; t < got.size(); ++t) {
        const uint8_t was = before[i][t];
        ASSERT_EQ(got[t], was == 0 || was == 5 ? was : std::min(was, cap)) << "half " << i << " token " << t;
      }
    }
  };
  {
    Plan plan;
    plan.set(SKV_PLAN_K_TIERS, 1 << 3 | 1 << 2);
    plan.set(SKV_PLAN_V_TIERS, 1 << 2 | 1 << 1);
    cut_to(plan, 3, 2);
  }
  {
    Plan plan;
    plan.set_strategy("uniform-2");
    cut_to(plan, 2, 1);
  }
  {
    Plan plan;
    plan.set_strategy("uniform-4");
    cut_to(plan, 2, 2);
  }
  Plan plan;
  plan.set_strategy("raw");
  EXPECT_EQ(status_of([&] { solve_truncation(plan, *whole, nullptr); }), SKV_E_ARGUMENT);
}

TEST(Truncation, BudgetIsKeptCheapestPlanesFirst) {
  Geometry g;
  g.tokens = 700;
  Tensors from(g, Layout::kTokenMajor, true);
  // Tokens of the middle are loud: their planes are worth more.
  for (int32_t t = 300; t < 400; ++t) {
    for (int32_t c = 0; c < 64; ++c) from.put(0, SKV_V, t, 0, c, from.at(0, SKV_V, t, 0, c) * 8);
  }
  Engine engine(SKV_DEVICE_CPU);
  std::mt19937 random(11);
  const auto whole = encode_at(engine, from, random_tiers(random, g, 4, 4));
  for (const double fraction : {0.45, 0.4, 0.3, 0.25}) {
    Plan plan;
    plan.options.unproven = true;
    plan.set_fraction(fraction);
    solve_truncation(plan, *whole, nullptr);
    EXPECT_LE(plan.payload_bytes(), plan.budget_bytes());
    EXPECT_GT(plan.payload_bytes() + 2048, plan.budget_bytes());
    const auto cut = truncate(*whole, plan);
    EXPECT_EQ(cut->bytes().size(), plan.payload_bytes());
    EXPECT_EQ(cut->header().budget_bytes, plan.budget_bytes());
    const auto tiers = plan.tiers_of(0, SKV_V);
    const auto mean = [&](size_t first, size_t end) {
      double sum = 0;
      for (size_t t = first; t < end; ++t) sum += tiers[t];
      return sum / static_cast<double>(end - first);
    };
    EXPECT_GT(mean(300, 400), mean(200, 300)) << fraction;
  }
  Plan plan;
  plan.options.unproven = true;
  plan.set_fraction(0.1);
  EXPECT_EQ(status_of([&] { solve_truncation(plan, *whole, nullptr); }), SKV_E_BUDGET);
  // Caller's weights decide in place of the prior.
  Scores scores;
  std::vector<float> weights(700, 1e-6F);
  for (size_t t = 100; t < 200; ++t) weights[t] = 1.0F;
  for (const int half : {0, 1}) scores.set_weights(SKV_ALL, half, weights);
  score(engine, from.cache(), scores);
  plan.set_fraction(0.3);
  solve_truncation(plan, *whole, &scores);
  for (size_t t = 100; t < 200; ++t) ASSERT_EQ(plan.tiers_of(1, SKV_K)[t], 4);
  Scores wrong;
  std::vector<float> few(699, 1.0F);
  for (const int half : {0, 1}) wrong.set_weights(SKV_ALL, half, few);
  EXPECT_EQ(status_of([&] { solve_truncation(plan, *whole, &wrong); }), SKV_E_STATE);
}

TEST(Truncation, LowTiersNeedAVerdict) {
  Geometry g;
  Tensors from(g, Layout::kTokenMajor, true);
  Engine engine(SKV_DEVICE_CPU);
  std::mt19937 random(12);
  Tiers tiers = random_tiers(random, g, 4, 4);
  tiers[1][7] = 2;  // somebody allowed them for V of layer 0
  const auto whole = encode_at(engine, from, tiers);
  Plan plan;
  plan.set_bytes(whole->bytes().size() - 4000);
  solve_truncation(plan, *whole, nullptr);
  for (size_t i = 0; i < tiers.size(); ++i) {
    const auto got = plan.tiers_of(static_cast<int32_t>(i / 2), static_cast<int>(i % 2));
    const bool cut = !std::equal(got.begin(), got.end(), tiers[i].begin());
    EXPECT_EQ(cut, i == 1) << i;
  }
  Plan caps;
  caps.set(SKV_PLAN_K_TIERS, 1 << 2);
  EXPECT_EQ(status_of([&] { solve_truncation(caps, *whole, nullptr); }), SKV_E_PERMITTED);
  caps.set(SKV_PLAN_UNPROVEN, 1);
  solve_truncation(caps, *whole, nullptr);
  Plan uniform;
  uniform.set_strategy("uniform-4");
  EXPECT_EQ(status_of([&] { solve_truncation(uniform, *whole, nullptr); }), SKV_E_PERMITTED);
}

TEST(Truncation, PaperRowsCannotBeCutButBecomeRaw) {
  Geometry g;
  Tensors from(g, Layout::kTokenMajor, true);
  Engine engine(SKV_DEVICE_CPU);
  Plan low;
  low.options.unproven = true;
  low.set_strategy("greedy");
  low.set_fraction(0.4);
  solve(engine, low, from.cache(), nullptr);
  const auto base = Payload::create(from.cache(), low, {});
  encode_layers(engine, from.cache(), low, *base, 0, g.layers);
  Plan cut;
  cut.options.unproven = true;
  EXPECT_EQ(status_of([&] { solve_truncation(cut, *base, nullptr); }), SKV_E_PERMITTED);
  Plan more;
  more.set_fraction(0.3);
  solve_upgrade(engine, more, *base, from.cache(), nullptr);
  size_t raised_rows = 0;
  for (int32_t l = 0; l < g.layers; ++l) {
    for (const int half : {0, 1}) {
      for (size_t t = 0; t < 300; ++t) {
        const uint8_t was = low.tiers_of(l, half)[t];
        const uint8_t is = more.tiers_of(l, half)[t];
        ASSERT_TRUE(is == was || is == 5);
        raised_rows += is != was ? 1 : 0;
      }
    }
  }
  EXPECT_GT(raised_rows, 100U);
  apply_upgrade(*base, *encode_upgrade(engine, from.cache(), *base, more));
  std::vector<uint8_t> tiers(300, 4);
  EXPECT_EQ(status_of([&] { more.set_tiers(0, SKV_K, tiers); }), SKV_E_PERMITTED);
}

}  // namespace
}  // namespace skv
