// SPDX-License-Identifier: Apache-2.0
#include "allocate.h"

#include <algorithm>
#include <utility>

#include "kernels/tiers.h"

namespace skv {
namespace {

bool is_sink(const SegmentShape& shape, int32_t sinks, uint32_t token) {
  return shape.first_position + token < static_cast<uint64_t>(sinks);
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
size_t bin_of(float gain) { return tiers::bits_of(gain) >> 16U; }

}  // namespace

void allocate_floor(std::vector<LayerPlan>& layers, int32_t sinks, Solves what) {
  for (LayerPlan& layer : layers) {
    for (int half = 0; half < 2; ++half) {
      if (layer.shape.dim[half] == 0) continue;
      const Hulls hulls = hulls_of(layer, half, what, 1.0F);
      if (what == Solves::kCache) {
        std::fill(layer.tiers[half].begin(), layer.tiers[half].end(), hulls.of[0].floor);
        for (uint32_t t = 0; t < layer.shape.tokens && is_sink(layer.shape, sinks, t); ++t) {
          layer.tiers[half][t] = tiers::kRaw;
        }
        continue;
      }
      for (uint32_t t = 0; t < layer.shape.tokens; ++t) layer.tiers[half][t] = hulls.at(t).floor;
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

// Costs count by their leading 16 bits, as gains do: what differs by less than 1 % is equal, rows are compared eight at
// a time, and a histogram of the costs of all rows of one hull holds all that their gains need.
int16_t key_of(float cost) { return static_cast<int16_t>(tiers::bits_of(cost) >> 16U); }
float cost_of(int32_t key) { return tiers::float_of(static_cast<uint32_t>(key) << 16U); }
constexpr int16_t kNoKey = 0x7FFF;  // above every finite cost's

// The least key whose gain in a step falls into bin `threshold` or above. Products of positive floats grow with their
// factors, so the keys can be searched.
int16_t least_key(float error_saved, size_t threshold) {
  int32_t low = 0;
  int32_t high = 0x7F80;
  while (low < high) {
    const int32_t middle = low + (high - low) / 2;
    if (bin_of(cost_of(middle) * error_saved) >= threshold) {
      high = middle;
    } else {
      low = middle + 1;
    }
  }
  return static_cast<int16_t>(low);
}

// A hull at one threshold: a row climbs as many steps as its key reaches.
struct Ladder {
  int16_t least[kMostSteps];  // rising, kNoKey beyond the hull's steps
  int16_t rise[kMostSteps];   // of the tier
  int16_t floor = 0;

  Ladder() = default;
  Ladder(const Hull& hull, size_t threshold) : floor(hull.floor) {
    uint8_t below = hull.floor;
    for (size_t i = 0; i < kMostSteps; ++i) {
      const bool there = i < hull.steps.size();
      least[i] = there ? least_key(hull.steps[i].error_saved, threshold) : kNoKey;
      rise[i] = there ? static_cast<int16_t>(hull.steps[i].to - below) : int16_t{0};
      if (there) below = hull.steps[i].to;
    }
  }
  size_t climbed(int16_t key) const {
    size_t steps = 0;
    for (const int16_t least_of_step : least) steps += key >= least_of_step ? 1 : 0;
    return steps;
  }
  uint8_t tier(int16_t key) const {
    int16_t tier = floor;
    for (size_t i = 0; i < kMostSteps; ++i) tier = static_cast<int16_t>(tier + (key >= least[i] ? rise[i] : 0));
    return static_cast<uint8_t>(tier);
  }
};

// Tiers of rows of one hull. The copies tell the compiler that writing tiers changes neither keys nor ladder.
void climb(std::span<const int16_t> keys, const Ladder& ladder, uint8_t* tiers) {
  const Ladder own = ladder;
  const int16_t* __restrict__ key = keys.data();
  uint8_t* __restrict__ tier = tiers;
  const size_t count = keys.size();
  for (size_t t = 0; t < count; ++t) tier[t] = own.tier(key[t]);
}

// Whether any of the rows climbs further at the lower threshold.
bool any_further(std::span<const int16_t> keys, const Ladder& whole, const Ladder& part) {
  int16_t found = 0;
  for (const int16_t key : keys) {
    for (size_t i = 0; i < kMostSteps; ++i) {
      found = static_cast<int16_t>(found | ((key >= part.least[i] ? 1 : 0) & (key < whole.least[i] ? 1 : 0)));
    }
  }
  return found != 0;
}

// Keys of rows that rise are compared this far apart first.
constexpr size_t kStride = 8;
// A part's histogram has to be cleared and added.
constexpr size_t kHalvesPerPart = 8;

bool same(const Hull& a, const Hull& b) {
  return a.floor == b.floor &&
         std::equal(a.steps.begin(), a.steps.end(), b.steps.begin(), b.steps.end(), [](const Climb& x, const Climb& y) {
           return x.to == y.to && x.bytes == y.bytes && x.error_saved == y.error_saved;
         });
}

}  // namespace

// Rows that share a hull, whatever their layer and half.
struct ErrorAware::Kind {
  Hull hull;
};

struct ErrorAware::Half {
  size_t kind[tiers::kTierCount];    // one for all, or one for each tier they have in a payload
  const std::vector<uint8_t>* base;  // null: one for all
  const RowValues* costs;
  uint8_t* tiers;
  uint32_t first;  // row that is not a sink
  // Rows among which some climb further one bin below the threshold, none longer than a block: first and end.
  std::vector<std::pair<uint32_t, uint32_t>> unsettled;

  // The end of the block that begins at a row: none goes across two chunks.
  size_t end_of(size_t row) const {
    const size_t size = costs->by_chunk() ? std::min(costs->chunk(), RowValues::kBlock) : RowValues::kBlock;
    return std::min((row / size + 1) * size, costs->size());
  }
  // Blocks of rows from `first` on: each(row, end).
  template <class Each>
  void blocks(const Each& each) const {
    for (size_t row = first; row < costs->size(); row = end_of(row)) each(row, end_of(row));
  }
  struct Keys {
    int16_t of[RowValues::kBlock];
  };
  std::span<const int16_t> keys(size_t row, size_t end, Keys& keys) const {
    float buffer[RowValues::kBlock];
    const float* block = costs->read(row, end - row, buffer);
    for (size_t t = 0; t < end - row; ++t) keys.of[t] = key_of(block[t]);
    return {keys.of, end - row};
  }
  // Rows that all have one hull, and rise within a chunk: where a step begins can be searched.
  bool rises() const { return base == nullptr && costs->by_chunk() && costs->chunk() <= RowValues::kBlock; }
  int16_t key(size_t row) const {
    float buffer[1];
    return key_of(*costs->read(row, 1, buffer));
  }
  size_t first_at(size_t row, size_t end, int16_t least) const {
    return costs->first_not_less(row, end, [&](float cost) { return key_of(cost) < least; });
  }
};

ErrorAware::~ErrorAware() = default;

ErrorAware::ErrorAware(std::vector<LayerPlan>& layers, int32_t sinks, Solves what, std::span<const LayerCosts> costs,
                       float two_bit_caution, const Spread& spread) {
  const auto kind_of = [this](const Hull& hull) {
    const auto found =
        std::find_if(kinds_.begin(), kinds_.end(), [&](const Kind& kind) { return same(kind.hull, hull); });
    const auto index = static_cast<size_t>(found - kinds_.begin());
    if (found == kinds_.end()) kinds_.push_back({hull});
    return index;
  };
  halves_.reserve(2 * layers.size());
  for (size_t l = 0; l < layers.size(); ++l) {
    LayerPlan& layer = layers[l];
    for (int half = 0; half < 2; ++half) {
      if (layer.shape.dim[half] == 0) continue;
      Half& of = halves_.emplace_back();
      const Hulls hulls = hulls_of(layer, half, what, two_bit_caution);
      of.base = hulls.base;
      for (uint8_t from = 0; from < (of.base == nullptr ? 1 : tiers::kTierCount); ++from) {
        of.kind[from] = kind_of(hulls.of[from]);
      }
      while (what == Solves::kCache && of.first < layer.shape.tokens && is_sink(layer.shape, sinks, of.first)) {
        ++of.first;
      }
      of.tiers = layer.tiers[half].data();
      of.costs = &costs[l].half[half];
    }
  }
  // Every part of the halves is counted apart, then added up: keys[part][kind].
  const size_t parts = std::clamp<size_t>(halves_.size() / kHalvesPerPart, 1, spread.width);
  std::vector<std::vector<Histogram<uint32_t>>> keys(parts);
  spread.run(parts, [&](size_t part) {
    keys[part].resize(kinds_.size());
    const size_t first = part * halves_.size() / parts;
    const size_t end = (part + 1) * halves_.size() / parts;
    count(std::span<const Half>(halves_).subspan(first, end - first), keys[part]);
  });
  for (size_t kind = 0; kind < kinds_.size(); ++kind) {
    const std::vector<Climb>& steps = kinds_[kind].hull.steps;
    for (const Climb& step : steps) least_step_ = std::min(least_step_, step.bytes);
    const auto take = [&](size_t key, uint32_t rows) {
      const float cost = cost_of(static_cast<int32_t>(key));
      for (const Climb& step : steps) bytes_.add(bin_of(cost * step.error_saved), uint64_t{rows} * step.bytes);
    };
    for (const std::vector<Histogram<uint32_t>>& part : keys) {
      const Histogram<uint32_t>& rows = part[kind];
      take(0, rows.zero());
      for (size_t key = rows.first(); key < rows.end(); ++key) {
        if (rows[key] != 0) take(key, rows[key]);
      }
    }
  }
}

void ErrorAware::count(std::span<const Half> halves, std::span<Histogram<uint32_t>> kinds) const {
  for (const Half& half : halves) {
    Half::Keys buffer;
    half.blocks([&](size_t row, size_t end) {
      const std::span<const int16_t> keys = half.keys(row, end, buffer);
      if (half.base != nullptr) {
        for (size_t t = 0; t < keys.size(); ++t) {
          kinds[half.kind[(*half.base)[row + t]]].add(static_cast<size_t>(keys[t]), 1);
        }
        return;
      }
      // Neighbours often have one key: counted together they do not wait for each other. Of keys that rise, those
      // between two that are equal are, too.
      const size_t stride = half.rises() ? kStride : keys.size() + 1;
      for (size_t t = 0; t < keys.size();) {
        const size_t from = t;
        while (t + stride < keys.size() && keys[t + stride] == keys[from]) t += stride;
        while (t < keys.size() && keys[t] == keys[from]) ++t;
        kinds[half.kind[0]].add(static_cast<size_t>(keys[from]), static_cast<uint32_t>(t - from));
      }
    });
  }
}

uint64_t ErrorAware::allocate(uint64_t row_budget, const Spread& spread) {
  // The lowest bin whose every step, and every step above, fits.
  uint64_t used = 0;
  size_t threshold = bytes_.end();
  while (threshold > bytes_.first() && used + bytes_[threshold - 1] <= row_budget) used += bytes_[--threshold];
  if (threshold == bytes_.first()) {  // below there is nothing but gains of 0
    threshold = used + bytes_.zero() <= row_budget ? 0 : 1;
    if (threshold == 0) used += bytes_.zero();
  }
  std::vector<Ladder> whole(kinds_.size());
  std::vector<Ladder> part(kinds_.size());
  for (size_t i = 0; i < kinds_.size(); ++i) {
    whole[i] = Ladder(kinds_[i].hull, threshold);
    part[i] = Ladder(kinds_[i].hull, threshold == 0 ? 0 : threshold - 1);
  }
  spread.run(halves_.size(), [&](size_t h) {
    Half& half = halves_[h];
    half.unsettled.clear();
    Half::Keys buffer;
    half.blocks([&](size_t row, size_t end) {
      const Ladder& high = whole[half.kind[0]];
      const Ladder& low = part[half.kind[0]];
      if (half.rises()) {
        auto tier = static_cast<uint8_t>(high.floor);
        for (size_t i = 0; i < kMostSteps && row < end; ++i) {
          const size_t next = half.first_at(row, end, high.least[i]);
          // Of those that do not take the step the last ones are the first that would.
          size_t from = next;
          while (from > row && half.key(from - 1) >= low.least[i]) --from;
          if (from != next) half.unsettled.emplace_back(from, next);
          std::fill(half.tiers + row, half.tiers + next, tier);
          tier = static_cast<uint8_t>(tier + high.rise[i]);
          row = next;
        }
        std::fill(half.tiers + row, half.tiers + end, tier);
        return;
      }
      const std::span<const int16_t> keys = half.keys(row, end, buffer);
      if (half.base == nullptr) {
        climb(keys, high, half.tiers + row);
        if (!any_further(keys, high, low)) return;
      } else {
        for (size_t t = 0; t < keys.size(); ++t) {
          half.tiers[row + t] = whole[half.kind[(*half.base)[row + t]]].tier(keys[t]);
        }
      }
      half.unsettled.emplace_back(row, end);
    });
  });
  // The bin that no longer fits as a whole is filled in index order, as far as it goes.
  const auto fill = [&](Half& half, size_t row, int16_t key) {
    const size_t kind = half.kind[half.base == nullptr ? 0 : (*half.base)[row]];
    const std::vector<Climb>& climbs = kinds_[kind].hull.steps;
    const size_t end = part[kind].climbed(key);
    for (size_t steps = whole[kind].climbed(key); steps < end; ++steps) {
      if (used + climbs[steps].bytes > row_budget) break;
      used += climbs[steps].bytes;
      half.tiers[row] = climbs[steps].to;
    }
  };
  const auto room = [&] { return threshold != 0 && row_budget - used >= least_step_; };
  for (Half& half : halves_) {
    Half::Keys buffer;
    for (const auto& [row, end] : half.unsettled) {
      if (!room()) return used;
      const std::span<const int16_t> keys = half.keys(row, end, buffer);
      for (size_t t = 0; t < keys.size() && room(); ++t) fill(half, row + t, keys[t]);
    }
  }
  return used;
}

}  // namespace skv
