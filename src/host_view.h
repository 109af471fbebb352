// SPDX-License-Identifier: Apache-2.0
// One layer of a cache, and its queries, as the host may read them: themselves, or copies of what a device holds.
#pragma once

#include <cstddef>
#include <optional>
#include <vector>

#include "cache.h"
#include "device.h"
#include "score.h"

namespace skv {

class HostView {
 public:
  // Without a device nothing is copied; cache and queries (null: none) must outlive the view. halves: 1 copies K alone.
  HostView(Device* device, const Cache& cache, int32_t layer, const QueryView* queries, int halves = 2);
  const Cache& cache() const { return copy_ ? *copy_ : cache_; }  // of all layers only `layer` may be read
  const QueryView* queries() const { return moved_ ? &*moved_ : queries_; }

 private:
  const Cache& cache_;
  const QueryView* queries_;
  std::optional<Cache> copy_;
  std::optional<QueryView> moved_;
  std::vector<std::byte> planes_[2];
  std::vector<std::byte> query_bytes_;
};

}  // namespace skv
