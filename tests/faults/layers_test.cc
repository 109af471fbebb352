// SPDX-License-Identifier: Apache-2.0
// Layers that are sent as they become ready, under the simulated clock.
#include "sim.h"

namespace skv::transport {
namespace {

using Kind = Event::Kind;

// An open pair with an accepted transfer of four entries of which only the first is ready.
struct Layered {
  Sim sim;
  Bytes bytes = Bytes(40'000);
  const Bytes content = make_bytes(40'000, 3);
  Bytes got = Bytes(40'000);
  const std::vector<std::uint64_t> layers{128, 10'000, 20'000, 9'872};
  std::uint64_t id = 0;

  explicit Layered(std::uint64_t deadline = kNever) {
    sim.run();
    Offer offer;
    offer.layer_bytes = layers;
    fill(0);
    id = sim.a.session.offer(std::move(offer), bytes, deadline, 1);
    sim.run();
    sim.b.session.accept(id, got, deadline);
  }
  void fill(std::size_t entry) {
    std::size_t begin = 0;
    for (std::size_t i = 0; i < entry; i++) begin += layers[i];
    std::memcpy(bytes.data() + begin, content.data() + begin, layers[entry]);
  }
  std::uint32_t verified() const {
    std::uint32_t most = 0;
    for (const Event& event : sim.b.events) most = std::max(most, event.kind == Kind::kLayer ? event.layers : 0);
    return most;
  }
};

TEST(Layers, OnlyWhatIsReadyLeavesAndTheRestFollows) {
  Layered layered;
  Sim& sim = layered.sim;
  sim.run();
  EXPECT_EQ(layered.verified(), 1u);
  EXPECT_FALSE(sim.a.session.wants_output()) << "nothing to say until the next layer is there";
  EXPECT_EQ(sim.b.session.moved(layered.id), 128u);
  for (std::uint32_t entry = 1; entry < 4; entry++) {
    layered.fill(entry);
    sim.a.session.extend(layered.id, entry + 1);
    sim.run();
    EXPECT_EQ(layered.verified(), entry + 1);
    EXPECT_EQ(sim.a.status(layered.id), entry == 3 ? SKV_OK : SKV_IN_PROGRESS);
  }
  EXPECT_EQ(sim.b.status(layered.id), SKV_OK);
  EXPECT_EQ(layered.got, layered.content);
}

TEST(Layers, SeveralAtOnceAndMoreThanThereAre) {
  Layered layered;
  for (std::size_t entry = 1; entry < 4; entry++) layered.fill(entry);
  layered.sim.a.session.extend(layered.id, 3);
  layered.sim.a.session.extend(layered.id, 2);  // never taken back
  layered.sim.a.session.extend(layered.id, 4000);
  layered.sim.run(777);
  EXPECT_EQ(layered.sim.b.status(layered.id), SKV_OK);
  EXPECT_EQ(layered.got, layered.content);
  layered.sim.a.session.extend(layered.id, 4);  // over: nothing happens
  EXPECT_FALSE(layered.sim.a.session.wants_output());
}

TEST(Layers, ALayerThatNeverComesEndsAtTheDeadlineOnBothEnds) {
  Layered layered(kSimStart + 9'000 * kMs);
  Sim& sim = layered.sim;
  while (sim.a.status(layered.id) == SKV_IN_PROGRESS) {
    sim.now = std::min(sim.a.session.next_timeout(), sim.b.session.next_timeout());
    sim.tick();
    sim.run();
  }
  EXPECT_EQ(sim.now, kSimStart + 9'000 * kMs) << "heartbeats kept both alive until then";
  EXPECT_EQ(sim.a.status(layered.id), SKV_E_TIMED_OUT);
  EXPECT_EQ(sim.b.status(layered.id), SKV_E_TIMED_OUT);
  EXPECT_TRUE(sim.a.session.is_open());
}

TEST(Layers, OthersTakeTheirTurnsMeanwhile) {
  Layered layered;
  Sim& sim = layered.sim;
  sim.run();
  const Bytes other = make_bytes(30'000, 8);
  const auto id = sim.offer(sim.a, other, 2);
  sim.run();
  Bytes got(other.size());
  sim.b.session.accept(id, got, kNever);
  sim.run();
  EXPECT_EQ(sim.b.status(id), SKV_OK);
  EXPECT_EQ(got, other);
  sim.a.session.cancel(layered.id, SKV_E_CANCELLED, "enough");
  sim.run();
  EXPECT_EQ(sim.b.status(layered.id), SKV_E_CANCELLED);
}

}  // namespace
}  // namespace skv::transport
