// SPDX-License-Identifier: Apache-2.0
// Real processes and sockets that fail: killed, stopped, half-closed, slow, or no peers at all. Everything must end in
// its documented status, in bounded time, without a descriptor or thread left behind.
#include <signal.h>
#include <sys/wait.h>

#include <functional>
#include <random>

#include "watch.h"

namespace skv::transport {
namespace {

constexpr int kBeatMs = 200;

struct Server {
  explicit Server(int beat_ms = kBeatMs, std::int64_t planes = 1 << SKV_PLANE_INLINE) {
    endpoint.set(SKV_ENDPOINT_HEARTBEAT_MS, beat_ms);
    endpoint.set(SKV_ENDPOINT_PLANES, planes);
    endpoint.set(SKV_ENDPOINT_HANDSHAKE_MS, 400);
    char bound[64];
    endpoint.listen("tcp://127.0.0.1:0", bound, sizeof bound);
    uri = bound;
  }
  Endpoint endpoint;
  std::string uri;
};

// A child process that gets the URI once there is one. Forked before the parent has threads.
class Child {
 public:
  explicit Child(const std::function<void(const std::string& uri)>& body) {
    int pipe_ends[2];
    EXPECT_EQ(::pipe(pipe_ends), 0);
    pid_ = ::fork();
    if (pid_ == 0) {
      ::close(pipe_ends[1]);
      char uri[64] = {};
      try {
        if (::read(pipe_ends[0], uri, sizeof uri - 1) > 0) body(uri);
      } catch (const Error&) {  // the parent is done with it: nothing may unwind into the child's copy of the test
      }
      ::_exit(0);
    }
    ::close(pipe_ends[0]);
    to_child_ = pipe_ends[1];
  }
  ~Child() {
    ::close(to_child_);
    signal(SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
  void go(const std::string& uri) { EXPECT_GT(::write(to_child_, uri.c_str(), uri.size() + 1), 0); }
  void signal(int number) { ::kill(pid_, number); }

 private:
  pid_t pid_ = -1;
  int to_child_ = -1;
};

constexpr std::size_t kBig = std::size_t{256} << 20;

// Connects and sends a lot, slowly enough to be caught at it: the receiver's end is what the tests watch.
void send_forever(const std::string& uri, std::int64_t planes = 1 << SKV_PLANE_INLINE) {
  Endpoint endpoint;
  endpoint.set(SKV_ENDPOINT_PLANES, planes);
  const auto conn = endpoint.connect(uri.c_str(), deadline_ms(kSoon));
  const auto bytes = std::make_shared<std::vector<std::byte>>(kBig);
  Parcel parcel;
  parcel.bytes = *bytes;
  parcel.layer_bytes.assign(kBig >> 20, 1 << 20);
  for (;;) {
    const auto request = conn->send(1, parcel, deadline_ms(60'000));
    request->wait(deadline_ms(60'000));
  }
}

void receive_forever(const std::string& uri, std::int64_t planes = 1 << SKV_PLANE_INLINE) {
  Endpoint endpoint;
  endpoint.set(SKV_ENDPOINT_PLANES, planes);
  const auto conn = endpoint.connect(uri.c_str(), deadline_ms(kSoon));
  for (;;) {
    const auto request = conn->recv_offer(deadline_ms(60'000));
    request->wait(deadline_ms(60'000));
    request->accept(nullptr, 0, deadline_ms(60'000));
    request->wait(deadline_ms(60'000));
  }
}

// Runs transfers until one is interrupted by `fault` in its middle; that one's status and how long it took to end.
struct Ended {
  skv_status status;
  std::uint64_t ms;
};
Ended interrupt(const std::function<std::shared_ptr<Request>()>& begin, const std::function<void()>& fault) {
  const auto request = begin();
  const std::uint64_t end = deadline_ms(kSoon);
  while (request->get(SKV_REQUEST_MOVED) == 0 && now_ns() < end) std::this_thread::yield();
  fault();
  const std::uint64_t start = now_ns();
  const skv_status status = status_of([&] { request->wait(deadline_ms(kSoon)); });
  return {status, (now_ns() - start) / 1'000'000};
}

// Leaks are watched for on the stream's own plane: UCX keeps a thread and descriptors once it was loaded.
class ProcessFaultsOver : public ::testing::TestWithParam<std::int32_t> {
 protected:
  void SetUp() override {
    if (GetParam() == SKV_PLANE_INLINE) watch_ = std::make_unique<LeakWatch>();
  }
  void TearDown() override { watch_.reset(); }
  static std::int64_t planes() { return std::int64_t{1} << GetParam(); }
  // Null: the plane's library is not here. Called after the child was forked, which must not inherit a loaded one.
  static std::unique_ptr<Server> serve() {
    try {
      return std::make_unique<Server>(kBeatMs, planes());
    } catch (const Error& error) {
      EXPECT_EQ(error.status(), SKV_E_UNAVAILABLE);
      EXPECT_NE(GetParam(), SKV_PLANE_INLINE);
      return nullptr;
    }
  }
  std::unique_ptr<LeakWatch> watch_;
};
INSTANTIATE_TEST_SUITE_P(Planes, ProcessFaultsOver, ::testing::Values(SKV_PLANE_INLINE, SKV_PLANE_UCX),
                         [](const auto& info) { return info.param == SKV_PLANE_UCX ? "ucx" : "inline"; });

TEST_P(ProcessFaultsOver, AKilledSenderIsLostAtOnce) {
  Child child([](const std::string& uri) { send_forever(uri, planes()); });
  const auto started = serve();
  if (!started) GTEST_SKIP() << "SKIPPED: libucp is not installed here: the UCX plane is not tested";
  Server& server = *started;
  child.go(server.uri);
  const auto conn = server.endpoint.accept(deadline_ms(kSoon));
  const Ended ended = interrupt(
      [&] {
        auto request = conn->recv_offer(deadline_ms(kSoon));
        EXPECT_EQ(request->wait(deadline_ms(kSoon)), SKV_OK);
        request->accept(nullptr, 0, deadline_ms(kSoon));
        return request;
      },
      [&] { child.signal(SIGKILL); });
  EXPECT_EQ(ended.status, SKV_E_PEER_LOST);
  EXPECT_LT(ended.ms, 5000u);
  EXPECT_EQ(status_of([&] { conn->recv_offer(deadline_ms(kSoon)); }), SKV_E_CLOSED);
}

TEST_P(ProcessFaultsOver, AKilledReceiverIsLostAtOnce) {
  Child child([](const std::string& uri) { receive_forever(uri, planes()); });
  const auto started = serve();
  if (!started) GTEST_SKIP() << "SKIPPED: libucp is not installed here: the UCX plane is not tested";
  Server& server = *started;
  child.go(server.uri);
  const auto conn = server.endpoint.accept(deadline_ms(kSoon));
  const Ended ended = interrupt([&] { return conn->send(1, make_parcel(kBig, 16, 1), deadline_ms(kSoon)); },
                                [&] { child.signal(SIGKILL); });
  EXPECT_EQ(ended.status, SKV_E_PEER_LOST);
  EXPECT_LT(ended.ms, 5000u);
}

TEST_P(ProcessFaultsOver, AStoppedSenderIsLostAfterThreeBeats) {
  Child child([](const std::string& uri) { send_forever(uri, planes()); });
  const auto started = serve();
  if (!started) GTEST_SKIP() << "SKIPPED: libucp is not installed here: the UCX plane is not tested";
  Server& server = *started;
  child.go(server.uri);
  const auto conn = server.endpoint.accept(deadline_ms(kSoon));
  const Ended ended = interrupt(
      [&] {
        auto request = conn->recv_offer(deadline_ms(kSoon));
        EXPECT_EQ(request->wait(deadline_ms(kSoon)), SKV_OK);
        request->accept(nullptr, 0, deadline_ms(kSoon));
        return request;
      },
      [&] { child.signal(SIGSTOP); });
  EXPECT_EQ(ended.status, SKV_E_PEER_LOST);
  EXPECT_GE(ended.ms, 2u * kBeatMs);
  EXPECT_LT(ended.ms, 5000u);
}

TEST_P(ProcessFaultsOver, AStoppedReceiverIsLostAfterThreeBeats) {
  Child child([](const std::string& uri) { receive_forever(uri, planes()); });
  const auto started = serve();
  if (!started) GTEST_SKIP() << "SKIPPED: libucp is not installed here: the UCX plane is not tested";
  Server& server = *started;
  child.go(server.uri);
  const auto conn = server.endpoint.accept(deadline_ms(kSoon));
  const Ended ended = interrupt([&] { return conn->send(1, make_parcel(kBig, 16, 1), deadline_ms(kSoon)); },
                                [&] { child.signal(SIGSTOP); });
  EXPECT_EQ(ended.status, SKV_E_PEER_LOST);
  EXPECT_GE(ended.ms, 2u * kBeatMs);
  EXPECT_LT(ended.ms, 5000u);
}

TEST(ProcessFaults, AStoppedPeerCannotHoldARequestBeyondItsDeadline) {
  LeakWatch watch;
  Child child([](const std::string& uri) { receive_forever(uri); });
  const Parcel parcel = make_parcel(kBig, 16, 1);  // before the clock starts: slow under a sanitizer
  Server server;
  child.go(server.uri);
  const auto conn = server.endpoint.accept(deadline_ms(kSoon));
  const auto request = conn->send(1, parcel, deadline_ms(300));
  child.signal(SIGSTOP);
  const std::uint64_t start = now_ns();
  EXPECT_EQ(status_of([&] { request->wait(deadline_ms(kSoon)); }), SKV_E_TIMED_OUT);
  EXPECT_LT((now_ns() - start) / 1'000'000, 300u + 2000u);
}

TEST(ProcessFaults, AHalfClosedPeerIsLost) {
  LeakWatch watch;
  Server server;
  HandPeer peer(server.uri);
  const auto conn = server.endpoint.accept(deadline_ms(kSoon));
  const auto request = conn->recv_offer(deadline_ms(kSoon));
  ::shutdown(peer.socket.fd(), SHUT_WR);
  EXPECT_EQ(status_of([&] { request->wait(deadline_ms(kSoon)); }), SKV_E_PEER_LOST);
  EXPECT_TRUE(peer.socket.closes_within(5000));
}

TEST(ProcessFaults, ASlowReaderIsHeldUntilTheDeadline) {
  LeakWatch watch;
  const Parcel parcel =
      make_parcel(kBig, 16, 1);  // takes seconds under a sanitizer: before anybody may be called silent
  std::vector<std::byte> buffer(kBig);
  Server server(500);
  HandPeer peer(server.uri);
  const auto conn = server.endpoint.accept(deadline_ms(kSoon));
  const auto request = conn->send(1, parcel, deadline_ms(4000));
  while (peer.events.empty() || peer.events.back().kind != Event::Kind::kOffered) peer.step();
  peer.session.accept(peer.events.back().id, buffer, kNever);
  // About 20 MB/s: many heartbeats pass before the deadline does, and the payload does not fit before it.
  const std::uint64_t start = now_ns();
  skv_status status = SKV_IN_PROGRESS;
  while (status == SKV_IN_PROGRESS && now_ns() - start < kSoon * 1'000'000) {
    peer.step(1);
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    try {
      status = request->test();
    } catch (const Error& error) {
      status = error.status();
    }
  }
  EXPECT_EQ(status, SKV_E_TIMED_OUT) << "slow is not lost";
}

TEST(ProcessFaults, AReaderSlowerThanItsSocketBuffersInThreeBeatsIsHeldAndNotLost) {
  LeakWatch watch;
  const Parcel parcel = make_parcel(kBig, 16, 1);
  std::vector<std::byte> buffer(kBig);
  Server server(100);
  HandPeer peer(server.uri);
  const auto conn = server.endpoint.accept(deadline_ms(kSoon));
  const auto request = conn->send(1, parcel, deadline_ms(3000));
  while (peer.events.empty() || peer.events.back().kind != Event::Kind::kOffered) peer.step();
  peer.session.accept(peer.events.back().id, buffer, kNever);
  // It takes nothing for a second, ten beats, and then a little: the kernel's buffers are full long before. What it
  // says goes on arriving.
  const std::uint64_t start = now_ns();
  skv_status status = SKV_IN_PROGRESS;
  while (status == SKV_IN_PROGRESS && now_ns() - start < kSoon * 1'000'000) {
    const bool reads = now_ns() - start > 1'000'000'000;
    peer.step(1, reads ? 1000 : 0);
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
    if (request->get(SKV_REQUEST_STATE) == SKV_REQUEST_ENDED) status = status_of([&] { request->test(); });
  }
  EXPECT_EQ(status, SKV_E_TIMED_OUT) << "the deadline ends it, not the heartbeat";
  EXPECT_GT(request->get(SKV_REQUEST_MOVED), 0);
  EXPECT_EQ(conn->get(SKV_CONN_OPEN), 1);
}

TEST(ProcessFaults, AScannerCostsOneClosedSocket) {
  LeakWatch watch;
  Server server;
  {
    RawSocket scanner(server.uri);
    scanner.say("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
    EXPECT_TRUE(scanner.closes_within(5000));
  }
  EXPECT_EQ(server.endpoint.stats().handshakes_failed, 1u);
  EXPECT_EQ(status_of([&] { server.endpoint.accept(deadline_ms(20)); }), SKV_E_TIMED_OUT);
}

TEST(ProcessFaults, APeerThatSaysNothingIsClosedAfterTheHandshakeTime) {
  LeakWatch watch;
  Server server;
  RawSocket silent(server.uri), half(server.uri);
  half.say("SKVK");
  EXPECT_TRUE(silent.closes_within(5000));
  EXPECT_TRUE(half.closes_within(5000));
  EXPECT_EQ(server.endpoint.stats().handshakes_failed, 2u);
}

TEST(ProcessFaults, RandomBytesNeverGetThrough) {
  LeakWatch watch;
  Server server;
  std::mt19937 random(1);
  for (int i = 0; i < 50; i++) {
    RawSocket noise(server.uri);
    std::vector<std::byte> bytes(1 + random() % 5000);
    for (auto& b : bytes) b = static_cast<std::byte>(random());
    if (i % 2 == 1) std::memcpy(bytes.data(), "SKVK", std::min<std::size_t>(4, bytes.size()));
    noise.say(bytes);
    ::shutdown(noise.fd(), SHUT_WR);
    ASSERT_TRUE(noise.closes_within(5000)) << i;
  }
  EXPECT_EQ(server.endpoint.stats().handshakes_ok, 0u);
  // And the endpoint still works.
  Endpoint client;
  EXPECT_NE(client.connect(server.uri.c_str(), deadline_ms(kSoon)), nullptr);
}

TEST(ProcessFaults, GarbageAfterTheHandshakeEndsTheConnectionInProtocol) {
  LeakWatch watch;
  Server server;
  HandPeer peer(server.uri);
  const auto conn = server.endpoint.accept(deadline_ms(kSoon));
  const auto request = conn->recv_offer(deadline_ms(kSoon));
  peer.socket.say(std::string(64, 'x'));
  EXPECT_EQ(status_of([&] { request->wait(deadline_ms(kSoon)); }), SKV_E_PROTOCOL);
  EXPECT_EQ(server.endpoint.stats().protocol_errors, 1u);
  while (peer.session.is_open()) peer.step();
  EXPECT_EQ(peer.events.back().status, SKV_E_PROTOCOL) << "the peer is told";
}

TEST(ProcessFaults, ConnectingToSomethingElseEndsWithinTheDeadline) {
  LeakWatch watch;
  const int listener = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in at{};
  at.sin_family = AF_INET;
  at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof at;
  ASSERT_EQ(::bind(listener, reinterpret_cast<sockaddr*>(&at), sizeof at), 0);
  ASSERT_EQ(::listen(listener, 4), 0);
  ASSERT_EQ(::getsockname(listener, reinterpret_cast<sockaddr*>(&at), &size), 0);
  const std::string uri = "tcp://127.0.0.1:" + std::to_string(ntohs(at.sin_port));
  {
    Endpoint client;
    const std::uint64_t start = now_ns();
    EXPECT_EQ(status_of([&] { client.connect(uri.c_str(), deadline_ms(200)); }), SKV_E_TIMED_OUT);
    EXPECT_LT((now_ns() - start) / 1'000'000, 200u + 2000u);
    std::thread web([&] {
      ::close(::accept(listener, nullptr, nullptr));  // the one that gave up
      const int fd = ::accept(listener, nullptr, nullptr);
      EXPECT_GT(::send(fd, "HTTP/1.1 400 Bad Request\r\n\r\n", 28, MSG_NOSIGNAL), 0);
      ::shutdown(fd, SHUT_WR);
      char sink[4096];
      while (::recv(fd, sink, sizeof sink, 0) > 0) {
      }
      ::close(fd);
    });
    EXPECT_EQ(status_of([&] { client.connect(uri.c_str(), deadline_ms(kSoon)); }), SKV_E_PROTOCOL);
    web.join();
  }
  ::close(listener);
}

}  // namespace
}  // namespace skv::transport
