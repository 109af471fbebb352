// SPDX-License-Identifier: Apache-2.0
// Fields of the payload format as its writers and readers see them: little-endian numbers at byte offsets. Bounds are the
// caller's.
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#include "payload.h"

namespace skv {

static_assert(std::endian::native == std::endian::little, "fields are moved by memcpy");

template <class T>
T take(std::span<const std::byte> bytes, uint64_t offset) {
  T value;
  std::memcpy(&value, bytes.data() + offset, sizeof value);
  return value;
}

template <class T>
void put(std::span<std::byte> out, uint64_t offset, T value) {
  std::memcpy(out.data() + offset, &value, sizeof value);
}

inline bool all_zero(std::span<const std::byte> bytes) {
  return std::all_of(bytes.begin(), bytes.end(), [](std::byte b) { return b == std::byte{0}; });
}

inline uint64_t align_up(uint64_t value) { return (value + kSectionAlign - 1) / kSectionAlign * kSectionAlign; }

}  // namespace skv
