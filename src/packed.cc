// SPDX-License-Identifier: Apache-2.0
#include "packed.h"

#define XXH_INLINE_ALL
#include <xxhash.h>
#include <zstd.h>

#include <algorithm>
#include <cstring>
#include <new>

#include "byte_columns.h"
#include "error.h"
#include "payload_fields.h"

namespace skv {
namespace {

using ull = unsigned long long;

constexpr char kMagic[] = "SKVP";
constexpr char kRecordMagic[] = "SEGP";
constexpr uint8_t kMajor = 1;
constexpr uint64_t kEntryBytes = 8;  // of a record's table: plain bytes (3), element bytes (1), bytes (4)
constexpr uint32_t kMethodZstd = 1;
constexpr uint32_t kMethodColumns = 2;  // as 1, and pieces of elements may be in columns
// Level 1 gives the bytes of level 3 to 0.3 %; negative levels leave out the entropy coding that all gain is from
// (docs/results/quality.md).
constexpr int kLevel = 1;
// No search worth the name. With entropy coding asked for this is what a column of exponents wants: level 1 takes twice
// as long for 0.4 % less of f16 and 1 % more of bf16; without it, what a column of low bits wants: stored, unless it is
// all alike.
constexpr int kQuickLevel = -100;

// How a piece may be made smaller.
enum class Way : uint8_t { kStore, kZstd, kColumns };

// Where a segment is cut: at its sections, each in pieces of at most 128 KiB. Planes 2 and 3 are as good as random: not
// worth zstd's time.
struct Cut {
  Extent extent;
  Way way;
};
std::vector<Cut> cuts_of(const SegmentLayout& layout) {
  std::vector<Cut> cuts;
  const auto add = [&](uint64_t begin, uint64_t end, Way way) {
    for (; begin < end; begin += std::min(kPieceBytes, end - begin)) {
      cuts.push_back({{begin, std::min(kPieceBytes, end - begin)}, way});
    }
  };
  uint64_t at = 0;
  const auto section = [&](const Extent& extent, Way way) {
    if (extent.bytes == 0) return;
    add(at, extent.offset, Way::kStore);  // the segment's header, then what pads
    add(extent.offset, extent.offset + extent.bytes, way);
    at = extent.offset + extent.bytes;
  };
  for (const HalfLayout& h : layout.half) {
    section(h.vectors, Way::kZstd);
    section(h.map, Way::kZstd);
  }
  for (const HalfLayout& h : layout.half) {
    section(h.scales, Way::kZstd);
    section(h.two, Way::kZstd);
    section(h.nibble, Way::kZstd);
    section(h.plane2, Way::kStore);
    section(h.plane3, Way::kStore);
    section(h.raw, Way::kColumns);
  }
  add(at, layout.bytes, Way::kStore);
  return cuts;
}

}  // namespace

struct Packer::Context {
  Context()
      : zstd_(context(kLevel)), entropy_(context(kQuickLevel)), quick_(context(kQuickLevel)), columns_(kPieceBytes) {
    // Not in zstd's stable interface: one without it packs these columns at the level of the rest.
    if (ZSTD_isError(ZSTD_CCtx_setParameter(entropy_.get(), ZSTD_c_experimentalParam5, kEntropy)) != 0) {
      ZSTD_CCtx_setParameter(entropy_.get(), ZSTD_c_compressionLevel, kLevel);
    }
    made_.resize(2 * ZSTD_compressBound(kPieceBytes));  // four columns' frames and what they may have more
  }

  // Frames that give the piece, or its columns. Valid until the next call.
  std::span<const std::byte> pack(std::span<const std::byte> piece) {
    return std::span(made_).first(frame(zstd_.get(), piece, 0));
  }
  std::span<const std::byte> pack(std::span<const std::byte> piece, uint32_t element_bytes) {
    split_columns(piece, element_bytes, columns_.data());
    const size_t rows = piece.size() / element_bytes;
    size_t size = 0;
    for (uint32_t c = 0; c < element_bytes; ++c) {
      size += frame(c == 0 ? entropy_.get() : quick_.get(), std::span(columns_).subspan(c * rows, rows), size);
    }
    return std::span(made_).first(size);
  }

 private:
  using Zstd = std::unique_ptr<ZSTD_CCtx, size_t (*)(ZSTD_CCtx*)>;
  static constexpr int kEntropy = 1;  // ZSTD_c_literalCompressionMode: always

  static Zstd context(int level) {
    Zstd made(ZSTD_createCCtx(), ZSTD_freeCCtx);
    if (made == nullptr) throw std::bad_alloc();
    ZSTD_CCtx_setParameter(made.get(), ZSTD_c_compressionLevel, level);
    ZSTD_CCtx_setParameter(made.get(), ZSTD_c_contentSizeFlag, 0);
    return made;
  }
  size_t frame(ZSTD_CCtx* context, std::span<const std::byte> from, size_t at) {
    const size_t size = ZSTD_compress2(context, made_.data() + at, made_.size() - at, from.data(), from.size());
    if (ZSTD_isError(size) != 0) fail(SKV_E_INTERNAL, "zstd: %s", ZSTD_getErrorName(size));
    return size;
  }

  Zstd zstd_, entropy_, quick_;
  std::vector<std::byte> columns_, made_;
};

Packer::Packer() : context_(std::make_unique<Context>()) {}
Packer::~Packer() = default;

uint64_t record_bound(const Segment& of) {
  return align_up(kRecordHeaderBytes + kEntryBytes * cuts_of(of.layout).size() + of.layout.bytes);
}

uint64_t Packer::record(std::span<const std::byte> segment, const Segment& of, Digest digest, bool pack,
                        std::byte* out) {
  const std::vector<Cut> cuts = cuts_of(of.layout);
  const std::span<std::byte> record(out, record_bound(of));
  const auto element_bytes = raw_element_bytes(of.shape);
  uint64_t at = kRecordHeaderBytes + kEntryBytes * cuts.size();
  std::memset(out, 0, kRecordHeaderBytes);
  for (size_t i = 0; i < cuts.size(); ++i) {
    const std::span<const std::byte> plain = segment.subspan(cuts[i].extent.offset, cuts[i].extent.bytes);
    const Way way = pack ? cuts[i].way : Way::kStore;
    std::span<const std::byte> made = plain;
    if (way == Way::kZstd) made = context_->pack(plain);
    if (way == Way::kColumns) made = context_->pack(plain, element_bytes);
    const bool smaller = made.size() < plain.size();
    if (!smaller) made = plain;
    std::memcpy(record.data() + at, made.data(), made.size());
    const uint32_t columns = smaller && way == Way::kColumns ? element_bytes : 0;
    put(record, kRecordHeaderBytes + kEntryBytes * i, static_cast<uint32_t>(plain.size()) | columns << 24U);
    put(record, kRecordHeaderBytes + kEntryBytes * i + 4, static_cast<uint32_t>(made.size()));
    at += made.size();
  }
  const uint64_t bytes = align_up(at);
  std::memset(out + at, 0, bytes - at);
  std::memcpy(out, kRecordMagic, 4);
  put(record, 4, of.shape.layer);
  put(record, 8, bytes);
  put(record, 16, static_cast<uint64_t>(segment.size()));
  put(record, 24, static_cast<uint32_t>(cuts.size()));
  put(record, 56, digest_of(record.first(bytes), digest));
  return bytes;
}

bool is_packed(std::span<const std::byte> bytes) {
  return bytes.size() >= 4 && std::memcmp(bytes.data(), kMagic, 4) == 0;
}

PackedHeader parse_packed_header(std::span<const std::byte> bytes) {
  if (bytes.size() < kPackedFrontBytes) {
    fail(SKV_E_TRUNCATED, "packed payload of %zu bytes: its headers alone have 192", bytes.size());
  }
  if (!is_packed(bytes)) fail(SKV_E_MALFORMED, "magic %08x: wanted \"SKVP\"", take<uint32_t>(bytes, 0));
  if (take<uint8_t>(bytes, 4) != kMajor) {
    fail(SKV_E_VERSION, "packed major %u: this library reads %u", take<uint8_t>(bytes, 4), kMajor);
  }
  const uint64_t digest = XXH3_64bits(bytes.data(), 56);
  if (digest != take<uint64_t>(bytes, 56)) {
    fail(SKV_E_CHECKSUM, "packed header digest is %016llx, its bytes give %016llx",
         static_cast<ull>(take<uint64_t>(bytes, 56)), static_cast<ull>(digest));
  }
  if (take<uint16_t>(bytes, 6) != kPackedHeaderBytes) {
    fail(SKV_E_MALFORMED, "packed header of %u bytes, wanted 64", take<uint16_t>(bytes, 6));
  }
  PackedHeader header;
  header.layer_count = take<uint32_t>(bytes, 12);
  if (header.layer_count == 0 || header.layer_count > kMaxLayers) {
    fail(SKV_E_MALFORMED, "%u packed layers, wanted 1..%u", header.layer_count, kMaxLayers);
  }
  if (take<uint8_t>(bytes, 5) == 0 && !all_zero(bytes.subspan(36, 20))) {
    fail(SKV_E_MALFORMED, "reserved packed header bytes 36-55 are not zero");
  }
  if ((take<uint32_t>(bytes, 8) & 0xFFFFU) != 0) {
    fail(SKV_E_FEATURE, "packed flags %08x: bits 0-15 need a newer reader", take<uint32_t>(bytes, 8));
  }
  header.method = take<uint32_t>(bytes, 32);
  if (header.method != kMethodZstd && header.method != kMethodColumns) {
    fail(SKV_E_FEATURE, "packed method %u needs a newer reader", header.method);
  }
  header.total_bytes = take<uint64_t>(bytes, 16);
  header.plain_bytes = take<uint64_t>(bytes, 24);
  if (header.total_bytes > bytes.size()) {
    fail(SKV_E_TRUNCATED, "packed payload of %llu bytes, got %zu", static_cast<ull>(header.total_bytes), bytes.size());
  }
  if (header.total_bytes < bytes.size()) {
    fail(SKV_E_TRAILING, "packed payload of %llu bytes, got %zu", static_cast<ull>(header.total_bytes), bytes.size());
  }
  if (header.plain_bytes < kHeaderBytes + kSegmentHeaderBytes || header.plain_bytes / kMaxExpansion > bytes.size()) {
    fail(SKV_E_MALFORMED, "%zu packed bytes hold a payload of %llu, wanted 192 bytes to %llu times as many",
         bytes.size(), static_cast<ull>(header.plain_bytes), static_cast<ull>(kMaxExpansion));
  }
  return header;
}

Record parse_record(std::span<const std::byte> left, uint32_t ordinal, uint64_t offset, uint64_t plain_offset,
                    const PackedHeader& header) {
  const uint64_t plain_left = header.plain_bytes - plain_offset;
  if (left.size() < kRecordHeaderBytes) {
    fail(SKV_E_MALFORMED, "record %u: %zu bytes left for its 64-byte header", ordinal, left.size());
  }
  if (std::memcmp(left.data(), kRecordMagic, 4) != 0) {
    fail(SKV_E_MALFORMED, "record %u: magic %08x, wanted \"SEGP\"", ordinal, take<uint32_t>(left, 0));
  }
  if (take<uint32_t>(left, 4) != ordinal) {
    fail(SKV_E_MALFORMED, "record %u says it is layer %u", ordinal, take<uint32_t>(left, 4));
  }
  Record record;
  record.offset = offset;
  record.bytes = take<uint64_t>(left, 8);
  record.plain_offset = plain_offset;
  record.plain_bytes = take<uint64_t>(left, 16);
  const auto pieces = take<uint32_t>(left, 24);
  if (record.bytes <= kRecordHeaderBytes || record.bytes % kSectionAlign != 0 || record.bytes > left.size()) {
    fail(SKV_E_MALFORMED, "record %u: %llu bytes, wanted a multiple of 16 in 80..%zu", ordinal,
         static_cast<ull>(record.bytes), left.size());
  }
  if (record.plain_bytes > plain_left) {
    fail(SKV_E_MALFORMED, "record %u: a segment of %llu bytes, %llu are left of the payload", ordinal,
         static_cast<ull>(record.plain_bytes), static_cast<ull>(plain_left));
  }
  if (pieces == 0 || pieces > (record.bytes - kRecordHeaderBytes) / kEntryBytes) {
    fail(SKV_E_MALFORMED, "record %u: %u pieces in %llu bytes", ordinal, pieces, static_cast<ull>(record.bytes));
  }
  if (!all_zero(left.subspan(28, 28))) fail(SKV_E_MALFORMED, "record %u: reserved bytes 28-55 are not zero", ordinal);
  record.digest = take<uint64_t>(left, 56);
  uint64_t at = kRecordHeaderBytes + kEntryBytes * pieces;
  uint64_t plain = 0;
  record.pieces.reserve(pieces);
  for (uint32_t i = 0; i < pieces; ++i) {
    Piece& piece = record.pieces.emplace_back();
    piece.plain_offset = plain;
    const auto entry = take<uint32_t>(left, kRecordHeaderBytes + kEntryBytes * i);
    piece.plain_bytes = entry & 0xFFFFFFU;
    piece.element_bytes = entry >> 24U;
    piece.offset = at;
    piece.bytes = take<uint32_t>(left, kRecordHeaderBytes + kEntryBytes * i + 4);
    if (piece.plain_bytes == 0 || piece.plain_bytes > kPieceBytes || piece.bytes == 0 ||
        piece.bytes > piece.plain_bytes) {
      fail(SKV_E_MALFORMED, "record %u: piece %u has %u bytes packed to %u, wanted 1..131072 and no more", ordinal, i,
           piece.plain_bytes, piece.bytes);
    }
    const uint32_t columns = piece.element_bytes;
    if (columns != 0 && (header.method != kMethodColumns || (columns != 2 && columns != 4) ||
                         piece.plain_bytes % columns != 0 || piece.bytes == piece.plain_bytes)) {
      fail(SKV_E_MALFORMED, "record %u: piece %u of %u bytes packed to %u has elements of %u bytes, method %u", ordinal,
           i, piece.plain_bytes, piece.bytes, columns, header.method);
    }
    plain += piece.plain_bytes;
    at += piece.bytes;
    if (plain > record.plain_bytes || at > record.bytes) {
      fail(SKV_E_MALFORMED, "record %u: pieces 0..%u go beyond its %llu bytes or its segment's %llu", ordinal, i,
           static_cast<ull>(record.bytes), static_cast<ull>(record.plain_bytes));
    }
  }
  if (plain != record.plain_bytes || align_up(at) != record.bytes) {
    fail(SKV_E_MALFORMED, "record %u: its pieces have %llu of %llu bytes and end at %llu of %llu", ordinal,
         static_cast<ull>(plain), static_cast<ull>(record.plain_bytes), static_cast<ull>(at),
         static_cast<ull>(record.bytes));
  }
  if (!all_zero(left.subspan(at, record.bytes - at))) {
    fail(SKV_E_MALFORMED, "record %u: padding at its end is not zero", ordinal);
  }
  return record;
}

void verify_record(std::span<const std::byte> record, const Record& of, uint32_t ordinal, Digest digest) {
  const uint64_t got = digest_of(record, digest);
  if (got != of.digest) {
    fail(SKV_E_CHECKSUM, "record %u: digest is %016llx, its bytes give %016llx", ordinal, static_cast<ull>(of.digest),
         static_cast<ull>(got));
  }
}

struct Unpacker::Context {
  std::unique_ptr<ZSTD_DCtx, size_t (*)(ZSTD_DCtx*)> it{ZSTD_createDCtx(), ZSTD_freeDCtx};
};

Unpacker::Unpacker() : context_(std::make_unique<Context>()) {
  if (context_->it == nullptr) throw std::bad_alloc();
}
Unpacker::~Unpacker() = default;

void Unpacker::unpack(std::span<const std::byte> record, const Piece& piece, uint32_t ordinal, std::byte* out) {
  const std::byte* from = record.data() + piece.offset;
  if (piece.bytes == piece.plain_bytes) {
    std::memcpy(out, from, piece.bytes);
    return;
  }
  if (piece.element_bytes != 0) columns_.resize(kPieceBytes);
  std::byte* to = piece.element_bytes != 0 ? columns_.data() : out;
  const size_t got = ZSTD_decompressDCtx(context_->it.get(), to, piece.plain_bytes, from, piece.bytes);
  if (ZSTD_isError(got) != 0) {
    fail(SKV_E_MALFORMED, "record %u: piece at byte %llu is no zstd frame: %s", ordinal, static_cast<ull>(piece.offset),
         ZSTD_getErrorName(got));
  }
  if (got != piece.plain_bytes) {
    fail(SKV_E_MALFORMED, "record %u: piece at byte %llu gives %zu bytes, wanted %u", ordinal,
         static_cast<ull>(piece.offset), got, piece.plain_bytes);
  }
  if (piece.element_bytes != 0) join_columns({to, got}, piece.element_bytes, out);
}

void write_packed_header(std::span<std::byte, kPackedHeaderBytes> out, const PackedHeader& header) {
  std::memset(out.data(), 0, out.size());
  std::memcpy(out.data(), kMagic, 4);
  put(out, 4, kMajor);
  put(out, 6, static_cast<uint16_t>(kPackedHeaderBytes));
  put(out, 12, header.layer_count);
  put(out, 16, header.total_bytes);
  put(out, 24, header.plain_bytes);
  put(out, 32, header.method);
  put(out, 56, static_cast<uint64_t>(XXH3_64bits(out.data(), 56)));
}

}  // namespace skv
