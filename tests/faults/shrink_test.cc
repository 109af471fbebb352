// SPDX-License-Identifier: Apache-2.0
// Entries that get smaller before they are sent, and the rate that says whether they must, under the simulated clock.
#include "sim.h"
#include "transport/rate.h"

namespace skv::transport {
namespace {

using Kind = Event::Kind;

TEST(RateMeter, KnowsNothingWhileTheLinkTakesAllThatThereIs) {
  RateMeter meter;
  for (std::uint64_t t = 0; t < 100; t++) meter.moved(1'000'000, t * kMs);
  EXPECT_FALSE(meter.rate(100 * kMs).has_value());
  meter.idle();
  EXPECT_FALSE(meter.rate(10'000 * kMs).has_value());
}

TEST(RateMeter, LearnsFromWhatLeavesALinkThatTells) {
  RateMeter meter;
  meter.holds(0, 0);
  meter.moved(1'000'000, 0);
  EXPECT_FALSE(meter.rate(0).has_value());
  meter.holds(1'000'000, 0);
  meter.holds(999'000, 10 * kMs);
  EXPECT_FALSE(meter.rate(10 * kMs).has_value()) << "a burst that was late";
  meter.holds(600'000, 40 * kMs);
  EXPECT_NEAR(meter.rate(40 * kMs).value(), 0.01, 1e-6);
  EXPECT_NEAR(meter.queued(0.01, 50 * kMs), 500'000.0, 1.0);
  meter.holds(0, 9'000 * kMs);  // it was empty for who knows how long
  EXPECT_NEAR(meter.rate(9'000 * kMs).value(), 0.01, 1e-6);
  EXPECT_EQ(meter.queued(0.01, 9'000 * kMs), 0.0);
  EXPECT_FALSE(meter.holding());
}

TEST(RateMeter, MeasuresFromTheStallAndNotWhatFitsIntoBuffersAtOnce) {
  RateMeter meter;
  meter.moved(4'000'000, 0);
  meter.stalled(0);
  for (std::uint64_t t = 1; t <= 100; t++) meter.moved(1'000, t * kMs);
  EXPECT_NEAR(meter.rate(100 * kMs).value(), 0.001, 1e-9);
  EXPECT_NEAR(meter.queued(0.001, 100 * kMs), 4'000'000.0, 150'000.0) << "as much as leaves comes in";
  meter.idle();
  EXPECT_NEAR(meter.rate(9'000 * kMs).value(), 0.001, 1e-9) << "time without anything to send does not count";
  EXPECT_NEAR(meter.queued(0.001, 2'100 * kMs), 2'000'000.0, 150'000.0);
  EXPECT_EQ(meter.queued(0.001, 9'000 * kMs), 0.0);
}

TEST(RateMeter, FallsWhileNothingMovesAndForgets) {
  RateMeter meter;
  meter.moved(1, 0);
  meter.stalled(0);
  for (std::uint64_t t = 1; t <= 1'000; t++) meter.moved(10'000, t * kMs);
  EXPECT_NEAR(meter.rate(1'000 * kMs).value(), 0.01, 1e-4);
  EXPECT_LT(meter.rate(60'000 * kMs).value(), 0.0002) << "stuck for a minute";
  for (std::uint64_t t = 1'001; t <= 9'000; t++) meter.moved(1'000, t * kMs);
  EXPECT_NEAR(meter.rate(9'000 * kMs).value(), 0.001, 2e-4);
}

// An open pair with an offered transfer of four entries of which only the first is ready.
struct Cut {
  Sim sim;
  const std::vector<std::uint64_t> layers{128, 10'000, 20'000, 9'872};
  Bytes bytes = make_bytes(40'000, 3);
  const Bytes head = make_bytes(128, 99);
  Bytes got = Bytes(40'000);
  std::uint64_t id = 0;

  explicit Cut(std::uint64_t deadline = kNever) {
    sim.run();
    Offer offer;
    offer.layer_bytes = layers;
    id = sim.a.session.offer(std::move(offer), bytes, deadline, 1);
    sim.run();
  }
  void accept() {
    sim.b.session.accept(id, got, kNever);
    sim.run();
  }
  // The sender's layer, and what follows it moves up.
  void shrink(std::uint32_t entry, std::uint64_t to) { sim.a.session.shrink(id, {entry, 2, to, head}); }
  void finish() {
    sim.a.session.extend(id, 4);
    sim.run(777);
  }
};

TEST(Shrink, ALayerNotBegunGetsSmallerAndTheRestMovesUp) {
  Cut cut;
  cut.accept();
  cut.sim.a.session.extend(cut.id, 2);
  cut.sim.run();
  cut.shrink(2, 5'000);
  cut.sim.run();
  cut.sim.a.session.extend(cut.id, 3);
  cut.shrink(3, 1);
  cut.finish();
  EXPECT_EQ(cut.sim.a.status(cut.id), SKV_OK);
  EXPECT_EQ(cut.sim.b.status(cut.id), SKV_OK);
  ASSERT_EQ(cut.sim.b.count(Kind::kShrunk, cut.id), 2u);
  const Event& event = *cut.sim.b.find(Kind::kShrunk, cut.id);
  EXPECT_EQ(event.layers, 2u);
  EXPECT_EQ(event.moved, 5'000u);
  EXPECT_EQ(event.shrink->note, 2u);
  EXPECT_TRUE(equal(event.shrink->head, cut.head));
  EXPECT_EQ(cut.sim.b.find(Kind::kEnded, cut.id)->moved, 128u + 10'000 + 5'000 + 1);
  EXPECT_TRUE(equal(std::span(cut.got).first(15'129), std::span(cut.bytes).first(15'129)));
  EXPECT_TRUE(cut.got[15'129] == std::byte{0}) << "nothing beyond the new end is written";
}

TEST(Shrink, BeforeTheOfferIsAcceptedItIsSaidAfterwards) {
  Cut cut;
  cut.shrink(1, 9'999);
  cut.sim.run();
  EXPECT_EQ(cut.sim.b.count(Kind::kShrunk, cut.id), 0u);
  cut.accept();
  EXPECT_EQ(cut.sim.b.count(Kind::kShrunk, cut.id), 1u);
  cut.finish();
  EXPECT_EQ(cut.sim.b.status(cut.id), SKV_OK);
}

TEST(Shrink, TheFirstEntryIsSentAsItWasOffered) {
  Cut cut;
  const Bytes offered(cut.bytes.begin(), cut.bytes.begin() + 128);
  cut.shrink(1, 100);
  std::copy(cut.head.begin(), cut.head.end(), cut.bytes.begin());  // the owner writes the new one at once
  cut.accept();
  cut.finish();
  EXPECT_EQ(cut.sim.b.status(cut.id), SKV_OK);
  EXPECT_TRUE(equal(std::span(cut.got).first(128), offered));
}

TEST(Shrink, TheSenderIsToldWhatCannotBe) {
  Cut cut;
  cut.accept();
  const auto refused = [&](Shrink shrink) {
    try {
      cut.sim.a.session.shrink(cut.id, std::move(shrink));
    } catch (const Error& error) {
      return error.status();
    }
    return SKV_OK;
  };
  EXPECT_EQ(refused({0, 0, 1, cut.head}), SKV_E_STATE);
  EXPECT_EQ(refused({2, 0, 1, cut.head}), SKV_E_STATE) << "the one before is not ready";
  EXPECT_EQ(refused({1, 0, 10'000, cut.head}), SKV_E_STATE) << "not smaller";
  EXPECT_EQ(refused({1, 0, 0, cut.head}), SKV_E_STATE);
  EXPECT_EQ(refused({1, 0, 1, make_bytes(127, 1)}), SKV_E_STATE);
  cut.finish();
  EXPECT_EQ(cut.sim.b.status(cut.id), SKV_OK);
  cut.shrink(1, 1);  // over: nothing happens
  EXPECT_FALSE(cut.sim.a.session.wants_output());
}

TEST(Shrink, APeerThatLiesBreaksTheProtocol) {
  const auto lie = [](const Shrink& shrink, bool accepted = true) {
    Cut cut;
    if (accepted) cut.accept();
    FrameHeader header;
    header.type = FrameType::kShrink;
    header.epoch = sim_config(true).epoch;
    header.transfer_id = cut.id;
    const auto body = encode(shrink);
    header.length = static_cast<std::uint32_t>(body.size());
    cut.sim.give(cut.sim.b, raw_frame(header, body));
    return cut.sim.b.closed();
  };
  const Bytes head(128);
  EXPECT_EQ(lie({1, 0, 5, head}), SKV_IN_PROGRESS) << "this one is good";
  EXPECT_EQ(lie({1, 0, 5, head}, false), SKV_E_PROTOCOL);
  EXPECT_EQ(lie({0, 0, 5, head}), SKV_E_PROTOCOL);
  EXPECT_EQ(lie({4, 0, 5, head}), SKV_E_PROTOCOL);
  EXPECT_EQ(lie({UINT32_MAX, 0, 5, head}), SKV_E_PROTOCOL);
  EXPECT_EQ(lie({1, 0, 0, head}), SKV_E_PROTOCOL);
  EXPECT_EQ(lie({1, 0, 10'000, head}), SKV_E_PROTOCOL);
  EXPECT_EQ(lie({1, 0, UINT64_MAX, head}), SKV_E_PROTOCOL);
  EXPECT_EQ(lie({1, 0, 5, Bytes(129)}), SKV_E_PROTOCOL);
  EXPECT_EQ(lie({1, 0, 5, Bytes(1)}), SKV_E_PROTOCOL);
}

TEST(Shrink, AChangedHeadIsNoticed) {
  Cut cut;
  cut.accept();
  cut.shrink(1, 77);
  Bytes said = cut.sim.take(cut.sim.a);
  FrameHeader header = first_header(said);
  ASSERT_EQ(header.type, FrameType::kShrink);
  Bytes body(said.begin() + kHeaderBytes, said.end());
  body.back() ^= std::byte{1};
  cut.sim.give(cut.sim.b, raw_frame(header, body));  // with a digest that fits
  cut.finish();
  EXPECT_EQ(cut.sim.b.status(cut.id), SKV_E_CHECKSUM) << "the root vouches for it";
}

TEST(Shrink, WhatCanBeAffordedFollowsTheRateAndTheDeadline) {
  const std::uint64_t deadline = kSimStart + 10'000 * kMs;
  Cut cut(deadline);
  cut.accept();
  Session& a = cut.sim.a.session;
  EXPECT_EQ(a.affordable(cut.id, cut.sim.now), kNever) << "nothing was measured";
  a.extend(cut.id, 2);
  // A link of 1,000 bytes every 100 ms that would take no more at once.
  a.stalled();
  for (int i = 0; i < 4; i++) {
    cut.sim.give(cut.sim.b, cut.sim.take(cut.sim.a, 1'000));
    a.stalled();
    cut.sim.now += 100 * kMs;
  }
  const double left = static_cast<double>(deadline - cut.sim.now) / 1e8 * 1'000;
  const auto can = static_cast<double>(a.affordable(cut.id, cut.sim.now));
  EXPECT_LT(can, left);
  EXPECT_GT(can, left * 0.5 - 10'000);
  EXPECT_EQ(a.affordable(cut.id, deadline), 0u);
  EXPECT_EQ(a.affordable(cut.id + 2, cut.sim.now), kNever) << "no such transfer";
}

}  // namespace
}  // namespace skv::transport
