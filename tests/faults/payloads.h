// SPDX-License-Identifier: Apache-2.0
// Payload bytes for the transport tests: content that depends on the position, so that a misplaced chunk shows.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <vector>

#include "transport/endpoint.h"

namespace skv::transport {

inline std::vector<std::byte> make_bytes(std::size_t size, std::uint64_t seed) {
  std::vector<std::byte> bytes(size);
  std::uint64_t state = seed * 0x9e37'79b9'7f4a'7c15 + 1;
  for (std::size_t i = 0; i < size; i += 8) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    std::memcpy(bytes.data() + i, &state, std::min<std::size_t>(8, size - i));
  }
  return bytes;
}

// The first entry and `layers` more that sum to size: 128 bytes of header if there is room, the rest unevenly. Without
// layers or room for them: one entry.
inline std::vector<std::uint64_t> make_layers(std::size_t size, std::size_t layers) {
  if (layers == 0 || size <= layers + 1) return std::vector<std::uint64_t>{size};
  std::vector<std::uint64_t> out{size > 128 + layers ? 128u : 1u};
  std::uint64_t left = size - out[0];
  for (std::size_t i = layers; i > 1; i--) {
    const std::uint64_t even = left / i;
    const std::uint64_t take =
        std::max<std::uint64_t>(1, i % 2 == 0 ? even / 2 : std::min(left - (i - 1), even + even / 3));
    out.push_back(take);
    left -= take;
  }
  out.push_back(left);
  return out;
}

// Owns its bytes.
inline Parcel make_parcel(std::size_t size, std::size_t layers, std::uint64_t seed) {
  const auto bytes = std::make_shared<const std::vector<std::byte>>(make_bytes(size, seed));
  Parcel parcel;
  parcel.bytes = *bytes;
  parcel.layer_bytes = make_layers(size, layers);
  parcel.fingerprint[0] = 7;
  parcel.request_id[0] = 9;
  parcel.keep_alive = bytes;
  return parcel;
}

inline bool equal(std::span<const std::byte> a, std::span<const std::byte> b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size()) == 0);
}

}  // namespace skv::transport
