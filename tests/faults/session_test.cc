// SPDX-License-Identifier: Apache-2.0
// The session under a simulated clock: what a well-behaved pair does.
#include "sim.h"

namespace skv::transport {
namespace {

using Kind = Event::Kind;

TEST(Session, ShakesHandsWhateverTheBytesAreCutInto) {
  for (const std::size_t most : {1, 2, 63, 64, 65, 127, 128, 191, 192, 1000}) {
    Sim sim;
    sim.run(most);
    EXPECT_TRUE(sim.a.find(Kind::kOpen)) << most;
    EXPECT_TRUE(sim.b.find(Kind::kOpen)) << most;
    EXPECT_EQ(sim.a.session.peer().library_version, sim.b.session.peer().library_version);
  }
}

TEST(Session, MovesAPayloadWhateverTheBytesAreCutInto) {
  const Bytes bytes = make_bytes(200'001, 1);
  for (const std::uint32_t chunk : {4096u, 5000u, 65536u, 100'000u, 262'144u}) {
    for (const std::size_t most : {std::size_t{77}, std::size_t{4096}, std::size_t{70'001}, SIZE_MAX}) {
      SessionConfig config = sim_config(true);
      config.chunk = chunk;
      Sim sim(config);
      sim.open();
      const auto id = sim.offer(sim.a, bytes, 3);
      sim.run(most);
      ASSERT_TRUE(sim.b.find(Kind::kOffered, id));
      Bytes got(bytes.size());
      sim.b.session.accept(id, got, kNever);
      sim.run(most);
      EXPECT_EQ(sim.a.status(id), SKV_OK);
      EXPECT_EQ(sim.b.status(id), SKV_OK);
      EXPECT_EQ(got, bytes);
      EXPECT_EQ(sim.b.count(Kind::kLayer, id), 4u);
      EXPECT_EQ(sim.a.count(Kind::kEnded, id), 1u);
      EXPECT_EQ(sim.b.count(Kind::kEnded, id), 1u);
      EXPECT_EQ(sim.a.session.live_transfers() + sim.b.session.live_transfers(), 0u);
    }
  }
}

TEST(Session, NeverCopiesPayloadBytesOnTheirWayOut) {
  Sim sim;
  sim.open();
  const Bytes bytes = make_bytes(10'000, 1);
  const auto id = sim.offer(sim.a, bytes, 0);
  sim.run();
  Bytes got(bytes.size());
  sim.b.session.accept(id, got, kNever);
  sim.give(sim.a, sim.take(sim.b));
  std::array<std::span<const std::byte>, 8> list;
  const std::size_t count = sim.a.session.output(list);
  ASSERT_GE(count, 2u);
  EXPECT_EQ(list[1].data(), bytes.data());
  // And on their way in they land where they belong.
  sim.give(sim.b, sim.take(sim.a, kHeaderBytes));
  EXPECT_EQ(sim.b.session.read_targets()[0].data(), got.data());
}

TEST(Session, InterleavesTransfersChunkByChunk) {
  Sim sim;
  sim.open();
  const Bytes big = make_bytes(400'000, 1), small = make_bytes(9000, 2);
  const auto first = sim.offer(sim.a, big, 0);
  const auto second = sim.offer(sim.a, small, 0);
  sim.run();
  Bytes got_big(big.size()), got_small(small.size());
  sim.b.session.accept(first, got_big, kNever);
  sim.b.session.accept(second, got_small, kNever);
  while (sim.b.status(second) == SKV_IN_PROGRESS) ASSERT_TRUE(sim.step(8192));
  EXPECT_LT(sim.b.session.moved(first), big.size() / 2) << "the small one must not wait for the big one";
  sim.run();
  EXPECT_EQ(got_big, big);
  EXPECT_EQ(got_small, small);
}

TEST(Session, TransfersGoBothWaysAtOnce) {
  Sim sim;
  sim.open();
  const Bytes x = make_bytes(50'000, 1), y = make_bytes(60'000, 2);
  const auto there = sim.offer(sim.a, x, 2), back = sim.offer(sim.b, y, 2);
  EXPECT_EQ(there % 2, 1u);
  EXPECT_EQ(back % 2, 0u);
  sim.run();
  Bytes got_x(x.size()), got_y(y.size());
  sim.b.session.accept(there, got_x, kNever);
  sim.a.session.accept(back, got_y, kNever);
  sim.run(1000);
  EXPECT_EQ(got_x, x);
  EXPECT_EQ(got_y, y);
}

TEST(Session, RejectsWithAReasonAndGoesOn) {
  Sim sim;
  sim.open();
  const Bytes bytes = make_bytes(100, 1);
  const auto id = sim.offer(sim.a, bytes, 0);
  sim.run();
  sim.b.session.reject(id, "no room");
  sim.run();
  EXPECT_EQ(sim.a.status(id), SKV_E_REJECTED);
  EXPECT_EQ(sim.b.status(id), SKV_E_REJECTED);
  EXPECT_EQ(sim.a.find(Kind::kEnded, id)->message, "no room");
  EXPECT_TRUE(sim.a.session.is_open());
  EXPECT_TRUE(sim.b.session.is_open());
}

TEST(Session, OffersOverTheCapAreNotMadeAndNotTaken) {
  SessionConfig small = sim_config(false);
  small.max_payload = 1000;
  Sim sim(sim_config(true), small);
  sim.open();
  const Bytes bytes = make_bytes(1001, 1);
  EXPECT_THROW(sim.offer(sim.a, bytes, 0), Error);
  // A peer that offers it all the same.
  Offer offer;
  offer.layer_bytes = {1001};
  offer.total = 1001;
  FrameHeader header;
  header.type = FrameType::kOffer;
  header.epoch = sim_config(false).epoch;
  header.transfer_id = 1;
  const auto body = encode(offer);
  header.length = static_cast<std::uint32_t>(body.size());
  sim.give(sim.b, raw_frame(header, body));
  EXPECT_FALSE(sim.b.find(Kind::kOffered));
  const Bytes answer = sim.take(sim.b);
  ASSERT_GE(answer.size(), kHeaderBytes);
  EXPECT_EQ(first_header(answer).type, FrameType::kReject);
  EXPECT_EQ(decode_verdict(std::span(answer).subspan(kHeaderBytes)).status, SKV_E_NO_RESOURCE);
  EXPECT_TRUE(sim.b.session.is_open());
}

TEST(Session, MoreOffersThanThePeerTakesAreRefusedHere) {
  SessionConfig few = sim_config(false);
  few.max_transfers = 2;
  Sim sim(sim_config(true), few);
  sim.open();
  const Bytes bytes = make_bytes(10, 1);
  sim.offer(sim.a, bytes, 0);
  sim.offer(sim.a, bytes, 0);
  try {
    sim.offer(sim.a, bytes, 0);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.status(), SKV_E_NO_RESOURCE);
  }
}

TEST(Session, AnIdlePairStaysAliveOnPings) {
  Sim sim;
  sim.open();
  for (int second = 0; second < 100; second++) {
    sim.now = std::min(sim.a.session.next_timeout(), sim.b.session.next_timeout());
    sim.tick();
    sim.run();
  }
  EXPECT_TRUE(sim.a.session.is_open());
  EXPECT_TRUE(sim.b.session.is_open());
  EXPECT_GT(sim.now, kSimStart + 40'000 * kMs);
}

TEST(Session, ASilentPeerIsLostAfterThreeBeats) {
  Sim sim;
  sim.open();
  const Bytes bytes = make_bytes(10, 1);
  const auto id = sim.offer(sim.a, bytes, 0);
  while (sim.a.session.is_open()) {
    sim.now = sim.a.session.next_timeout();
    sim.a.session.tick(sim.now);
    sim.take(sim.a);  // into the void
  }
  EXPECT_EQ(sim.now, kSimStart + 3000 * kMs);
  EXPECT_EQ(sim.a.status(id), SKV_E_PEER_LOST);
  EXPECT_EQ(sim.a.closed(), SKV_E_PEER_LOST);
}

TEST(Session, ASlowReaderIsHeldAndNotLost) {
  Sim sim;
  sim.open();
  const Bytes bytes = make_bytes(100'000, 1);
  const auto id = sim.offer(sim.a, bytes, 0, kSimStart + 20'000 * kMs);
  sim.run();
  Bytes got(bytes.size());
  sim.b.session.accept(id, got, kNever);
  sim.give(sim.a, sim.take(sim.b));
  while (sim.a.status(id) == SKV_IN_PROGRESS && sim.a.session.is_open()) {
    sim.a.session.stalled();
    sim.now += 900 * kMs;
    sim.take(sim.a, 10);  // the peer made room for a few bytes, and says nothing
    sim.a.session.tick(sim.now);
    sim.a.collect();
  }
  EXPECT_EQ(sim.a.status(id), SKV_E_TIMED_OUT) << "the deadline decides";
  EXPECT_TRUE(sim.a.session.is_open());
}

TEST(Session, AProcessThatWasStoppedListensBeforeItJudges) {
  Sim sim;
  sim.open();
  sim.now += 60'000 * kMs;
  sim.a.session.tick(sim.now);
  EXPECT_TRUE(sim.a.session.is_open());
  sim.b.session.tick(sim.now);
  sim.run();
  EXPECT_TRUE(sim.a.session.is_open());
  EXPECT_TRUE(sim.b.session.is_open());
}

TEST(Session, CloseCancelsHereAndThere) {
  Sim sim;
  sim.open();
  const Bytes bytes = make_bytes(100'000, 1);
  const auto out = sim.offer(sim.a, bytes, 0), in = sim.offer(sim.b, bytes, 0);
  sim.run();
  Bytes got(bytes.size());
  sim.b.session.accept(out, got, kNever);
  sim.give(sim.a, sim.take(sim.b));
  sim.give(sim.b, sim.take(sim.a, 5000));
  sim.a.session.close("bye");
  sim.a.collect();
  EXPECT_EQ(sim.a.status(out), SKV_E_CANCELLED);
  EXPECT_EQ(sim.a.status(in), SKV_E_CANCELLED);
  EXPECT_EQ(sim.a.closed(), SKV_E_CLOSED);
  sim.give(sim.b, sim.take(sim.a));
  EXPECT_EQ(sim.b.status(out), SKV_E_CANCELLED);
  EXPECT_EQ(sim.b.status(in), SKV_E_CANCELLED);
  EXPECT_TRUE(sim.b.session.peer_is_leaving());
  EXPECT_THROW(sim.offer(sim.b, bytes, 0), Error);
}

}  // namespace
}  // namespace skv::transport
