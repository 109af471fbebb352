// SPDX-License-Identifier: Apache-2.0
// The codec on a CUDA device: builds the jobs of a call, brings them to the device in one copy, launches, and reads one
// verdict back. Payload bytes equal the CPU's.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "cache.h"
#include "device.h"
#include "kernels/kernels.h"
#include "payload.h"
#include "plan.h"

namespace skv {

// The tiers of one layer's K and V.
struct LayerTiers {
  std::span<const uint8_t> half[2];
};

// Encodes layers [first, first + count) of a plan into a payload in device memory, and writes its header. Waits for the
// stream once, at the end, for the verdict. On a throw the segments are zero.
void encode_on_device(Device& device, const kernels::Kernels& host, const Cache& cache, std::span<const LayerPlan> plan,
                      std::span<const Segment> segments, const Header& header, std::byte* payload, int32_t first,
                      int32_t count, void* stream);

// Decodes layers from a payload in device memory. Segments flagged in `unverified` (by layer) are verified first, on
// the device, and nothing is written unless all are right. Waits for the stream once, at the end. Returns the first
// layer that did not verify, or -1.
int32_t decode_on_device(Device& device, const Cache& cache, std::span<const Segment> segments,
                         std::span<const LayerTiers> tiers, std::span<const uint8_t> verified, const std::byte* payload,
                         int32_t first, int32_t count, void* stream);

// The same from a payload in host memory, verified by the caller; its bytes pass through the device's shelf.
void decode_from_host(Device& device, const Cache& cache, std::span<const Segment> segments,
                      std::span<const std::byte> payload, int32_t first, int32_t count, void* stream);

// Every plane of the cache's layers must be memory the device reaches (ARGUMENT, RANGE).
void need_reach(const Device& device, const Cache& cache, int32_t first, int32_t count);

// One half of a layer, contiguous ([token][head][channel], in its own dtype), copied to the host. Waits.
std::vector<std::byte> gather_half(Device& device, const Cache& cache, int32_t layer, int half);

// What scoring measures of a half: the largest magnitude of every transformed row, and the chunks' balances, with the
// statistics as the encoder would take them at these tiers, one a token.
struct HalfMeasure {
  std::vector<float> absmax;   // [tokens][heads]
  std::vector<float> balance;  // [chunks][heads*dim], empty without BALANCE
  int64_t failed_chunk = -1;   // the first with a value that cannot be measured
};
HalfMeasure measure_on_device(Device& device, const Cache& cache, int32_t layer, int half, uint32_t transforms,
                              uint32_t chunk, std::span<const uint8_t> assumed);

}  // namespace skv
