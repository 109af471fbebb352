// SPDX-License-Identifier: Apache-2.0
// The Payload object: bytes with an owner, what is in them, and the receipt.
#include <algorithm>
#include <cstring>

#include "codec.h"
#include "error.h"
#include "kernels/tiers.h"
#include "payload_memory.h"

namespace skv {
void Payload::count_rows(const Segment& segment) {
  for (int tier = 0; tier < 8; ++tier) {
    receipt_.k_rows[tier] += segment.counts[0].rows[tier];
    receipt_.v_rows[tier] += segment.shape.dim[1] == 0 ? 0 : segment.counts[1].rows[tier];
  }
  receipt_.code = segment.shape.code;
}

void Payload::adopt_parsed(Parsed parsed) {
  parsed_ = std::move(parsed);
  verified_.assign(parsed_.segments.size(), 0);
  const Header& header = parsed_.header;
  receipt_.scored = static_cast<int32_t>(header.scored);
  receipt_.raw_bytes = header.raw_bytes;
  receipt_.budget_bytes = header.budget_bytes;
  receipt_.payload_bytes = header.total_bytes;
  for (const Segment& segment : parsed_.segments) count_rows(segment);
}

std::unique_ptr<Payload> Payload::open(std::span<const std::byte> bytes, std::shared_ptr<const void> owner) {
  if (is_packed(bytes)) return open_packed(bytes, std::move(owner));
  std::unique_ptr<Payload> payload(new Payload);
  payload->adopt_parsed(parse(bytes));
  payload->bytes_ = bytes;
  payload->owner_ = std::move(owner);
  return payload;
}

std::unique_ptr<Payload> Payload::create(const Cache& cache, const Plan& plan, std::span<std::byte> buffer,
                                         const Device* device) {
  if (!plan.solved()) fail(SKV_E_STATE, "the plan is not solved: call skv_plan_solve first");
  if (plan.solves() == Solves::kUpgrade) {
    fail(SKV_E_STATE, "the plan was solved for an upgrade: use skv_encode_upgrade");
  }
  if (plan.layers().size() != static_cast<size_t>(cache.layer_count())) {
    fail(SKV_E_LAYOUT, "plan of %zu layers for a cache of %d", plan.layers().size(), cache.layer_count());
  }
  const uint64_t size = plan.payload_bytes();
  std::unique_ptr<Payload> payload(new Payload);
  if (device != nullptr) payload->device_ = device->ordinal();
  if (buffer.data() == nullptr) {
    std::shared_ptr<std::byte> memory;
    if (device != nullptr) {
      const Device::Use use(*device);
      memory = device->allocate(size);
    } else {
      memory = payload_memory(size);
    }
    payload->writable_ = memory.get();
    payload->owner_ = std::move(memory);
  } else {
    if (buffer.size() < size)
      fail(SKV_E_TOO_SMALL, "buffer of %zu bytes, wanted %llu", buffer.size(), static_cast<unsigned long long>(size));
    if (reinterpret_cast<uintptr_t>(buffer.data()) % 16 != 0)
      fail(SKV_E_ARGUMENT, "buffer %p: wanted 16-byte alignment", static_cast<void*>(buffer.data()));
    if (device != nullptr) {
      const Device::Use use(*device);
      device->need_reach(buffer.data(), size, "payload buffer");
    }
    payload->writable_ = buffer.data();
  }
  payload->bytes_ = {payload->writable_, size};
  Header& header = payload->parsed_.header;
  header.layer_count = static_cast<uint32_t>(plan.layers().size());
  header.total_bytes = size;
  header.fingerprint = cache.fingerprint();
  header.request_id = cache.request_id();
  header.raw_bytes = plan.raw_bytes();
  header.budget_bytes = plan.budget_bytes();
  header.scored = static_cast<uint32_t>(plan.scored);
  // In device memory the encoder writes it.
  if (device == nullptr) write_header(std::span<std::byte, 128>(payload->writable_, 128), header);
  uint64_t offset = 128;
  for (const LayerPlan& layer : plan.layers()) {
    Segment& segment = payload->parsed_.segments.emplace_back();
    segment.shape = layer.shape;
    segment.layout = layer.layout;
    segment.counts[0] = layer.counts[0];
    segment.counts[1] = layer.counts[1];
    segment.offset = offset;
    offset += layer.layout.bytes;
  }
  payload->verified_.assign(plan.layers().size(), 0);
  payload->encoded_.assign(plan.layers().size(), 0);
  if (device != nullptr) payload->tiers_.resize(2 * plan.layers().size());
  payload->missing_ = plan.layers().size();
  payload->adopt_facts(plan);
  payload->receipt_.payload_bytes = size;
  for (const Segment& segment : payload->parsed_.segments) payload->count_rows(segment);
  return payload;
}

void Payload::adopt_facts(const Plan& plan) {
  receipt_.scored = plan.scored;
  receipt_.raw_bytes = plan.raw_bytes();
  receipt_.budget_bytes = plan.budget_bytes();
  receipt_.score_ns = plan.score_ns;
  receipt_.plan_ns = plan.plan_ns;
  receipt_.int4 = plan.facts.int4;
  receipt_.proof = plan.facts.proof;
  receipt_.predicted_kl = plan.facts.predicted_kl;
  receipt_.worst_snr_db = plan.facts.worst_snr_db;
  receipt_.worst_layer = plan.facts.worst_layer;
  receipt_.worst_head = plan.facts.worst_head;
  receipt_.escalated_layers = plan.facts.escalated;
  std::copy_n(plan.facts.k_mass, 8, receipt_.k_mass);
  std::copy_n(plan.facts.v_mass, 8, receipt_.v_mass);
}

std::unique_ptr<Payload> Payload::made(std::shared_ptr<std::byte> memory, size_t bytes, const Plan* plan, uint64_t ns) {
  const std::span<const std::byte> all(memory.get(), bytes);
  std::unique_ptr<Payload> payload = open(all, std::move(memory));
  std::fill(payload->verified_.begin(), payload->verified_.end(), 1);
  if (plan != nullptr) payload->adopt_facts(*plan);
  payload->receipt_.encode_ns = ns;
  return payload;
}

void Payload::need_rows(const char* what) const {
  if (upgrade()) {
    fail(SKV_E_STATE, "%s wants a payload, got an upgrade: apply it to its base first (skv_payload_apply)", what);
  }
}

int64_t Payload::get(int32_t layer, int32_t key) {
  if (layer < SKV_ALL || layer >= static_cast<int32_t>(parsed_.segments.size())) {
    fail(SKV_E_RANGE, "layer %d: wanted SKV_ALL (-1) or 0..%zu", layer, parsed_.segments.size() - 1);
  }
  if (key < SKV_PAYLOAD_BYTES || key > SKV_PAYLOAD_CUT)
    fail(SKV_E_KEY, "payload fact %d: wanted one of SKV_PAYLOAD_* (1..21)", key);
  if (layer != SKV_ALL || key == SKV_PAYLOAD_TOKENS) need_shapes(layer);
  if (layer == SKV_ALL) {
    switch (key) {
      case SKV_PAYLOAD_BYTES:
        return static_cast<int64_t>(packed() ? packed_->bytes.size() : bytes_.size());
      case SKV_PAYLOAD_LAYERS:
        return static_cast<int64_t>(parsed_.segments.size());
      case SKV_PAYLOAD_RAW_BYTES:
        return static_cast<int64_t>(parsed_.header.raw_bytes);
      case SKV_PAYLOAD_WIRE:
        return parsed_.header.wire_major * 256 + parsed_.header.wire_minor;
      case SKV_PAYLOAD_TOKENS: {
        uint32_t most = 0;
        for (const Segment& segment : parsed_.segments) most = std::max(most, segment.shape.tokens);
        return most;
      }
      case SKV_PAYLOAD_DEVICE:
        return device_;
      case SKV_PAYLOAD_UPGRADE:
        return upgrade() ? 1 : 0;
      default:
        fail(SKV_E_RANGE, "payload fact %d is a segment's: wanted a layer 0..%zu", key, parsed_.segments.size() - 1);
    }
  }
  const Segment& segment = parsed_.segments[static_cast<size_t>(layer)];
  const SegmentShape& shape = segment.shape;
  switch (key) {
    case SKV_PAYLOAD_BYTES:
      return static_cast<int64_t>(packed() ? packed_->records[static_cast<size_t>(layer)].bytes : segment.layout.bytes);
    case SKV_PAYLOAD_RAW_BYTES:
      return 2LL * shape.tokens * shape.heads * (shape.dim[0] + shape.dim[1]);
    case SKV_PAYLOAD_TOKENS:
      return shape.tokens;
    case SKV_PAYLOAD_POSITION:
      return static_cast<int64_t>(shape.first_position);
    case SKV_PAYLOAD_HEADS:
      return shape.heads;
    case SKV_PAYLOAD_K_DIM:
      return shape.dim[0];
    case SKV_PAYLOAD_V_DIM:
      return shape.dim[1];
    case SKV_PAYLOAD_DTYPE:
      return shape.dtype;
    case SKV_PAYLOAD_RAW_DTYPE:
      return shape.raw_dtype;
    case SKV_PAYLOAD_CHUNK:
      return shape.chunk;
    case SKV_PAYLOAD_CODE:
      return shape.code;
    case SKV_PAYLOAD_K_TRANSFORMS:
      return shape.transforms[0];
    case SKV_PAYLOAD_V_TRANSFORMS:
      return shape.transforms[1];
    case SKV_PAYLOAD_GROUP:
      return shape.group;
    case SKV_PAYLOAD_FIRST_HEAD:
      return shape.first_head;
    case SKV_PAYLOAD_CUT:
      return cuts_.empty() ? 0 : cuts_[static_cast<size_t>(layer)];
    case SKV_PAYLOAD_OFFSET:
      return static_cast<int64_t>(packed() ? packed_->records[static_cast<size_t>(layer)].offset : segment.offset);
    default:
      fail(SKV_E_RANGE, "payload fact %d is the whole payload's: wanted layer SKV_ALL", key);
  }
}

void Payload::tiers(int32_t layer, int32_t half, std::span<uint8_t> out) {
  if (layer < 0 || layer >= static_cast<int32_t>(parsed_.segments.size())) {
    fail(SKV_E_RANGE, "layer %d: wanted 0..%zu", layer, parsed_.segments.size() - 1);
  }
  need_layers(layer, 1);
  need_rows("reading tiers");
  const Segment& segment = parsed_.segments[static_cast<size_t>(layer)];
  if (half != SKV_K && half != SKV_V) fail(SKV_E_RANGE, "half %d: wanted SKV_K (0) or SKV_V (1)", half);
  const size_t tokens = segment.shape.dim[half] == 0 ? 0 : segment.shape.tokens;
  if (out.size() != tokens) fail(SKV_E_RANGE, "room for %zu tiers, wanted exactly %zu", out.size(), tokens);
  if (tokens != 0 && device_ >= 0) {
    const std::vector<uint8_t>& kept = tiers_[static_cast<size_t>(layer) * 2 + static_cast<size_t>(half)];
    std::copy(kept.begin(), kept.end(), out.begin());
    return;
  }
  if (tokens != 0) read_tiers(segment_bytes(static_cast<size_t>(layer)), segment, half, 0, out);
}

void Payload::adopt_encoded(int32_t first, int32_t count, uint64_t ns) {
  for (int32_t l = first; l < first + count; ++l) {
    encoded_[static_cast<size_t>(l)] = 1;
    verified_[static_cast<size_t>(l)] = 1;
  }
  missing_ -= static_cast<size_t>(count);
  receipt_.encode_ns += ns;
  if (copy_ != nullptr) host_bytes();  // someone sends layers as they come
}

skv_receipt Payload::receipt() const {
  skv_receipt receipt = receipt_;
  receipt.struct_size = sizeof receipt;
  receipt.ratio =
      receipt.raw_bytes == 0 ? 0 : static_cast<double>(receipt.payload_bytes) / static_cast<double>(receipt.raw_bytes);
  const uint64_t spent = receipt.encode_ns + receipt.decode_ns;
  if (spent != 0 && receipt.raw_bytes > receipt.payload_bytes) {
    receipt.break_even_bits_per_s =
        8e9 * static_cast<double>(receipt.raw_bytes - receipt.payload_bytes) / static_cast<double>(spent);
  }
  receipt.dropped_rows = receipt.k_rows[tiers::kDrop] + receipt.v_rows[tiers::kDrop];
  receipt.raw_is_faster = -1;
  if (receipt.wire_ns != 0) {
    receipt.link_bits_per_s = 8e9 * static_cast<double>(receipt.payload_bytes) / static_cast<double>(receipt.wire_ns);
    if (receipt.break_even_bits_per_s > 0) {
      receipt.raw_is_faster = receipt.link_bits_per_s > receipt.break_even_bits_per_s ? 1 : 0;
    }
  }
  return receipt;
}

}  // namespace skv
