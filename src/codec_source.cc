// SPDX-License-Identifier: Apache-2.0
#include "codec_source.h"

#include <cstring>

#include "error.h"
#include "kernels/kernels.h"
#include "payload_memory.h"

namespace skv {
namespace {

using ull = unsigned long long;

void seal(std::span<std::byte> segment) {
  const Digest digest = kernels::kernels_of(SKV_TARGET_AUTO)->digest;
  std::vector<uint64_t> leaves(leaf_count(segment.size()));
  for (uint64_t i = 0; i < leaves.size(); ++i) {
    const std::span<const std::byte> leaf = leaf_of(segment, i);
    leaves[i] = digest(leaf.data(), leaf.size());
  }
  seal_segment(segment, leaves);
}

}  // namespace

uint64_t digest_of(const Payload& payload, size_t layer) {
  uint64_t digest;
  std::memcpy(&digest, payload.segment_bytes(layer).data() + 56, sizeof digest);
  return digest;
}

std::vector<uint8_t> tiers_of(Payload& payload, size_t layer, int half) {
  const SegmentShape& shape = payload.segments()[layer].shape;
  std::vector<uint8_t> tiers(shape.dim[half] == 0 ? 0 : shape.tokens);
  payload.tiers(static_cast<int32_t>(layer), half, tiers);
  return tiers;
}

void need_payload(Payload& payload, const char* what) {
  payload.need_complete();
  payload.need_rows(what);
  verify_layers(nullptr, payload, 0, static_cast<int32_t>(payload.segments().size()));
}

void adopt_payload(Plan& plan, Solves what, Payload& payload) {
  std::vector<Segment> segments(payload.segments().begin(), payload.segments().end());
  std::vector<std::vector<uint8_t>> tiers;
  for (size_t l = 0; l < segments.size(); ++l) {
    segments[l].digest = digest_of(payload, l);
    for (const int half : {SKV_K, SKV_V}) tiers.push_back(tiers_of(payload, l, half));
  }
  plan.adopt_payload(what, payload.header(), segments, std::move(tiers));
  plan.can_mask = false;
  plan.facts = {};
  plan.score_ns = 0;
}

void match_base(Payload& payload, const Plan& plan, Solves wanted, const char* solver) {
  if (!plan.solved() || plan.solves() != wanted) fail(SKV_E_STATE, "the plan is not solved for this: call %s", solver);
  if (plan.layers().size() != payload.segments().size()) {
    fail(SKV_E_BASE, "plan for a payload of %zu layers, got one of %zu", plan.layers().size(),
         payload.segments().size());
  }
  for (size_t l = 0; l < plan.layers().size(); ++l) {
    const LayerPlan& layer = plan.layers()[l];
    if (layer.base_digest != digest_of(payload, l) || layer.base_bytes != payload.segments()[l].layout.bytes) {
      fail(SKV_E_BASE, "layer %zu: the plan was solved for a payload with digest %016llx, got one with %016llx", l,
           static_cast<ull>(layer.base_digest), static_cast<ull>(digest_of(payload, l)));
    }
  }
}

std::shared_ptr<std::byte> compose(Header header, std::span<const uint64_t> sizes,
                                   const std::function<void(size_t layer, std::span<std::byte> segment)>& write) {
  header.total_bytes = kHeaderBytes;
  for (const uint64_t size : sizes) header.total_bytes += size;
  std::shared_ptr<std::byte> memory = payload_memory(header.total_bytes);
  write_header(std::span<std::byte, kHeaderBytes>(memory.get(), kHeaderBytes), header);
  uint64_t at = kHeaderBytes;
  for (size_t l = 0; l < sizes.size(); ++l) {
    const std::span<std::byte> segment(memory.get() + at, sizes[l]);
    write(l, segment);
    seal(segment);
    at += sizes[l];
  }
  return memory;
}

}  // namespace skv
