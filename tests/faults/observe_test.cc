// SPDX-License-Identifier: Apache-2.0
#include "transport/observe.h"

#include <gtest/gtest.h>

namespace skv::transport {
namespace {

TEST(Observe, BinsArePowersOfTwoWithOpenEnds) {
  std::uint64_t bins[4] = {};
  for (const std::uint64_t value : {0, 1, 2, 3, 4, 7, 8, 15, 16, 1 << 20}) count_log2(bins, value);
  EXPECT_EQ(bins[0], 2u);
  EXPECT_EQ(bins[1], 2u);
  EXPECT_EQ(bins[2], 2u);
  EXPECT_EQ(bins[3], 4u);
  count_log2(bins, UINT64_MAX);
  EXPECT_EQ(bins[3], 5u);
}

TEST(Observe, TheRingKeepsTheLatestInOrderAndSaysWhatItDropped) {
  EventRing ring;
  skv_event event{};
  EXPECT_FALSE(ring.push(event)) << "no room at all is not a loss";
  ring.resize(5);
  std::uint64_t dropped = 0, next = 0;
  std::vector<skv_event> out(3);
  for (int round = 0; round < 50; round++) {
    for (int i = 0; i < round % 9; i++) {
      event.key++;
      dropped += ring.push(event);
    }
    const std::size_t n = ring.take(out);
    for (std::size_t i = 0; i < n; i++) {
      EXPECT_GT(out[i].key, next);
      next = out[i].key;
    }
  }
  std::size_t left = 0;
  while (const std::size_t n = ring.take(out)) left += n;
  EXPECT_GT(dropped, 0u);
  EXPECT_LE(left, 5u);
  EXPECT_EQ(ring.take(out), 0u);
}

}  // namespace
}  // namespace skv::transport
