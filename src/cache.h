// SPDX-License-Identifier: Apache-2.0
// A view of KV memory that the caller owns (spectrumkv.h, "cache"). Holds addresses and strides, never reads an
// element.
#pragma once

#include <spectrumkv.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

namespace skv {

// Memory of one layer's K or V. base is null until set.
struct Plane {
  std::byte* base = nullptr;
  uint64_t bytes = 0;
  int64_t stride_block = 0;  // ignored without a block table
  int64_t stride_token = 0;
  int64_t stride_head = 0;
  int64_t stride_elem = 0;
};

// One layer of the view. A field that was never set is 0 (tokens, kv_heads, dtype) or null (planes).
struct CacheLayer {
  int64_t first_position = 0;
  int64_t tokens = 0;
  int32_t kv_heads = 0;
  int32_t dim[2] = {0, 0};  // of K, of V (0: no V)
  int32_t dtype = 0;
  int32_t first_head = 0;
  int32_t group = 0;
  Plane plane[2];
  std::shared_ptr<const std::vector<int32_t>> blocks;  // null: no block table. Shared between layers with equal tables
  int32_t block_tokens = 0;

  bool has(int half) const { return dim[half] != 0; }
};

// Setters are the C functions of the same name and throw their statuses; layer may be SKV_ALL where the header says so.
class Cache {
 public:
  explicit Cache(int32_t layers);

  void set_tokens(int32_t layer, int64_t first_position, int64_t tokens);
  void set_layer(int32_t layer, int32_t kv_heads, int32_t k_dim, int32_t v_dim, int32_t dtype);
  void set_first_head(int32_t layer, int32_t first_head);
  void set_group(int32_t layer, int32_t group);
  void set_plane(int32_t layer, int32_t half, void* base, size_t bytes, int64_t stride_block, int64_t stride_token,
                 int64_t stride_head, int64_t stride_elem);
  void set_blocks(int32_t layer, const int32_t* block_ids, size_t count, int32_t block_tokens);
  void set_identity(const uint8_t* fingerprint, const uint8_t* request_id);  // null: all zero
  void set(int32_t key, int64_t value);

  // Throws unless everything is set, every element lies inside its plane, block ids are valid and distinct, and no two
  // elements of the view share memory (exact; see cache_overlap.cc for the method and its cost). The result is kept
  // until the next setter call, so checking in every call that uses the view is free after the first.
  void check() const;

  // Bytes of all elements at 16 bits each. Needs tokens and geometry (EMPTY).
  uint64_t raw_bytes() const;

  // Byte offsets from the plane's base of elements (token, head 0, channel 0), token = first .. first + out.size() - 1.
  // Only after check(): nothing is validated here.
  void token_offsets(int32_t layer, int half, uint64_t first, std::span<int64_t> out) const;

  int32_t layer_count() const { return static_cast<int32_t>(layers_.size()); }
  const CacheLayer& layer(int32_t index) const { return layers_[static_cast<size_t>(index)]; }
  std::span<const CacheLayer> layers() const { return layers_; }
  const std::array<uint8_t, SKV_FINGERPRINT_BYTES>& fingerprint() const { return fingerprint_; }
  const std::array<uint8_t, SKV_REQUEST_ID_BYTES>& request_id() const { return request_id_; }
  bool can_mask() const { return can_mask_; }

 private:
  // An atomic that may be copied, so that two threads that read one view (against the rules) do not race on it.
  struct Flag {
    Flag() = default;
    Flag(const Flag& other) : value(other.value.load()) {}
    Flag& operator=(const Flag& other) {
      value.store(other.value.load());
      return *this;
    }
    std::atomic<bool> value{false};
  };

  // The layers that a setter's index names; throws RANGE. Forgets the last check.
  std::span<CacheLayer> select(int32_t layer, bool all_allowed);

  std::vector<CacheLayer> layers_;
  std::array<uint8_t, SKV_FINGERPRINT_BYTES> fingerprint_{};
  std::array<uint8_t, SKV_REQUEST_ID_BYTES> request_id_{};
  bool can_mask_ = false;
  mutable Flag checked_;
};

// Throws unless strides nest, block ids are distinct and no two elements share memory. Planes must be in range.
void check_overlap(std::span<const CacheLayer> layers);

}  // namespace skv
