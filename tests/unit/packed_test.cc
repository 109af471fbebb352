// SPDX-License-Identifier: Apache-2.0
// The packed form: lossless, within the budget, and as safe on untrusted bytes as the payload itself.
#include "packed.h"

#include <gtest/gtest.h>

#include <random>
#include <set>

#include "codec.h"
#include "error.h"
#include "packing.h"
#include "payload_bytes.h"
#include "tensors.h"

namespace skv {
namespace {

using test::Bytes;
using test::Geometry;
using test::Layout;
using test::Tensors;

Engine& engine() {
  static Engine it(SKV_DEVICE_CPU);
  return it;
}

std::unique_ptr<Payload> encode(Tensors& from, Plan& plan) {
  plan.options.unproven = true;
  solve(engine(), plan, from.cache(), nullptr);
  auto payload = Payload::create(from.cache(), plan, {});
  encode_layers(engine(), from.cache(), plan, *payload, 0, from.cache().layer_count());
  return payload;
}

Bytes wire(const Payload& payload) { return {payload.wire_bytes().begin(), payload.wire_bytes().end()}; }

// Everything that is done with bytes from a stranger.
skv_status read(const Bytes& bytes) {
  try {
    const auto payload = Payload::open(bytes, nullptr);
    verify_layers(&engine(), *payload, 0, static_cast<int32_t>(payload->segments().size()));
    payload->receipt();
  } catch (const Error& e) {
    return e.status();
  }
  return SKV_OK;
}

Bytes small_packed(const char* strategy = "uniform-4") {
  Geometry g;
  g.layers = 2;
  g.tokens = 40;
  g.dim[0] = g.dim[1] = 16;
  Tensors from(g, Layout::kTokenMajor, true);
  Plan plan;
  plan.set_strategy(strategy);
  const auto plain = encode(from, plan);
  return wire(*Payload::pack(engine(), *plain));
}

// Makes digests good again, whatever the bytes say.
void seal(Bytes& bytes) {
  if (bytes.size() < kPackedFrontBytes) return;
  put(std::span(bytes), 56, test::digest_function()(bytes.data(), 56));
  for (size_t at = kPackedFrontBytes; bytes.size() - at > kRecordHeaderBytes;) {
    const auto size = take<uint64_t>(bytes, at + 8);
    if (size <= kRecordHeaderBytes || size > bytes.size() - at) return;
    test::seal(std::span(bytes).subspan(at, size));
    at += size;
  }
}

TEST(Packed, GivesBackTheVeryBytes) {
  for (const int32_t dtype : {SKV_F16, SKV_BF16, SKV_F32}) {
    Geometry g;
    g.tokens = 1000;
    g.dtype = dtype;
    Tensors from(g, Layout::kTokenMajor, true);
    for (const char* strategy : {"uniform-2", "uniform-4", "uniform-8", "raw"}) {
      Plan plan;
      plan.set_strategy(strategy);
      const auto plain = encode(from, plan);
      const auto packed = Payload::pack(engine(), *plain);
      EXPECT_LT(packed->wire_bytes().size(), plain->bytes().size()) << strategy;
      EXPECT_EQ(packed->receipt().unpacked_bytes, plain->bytes().size());
      EXPECT_EQ(packed->receipt().payload_bytes, packed->wire_bytes().size());
      const Bytes sent = wire(*packed);
      const auto got = Payload::open(sent, nullptr);
      verify_layers(&engine(), *got, 0, g.layers);
      ASSERT_TRUE(std::equal(got->bytes().begin(), got->bytes().end(), plain->bytes().begin(), plain->bytes().end()));
      Tensors direct(g, Layout::kPaged16, false);
      Tensors by_packed(g, Layout::kPaged16, false);
      decode_layers(engine(), *plain, direct.cache(), 0, g.layers);
      decode_layers(engine(), *got, by_packed.cache(), 0, g.layers);
      EXPECT_EQ(direct.memory(), by_packed.memory());
      uint64_t sum = 0;
      for (const uint64_t piece : got->wire_pieces()) sum += piece;
      EXPECT_EQ(sum, sent.size());
    }
  }
}

// Exponents of numbers of like size are what can be saved: in bf16, whose exponent has 8 bits, far more.
TEST(Packed, RawRowsArePackedByColumns) {
  for (const auto& [dtype, most] : {std::pair{SKV_F16, 0.90}, std::pair{SKV_BF16, 0.75}}) {
    Geometry g;
    g.tokens = 2000;
    g.dtype = dtype;
    Tensors from(g, Layout::kTokenMajor, true);
    Plan plan;
    plan.set_strategy("raw");
    const auto plain = encode(from, plan);
    const auto packed = Payload::pack(engine(), *plain);
    const double left = static_cast<double>(packed->wire_bytes().size()) / static_cast<double>(plain->bytes().size());
    EXPECT_LT(left, most) << dtype;
  }
}

TEST(Packed, TheBudgetCountsPackedBytesAndIsKept) {
  Geometry g;
  g.layers = 4;
  g.tokens = 900;
  Tensors from(g, Layout::kTokenMajor, true);
  for (const double budget : {0.24, 0.28, 0.40, 0.60, 0.80}) {
    Plan plan;
    plan.set_fraction(budget);
    plan.set(SKV_PLAN_PACK, SKV_PACK_ALWAYS);
    plan.options.unproven = true;
    solve(engine(), plan, from.cache(), nullptr);
    const auto packed = encode_packed(engine(), from.cache(), plan, nullptr);
    const auto receipt = packed->receipt();
    EXPECT_LE(receipt.payload_bytes, receipt.budget_bytes) << budget;
    EXPECT_GT(static_cast<double>(receipt.payload_bytes), 0.97 * static_cast<double>(receipt.budget_bytes)) << budget;
    EXPECT_GT(receipt.unpacked_bytes, receipt.budget_bytes) << budget;  // what was saved was spent
  }
}

TEST(Packed, BudgetsBelowThePackedFloorAreRefused) {
  Geometry g;
  g.tokens = 500;
  Tensors from(g, Layout::kTokenMajor, true);
  Plan plan;
  plan.set_fraction(0.05);
  plan.set(SKV_PLAN_PACK, SKV_PACK_ALWAYS);
  plan.options.unproven = true;
  try {
    solve(engine(), plan, from.cache(), nullptr);
    FAIL() << "solved";
  } catch (const Error& e) {
    EXPECT_EQ(e.status(), SKV_E_BUDGET);
  }
}

TEST(Packed, AutoPacksOnSlowLinksOnly) {
  Plan plan;
  plan.set(SKV_PLAN_PACK, SKV_PACK_AUTO);
  EXPECT_FALSE(plan.packs(1));  // unknown
  plan.set(SKV_PLAN_LINK_MBPS, 100);
  EXPECT_TRUE(plan.packs(1));
  plan.set(SKV_PLAN_LINK_MBPS, 25'000);
  EXPECT_FALSE(plan.packs(8));
  // ... and then the budget is the plain payload's, floor included.
  Geometry g;
  g.tokens = 500;
  Tensors from(g, Layout::kTokenMajor, true);
  plan.set_fraction(0.30);
  plan.options.unproven = true;
  solve(engine(), plan, from.cache(), nullptr);
  EXPECT_LE(plan.payload_bytes(), plan.budget_bytes());
  plan.set_fraction(0.10);
  EXPECT_THROW(solve(engine(), plan, from.cache(), nullptr), Error);
}

TEST(Packed, EveryFlippedBitIsFound) {
  const Bytes good = small_packed();
  ASSERT_EQ(read(good), SKV_OK);
  for (size_t bit = 0; bit < good.size() * 8; ++bit) {
    Bytes bad = good;
    bad[bit / 8] ^= static_cast<std::byte>(1U << (bit % 8));
    ASSERT_NE(read(bad), SKV_OK) << "bit " << bit;
  }
}

TEST(Packed, EveryCutIsFound) {
  const Bytes good = small_packed();
  for (size_t size = 0; size < good.size(); ++size) {
    const Bytes bad(good.begin(), good.begin() + static_cast<ptrdiff_t>(size));
    ASSERT_EQ(read(bad), SKV_E_TRUNCATED) << size;
  }
  Bytes more = good;
  more.push_back(std::byte{0});
  EXPECT_EQ(read(more), SKV_E_TRAILING);
}

// With digests made good, so that what reads the fields meets every value.
TEST(Packed, SurvivesRandomMutations) {
  const Bytes good = small_packed();
  const std::set<skv_status> refusals = {SKV_E_TRUNCATED, SKV_E_TRAILING, SKV_E_MALFORMED,
                                         SKV_E_VERSION,   SKV_E_FEATURE,  SKV_E_CHECKSUM};
  std::mt19937_64 random(3);
  std::set<skv_status> seen;
  for (int i = 0; i < 20'000; ++i) {
    Bytes bytes = good;
    for (uint64_t n = 1 + random() % 3; n > 0; --n) {
      const size_t at = random() % 3 == 0 ? random() % bytes.size() : random() % (kPackedFrontBytes + 200);
      bytes[at] = static_cast<std::byte>(random());
    }
    if (random() % 8 == 0) bytes.resize(random() % (bytes.size() + 64));
    if (random() % 4 != 0 && bytes.size() >= 24) put<uint64_t>(std::span(bytes), 16, bytes.size());
    seal(bytes);
    const skv_status status = read(bytes);
    seen.insert(status);
    ASSERT_TRUE(status == SKV_OK || refusals.contains(status)) << status;
  }
  EXPECT_GE(seen.size(), 5U);
}

TEST(Packed, ClaimsBeyondTheExpansionLimitAreRefused) {
  Bytes bytes = small_packed();
  put<uint64_t>(std::span(bytes), 24, bytes.size() * kMaxExpansion + kMaxExpansion);
  seal(bytes);
  EXPECT_EQ(read(bytes), SKV_E_MALFORMED);
}

// What a piece says of its columns, where all digests are good.
TEST(Packed, ColumnsOfNoElementsAreRefused) {
  const Bytes good = small_packed("raw");
  const auto pieces = take<uint32_t>(std::span(good), kPackedFrontBytes + 24);
  size_t in_columns = 0;
  size_t stored = 0;
  for (uint32_t i = 0; i < pieces; ++i) {
    const size_t at = kPackedFrontBytes + kRecordHeaderBytes + 8 * i;
    const auto entry = take<uint32_t>(std::span(good), at);
    const bool whole = entry == take<uint32_t>(std::span(good), at + 4);
    (entry >> 24U != 0 ? in_columns : stored) += entry >> 24U != 0 || whole ? 1 : 0;
    for (const uint32_t element : {1U, 2U, 3U, 4U, 8U, 255U}) {
      if (element == entry >> 24U) continue;
      if ((element == 2 || element == 4) && !whole && (entry & 0xFFFFFFU) % element == 0)
        continue;  // other rows: found below
      Bytes bad = good;
      put(std::span(bad), at, (entry & 0xFFFFFFU) | element << 24U);
      seal(bad);
      EXPECT_EQ(read(bad), SKV_E_MALFORMED) << "piece " << i << ", elements of " << element;
    }
    if (entry >> 24U == 0) continue;
    Bytes bad = good;
    put<uint32_t>(std::span(bad), 32, 1);  // a method without columns
    seal(bad);
    EXPECT_EQ(read(bad), SKV_E_MALFORMED);
    bad = good;
    put(std::span(bad), at,
        entry & 0xFFFFFFU);  // the bytes of columns as if in order: the segment's digest knows better
    seal(bad);
    EXPECT_EQ(read(bad), SKV_E_CHECKSUM);
  }
  EXPECT_GT(in_columns, 0U);
  EXPECT_GT(stored, 0U);
}

// All zeros pack to next to nothing: more is sent than need be, rather than what a reader must take for an attack.
TEST(Packed, EmptyCachesStayWithinTheExpansionLimit) {
  Geometry g;
  g.tokens = 20'000;
  Tensors from(g, Layout::kTokenMajor, false);
  Plan plan;
  plan.set_strategy("raw");
  const auto plain = encode(from, plan);
  const auto packed = Payload::pack(engine(), *plain);
  EXPECT_LT(packed->wire_bytes().size(), plain->bytes().size());
  const auto got = Payload::open(packed->wire_bytes(), nullptr);
  verify_layers(&engine(), *got, 0, g.layers);
  EXPECT_TRUE(std::equal(got->bytes().begin(), got->bytes().end(), plain->bytes().begin(), plain->bytes().end()));
}

TEST(Packed, IsReadLayerByLayerAsItArrives) {
  Geometry g;
  g.layers = 3;
  Tensors from(g, Layout::kTokenMajor, true);
  Plan plan;
  plan.set_strategy("uniform-4");
  const auto plain = encode(from, plan);
  const auto packed = Payload::pack(engine(), *plain);
  Bytes sent = wire(*packed);
  Arrived now;
  const auto early = Payload::open_early(sent, packed->wire_pieces(), nullptr, [&] { return now; });
  Tensors to(g, Layout::kTokenMajor, false);
  for (int32_t l = 0; l < g.layers; ++l) {
    EXPECT_THROW(decode_layers(engine(), *early, to.cache(), l, 1), Error) << l;
    now.layers = static_cast<size_t>(l) + 1;
    decode_layers(engine(), *early, to.cache(), l, 1);
  }
  now.ended = true;
  early->need_complete();
  Tensors direct(g, Layout::kTokenMajor, false);
  decode_layers(engine(), *plain, direct.cache(), 0, g.layers);
  EXPECT_EQ(direct.memory(), to.memory());
  EXPECT_EQ(early->receipt().payload_bytes, sent.size());
}

TEST(Packed, TwiceIsRefused) {
  const Bytes bytes = small_packed();
  const auto packed = Payload::open(bytes, nullptr);
  try {
    Payload::pack(engine(), *packed);
    FAIL() << "packed twice";
  } catch (const Error& e) {
    EXPECT_EQ(e.status(), SKV_E_STATE);
  }
}

}  // namespace
}  // namespace skv
