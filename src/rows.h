// SPDX-License-Identifier: Apache-2.0
// One chunk of a cache as the kernels see it.
#pragma once

#include <algorithm>
#include <cstdint>

#include "cache.h"
#include "engine.h"

namespace skv {

struct ChunkRange {
  uint32_t first;   // token of the layer
  uint32_t tokens;  // 1..256
};

inline uint32_t chunks_of(uint64_t tokens, uint32_t chunk) {
  return static_cast<uint32_t>((tokens + chunk - 1) / chunk);
}

inline ChunkRange chunk_range(uint64_t tokens, uint32_t chunk, uint32_t index) {
  const uint32_t first = index * chunk;
  return {first, static_cast<uint32_t>(std::min<uint64_t>(chunk, tokens - first))};
}

// Rows of tokens [range.first, + range.tokens) of one half; offsets are kept in the scratch.
inline kernels::Rows rows_of(const Cache& cache, int32_t layer, int half, ChunkRange range, Scratch& scratch) {
  const CacheLayer& view = cache.layer(layer);
  const Plane& plane = view.plane[half];
  int64_t* offsets = scratch.need_offsets(range.tokens);
  cache.token_offsets(layer, half, range.first, {offsets, range.tokens});
  return {plane.base,        offsets,          static_cast<int32_t>(range.tokens),
          view.kv_heads,     view.dim[half],   view.dtype,
          plane.stride_head, plane.stride_elem};
}

}  // namespace skv
