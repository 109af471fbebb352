// SPDX-License-Identifier: Apache-2.0
// The 64-byte little-endian frame header of every transport frame (docs/transport.md). Pure bytes: no I/O, no clock.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace skv::transport {

inline constexpr std::size_t kHeaderBytes = 64;
inline constexpr std::uint32_t kMagic = 0x4b56'4b53;  // "SKVK" in memory order
inline constexpr std::uint8_t kFrameVersion = 1;
inline constexpr std::uint32_t kMaxControlBytes = 64 * 1024;
inline constexpr std::uint32_t kMaxDataBytes = 1024 * 1024;
inline constexpr std::uint32_t kMaxHeadBytes = 4 * 1024;  // of a first entry that a SHRINK may replace
inline constexpr std::uint32_t kMaxCardBytes = 8 * 1024;  // of an address that a plane goes by
inline constexpr std::uint32_t kMinDataBytes = 4 * 1024;  // the smallest DATA limit an end may announce

enum class FrameType : std::uint8_t {
  kHello = 1,
  kAuth = 2,
  kOffer = 3,
  kAccept = 4,
  kReject = 5,
  kReady = 6,  // planes outside the stream
  kData = 7,
  kCommit = 8,
  kDone = 9,
  kCancel = 10,
  kCredit = 11,
  kPing = 12,
  kPong = 13,
  kGoaway = 14,
  kError = 15,
  kShrink = 16,
  kAttach = 17,
};

const char* frame_name(FrameType type) noexcept;

struct FrameHeader {
  FrameType type = FrameType::kPing;
  std::uint64_t epoch = 0;        // names the connection; 0 in HELLO
  std::uint64_t transfer_id = 0;  // 0 in frames that are about the connection
  std::uint32_t layer = 0;        // DATA: index into the offer's table
  std::uint32_t chunk = 0;        // DATA: counts the frames of one layer
  std::uint64_t offset = 0;       // DATA: of the body in its layer
  std::uint32_t length = 0;       // bytes of the body that follows
  std::uint64_t digest = 0;       // XXH3-64 of a control body; of a DATA body's pieces (digest.h)

  bool operator==(const FrameHeader&) const = default;
};

// CRC-32C (Castagnoli) as in iSCSI.
std::uint32_t crc32c(std::span<const std::byte> bytes) noexcept;

std::array<std::byte, kHeaderBytes> encode_header(const FrameHeader& header) noexcept;

// Checks, in this order: magic, CRC, version, header length, reserved and flags, type, and every bound that needs no
// connection state (which fields a type may use, body length by type, offset + length without overflow).
// Throws PROTOCOL, or VERSION when an intact header is of another frame version.
FrameHeader decode_header(std::span<const std::byte, kHeaderBytes> bytes);

// False as soon as the first bytes of a header (any count up to 4) cannot become the magic: a scanner is refused
// without waiting for 64 bytes.
bool could_be_header(std::span<const std::byte> prefix) noexcept;

// Little-endian scalars, also for the control bodies.
template <typename T>
void store_le(std::byte* to, T value) noexcept {
  for (std::size_t i = 0; i < sizeof(T); i++)
    to[i] = static_cast<std::byte>(static_cast<std::uint64_t>(value) >> 8 * i);
}
template <typename T>
T load_le(const std::byte* from) noexcept {
  std::uint64_t value = 0;
  for (std::size_t i = 0; i < sizeof(T); i++) value |= static_cast<std::uint64_t>(from[i]) << 8 * i;
  return static_cast<T>(value);
}

}  // namespace skv::transport
