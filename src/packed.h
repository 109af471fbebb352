// SPDX-License-Identifier: Apache-2.0
// The packed form of a payload, docs/wire-format.md: its bytes cut into pieces that zstd made smaller, without loss.
// Knows no tensors; the writer cuts where the payload's sections begin, because each has statistics of its own.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "payload.h"

namespace skv {

constexpr uint64_t kPackedHeaderBytes = 64;
constexpr uint64_t kRecordHeaderBytes = 64;
constexpr uint64_t kPieceBytes = 131072;  // zstd's largest block
// What a packed payload may claim to hold, in multiples of its own bytes: bounds what a few hostile bytes can make a
// reader allocate. Real ones stay below 2.
constexpr uint64_t kMaxExpansion = 64;

struct PackedHeader {
  uint32_t layer_count = 0;
  uint64_t total_bytes = 0;
  uint64_t plain_bytes = 0;
  uint32_t method = 2;  // what is written
};

struct Piece {
  uint64_t plain_offset = 0;  // from the segment's first byte
  uint32_t plain_bytes = 0;
  uint32_t element_bytes = 0;  // packed as columns of elements of 2 or 4 bytes; 0: in order
  uint64_t offset = 0;         // from the record's first byte
  uint32_t bytes = 0;          // equal to plain_bytes: stored as it is
};

// One segment, packed.
struct Record {
  uint64_t offset = 0;  // from the packed payload's first byte
  uint64_t bytes = 0;
  uint64_t plain_offset = 0;  // of the segment in the payload
  uint64_t plain_bytes = 0;
  uint64_t digest = 0;
  std::vector<Piece> pieces;
};

bool is_packed(std::span<const std::byte> bytes);
// Bytes before the first record: both headers.
constexpr uint64_t kPackedFrontBytes = kPackedHeaderBytes + kHeaderBytes;

// --- reader: throws the text's statuses. bytes: the whole packed payload's memory, of which only the header is read.
PackedHeader parse_packed_header(std::span<const std::byte> bytes);
// left starts at the record's first byte; plain_offset: of its segment, within the header's plain bytes.
Record parse_record(std::span<const std::byte> left, uint32_t ordinal, uint64_t offset, uint64_t plain_offset,
                    const PackedHeader& header);
// Throws CHECKSUM.
void verify_record(std::span<const std::byte> record, const Record& of, uint32_t ordinal, Digest digest);

class Unpacker {
 public:
  Unpacker();
  ~Unpacker();
  Unpacker(const Unpacker&) = delete;
  Unpacker& operator=(const Unpacker&) = delete;
  // Writes out[piece.plain_bytes]. Throws MALFORMED for what is no zstd frame of that many bytes.
  void unpack(std::span<const std::byte> record, const Piece& piece, uint32_t ordinal, std::byte* out);

 private:
  struct Context;
  std::unique_ptr<Context> context_;
  std::vector<std::byte> columns_;
};

// --- writer
// Bytes that a segment's record takes at most.
uint64_t record_bound(const Segment& of);
// Makes records. Its contexts and buffers are worth keeping from one to the next.
class Packer {
 public:
  Packer();
  ~Packer();
  Packer(const Packer&) = delete;
  Packer& operator=(const Packer&) = delete;
  // Writes one segment's record to out[record_bound()] and returns its bytes. pack false: a record that packs nothing, for
  // when kMaxExpansion is exceeded.
  uint64_t record(std::span<const std::byte> segment, const Segment& of, Digest digest, bool pack, std::byte* out);

 private:
  struct Context;
  std::unique_ptr<Context> context_;
};
void write_packed_header(std::span<std::byte, kPackedHeaderBytes> out, const PackedHeader& header);

}  // namespace skv
