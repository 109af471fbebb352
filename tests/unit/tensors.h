// SPDX-License-Identifier: Apache-2.0
// Test tensors: a KV cache with the habits of a real one (channel offsets, outliers, decaying norms), in any layout.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <random>
#include <vector>

#include "cache.h"
#include "kernels/tiers.h"

namespace skv::test {

struct Geometry {
  int32_t layers = 2;
  int32_t tokens = 300;
  int32_t heads = 2;
  int32_t dim[2] = {64, 64};
  int32_t dtype = SKV_F16;
};

enum class Layout { kTokenMajor, kHeadMajor, kPaged16, kPaged32Padded, kTransposed };

// Values of one half of one layer, [token][head][channel], the same whatever the layout.
inline std::vector<float> values(const Geometry& g, int32_t layer, int half) {
  std::mt19937 random(static_cast<uint32_t>(layer * 2 + half + 17));
  std::normal_distribution<float> normal;
  const size_t channels = static_cast<size_t>(g.heads) * static_cast<size_t>(g.dim[half]);
  std::vector<float> offset(channels);
  for (float& o : offset) o = half == SKV_K ? normal(random) * 3.0F : 0.0F;
  std::vector<float> out(static_cast<size_t>(g.tokens) * channels);
  for (size_t i = 0; i < out.size(); ++i)
    out[i] = offset[i % channels] + normal(random) * (1.0F + static_cast<float>(i % 7));
  return out;
}

// Caller memory of a cache in some layout, and the view of it.
class Tensors {
 public:
  Tensors(const Geometry& geometry, Layout layout, bool filled) : geometry_(geometry), cache_(geometry.layers) {
    cache_.set_tokens(SKV_ALL, 0, geometry.tokens);
    cache_.set_layer(SKV_ALL, geometry.heads, geometry.dim[0], geometry.dim[1], geometry.dtype);
    memory_.resize(static_cast<size_t>(geometry.layers) * 2);
    for (int32_t l = 0; l < geometry.layers; ++l) {
      for (int half = 0; half < 2; ++half) {
        if (geometry.dim[half] != 0) place(l, half, layout);
      }
    }
    if (filled) fill();
  }
  Cache& cache() { return cache_; }
  // Planes by layer * 2 + half, empty where there is none.
  std::vector<std::vector<std::byte>>& memory() { return memory_; }

  float at(int32_t layer, int half, int32_t token, int32_t head, int32_t channel) const {
    return tiers::load_element(address(layer, half, token, head, channel), geometry_.dtype);
  }
  void put(int32_t layer, int half, int32_t token, int32_t head, int32_t channel, float value) {
    tiers::store_element(const_cast<std::byte*>(address(layer, half, token, head, channel)), geometry_.dtype, value);
  }
  bool untouched() const {
    for (const auto& plane : memory_) {
      for (const std::byte b : plane) {
        if (b != std::byte{0}) return false;
      }
    }
    return true;
  }

 private:
  void place(int32_t l, int half, Layout layout) {
    const int64_t e = tiers::element_bytes(geometry_.dtype);
    const int64_t t = geometry_.tokens;
    const int64_t h = geometry_.heads;
    const int64_t d = geometry_.dim[half];
    std::vector<std::byte>& plane = memory_[static_cast<size_t>(l * 2 + half)];
    const auto set = [&](int64_t bytes, int64_t block, int64_t token, int64_t head, int64_t elem) {
      plane.assign(static_cast<size_t>(bytes), std::byte{0});
      cache_.set_plane(l, half, plane.data(), plane.size(), block, token, head, elem);
    };
    switch (layout) {
      case Layout::kTokenMajor:
        return set(t * h * d * e, 0, h * d * e, d * e, e);
      case Layout::kHeadMajor:
        return set(t * h * d * e, 0, d * e, t * d * e, e);
      case Layout::kTransposed:
        return set(t * h * d * e, 0, e, d * t * e, t * e);
      case Layout::kPaged16:
      case Layout::kPaged32Padded: {
        const int64_t block_tokens = layout == Layout::kPaged16 ? 16 : 32;
        const int64_t pad = layout == Layout::kPaged16 ? 0 : 8 * e;
        const int64_t row = h * d * e;
        const int64_t block = block_tokens * row + pad;
        const int64_t blocks = (t + block_tokens - 1) / block_tokens;
        // Blocks in a scattered order, with holes.
        std::vector<int32_t> table;
        for (int64_t b = 0; b < blocks; ++b) table.push_back(static_cast<int32_t>((blocks - 1 - b) * 2 + 1));
        cache_.set_blocks(l, table.data(), table.size(), static_cast<int32_t>(block_tokens));
        return set((2 * blocks + 1) * block, block, row, d * e, e);
      }
    }
  }
  void fill() {
    for (int32_t l = 0; l < geometry_.layers; ++l) {
      for (int half = 0; half < 2; ++half) {
        const std::vector<float> all = values(geometry_, l, half);
        size_t i = 0;
        for (int32_t t = 0; t < geometry_.tokens; ++t) {
          for (int32_t h = 0; h < geometry_.heads; ++h) {
            for (int32_t c = 0; c < geometry_.dim[half]; ++c) put(l, half, t, h, c, all[i++]);
          }
        }
      }
    }
  }
  const std::byte* address(int32_t layer, int half, int32_t token, int32_t head, int32_t channel) const {
    const CacheLayer& view = cache_.layer(layer);
    const Plane& plane = view.plane[half];
    int64_t block = 0;
    int64_t inside = token;
    if (view.blocks != nullptr) {
      block = (*view.blocks)[static_cast<size_t>(token / view.block_tokens)];
      inside = token % view.block_tokens;
    }
    return plane.base + block * plane.stride_block + inside * plane.stride_token + head * plane.stride_head +
           channel * plane.stride_elem;
  }

  Geometry geometry_;
  Cache cache_;
  std::vector<std::vector<std::byte>> memory_;
};

}  // namespace skv::test
