// SPDX-License-Identifier: Apache-2.0
// The session under a simulated clock: what happens when the peer, the wire or the clock does not behave.
#include <functional>

#include "sim.h"

namespace skv::transport {
namespace {

using Kind = Event::Kind;

// Runs a small transfer from a to b; `tamper` may change what a says (with its position in a's whole stream) before b
// hears it. Returns when nothing more is said.
struct Talk {
  Sim sim;
  Bytes bytes = make_bytes(6000, 5);
  Bytes got = Bytes(6000);
  std::uint64_t id = 1;

  void operator()(const std::function<void(Bytes&, std::size_t at)>& tamper) {
    bool offered = false, accepted = false;
    std::size_t at = 0;
    for (;;) {
      if (!offered && sim.a.session.is_open()) {
        sim.offer(sim.a, bytes, 2);
        offered = true;
      }
      if (!accepted && sim.b.session.is_open() && sim.b.find(Kind::kOffered)) {
        sim.b.session.accept(id, got, kNever);
        accepted = true;
      }
      Bytes said = sim.take(sim.a);
      const std::size_t size = said.size();
      tamper(said, at);
      at += size;
      sim.give(sim.b, said);
      const Bytes answer = sim.take(sim.b);
      sim.give(sim.a, answer);
      if (size == 0 && answer.empty() && (offered || !sim.a.session.is_open())) return;
    }
  }
};

// How long a's side of the conversation is when nothing goes wrong.
std::size_t stream_length() {
  Talk run;
  std::size_t length = 0;
  run([&](Bytes& said, std::size_t at) { length = at + said.size(); });
  EXPECT_EQ(run.sim.b.status(1), SKV_OK);
  return length;
}

TEST(SessionFaults, NoFlippedBitGoesUnnoticed) {
  const std::size_t length = stream_length();
  for (std::size_t bit = 0; bit < 8 * length; bit++) {
    Talk run;
    run([&](Bytes& said, std::size_t at) {
      if (bit / 8 >= at && bit / 8 < at + said.size()) said[bit / 8 - at] ^= static_cast<std::byte>(1 << bit % 8);
    });
    const skv_status receiver = run.sim.b.status(1), conn = run.sim.b.closed();
    ASSERT_NE(receiver, SKV_OK) << "byte " << bit / 8;
    // Either the transfer ends in CHECKSUM on both ends, or the connection ends in PROTOCOL on both (a flip that makes
    // a frame longer than what follows leaves it waiting, which the heartbeat or the handshake deadline ends).
    if (receiver == SKV_E_CHECKSUM) {
      ASSERT_EQ(run.sim.a.status(1), SKV_E_CHECKSUM) << "byte " << bit / 8;
      ASSERT_TRUE(run.sim.b.session.is_open());
    } else {
      ASSERT_EQ(conn, SKV_E_PROTOCOL) << "byte " << bit / 8;
      if (run.sim.b.find(Kind::kOffered)) {
        ASSERT_EQ(receiver, SKV_E_PROTOCOL);
      }
    }
    ASSERT_LE(run.sim.b.count(Kind::kEnded, 1), 1u);
    ASSERT_LE(run.sim.a.count(Kind::kEnded, 1), 1u);
  }
}

TEST(SessionFaults, ACutAtAnyByteEndsInPeerLost) {
  const std::size_t length = stream_length();
  for (std::size_t cut = 0; cut < length; cut++) {
    Talk run;
    run([&](Bytes& said, std::size_t at) { said.resize(cut <= at ? 0 : std::min(said.size(), cut - at)); });
    ASSERT_EQ(run.sim.b.closed(), SKV_IN_PROGRESS);
    run.sim.b.session.end_of_stream(run.sim.now);
    run.sim.a.session.end_of_stream(run.sim.now);
    run.sim.a.collect();
    run.sim.b.collect();
    ASSERT_EQ(run.sim.b.closed(), SKV_E_PEER_LOST) << cut;
    ASSERT_EQ(run.sim.a.closed(), SKV_E_PEER_LOST) << cut;
    if (run.sim.b.find(Kind::kOffered)) {
      ASSERT_EQ(run.sim.b.status(1), SKV_E_PEER_LOST) << cut;
    }
    ASSERT_NE(run.sim.a.status(1), SKV_OK);
  }
}

TEST(SessionFaults, TheHandshakeHasADeadline) {
  for (const std::size_t said : {0, 1, 63, 64, 100, 191}) {
    Sim sim;
    const Bytes hello = sim.take(sim.a);
    sim.give(sim.b, std::span(hello).first(said));
    EXPECT_EQ(sim.b.session.next_timeout(), kSimStart + 5000 * kMs);
    sim.now = kSimStart + 5000 * kMs;
    sim.tick();
    EXPECT_EQ(sim.b.closed(), SKV_E_TIMED_OUT);
    EXPECT_EQ(sim.a.closed(), SKV_E_TIMED_OUT);
  }
}

TEST(SessionFaults, AScannerGetsNoAnswer) {
  Sim sim;
  const std::string_view request = "GET /metrics HTTP/1.1\r\n\r\n";
  sim.give(sim.b, std::as_bytes(std::span(request)));
  EXPECT_EQ(sim.b.closed(), SKV_E_PROTOCOL);
  EXPECT_TRUE(sim.take(sim.b).empty());
}

Bytes hello_frame(const Hello& hello) {
  FrameHeader header;
  header.type = FrameType::kHello;
  header.length = kHelloBytes;
  return raw_frame(header, encode(hello));
}

Hello good_hello() {
  Hello hello;
  hello.wire_version = SKV_WIRE_MAJOR * 256 + SKV_WIRE_MINOR;
  hello.plane = SKV_PLANE_INLINE;
  hello.max_data = kMaxDataBytes;
  hello.max_payload = 1 << 30;
  hello.max_transfers = 10;
  return hello;
}

TEST(SessionFaults, PeersThatDoNotFitAreToldWhy) {
  const auto refused = [](auto change, skv_status want) {
    Hello hello = good_hello();
    change(hello);
    Sim sim;
    sim.give(sim.b, hello_frame(hello));
    EXPECT_EQ(sim.b.closed(), want);
    const Bytes answer = sim.take(sim.b);
    ASSERT_GE(answer.size(), kHeaderBytes);
    EXPECT_EQ(first_header(answer).type, FrameType::kError);
    sim.give(sim.a, answer);
    EXPECT_EQ(sim.a.closed(), want);
  };
  Sim fine;
  fine.give(fine.b, hello_frame(good_hello()));
  EXPECT_TRUE(fine.b.session.is_open());
  refused([](Hello& h) { h.protocol_min = h.protocol_max = 2; }, SKV_E_VERSION);
  refused([](Hello& h) { h.wire_version += 256; }, SKV_E_VERSION);
  refused([](Hello& h) { h.fingerprint[31] = 1; }, SKV_E_MODEL);
  refused([](Hello& h) { h.plane = SKV_PLANE_INPROC; }, SKV_E_UNAVAILABLE);
  refused([](Hello& h) { h.auth = 1; }, SKV_E_AUTH);
  refused([](Hello& h) { h.epoch = 1; }, SKV_E_PROTOCOL);
  refused([](Hello& h) { h.protocol_min = 9; }, SKV_E_PROTOCOL);
  refused([](Hello& h) { h.max_data = 0; }, SKV_E_PROTOCOL);
}

// An open pair with an accepted transfer of 20 000 bytes in one layer, a's bytes being written by the test.
struct Forged {
  Sim sim;
  Bytes bytes = make_bytes(20'000, 5);
  Bytes got = Bytes(20'000);
  std::uint64_t id = 0;

  Forged() {
    sim.run();
    id = sim.offer(sim.a, bytes, 0);
    sim.run();
    sim.b.session.accept(id, got, kNever);
    sim.take(sim.b);  // a never hears of it and says nothing by itself
  }
  FrameHeader header(FrameType type) const {
    FrameHeader h;
    h.type = type;
    h.epoch = sim_config(false).epoch;
    h.transfer_id = id;
    return h;
  }
  void data(std::uint32_t chunk, std::uint64_t offset, std::uint32_t length, std::uint32_t layer = 0) {
    FrameHeader h = header(FrameType::kData);
    h.layer = layer;
    h.chunk = chunk;
    h.offset = offset;
    h.length = length;
    const Bytes body(length, std::byte{7});  // whatever the header claims: the payload may be shorter
    sim.give(sim.b, raw_frame(h, offset + length <= bytes.size() ? std::span(bytes).subspan(offset, length)
                                                                 : std::span<const std::byte>(body)));
  }
  void control(FrameType type, std::span<const std::byte> body) {
    FrameHeader h = header(type);
    h.length = static_cast<std::uint32_t>(body.size());
    sim.give(sim.b, raw_frame(h, body));
  }
  void expect_protocol() {
    EXPECT_EQ(sim.b.closed(), SKV_E_PROTOCOL);
    EXPECT_EQ(sim.b.status(id), SKV_E_PROTOCOL);
  }
};

TEST(SessionFaults, DataMustComeInOrder) {
  const auto bad = [](auto send) {
    Forged forged;
    forged.data(0, 0, 1000);
    EXPECT_TRUE(forged.sim.b.session.is_open());
    send(forged);
    forged.expect_protocol();
  };
  bad([](Forged& f) { f.data(0, 0, 1000); });                                              // again
  bad([](Forged& f) { f.data(2, 2000, 1000); });                                           // one left out
  bad([](Forged& f) { f.data(1, 500, 1000); });                                            // overlapping
  bad([](Forged& f) { f.data(1, 1000, 1000, 1); });                                        // a layer that is not there
  bad([](Forged& f) { f.data(1, 1000, 19'001); });                                         // beyond the layer
  bad([](Forged& f) { f.control(FrameType::kCommit, encode(Commit{20'000, 0, 1, 1})); });  // too soon
  bad([](Forged& f) { f.control(FrameType::kDone, encode(Verdict{SKV_OK, ""})); });        // not its part
  bad([](Forged& f) { f.control(FrameType::kAccept, encode(Accept{20'000, 1})); });
  bad([](Forged& f) { f.control(FrameType::kCancel, encode(Verdict{SKV_OK, ""})); });
  bad([](Forged& f) {
    f.id += 2;  // never offered
    f.data(0, 0, 1000);
    f.id -= 2;
  });
  bad([](Forged& f) { f.sim.give(f.sim.b, hello_frame(good_hello())); });
}

TEST(SessionFaults, AWrongRootIsAChecksumErrorOnBothEnds) {
  Forged forged;
  forged.data(0, 0, 1000);
  FrameHeader h = forged.header(FrameType::kData);
  h.chunk = 1;
  h.offset = 1000;
  h.length = 19'000;
  forged.sim.give(forged.sim.b, raw_frame(h, std::span(forged.bytes).subspan(1000)));
  forged.control(FrameType::kCommit, encode(Commit{20'000, 42, 1, 1}));
  EXPECT_EQ(forged.sim.b.status(forged.id), SKV_E_CHECKSUM);
  EXPECT_TRUE(forged.sim.b.session.is_open());
  const Bytes answer = forged.sim.take(forged.sim.b);
  ASSERT_GE(answer.size(), kHeaderBytes);
  EXPECT_EQ(first_header(answer).type, FrameType::kDone);
  // And the transfer is over: more about it is a protocol error.
  forged.control(FrameType::kCommit, encode(Commit{20'000, 42, 1, 1}));
  EXPECT_EQ(forged.sim.b.closed(), SKV_E_PROTOCOL);
}

TEST(SessionFaults, ACommitOfOtherSizesIsAProtocolError) {
  for (const Commit& commit : {Commit{19'999, 0, 1, 1}, Commit{20'000, 0, 2, 1}, Commit{20'000, 0, 1, 2}}) {
    Forged forged;
    FrameHeader h = forged.header(FrameType::kData);
    h.length = 20'000;
    forged.sim.give(forged.sim.b, raw_frame(h, forged.bytes));
    forged.control(FrameType::kCommit, encode(commit));
    forged.expect_protocol();
  }
}

TEST(SessionFaults, FramesOfAnotherConnectionAreRefused) {
  Forged forged;
  FrameHeader h;
  h.type = FrameType::kPing;
  h.epoch = sim_config(false).epoch + 1;
  forged.sim.give(forged.sim.b, raw_frame(h, {}));
  forged.expect_protocol();
}

TEST(SessionFaults, TransferIdsAreTheSendersAndOnlyGrow) {
  Offer offer;
  offer.layer_bytes = {10};
  offer.total = 10;
  const auto body = encode(offer);
  for (const std::uint64_t id : {std::uint64_t{1}, std::uint64_t{2}, std::uint64_t{4}}) {
    Forged forged;
    forged.id = id;  // 1 was used, even ones are b's own
    forged.control(FrameType::kOffer, body);
    EXPECT_EQ(forged.sim.b.closed(), SKV_E_PROTOCOL) << id;
  }
}

TEST(SessionFaults, APeerThatAsksWithoutReadingIsCutOff) {
  Forged forged;
  FrameHeader h;
  h.type = FrameType::kPing;
  h.epoch = sim_config(false).epoch;
  const Bytes ping = raw_frame(h, {});
  for (int i = 0; i < 20'000 && forged.sim.b.session.is_open(); i++) forged.sim.give(forged.sim.b, ping);
  forged.expect_protocol();
}

TEST(SessionFaults, APeerThatOnlyOffersIsCutOff) {
  SessionConfig few = sim_config(false);
  few.max_transfers = 4;
  Sim sim(sim_config(true), few);
  sim.open();
  Offer offer;
  offer.layer_bytes = {10};
  offer.total = 10;
  const auto body = encode(offer);
  FrameHeader h;
  h.type = FrameType::kOffer;
  h.epoch = few.epoch;
  h.length = static_cast<std::uint32_t>(body.size());
  for (h.transfer_id = 1; h.transfer_id < 1000 && sim.b.session.is_open(); h.transfer_id += 2) {
    sim.give(sim.b, raw_frame(h, body));
    sim.take(sim.b);
  }
  EXPECT_EQ(sim.b.closed(), SKV_E_PROTOCOL);
  EXPECT_LE(sim.b.count(Kind::kOffered, 0), 4u);
}

// Stops at every step of a transfer (after each 64 bytes of either side) and lets `act` interfere there; then both
// ends must agree that it is over, each with one status, and the connection must still work.
void at_every_step(const std::function<void(Sim&, std::uint64_t id)>& act, std::initializer_list<skv_status> allowed) {
  for (std::size_t stop = 0;; stop++) {
    Sim sim;
    sim.open();
    auto bytes = std::make_unique<Bytes>(make_bytes(6000, 5));
    const Bytes original = *bytes;
    auto got = std::make_unique<Bytes>(original.size());
    const auto id = sim.offer(sim.a, *bytes, 1, kSimStart + 60'000 * kMs);
    bool accepted = false, done = false;
    for (std::size_t step = 0; step < stop && !done; step++) {
      done = !sim.step(64);
      if (!accepted && sim.b.find(Kind::kOffered, id)) {
        sim.b.session.accept(id, *got, kSimStart + 60'000 * kMs);
        accepted = true;
        done = false;
      }
    }
    act(sim, id);
    sim.a.collect();
    sim.b.collect();
    // Whichever end is over must not touch its memory again: ASan watches.
    if (sim.a.status(id) != SKV_IN_PROGRESS) bytes.reset();
    if (sim.b.status(id) != SKV_IN_PROGRESS && sim.b.status(id) != SKV_OK) got.reset();
    sim.run(50);
    for (const SimEnd* end : {&sim.a, &sim.b}) {
      const bool knew = end == &sim.a || sim.b.find(Kind::kOffered, id);
      if (!knew) continue;
      const skv_status status = end->status(id);
      ASSERT_TRUE(std::find(allowed.begin(), allowed.end(), status) != allowed.end() || status == SKV_OK)
          << status_name(status) << " at step " << stop;
      ASSERT_EQ(end->count(Kind::kEnded, id), 1u) << stop;
      ASSERT_TRUE(end->session.is_open()) << stop;
    }
    if (sim.a.status(id) == SKV_OK) {
      ASSERT_EQ(sim.b.status(id), SKV_OK);
      ASSERT_EQ(*got, original);
    }
    // The next transfer is not disturbed.
    const Bytes next = make_bytes(5000, 6);
    const auto second = sim.offer(sim.a, next, 1);
    sim.run();
    Bytes out(next.size());
    sim.b.session.accept(second, out, kNever);
    sim.run();
    ASSERT_EQ(sim.a.status(second), SKV_OK) << stop;
    ASSERT_EQ(out, next);
    ASSERT_EQ(sim.a.session.live_transfers() + sim.b.session.live_transfers(), 0u);
    if (done) return;
  }
}

TEST(SessionFaults, TheSenderMayCancelAtEveryStep) {
  at_every_step([](Sim& sim, std::uint64_t id) { sim.a.session.cancel(id, SKV_E_CANCELLED, "enough"); },
                {SKV_E_CANCELLED});
}

TEST(SessionFaults, TheReceiverMayCancelAtEveryStep) {
  at_every_step(
      [](Sim& sim, std::uint64_t id) {
        if (!sim.b.find(Kind::kOffered, id)) sim.run(50);
        sim.b.session.cancel(id, SKV_E_CANCELLED, "enough");
      },
      {SKV_E_CANCELLED});
}

TEST(SessionFaults, BothMayCancelAtOnceAtEveryStep) {
  at_every_step(
      [](Sim& sim, std::uint64_t id) {
        if (!sim.b.find(Kind::kOffered, id)) sim.run(50);
        sim.a.session.cancel(id, SKV_E_CANCELLED, "enough");
        sim.b.session.cancel(id, SKV_E_CANCELLED, "enough");
      },
      {SKV_E_CANCELLED});
}

TEST(SessionFaults, TheDeadlineMayPassAtEveryStep) {
  at_every_step(
      [](Sim& sim, std::uint64_t) {
        sim.now = kSimStart + 60'000 * kMs;
        sim.tick();
      },
      {SKV_E_TIMED_OUT});
}

TEST(SessionFaults, ACancelledReceiverNeverWritesAgain) {
  Forged forged;
  // A frame is half there when the receiver cancels.
  FrameHeader h = forged.header(FrameType::kData);
  h.length = 4000;
  const Bytes frame = raw_frame(h, std::span(forged.bytes).first(4000));
  forged.sim.give(forged.sim.b, std::span(frame).first(1000));
  forged.sim.b.session.cancel(forged.id, SKV_E_CANCELLED, "enough");
  std::fill(forged.got.begin(), forged.got.end(), std::byte{0xab});
  forged.sim.give(forged.sim.b, std::span(frame).subspan(1000));
  forged.data(1, 4000, 1000);
  EXPECT_EQ(std::count(forged.got.begin(), forged.got.end(), std::byte{0xab}), 20'000);
  EXPECT_TRUE(forged.sim.b.session.is_open());
}

}  // namespace
}  // namespace skv::transport
