// SPDX-License-Identifier: Apache-2.0
#include "transport/frame.h"

#include "error.h"

namespace skv::transport {
namespace {

// Field positions (docs/transport.md).
enum At : std::size_t {
  kAtMagic = 0,
  kAtVersion = 4,
  kAtType = 5,
  kAtFlags = 6,
  kAtHeaderLength = 8,
  kAtReserved0 = 10,
  kAtCrc = 12,
  kAtEpoch = 16,
  kAtTransfer = 24,
  kAtLayer = 32,
  kAtChunk = 36,
  kAtOffset = 40,
  kAtLength = 48,
  kAtReserved1 = 52,
  kAtDigest = 56,
};

constexpr std::array<std::uint32_t, 256> make_crc_table() {
  std::array<std::uint32_t, 256> table{};
  for (std::uint32_t i = 0; i < 256; i++) {
    std::uint32_t crc = i;
    for (int bit = 0; bit < 8; bit++) crc = crc & 1 ? crc >> 1 ^ 0x82f6'3b78 : crc >> 1;
    table[i] = crc;
  }
  return table;
}
constexpr std::array<std::uint32_t, 256> kCrcTable = make_crc_table();

std::uint32_t crc_step(std::uint32_t crc, std::span<const std::byte> bytes) noexcept {
  for (const std::byte b : bytes) crc = kCrcTable[(crc ^ static_cast<std::uint32_t>(b)) & 0xff] ^ crc >> 8;
  return crc;
}

// The header's CRC with its own field read as zero.
std::uint32_t header_crc(std::span<const std::byte, kHeaderBytes> bytes) noexcept {
  constexpr std::array<std::byte, 4> kZero{};
  std::uint32_t crc = crc_step(~0u, bytes.first<kAtCrc>());
  crc = crc_step(crc, kZero);
  return ~crc_step(crc, bytes.subspan<kAtCrc + 4>());
}

// What a type allows: the range of its body length and whether it belongs to a transfer.
struct Shape {
  std::uint32_t least;
  std::uint32_t most;
  bool transfer;
};

Shape shape_of(FrameType type) {
  constexpr std::uint32_t kStatusLeast = 16, kStatusMost = 16 + 200;
  switch (type) {
    case FrameType::kHello:
      return {128, 128, false};
    case FrameType::kOffer:
      return {80, kMaxControlBytes, true};
    case FrameType::kAccept:
      return {16, 24, true};
    case FrameType::kCredit:
      return {16, 16, true};
    case FrameType::kData:
      return {1, kMaxDataBytes, true};
    case FrameType::kCommit:
      return {32, 32, true};
    case FrameType::kReject:
    case FrameType::kDone:
    case FrameType::kCancel:
      return {kStatusLeast, kStatusMost, true};
    case FrameType::kPing:
    case FrameType::kPong:
      return {0, 0, false};
    case FrameType::kGoaway:
    case FrameType::kError:
      return {kStatusLeast, kStatusMost, false};
    case FrameType::kAuth:
      return {32, 32, false};
    case FrameType::kShrink:
      return {17, 16 + kMaxHeadBytes, true};
    case FrameType::kAttach:
      return {9, 8 + kMaxCardBytes, false};
    case FrameType::kReady:
      return {16, 16 + 4096, true};
  }
  fail(SKV_E_PROTOCOL, "frame type %u, which this version does not speak", static_cast<unsigned>(type));
}

}  // namespace

const char* frame_name(FrameType type) noexcept {
  constexpr const char* kNames[] = {"?",     "HELLO", "AUTH",   "OFFER", "ACCEPT", "REJECT",
                                    "READY", "DATA",  "COMMIT", "DONE",  "CANCEL", "CREDIT",
                                    "PING",  "PONG",  "GOAWAY", "ERROR", "SHRINK", "ATTACH"};
  const auto index = static_cast<std::size_t>(type);
  return index < std::size(kNames) ? kNames[index] : "?";
}

std::uint32_t crc32c(std::span<const std::byte> bytes) noexcept { return ~crc_step(~0u, bytes); }

std::array<std::byte, kHeaderBytes> encode_header(const FrameHeader& header) noexcept {
  std::array<std::byte, kHeaderBytes> out{};
  std::byte* p = out.data();
  store_le<std::uint32_t>(p + kAtMagic, kMagic);
  store_le<std::uint8_t>(p + kAtVersion, kFrameVersion);
  store_le<std::uint8_t>(p + kAtType, static_cast<std::uint8_t>(header.type));
  store_le<std::uint16_t>(p + kAtHeaderLength, kHeaderBytes);
  store_le<std::uint64_t>(p + kAtEpoch, header.epoch);
  store_le<std::uint64_t>(p + kAtTransfer, header.transfer_id);
  store_le<std::uint32_t>(p + kAtLayer, header.layer);
  store_le<std::uint32_t>(p + kAtChunk, header.chunk);
  store_le<std::uint64_t>(p + kAtOffset, header.offset);
  store_le<std::uint32_t>(p + kAtLength, header.length);
  store_le<std::uint64_t>(p + kAtDigest, header.digest);
  store_le<std::uint32_t>(p + kAtCrc, header_crc(out));
  return out;
}

FrameHeader decode_header(std::span<const std::byte, kHeaderBytes> bytes) {
  const std::byte* p = bytes.data();
  const auto magic = load_le<std::uint32_t>(p + kAtMagic);
  if (magic != kMagic) fail(SKV_E_PROTOCOL, "frame magic 0x%08x, want 0x%08x", magic, kMagic);
  const auto crc = load_le<std::uint32_t>(p + kAtCrc);
  const std::uint32_t want = header_crc(bytes);
  if (crc != want) fail(SKV_E_PROTOCOL, "frame header CRC 0x%08x, want 0x%08x", crc, want);
  const auto version = load_le<std::uint8_t>(p + kAtVersion);
  if (version != kFrameVersion) fail(SKV_E_VERSION, "frame version %u, want %u", version, kFrameVersion);
  const auto header_length = load_le<std::uint16_t>(p + kAtHeaderLength);
  if (header_length != kHeaderBytes) fail(SKV_E_PROTOCOL, "frame header length %u, want 64", header_length);
  if (load_le<std::uint16_t>(p + kAtFlags) != 0 || load_le<std::uint16_t>(p + kAtReserved0) != 0 ||
      load_le<std::uint32_t>(p + kAtReserved1) != 0) {
    fail(SKV_E_PROTOCOL, "frame flags or reserved bytes are not 0");
  }

  FrameHeader header;
  header.type = static_cast<FrameType>(load_le<std::uint8_t>(p + kAtType));
  header.epoch = load_le<std::uint64_t>(p + kAtEpoch);
  header.transfer_id = load_le<std::uint64_t>(p + kAtTransfer);
  header.layer = load_le<std::uint32_t>(p + kAtLayer);
  header.chunk = load_le<std::uint32_t>(p + kAtChunk);
  header.offset = load_le<std::uint64_t>(p + kAtOffset);
  header.length = load_le<std::uint32_t>(p + kAtLength);
  header.digest = load_le<std::uint64_t>(p + kAtDigest);

  const Shape shape = shape_of(header.type);
  const char* name = frame_name(header.type);
  if (header.length < shape.least || header.length > shape.most) {
    fail(SKV_E_PROTOCOL, "%s body of %u bytes, want %u..%u", name, header.length, shape.least, shape.most);
  }
  if ((header.transfer_id != 0) != shape.transfer) {
    fail(SKV_E_PROTOCOL, "%s frame with transfer id %llu", name, static_cast<unsigned long long>(header.transfer_id));
  }
  if (header.type == FrameType::kData) {
    if (header.offset > UINT64_MAX - header.length) {
      fail(SKV_E_PROTOCOL, "DATA offset %llu + %u overflows", static_cast<unsigned long long>(header.offset),
           header.length);
    }
  } else if (header.layer != 0 || header.chunk != 0 || header.offset != 0) {
    fail(SKV_E_PROTOCOL, "%s frame with a layer, chunk or offset", name);
  }
  return header;
}

bool could_be_header(std::span<const std::byte> prefix) noexcept {
  for (std::size_t i = 0; i < prefix.size() && i < sizeof kMagic; i++) {
    if (prefix[i] != static_cast<std::byte>(kMagic >> 8 * i & 0xff)) return false;
  }
  return true;
}

}  // namespace skv::transport
