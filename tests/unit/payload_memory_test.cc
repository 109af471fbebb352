// SPDX-License-Identifier: Apache-2.0
#include "payload_memory.h"

#include <gtest/gtest.h>
#include <spectrumkv.h>

#include <cstdint>

#include "error.h"

namespace skv {
namespace {

TEST(PayloadMemory, IsAlignedAndWritableToItsLastByte) {
  constexpr size_t kMiB = size_t{1} << 20U;
  for (const size_t bytes : {size_t{1}, 4 * kMiB + 1, 32 * kMiB - 1, 32 * kMiB, 33 * kMiB + 1}) {
    const auto memory = payload_memory(bytes);
    const size_t alignment = bytes < 32 * kMiB ? 64 : 2 * kMiB;
    EXPECT_EQ(reinterpret_cast<uintptr_t>(memory.get()) % alignment, 0U) << bytes;
    memory.get()[0] = std::byte{1};
    memory.get()[bytes - 1] = std::byte{2};
  }
}

TEST(PayloadMemory, WhatCannotBeHadIsItsOwnStatus) {
  for (const size_t bytes : {SIZE_MAX, SIZE_MAX / 2 + 1}) {
    try {
      payload_memory(bytes);
      ADD_FAILURE() << bytes;
    } catch (const Error& error) {
      EXPECT_EQ(error.status(), SKV_E_NO_MEMORY);
    }
  }
}

}  // namespace
}  // namespace skv
