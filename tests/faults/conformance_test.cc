// SPDX-License-Identifier: Apache-2.0
// One body of behaviour that every plane must show.
#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <thread>

#include "error.h"
#include "payloads.h"
#include "tests/nccl/host_device.h"
#include "transport/clock.h"
#include "transport/endpoint.h"
#include "transport/ucx.h"

namespace skv::transport {
namespace {

constexpr std::uint64_t kSoon = 20'000;  // ms; a bound, not an expectation

template <typename F>
skv_status status_of(F&& f) {
  try {
    f();
  } catch (const Error& error) {
    return error.status();
  }
  return SKV_OK;
}

bool ucx_is_there() {
  return status_of([] { UcxNode::open("", "lo"); }) == SKV_OK;
}

std::string unique_uri(const std::string& plane) {
  static std::atomic<int> count{0};
  const std::string tag = std::to_string(::getpid()) + "-" + std::to_string(count++);
  if (plane == "inproc" || plane == "nccl_beside") return "inproc://conformance-" + tag;
  if (plane == "abstract") return "unix://@skv-conformance-" + tag;
  if (plane == "unix" || plane == "ucx_unix") return "unix:///tmp/skv-conformance-" + tag + ".sock";
  return "tcp://127.0.0.1:0";
}

struct Case {
  const char* plane;
  bool threaded;
};

std::ostream& operator<<(std::ostream& out, const Case& c) {
  return out << c.plane << (c.threaded ? "" : ", caller-driven");
}

class Conformance : public ::testing::TestWithParam<Case> {
 protected:
  // What every end of this plane needs.
  static bool on_nccl() { return std::string(GetParam().plane).starts_with("nccl"); }
  static void prepare(Endpoint& endpoint, int device = 1) {
    const std::string plane = GetParam().plane;
    if (on_nccl()) {
      endpoint.set(SKV_ENDPOINT_PLANES, 1 << SKV_PLANE_NCCL);
      endpoint.set(SKV_ENDPOINT_DEVICE, plane == "nccl_beside" ? 0 : device);
      endpoint.set_library(SKV_PLANE_NCCL, SKV_FAKE_NCCL);
      endpoint.use_device_calls(host_devices());
    }
    const std::vector<std::uint8_t> key(32, 9);
    if (plane == "psk") endpoint.set_psk(SKV_SECURITY_PSK, key.data(), key.size());
    if (plane.starts_with("ucx")) endpoint.set(SKV_ENDPOINT_PLANES, 1 << SKV_PLANE_UCX);
    if (plane == "ucx_psk") endpoint.set_psk(SKV_SECURITY_PSK, key.data(), key.size());
    if (plane == "tls") endpoint.set_psk(SKV_SECURITY_TLS_PSK, key.data(), key.size());
  }
  void SetUp() override {
    if (std::string(GetParam().plane).starts_with("ucx") && !ucx_is_there()) {
      GTEST_SKIP() << "SKIPPED: libucp is not installed here: the UCX plane is not tested";
    }
    prepare(a_, 0);
    prepare(b_);
    b_.set(SKV_ENDPOINT_PROGRESS_THREAD, GetParam().threaded ? 1 : 0);
    char bound[256];
    a_.listen(unique_uri(GetParam().plane).c_str(), bound, sizeof bound);
    uri_ = bound;
    at_b_ = b_.connect(bound, deadline_ms(kSoon));
    at_a_ = a_.accept(deadline_ms(kSoon));
    if (std::string(GetParam().plane).starts_with("ucx")) {
      EXPECT_EQ(at_a_->get(SKV_CONN_PLANE), SKV_PLANE_UCX);
      EXPECT_EQ(at_b_->get(SKV_CONN_PLANE), SKV_PLANE_UCX);
    }
    if (GetParam().threaded) return;
    driver_ = std::thread([this] {
      while (!stop_) b_.progress(deadline_ms(20));
    });
  }
  void TearDown() override {
    stop_ = true;
    if (driver_.joinable()) driver_.join();
  }

  // Sends from one conn to the other and checks every byte.
  static void move(Conn& from, Conn& to, const Parcel& parcel, std::uint64_t key, bool own_buffer) {
    const auto receive = to.recv_offer(deadline_ms(kSoon));
    const auto send = from.send(key, parcel, deadline_ms(kSoon));
    ASSERT_EQ(receive->wait(deadline_ms(kSoon)), SKV_OK);
    ASSERT_EQ(receive->get(SKV_REQUEST_STATE), SKV_REQUEST_OFFERED);
    EXPECT_EQ(receive->get(SKV_REQUEST_KEY), static_cast<std::int64_t>(key));
    EXPECT_EQ(receive->get(SKV_REQUEST_BYTES), static_cast<std::int64_t>(parcel.bytes.size()));
    EXPECT_EQ(receive->get(SKV_REQUEST_LAYERS), static_cast<std::int64_t>(parcel.layer_bytes.size()) - 1);
    std::array<std::uint8_t, 32> fingerprint;
    std::array<std::uint8_t, 16> request_id;
    receive->identity(fingerprint.data(), request_id.data());
    EXPECT_EQ(fingerprint, parcel.fingerprint);
    EXPECT_EQ(request_id, parcel.request_id);
    struct alignas(16) Block {
      std::byte bytes[16];
    };
    std::vector<Block> buffer(own_buffer ? parcel.bytes.size() / 16 + 1 : 0);
    receive->accept(own_buffer ? buffer.data() : nullptr, buffer.size() * 16, deadline_ms(kSoon));
    ASSERT_EQ(receive->wait(deadline_ms(kSoon)), SKV_OK);
    ASSERT_EQ(receive->get(SKV_REQUEST_STATE), SKV_REQUEST_ENDED);
    ASSERT_EQ(send->wait(deadline_ms(kSoon)), SKV_OK);
    ASSERT_EQ(send->get(SKV_REQUEST_STATE), SKV_REQUEST_ENDED);
    const Received got = receive->take();
    EXPECT_EQ(got.owner == nullptr, own_buffer);
    EXPECT_TRUE(equal(got.bytes, parcel.bytes));
    EXPECT_EQ(got.plane, to.get(SKV_CONN_PLANE));
    EXPECT_GT(got.wire_ns, 0u);
    EXPECT_EQ(status_of([&] { receive->take(); }), SKV_E_STATE);
    EXPECT_EQ(receive->get(SKV_REQUEST_MOVED), receive->get(SKV_REQUEST_BYTES));
    EXPECT_EQ(send->get(SKV_REQUEST_MOVED), receive->get(SKV_REQUEST_BYTES));
    EXPECT_EQ(receive->get(SKV_REQUEST_LAYERS_READY), receive->get(SKV_REQUEST_LAYERS));
    send->destroy();
    receive->destroy();
  }

  Endpoint a_, b_;
  std::string uri_;
  std::shared_ptr<Conn> at_a_, at_b_;
  std::thread driver_;  // of b_, where it has no thread of its own
  std::atomic<bool> stop_{false};
};

TEST_P(Conformance, MovesEverySizeBothWays) {
  std::uint64_t key = 0;
  for (const std::size_t size : {1, 127, 129, 65535, 65536, 65537, 262144, 262145, 1048579}) {
    for (const std::size_t layers : {0, 1, 3}) {
      const Parcel parcel = make_parcel(size, layers, key);
      SCOPED_TRACE(size);
      ASSERT_NO_FATAL_FAILURE(move(*at_a_, *at_b_, parcel, key++, false));
      ASSERT_NO_FATAL_FAILURE(move(*at_b_, *at_a_, parcel, key++, true));
    }
  }
  EXPECT_EQ(a_.stats().sent_ok, key / 2);
  EXPECT_EQ(a_.stats().received_ok, key / 2);
  EXPECT_EQ(a_.stats().failed, 0u);
}

TEST_P(Conformance, MovesSixtyFourLayers) { move(*at_a_, *at_b_, make_parcel(3'000'001, 64, 1), 1, false); }

TEST_P(Conformance, Moves64MiB) { move(*at_a_, *at_b_, make_parcel(64 << 20, 4, 1), 1, false); }

TEST_P(Conformance, MovesManyAtOnceInBothDirections) {
  constexpr int kEach = 5;
  std::vector<Parcel> parcels;
  for (int i = 0; i < kEach; i++) parcels.push_back(make_parcel(700'001 + 1000 * i, 2, 50 + i));
  std::vector<std::shared_ptr<Request>> sends, receives;
  for (int i = 0; i < kEach; i++) {
    sends.push_back(at_a_->send(i, parcels[i], deadline_ms(kSoon)));
    sends.push_back(at_b_->send(i, parcels[i], deadline_ms(kSoon)));
  }
  for (int i = 0; i < kEach; i++) {
    for (auto& conn : {at_a_, at_b_}) {
      receives.push_back(conn->recv_offer(deadline_ms(kSoon)));
      ASSERT_EQ(receives.back()->wait(deadline_ms(kSoon)), SKV_OK);
      receives.back()->accept(nullptr, 0, deadline_ms(kSoon));
    }
  }
  for (auto& receive : receives) {
    ASSERT_EQ(receive->wait(deadline_ms(kSoon)), SKV_OK);
    EXPECT_TRUE(equal(receive->take().bytes, parcels[receive->get(SKV_REQUEST_KEY)].bytes));
  }
  for (auto& send : sends) ASSERT_EQ(send->wait(deadline_ms(kSoon)), SKV_OK);
}

TEST_P(Conformance, ServesEightPeers) {
  constexpr int kPeers = 8;
  std::vector<std::thread> threads;
  std::atomic<int> good{0};
  for (int i = 0; i < kPeers; i++) {
    threads.emplace_back([&, i] {
      Endpoint endpoint;
      prepare(endpoint);
      const auto conn = endpoint.connect(uri_.c_str(), deadline_ms(kSoon));
      const auto send = conn->send(i, make_parcel(300'000 + i, 3, i), deadline_ms(kSoon));
      if (send->wait(deadline_ms(kSoon)) == SKV_OK) good++;
    });
  }
  for (int i = 0; i < kPeers; i++) {
    const auto conn = a_.accept(deadline_ms(kSoon));
    const auto receive = conn->recv_offer(deadline_ms(kSoon));
    ASSERT_EQ(receive->wait(deadline_ms(kSoon)), SKV_OK);
    receive->accept(nullptr, 0, deadline_ms(kSoon));
    ASSERT_EQ(receive->wait(deadline_ms(kSoon)), SKV_OK);
    const auto key = receive->get(SKV_REQUEST_KEY);
    EXPECT_TRUE(equal(receive->take().bytes, make_bytes(300'000 + key, key)));
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(good, kPeers);
}

TEST_P(Conformance, RejectsWithAReason) {
  const auto send = at_a_->send(5, make_parcel(1000, 1, 5), deadline_ms(kSoon));
  const auto receive = at_b_->recv_offer(deadline_ms(kSoon));
  ASSERT_EQ(receive->wait(deadline_ms(kSoon)), SKV_OK);
  receive->reject("cache is full");
  EXPECT_EQ(status_of([&] { receive->test(); }), SKV_E_REJECTED);
  try {
    send->wait(deadline_ms(kSoon));
    FAIL() << "a rejected send must not succeed";
  } catch (const Error& error) {
    EXPECT_EQ(error.status(), SKV_E_REJECTED);
    EXPECT_NE(error.message().find("cache is full"), std::string::npos) << error.message();
  }
  EXPECT_EQ(status_of([&] { receive->accept(nullptr, 0, deadline_ms(kSoon)); }), SKV_E_STATE);
  ASSERT_NO_FATAL_FAILURE(move(*at_a_, *at_b_, make_parcel(1000, 1, 6), 6, false));  // the connection lives on
}

TEST_P(Conformance, RefusesBuffersThatDoNotFitAndLetsTheCallerTryAgain) {
  const Parcel parcel = make_parcel(1000, 1, 5);
  const auto send = at_a_->send(5, parcel, deadline_ms(kSoon));
  const auto receive = at_b_->recv_offer(deadline_ms(kSoon));
  ASSERT_EQ(receive->wait(deadline_ms(kSoon)), SKV_OK);
  alignas(16) std::byte buffer[1024];
  EXPECT_EQ(status_of([&] { receive->accept(buffer, 999, deadline_ms(kSoon)); }), SKV_E_TOO_SMALL);
  EXPECT_EQ(status_of([&] { receive->accept(buffer + 1, 1001, deadline_ms(kSoon)); }), SKV_E_ARGUMENT);
  EXPECT_EQ(status_of([&] { receive->accept(buffer, 1024, 1); }), SKV_E_TIMED_OUT);
  receive->accept(buffer, 1000, deadline_ms(kSoon));
  ASSERT_EQ(receive->wait(deadline_ms(kSoon)), SKV_OK);
  EXPECT_TRUE(equal(receive->take().bytes, parcel.bytes));
  EXPECT_EQ(send->wait(deadline_ms(kSoon)), SKV_OK);
}

TEST_P(Conformance, CancelsBeforeTheOffer) {
  const auto receive = at_b_->recv_offer(deadline_ms(kSoon));
  EXPECT_EQ(receive->test(), SKV_IN_PROGRESS);
  receive->cancel();
  EXPECT_EQ(status_of([&] { receive->test(); }), SKV_E_CANCELLED);
  receive->destroy();
}

TEST_P(Conformance, CancelByTheSenderReachesTheReceiver) {
  const auto send = at_a_->send(5, make_parcel(1000, 1, 5), deadline_ms(kSoon));
  const auto receive = at_b_->recv_offer(deadline_ms(kSoon));
  ASSERT_EQ(receive->wait(deadline_ms(kSoon)), SKV_OK);
  send->cancel();
  EXPECT_EQ(status_of([&] { send->test(); }), SKV_E_CANCELLED);
  const std::uint64_t end = deadline_ms(kSoon);
  while (receive->get(SKV_REQUEST_STATE) != SKV_REQUEST_ENDED && now_ns() < end) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  EXPECT_EQ(status_of([&] { receive->test(); }), SKV_E_CANCELLED);
  ASSERT_NO_FATAL_FAILURE(move(*at_a_, *at_b_, make_parcel(1000, 1, 6), 6, false));
}

TEST_P(Conformance, CancelByTheReceiverStopsTheBytesAtOnce) {
  for (int round = 0; round < 5; round++) {
    const Parcel parcel = make_parcel(16 << 20, 4, 5);
    const auto send = at_a_->send(5, parcel, deadline_ms(kSoon));
    const auto receive = at_b_->recv_offer(deadline_ms(kSoon));
    ASSERT_EQ(receive->wait(deadline_ms(kSoon)), SKV_OK);
    struct alignas(16) Block {
      std::byte bytes[16];
    };
    std::vector<Block> buffer(1 << 20);
    receive->accept(buffer.data(), buffer.size() * 16, deadline_ms(kSoon));
    const skv_status destroyed = status_of([&] { receive->destroy(); });
    if (destroyed == SKV_OK) continue;  // all of it arrived before we came to ask
    EXPECT_EQ(destroyed, SKV_E_BUSY);
    receive->wait_layer(round % 3, deadline_ms(kSoon));
    receive->cancel();
    const bool early = receive->get(SKV_REQUEST_MOVED) < receive->get(SKV_REQUEST_BYTES);
    if (on_nccl()) status_of([&] { receive->wait(deadline_ms(kSoon)); });  // the device lets go in its own time
    ASSERT_EQ(receive->get(SKV_REQUEST_STATE), SKV_REQUEST_ENDED);
    std::memset(static_cast<void*>(buffer.data()), 0xab, buffer.size() * 16);  // ours again
    skv_status status = SKV_OK;
    if (early) {
      EXPECT_EQ(status_of([&] { receive->test(); }), SKV_E_CANCELLED);
      status = status_of([&] { send->wait(deadline_ms(kSoon)); });
      EXPECT_TRUE(status == SKV_E_CANCELLED) << status_name(status);
    } else {
      status = status_of([&] { send->wait(deadline_ms(kSoon)); });
    }
    for (const Block& block : buffer) ASSERT_EQ(block.bytes[7], std::byte{0xab});
    ASSERT_NO_FATAL_FAILURE(move(*at_a_, *at_b_, make_parcel(1000, 1, 6), 6, false));
  }
}

TEST_P(Conformance, CancelByTheSenderInTheMiddleFreesItsBufferAtOnce) {
  std::vector<std::byte> bytes = make_bytes(16 << 20, 3);
  Parcel parcel;
  parcel.bytes = bytes;
  parcel.layer_bytes = make_layers(bytes.size(), 4);
  const auto send = at_a_->send(5, parcel, deadline_ms(kSoon));
  const auto receive = at_b_->recv_offer(deadline_ms(kSoon));
  ASSERT_EQ(receive->wait(deadline_ms(kSoon)), SKV_OK);
  receive->accept(nullptr, 0, deadline_ms(kSoon));
  receive->wait_layer(0, deadline_ms(kSoon));
  send->cancel();
  if (on_nccl()) status_of([&] { send->wait(deadline_ms(kSoon)); });
  ASSERT_EQ(send->get(SKV_REQUEST_STATE), SKV_REQUEST_ENDED);
  bytes.clear();
  bytes.shrink_to_fit();  // freed: a later read of it is an error that ASan reports
  const skv_status there = status_of([&] { receive->wait(deadline_ms(kSoon)); });
  const skv_status here = status_of([&] { send->test(); });
  EXPECT_TRUE(here == SKV_E_CANCELLED || (here == SKV_OK && there == SKV_OK)) << status_name(here);
  EXPECT_TRUE(there == SKV_E_CANCELLED || there == SKV_OK) << status_name(there);
  ASSERT_NO_FATAL_FAILURE(move(*at_a_, *at_b_, make_parcel(1000, 1, 6), 6, false));
}

TEST_P(Conformance, DeadlinesEndEveryWait) {
  EXPECT_EQ(status_of([&] { at_a_->send(1, make_parcel(10, 0, 0), 1); }), SKV_E_TIMED_OUT);
  EXPECT_EQ(status_of([&] { at_a_->recv_offer(1); }), SKV_E_TIMED_OUT);
  EXPECT_EQ(status_of([&] { a_.accept(deadline_ms(30)); }), SKV_E_TIMED_OUT);
  const auto never = at_b_->recv_offer(deadline_ms(30));
  EXPECT_EQ(status_of([&] { never->wait(deadline_ms(kSoon)); }), SKV_E_TIMED_OUT);
  const auto send = at_b_->send(1, make_parcel(10, 0, 0), deadline_ms(500));  // nobody decides
  EXPECT_EQ(send->wait(deadline_ms(5)), SKV_IN_PROGRESS);
  EXPECT_EQ(status_of([&] { send->wait(deadline_ms(kSoon)); }), SKV_E_TIMED_OUT);
  ASSERT_NO_FATAL_FAILURE(move(*at_a_, *at_b_, make_parcel(1000, 1, 6), 6, false));
}

TEST_P(Conformance, ClosingAConnEndsTheRequestsOfBothEnds) {
  const auto receive = at_a_->recv_offer(deadline_ms(kSoon));
  const auto send = at_b_->send(5, make_parcel(1000, 1, 5), deadline_ms(kSoon));
  ASSERT_EQ(receive->wait(deadline_ms(kSoon)), SKV_OK);
  const auto pending = at_a_->recv_offer(deadline_ms(kSoon));
  at_b_.reset();
  EXPECT_EQ(status_of([&] { send->test(); }), SKV_E_CANCELLED);
  const skv_status there = status_of([&] { pending->wait(deadline_ms(kSoon)); });
  EXPECT_TRUE(there == SKV_E_PEER_LOST || there == SKV_E_CANCELLED) << status_name(there);
  const skv_status offered = status_of([&] { receive->test(); });
  EXPECT_TRUE(offered == SKV_E_PEER_LOST || offered == SKV_E_CANCELLED) << status_name(offered);
  EXPECT_EQ(status_of([&] { at_a_->send(1, make_parcel(10, 0, 0), deadline_ms(kSoon)); }), SKV_E_CLOSED);
  EXPECT_EQ(at_a_->get(SKV_CONN_OPEN), 0);
}

TEST_P(Conformance, DrainingLetsTheRunningTransferEndAndTakesNoOther) {
  const Parcel parcel = make_parcel(3'000'001, 3, 5);
  const auto send = at_b_->send(5, parcel, deadline_ms(kSoon)), unseen = at_b_->send(6, parcel, deadline_ms(kSoon));
  const auto receive = at_a_->recv_offer(deadline_ms(kSoon));
  ASSERT_EQ(receive->wait(deadline_ms(kSoon)), SKV_OK);
  EXPECT_EQ(a_.drain(deadline_ms(30)), SKV_IN_PROGRESS) << "an offer waits for its decision";
  EXPECT_EQ(status_of([&] { unseen->wait(deadline_ms(kSoon)); }), SKV_E_UNAVAILABLE);
  EXPECT_EQ(status_of([&] { at_a_->send(1, make_parcel(10, 0, 0), deadline_ms(kSoon)); }), SKV_E_CLOSED);
  receive->accept(nullptr, 0, deadline_ms(kSoon));
  EXPECT_EQ(a_.drain(deadline_ms(kSoon)), SKV_OK);
  EXPECT_EQ(receive->wait(deadline_ms(kSoon)), SKV_OK);
  EXPECT_TRUE(equal(receive->take().bytes, parcel.bytes));
  EXPECT_EQ(send->wait(deadline_ms(kSoon)), SKV_OK);
  EXPECT_EQ(at_b_->get(SKV_CONN_OPEN), 0) << "the peer knows";
  EXPECT_EQ(status_of([&] { at_b_->send(1, make_parcel(10, 0, 0), deadline_ms(kSoon)); }), SKV_E_CLOSED);
  Endpoint late;
  EXPECT_NE(status_of([&] { late.connect(uri_.c_str(), deadline_ms(200)); }), SKV_OK);
}

TEST_P(Conformance, LayersArriveWhileOthersAreStillBeingMade) {
  constexpr std::size_t kLayers = 5, kSize = 900'001;
  const std::vector<std::byte> content = make_bytes(kSize, 3);
  std::vector<std::byte> made(kSize);
  Parcel parcel;
  parcel.bytes = made;
  parcel.layer_bytes = make_layers(kSize, kLayers);
  parcel.ready = 1;
  std::memcpy(made.data(), content.data(), parcel.layer_bytes[0]);
  const auto receive = at_b_->recv_offer(deadline_ms(kSoon));
  const auto send = at_a_->send(5, parcel, deadline_ms(kSoon));
  ASSERT_EQ(receive->wait(deadline_ms(kSoon)), SKV_OK);
  EXPECT_EQ(status_of([&] { receive->set(SKV_REQUEST_EARLY_LAYERS, 2); }), SKV_E_RANGE);
  EXPECT_EQ(status_of([&] { receive->set(SKV_REQUEST_KEY, 1); }), SKV_E_KEY);
  EXPECT_EQ(status_of([&] { send->set(SKV_REQUEST_EARLY_LAYERS, 1); }), SKV_E_STATE);
  receive->set(SKV_REQUEST_EARLY_LAYERS, 1);
  receive->accept(nullptr, 0, deadline_ms(kSoon));
  EXPECT_EQ(status_of([&] { receive->set(SKV_REQUEST_EARLY_LAYERS, 0); }), SKV_E_STATE);
  EXPECT_EQ(receive->wait_layer(0, deadline_ms(20)), SKV_IN_PROGRESS) << "it was not made yet";
  Received early;
  std::size_t begin = parcel.layer_bytes[0];
  for (std::size_t layer = 0; layer < kLayers; layer++) {
    std::memcpy(made.data() + begin, content.data() + begin, parcel.layer_bytes[layer + 1]);
    send->extend(static_cast<std::uint32_t>(layer) + 2);
    ASSERT_EQ(receive->wait_layer(static_cast<std::int32_t>(layer), deadline_ms(kSoon)), SKV_OK);
    if (layer == 0) early = receive->take();
    EXPECT_TRUE(equal(std::span(early.bytes).subspan(begin, parcel.layer_bytes[layer + 1]),
                      std::span(content).subspan(begin, parcel.layer_bytes[layer + 1])));
    if (layer + 1 < kLayers) {
      EXPECT_FALSE(early.ended);
      EXPECT_FALSE(receive->arrival().ended);
    }
    begin += parcel.layer_bytes[layer + 1];
  }
  ASSERT_EQ(receive->wait(deadline_ms(kSoon)), SKV_OK);
  ASSERT_EQ(send->wait(deadline_ms(kSoon)), SKV_OK);
  EXPECT_TRUE(receive->arrival().ended);
  EXPECT_TRUE(equal(early.bytes, content));
  EXPECT_EQ(status_of([&] { receive->take(); }), SKV_E_STATE) << "once";
}

TEST_P(Conformance, WhatAFailedTransferBroughtEarlyStaysReadableMemoryButIsRefused) {
  std::vector<std::byte> made = make_bytes(300'000, 3);
  Parcel parcel;
  parcel.bytes = made;
  parcel.layer_bytes = make_layers(made.size(), 3);
  parcel.ready = 2;
  const auto receive = at_b_->recv_offer(deadline_ms(kSoon));
  const auto send = at_a_->send(5, parcel, deadline_ms(kSoon));
  ASSERT_EQ(receive->wait(deadline_ms(kSoon)), SKV_OK);
  receive->set(SKV_REQUEST_EARLY_LAYERS, 1);
  receive->accept(nullptr, 0, deadline_ms(kSoon));
  ASSERT_EQ(receive->wait_layer(0, deadline_ms(kSoon)), SKV_OK);
  const Received early = receive->take();
  send->abandon("the engine failed");
  if (on_nccl()) status_of([&] { send->wait(deadline_ms(kSoon)); });
  EXPECT_EQ(status_of([&] { send->test(); }), SKV_E_CANCELLED);
  EXPECT_EQ(status_of([&] { receive->wait_layer(2, deadline_ms(kSoon)); }), SKV_E_CANCELLED);
  EXPECT_EQ(status_of([&] { receive->arrival(); }), SKV_E_CANCELLED);
  const std::size_t first = parcel.layer_bytes[0] + parcel.layer_bytes[1];
  EXPECT_TRUE(equal(std::span(early.bytes).first(first), std::span(made).first(first)));
}

TEST_P(Conformance, WithoutEarlyLayersNothingIsHandedOutBeforeTheEnd) {
  Parcel parcel = make_parcel(300'000, 3, 1);
  parcel.ready = 2;
  const auto receive = at_b_->recv_offer(deadline_ms(kSoon));
  const auto send = at_a_->send(5, parcel, deadline_ms(kSoon));
  ASSERT_EQ(receive->wait(deadline_ms(kSoon)), SKV_OK);
  receive->accept(nullptr, 0, deadline_ms(kSoon));
  ASSERT_EQ(receive->wait_layer(0, deadline_ms(kSoon)), SKV_OK);
  EXPECT_EQ(status_of([&] { receive->take(); }), SKV_E_STATE);
}

TEST_P(Conformance, OtherModelsAreRefused) {
  Endpoint other;
  prepare(other);
  std::array<std::uint8_t, 32> model{1};
  other.set_model(model.data());
  EXPECT_EQ(status_of([&] { other.connect(uri_.c_str(), deadline_ms(kSoon)); }), SKV_E_MODEL);
}

INSTANTIATE_TEST_SUITE_P(Planes, Conformance,
                         ::testing::Values(Case{"inproc", true}, Case{"unix", true}, Case{"abstract", true},
                                           Case{"tcp", true}, Case{"psk", true}, Case{"tls", true}, Case{"tcp", false},
                                           Case{"tls", false}, Case{"inproc", false}, Case{"nccl", true},
                                           Case{"nccl", false}, Case{"nccl_beside", true}, Case{"ucx", true},
                                           Case{"ucx", false}, Case{"ucx_unix", true}, Case{"ucx_psk", true}),
                         [](const auto& info) {
                           return std::string(info.param.plane) + (info.param.threaded ? "" : "_caller_driven");
                         });

}  // namespace
}  // namespace skv::transport
