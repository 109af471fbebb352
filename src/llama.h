// SPDX-License-Identifier: Apache-2.0
// The sequence state of llama.cpp (llama_state_seq_get_data) as a cache view, and back. Layout read from libllama 0.5.0
// (llama-kv-cache.cpp, state_write_meta and state_write_data); all integers little-endian:
//
//   u32 magic 0xaf143cd8 | i32 sequence | cache | second cache of a sliding-window model
//   cache = u32 n_stream | per stream: u32 cells; when not 0:
//           cells x {i32 position | u32 n_sequences | i32 sequences…}
//           | u32 v_trans | u32 layers | K of every layer | V of every layer
//   K, and V with v_trans 0 = i32 ggml type | u64 row bytes | rows of all kv-heads, one a cell
//   V with v_trans 1 = i32 ggml type | u32 element bytes | u32 channels | elements [channel][cell]
//
// Cells come in the order of the engine's slots, not of positions. Models whose V is a view of K (MLA) write no V.
// Nothing in the blob says which model or how many heads.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "cache.h"
#include "payload.h"

namespace skv {

// Groups of the layers of a sliding-window model; others have only the first.
constexpr int32_t kLlamaFull = 0;
constexpr int32_t kLlamaSliding = 1;

// One layer to be restored, in blob order.
struct LlamaLayer {
  int64_t first_position = 0;
  int64_t tokens = 0;
  int32_t kv_heads = 0;
  int32_t first_head = 0;
  int32_t dim[2] = {0, 0};
  int32_t group = kLlamaFull;
};
std::vector<LlamaLayer> llama_layers(std::span<const Segment> segments);

// A view of a blob, which must outlive it; heads are the kv-heads of each layer in blob order. Safe on untrusted bytes:
// allocates in proportion to the blob. The view is for reading, whatever its planes' constness says.
Cache llama_cache(std::span<const std::byte> blob, std::span<const int32_t> heads);

// Bytes of the blob that llama_frame fills. Throws DTYPE, RANGE (v_trans), LAYOUT.
uint64_t llama_blob_bytes(std::span<const LlamaLayer> layers, int32_t v_trans, int32_t dtype);

// Writes everything but the elements into a blob of at least that size and returns the view of the elements: cells in
// order of position, sequence 0 (the engine puts its own in). Bytes beyond llama_blob_bytes are left alone.
Cache llama_frame(std::span<const LlamaLayer> layers, int32_t v_trans, int32_t dtype, std::span<std::byte> blob);

}  // namespace skv
