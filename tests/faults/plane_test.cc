// SPDX-License-Identifier: Apache-2.0
// What two ends offer to move payloads on, and what they take.
#include <gtest/gtest.h>

#include "sim.h"
#include "transport/endpoint.h"

namespace skv::transport {
namespace {

constexpr PlaneSet kInline = plane_bit(SKV_PLANE_INLINE), kNccl = plane_bit(SKV_PLANE_NCCL),
                   kUcx = plane_bit(SKV_PLANE_UCX);

Sim meet(PlaneSet connecting, PlaneSet accepting) {
  SessionConfig a = sim_config(true), b = sim_config(false);
  a.planes = connecting;
  b.planes = accepting;
  a.card = b.card = Bytes(3);  // of a plane with connections of its own
  return Sim(a, b);
}

TEST(Planes, TwoEndsTakeTheFirstThatBothHave) {
  const auto taken = [](PlaneSet connecting, PlaneSet accepting) {
    Sim sim = meet(connecting, accepting);
    sim.run();
    EXPECT_TRUE(sim.a.session.is_open());
    EXPECT_EQ(sim.a.session.plane(), sim.b.session.plane());
    return sim.b.session.plane();
  };
  EXPECT_EQ(taken(0, 0), SKV_PLANE_INLINE);
  EXPECT_EQ(taken(kInline | kUcx | kNccl, 0), SKV_PLANE_INLINE);
  EXPECT_EQ(taken(kInline | kUcx | kNccl, kUcx | kInline), SKV_PLANE_UCX);
  EXPECT_EQ(taken(kNccl, kInline | kUcx | kNccl), SKV_PLANE_NCCL);
  EXPECT_EQ(taken(kInline | PlaneSet{1} << 31, kInline | PlaneSet{1} << 31), SKV_PLANE_INLINE);  // of a later version
}

TEST(Planes, EndsWithNoneInCommonRefuseEachOtherByName) {
  constexpr std::pair<PlaneSet, PlaneSet> kStrangers[] = {
      {kNccl, 0}, {kInline, kUcx}, {kNccl | kUcx, kInline}, {kUcx, kNccl}};
  for (const auto& [connecting, accepting] : kStrangers) {
    Sim sim = meet(connecting, accepting);
    sim.run();
    EXPECT_EQ(sim.a.closed(), SKV_E_UNAVAILABLE);
    EXPECT_EQ(sim.b.closed(), SKV_E_UNAVAILABLE);
    EXPECT_EQ(sim.b.session.plane(), SKV_PLANE_NONE);
    const Event* closed = sim.b.find(Event::Kind::kClosed);
    ASSERT_NE(closed, nullptr);
    EXPECT_NE(closed->message.find(plane_names(planes_or(connecting, SKV_PLANE_INLINE))), std::string::npos)
        << closed->message;
  }
}

TEST(Planes, SettingsAreChecked) {
  Endpoint endpoint;
  const auto status = [&](auto&& set) {
    try {
      set();
    } catch (const Error& error) {
      return error.status();
    }
    return SKV_OK;
  };
  EXPECT_EQ(status([&] { endpoint.set(SKV_ENDPOINT_PLANES, 0); }), SKV_E_RANGE);
  EXPECT_EQ(status([&] { endpoint.set(SKV_ENDPOINT_PLANES, 1); }), SKV_E_RANGE);
  EXPECT_EQ(status([&] { endpoint.set(SKV_ENDPOINT_PLANES, -1); }), SKV_E_RANGE);
  EXPECT_EQ(status([&] { endpoint.set(SKV_ENDPOINT_PLANES, 1 << 5); }), SKV_E_RANGE);
  EXPECT_EQ(status([&] { endpoint.set(SKV_ENDPOINT_PLANES, kInline); }), SKV_OK);
  EXPECT_EQ(status([&] { endpoint.set_library(SKV_PLANE_NCCL, nullptr); }), SKV_E_NULL);
  EXPECT_EQ(status([&] { endpoint.set_library(SKV_PLANE_INLINE, "x"); }), SKV_E_RANGE);
  EXPECT_EQ(status([&] { endpoint.set_library(SKV_PLANE_UCX, "libucp.so.0"); }), SKV_OK);
}

TEST(Planes, AConnSaysWhichOneItTook) {
  Endpoint a, b;
  b.set(SKV_ENDPOINT_PLANES, kInline);
  char bound[64];
  a.listen("tcp://127.0.0.1:0", bound, sizeof bound);
  const auto at_b = b.connect(bound, deadline_ms(5000));
  EXPECT_EQ(at_b->get(SKV_CONN_PLANE), SKV_PLANE_INLINE);
  EXPECT_EQ(a.accept(deadline_ms(5000))->get(SKV_CONN_PLANE), SKV_PLANE_INLINE);
}

}  // namespace
}  // namespace skv::transport
