// SPDX-License-Identifier: Apache-2.0
// Payloads that are not whole: under construction, layer by layer, and still arriving.
#include <algorithm>

#include "codec.h"
#include "error.h"

namespace skv {
namespace {

using ull = unsigned long long;

[[noreturn]] void refuse_piece(const char* what, uint32_t ordinal, uint64_t bytes, uint64_t offered) {
  fail(SKV_E_MALFORMED, "%s %u: %llu bytes, offered were %llu", what, ordinal, static_cast<ull>(bytes),
       static_cast<ull>(offered));
}

}  // namespace

// ------------------------------------------------------------------------------------------- under construction

void Payload::need_complete() {
  if (missing_ != 0) fail(SKV_E_STATE, "%zu of %zu layers are not encoded yet", missing_, parsed_.segments.size());
  if (!arrival_) return;
  absorb();
  if (arrival_) {
    fail(SKV_E_STATE, "%zu of %zu layers have arrived, and the transfer has not ended", arrived_,
         parsed_.segments.size());
  }
}

void Payload::need_layers(int32_t first, int32_t count) {
  if (missing_ != 0) return need_complete();
  if (!arrival_) return;
  // Asked even when the layers are there: what a failed transfer brought is not to be used.
  absorb();
  if (arrival_ && static_cast<size_t>(first) + static_cast<size_t>(count) > arrived_) {
    fail(SKV_E_STATE, "layer %d has not arrived yet (%zu of %zu have): wait for it with skv_request_wait_layer",
         first + count - 1, arrived_, parsed_.segments.size());
  }
}

void Payload::need_shapes(int32_t layer) {
  if (!arrival_) return;
  if (layer == SKV_ALL) {
    need_layers(0, static_cast<int32_t>(parsed_.segments.size()));
  } else {
    need_layers(layer, 1);
  }
}

size_t Payload::leading_layers() const {
  if (encoded_.empty()) return parsed_.segments.size();
  return static_cast<size_t>(std::find(encoded_.begin(), encoded_.end(), 0) - encoded_.begin());
}

void Payload::watch(PayloadWatcher watcher) { watchers_.push_back(std::move(watcher)); }

void Payload::grown() const {
  for (const PayloadWatcher& watcher : watchers_) watcher.encoded(leading_layers());
}

void Payload::abandon() {
  if (missing_ == 0) return;
  for (const PayloadWatcher& watcher : watchers_) watcher.abandoned();
  watchers_.clear();
}

// ------------------------------------------------------------------------------------------------------- arriving

std::unique_ptr<Payload> Payload::open_early(std::span<const std::byte> bytes, std::span<const uint64_t> layer_bytes,
                                             std::shared_ptr<const void> owner, ArrivalOf arrival) {
  const bool packed = is_packed(bytes);
  const uint64_t front = packed ? kPackedFrontBytes : kHeaderBytes;
  if (layer_bytes.empty() || layer_bytes.front() != front) {
    fail(SKV_E_MALFORMED, "the offer's first piece has %llu bytes, wanted the payload's header of %llu",
         static_cast<ull>(layer_bytes.empty() ? 0 : layer_bytes.front()), static_cast<ull>(front));
  }
  std::unique_ptr<Payload> payload(new Payload);
  Parsed& parsed = payload->parsed_;
  if (packed) payload->packed_ = std::make_unique<PackedSource>(bytes, owner);
  parsed.header = parse_header(packed ? payload->packed_->plain() : bytes);
  if (parsed.header.layer_count != layer_bytes.size() - 1) {
    fail(SKV_E_MALFORMED, "payload of %u layers, offered were %zu", parsed.header.layer_count, layer_bytes.size() - 1);
  }
  if (parsed.header.raw_bytes > static_cast<uint64_t>(INT64_MAX)) {
    fail(SKV_E_MALFORMED, "payload of %llu raw bytes, wanted less than 2^63",
         static_cast<ull>(parsed.header.raw_bytes));
  }
  // The transport made sure that the pieces sum to bytes.size().
  parsed.segments.resize(parsed.header.layer_count);
  uint64_t offset = front;
  for (size_t l = 0; l < parsed.segments.size(); ++l) {
    parsed.segments[l].offset = offset;
    parsed.segments[l].layout.bytes = layer_bytes[l + 1];
    offset += layer_bytes[l + 1];
  }
  payload->bytes_ = packed ? payload->packed_->plain() : bytes;
  payload->owner_ = packed ? std::shared_ptr<const void>(payload->packed_->memory) : std::move(owner);
  payload->verified_.assign(parsed.segments.size(), 0);
  payload->arrival_ = std::move(arrival);
  payload->receipt_.scored = static_cast<int32_t>(parsed.header.scored);
  payload->receipt_.raw_bytes = parsed.header.raw_bytes;
  payload->receipt_.budget_bytes = parsed.header.budget_bytes;
  payload->receipt_.payload_bytes = bytes.size();
  payload->receipt_.unpacked_bytes = packed ? parsed.header.total_bytes : 0;
  payload->absorb();
  return payload;
}

// Parses what has arrived since the last time. After the last layer the payload is like one that was opened whole.
void Payload::absorb() {
  const Arrived now = arrival_();
  for (; arrived_ < std::min(now.layers, parsed_.segments.size()); ++arrived_) {
    Segment& place = parsed_.segments[arrived_];
    const uint64_t offered = place.layout.bytes;
    const auto ordinal = static_cast<uint32_t>(arrived_);
    Segment segment;
    if (packed_ != nullptr) {
      const Record& record = packed_->add(place.offset + offered);
      if (record.bytes != offered) refuse_piece("record", ordinal, record.bytes, offered);
      segment = parse_segment(bytes_.subspan(record.plain_offset, record.plain_bytes), parsed_.header, ordinal,
                              record.plain_offset, [&](std::span<const Extent> wanted) { packed_->fetch(wanted); });
      packed_->match(segment);
    } else {
      segment = parse_segment(bytes_.subspan(place.offset, offered), parsed_.header, ordinal, place.offset);
      if (segment.layout.bytes != offered) refuse_piece("segment", ordinal, segment.layout.bytes, offered);
    }
    const uint64_t raw =
        2ULL * segment.shape.tokens * segment.shape.heads * (uint64_t{segment.shape.dim[0]} + segment.shape.dim[1]);
    if (raw > parsed_.header.raw_bytes - arrived_raw_bytes_) {
      fail(SKV_E_MALFORMED, "segments 0..%zu hold %llu raw bytes and more, the header says %llu", arrived_,
           static_cast<ull>(arrived_raw_bytes_), static_cast<ull>(parsed_.header.raw_bytes));
    }
    arrived_raw_bytes_ += raw;
    place = segment;
    count_rows(segment);
  }
  if (!now.ended) return;
  if (arrived_raw_bytes_ != parsed_.header.raw_bytes) {
    fail(SKV_E_MALFORMED, "raw bytes %llu, the segments give %llu", static_cast<ull>(parsed_.header.raw_bytes),
         static_cast<ull>(arrived_raw_bytes_));
  }
  if (packed_ != nullptr &&
      packed_->records.back().plain_offset + packed_->records.back().plain_bytes != bytes_.size()) {
    fail(SKV_E_MALFORMED, "records end at byte %llu of a payload of %zu",
         static_cast<ull>(packed_->records.back().plain_offset + packed_->records.back().plain_bytes), bytes_.size());
  }
  moved(now.wire_ns, now.plane);
  arrival_ = nullptr;
}

}  // namespace skv
