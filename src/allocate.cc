// SPDX-License-Identifier: Apache-2.0
#include "allocate.h"

#include <algorithm>
#include <cmath>

#include "kernels/tiers.h"

namespace skv {
namespace {

bool is_sink(const SegmentShape& shape, const PlanOptions& options, uint32_t token) {
  return shape.first_position + token < static_cast<uint64_t>(options.sinks);
}

// One climb of a row's hull.
struct Step {
  uint8_t to;
  uint32_t bytes;     // more than the tier below
  float error_saved;  // per byte, relative to the 8-bit tier's error
};

// The lower convex hull of (bytes, error) over the permitted tiers: floor tier first, then steps of falling gain.
struct Hull {
  uint8_t floor = 0;
  std::vector<Step> steps;
};

Hull hull_of(const LayerPlan& layer, int half, float two_bit_caution) {
  const SegmentShape& shape = layer.shape;
  struct Point {
    uint8_t tier;
    uint64_t bytes;
    float error;
  };
  std::vector<Point> points;
  for (uint8_t tier = 1; tier < tiers::kTierCount; ++tier) {
    if ((layer.permitted[half] >> tier & 1U) == 0) continue;
    points.push_back(
        {tier, row_bytes(shape, half, tier), relative_error(shape.code, tier) * (tier == 1 ? two_bit_caution : 1.0F)});
  }
  std::sort(points.begin(), points.end(), [](const Point& a, const Point& b) { return a.bytes < b.bytes; });
  std::vector<Point> kept;
  const auto gain = [](const Point& a, const Point& b) {
    return (a.error - b.error) / static_cast<float>(b.bytes - a.bytes);
  };
  for (const Point& point : points) {
    if (!kept.empty() && (point.error >= kept.back().error || point.bytes == kept.back().bytes)) continue;
    while (kept.size() >= 2 && gain(kept.back(), point) >= gain(kept[kept.size() - 2], kept.back())) kept.pop_back();
    kept.push_back(point);
  }
  Hull hull;
  hull.floor = kept.front().tier;
  for (size_t i = 1; i < kept.size(); ++i) {
    hull.steps.push_back(
        {kept[i].tier, static_cast<uint32_t>(kept[i].bytes - kept[i - 1].bytes), gain(kept[i - 1], kept[i])});
  }
  return hull;
}

// Positive floats order like their bit patterns: the top 16 bits (8 of exponent, 7 of mantissa) are a histogram bin
// less than 1 % wide.
constexpr size_t kBins = 1U << 15U;
size_t bin_of(float gain) { return tiers::bits_of(gain) >> 16U; }

}  // namespace

void allocate_floor(std::vector<LayerPlan>& layers, const PlanOptions& options) {
  for (LayerPlan& layer : layers) {
    for (int half = 0; half < 2; ++half) {
      if (layer.shape.dim[half] == 0) continue;
      const Hull hull = hull_of(layer, half, 1.0F);
      for (uint32_t t = 0; t < layer.shape.tokens; ++t) {
        layer.tiers[half][t] = is_sink(layer.shape, options, t) ? tiers::kRaw : hull.floor;
      }
    }
  }
}

uint64_t allocate_error_aware(std::vector<LayerPlan>& layers, const PlanOptions& options,
                              std::span<const LayerCosts> costs, float two_bit_caution, uint64_t row_budget) {
  const auto each_row = [&](auto&& visit) {
    for (size_t l = 0; l < layers.size(); ++l) {
      LayerPlan& layer = layers[l];
      for (int half = 0; half < 2; ++half) {
        if (layer.shape.dim[half] == 0) continue;
        const Hull hull = hull_of(layer, half, two_bit_caution);
        for (uint32_t t = 0; t < layer.shape.tokens; ++t) {
          if (is_sink(layer.shape, options, t)) continue;
          if (!visit(layer.tiers[half][t], costs[l].half[half][t], hull)) return;
        }
      }
    }
  };

  std::vector<uint64_t> histogram(kBins, 0);
  each_row([&](uint8_t, float cost, const Hull& hull) {
    for (const Step& step : hull.steps) histogram[bin_of(cost * step.error_saved)] += step.bytes;
    return true;
  });
  // The lowest bin whose every step, and every step above, fits.
  uint64_t used = 0;
  size_t threshold = kBins;
  while (threshold > 0 && used + histogram[threshold - 1] <= row_budget) used += histogram[--threshold];

  each_row([&](uint8_t& tier, float cost, const Hull& hull) {
    tier = hull.floor;
    for (const Step& step : hull.steps) {
      if (bin_of(cost * step.error_saved) < threshold) break;
      tier = step.to;
    }
    return true;
  });
  if (threshold == 0) return used;

  // The bin that no longer fits as a whole: in index order, as far as it goes.
  const size_t last = threshold - 1;
  each_row([&](uint8_t& tier, float cost, const Hull& hull) {
    for (const Step& step : hull.steps) {
      const size_t bin = bin_of(cost * step.error_saved);
      if (bin > last) continue;
      if (bin < last || used + step.bytes > row_budget) break;
      used += step.bytes;
      tier = step.to;
    }
    return used < row_budget;
  });
  return used;
}

}  // namespace skv
