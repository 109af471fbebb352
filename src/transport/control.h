// SPDX-License-Identifier: Apache-2.0
// The bodies of control frames (docs/transport.md). Pure bytes; decoding untrusted ones throws PROTOCOL and allocates
// no more than the frame itself holds.
#pragma once

#include <spectrumkv.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace skv::transport {

inline constexpr std::size_t kHelloBytes = 128;
inline constexpr std::size_t kMaxReasonBytes = 200;
inline constexpr std::uint32_t kMaxEntries = 4097;  // the payload's header and 4096 layers
inline constexpr std::uint16_t kProtocolMin = 1;
inline constexpr std::uint16_t kProtocolMax = 1;

inline constexpr std::uint32_t kAuthNone = 0;
inline constexpr std::uint32_t kAuthPsk = 1;

// Both ends send one; nothing is allocated for a peer before its HELLO was read.
struct Hello {
  std::uint16_t protocol_min = kProtocolMin;
  std::uint16_t protocol_max = kProtocolMax;
  std::uint32_t library_version = 0;
  std::uint32_t wire_version = 0;  // of payloads, major * 256 + minor
  std::uint32_t plane = 0;         // SKV_PLANE_* of the control stream
  std::array<std::uint8_t, 32> fingerprint{};
  std::uint64_t max_payload = 0;
  std::uint32_t max_data = 0;       // largest DATA body the sender of this HELLO takes
  std::uint32_t max_transfers = 0;  // open offers and transfers it takes at once
  std::array<std::uint8_t, 16> nonce{};
  std::uint64_t epoch = 0;         // accepting side: names the connection, never 0; connecting side: 0
  std::uint32_t auth = 0;          // kAuthNone, or kAuthPsk: AUTH frames follow
  std::uint32_t heartbeat_ms = 0;  // the sender of this HELLO wants to hear something that often; 0: it does not say
  std::uint32_t planes = 0;        // offered for payloads (plane.h); 0: `plane` alone
  std::uint32_t nccl_version = 0;  // ncclGetVersion, when planes has NCCL
  std::uint64_t place = 0;         // tells ends on one device of one process; 0: it does not
};
std::vector<std::byte> encode(const Hello& hello);
Hello decode_hello(std::span<const std::byte> body);

struct Offer {
  std::uint64_t key = 0;
  std::array<std::uint8_t, 16> request_id{};
  std::array<std::uint8_t, 32> fingerprint{};
  std::uint64_t total = 0;
  std::vector<std::uint64_t> layer_bytes;  // each > 0, sums to total
};
std::vector<std::byte> encode(const Offer& offer);
Offer decode_offer(std::span<const std::byte> body);

// What was agreed to, so that both ends hold the same list.
struct Accept {
  std::uint64_t total = 0;
  std::uint32_t entries = 0;
  std::uint64_t operations = 0;  // planes outside the stream: operations_of() what was offered
};
// Of 16 bytes, or of 24 with operations.
std::vector<std::byte> encode(const Accept& accept);
Accept decode_accept(std::span<const std::byte> body);

// What both ends of a plane outside the stream will post, from the offer: never 0.
std::uint64_t operations_of(std::int32_t plane, std::span<const std::uint64_t> layer_bytes);

// Planes outside the stream. Of the receiver, once: count 0, it can take bytes. Of the sender, for each group of
// entries: it posts [first, first + count) now, and the receiver is to do the same.
inline constexpr std::size_t kReadyFixed = 16;
inline constexpr std::size_t kMaxReadyWords = 4096;
struct Ready {
  std::uint32_t first = 0;
  std::uint32_t count = 0;
  std::vector<std::byte> words;  // the plane's own, e.g. how to meet
};
std::vector<std::byte> encode(const Ready& ready);
Ready decode_ready(std::span<const std::byte> body);

// How many payload bytes of the transfer the sender may have sent so far. Only grows, never beyond the total.
struct Credit {
  std::uint64_t granted = 0;
};
std::vector<std::byte> encode(const Credit& credit);
Credit decode_credit(std::span<const std::byte> body);

struct Commit {
  std::uint64_t total = 0;
  std::uint64_t root = 0;  // XXH3-64 over all leaf digests in order
  std::uint64_t leaves = 0;
  std::uint32_t entries = 0;
};
std::vector<std::byte> encode(const Commit& commit);
Commit decode_commit(std::span<const std::byte> body);

// Entry `entry`, none of which was sent, will have only so many bytes. note: why, opaque to the transport. head: what
// entry 0 must hold in the end, as many bytes as it was offered with.
struct Shrink {
  std::uint32_t entry = 0;
  std::uint32_t note = 0;
  std::uint64_t bytes = 0;
  std::vector<std::byte> head;
};
std::vector<std::byte> encode(const Shrink& shrink);
Shrink decode_shrink(std::span<const std::byte> body);

// REJECT, DONE, CANCEL, GOAWAY, ERROR: a status and at most 200 bytes of text.
struct Verdict {
  skv_status status = SKV_OK;
  std::string reason;
};
std::vector<std::byte> encode(const Verdict& verdict);  // cuts the reason at a UTF-8 boundary
Verdict decode_verdict(std::span<const std::byte> body);

// The text with bytes that could harm a terminal or log replaced, at most kMaxReasonBytes, cut between characters.
std::string clean_reason(std::string_view text);

}  // namespace skv::transport
