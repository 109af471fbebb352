// SPDX-License-Identifier: Apache-2.0
// Credits, heartbeats and leaving, under the simulated clock.
#include "sim.h"

namespace skv::transport {
namespace {

using Kind = Event::Kind;

constexpr std::uint64_t kWindow = 64 * 1024;

SessionConfig receiver_config(std::shared_ptr<CreditPool> pool = nullptr) {
  SessionConfig config = sim_config(false);
  config.transfer_credit = kWindow;
  config.credit = std::move(pool);
  return config;
}

// Frames of a stream of whole frames.
struct Seen {
  FrameHeader header;
  Bytes body;
};
std::vector<Seen> frames_of(std::span<const std::byte> said) {
  std::vector<Seen> out;
  while (!said.empty()) {
    Seen seen;
    seen.header = decode_header(said.first<kHeaderBytes>());
    seen.body.assign(said.begin() + kHeaderBytes, said.begin() + kHeaderBytes + seen.header.length);
    said = said.subspan(kHeaderBytes + seen.header.length);
    out.push_back(std::move(seen));
  }
  return out;
}
std::uint64_t data_bytes(const Bytes& said) {
  std::uint64_t sum = 0;
  for (const Seen& seen : frames_of(said)) sum += seen.header.type == FrameType::kData ? seen.header.length : 0;
  return sum;
}

TEST(Credit, ASenderNeverHasMoreUnderWayThanWasGranted) {
  Sim sim(sim_config(true), receiver_config());
  sim.open();
  const Bytes bytes = make_bytes(1'000'003, 1);
  const auto id = sim.offer(sim.a, bytes, 3);
  sim.run();
  Bytes got(bytes.size());
  sim.b.session.accept(id, got, kNever);
  std::uint64_t granted = 0, sent = 0;
  while (sim.b.status(id) == SKV_IN_PROGRESS) {
    const Bytes grants = sim.take(sim.b);
    for (const Seen& seen : frames_of(grants)) {
      if (seen.header.type == FrameType::kCredit) granted = decode_credit(seen.body).granted;
    }
    sim.give(sim.a, grants);
    const Bytes data = sim.take(sim.a);
    sent += data_bytes(data);
    ASSERT_LE(sent, granted) << "more than was granted";
    ASSERT_LE(granted - sim.b.session.moved(id), kWindow) << "more is granted than the window";
    sim.give(sim.b, data);
    ASSERT_FALSE(grants.empty() && data.empty()) << "stuck at " << sent << " of " << granted;
  }
  EXPECT_EQ(got, bytes);
  EXPECT_GT(sim.a.session.credit_stalls(), 0u);
}

// An open pair with an accepted transfer of 200 000 bytes whose sender is played by the test.
struct Played {
  Sim sim{sim_config(true), receiver_config()};
  Bytes bytes = make_bytes(200'000, 1);
  Bytes got = Bytes(200'000);
  std::uint64_t id = 0;
  Played() {
    sim.open();
    id = sim.offer(sim.a, bytes, 0);
    sim.run();
  }
  Bytes credit(std::uint64_t granted, std::uint64_t transfer) const {
    FrameHeader h;
    h.type = FrameType::kCredit;
    h.epoch = sim_config(false).epoch;
    h.transfer_id = transfer;
    h.length = 16;
    return raw_frame(h, encode(Credit{granted}));
  }
  Bytes data(std::uint64_t offset, std::uint32_t length, std::uint32_t chunk) const {
    FrameHeader h;
    h.type = FrameType::kData;
    h.epoch = sim_config(false).epoch;
    h.transfer_id = id;
    h.chunk = chunk;
    h.offset = offset;
    h.length = length;
    return raw_frame(h, std::span(bytes).subspan(offset, length));
  }
};

TEST(Credit, DataBeyondItIsAProtocolError) {
  Played played;
  played.sim.b.session.accept(played.id, played.got, kNever);
  played.sim.take(played.sim.b);  // the grant of 64 KiB
  played.sim.give(played.sim.b, played.data(0, kWindow, 0));
  EXPECT_TRUE(played.sim.b.session.is_open());
  // The next grant is under way (half a window is due), but no more than that may come.
  played.sim.give(played.sim.b, played.data(kWindow, kWindow + 1, 1));
  EXPECT_EQ(played.sim.b.closed(), SKV_E_PROTOCOL);
  EXPECT_EQ(played.sim.b.status(played.id), SKV_E_PROTOCOL);
}

TEST(Credit, GrantsThatMakeNoSenseAreProtocolErrors) {
  const auto refused = [](bool accepted, auto frame) {
    Played played;
    if (accepted) {
      played.sim.b.session.accept(played.id, played.got, kNever);
      played.sim.give(played.sim.a, played.sim.take(played.sim.b));
    }
    played.sim.give(played.sim.a, frame(played));
    return played.sim.a.closed() == SKV_E_PROTOCOL;
  };
  EXPECT_TRUE(refused(false, [](Played& p) { return p.credit(100, p.id); })) << "before ACCEPT";
  EXPECT_TRUE(refused(true, [](Played& p) { return p.credit(kWindow, p.id); })) << "not more than before";
  EXPECT_TRUE(refused(true, [](Played& p) { return p.credit(1, p.id); })) << "taken back";
  EXPECT_TRUE(refused(true, [](Played& p) { return p.credit(200'001, p.id); })) << "more than there is";
  EXPECT_TRUE(refused(true, [](Played& p) { return p.credit(kWindow + 1, p.id + 1); })) << "of its own transfer";
  EXPECT_TRUE(refused(true, [](Played& p) { return p.credit(kWindow + 1, p.id + 2); })) << "never offered";
  EXPECT_FALSE(refused(true, [](Played& p) { return p.credit(kWindow + 1, p.id); }));
}

// Two pairs whose receivers belong to one endpoint.
struct Shared {
  std::shared_ptr<CreditPool> pool;
  Sim one, two;
  explicit Shared(std::uint64_t limit)
      : pool(std::make_shared<CreditPool>(limit)),
        one(sim_config(true), receiver_config(pool)),
        two(sim_config(true), receiver_config(pool)) {
    one.open();
    two.open();
  }
  // What the owner of both sessions does.
  void share() {
    while (pool->may_regrant()) {
      one.b.session.regrant();
      two.b.session.regrant();
    }
  }
};

TEST(Credit, TheEndpointsBoundHoldsOverAllTransfersAndNobodyStarves) {
  Shared shared(96 * 1024);  // one window and a half
  const Bytes bytes = make_bytes(300'000, 1);
  std::vector<std::pair<Sim*, std::uint64_t>> all;
  std::vector<Bytes> got(6, Bytes(bytes.size()));
  for (std::size_t i = 0; i < got.size(); i++) {
    Sim& sim = i % 2 == 0 ? shared.one : shared.two;
    const auto id = sim.offer(sim.a, bytes, 1);
    sim.run();
    sim.b.session.accept(id, got[i], kNever);
    all.emplace_back(&sim, id);
  }
  for (int round = 0; round < 10'000; round++) {
    ASSERT_LE(shared.pool->held(), 96u * 1024);
    shared.share();
    const bool first = shared.one.step(5000), second = shared.two.step(5000);
    shared.share();
    if (!first && !second && !shared.pool->may_regrant()) break;
  }
  for (std::size_t i = 0; i < got.size(); i++) {
    EXPECT_EQ(all[i].first->b.status(all[i].second), SKV_OK) << i;
    EXPECT_EQ(got[i], bytes);
  }
  EXPECT_EQ(shared.pool->held(), 0u);
}

TEST(Credit, APeerThatHoldsItsGrantUnusedDoesNotStarveTheOthers) {
  Shared shared(128 * 1024);
  const Bytes bytes = make_bytes(300'000, 1);
  Bytes dead(bytes.size()), got(bytes.size());
  const auto held = shared.one.offer(shared.one.a, bytes, 0);
  shared.one.run();
  shared.one.b.session.accept(held, dead, kNever);  // and its sender never speaks again
  const auto id = shared.two.offer(shared.two.a, bytes, 0);
  shared.two.run();
  shared.two.b.session.accept(id, got, kNever);
  for (int round = 0; round < 1000 && (shared.two.step() || shared.pool->may_regrant()); round++) shared.share();
  EXPECT_EQ(shared.two.b.status(id), SKV_OK);
  EXPECT_EQ(shared.one.b.status(held), SKV_IN_PROGRESS);
  EXPECT_EQ(shared.pool->held(), kWindow);
  shared.one.b.session.cancel(held, SKV_E_CANCELLED, "enough");
  EXPECT_EQ(shared.pool->held(), 0u) << "what was granted comes back";
}

TEST(Credit, AllOfItComesBackHoweverATransferEnds) {
  for (std::size_t stop = 0; stop < 60; stop++) {
    for (const int how : {0, 1, 2, 3}) {
      const auto pool = std::make_shared<CreditPool>(std::uint64_t{1} << 20);
      Sim sim(sim_config(true), receiver_config(pool));
      sim.open();
      const Bytes bytes = make_bytes(150'000, 1);
      const auto id = sim.offer(sim.a, bytes, 1);
      sim.run();
      Bytes got(bytes.size());
      sim.b.session.accept(id, got, kNever);
      for (std::size_t i = 0; i < stop; i++) sim.step(4000);
      if (how == 0) sim.a.session.cancel(id, SKV_E_CANCELLED, "a");
      if (how == 1) sim.b.session.cancel(id, SKV_E_CANCELLED, "b");
      if (how == 2) sim.b.session.end_of_stream(sim.now);
      if (how == 3) sim.b.session.close("bye");
      sim.run();
      ASSERT_EQ(pool->held(), 0u) << stop << " " << how;
      ASSERT_EQ(pool->share(), std::uint64_t{1} << 20) << "no member is left";
    }
  }
}

TEST(Heartbeat, AReaderThatTakesDataSlowlyShowsThatItLives) {
  Sim sim;
  sim.open();
  const Bytes bytes = make_bytes(100'000, 1);
  const auto id = sim.offer(sim.a, bytes, 0, kSimStart + 60'000 * kMs);
  sim.run();
  Bytes got(bytes.size());
  sim.b.session.accept(id, got, kNever);
  sim.give(sim.a, sim.take(sim.b));
  // The socket's buffers are full and stay so: nothing of a's leaves, not even a PING; b's own heartbeats arrive.
  while (sim.now < kSimStart + 30'000 * kMs) {
    sim.now += 500 * kMs;
    sim.tick();
    sim.give(sim.a, sim.take(sim.b));
    ASSERT_TRUE(sim.a.session.is_open()) << "lost after " << (sim.now - kSimStart) / kMs << " ms";
    sim.b.session.receive({}, sim.now);
    // b hears a few bytes now and then: it is the slow one.
    sim.give(sim.b, sim.take(sim.a, 100));
  }
  sim.run();
  EXPECT_EQ(sim.a.status(id), SKV_OK);
  EXPECT_EQ(got, bytes);
}

TEST(Heartbeat, AnswersOvertakeDataThatHasNotBegunToLeave) {
  Sim sim;
  sim.open();
  const Bytes bytes = make_bytes(100'000, 1);
  const auto id = sim.offer(sim.a, bytes, 0);
  sim.run();
  Bytes got(bytes.size());
  sim.b.session.accept(id, got, kNever);
  sim.give(sim.a, sim.take(sim.b));
  sim.take(sim.a, kHeaderBytes + 10);  // the first DATA frame is half out, the next one waits
  FrameHeader ping;
  ping.epoch = sim_config(false).epoch;
  sim.give(sim.a, raw_frame(ping, {}));
  const Bytes rest = sim.take(sim.a, 4096 - 10 + kHeaderBytes);
  const auto next = decode_header(std::span(rest).subspan(4096 - 10).first<kHeaderBytes>());
  EXPECT_EQ(next.type, FrameType::kPong);
}

TEST(Heartbeat, APingThatCannotLeaveIsNotRepeated) {
  Sim sim;
  sim.open();
  FrameHeader pong;
  pong.type = FrameType::kPong;
  pong.epoch = sim_config(false).epoch;
  for (int beat = 0; beat < 1000; beat++) {
    sim.now += 1000 * kMs;
    sim.a.session.tick(sim.now);
    sim.give(sim.a, raw_frame(pong, {}));
  }
  EXPECT_EQ(sim.take(sim.a).size(), kHeaderBytes);
}

TEST(Drain, WhatIsUnderWayGoesOnAndNothingNewBegins) {
  Sim sim;
  sim.open();
  const Bytes bytes = make_bytes(50'000, 1);
  const auto moving = sim.offer(sim.a, bytes, 1), shown = sim.offer(sim.b, bytes, 1);
  sim.run();
  Bytes got(bytes.size()), back(bytes.size());
  sim.b.session.accept(moving, got, kNever);
  sim.give(sim.a, sim.take(sim.b));
  sim.give(sim.b, sim.take(sim.a, 5000));
  sim.a.session.drain("maintenance");
  EXPECT_TRUE(sim.a.session.is_draining());
  EXPECT_THROW(sim.offer(sim.a, bytes, 0), Error);
  const auto crossed = sim.offer(sim.b, bytes, 0);  // before b heard of it
  sim.run();
  EXPECT_TRUE(sim.b.session.peer_is_leaving());
  EXPECT_THROW(sim.offer(sim.b, bytes, 0), Error);
  EXPECT_EQ(sim.b.status(crossed), SKV_E_UNAVAILABLE);
  EXPECT_FALSE(sim.a.find(Kind::kOffered, crossed));
  EXPECT_EQ(sim.b.status(moving), SKV_OK);
  EXPECT_EQ(got, bytes);
  sim.a.session.accept(shown, back, kNever);  // the offer from before may still be taken
  sim.run();
  EXPECT_EQ(sim.b.status(shown), SKV_OK);
  EXPECT_EQ(back, bytes);
  EXPECT_EQ(sim.a.session.live_transfers() + sim.b.session.live_transfers(), 0u);
  EXPECT_TRUE(sim.a.session.is_open());
}

TEST(Epoch, FramesOfTheConnectionBeforeARestartAreRefused) {
  SessionConfig before = sim_config(false), after = sim_config(false);
  after.epoch = before.epoch + 1;
  Sim old(sim_config(true), before);
  old.open();
  const Bytes bytes = make_bytes(50'000, 1);
  const auto id = old.offer(old.a, bytes, 1);
  old.run();
  Bytes got(bytes.size());
  old.b.session.accept(id, got, kNever);
  old.give(old.a, old.take(old.b));
  const Bytes stale = old.take(old.a);  // DATA of a peer that does not know that the other one restarted
  ASSERT_GT(data_bytes(stale), 0u);
  Sim fresh(sim_config(true), after);
  fresh.open();
  const auto again = fresh.offer(fresh.a, bytes, 1);
  fresh.run();
  ASSERT_EQ(again, id) << "the ids are the same: only the epoch tells them apart";
  std::fill(got.begin(), got.end(), std::byte{0xab});
  fresh.b.session.accept(again, got, kNever);
  fresh.give(fresh.b, stale);
  EXPECT_EQ(fresh.b.closed(), SKV_E_PROTOCOL);
  EXPECT_EQ(std::count(got.begin(), got.end(), std::byte{0xab}), 50'000) << "not a byte was taken";
}

}  // namespace
}  // namespace skv::transport
