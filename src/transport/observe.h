// SPDX-License-Identifier: Apache-2.0
// What an endpoint tells about itself: histograms and a ring of events. Guarded by the core's lock.
#pragma once

#include <spectrumkv.h>

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace skv::transport {

static_assert(sizeof(skv_event) == 64);

// Bin i counts 2^i <= value < 2^(i+1); the first also 0, the last also everything above.
template <std::size_t N>
void count_log2(std::uint64_t (&bins)[N], std::uint64_t value) noexcept {
  const std::size_t bin = value == 0 ? 0 : static_cast<std::size_t>(std::bit_width(value)) - 1;
  bins[std::min(bin, N - 1)]++;
}

// The latest events; an older one makes room for a newer.
class EventRing {
 public:
  void resize(std::size_t records) { records_.assign(records, {}); }
  // True: one that nobody had taken was overwritten.
  bool push(const skv_event& event) noexcept {
    if (records_.empty()) return false;
    const bool full = size_ == records_.size();
    records_[(first_ + size_) % records_.size()] = event;
    if (full) {
      first_ = (first_ + 1) % records_.size();
    } else {
      size_++;
    }
    return full;
  }
  std::size_t take(std::span<skv_event> out) noexcept {
    const std::size_t n = std::min(out.size(), size_);
    for (std::size_t i = 0; i < n; i++) out[i] = records_[(first_ + i) % records_.size()];
    if (n > 0) first_ = (first_ + n) % records_.size();
    size_ -= n;
    return n;
  }

 private:
  std::vector<skv_event> records_;
  std::size_t first_ = 0, size_ = 0;
};

}  // namespace skv::transport
