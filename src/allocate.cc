// SPDX-License-Identifier: Apache-2.0
#include "allocate.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/tiers.h"

namespace skv {
namespace {

bool is_sink(const SegmentShape& shape, const PlanOptions& options, uint32_t token) {
  return shape.first_position + token < static_cast<uint64_t>(options.sinks);
}

// One climb of a row's hull.
struct Climb {
  uint8_t to;
  uint32_t bytes;     // more than the tier below
  float error_saved;  // per byte, relative to the 8-bit tier's error
};

// The lower convex hull of (bytes, error) over the permitted tiers: floor tier first, then steps of falling gain.
struct Hull {
  uint8_t floor = 0;
  std::vector<Climb> steps;
};

// Of the tiers in a set, with bytes above those of tier `below`, all of which a row has already (0: none).
Hull hull_of(const SegmentShape& shape, int half, uint32_t permitted, uint8_t below, float two_bit_caution) {
  struct Point {
    uint8_t tier;
    uint64_t bytes;
    float error;
  };
  std::vector<Point> points;
  for (uint8_t tier = 1; tier < tiers::kTierCount; ++tier) {
    if ((permitted >> tier & 1U) == 0) continue;
    // RAW rows replace what was there.
    const uint64_t bytes = row_bytes(shape, half, tier) - (tier == tiers::kRaw ? 0 : row_bytes(shape, half, below));
    points.push_back({tier, bytes, relative_error(shape.code, tier) * (tier == 1 ? two_bit_caution : 1.0F)});
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

// The hulls of a half's rows: one for all, or one for each tier they have in a payload.
struct Hulls {
  Hull of[tiers::kTierCount];
  const std::vector<uint8_t>* base;  // null: one for all

  const Hull& at(uint32_t token) const { return of[base == nullptr ? 0 : (*base)[token]]; }
};

Hulls hulls_of(const LayerPlan& layer, int half, Solves what, float two_bit_caution) {
  const SegmentShape& shape = layer.shape;
  const uint32_t permitted = layer.permitted[half];
  Hulls hulls;
  hulls.base = what == Solves::kCache ? nullptr : &layer.base[half];
  if (what == Solves::kCache) {
    hulls.of[0] = hull_of(shape, half, permitted, 0, two_bit_caution);
    return hulls;
  }
  for (uint8_t from = 0; from < tiers::kTierCount; ++from) {
    hulls.of[from].floor = from;
    if (!tiers::is_quantized(from)) continue;  // DROP and RAW rows stay what they are
    const uint32_t upwards = ~0U << (from + 1U);
    if (what == Solves::kTruncation) {
      const uint32_t within = permitted & ~upwards;
      if (within != 0) hulls.of[from] = hull_of(shape, half, within, 0, two_bit_caution);
      continue;
    }
    uint32_t within = 1U << from;
    for (uint8_t to = from + 1; to < tiers::kTierCount; ++to) {
      if ((permitted >> to & 1U) != 0 && has_step(shape.code, step_of(from, to))) within |= 1U << to;
    }
    hulls.of[from] = hull_of(shape, half, within, from, two_bit_caution);
  }
  return hulls;
}

// Positive floats order like their bit patterns: the top 16 bits (8 of exponent, 7 of mantissa) are a histogram bin
// less than 1 % wide.
constexpr size_t kBins = 1U << 15U;
size_t bin_of(float gain) { return tiers::bits_of(gain) >> 16U; }

}  // namespace

void allocate_floor(std::vector<LayerPlan>& layers, const PlanOptions& options, Solves what) {
  for (LayerPlan& layer : layers) {
    for (int half = 0; half < 2; ++half) {
      if (layer.shape.dim[half] == 0) continue;
      const Hulls hulls = hulls_of(layer, half, what, 1.0F);
      for (uint32_t t = 0; t < layer.shape.tokens; ++t) {
        const bool sink = what == Solves::kCache && is_sink(layer.shape, options, t);
        layer.tiers[half][t] = sink ? tiers::kRaw : hulls.at(t).floor;
      }
    }
  }
}

void allocate_ceiling(std::vector<LayerPlan>& layers) {
  for (LayerPlan& layer : layers) {
    for (int half = 0; half < 2; ++half) {
      if (layer.shape.dim[half] == 0) continue;
      const Hulls hulls = hulls_of(layer, half, Solves::kTruncation, 1.0F);
      for (uint32_t t = 0; t < layer.shape.tokens; ++t) {
        const Hull& hull = hulls.at(t);
        layer.tiers[half][t] = hull.steps.empty() ? hull.floor : hull.steps.back().to;
      }
    }
  }
}

namespace {

constexpr size_t kMostSteps = tiers::kTierCount - 1;

// The least cost whose gain in a step falls into bin `threshold` or above; infinite when none does. Products of
// positive floats grow with their factors, so the bits of the cost can be searched.
float least_cost(float error_saved, size_t threshold) {
  uint32_t low = 0;
  uint32_t high = 0x7F800000U;
  while (low < high) {
    const uint32_t middle = low + (high - low) / 2;
    if (bin_of(tiers::float_of(middle) * error_saved) >= threshold) {
      high = middle;
    } else {
      low = middle + 1;
    }
  }
  return tiers::float_of(low);
}

// A hull at one threshold: a row climbs as many steps as its cost reaches.
struct Ladder {
  float least[kMostSteps];  // rising, infinite beyond the hull's steps
  uint8_t tier[kMostSteps + 1];

  Ladder() = default;
  Ladder(const Hull& hull, size_t threshold) {
    tier[0] = hull.floor;
    for (size_t i = 0; i < kMostSteps; ++i) {
      const bool there = i < hull.steps.size();
      least[i] = there ? least_cost(hull.steps[i].error_saved, threshold) : std::numeric_limits<float>::infinity();
      tier[i + 1] = there ? hull.steps[i].to : tier[i];
    }
  }
  size_t climbed(float cost) const {
    size_t steps = 0;
    for (const float least_of_step : least) steps += cost >= least_of_step ? 1 : 0;
    return steps;
  }
};

}  // namespace

struct ErrorAware::Half {
  Hulls hulls;
  std::span<const float> costs;
  uint8_t* tiers;
  uint32_t first;  // row that is not a sink
};

ErrorAware::~ErrorAware() = default;

ErrorAware::ErrorAware(std::vector<LayerPlan>& layers, const PlanOptions& options, Solves what,
                       std::span<const LayerCosts> costs, float two_bit_caution)
    : histogram_(kBins, 0) {
  for (size_t l = 0; l < layers.size(); ++l) {
    LayerPlan& layer = layers[l];
    for (int half = 0; half < 2; ++half) {
      if (layer.shape.dim[half] == 0) continue;
      uint32_t first = 0;
      while (what == Solves::kCache && first < layer.shape.tokens && is_sink(layer.shape, options, first)) ++first;
      halves_.push_back(
          {hulls_of(layer, half, what, two_bit_caution), costs[l].half[half], layer.tiers[half].data(), first});
    }
  }
  for (const Half& half : halves_) {
    for (uint32_t t = half.first; t < half.costs.size(); ++t) {
      for (const Climb& step : half.hulls.at(t).steps) {
        histogram_[bin_of(half.costs[t] * step.error_saved)] += step.bytes;
      }
    }
  }
}

uint64_t ErrorAware::allocate(uint64_t row_budget) {
  // The lowest bin whose every step, and every step above, fits.
  uint64_t used = 0;
  size_t threshold = kBins;
  while (threshold > 0 && used + histogram_[threshold - 1] <= row_budget) used += histogram_[--threshold];
  // The bin that no longer fits as a whole is filled in index order, as far as it goes.
  bool filling = threshold != 0;
  for (Half& half : halves_) {
    Ladder whole[tiers::kTierCount];
    Ladder part[tiers::kTierCount];
    const bool by_base = half.hulls.base != nullptr;
    for (size_t i = 0; i < (by_base ? tiers::kTierCount : 1); ++i) {
      whole[i] = Ladder(half.hulls.of[i], threshold);
      part[i] = Ladder(half.hulls.of[i], threshold == 0 ? 0 : threshold - 1);
    }
    for (uint32_t t = half.first; t < half.costs.size(); ++t) {
      const size_t which = by_base ? (*half.hulls.base)[t] : 0;
      const float cost = half.costs[t];
      size_t steps = whole[which].climbed(cost);
      if (filling) {
        const std::vector<Climb>& climbs = half.hulls.of[which].steps;
        for (const size_t end = part[which].climbed(cost); steps < end; ++steps) {
          if (used + climbs[steps].bytes > row_budget) break;
          used += climbs[steps].bytes;
        }
        filling = used < row_budget;
      }
      half.tiers[t] = whole[which].tier[steps];
    }
  }
  return used;
}

}  // namespace skv
