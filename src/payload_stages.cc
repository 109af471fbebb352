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

std::unique_ptr<Payload> Payload::open_early(std::span<std::byte> bytes, std::span<const uint64_t> layer_bytes,
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
  if (packed) {
    payload->bytes_ = payload->packed_->plain();
    payload->owner_ = payload->packed_->memory;
  } else {
    payload->bytes_ = payload->arriving_ = bytes;
    payload->owner_ = std::move(owner);
  }
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

// The header that was sent first names more bytes than came.
void Payload::end_smaller(const Arrived& now) {
  uint64_t total = 0;
  for (const uint64_t bytes : now.layer_bytes) total += bytes;
  if (now.head.size() != kHeaderBytes) fail(SKV_E_MALFORMED, "a header of %zu bytes in the end", now.head.size());
  std::copy(now.head.begin(), now.head.end(), arriving_.begin());
  bytes_ = std::span<const std::byte>(arriving_).first(total);
  const Header header = parse_header(bytes_);
  const Header& first = parsed_.header;
  if (header.layer_count != first.layer_count || header.fingerprint != first.fingerprint ||
      header.request_id != first.request_id || header.raw_bytes != first.raw_bytes) {
    fail(SKV_E_MALFORMED, "the header in the end is of another payload than the first one");
  }
  parsed_.header = header;
  receipt_.payload_bytes = header.total_bytes;
  note_cuts(now.cuts);
}

void Payload::note_cuts(std::span<const uint32_t> cuts) {
  cuts_.assign(parsed_.segments.size(), 0);
  receipt_.cut_layers = 0;
  for (size_t l = 0; l < cuts_.size() && l + 1 < cuts.size(); ++l) {
    cuts_[l] = cuts[l + 1] <= SKV_TIER_8BIT ? static_cast<uint8_t>(cuts[l + 1]) : 0;
    receipt_.cut_layers += cuts_[l] != 0 ? 1 : 0;
  }
}

std::optional<LayerPlan> Payload::cut_late(const Plan& plan, int32_t layer) {
  const uint8_t lowest = plan.options.late_tier;
  if (lowest == 0 || layer < 0 || static_cast<size_t>(layer) >= parsed_.segments.size()) return std::nullopt;
  const auto at = static_cast<size_t>(layer);
  // Once cut it stays so: encoding it may have failed and is tried again.
  if (!cuts_.empty() && cuts_[at] != 0) return plan.capped(layer, cuts_[at]);
  // What follows moves up, so nothing of it may be there.
  if (device_ >= 0 || watchers_.empty() || leading_layers() != at || missing_ != parsed_.segments.size() - at) {
    return std::nullopt;
  }
  uint64_t affordable = UINT64_MAX, left = 0;
  for (const PayloadWatcher& watcher : watchers_) affordable = std::min(affordable, watcher.affordable());
  for (size_t l = at; l < parsed_.segments.size(); ++l) left += parsed_.segments[l].layout.bytes;
  if (left <= affordable) return std::nullopt;
  // Each layer bears its part, so that none is cut deeper than it must be.
  Segment& segment = parsed_.segments[at];
  const double share =
      static_cast<double>(segment.layout.bytes) * (static_cast<double>(affordable) / static_cast<double>(left));
  LayerPlan less;
  uint8_t tier = SKV_TIER_8BIT;
  do {
    less = plan.capped(layer, --tier);
  } while (tier > lowest && static_cast<double>(less.layout.bytes) > share);
  const uint64_t before = segment.layout.bytes;
  if (less.layout.bytes >= before) return std::nullopt;
  const uint64_t saved = before - less.layout.bytes;
  for (int t = 0; t < 8; ++t) {
    receipt_.k_rows[t] -= segment.counts[0].rows[t];
    receipt_.v_rows[t] -= segment.shape.dim[1] == 0 ? 0 : segment.counts[1].rows[t];
  }
  segment.layout = less.layout;
  segment.counts[0] = less.counts[0];
  segment.counts[1] = less.counts[1];
  count_rows(segment);
  for (size_t l = at + 1; l < parsed_.segments.size(); ++l) parsed_.segments[l].offset -= saved;
  parsed_.header.total_bytes -= saved;
  receipt_.payload_bytes -= saved;
  bytes_ = bytes_.first(bytes_.size() - saved);
  cuts_.resize(parsed_.segments.size());
  cuts_[at] = tier;
  receipt_.cut_layers++;
  const std::span<std::byte, kHeaderBytes> head(writable_, kHeaderBytes);
  write_header(head, parsed_.header);
  for (const PayloadWatcher& watcher : watchers_) watcher.cut(at, less.layout.bytes, tier, head);
  return less;
}

// Parses what has arrived since the last time. After the last layer the payload is like one that was opened whole.
void Payload::absorb() {
  const Arrived now = arrival_();
  if (packed_ != nullptr && !now.layer_bytes.empty()) {
    fail(SKV_E_MALFORMED, "layers of a packed payload got smaller under way: only plain ones may be cut");
  }
  for (; arrived_ < std::min(now.layers, parsed_.segments.size()); ++arrived_) {
    Segment& place = parsed_.segments[arrived_];
    if (!now.layer_bytes.empty()) {  // those before it, or itself, got smaller
      const Segment* before = arrived_ == 0 ? nullptr : &place - 1;
      place.offset = before == nullptr ? kHeaderBytes : before->offset + before->layout.bytes;
      place.layout.bytes = now.layer_bytes[arrived_ + 1];
    }
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
  if (!now.layer_bytes.empty()) end_smaller(now);
  moved(now.wire_ns, now.plane);
  arrival_ = nullptr;
}

}  // namespace skv
