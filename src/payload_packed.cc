// SPDX-License-Identifier: Apache-2.0
// Payloads in packed form: made, opened, and unpacked as their bytes are wanted.
#include <algorithm>
#include <atomic>
#include <cstring>
#include <numeric>

#include "codec.h"
#include "error.h"
#include "payload_memory.h"

namespace skv {
namespace {

using ull = unsigned long long;

}  // namespace

// The front of one: both headers. Records follow as they are there.
Payload::PackedSource::PackedSource(std::span<const std::byte> all, std::shared_ptr<const void> keeper)
    : bytes(all),
      owner(std::move(keeper)),
      header(parse_packed_header(all)),
      memory(payload_memory(header.plain_bytes)) {
  std::memcpy(memory.get(), bytes.data() + kPackedHeaderBytes, kHeaderBytes);
  records.reserve(header.layer_count);
}

// The next record's pieces; `end` is where what is there ends.
const Record& Payload::PackedSource::add(uint64_t end) {
  const auto ordinal = static_cast<uint32_t>(records.size());
  const uint64_t at = records.empty() ? kPackedFrontBytes : records.back().offset + records.back().bytes;
  const uint64_t plain_at = records.empty() ? kHeaderBytes : records.back().plain_offset + records.back().plain_bytes;
  records.push_back(parse_record(bytes.subspan(at, end - at), ordinal, at, plain_at, header));
  done.emplace_back(records.back().pieces.size(), uint8_t{0});
  return records.back();
}

void Payload::PackedSource::unpack(size_t layer, size_t piece, Unpacker& unpacker) {
  uint8_t& unpacked = done[layer][piece];
  if (unpacked != 0) return;
  const Record& record = records[layer];
  const Piece& it = record.pieces[piece];
  unpacker.unpack(bytes.subspan(record.offset, record.bytes), it, static_cast<uint32_t>(layer),
                  memory.get() + record.plain_offset + it.plain_offset);
  unpacked = 1;
}

// What the reader of the payload wants to look at before the rest is unpacked.
void Payload::PackedSource::fetch(std::span<const Extent> extents) {
  for (const Extent& extent : extents) {
    for (size_t l = 0; l < records.size(); ++l) {
      const Record& record = records[l];
      if (record.plain_offset + record.plain_bytes <= extent.offset) continue;
      if (record.plain_offset >= extent.offset + extent.bytes) break;
      for (size_t p = 0; p < record.pieces.size(); ++p) {
        const uint64_t begin = record.plain_offset + record.pieces[p].plain_offset;
        if (begin >= extent.offset + extent.bytes) break;
        if (begin + record.pieces[p].plain_bytes > extent.offset) unpack(l, p, front);
      }
    }
  }
}

// The segment must be what its record says it holds.
void Payload::PackedSource::match(const Segment& segment) const {
  const Record& record = records[segment.shape.layer];
  if (segment.offset == record.plain_offset && segment.layout.bytes == record.plain_bytes) return;
  fail(SKV_E_MALFORMED, "record %u holds %llu bytes of the payload from %llu, its segment is %llu from %llu",
       segment.shape.layer, static_cast<ull>(record.plain_bytes), static_cast<ull>(record.plain_offset),
       static_cast<ull>(segment.layout.bytes), static_cast<ull>(segment.offset));
}

std::unique_ptr<Payload> Payload::open_packed(std::span<const std::byte> bytes, std::shared_ptr<const void> owner) {
  std::unique_ptr<Payload> payload(new Payload);
  payload->packed_ = std::make_unique<PackedSource>(bytes, std::move(owner));
  PackedSource& from = *payload->packed_;
  for (uint32_t l = 0; l < from.header.layer_count; ++l) from.add(bytes.size());
  const Record& last = from.records.back();
  if (last.offset + last.bytes != bytes.size() || last.plain_offset + last.plain_bytes != from.header.plain_bytes) {
    fail(SKV_E_MALFORMED, "%u records end at byte %llu of %zu and hold %llu of %llu", from.header.layer_count,
         static_cast<ull>(last.offset + last.bytes), bytes.size(),
         static_cast<ull>(last.plain_offset + last.plain_bytes), static_cast<ull>(from.header.plain_bytes));
  }
  Parsed parsed = parse(from.plain(), [&](std::span<const Extent> wanted) { from.fetch(wanted); });
  if (parsed.header.layer_count != from.header.layer_count) {
    fail(SKV_E_MALFORMED, "%u records, the payload has %u segments", from.header.layer_count,
         parsed.header.layer_count);
  }
  for (const Segment& segment : parsed.segments) from.match(segment);
  payload->adopt_parsed(std::move(parsed));
  payload->bytes_ = from.plain();
  payload->owner_ = from.memory;
  payload->receipt_.unpacked_bytes = payload->receipt_.payload_bytes;
  payload->receipt_.payload_bytes = bytes.size();
  return payload;
}

void Payload::unpack_layer(size_t layer, Digest digest) {
  PackedSource& from = *packed_;
  const Record& record = from.records[layer];
  verify_record(from.bytes.subspan(record.offset, record.bytes), record, static_cast<uint32_t>(layer), digest);
  Unpacker unpacker;
  for (size_t p = 0; p < record.pieces.size(); ++p) from.unpack(layer, p, unpacker);
}

std::unique_ptr<Payload> Payload::pack(Engine& engine, Payload& plain) {
  const uint64_t start = now_ns();
  if (plain.packed()) fail(SKV_E_STATE, "the payload is packed already");
  plain.need_complete();
  const std::span<const std::byte> all = plain.host_bytes();
  const size_t layers = plain.segments().size();
  // Records are made where each would begin if none were smaller than it can be, then moved together.
  std::vector<uint64_t> places(layers + 1, kPackedFrontBytes);
  for (size_t l = 0; l < layers; ++l) places[l + 1] = places[l] + record_bound(plain.segments()[l]);
  const std::shared_ptr<std::byte> memory = payload_memory(places[layers]);
  std::vector<uint64_t> sizes(layers);
  const auto pack = [&](size_t l, bool smaller, Packer& packer) {
    sizes[l] = packer.record(plain.segment_bytes(l), plain.segments()[l], engine.kernels().digest, smaller,
                             memory.get() + places[l]);
  };
  std::atomic<size_t> next = 0;
  engine.run(std::min(static_cast<size_t>(engine.threads()), layers), [&](size_t, Scratch&) {
    Packer packer;  // one for all layers that a thread takes
    for (size_t l = next++; l < layers; l = next++) pack(l, true, packer);
  });
  const auto total = [&] { return std::accumulate(sizes.begin(), sizes.end(), uint64_t{kPackedFrontBytes}); };
  for (size_t l = 0; l < layers && all.size() / kMaxExpansion > total(); ++l) {
    Packer packer;
    pack(l, false, packer);
  }
  const uint64_t size = total();
  write_packed_header(std::span<std::byte, kPackedHeaderBytes>(memory.get(), kPackedHeaderBytes),
                      {static_cast<uint32_t>(layers), size, all.size()});
  std::memcpy(memory.get() + kPackedHeaderBytes, all.data(), kHeaderBytes);
  uint64_t at = kPackedFrontBytes;
  for (size_t l = 0; l < layers; ++l) {
    std::memmove(memory.get() + at, memory.get() + places[l], sizes[l]);
    at += sizes[l];
  }
  std::unique_ptr<Payload> packed = open({memory.get(), size}, memory);
  const skv_receipt own = packed->receipt_;
  packed->receipt_ = plain.receipt_;
  packed->receipt_.payload_bytes = own.payload_bytes;
  packed->receipt_.unpacked_bytes = own.unpacked_bytes;
  packed->receipt_.encode_ns += now_ns() - start;
  return packed;
}

std::span<const std::byte> Payload::wire_bytes() const { return packed() ? packed_->bytes : host_bytes(); }

std::shared_ptr<const void> Payload::wire_owner() const {
  if (packed()) return packed_->owner;
  return device_ < 0 ? owner_ : copy_;
}

std::vector<uint64_t> Payload::wire_pieces() const {
  std::vector<uint64_t> pieces{packed() ? kPackedFrontBytes : kHeaderBytes};
  for (size_t l = 0; l < parsed_.segments.size(); ++l) {
    pieces.push_back(packed() ? packed_->records[l].bytes : parsed_.segments[l].layout.bytes);
  }
  return pieces;
}

}  // namespace skv
