// SPDX-License-Identifier: Apache-2.0
// Well-formed payloads with random content, made by the writers of payload.h alone, and ways to spoil them.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <random>
#include <span>
#include <utility>
#include <vector>

#include "kernels/kernels.h"
#include "payload.h"
#include "payload_fields.h"

namespace skv::test {

using Bytes = std::vector<std::byte>;

inline Digest digest_function() { return kernels::kernels_of(SKV_TARGET_SCALAR)->digest; }

inline void seal_header(std::span<std::byte> payload) {
  if (payload.size() >= kHeaderBytes) put(payload, 120, digest_function()(payload.data(), 120));
}

inline void seal(std::span<std::byte> segment) {
  std::vector<uint64_t> leaves(leaf_count(segment.size()));
  for (uint64_t i = 0; i < leaves.size(); ++i) {
    const std::span<const std::byte> leaf = leaf_of(segment, i);
    leaves[i] = digest_function()(leaf.data(), leaf.size());
  }
  seal_segment(segment, leaves);
}

// Makes the digests of the header and of every segment that can be found good, whatever the bytes say.
inline void seal_all(std::span<std::byte> payload) {
  seal_header(payload);
  for (size_t at = kHeaderBytes; payload.size() >= at + kSegmentHeaderBytes;) {
    const auto size = take<uint64_t>(payload, at + 8);
    if (size < kSegmentHeaderBytes || size > payload.size() - at) return;
    seal(payload.subspan(at, size));
    at += size;
  }
}

struct LayerSpec {
  SegmentShape shape;
  std::vector<uint8_t> tiers[2];
};

// A shape with ordinary values; tiers are random in stretches of about `stretch` tokens.
inline LayerSpec layer_spec(std::mt19937& random, uint32_t ordinal, uint32_t tokens, uint16_t heads, uint16_t k_dim,
                            uint16_t v_dim, uint32_t stretch, uint8_t code = SKV_CODE_EMBEDDED) {
  LayerSpec spec;
  spec.shape = {.layer = ordinal,
                .tokens = tokens,
                .heads = heads,
                .first_head = static_cast<uint16_t>(ordinal),
                .first_position = ordinal * 1000ULL,
                .dim = {k_dim, v_dim},
                .chunk = 32,
                .dtype = SKV_F16,
                .raw_dtype = SKV_F16,
                .code = code,
                .transforms = {7, static_cast<uint8_t>(v_dim == 0 ? 0 : 4)},
                .group = 0};
  const std::vector<uint8_t> choice =
      code == SKV_CODE_PAPER ? std::vector<uint8_t>{0, 2, 4, 5} : std::vector<uint8_t>{0, 1, 2, 3, 4, 5};
  for (int half = 0; half < 2; ++half) {
    if (spec.shape.dim[half] == 0) continue;
    while (spec.tiers[half].size() < tokens) {
      const size_t end = std::min<size_t>(tokens, spec.tiers[half].size() + 1 + random() % stretch);
      spec.tiers[half].resize(end, choice[random() % choice.size()]);
    }
  }
  return spec;
}

// A sealed payload of these layers. Content is random but finite where the text wants it finite.
inline Bytes payload_of(std::mt19937& random, std::span<const LayerSpec> layers) {
  Header header;
  header.layer_count = static_cast<uint32_t>(layers.size());
  header.total_bytes = kHeaderBytes;
  std::vector<SegmentLayout> layouts;
  for (const LayerSpec& layer : layers) {
    TierCounts counts[2];
    uint32_t runs[2] = {0, 0};
    for (int half = 0; half < 2; ++half) count_tiers(layer.tiers[half], counts[half], runs[half]);
    layouts.push_back(layout_of(layer.shape, counts, runs));
    header.total_bytes += layouts.back().bytes;
    header.raw_bytes += 2ULL * layer.shape.tokens * layer.shape.heads * (layer.shape.dim[0] + layer.shape.dim[1]);
  }
  Bytes out(header.total_bytes);
  for (std::byte& b : out) b = static_cast<std::byte>(random());
  write_header(std::span(out).first<kHeaderBytes>(), header);
  size_t at = kHeaderBytes;
  for (size_t l = 0; l < layers.size(); ++l) {
    const std::span<std::byte> segment = std::span(out).subspan(at, layouts[l].bytes);
    write_segment_header(segment, layers[l].shape, layouts[l]);
    zero_padding(segment, layouts[l]);
    for (int half = 0; half < 2; ++half) {
      const HalfLayout& layout = layouts[l].half[half];
      for (const Extent& extent : {layout.vectors, layout.scales}) {
        for (uint64_t i = 0; i < extent.bytes; i += 2) {
          put(segment, extent.offset + i, static_cast<uint16_t>(take<uint16_t>(segment, extent.offset + i) & 0xBBFFU));
        }
      }
      if (layers[l].shape.dim[half] != 0) write_map(segment, layout, layers[l].tiers[half]);
    }
    seal(segment);
    at += layouts[l].bytes;
  }
  return out;
}

}  // namespace skv::test
