// SPDX-License-Identifier: Apache-2.0
#include "plan.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

#include "allocate.h"
#include "error.h"
#include "kernels/tiers.h"
#include "policy.h"

namespace skv {
namespace {

// Tiers of fewer than 8 bits, as a set.
constexpr uint32_t kLowTiers = 1U << 1U | 1U << 2U | 1U << 3U;
constexpr uint64_t kSectionsPerHalf = 8;
// 2-bit values cost more than 4-bit ones by more than the square of their steps: their errors no longer average out
// over tokens. KL of Gemma 3 270M (2 windows) at 0.28 / 0.40 without queries for a caution of 1, 2 and endless: 0.0050
// / 0.0011, 0.0045 / 0.0006, 0.0016 / 0.0002; with queries at 0.24 / 0.28 for 1 and 2: 0.0017 / 0.00061, 0.0016 /
// 0.00057.
constexpr float kCautionUnasked = 16.0F;
constexpr float kCautionAsked = 2.0F;
constexpr int kFillRounds = 4;
// Links up to this speed, for each thread, gain from packing: 250 to 505 Mb/s measured (docs/results/quality.md).
constexpr int64_t kPackMbpsPerThread = 300;
constexpr uint64_t kFillSlack = 256;  // bytes: about one step of one row

const char* half_name(int half) { return half == SKV_K ? "K" : "V"; }

void check_transforms(uint32_t flags, const SegmentShape& shape, int half) {
  const int32_t n = tiers::hadamard_of(flags);
  if (n != 0 && shape.dim[half] % n != 0) {
    fail(SKV_E_GEOMETRY, "layer %u %s: Hadamard-%d does not divide dim %u", shape.layer, half_name(half), n,
         shape.dim[half]);
  }
}

}  // namespace

uint8_t default_transforms(int half, uint32_t dim) {
  if (dim == 0) return 0;
  const uint32_t hadamard = dim >= 256 && dim % 16 == 0 ? tiers::kHadamard16 : tiers::kHadamard8;
  return static_cast<uint8_t>(half == SKV_K ? tiers::kMean | tiers::kBalance | hadamard : hadamard);
}

float relative_error(int32_t code, uint8_t tier) {
  if (tier == tiers::kRaw) return 0.0F;
  // Step width over the 8-bit step, squared. The paper's INT4 has steps of absmax/7.
  if (code == tiers::kCodePaper && tier == 2) return (127.0F / 7.0F) * (127.0F / 7.0F);
  return std::ldexp(1.0F, 4 * (4 - tier));
}

uint64_t row_bytes(const SegmentShape& shape, int half, uint8_t tier) {
  const uint64_t heads = shape.heads;
  const uint64_t dim = shape.dim[half];
  if (tier == tiers::kDrop) return 0;
  if (tier == tiers::kRaw) return heads * dim * static_cast<uint64_t>(tiers::element_bytes(shape.raw_dtype));
  return heads * (2 + dim * tier / 4);
}

void Plan::set(int32_t key, int64_t value) {
  const auto refuse = [&](const char* name, const char* wanted) {
    fail(SKV_E_RANGE, "plan option %s = %lld: wanted %s", name, static_cast<long long>(value), wanted);
  };
  switch (key) {
    case SKV_PLAN_SINKS:
      if (value < 0 || value > 65536) refuse("SINKS", "0..65536 tokens");
      options.sinks = static_cast<int32_t>(value);
      break;
    case SKV_PLAN_CHUNK:
      if (value < 32 || value > tiers::kMaxChunk || value % 32 != 0) refuse("CHUNK", "32..256 in steps of 32");
      options.chunk = static_cast<int32_t>(value);
      break;
    case SKV_PLAN_K_TRANSFORMS:
    case SKV_PLAN_V_TRANSFORMS:
      if (value < 0 || value > 15 || (value & 12) == 12) {
        refuse(key == SKV_PLAN_K_TRANSFORMS ? "K_TRANSFORMS" : "V_TRANSFORMS",
               "SKV_TRANSFORM_* flags, at most one Hadamard");
      }
      options.transforms[key - SKV_PLAN_K_TRANSFORMS] = static_cast<int32_t>(value);
      break;
    case SKV_PLAN_CODE:
      if (value != SKV_CODE_EMBEDDED && value != SKV_CODE_PAPER) refuse("CODE", "SKV_CODE_EMBEDDED or SKV_CODE_PAPER");
      options.code = static_cast<int32_t>(value);
      break;
    case SKV_PLAN_K_TIERS:
    case SKV_PLAN_V_TIERS:
      if (value < 2 || value >= 64 || (value & 1) != 0) {
        refuse(key == SKV_PLAN_K_TIERS ? "K_TIERS" : "V_TIERS", "a non-empty set of 1 << SKV_TIER_2BIT .. _RAW");
      }
      options.tiers[key - SKV_PLAN_K_TIERS] = static_cast<uint32_t>(value);
      break;
    case SKV_PLAN_RAW_DTYPE:
      if (value < SKV_F16 || value > SKV_F32) refuse("RAW_DTYPE", "SKV_F16, SKV_BF16 or SKV_F32");
      options.raw_dtype = static_cast<int32_t>(value);
      break;
    case SKV_PLAN_UNPROVEN:
      if (value != 0 && value != 1) refuse("UNPROVEN", "0 or 1");
      options.unproven = value == 1;
      break;
    case SKV_PLAN_PACK:
      if (value < SKV_PACK_NEVER || value > SKV_PACK_AUTO) refuse("PACK", "SKV_PACK_NEVER, _ALWAYS or _AUTO");
      options.pack = static_cast<int32_t>(value);
      break;
    case SKV_PLAN_LINK_MBPS:
      if (value < 0 || value > 1'000'000'000) refuse("LINK_MBPS", "0 (unknown) to 10^9");
      options.link_mbps = value;
      break;
    case SKV_PLAN_LATE_TIER:
      if (value != 0 && value != SKV_TIER_4BIT && value != SKV_TIER_6BIT) {
        refuse("LATE_TIER", "0, SKV_TIER_4BIT or SKV_TIER_6BIT");
      }
      options.late_tier = static_cast<uint8_t>(value);
      return;  // says nothing about what solving gives
    default:
      fail(SKV_E_KEY, "plan option %d: wanted one of SKV_PLAN_* (1..12)", key);
  }
  solved_ = false;
}

void Plan::set_fraction(double fraction) {
  if (!(fraction > 0.0) || !(fraction <= 1000.0)) {
    fail(SKV_E_RANGE, "budget fraction %g: wanted above 0 and at most 1000", fraction);
  }
  options.fraction = fraction;
  options.bytes = 0;
  solved_ = false;
}

void Plan::set_bytes(uint64_t bytes) {
  if (bytes == 0) fail(SKV_E_RANGE, "budget of 0 bytes: wanted at least 1");
  options.bytes = bytes;
  options.fraction = 0;
  solved_ = false;
}

void Plan::set_strategy(std::string_view name) {
  if (name == "error-aware") {
    options.strategy = Strategy::kErrorAware;
  } else if (name == "raw") {
    options.strategy = Strategy::kRaw;
  } else if (const auto policy = parse_policy(name)) {
    options.strategy = Strategy::kPolicy;
    options.policy = policy->policy;
    options.importance = policy->importance;
    options.policy_numbers = policy->numbers;
  } else if (name.size() == 9 && name.substr(0, 8) == "uniform-" &&
             std::string_view("2468").find(name[8]) != std::string_view::npos) {
    options.strategy = Strategy::kUniform;
    options.uniform_tier = (name[8] - '0') / 2;
  } else {
    fail(SKV_E_KEY, "strategy \"%.40s\": wanted error-aware, raw, uniform-2, -4, -6 or -8, %s",
         std::string(name).c_str(), kPolicyNames);
  }
  solved_ = false;
}

void Plan::adopt(std::vector<SegmentShape> shapes) {
  solved_ = false;
  solves_ = Solves::kCache;
  layers_.clear();
  layers_.resize(shapes.size());
  raw_bytes_ = 0;
  for (size_t l = 0; l < shapes.size(); ++l) {
    SegmentShape& shape = shapes[l];
    // The paper's code comes without transforms unless asked for; raw rows have nothing to transform, so send no
    // channel vectors.
    const bool only_raw =
        options.strategy == Strategy::kRaw || (options.strategy == Strategy::kPolicy &&
                                               (options.policy == Policy::kPdtrim || options.policy == Policy::kSws));
    shape.chunk = static_cast<uint16_t>(options.chunk);
    shape.code = static_cast<uint8_t>(code());
    for (int half = 0; half < 2; ++half) {
      const bool plain = only_raw || (shape.code == SKV_CODE_PAPER && options.transforms[half] < 0);
      const int32_t asked = plain ? 0 : options.transforms[half];
      shape.transforms[half] = shape.dim[half] == 0 ? uint8_t{0}
                               : asked < 0          ? default_transforms(half, shape.dim[half])
                                                    : static_cast<uint8_t>(asked);
      check_transforms(shape.transforms[half], shape, half);
      raw_bytes_ += 2ULL * shape.tokens * shape.heads * shape.dim[half];
    }
    if (options.raw_dtype != 0 && shape.dtype != SKV_F32 && options.raw_dtype != shape.dtype) {
      fail(SKV_E_DTYPE, "layer %u: RAW_DTYPE %d for a cache of dtype %d: only F32 caches can be cast", shape.layer,
           options.raw_dtype, shape.dtype);
    }
    shape.raw_dtype = static_cast<uint8_t>(options.raw_dtype != 0 ? options.raw_dtype : shape.dtype);
    layers_[l].shape = shape;
    for (int half = 0; half < 2; ++half) {
      layers_[l].tiers[half].assign(shape.dim[half] == 0 ? 0 : shape.tokens, 0);
      layers_[l].permitted[half] = options.tiers[half];
    }
  }
}

void Plan::adopt_payload(Solves what, const Header& header, std::span<const Segment> segments,
                         std::vector<std::vector<uint8_t>> tiers) {
  if (options.strategy == Strategy::kPolicy || (options.strategy == Strategy::kRaw && what == Solves::kTruncation)) {
    fail(SKV_E_ARGUMENT, "this strategy chooses tiers for caches: wanted error-aware%s or uniform-N",
         what == Solves::kUpgrade ? ", raw" : "");
  }
  solved_ = false;
  solves_ = what;
  fingerprint = header.fingerprint;
  request_id = header.request_id;
  scored = static_cast<int32_t>(header.scored);
  raw_bytes_ = header.raw_bytes;
  layers_.assign(segments.size(), {});
  for (size_t l = 0; l < segments.size(); ++l) {
    LayerPlan& layer = layers_[l];
    layer.shape = segments[l].shape;
    layer.base_digest = segments[l].digest;
    layer.base_bytes = segments[l].layout.bytes;
    if (what == Solves::kTruncation && layer.shape.code == SKV_CODE_PAPER) {
      fail(SKV_E_PERMITTED, "layer %zu: rows of the paper's code cannot be cut: its tiers are not nested", l);
    }
    for (int half = 0; half < 2; ++half) {
      layer.base[half] = std::move(tiers[2 * l + static_cast<size_t>(half)]);
      layer.tiers[half] = layer.base[half];
      layer.permitted[half] = options.tiers[half];
      // Cutting keys below 4 bits is never worth it (codec evidence), whatever the options say.
      if (what == Solves::kTruncation && half == SKV_K) layer.permitted[half] &= ~(1U << 1U);
    }
  }
}

std::vector<uint8_t> LayerPlan::steps_of(int half) const {
  std::vector<uint8_t> steps(base[half].size());
  for (size_t t = 0; t < steps.size(); ++t) steps[t] = step_of(base[half][t], tiers[half][t]);
  return steps;
}

void Plan::need_budget() const {
  if (solves_ != Solves::kCache) return;
  const bool wanted = options.strategy == Strategy::kErrorAware || options.strategy == Strategy::kPolicy;
  if (wanted && options.fraction == 0 && options.bytes == 0) {
    fail(SKV_E_STATE, "no budget: call skv_plan_set_budget or skv_plan_set_budget_bytes before skv_plan_solve");
  }
}

bool Plan::wants_low_tiers() const {
  switch (options.strategy) {
    case Strategy::kRaw:
      return false;
    case Strategy::kUniform:
      return options.uniform_tier < 4;
    case Strategy::kPolicy:
      return options.policy != Policy::kAdaptive && options.policy != Policy::kPdtrim && options.policy != Policy::kSws;
    case Strategy::kErrorAware:
      break;
  }
  return ((options.tiers[0] | options.tiers[1]) & kLowTiers) != 0;
}

void Plan::forbid_low_tiers(int32_t layer, int32_t half, const char* why) {
  if (options.strategy != Strategy::kErrorAware) {
    fail(SKV_E_PERMITTED, "%s: this strategy cannot do without tiers below 8 bits (SKV_PLAN_UNPROVEN overrides)", why);
  }
  for (size_t l = 0; l < layers_.size(); ++l) {
    if (layer >= 0 && l != static_cast<size_t>(layer)) continue;
    uint32_t& permitted = layers_[l].permitted[half];
    permitted &= ~kLowTiers;
    if (permitted == 0) permitted = 1U << 4U | 1U << tiers::kRaw;
  }
}

double Plan::cost(int32_t layer, int half) const {
  const std::span<const uint8_t> of = tiers_of(layer, half);
  if (costs_.empty()) fail(SKV_E_STATE, "the plan's strategy has no costs: wanted error-aware");
  const RowValues& costs = costs_[static_cast<size_t>(layer)].half[half];
  const int32_t code = layers_[static_cast<size_t>(layer)].shape.code;
  double sum = 0;
  float errors[tiers::kTierCount];
  for (uint8_t tier = 0; tier < tiers::kTierCount; ++tier) errors[tier] = relative_error(code, tier);
  float buffer[RowValues::kBlock];
  for (size_t first = 0; first < of.size(); first += RowValues::kBlock) {
    const size_t count = std::min(RowValues::kBlock, of.size() - first);
    const float* block = costs.read(first, count, buffer);
    for (size_t t = 0; t < count; ++t) {
      sum += static_cast<double>(block[t]) * static_cast<double>(errors[of[first + t]]);
    }
  }
  return sum;
}

int32_t Plan::sinks(int32_t scored_by) const {
  if (options.sinks >= 0) return options.sinks;
  return options.strategy == Strategy::kErrorAware && scored_by == SKV_SCORED_QUERIES ? kSinksAsked : kSinks;
}

int32_t Plan::code() const {
  if (options.code >= 0) return options.code;
  return options.strategy == Strategy::kPolicy ? SKV_CODE_PAPER : SKV_CODE_EMBEDDED;
}

void Plan::lay_out(LayerPlan& layer) const {
  if (solves_ == Solves::kUpgrade) {
    for (int half = 0; half < 2; ++half) {
      layer.steps[half] = {};
      layer.runs[half] = 0;
      if (layer.shape.dim[half] != 0) count_steps(layer.steps_of(half), layer.steps[half], layer.runs[half]);
    }
    layer.layout = upgrade_layout_of(layer.shape, layer.steps, layer.runs);
    return;
  }
  for (int half = 0; half < 2; ++half) {
    layer.counts[half] = {};
    layer.runs[half] = 0;
    if (layer.shape.dim[half] != 0) count_tiers(layer.tiers[half], layer.counts[half], layer.runs[half]);
  }
  layer.layout = layout_of(layer.shape, layer.counts, layer.runs);
}

void Plan::lay_out_all(const Spread& spread) {
  const auto one = [this](size_t l) {
    LayerPlan& layer = layers_[l];
    const LayerPlan* before = l == 0 ? nullptr : &layers_[l - 1];
    // The paper's policies, on one thread, give every layer the same tiers: comparing is cheaper than counting.
    if (before == nullptr || options.strategy != Strategy::kPolicy || layer.tiers[0] != before->tiers[0] ||
        layer.tiers[1] != before->tiers[1]) {
      return lay_out(layer);
    }
    for (int half = 0; half < 2; ++half) {
      layer.counts[half] = before->counts[half];
      layer.runs[half] = before->runs[half];
    }
    layer.layout = layout_of(layer.shape, layer.counts, layer.runs);
  };
  spread.run(layers_.size(), one);
  payload_bytes_ = kHeaderBytes;
  for (const LayerPlan& layer : layers_) payload_bytes_ += layer.layout.bytes;
}

void Plan::solve(std::vector<LayerCosts> costs, std::span<const std::vector<float>> importance, const Spread& spread) {
  need_budget();
  if (has_budget() && (options.strategy == Strategy::kErrorAware || options.strategy == Strategy::kPolicy)) {
    budget_bytes_ =
        options.bytes != 0 ? options.bytes : static_cast<uint64_t>(options.fraction * static_cast<double>(raw_bytes_));
  } else {
    budget_bytes_ = 0;
  }
  switch (options.strategy) {
    case Strategy::kRaw:
      solve_uniform(tiers::kRaw);
      break;
    case Strategy::kUniform:
      solve_uniform(static_cast<uint8_t>(options.uniform_tier));
      break;
    case Strategy::kPolicy:
      solve_policy(importance);
      break;
    case Strategy::kErrorAware:
      limit_bytes_ = budget_bytes_;
      solve_error_aware(costs, options.pack != SKV_PACK_NEVER && solves_ == Solves::kCache, spread);
      break;
  }
  costs_ = std::move(costs);
  replaced_ = false;
  solved_ = true;
}

void Plan::spend(uint64_t limit, const Spread& spread) {
  limit_bytes_ = limit;
  solve_error_aware(costs_, false, spread);
}

bool Plan::packs(int32_t threads) const {
  if (options.pack != SKV_PACK_AUTO) return options.pack == SKV_PACK_ALWAYS;
  return options.link_mbps != 0 && options.link_mbps <= kPackMbpsPerThread * threads;
}

void Plan::solve_uniform(uint8_t tier) {
  for (LayerPlan& layer : layers_) {
    if (layer.shape.code == SKV_CODE_PAPER && (tier == 1 || tier == 3)) {
      fail(SKV_E_PERMITTED, "the paper's code has no %d-bit tier: wanted 4 or 8", 2 * tier);
    }
    for (int half = 0; half < 2; ++half) {
      if (solves_ != Solves::kCache) {
        // What can be raised to the tier, or cut to it, is.
        for (size_t t = 0; t < layer.tiers[half].size(); ++t) {
          const uint8_t from = layer.base[half][t];
          const uint8_t least = half == SKV_K && solves_ == Solves::kTruncation ? std::max<uint8_t>(tier, 2) : tier;
          const bool moves = tiers::is_quantized(from) && (solves_ == Solves::kUpgrade ? from < tier : from > least);
          layer.tiers[half][t] = moves ? least : from;
          check_tier(layer, half, t, layer.tiers[half][t]);
        }
        continue;
      }
      for (uint32_t t = 0; t < layer.tiers[half].size(); ++t) {
        const bool sink = layer.shape.first_position + t < static_cast<uint64_t>(sinks(scored));
        layer.tiers[half][t] = sink ? tiers::kRaw : tier;
      }
    }
  }
  lay_out_all();
}

void Plan::refuse_budget(const char* strategy) const {
  fail(SKV_E_BUDGET, "budget %llu bytes is below the floor of %llu bytes (%.4f of raw) of strategy %s",
       static_cast<unsigned long long>(options.strategy == Strategy::kErrorAware ? limit_bytes_ : budget_bytes_),
       static_cast<unsigned long long>(payload_bytes_),
       static_cast<double>(payload_bytes_) / static_cast<double>(raw_bytes_), strategy);
}

void Plan::solve_policy(std::span<const std::vector<float>> importance) {
  PlanOptions resolved = options;
  resolved.sinks = sinks(scored);
  const bool fits = allocate_policy(layers_, resolved, importance, budget_bytes_, [this] {
    lay_out_all();
    return payload_bytes_;
  });
  lay_out_all();
  uint64_t dropped = 0;
  for (const LayerPlan& layer : layers_) dropped += layer.counts[0].rows[tiers::kDrop];
  if (dropped != 0 && !can_mask) {
    fail(SKV_E_PERMITTED, "the strategy leaves out %llu rows and the cache cannot mask them (SKV_CACHE_CAN_MASK)",
         static_cast<unsigned long long>(dropped));
  }
  if (!fits) refuse_budget("this policy");
}

void Plan::solve_error_aware(std::span<const LayerCosts> costs, bool at_least_floor, const Spread& spread) {
  for (const LayerPlan& layer : layers_) {
    for (int half = 0; half < 2 && solves_ == Solves::kCache; ++half) {
      if (layer.shape.code == SKV_CODE_PAPER && (layer.permitted[half] & 0x0AU) != 0) {
        fail(SKV_E_PERMITTED, "%s tiers 0x%X: the paper's code has no 2-bit and no 6-bit tier; set the tiers option",
             half_name(half), layer.permitted[half]);
      }
    }
  }
  allocate_floor(layers_, sinks(scored), solves_);
  lay_out_all(spread);
  if (solves_ != Solves::kCache && !has_budget()) {
    if (solves_ == Solves::kTruncation) allocate_ceiling(layers_);
    lay_out_all(spread);
    return;
  }
  if (payload_bytes_ > limit_bytes_) {
    if (!at_least_floor) refuse_budget("error-aware");
    return;
  }
  // Rows may take what is left once every map is in its widest form and every section padded to the utmost; what that
  // reserve did not need is handed out in further rounds, until less than a row's smallest step is left.
  uint64_t reserve = 0;
  for (const LayerPlan& layer : layers_) {
    const uint64_t map_bits = solves_ == Solves::kUpgrade ? 4 : 3;
    reserve += 2 * kSectionsPerHalf * (kSectionAlign - 1) + 2 * 8 * map_bits * ((layer.shape.tokens + 63ULL) / 64);
  }
  uint64_t row_budget = limit_bytes_ - payload_bytes_;
  row_budget -= std::min(row_budget, reserve);
  ErrorAware allocator(layers_, sinks(scored), solves_, costs,
                       scored == SKV_SCORED_KV ? kCautionUnasked : kCautionAsked, spread);
  // Tiers of the best round, where the next one writes over them.
  std::vector<std::array<std::vector<uint8_t>, 2>> best;
  const auto keep = [&] {
    best.resize(layers_.size());
    for (size_t l = 0; l < layers_.size(); ++l) best[l] = {layers_[l].tiers[0], layers_[l].tiers[1]};
  };
  keep();
  uint64_t left = limit_bytes_ - payload_bytes_;
  bool last_is_best = true;
  for (int round = 0; round < kFillRounds; ++round) {
    allocator.allocate(row_budget, spread);
    lay_out_all(spread);
    last_is_best = false;
    if (payload_bytes_ > limit_bytes_) {
      row_budget -= std::min(row_budget, payload_bytes_ - limit_bytes_ + kFillSlack);
      continue;
    }
    const uint64_t slack = limit_bytes_ - payload_bytes_;
    const bool done = slack < 2 * kFillSlack || round + 1 == kFillRounds;
    if (slack <= left) {
      left = slack;
      last_is_best = true;
      if (!done) keep();
    }
    if (done) break;
    row_budget += slack;
  }
  if (last_is_best) return;  // laid out as it is
  for (size_t l = 0; l < layers_.size(); ++l) {
    for (size_t half = 0; half < 2; ++half) {
      std::copy(best[l][half].begin(), best[l][half].end(), layers_[l].tiers[half].begin());
    }
  }
  lay_out_all(spread);
}

std::span<const uint8_t> Plan::tiers_of(int32_t layer, int half) const {
  if (!solved_) fail(SKV_E_STATE, "the plan is not solved: call skv_plan_solve first");
  if (layer < 0 || static_cast<size_t>(layer) >= layers_.size()) {
    fail(SKV_E_RANGE, "layer %d: the plan has %zu", layer, layers_.size());
  }
  return layers_[static_cast<size_t>(layer)].tiers[half];
}

// Whether the caller may give a token's row this tier.
void Plan::check_tier(const LayerPlan& layer, int half, size_t token, uint8_t tier) const {
  if (tier >= tiers::kTierCount) fail(SKV_E_RANGE, "token %zu: tier %u, wanted 0..5", token, tier);
  const bool paper = layer.shape.code == SKV_CODE_PAPER;
  if (paper && (tier == 1 || tier == 3)) {
    fail(SKV_E_PERMITTED, "token %zu: the paper's code has no %d-bit tier", token, 2 * tier);
  }
  if (solves_ == Solves::kCache) {
    if (tier == tiers::kDrop && !can_mask) {
      fail(SKV_E_PERMITTED, "token %zu: DROP for a cache that cannot mask (SKV_CACHE_CAN_MASK)", token);
    }
    return;
  }
  const uint8_t from = layer.base[half][token];
  if (tier == from) return;
  if (solves_ == Solves::kUpgrade) {
    if (tier < from)
      fail(SKV_E_RANGE, "token %zu: tier %u in an upgrade of tier %u: wanted no less", token, tier, from);
    if (!has_step(layer.shape.code, step_of(from, tier))) {
      fail(SKV_E_PERMITTED, "token %zu: tier %u to %u with the paper's code, whose tiers are not nested", token, from,
           tier);
    }
    return;
  }
  const uint8_t least = half == SKV_K ? 2 : 1;
  if (!tiers::is_quantized(from) || tier > from || tier < least) {
    fail(SKV_E_RANGE, "token %zu: %s tier %u cut to %u: wanted it as it is%s", token, half_name(half), from, tier,
         tiers::is_quantized(from) && from > least ? (half == SKV_K ? ", or 2 (4 bits) and up" : ", or 1 and up") : "");
  }
}

LayerPlan Plan::capped(int32_t layer, uint8_t tier) const {
  LayerPlan less = layers_[static_cast<size_t>(layer)];
  const bool paper = less.shape.code == SKV_CODE_PAPER;  // has 4 and 8 bits only
  for (int half = 0; half < 2; ++half) {
    // The lowest tier that the layer permits from the wanted one up: a verdict against low tiers holds here too.
    uint8_t cap = tier;
    while (cap < tiers::kRaw && ((less.permitted[half] >> cap & 1U) == 0 || (paper && cap == 3))) ++cap;
    for (uint8_t& row : less.tiers[half]) {
      if (row != tiers::kRaw) row = std::min(row, cap);
    }
  }
  lay_out(less);
  return less;
}

void Plan::set_tiers(int32_t layer, int half, std::span<const uint8_t> wanted) {
  tiers_of(layer, half);  // checks the state and the layer
  LayerPlan& target = layers_[static_cast<size_t>(layer)];
  if (wanted.size() != target.tiers[half].size()) {
    fail(SKV_E_RANGE, "layer %d %s: got %zu tiers, wanted %zu", layer, half_name(half), wanted.size(),
         target.tiers[half].size());
  }
  for (size_t t = 0; t < wanted.size(); ++t) check_tier(target, half, t, wanted[t]);
  target.tiers[half].assign(wanted.begin(), wanted.end());
  replaced_ = true;
  lay_out_all();
}

}  // namespace skv
