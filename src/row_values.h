// SPDX-License-Identifier: Apache-2.0
// One number for every row of a half, kept as small as where it comes from.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "kernels/tiers.h"

namespace skv {

// A number for every token, that several halves share; none is less than the one before it.
using Curve = std::shared_ptr<const std::vector<float>>;

// Listed; or a factor for each chunk, times a curve over the tokens.
class RowValues {
 public:
  static constexpr size_t kBlock = tiers::kMaxChunk;  // rows that are read at a time, at most

  RowValues() = default;
  explicit RowValues(std::vector<float> rows) : rows_(std::move(rows)), size_(rows_.size()) {}
  // Row t has factors[t / chunk] x curve[t]; null: the factor alone.
  RowValues(size_t size, std::vector<float> factors, size_t chunk, Curve curve)
      : rows_(std::move(factors)), curve_(std::move(curve)), size_(size), chunk_(chunk) {}

  size_t size() const { return size_; }
  // Whether rows of a chunk differ by the curve only; factors() then are those of the chunks.
  bool by_chunk() const { return chunk_ != 0; }
  const std::vector<float>& factors() const { return rows_; }
  size_t chunk() const { return chunk_; }
  const Curve& curve() const { return curve_; }

  // Of rows of one chunk: the first in [first, end) whose value is not less than this in the caller's order of floats;
  // they rise, since curves do.
  template <class Less>
  size_t first_not_less(size_t first, size_t end, const Less& less) const {
    const float factor = rows_[first / chunk_];
    if (curve_ == nullptr) return less(factor) ? end : first;
    const auto begin = curve_->begin();
    const auto found = std::partition_point(begin + static_cast<ptrdiff_t>(first), begin + static_cast<ptrdiff_t>(end),
                                            [&](float of) { return less(factor * of); });
    return static_cast<size_t>(found - begin);
  }

  // Rows [first, first + count), count <= kBlock; where they are not listed they are written to the buffer.
  const float* read(size_t first, size_t count, float* buffer) const {
    if (chunk_ == 0) return rows_.data() + first;
    for (size_t t = first; t < first + count;) {
      const size_t end = std::min((t / chunk_ + 1) * chunk_, first + count);
      const float factor = rows_[t / chunk_];
      float* to = buffer + (t - first);
      if (curve_ == nullptr) {
        std::fill(to, to + (end - t), factor);
      } else {
        const float* curve = curve_->data() + t;
        for (size_t i = 0; i < end - t; ++i) to[i] = factor * curve[i];
      }
      t = end;
    }
    return buffer;
  }

  std::vector<float> list() const {
    if (chunk_ == 0) return rows_;
    std::vector<float> out(size_);
    for (size_t t = 0; t < size_; t += kBlock) read(t, std::min(kBlock, size_ - t), out.data() + t);
    return out;
  }

 private:
  std::vector<float> rows_;
  Curve curve_;
  size_t size_ = 0;
  size_t chunk_ = 0;  // 0: listed
};

}  // namespace skv
