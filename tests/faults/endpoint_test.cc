// SPDX-License-Identifier: Apache-2.0
// The objects around the session: options, addresses, queues, lifetimes.
#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <atomic>
#include <optional>

#include "watch.h"

namespace skv::transport {
namespace {

std::string listen_on(Endpoint& endpoint, const std::string& uri) {
  char bound[256];
  endpoint.listen(uri.c_str(), bound, sizeof bound);
  return bound;
}

std::string name(const char* what) { return std::string(what) + "-" + std::to_string(::getpid()); }

TEST(Endpoint, OptionsAreCheckedAndFrozenOnceUsed) {
  Endpoint endpoint;
  EXPECT_EQ(status_of([&] { endpoint.set(0, 1); }), SKV_E_KEY);
  EXPECT_EQ(status_of([&] { endpoint.set(SKV_ENDPOINT_CHUNK, 4095); }), SKV_E_RANGE);
  EXPECT_EQ(status_of([&] { endpoint.set(SKV_ENDPOINT_CHUNK, 1 << 21); }), SKV_E_RANGE);
  EXPECT_EQ(status_of([&] { endpoint.set(SKV_ENDPOINT_HEARTBEAT_MS, 0); }), SKV_E_RANGE);
  EXPECT_EQ(status_of([&] { endpoint.set_model(nullptr); }), SKV_E_NULL);
  endpoint.set(SKV_ENDPOINT_CHUNK, 4096);
  listen_on(endpoint, "inproc://" + name("frozen"));
  EXPECT_EQ(status_of([&] { endpoint.set(SKV_ENDPOINT_CHUNK, 4096); }), SKV_E_STATE);
  EXPECT_EQ(status_of([&] { endpoint.progress(deadline_ms(1)); }), SKV_E_STATE);
}

TEST(Endpoint, AddressesThatMakeNoSenseAreRefused) {
  Endpoint endpoint;
  for (const char* uri :
       {"", "tcp:/", "tcp://", "tcp://127.0.0.1", "tcp://127.0.0.1:", "tcp://127.0.0.1:x", "tcp://127.0.0.1:65536",
        "tcp://:1", "tcp://[::1]", "unix://", "unix://relative", "unix://@", "inproc://", "http://x"}) {
    EXPECT_EQ(status_of([&] { endpoint.listen(uri, nullptr, 0); }), SKV_E_ADDRESS) << uri;
    EXPECT_EQ(status_of([&] { endpoint.connect(uri, deadline_ms(kSoon)); }), SKV_E_ADDRESS) << uri;
  }
  EXPECT_EQ(status_of([&] { endpoint.listen(nullptr, nullptr, 0); }), SKV_E_NULL);
  EXPECT_EQ(status_of([&] { endpoint.listen(("unix:///" + std::string(200, 'x')).c_str(), nullptr, 0); }),
            SKV_E_ADDRESS);
}

TEST(Endpoint, OpenTcpNeedsPermission) {
  Endpoint endpoint;
  EXPECT_EQ(status_of([&] { endpoint.listen("tcp://0.0.0.0:0", nullptr, 0); }), SKV_E_PERMITTED);
  endpoint.set(SKV_ENDPOINT_ALLOW_OPEN_TCP, 1);  // the refusal froze nothing
  EXPECT_EQ(status_of([&] { endpoint.listen("tcp://0.0.0.0:0", nullptr, 0); }), SKV_OK);
}

TEST(Endpoint, HostNamesAreLookedUp) {
  Endpoint server, client;
  const std::string bound = listen_on(server, "tcp://127.0.0.1:0");
  const auto port = bound.substr(bound.rfind(':'));
  EXPECT_NE(client.connect(("tcp://localhost" + port).c_str(), deadline_ms(kSoon)), nullptr);
  EXPECT_EQ(status_of([&] { client.connect("tcp://no-such-host.invalid:1", deadline_ms(kSoon)); }), SKV_E_ADDRESS);
}

TEST(Endpoint, NobodyListeningIsAnAddressError) {
  LeakWatch watch;
  Endpoint endpoint;
  std::string free_port;
  {
    Endpoint other;
    free_port = listen_on(other, "tcp://127.0.0.1:0");
  }
  for (const std::string& uri : {free_port, std::string("unix://@") + name("nobody"), std::string("unix:///tmp/none"),
                                 std::string("inproc://") + name("nobody")}) {
    EXPECT_EQ(status_of([&] { endpoint.connect(uri.c_str(), deadline_ms(kSoon)); }), SKV_E_ADDRESS) << uri;
  }
}

TEST(Endpoint, ABoundBufferTooSmallUndoesTheListening) {
  Endpoint endpoint;
  const std::string uri = "inproc://" + name("small");
  char bound[4];
  EXPECT_EQ(status_of([&] { endpoint.listen(uri.c_str(), bound, sizeof bound); }), SKV_E_TOO_SMALL);
  EXPECT_EQ(status_of([&] { endpoint.listen(uri.c_str(), nullptr, 0); }), SKV_OK) << "the name must be free again";
  EXPECT_EQ(status_of([&] { endpoint.listen(uri.c_str(), nullptr, 0); }), SKV_E_ADDRESS) << "and now it is taken";
}

TEST(Endpoint, SocketFilesAreRespectedReplacedAndRemoved) {
  LeakWatch watch;
  const std::string path = "/tmp/" + name("skv-endpoint") + ".sock", uri = "unix://" + path;
  struct stat st;
  {
    // Left behind by a process that died.
    const int fd = ::socket(AF_UNIX, SOCK_STREAM, 0);
    sockaddr_un at{};
    at.sun_family = AF_UNIX;
    std::strncpy(at.sun_path, path.c_str(), sizeof at.sun_path - 1);
    ASSERT_EQ(::bind(fd, reinterpret_cast<sockaddr*>(&at), sizeof at), 0);
    ::close(fd);
  }
  {
    Endpoint first, second;
    EXPECT_EQ(status_of([&] { first.listen(uri.c_str(), nullptr, 0); }), SKV_OK);
    EXPECT_EQ(status_of([&] { second.listen(uri.c_str(), nullptr, 0); }), SKV_E_ADDRESS);
    EXPECT_NE(second.connect(uri.c_str(), deadline_ms(kSoon)), nullptr);
  }
  EXPECT_NE(::lstat(path.c_str(), &st), 0) << "removed at the end";
  const int file = ::creat(path.c_str(), 0600);
  ::close(file);
  Endpoint endpoint;
  EXPECT_EQ(status_of([&] { endpoint.listen(uri.c_str(), nullptr, 0); }), SKV_E_ADDRESS);
  EXPECT_EQ(::lstat(path.c_str(), &st), 0) << "not ours to remove";
  ::unlink(path.c_str());
}

TEST(Endpoint, TheConnectionCapHolds) {
  LeakWatch watch;
  Endpoint server, client;
  server.set(SKV_ENDPOINT_MAX_CONNS, 2);
  const std::string uri = listen_on(server, "tcp://127.0.0.1:0");
  const auto one = client.connect(uri.c_str(), deadline_ms(kSoon));
  auto two = client.connect(uri.c_str(), deadline_ms(kSoon));
  EXPECT_EQ(status_of([&] { client.connect(uri.c_str(), deadline_ms(kSoon)); }), SKV_E_NO_RESOURCE);
  EXPECT_EQ(server.stats().conns, 2u);
  Endpoint single;
  single.set(SKV_ENDPOINT_MAX_CONNS, 1);
  listen_on(single, "inproc://" + name("single"));
  two.reset();
  const std::uint64_t end = deadline_ms(kSoon);
  while (server.stats().conns == 2 && now_ns() < end) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  const auto other = single.connect(uri.c_str(), deadline_ms(kSoon));
  EXPECT_EQ(status_of([&] { single.connect(uri.c_str(), deadline_ms(kSoon)); }), SKV_E_NO_RESOURCE);
}

TEST(Endpoint, PollReportsEveryChangeOnceAndTheDescriptorSaysWhen) {
  Endpoint a, b;
  const auto uri = listen_on(a, "inproc://" + name("poll"));
  const auto at_b = b.connect(uri.c_str(), deadline_ms(kSoon));
  const auto at_a = a.accept(deadline_ms(kSoon));
  const auto readable = [&](Endpoint& endpoint, int ms) {
    pollfd wait{endpoint.fd(), POLLIN, 0};
    return ::poll(&wait, 1, ms) > 0;
  };
  int receive_tag = 0, send_tag = 0;
  std::array<void*, 4> out{};
  EXPECT_FALSE(readable(a, 0));
  const auto receive = at_a->recv_offer(deadline_ms(kSoon));
  receive->set_handle(&receive_tag);
  const auto send = at_b->send(1, make_parcel(100'000, 2, 1), deadline_ms(kSoon));
  ASSERT_TRUE(readable(a, 10'000));
  ASSERT_EQ(a.poll(out), 1u);
  EXPECT_EQ(out[0], &receive_tag);
  EXPECT_FALSE(readable(a, 0));
  EXPECT_EQ(a.poll(out), 0u);
  receive->accept(nullptr, 0, deadline_ms(kSoon));
  ASSERT_TRUE(readable(a, 10'000));
  ASSERT_EQ(a.poll(out), 1u);
  EXPECT_EQ(receive->get(SKV_REQUEST_STATE), SKV_REQUEST_ENDED);
  ASSERT_EQ(send->wait(deadline_ms(kSoon)), SKV_OK);
  EXPECT_FALSE(readable(b, 0)) << "a request without a handle is not reported";
  send->set_handle(&send_tag);
  EXPECT_TRUE(readable(b, 0));
  send->destroy();
  EXPECT_EQ(b.poll(out), 0u) << "nor one that was destroyed";
}

TEST(Endpoint, AnOwnEventLoopCanDriveIt) {
  LeakWatch watch;
  Endpoint server, client;
  for (Endpoint* endpoint : {&server, &client}) endpoint->set(SKV_ENDPOINT_PROGRESS_THREAD, 0);
  const std::string uri = listen_on(server, "tcp://127.0.0.1:0");
  std::atomic<bool> stop{false};
  std::thread loop([&] {
    while (!stop) {
      pollfd wait{server.fd(), POLLIN, 0};
      if (::poll(&wait, 1, 50) > 0) server.progress(now_ns());
    }
  });
  const auto at_client = client.connect(uri.c_str(), deadline_ms(kSoon));
  const auto at_server = server.accept(deadline_ms(kSoon));
  const auto receive = at_server->recv_offer(deadline_ms(kSoon));
  const Parcel parcel = make_parcel(5'000'000, 3, 4);
  const auto send = at_client->send(1, parcel, deadline_ms(kSoon));
  const std::uint64_t end = deadline_ms(kSoon);
  // Nobody waits inside the library: the server's loop and this one do all the work.
  bool accepted = false;
  while (send->test() == SKV_IN_PROGRESS && now_ns() < end) {
    pollfd wait{client.fd(), POLLIN, 0};
    ::poll(&wait, 1, 50);
    client.progress(now_ns());
    if (!accepted && receive->test() == SKV_OK) {
      receive->accept(nullptr, 0, deadline_ms(kSoon));
      accepted = true;
    }
  }
  EXPECT_EQ(send->test(), SKV_OK);
  stop = true;
  loop.join();
  EXPECT_EQ(receive->wait(deadline_ms(kSoon)), SKV_OK);
  EXPECT_TRUE(equal(receive->take().bytes, parcel.bytes));
}

TEST(Endpoint, AnyDestructionOrderIsSafe) {
  LeakWatch watch;
  for (int order = 0; order < 6; order++) {
    for (const char* scheme : {"tcp://127.0.0.1:0", "inproc://order"}) {
      std::optional<Endpoint> a(std::in_place), b(std::in_place);
      const std::string uri = listen_on(*a, scheme);
      auto at_b = b->connect(uri.c_str(), deadline_ms(kSoon));
      auto at_a = a->accept(deadline_ms(kSoon));
      auto receive = at_a->recv_offer(deadline_ms(kSoon));
      auto send = at_b->send(1, make_parcel(8 << 20, 2, 1), deadline_ms(kSoon));
      if (order % 2 == 1) {
        ASSERT_EQ(receive->wait(deadline_ms(kSoon)), SKV_OK);
        receive->accept(nullptr, 0, deadline_ms(kSoon));
      }
      switch (order / 2) {
        case 0:
          a.reset();
          b.reset();
          at_a.reset();
          at_b.reset();
          break;
        case 1:
          at_a.reset();
          b.reset();
          a.reset();
          at_b.reset();
          break;
        default:
          send.reset();
          a.reset();
          at_b.reset();
          receive.reset();
          b.reset();
          break;
      }
      for (const auto& request : {send, receive}) {
        if (!request) continue;
        const skv_status status = status_of([&] { request->wait(deadline_ms(kSoon)); });
        EXPECT_EQ(request->get(SKV_REQUEST_STATE), SKV_REQUEST_ENDED) << order;
        EXPECT_TRUE(status == SKV_E_CANCELLED || status == SKV_E_PEER_LOST || status == SKV_OK) << status_name(status);
      }
    }
  }
}

TEST(Endpoint, DestroyingItWakesWhoeverWaits) {
  LeakWatch watch;
  for (const int threaded : {1, 0}) {
    Endpoint endpoint;
    endpoint.set(SKV_ENDPOINT_PROGRESS_THREAD, threaded);
    listen_on(endpoint, "tcp://127.0.0.1:0");
    std::atomic<bool> waits{false};
    std::thread waiter([&] {
      waits = true;
      EXPECT_EQ(status_of([&] { endpoint.accept(deadline_ms(kSoon)); }), SKV_E_CLOSED);
    });
    while (!waits) std::this_thread::yield();
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    endpoint.close();
    waiter.join();
    EXPECT_EQ(status_of([&] { endpoint.connect("tcp://127.0.0.1:1", deadline_ms(kSoon)); }), SKV_E_CLOSED);
    EXPECT_EQ(status_of([&] { endpoint.accept(deadline_ms(kSoon)); }), SKV_E_CLOSED);
  }
}

TEST(Endpoint, ConnsThatNobodyAcceptedDoNotOutliveTheirPeer) {
  LeakWatch watch;
  Endpoint server, client;
  const std::string uri = listen_on(server, "tcp://127.0.0.1:0");
  client.connect(uri.c_str(), deadline_ms(kSoon)).reset();
  const std::uint64_t end = deadline_ms(kSoon);
  while ((server.stats().conns > 0 || server.stats().handshakes_ok == 0) && now_ns() < end) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  EXPECT_EQ(status_of([&] { server.accept(deadline_ms(30)); }), SKV_E_TIMED_OUT);
}

TEST(Endpoint, WaitLayerChecksItsArgumentsAndSaysWhenLayersAreIn) {
  Endpoint a, b;
  const auto uri = listen_on(a, "inproc://" + name("layers"));
  const auto at_b = b.connect(uri.c_str(), deadline_ms(kSoon));
  const auto at_a = a.accept(deadline_ms(kSoon));
  const auto receive = at_a->recv_offer(deadline_ms(kSoon));
  EXPECT_EQ(status_of([&] { receive->wait_layer(0, deadline_ms(1)); }), SKV_E_STATE);
  EXPECT_EQ(status_of([&] { receive->identity(nullptr, nullptr); }), SKV_E_STATE);
  const auto send = at_b->send(1, make_parcel(100'000, 3, 1), deadline_ms(kSoon));
  ASSERT_EQ(receive->wait(deadline_ms(kSoon)), SKV_OK);
  EXPECT_EQ(receive->wait_layer(0, deadline_ms(1)), SKV_IN_PROGRESS);
  EXPECT_EQ(status_of([&] { receive->wait_layer(3, deadline_ms(1)); }), SKV_E_RANGE);
  EXPECT_EQ(status_of([&] { receive->wait_layer(-1, deadline_ms(1)); }), SKV_E_RANGE);
  EXPECT_EQ(status_of([&] { send->wait_layer(0, deadline_ms(1)); }), SKV_E_STATE);
  EXPECT_EQ(status_of([&] { receive->stream_wait(0, nullptr); }), SKV_E_UNAVAILABLE);
  EXPECT_EQ(status_of([&] { receive->take(); }), SKV_E_STATE);
  receive->accept(nullptr, 0, deadline_ms(kSoon));
  EXPECT_EQ(receive->wait_layer(2, deadline_ms(kSoon)), SKV_OK);
  EXPECT_EQ(receive->wait(deadline_ms(kSoon)), SKV_OK);
  EXPECT_EQ(receive->wait_layer(2, deadline_ms(kSoon)), SKV_OK);
  Received got = receive->take();
  receive->give_back(std::move(got));
  EXPECT_TRUE(equal(receive->take().bytes, make_bytes(100'000, 1)));
}

TEST(Endpoint, ParcelsThatMakeNoSenseAreRefused) {
  Endpoint a, b;
  const auto uri = listen_on(a, "inproc://" + name("parcels"));
  const auto conn = b.connect(uri.c_str(), deadline_ms(kSoon));
  const auto refused = [&](auto change) {
    Parcel parcel = make_parcel(1000, 2, 1);
    change(parcel);
    return status_of([&] { conn->send(1, parcel, deadline_ms(kSoon)); });
  };
  EXPECT_EQ(refused([](Parcel& p) { p.layer_bytes.clear(); }), SKV_E_EMPTY);
  EXPECT_EQ(refused([](Parcel& p) { p.bytes = {}; }), SKV_E_EMPTY);
  EXPECT_EQ(refused([](Parcel& p) { p.layer_bytes[1]++; }), SKV_E_ARGUMENT);
  EXPECT_EQ(refused([](Parcel& p) { p.layer_bytes[1]--; }), SKV_E_ARGUMENT);
  EXPECT_EQ(refused([](Parcel& p) { p.layer_bytes.push_back(0); }), SKV_E_ARGUMENT);
  EXPECT_EQ(refused([](Parcel& p) { p.layer_bytes.assign(4098, 1); }), SKV_E_RANGE);
}

}  // namespace
}  // namespace skv::transport
