// SPDX-License-Identifier: Apache-2.0
// The byte-budget solvers behind a plan. Each writes tiers into the layers (whose shapes are set) and keeps
// `used(layers) <= budget`; none looks at tensor data.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "plan.h"

namespace skv {

// First tier of the sinks, last-resort tier of everything else: the cheapest plan there is under these options. For an
// upgrade the base's tiers; for a truncation the lowest permitted one of each quantized row.
void allocate_floor(std::vector<LayerPlan>& layers, int32_t sinks, Solves what);
// The opposite, for a truncation: as little as the permitted tiers ask for.
void allocate_ceiling(std::vector<LayerPlan>& layers);

// Numbers by 16 leading bits of a float, kept from the least that has any to the greatest; of 0, which nothing is near,
// apart.
template <class Number>
class Histogram {
 public:
  void add(size_t bin, Number number) {
    if (bin == 0) {
      zero_ += number;
      return;
    }
    if (bin < first_ || bin >= end()) grow(bin);
    numbers_[bin - first_] += number;
  }
  Number zero() const { return zero_; }
  // All others are in [first, end).
  size_t first() const { return first_; }
  size_t end() const { return first_ + numbers_.size(); }
  Number operator[](size_t bin) const { return numbers_[bin - first_]; }

 private:
  void grow(size_t bin) {
    constexpr size_t kStep = 256;
    const size_t low = (numbers_.empty() ? bin : std::min(first_, bin)) / kStep * kStep;
    const size_t high = (std::max(end(), bin + 1) + kStep - 1) / kStep * kStep;
    std::vector<Number> wider(high - low);
    if (!numbers_.empty())
      std::copy(numbers_.begin(), numbers_.end(), wider.begin() + static_cast<ptrdiff_t>(first_ - low));
    numbers_ = std::move(wider);
    first_ = low;
  }

  std::vector<Number> numbers_;
  size_t first_ = 0;
  Number zero_ = 0;
};

// One Lagrange multiplier over all rows: each row climbs the lower convex hull of its tiers while the error it saves
// per byte is at least lambda. lambda comes from a histogram of the gains' leading bits (no sort), of costs that are
// less than 1 % apart and so count as equal, and the last bin is filled in index order. The error of 2-bit rows counts
// two_bit_caution times. The histogram does not depend on the budget: made once, it serves every round.
class ErrorAware {
 public:
  ErrorAware(std::vector<LayerPlan>& layers, int32_t sinks, Solves what, std::span<const LayerCosts> costs,
             float two_bit_caution, const Spread& spread = {});
  ~ErrorAware();
  ErrorAware(const ErrorAware&) = delete;
  ErrorAware& operator=(const ErrorAware&) = delete;
  // Writes tiers into the layers. row_budget is what rows may take on top of the floor. Returns what they took.
  uint64_t allocate(uint64_t row_budget, const Spread& spread = {});

 private:
  struct Kind;
  struct Half;

  void count(std::span<const Half> halves, std::span<Histogram<uint32_t>> rows) const;

  std::vector<Kind> kinds_;
  std::vector<Half> halves_;
  Histogram<uint64_t> bytes_;  // by gain
  uint32_t least_step_ = ~0U;  // bytes
};

}  // namespace skv
