// SPDX-License-Identifier: Apache-2.0
// The policies of arXiv 2606.08635 and its baselines: a tier for every token from one importance value each, the same
// in every layer and in K and V. Pure: no I/O, no tensors. Definitions follow the paper's released code (Python package
// "spectrumkv", MIT licence), whose nominal budget b counts FP16 as 1, INT8 as 0.5 and INT4 as 0.25 and nothing else;
// here the largest b whose payload fits the byte budget, everything counted, is taken.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "plan.h"

namespace skv {

// One strategy name: "POLICY[:IMPORTANCE][:decay=RATE]", or "pdtrim[:first=SHARE]".
struct PolicyName {
  Policy policy;
  Importance importance;
  PolicyNumbers numbers;
};
// Nothing for a name that is no policy of this file.
std::optional<PolicyName> parse_policy(std::string_view name);
// All names, for messages.
constexpr const char* kPolicyNames =
    "greedy, sink-protect, balanced, random, adaptive, pdtrim, sws (each but random and pdtrim with :position, "
    ":recency, :value-aware, :key-norm or :attention, and all of these but :recency with :decay=0..1 a token; pdtrim "
    "with :first=0..1)";

// Whether the importance comes from tensors (key-norm, attention) rather than from positions.
inline bool needs_data(Importance importance) {
  return importance == Importance::kKeyNorm || importance == Importance::kAttention;
}
// Whether the policy may leave tokens out.
inline bool may_drop(Policy policy) {
  return policy == Policy::kAdaptive || policy == Policy::kPdtrim || policy == Policy::kSws;
}

// Importance of every token by its position: 1 for the sinks, exp(-decay i) after them, and at least 0.3 rising to 0.8
// over the last fifth. kValueAware has that fifth times 1.5; kRecency is the position itself. The paper's code: 0.01.
constexpr double kDecay = 0.01;
std::vector<double> importance_by_position(Importance importance, uint32_t tokens, uint32_t sinks,
                                           double decay = kDecay);

// Tiers of all tokens at the nominal budget b, 0..1; `order` has the most important token first. first: the share of
// the tokens kPdtrim keeps that is taken from the beginning, the sinks at least.
std::vector<uint8_t> policy_tiers(Policy policy, double b, std::span<const uint32_t> order, uint32_t sinks,
                                  double first = 0);

// Writes tiers into the layers (whose shapes are set). data: per layer, importance of every token, empty where it is
// not needed; layers of equal token range share the mean of theirs. `bytes` is asked for the size of a candidate. False
// when not even the smallest fits; then the layers hold that one.
bool allocate_policy(std::vector<LayerPlan>& layers, const PlanOptions& options,
                     std::span<const std::vector<float>> data, uint64_t budget, const std::function<uint64_t()>& bytes);

}  // namespace skv
