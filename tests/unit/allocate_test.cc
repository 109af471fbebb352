// SPDX-License-Identifier: Apache-2.0
// The allocator by itself: what it takes is worth more than what it leaves, and how costs are kept does not matter.
#include "allocate.h"

#include <gtest/gtest.h>
#include <spectrumkv.h>

#include <cmath>
#include <limits>
#include <numeric>
#include <random>

#include "kernels/tiers.h"
#include "row_values.h"

namespace skv {
namespace {

TEST(RowValues, ReadAsTheyAreListed) {
  constexpr size_t kRows = 1000;
  std::mt19937 random(1);
  std::uniform_real_distribution<float> uniform(0.5F, 2.0F);
  auto curve = std::make_shared<std::vector<float>>(kRows);
  for (float& x : *curve) x = uniform(random);
  for (const size_t chunk : {32U, 96U, 256U, 1000U}) {
    std::vector<float> factors((kRows + chunk - 1) / chunk);
    for (float& x : factors) x = uniform(random);
    for (const bool curved : {false, true}) {
      const RowValues values(kRows, factors, chunk, curved ? Curve(curve) : nullptr);
      const std::vector<float> all = values.list();
      ASSERT_EQ(kRows, all.size());
      for (size_t t = 0; t < kRows; ++t) {
        ASSERT_EQ(factors[t / chunk] * (curved ? (*curve)[t] : 1.0F), all[t]) << chunk << ' ' << t;
      }
      const RowValues listed(all);
      EXPECT_TRUE(values.by_chunk());
      EXPECT_FALSE(listed.by_chunk());
      for (int i = 0; i < 200; ++i) {
        const size_t first = random() % kRows;
        const size_t count = random() % (std::min(RowValues::kBlock, kRows - first) + 1);
        float buffers[2][RowValues::kBlock];
        const float* a = values.read(first, count, buffers[0]);
        const float* b = listed.read(first, count, buffers[1]);
        ASSERT_TRUE(std::equal(a, a + count, b)) << chunk << ' ' << first << ' ' << count;
      }
    }
  }
}

// Layers of two shapes: heads and dims, so rows and steps, differ.
std::vector<LayerPlan> layers_of(uint32_t tokens, size_t count = 3) {
  std::vector<LayerPlan> layers(count);
  for (size_t l = 0; l < layers.size(); ++l) {
    SegmentShape& shape = layers[l].shape;
    shape.layer = static_cast<uint32_t>(l);
    shape.tokens = tokens;
    shape.heads = l == 1 ? 1 : 3;
    shape.dim[0] = 64;
    shape.dim[1] = l == 1 ? 128 : 64;
    shape.chunk = 256;
    shape.dtype = shape.raw_dtype = SKV_F16;
    for (int half = 0; half < 2; ++half) {
      layers[l].tiers[half].assign(tokens, 0);
      layers[l].permitted[half] = half == SKV_K ? 0x3CU : 0x3EU;
    }
  }
  return layers;
}

struct Bounds {
  float least_taken = std::numeric_limits<float>::infinity();  // gain a byte of the least steps that were taken
  float most_left = 0;
  uint64_t used = 0;
  uint32_t smallest = std::numeric_limits<uint32_t>::max();  // bytes of the smallest step left
};

// Steps from tier to tier that the hull of 4, 6, 8 bits and RAW (values from 2) has under a uniform quantizer: all.
Bounds bounds_of(const std::vector<LayerPlan>& layers, const std::vector<LayerCosts>& costs, uint32_t sinks) {
  Bounds out;
  for (size_t l = 0; l < layers.size(); ++l) {
    for (int half = 0; half < 2; ++half) {
      const std::vector<float> cost = costs[l].half[half].list();
      const SegmentShape& shape = layers[l].shape;
      for (uint32_t t = sinks; t < shape.tokens; ++t) {
        const uint8_t floor = half == SKV_K ? 2 : 1;
        for (uint8_t tier = floor; tier < tiers::kRaw; ++tier) {
          const auto bytes = static_cast<uint32_t>(row_bytes(shape, half, tier + 1) - row_bytes(shape, half, tier));
          const float saved = relative_error(shape.code, tier) - relative_error(shape.code, tier + 1);
          const float gain = cost[t] * saved / static_cast<float>(bytes);
          if (tier < layers[l].tiers[half][t]) {
            out.used += bytes;
            out.least_taken = std::min(out.least_taken, gain);
          } else {
            out.most_left = std::max(out.most_left, gain);
            out.smallest = std::min(out.smallest, bytes);
          }
        }
      }
    }
  }
  return out;
}

TEST(ErrorAware, TakesTheStepsThatSaveMostAndFillsTheBudget) {
  constexpr uint32_t kTokens = 700;
  std::mt19937 random(7);
  std::lognormal_distribution<float> cost(-8.0F, 3.0F);
  for (const uint64_t budget : {0ULL, 500ULL, 20'000ULL, 150'000ULL, 400'000ULL}) {
    std::vector<LayerPlan> layers = layers_of(kTokens);
    std::vector<LayerCosts> costs(layers.size());
    for (LayerCosts& of : costs) {
      for (RowValues& half : of.half) {
        std::vector<float> rows(kTokens);
        for (float& x : rows) x = cost(random);
        half = RowValues(std::move(rows));
      }
    }
    allocate_floor(layers, 4, Solves::kCache);
    ErrorAware allocator(layers, 4, Solves::kCache, costs, 1.0F);
    const uint64_t used = allocator.allocate(budget);
    const Bounds found = bounds_of(layers, costs, 4);
    EXPECT_EQ(used, found.used);
    ASSERT_LE(used, budget);
    // Gains count by their leading bits: each of cost and gain is cut by less than 1 %.
    EXPECT_GE(found.least_taken * 1.03F, found.most_left) << budget;
    EXPECT_GT(used + 2000, budget);
    for (const LayerPlan& layer : layers) {
      for (int half = 0; half < 2; ++half) {
        for (uint32_t t = 0; t < 4; ++t) EXPECT_EQ(tiers::kRaw, layer.tiers[half][t]);
      }
    }
    // What it is asked afterwards does not depend on what it was asked before.
    std::vector<std::vector<uint8_t>> first;
    for (const LayerPlan& layer : layers) first.insert(first.end(), layer.tiers, layer.tiers + 2);
    allocator.allocate(budget / 2 + 100);
    allocator.allocate(budget);
    for (size_t i = 0; i < first.size(); ++i) EXPECT_EQ(first[i], layers[i / 2].tiers[i % 2]);
  }
}

TEST(ErrorAware, CostsByChunkGiveTheTiersOfTheSameCostsListed) {
  constexpr uint32_t kTokens = 900;
  std::mt19937 random(3);
  std::lognormal_distribution<float> factor(0.0F, 2.0F);
  auto curve = std::make_shared<std::vector<float>>(kTokens);
  for (uint32_t t = 0; t < kTokens; ++t) (*curve)[t] = 1.0F / static_cast<float>(kTokens - t + 31);
  std::vector<LayerPlan> layers[2] = {layers_of(kTokens), layers_of(kTokens)};
  std::vector<LayerCosts> costs[2];
  for (std::vector<LayerCosts>& of : costs) of.resize(layers[0].size());
  for (size_t l = 0; l < layers[0].size(); ++l) {
    for (int half = 0; half < 2; ++half) {
      std::vector<float> factors((kTokens + 255) / 256);
      for (float& x : factors) x = factor(random);
      costs[0][l].half[half] = RowValues(kTokens, std::move(factors), 256, curve);
      costs[1][l].half[half] = RowValues(costs[0][l].half[half].list());
    }
  }
  for (uint64_t budget = 1000; budget < 600'000; budget = budget * 3 / 2) {
    for (int i = 0; i < 2; ++i) {
      allocate_floor(layers[i], 4, Solves::kCache);
      ErrorAware(layers[i], 4, Solves::kCache, costs[i], 16.0F).allocate(budget);
    }
    for (size_t l = 0; l < layers[0].size(); ++l) {
      for (int half = 0; half < 2; ++half) ASSERT_EQ(layers[0][l].tiers[half], layers[1][l].tiers[half]) << budget;
    }
  }
}

TEST(ErrorAware, PartsInAnyOrderGiveTheSameTiers) {
  constexpr uint32_t kTokens = 500;
  constexpr size_t kLayers = 20;
  std::mt19937 random(5);
  std::lognormal_distribution<float> cost(0.0F, 3.0F);
  auto curve = std::make_shared<std::vector<float>>(kTokens);
  for (uint32_t t = 0; t < kTokens; ++t) (*curve)[t] = 1.0F / static_cast<float>(kTokens - t + 31);
  std::vector<LayerCosts> costs(kLayers);
  for (size_t l = 0; l < kLayers; ++l) {
    for (RowValues& half : costs[l].half) {
      if (l % 2 == 0) {
        half = RowValues(kTokens, {cost(random), cost(random)}, 256, curve);
        continue;
      }
      std::vector<float> rows(kTokens);
      for (float& x : rows) x = random() % 8 == 0 ? 0.0F : cost(random);  // rows without errors cost nothing
      half = RowValues(std::move(rows));
    }
  }
  size_t most_parts = 0;
  const Spread backwards{4, [&](size_t count, const Spread::Work& work) {
                           most_parts = std::max(most_parts, count);
                           for (size_t i = count; i-- > 0;) work(i);
                         }};
  for (uint64_t budget = 1000; budget < 4'000'000; budget = budget * 7 / 4) {
    std::vector<LayerPlan> layers[2] = {layers_of(kTokens, kLayers), layers_of(kTokens, kLayers)};
    uint64_t used[2];
    for (int i = 0; i < 2; ++i) {
      const Spread spread = i == 0 ? Spread{} : backwards;
      allocate_floor(layers[i], 4, Solves::kCache);
      used[i] = ErrorAware(layers[i], 4, Solves::kCache, costs, 2.0F, spread).allocate(budget, spread);
    }
    EXPECT_EQ(used[0], used[1]);
    for (size_t l = 0; l < kLayers; ++l) {
      for (int half = 0; half < 2; ++half) ASSERT_EQ(layers[0][l].tiers[half], layers[1][l].tiers[half]) << budget;
    }
  }
  EXPECT_LE(4U, most_parts);
}

TEST(ErrorAware, CostsOfNothingAndOfEverythingAreBothTaken) {
  std::vector<LayerPlan> layers = layers_of(300);
  std::vector<LayerCosts> costs(layers.size());
  for (LayerCosts& of : costs) {
    for (RowValues& half : of.half) {
      std::vector<float> rows(300, 0.0F);
      rows[100] = 3.4e38F;
      rows[200] = 1e-38F;
      half = RowValues(std::move(rows));
    }
  }
  allocate_floor(layers, 4, Solves::kCache);
  ErrorAware allocator(layers, 4, Solves::kCache, costs, 1.0F);
  allocator.allocate(uint64_t{1} << 40U);
  for (const LayerPlan& layer : layers) {
    for (int half = 0; half < 2; ++half) {
      for (const uint8_t tier : layer.tiers[half]) ASSERT_EQ(tiers::kRaw, tier);
    }
  }
  allocator.allocate(2000);
  EXPECT_EQ(tiers::kRaw, layers[0].tiers[0][100]);
  EXPECT_EQ(2, layers[0].tiers[0][150]);
}

}  // namespace
}  // namespace skv
