// SPDX-License-Identifier: Apache-2.0
// The byte-budget solvers behind a plan. Each writes tiers into the layers (whose shapes are set) and keeps
// `used(layers) <= budget`; none looks at tensor data.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "plan.h"

namespace skv {

// First tier of the sinks, last-resort tier of everything else: the cheapest plan there is under these options. For an
// upgrade the base's tiers; for a truncation the lowest permitted one of each quantized row.
void allocate_floor(std::vector<LayerPlan>& layers, int32_t sinks, Solves what);
// The opposite, for a truncation: as little as the permitted tiers ask for.
void allocate_ceiling(std::vector<LayerPlan>& layers);

// One Lagrange multiplier over all rows: each row climbs the lower convex hull of its tiers while the error it saves
// per byte is at least lambda. lambda comes from a histogram of the gains' leading bits (no sort), of costs that are
// less than 1 % apart and so count as equal, and the last bin is filled in index order. The error of 2-bit rows counts
// two_bit_caution times. The histogram does not depend on the budget: made once, it serves every round.
class ErrorAware {
 public:
  ErrorAware(std::vector<LayerPlan>& layers, int32_t sinks, Solves what, std::span<const LayerCosts> costs,
             float two_bit_caution);
  ~ErrorAware();
  ErrorAware(const ErrorAware&) = delete;
  ErrorAware& operator=(const ErrorAware&) = delete;
  // Writes tiers into the layers. row_budget is what rows may take on top of the floor. Returns what they took.
  uint64_t allocate(uint64_t row_budget);

 private:
  struct Kind;
  struct Half;

  std::vector<Kind> kinds_;
  std::vector<Half> halves_;
  std::vector<uint64_t> histogram_;
  uint32_t least_step_ = ~0U;  // bytes
};

}  // namespace skv
