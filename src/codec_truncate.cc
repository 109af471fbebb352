// SPDX-License-Identifier: Apache-2.0
// Truncation: which rows of a payload lose planes, told by the payload itself.
#include <algorithm>
#include <cstring>

#include "codec_source.h"
#include "codec_upgrade.h"
#include "codec_work.h"
#include "error.h"
#include "kernels/tiers.h"
#include "payload_planes.h"

namespace skv {
namespace {

constexpr uint32_t kLowTiers = 1U << 1U | 1U << 2U | 1U << 3U;

bool has_low_rows(std::span<const uint8_t> tiers) {
  return std::any_of(tiers.begin(), tiers.end(), [](uint8_t tier) { return (kLowTiers >> tier & 1U) != 0; });
}

// Rows below 8 bits need a word: the caller's, the profile's, or that of who made the payload, in the halves that have
// such rows already.
void permit_cuts(Plan& plan) {
  if (!plan.wants_low_tiers()) return;
  if (plan.options.unproven) {
    plan.facts.proof = SKV_PROOF_CALLER;
    return;
  }
  if (plan.profile != nullptr && plan.profile->fingerprint() != plan.fingerprint) {
    fail(SKV_E_MODEL, "the profile is of another model than the payload");
  }
  const int32_t known =
      plan.profile == nullptr || plan.profile->code() != SKV_CODE_EMBEDDED ? SKV_VERDICT_NONE : plan.profile->int4();
  plan.facts.int4 = known;
  if (known != SKV_VERDICT_NONE) plan.facts.proof = SKV_PROOF_PROFILE;
  if (known == SKV_VERDICT_YES) return;
  for (size_t l = 0; l < plan.layers().size(); ++l) {
    for (int half = 0; half < 2; ++half) {
      const LayerPlan& layer = plan.layers()[l];
      if (layer.base[half].empty() || (known == SKV_VERDICT_NONE && has_low_rows(layer.base[half]))) continue;
      const char* why = known == SKV_VERDICT_NO ? "the profile says no to 4 bits"
                                                : "no verdict on tiers below 8 bits, and the payload has none";
      if ((layer.permitted[half] & (1U << 4U)) == 0) {
        fail(SKV_E_PERMITTED, "layer %zu %s: %s; wanted a profile that allows them, or SKV_PLAN_UNPROVEN 1", l,
             half_name(half), why);
      }
      plan.forbid_low_tiers(static_cast<int32_t>(l), half, why);
    }
  }
}

// Squared error of every row at 8 bits, told by the stored scales; 0 for rows without one.
std::vector<float> stored_errors(Payload& payload, const LayerPlan& plan, size_t layer, int half) {
  const Segment& segment = payload.segments()[layer];
  const SegmentShape& shape = segment.shape;
  const std::byte* bytes = payload.segment_bytes(layer).data();
  const HalfLayout& layout = segment.layout.half[half];
  const size_t heads = shape.heads;
  const size_t dim = shape.dim[half];
  const uint32_t flags = shape.transforms[half];
  const uint32_t vectors = (flags & 1U) + (flags >> 1U & 1U);
  const int32_t hadamard = tiers::hadamard_of(flags);
  const float unit = 1.0F / (12.0F * (hadamard == 0 ? 1.0F : static_cast<float>(hadamard)) * static_cast<float>(heads));
  const auto half_at = [&](uint64_t offset, size_t i) {
    uint16_t bits;
    std::memcpy(&bits, bytes + offset + i * 2, sizeof bits);
    return tiers::f16_to_f32(bits);
  };
  std::vector<float> errors(shape.tokens, 0.0F);
  std::vector<float> gain(heads, 1.0F);  // mean of the channels' squared balances
  size_t row = 0;
  for (uint32_t t = 0; t < shape.tokens; ++t) {
    if (t % shape.chunk == 0 && (flags & tiers::kBalance) != 0) {
      const uint64_t first =
          layout.vectors.offset + (uint64_t{t / shape.chunk} * vectors + vectors - 1) * heads * dim * 2;
      for (size_t h = 0; h < heads; ++h) {
        gain[h] = 0;
        for (size_t c = 0; c < dim; ++c) {
          const float b = half_at(first, h * dim + c);
          gain[h] += b * b / static_cast<float>(dim);
        }
      }
    }
    if (!tiers::is_quantized(plan.base[half][t])) continue;
    for (size_t h = 0; h < heads; ++h) {
      const float scale = half_at(layout.scales.offset, row * heads + h);
      errors[t] += scale * scale * gain[h] * unit;
    }
    ++row;
  }
  return errors;
}

std::vector<LayerCosts> stored_costs(Payload& payload, const Plan& plan, const Scores* scores) {
  std::vector<LayerCosts> costs(plan.layers().size());
  for (size_t l = 0; l < costs.size(); ++l) {
    for (int half = 0; half < 2; ++half) {
      const LayerPlan& layer = plan.layers()[l];
      if (layer.base[half].empty()) continue;
      const RowValues errors(stored_errors(payload, layer, l, half));
      const RowValues weights =
          scores != nullptr ? scores->weights(static_cast<int32_t>(l), half) : prior_weights(half, errors);
      if (weights.size() != errors.size()) {
        fail(SKV_E_LAYOUT, "layer %zu %s: scores of %zu tokens for a payload of %zu", l, half_name(half),
             weights.size(), errors.size());
      }
      costs[l].half[half] = costs_of(weights, errors);
    }
  }
  return costs;
}

}  // namespace

void solve_truncation(Plan& plan, Payload& payload, const Scores* scores) {
  const uint64_t start = now_ns();
  need_payload(payload, "truncation");
  adopt_payload(plan, Solves::kTruncation, payload);
  permit_cuts(plan);
  std::vector<LayerCosts> costs;
  if (plan.needs_costs()) costs = stored_costs(payload, plan, scores);
  plan.solve(std::move(costs));
  plan.plan_ns = now_ns() - start;
}

std::unique_ptr<Payload> truncate(Payload& payload, const Plan& plan) {
  const uint64_t start = now_ns();
  need_payload(payload, "truncation");
  match_base(payload, plan, Solves::kTruncation, "skv_plan_truncate");
  Header header = payload.header();
  header.wire_minor = 0;
  header.flags = 0;
  if (plan.budget_bytes() != 0) header.budget_bytes = plan.budget_bytes();
  std::vector<uint64_t> sizes;
  for (const LayerPlan& layer : plan.layers()) sizes.push_back(layer.layout.bytes);
  auto memory = compose(header, sizes, [&](size_t l, std::span<std::byte> segment) {
    const LayerPlan& layer = plan.layers()[l];
    const Retier job{payload.segment_bytes(l),       &payload.segments()[l],          {}, nullptr,
                     {layer.base[0], layer.base[1]}, {layer.tiers[0], layer.tiers[1]}};
    write_retiered(job, layer.layout, segment);
  });
  return Payload::made(std::move(memory), plan.payload_bytes(), nullptr, now_ns() - start);
}

}  // namespace skv
