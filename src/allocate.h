// SPDX-License-Identifier: Apache-2.0
// The byte-budget solvers behind a plan. Each writes tiers into the layers (whose shapes are set) and keeps
// `used(layers) <= budget`; none looks at tensor data.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "plan.h"

namespace skv {

// First tier of the sinks, last-resort tier of everything else: the cheapest plan there is under these options.
void allocate_floor(std::vector<LayerPlan>& layers, const PlanOptions& options);

// One Lagrange multiplier over all rows: each row climbs the lower convex hull of its tiers while the error it saves
// per byte is at least lambda. lambda comes from a histogram of the gains' leading bits (no sort), and the last bin is
// filled in index order. row_budget is what rows may take on top of the floor. Returns what they took.
uint64_t allocate_error_aware(std::vector<LayerPlan>& layers, const PlanOptions& options,
                              std::span<const LayerCosts> costs, uint64_t row_budget);

// The paper's three-tier greedy (arXiv 2606.08635): tokens in order of importance, the same tier in every layer and
// both halves; f8 = 4b-1 at INT8 and the rest INT4 for b <= 0.5, f16 = 2b-1 at FP16 and the rest INT8 above. `bytes`
// is asked for the exact size of a candidate; the largest that fits `budget` wins. False when not even all-INT4 fits.
bool allocate_greedy(std::vector<LayerPlan>& layers, const PlanOptions& options, uint64_t budget,
                     const std::function<uint64_t()>& bytes);

}  // namespace skv
