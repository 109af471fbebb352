// SPDX-License-Identifier: Apache-2.0
#include "cache.h"

#include <cinttypes>
#include <cstring>
#include <limits>

#include "error.h"

namespace skv {
namespace {

// 2^28 tokens times a 63-bit stride, and the elements of 4,096 layers, need 128 bits.
__extension__ using Wide = unsigned __int128;

constexpr int32_t kMaxLayers = 4096;
constexpr int64_t kMaxTokens = int64_t{1} << 28;    // of the wire
constexpr int64_t kMaxPosition = int64_t{1} << 62;  // of the wire; keeps position + tokens from overflowing
constexpr int32_t kMaxHeads = 1024;
constexpr int32_t kMaxDim = 4096;
constexpr int32_t kMaxFirstHead = 65535;  // u16 of the wire
constexpr int32_t kMaxGroup = 255;
constexpr int32_t kMaxBlockTokens = 65536;

bool is_dim(int32_t dim) { return dim >= 8 && dim <= kMaxDim && dim % 8 == 0; }
char half_name(int half) { return half == SKV_K ? 'K' : 'V'; }
int32_t element_bytes(int32_t dtype) { return dtype == SKV_F32 ? 4 : 2; }
bool misaligned(int64_t value, int64_t unit) { return value % unit != 0; }

// The strides that apply to a layer, with their names.
struct Named {
  const char* name;
  int64_t value;
};
std::array<Named, 4> strides_of(const Plane& plane) {
  return {{{"stride_block", plane.stride_block},
           {"stride_token", plane.stride_token},
           {"stride_head", plane.stride_head},
           {"stride_elem", plane.stride_elem}}};
}

uint64_t blocks_used(const CacheLayer& layer) {
  return (static_cast<uint64_t>(layer.tokens) + static_cast<uint64_t>(layer.block_tokens) - 1) /
         static_cast<uint64_t>(layer.block_tokens);
}

void check_set(const CacheLayer& layer, int32_t index) {
  if (layer.tokens == 0) fail(SKV_E_EMPTY, "layer %d: tokens not set", index);
  if (layer.kv_heads == 0) fail(SKV_E_EMPTY, "layer %d: geometry (heads, dims, dtype) not set", index);
  for (int half = 0; half < 2; ++half) {
    if (layer.has(half) && layer.plane[half].base == nullptr) {
      fail(SKV_E_EMPTY, "layer %d %c plane: not set", index, half_name(half));
    }
  }
  if (layer.blocks != nullptr && layer.blocks->size() < blocks_used(layer)) {
    fail(SKV_E_BLOCK_ID, "layer %d: %zu blocks of %d tokens cannot hold %" PRId64 " tokens, want %" PRIu64 " blocks",
         index, layer.blocks->size(), layer.block_tokens, layer.tokens, blocks_used(layer));
  }
}

void check_alignment(const CacheLayer& layer, int32_t index, int half) {
  const Plane& plane = layer.plane[half];
  const int32_t unit = element_bytes(layer.dtype);
  if (misaligned(static_cast<int64_t>(reinterpret_cast<uintptr_t>(plane.base) % 16), unit)) {
    fail(SKV_E_STRIDE, "layer %d %c plane: base %p is not a multiple of the element size %d", index, half_name(half),
         static_cast<const void*>(plane.base), unit);
  }
  for (const Named& stride : strides_of(plane)) {
    if (stride.name[7] == 'b' && layer.blocks == nullptr) continue;
    if (misaligned(stride.value, unit)) {
      fail(SKV_E_STRIDE, "layer %d %c plane: %s %" PRId64 " is not a multiple of the element size %d", index,
           half_name(half), stride.name, stride.value, unit);
    }
  }
}

// Every element inside [base, base + bytes).
void check_range(const CacheLayer& layer, int32_t index, int half) {
  const Plane& plane = layer.plane[half];
  const auto times = [](int64_t stride, int64_t count) { return static_cast<Wide>(stride) * static_cast<Wide>(count); };
  const Wide row = times(plane.stride_head, layer.kv_heads - 1) + times(plane.stride_elem, layer.dim[half] - 1) +
                   static_cast<Wide>(element_bytes(layer.dtype));
  if (layer.blocks == nullptr) {
    if (row + times(plane.stride_token, layer.tokens - 1) > plane.bytes) {
      fail(SKV_E_STRIDE, "layer %d %c plane: token %" PRId64 " ends beyond the plane's %" PRIu64 " bytes", index,
           half_name(half), layer.tokens - 1, plane.bytes);
    }
    return;
  }
  const uint64_t used = blocks_used(layer);
  const int64_t last_tokens = layer.tokens - static_cast<int64_t>(used - 1) * layer.block_tokens;
  for (uint64_t i = 0; i < used; ++i) {
    const int32_t id = (*layer.blocks)[i];
    const int64_t tokens = i + 1 == used ? last_tokens : layer.block_tokens;
    if (row + times(plane.stride_token, tokens - 1) + times(plane.stride_block, id) > plane.bytes) {
      fail(SKV_E_BLOCK_ID,
           "layer %d %c plane: block %" PRIu64 " has id %d and ends beyond the plane's %" PRIu64 " bytes", index,
           half_name(half), i, id, plane.bytes);
    }
  }
}

}  // namespace

Cache::Cache(int32_t layers) {
  if (layers < 1 || layers > kMaxLayers) fail(SKV_E_RANGE, "layers %d, want 1..%d", layers, kMaxLayers);
  layers_.resize(static_cast<size_t>(layers));
}

std::span<CacheLayer> Cache::select(int32_t layer, bool all_allowed) {
  if (layer == SKV_ALL && all_allowed) {
    checked_.value.store(false);
    return layers_;
  }
  if (layer < 0 || layer >= layer_count()) {
    fail(SKV_E_RANGE, "layer %d, want 0..%d%s", layer, layer_count() - 1, all_allowed ? " or SKV_ALL" : "");
  }
  checked_.value.store(false);
  return std::span<CacheLayer>(layers_).subspan(static_cast<size_t>(layer), 1);
}

void Cache::set_tokens(int32_t layer, int64_t first_position, int64_t tokens) {
  const std::span<CacheLayer> chosen = select(layer, true);
  if (first_position < 0 || first_position > kMaxPosition) {
    fail(SKV_E_RANGE, "first_position %" PRId64 ", want 0..2^62", first_position);
  }
  if (tokens == 0) fail(SKV_E_EMPTY, "0 tokens, want 1..2^28");
  if (tokens < 0 || tokens > kMaxTokens) fail(SKV_E_RANGE, "%" PRId64 " tokens, want 1..2^28", tokens);
  for (CacheLayer& each : chosen) {
    each.first_position = first_position;
    each.tokens = tokens;
  }
}

void Cache::set_layer(int32_t layer, int32_t kv_heads, int32_t k_dim, int32_t v_dim, int32_t dtype) {
  const std::span<CacheLayer> chosen = select(layer, true);
  if (kv_heads < 1 || kv_heads > kMaxHeads) fail(SKV_E_RANGE, "kv_heads %d, want 1..%d", kv_heads, kMaxHeads);
  if (!is_dim(k_dim)) fail(SKV_E_GEOMETRY, "k_dim %d, want a multiple of 8 in 8..%d", k_dim, kMaxDim);
  if (v_dim != 0 && !is_dim(v_dim))
    fail(SKV_E_GEOMETRY, "v_dim %d, want 0 or a multiple of 8 in 8..%d", v_dim, kMaxDim);
  if (dtype != SKV_F16 && dtype != SKV_BF16 && dtype != SKV_F32) {
    fail(SKV_E_DTYPE, "dtype %d, want SKV_F16 (1), SKV_BF16 (2) or SKV_F32 (3)", dtype);
  }
  for (CacheLayer& each : chosen) {
    each.kv_heads = kv_heads;
    each.dim[SKV_K] = k_dim;
    each.dim[SKV_V] = v_dim;
    each.dtype = dtype;
  }
}

void Cache::set_first_head(int32_t layer, int32_t first_head) {
  const std::span<CacheLayer> chosen = select(layer, true);
  if (first_head < 0 || first_head > kMaxFirstHead) {
    fail(SKV_E_RANGE, "first_head %d, want 0..%d", first_head, kMaxFirstHead);
  }
  for (CacheLayer& each : chosen) each.first_head = first_head;
}

void Cache::set_group(int32_t layer, int32_t group) {
  const std::span<CacheLayer> chosen = select(layer, true);
  if (group < 0 || group > kMaxGroup) fail(SKV_E_RANGE, "group %d, want 0..%d", group, kMaxGroup);
  for (CacheLayer& each : chosen) each.group = group;
}

void Cache::set_plane(int32_t layer, int32_t half, void* base, size_t bytes, int64_t stride_block, int64_t stride_token,
                      int64_t stride_head, int64_t stride_elem) {
  CacheLayer& chosen = select(layer, false)[0];
  if (half != SKV_K && half != SKV_V) fail(SKV_E_RANGE, "half %d, want SKV_K (0) or SKV_V (1)", half);
  if (base == nullptr) fail(SKV_E_NULL, "layer %d %c plane: base is NULL", layer, half_name(half));
  if (bytes == 0 || bytes > std::numeric_limits<uintptr_t>::max() - reinterpret_cast<uintptr_t>(base)) {
    fail(SKV_E_RANGE, "layer %d %c plane: %zu bytes at %p leave the address space", layer, half_name(half), bytes,
         base);
  }
  const Plane plane{static_cast<std::byte*>(base), bytes, stride_block, stride_token, stride_head, stride_elem};
  // Odd is wrong for every dtype; the exact element size is checked by check(), since the dtype may come later.
  if (misaligned(static_cast<int64_t>(reinterpret_cast<uintptr_t>(base) % 16), 2)) {
    fail(SKV_E_STRIDE, "layer %d %c plane: base %p is odd, want a multiple of the element size", layer, half_name(half),
         base);
  }
  for (const Named& stride : strides_of(plane)) {
    if (stride.value < 0) {
      fail(SKV_E_STRIDE, "layer %d %c plane: %s %" PRId64 ", want >= 0", layer, half_name(half), stride.name,
           stride.value);
    }
    // stride_block is ignored without a table, which may come later too.
    if (stride.name[7] != 'b' && misaligned(stride.value, 2)) {
      fail(SKV_E_STRIDE, "layer %d %c plane: %s %" PRId64 " is odd, want a multiple of the element size", layer,
           half_name(half), stride.name, stride.value);
    }
  }
  chosen.plane[half] = plane;
}

void Cache::set_blocks(int32_t layer, const int32_t* block_ids, size_t count, int32_t block_tokens) {
  const std::span<CacheLayer> chosen = select(layer, true);
  if (block_ids == nullptr) fail(SKV_E_NULL, "block_ids is NULL");
  if (block_tokens < 1 || block_tokens > kMaxBlockTokens) {
    fail(SKV_E_RANGE, "block_tokens %d, want 1..%d", block_tokens, kMaxBlockTokens);
  }
  if (count == 0 || count > static_cast<size_t>(kMaxTokens)) {
    fail(SKV_E_RANGE, "%zu block ids, want 1..2^28", count);
  }
  for (size_t i = 0; i < count; ++i) {
    if (block_ids[i] < 0) fail(SKV_E_BLOCK_ID, "block %zu has id %d, want >= 0", i, block_ids[i]);
  }
  // Engines set the same table for every layer: keeping one copy lets check() look at it once.
  std::shared_ptr<const std::vector<int32_t>> table;
  for (const CacheLayer& each : layers_) {
    if (each.blocks != nullptr && each.blocks->size() == count &&
        std::memcmp(each.blocks->data(), block_ids, count * sizeof *block_ids) == 0) {
      table = each.blocks;
      break;
    }
  }
  if (table == nullptr) table = std::make_shared<const std::vector<int32_t>>(block_ids, block_ids + count);
  for (CacheLayer& each : chosen) {
    each.blocks = table;
    each.block_tokens = block_tokens;
  }
}

void Cache::set_identity(const uint8_t* fingerprint, const uint8_t* request_id) {
  fingerprint_.fill(0);
  request_id_.fill(0);
  if (fingerprint != nullptr) std::memcpy(fingerprint_.data(), fingerprint, fingerprint_.size());
  if (request_id != nullptr) std::memcpy(request_id_.data(), request_id, request_id_.size());
}

void Cache::set(int32_t key, int64_t value) {
  if (key != SKV_CACHE_CAN_MASK) fail(SKV_E_KEY, "cache option %d, want SKV_CACHE_CAN_MASK (1)", key);
  if (value != 0 && value != 1) fail(SKV_E_RANGE, "SKV_CACHE_CAN_MASK %" PRId64 ", want 0 or 1", value);
  can_mask_ = value == 1;
}

void Cache::check() const {
  if (checked_.value.load()) return;
  for (int32_t i = 0; i < layer_count(); ++i) check_set(layer(i), i);
  for (int32_t i = 0; i < layer_count(); ++i) {
    for (int half = 0; half < 2; ++half) {
      if (!layer(i).has(half)) continue;
      check_alignment(layer(i), i, half);
      check_range(layer(i), i, half);
    }
  }
  check_overlap(layers_);
  checked_.value.store(true);
}

uint64_t Cache::raw_bytes() const {
  Wide total = 0;
  for (int32_t i = 0; i < layer_count(); ++i) {
    const CacheLayer& each = layer(i);
    if (each.tokens == 0) fail(SKV_E_EMPTY, "layer %d: tokens not set", i);
    if (each.kv_heads == 0) fail(SKV_E_EMPTY, "layer %d: geometry (heads, dims, dtype) not set", i);
    total += static_cast<Wide>(each.tokens) * static_cast<uint64_t>(each.kv_heads) *
             static_cast<uint64_t>(each.dim[SKV_K] + each.dim[SKV_V]) * 2;
  }
  if (total > std::numeric_limits<uint64_t>::max()) fail(SKV_E_RANGE, "the elements take more than 2^64 bytes");
  return static_cast<uint64_t>(total);
}

void Cache::token_offsets(int32_t index, int half, uint64_t first, std::span<int64_t> out) const {
  const CacheLayer& from = layer(index);
  const Plane& plane = from.plane[half];
  if (from.blocks == nullptr) {
    for (size_t i = 0; i < out.size(); ++i) out[i] = static_cast<int64_t>(first + i) * plane.stride_token;
    return;
  }
  const std::vector<int32_t>& ids = *from.blocks;
  const auto block_tokens = static_cast<uint64_t>(from.block_tokens);
  uint64_t block = first / block_tokens;
  auto within = static_cast<int64_t>(first % block_tokens);
  for (int64_t& offset : out) {
    offset = ids[block] * plane.stride_block + within * plane.stride_token;
    if (++within == from.block_tokens) {
      within = 0;
      ++block;
    }
  }
}

}  // namespace skv
