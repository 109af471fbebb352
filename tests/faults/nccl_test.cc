// SPDX-License-Identifier: Apache-2.0
// What can go wrong with NCCL, by way of a libnccl.so.2 that does it on demand (tests/nccl): each ends in its own
// status, in bounded time, with nothing written, and the conn goes on or says why not.
#include <dlfcn.h>
#include <signal.h>
#include <sys/wait.h>

#include <cstdlib>
#include <functional>
#include <optional>

#include "sim.h"
#include "tests/nccl/fake_nccl.h"
#include "tests/nccl/host_device.h"
#include "transport/nccl_library.h"
#include "watch.h"

namespace skv::transport {
namespace {

constexpr const char* kFake = SKV_FAKE_NCCL;

FakeNccl& fake() {
  static auto* const it = [] {
    void* library = ::dlopen(kFake, RTLD_NOW | RTLD_LOCAL);
    EXPECT_NE(library, nullptr) << ::dlerror();
    return static_cast<FakeNccl*>(::dlsym(library, "fake_nccl"));
  }();
  return *it;
}

void on_nccl(Endpoint& endpoint, HostDevices& devices, int device, const char* library = kFake) {
  endpoint.set(SKV_ENDPOINT_PLANES, 1 << SKV_PLANE_NCCL);
  endpoint.set(SKV_ENDPOINT_DEVICE, device);
  if (library != nullptr) endpoint.set_library(SKV_PLANE_NCCL, library);
  endpoint.use_device_calls(devices);
}

std::string message_of(const std::function<void()>& f) {
  try {
    f();
  } catch (const Error& error) {
    return error.message();
  }
  return "";
}

class Environment {
 public:
  Environment(const char* name, const char* value) : name_(name) { ::setenv(name, value, 1); }
  ~Environment() { ::unsetenv(name_); }

 private:
  const char* name_;
};

// Two ends in this process, on two devices.
struct Pair {
  explicit Pair(std::uint64_t abort_ms = 5000, const char* library = kFake) {
    fake().reset();
    on_nccl(a, devices, 0, library);
    on_nccl(b, devices, 1, library);
    for (Endpoint* end : {&a, &b}) end->set(SKV_ENDPOINT_ABORT_MS, static_cast<std::int64_t>(abort_ms));
    char bound[64];
    a.listen("tcp://127.0.0.1:0", bound, sizeof bound);
    at_b = b.connect(bound, deadline_ms(kSoon));
    at_a = a.accept(deadline_ms(kSoon));
  }
  // What both ends of one transfer end in.
  struct Outcome {
    skv_status sent, received;
    std::string why;
    std::uint64_t ms;
  };
  Outcome move(const Parcel& parcel, std::uint64_t deadline = kSoon, bool check = true) {
    const std::uint64_t begin = now_ns();
    const auto send = at_b->send(1, parcel, deadline_ms(deadline));
    const auto receive = at_a->recv_offer(deadline_ms(kSoon));
    EXPECT_EQ(receive->wait(deadline_ms(kSoon)), SKV_OK);
    receive->accept(nullptr, 0, deadline_ms(deadline));
    Outcome outcome{SKV_OK, SKV_OK, "", 0};
    outcome.why = message_of([&] { send->wait(deadline_ms(kSoon)); });
    outcome.sent = status_of([&] { send->wait(deadline_ms(kSoon)); });
    outcome.received = status_of([&] { receive->wait(deadline_ms(kSoon)); });
    outcome.ms = (now_ns() - begin) / 1'000'000;
    if (outcome.received == SKV_OK && check) {
      EXPECT_TRUE(equal(receive->take().bytes, parcel.bytes));
    }
    return outcome;
  }
  void expect_good() {
    const Outcome outcome = move(make_parcel(1'000'000, 3, 9));
    EXPECT_EQ(outcome.sent, SKV_OK) << outcome.why;
    EXPECT_EQ(outcome.received, SKV_OK);
  }

  HostDevices& devices = *new HostDevices;  // what is poisoned hangs in it for ever
  Endpoint a, b;
  std::shared_ptr<Conn> at_a, at_b;
};

TEST(NcclLibrary, IsLookedForInOrder) {
  fake().reset();
  EXPECT_EQ(NcclLibrary::load(kFake)->where(), kFake);
  {
    const Environment named("SPECTRUMKV_NCCL_LIBRARY", SKV_FAKE_NCCL_WITHOUT_REVOKE);
    EXPECT_EQ(NcclLibrary::load("")->where(), SKV_FAKE_NCCL_WITHOUT_REVOKE);
    EXPECT_EQ(NcclLibrary::load(kFake)->where(), kFake) << "what is set goes before the environment";
  }
  // One that the process has, by its name.
  EXPECT_EQ(NcclLibrary::load("")->where(), "libnccl.so.2 of this process");
}

TEST(NcclLibrary, OptionalFunctionsMayBeMissingRequiredOnesAreNamed) {
  const auto library = NcclLibrary::load(SKV_FAKE_NCCL_WITHOUT_REVOKE);
  EXPECT_EQ(library->call().CommRevoke, nullptr);
  EXPECT_EQ(library->call().GetLastError, nullptr);
  EXPECT_EQ(status_of([] { NcclLibrary::load(SKV_FAKE_NCCL_WITHOUT_SEND); }), SKV_E_UNAVAILABLE);
  const std::string why = message_of([] { NcclLibrary::load(SKV_FAKE_NCCL_WITHOUT_SEND); });
  EXPECT_NE(why.find("lacks ncclSend"), std::string::npos) << why;
}

TEST(NcclLibrary, AbsentOldOrBlockingIsRefusedAndTheEndpointStaysUsable) {
  HostDevices& devices = host_devices();
  const auto listens = [&](const char* library) {
    Endpoint endpoint;
    on_nccl(endpoint, devices, 0, library);
    char bound[64];
    const skv_status status = status_of([&] { endpoint.listen("tcp://127.0.0.1:0", bound, sizeof bound); });
    if (status != SKV_OK) {  // nothing was begun: another plane will do
      endpoint.set(SKV_ENDPOINT_PLANES, 1 << SKV_PLANE_INLINE);
      endpoint.listen("tcp://127.0.0.1:0", bound, sizeof bound);
    }
    return status;
  };
  EXPECT_EQ(listens("/nowhere/libnccl.so.2"), SKV_E_UNAVAILABLE);
  fake().version = 21805;
  EXPECT_EQ(listens(kFake), SKV_E_NCCL_VERSION);
  fake().reset();
  {
    const Environment blocking("NCCL_COMM_BLOCKING", "1");
    EXPECT_EQ(listens(kFake), SKV_E_UNAVAILABLE);
  }
  const Environment not_blocking("NCCL_COMM_BLOCKING", "0");
  EXPECT_EQ(listens(kFake), SKV_OK);
  devices.no_driver = 100;
  EXPECT_EQ(listens(kFake), SKV_E_UNAVAILABLE);
  devices.no_driver = 0;
  devices.devices = 0;
  EXPECT_EQ(listens(kFake), SKV_E_UNAVAILABLE);
  devices.devices = 4;
}

TEST(Nccl, EndsOfDifferentVersionsRefuseEachOther) {
  fake().reset();
  Endpoint a, b;
  on_nccl(a, host_devices(), 0);
  on_nccl(b, host_devices(), 1);
  char bound[64];
  a.listen("tcp://127.0.0.1:0", bound, sizeof bound);
  fake().version = 22800;
  const std::string why = message_of([&] { b.connect(bound, deadline_ms(kSoon)); });
  EXPECT_NE(why.find("22800"), std::string::npos) << why;
  EXPECT_NE(why.find("22701"), std::string::npos) << why;
  EXPECT_EQ(status_of([&] { b.connect(bound, deadline_ms(kSoon)); }), SKV_E_NCCL_VERSION);
  Endpoint inlined;
  EXPECT_EQ(status_of([&] { inlined.connect(bound, deadline_ms(kSoon)); }), SKV_E_UNAVAILABLE) << "never switched";
  fake().reset();
}

TEST(Nccl, NoIdIsMadeBeforeThePeerIsReadyAndOneServesAllTransfersOfADirection) {
  Pair pair;
  EXPECT_EQ(pair.at_a->get(SKV_CONN_PLANE), SKV_PLANE_NCCL);
  const auto send = pair.at_b->send(1, make_parcel(1000, 1, 1), deadline_ms(kSoon));
  const auto receive = pair.at_a->recv_offer(deadline_ms(kSoon));
  ASSERT_EQ(receive->wait(deadline_ms(kSoon)), SKV_OK);
  EXPECT_EQ(fake().ids, 0) << "it costs a thread and a port";
  receive->accept(nullptr, 0, deadline_ms(kSoon));
  ASSERT_EQ(send->wait(deadline_ms(kSoon)), SKV_OK);
  for (int i = 0; i < 5; i++) pair.expect_good();
  EXPECT_EQ(fake().ids, 1);
  EXPECT_EQ(fake().comms, 2);
  EXPECT_EQ(fake().aborts, 0);
  EXPECT_GE(fake().most_ctas, 4);
  EXPECT_LE(fake().most_ctas, 8);
}

TEST(Nccl, EndsOnOneDeviceCopyThere) {
  fake().reset();
  HostDevices& devices = *new HostDevices;
  Endpoint a, b;
  on_nccl(a, devices, 2);
  on_nccl(b, devices, 2);
  char bound[64];
  a.listen("tcp://127.0.0.1:0", bound, sizeof bound);
  const auto at_b = b.connect(bound, deadline_ms(kSoon));
  const auto at_a = a.accept(deadline_ms(kSoon));
  const Parcel parcel = make_parcel(5'000'000, 4, 1);
  const auto send = at_b->send(1, parcel, deadline_ms(kSoon));
  const auto receive = at_a->recv_offer(deadline_ms(kSoon));
  ASSERT_EQ(receive->wait(deadline_ms(kSoon)), SKV_OK);
  receive->accept(nullptr, 0, deadline_ms(kSoon));
  ASSERT_EQ(receive->wait(deadline_ms(kSoon)), SKV_OK);
  EXPECT_TRUE(equal(receive->take().bytes, parcel.bytes));
  EXPECT_EQ(fake().comms, 0);
  EXPECT_GT(devices.copies, 0);
}

TEST(Nccl, MemoryThatIsNotTheDevicesIsRefused) {
  Pair pair;
  pair.devices.reach_all = false;
  const Parcel host = make_parcel(1000, 1, 1);
  EXPECT_EQ(status_of([&] { pair.at_b->send(1, host, deadline_ms(kSoon)); }), SKV_E_ARGUMENT);
  const auto on_device = [&](int device, std::size_t bytes) {
    pair.devices.use(device);
    void* memory = nullptr;
    EXPECT_EQ(pair.devices.allocate(&memory, bytes), 0);
    return std::shared_ptr<std::byte>(static_cast<std::byte*>(memory), [&](std::byte* p) { pair.devices.release(p); });
  };
  const auto here = on_device(1, 1000), elsewhere = on_device(3, 1024);
  std::memcpy(here.get(), host.bytes.data(), 1000);
  Parcel parcel = host;
  parcel.bytes = {elsewhere.get(), 1000};
  EXPECT_EQ(status_of([&] { pair.at_b->send(1, parcel, deadline_ms(kSoon)); }), SKV_E_RANGE);
  parcel.bytes = {here.get(), 1000};
  const auto send = pair.at_b->send(1, parcel, deadline_ms(kSoon));
  const auto receive = pair.at_a->recv_offer(deadline_ms(kSoon));
  ASSERT_EQ(receive->wait(deadline_ms(kSoon)), SKV_OK);
  alignas(16) std::byte plain[1024] = {};
  EXPECT_EQ(status_of([&] { receive->accept(plain, sizeof plain, deadline_ms(kSoon)); }), SKV_E_ARGUMENT);
  EXPECT_EQ(status_of([&] { receive->accept(elsewhere.get(), 1024, deadline_ms(kSoon)); }), SKV_E_RANGE);
  pair.devices.memory = 10;
  EXPECT_EQ(status_of([&] { receive->accept(nullptr, 0, deadline_ms(kSoon)); }), SKV_E_NO_MEMORY);
  pair.devices.memory = -1;
  for (const std::byte byte : plain) ASSERT_EQ(byte, std::byte{0});
  receive->accept(nullptr, 0, deadline_ms(kSoon));  // the offer still stands
  ASSERT_EQ(receive->wait(deadline_ms(kSoon)), SKV_OK);
  EXPECT_TRUE(equal(receive->take().bytes, host.bytes));
  EXPECT_EQ(send->wait(deadline_ms(kSoon)), SKV_OK);
}

TEST(Nccl, AChangedByteIsAChecksumAtBothEnds) {
  Pair pair;
  pair.expect_good();
  fake().corrupt_at = fake().calls + 4;  // the second of two starts, its sends, then receives
  std::optional<Pair::Outcome> bad;
  for (int i = 1; i < 12 && !bad; i++) {
    fake().corrupt_at = fake().calls + i;
    const Pair::Outcome outcome = pair.move(make_parcel(100'000, 1, 2), kSoon, false);
    if (outcome.sent != SKV_OK) bad = outcome;
  }
  ASSERT_TRUE(bad);
  EXPECT_EQ(bad->sent, SKV_E_CHECKSUM) << bad->why;
  EXPECT_EQ(bad->received, SKV_E_CHECKSUM);
  fake().corrupt_at = 0;
  pair.expect_good();
}

TEST(Nccl, EveryCallThatFailsIsToldAndTheNextTransferIsGood) {
  bool beyond = false;
  int failures = 0;
  for (int call = 1; !beyond && call < 40; call++) {
    Pair pair;
    fake().fail_at = call;
    const Pair::Outcome outcome = pair.move(make_parcel(300'000, 2, 1));
    beyond = outcome.sent == SKV_OK && outcome.received == SKV_OK;
    if (beyond) continue;
    failures++;
    EXPECT_EQ(outcome.sent, SKV_E_NCCL) << call << ": " << outcome.why;
    EXPECT_EQ(outcome.received, SKV_E_NCCL) << call;
    EXPECT_NE(outcome.why.find("nccl"), std::string::npos) << outcome.why;
    fake().fail_at = 0;
    pair.expect_good();
  }
  EXPECT_TRUE(beyond);
  EXPECT_GE(failures, 8);
  fake().reset();
}

TEST(Nccl, EveryCallThatHangsIsEndedByTheDeadline) {
  bool beyond = false;
  for (int call = 1; !beyond && call < 40; call++) {
    Pair pair(500);
    fake().hang_at = call;
    const Pair::Outcome outcome = pair.move(make_parcel(300'000, 2, 1), 300);
    beyond = outcome.sent == SKV_OK && outcome.received == SKV_OK;
    if (beyond) continue;
    // Where there is a communicator it is aborted and the thread comes back; where there is none it is given up.
    const auto known = [](skv_status s) {
      return s == SKV_E_TIMED_OUT || s == SKV_E_NCCL || s == SKV_E_POISONED || s == SKV_E_UNAVAILABLE;
    };
    EXPECT_TRUE(known(outcome.sent)) << call << ": " << status_name(outcome.sent) << " " << outcome.why;
    EXPECT_TRUE(known(outcome.received)) << call << ": " << status_name(outcome.received);
    EXPECT_LT(outcome.ms, 10'000u);
    fake().hang_at = 0;
    if (outcome.sent == SKV_E_POISONED || outcome.received == SKV_E_POISONED) {
      const skv_status next = status_of([&] {
        const auto send = pair.at_b->send(1, make_parcel(10, 0, 1), deadline_ms(kSoon));
        const auto receive = pair.at_a->recv_offer(deadline_ms(kSoon));
        receive->wait(deadline_ms(kSoon));
        receive->accept(nullptr, 0, deadline_ms(kSoon));
      });
      EXPECT_EQ(next, SKV_E_POISONED) << call;
    } else {
      pair.expect_good();
    }
  }
  EXPECT_TRUE(beyond);
  fake().reset();
}

TEST(Nccl, AnAbortThatDoesNotReturnPoisonsAndSaysSo) {
  Pair pair(200);
  pair.expect_good();
  fake().abort_hangs = true;
  fake().hang_at = fake().calls + 3;  // in the middle of a group
  const Pair::Outcome outcome = pair.move(make_parcel(300'000, 2, 1), 300);
  EXPECT_TRUE(outcome.sent == SKV_E_POISONED || outcome.received == SKV_E_POISONED)
      << status_name(outcome.sent) << " " << status_name(outcome.received);
  EXPECT_LT(outcome.ms, 10'000u);
  const std::string why = message_of([&] {
    const auto send = pair.at_b->send(1, make_parcel(10, 0, 1), deadline_ms(kSoon));
    const auto receive = pair.at_a->recv_offer(deadline_ms(kSoon));
    receive->wait(deadline_ms(kSoon));
    receive->accept(nullptr, 0, deadline_ms(kSoon));
  });
  EXPECT_NE(why.find("could not be ended"), std::string::npos) << why;
  fake().reset();
}

TEST(Nccl, ASlowAbortWithinItsBoundIsWaitedFor) {
  Pair pair(5000);
  pair.expect_good();
  fake().abort_ms = 300;
  fake().hang_at = fake().calls + 3;
  const Pair::Outcome outcome = pair.move(make_parcel(300'000, 2, 1), 200);
  EXPECT_NE(outcome.sent, SKV_OK);
  EXPECT_NE(outcome.sent, SKV_E_POISONED);
  EXPECT_NE(outcome.received, SKV_E_POISONED);
  fake().reset();
  pair.expect_good();
}

TEST(Nccl, RevokesWhereTheLibraryCan) {
  for (const bool can : {true, false}) {
    Pair pair(5000, can ? kFake : SKV_FAKE_NCCL_WITHOUT_REVOKE);
    pair.expect_good();
    pair.at_a.reset();
    pair.at_b.reset();
    const std::uint64_t end = deadline_ms(kSoon);
    while (can && fake().aborts < 2 && now_ns() < end) std::this_thread::sleep_for(std::chrono::milliseconds(5));
    EXPECT_EQ(fake().revokes, can ? 2 : 0);
  }
}

// A peer that speaks the protocol by hand: says READY and never comes to the meeting.
TEST(Nccl, APeerThatNeverJoinsCostsTheDeadlineAndTheCommunicator) {
  fake().reset();
  HostDevices& devices = *new HostDevices;
  LeakWatch watch;
  {
    Endpoint a;
    on_nccl(a, devices, 0);
    char bound[64];
    a.listen("tcp://127.0.0.1:0", bound, sizeof bound);
    SessionConfig config;
    config.connecting = true;
    config.planes = plane_bit(SKV_PLANE_NCCL);
    config.nccl_version = 22701;
    HandPeer peer(bound, config);
    ASSERT_TRUE(peer.session.is_open());
    const auto conn = a.accept(deadline_ms(kSoon));
    const auto send = conn->send(1, make_parcel(1000, 1, 1), deadline_ms(600));
    Bytes into(1000);
    std::uint64_t id = 0, end = deadline_ms(kSoon);
    bool announced = false;
    skv_status told = SKV_OK;
    while (now_ns() < end && told == SKV_OK) {
      peer.step();
      for (const Event& event : std::exchange(peer.events, {})) {
        if (event.kind == Event::Kind::kOffered) {
          id = event.id;
          peer.session.accept(id, into, kNever);
          peer.session.ready(id, Ready{});
        }
        if (event.kind == Event::Kind::kReady) {
          announced = true;
          EXPECT_EQ(event.ready->count, 2u);
          EXPECT_EQ(event.ready->words.size(), 136u);
        }
        if (event.kind == Event::Kind::kEnded) told = event.status;
      }
    }
    EXPECT_TRUE(announced);
    EXPECT_EQ(told, SKV_E_TIMED_OUT);
    EXPECT_EQ(status_of([&] { send->wait(deadline_ms(kSoon)); }), SKV_E_TIMED_OUT);
    end = deadline_ms(kSoon);
    while (fake().aborts == 0 && now_ns() < end) std::this_thread::sleep_for(std::chrono::milliseconds(5));
    EXPECT_EQ(fake().aborts, 1);
  }
}

TEST(Nccl, AKilledPeerIsLostAndTheDeviceLetsGo) {
  fake().reset();
  constexpr std::size_t kBig = std::size_t{64} << 20;
  int pipe_ends[2];
  ASSERT_EQ(::pipe(pipe_ends), 0);
  const pid_t child = ::fork();
  if (child == 0) {
    ::close(pipe_ends[1]);
    char uri[64] = {};
    if (::read(pipe_ends[0], uri, sizeof uri - 1) <= 0) ::_exit(1);
    try {
      Endpoint endpoint;
      on_nccl(endpoint, *new HostDevices, 1);
      const auto conn = endpoint.connect(uri, deadline_ms(kSoon));
      const Parcel parcel = make_parcel(kBig, 16, 1);
      for (;;) conn->send(1, parcel, deadline_ms(60'000))->wait(deadline_ms(60'000));
    } catch (const Error&) {
    }
    ::_exit(0);
  }
  ::close(pipe_ends[0]);
  {
    HostDevices& devices = *new HostDevices;
    LeakWatch watch;
    Endpoint endpoint;
    on_nccl(endpoint, devices, 0);
    char bound[64];
    endpoint.listen("tcp://127.0.0.1:0", bound, sizeof bound);
    ASSERT_GT(::write(pipe_ends[1], bound, sizeof bound), 0);
    const auto conn = endpoint.accept(deadline_ms(kSoon));
    const auto receive = conn->recv_offer(deadline_ms(kSoon));
    ASSERT_EQ(receive->wait(deadline_ms(kSoon)), SKV_OK);
    receive->accept(nullptr, 0, deadline_ms(kSoon));
    const std::uint64_t end = deadline_ms(kSoon);
    while (receive->get(SKV_REQUEST_MOVED) == 0 && now_ns() < end) std::this_thread::yield();
    ::kill(child, SIGKILL);
    const std::uint64_t begin = now_ns();
    skv_status status = status_of([&] { receive->wait(deadline_ms(kSoon)); });
    if (status == SKV_OK) {  // all of this one had arrived
      status = status_of([&] {
        const auto next = conn->recv_offer(deadline_ms(kSoon));
        next->wait(deadline_ms(kSoon));
        next->accept(nullptr, 0, deadline_ms(kSoon));
        next->wait(deadline_ms(kSoon));
      });
    }
    EXPECT_TRUE(status == SKV_E_PEER_LOST || status == SKV_E_CLOSED) << status_name(status);
    EXPECT_LT((now_ns() - begin) / 1'000'000, 5000u);
  }
  ::close(pipe_ends[1]);
  ::waitpid(child, nullptr, 0);
}

TEST(Nccl, AStreamWaitsForALayer) {
  Pair pair;
  Parcel parcel = make_parcel(400'000, 3, 7);
  parcel.ready = 2;
  const auto send = pair.at_b->send(1, parcel, deadline_ms(kSoon));
  const auto receive = pair.at_a->recv_offer(deadline_ms(kSoon));
  ASSERT_EQ(receive->wait(deadline_ms(kSoon)), SKV_OK);
  EXPECT_EQ(status_of([&] { receive->stream_wait(0, nullptr); }), SKV_E_STATE);
  std::vector<std::byte> into(400'016);
  auto* at = reinterpret_cast<std::byte*>((reinterpret_cast<std::uintptr_t>(into.data()) + 15) / 16 * 16);
  receive->accept(at, 400'000, deadline_ms(kSoon));
  EXPECT_EQ(status_of([&] { receive->stream_wait(3, nullptr); }), SKV_E_RANGE);
  EXPECT_EQ(status_of([&] { send->stream_wait(0, nullptr); }), SKV_E_STATE);
  void* stream = nullptr;
  ASSERT_EQ(pair.devices.open_stream(&stream), 0);
  std::vector<std::byte> seen(parcel.layer_bytes[1]);
  receive->stream_wait(0, stream);
  const std::size_t begin = parcel.layer_bytes[0];
  ASSERT_EQ(pair.devices.copy(seen.data(), at + begin, seen.size(), stream), 0);
  pair.devices.close_stream(stream);  // waits for what is queued
  EXPECT_TRUE(equal(seen, parcel.bytes.subspan(begin, seen.size())));
  send->extend(4);
  ASSERT_EQ(receive->wait(deadline_ms(kSoon)), SKV_OK);
  receive->stream_wait(2, nullptr);
  EXPECT_EQ(send->wait(deadline_ms(kSoon)), SKV_OK);
}

TEST(Nccl, LentCommunicatorsAreUsedAndNeverAborted) {
  Pair pair;
  const auto library = NcclLibrary::load(kFake);
  const nccl::Table& nccl = library->call();
  nccl::UniqueId id{};
  ASSERT_EQ(nccl.GetUniqueId(&id), nccl::kSuccess);
  nccl::Config config;
  config.blocking = 0;
  nccl::Comm comms[2] = {};
  for (int rank = 0; rank < 2; rank++) {
    ASSERT_EQ(nccl.CommInitRankConfig(&comms[rank], 2, id, rank, &config), nccl::kInProgress);
  }
  for (nccl::Comm comm : comms) {
    nccl::Result state = nccl::kInProgress;
    while (state == nccl::kInProgress) ASSERT_EQ(nccl.CommGetAsyncError(comm, &state), nccl::kSuccess);
    ASSERT_EQ(state, nccl::kSuccess);
  }
  EXPECT_EQ(status_of([&] { pair.at_b->lend(nullptr, true); }), SKV_E_NULL);
  EXPECT_EQ(status_of([&] { pair.at_b->lend(comms[0], true); }), SKV_E_RANGE) << "that rank is on device 0";
  pair.at_b->lend(comms[1], true);
  EXPECT_EQ(status_of([&] { pair.at_b->lend(comms[1], true); }), SKV_E_STATE);
  pair.at_a->lend(comms[0], false);
  for (int i = 0; i < 3; i++) pair.expect_good();
  EXPECT_EQ(fake().comms, 2) << "none but these";
  EXPECT_EQ(status_of([&] { pair.at_a->lend(comms[0], true); }), SKV_E_STATE) << "after the first transfer";
  pair.at_a.reset();
  pair.at_b.reset();
  pair.a.close();
  pair.b.close();
  EXPECT_EQ(fake().aborts, 0);
  for (nccl::Comm comm : comms) EXPECT_EQ(nccl.CommAbort(comm), nccl::kSuccess);
}

// -------------------------------------------------------------------------------------------- the protocol by itself

struct External {
  External() : sim(config(true), config(false)) {
    sim.run();
    id = sim.offer(sim.a, bytes, 3);
    sim.run();
  }
  static SessionConfig config(bool connecting) {
    SessionConfig config = sim_config(connecting);
    config.planes = plane_bit(SKV_PLANE_NCCL);
    config.nccl_version = 22701;
    return config;
  }
  void accept() {
    sim.b.session.accept(id, got, kNever);
    sim.run();
  }
  void say(SimEnd& to, FrameType type, const Bytes& body) {
    FrameHeader header;
    header.type = type;
    header.epoch = sim.a.session.epoch();
    header.transfer_id = id;
    header.length = static_cast<std::uint32_t>(body.size());
    sim.give(to, raw_frame(header, body));
  }
  Sim sim;
  Bytes bytes = make_bytes(20'000, 5), got = Bytes(20'000);
  std::uint64_t id = 0;
};

TEST(NcclSession, BytesMoveBetweenReadyAndCommit) {
  External it;
  it.accept();
  EXPECT_NE(it.sim.a.find(Event::Kind::kAccepted, it.id), nullptr);
  it.sim.b.session.ready(it.id, Ready{});
  it.sim.run();
  ASSERT_NE(it.sim.a.find(Event::Kind::kReady, it.id), nullptr);
  it.sim.a.session.ready(it.id, Ready{0, 4, Bytes(8)});
  it.sim.run();
  ASSERT_NE(it.sim.b.find(Event::Kind::kReady, it.id), nullptr);
  EXPECT_EQ(it.sim.b.find(Event::Kind::kReady, it.id)->ready->count, 4u);
  it.sim.a.session.completed(it.id, DigestRoot{7, 1});
  it.sim.run();
  EXPECT_EQ(it.sim.b.status(it.id), SKV_IN_PROGRESS) << "its own side of the plane is not done";
  it.sim.b.session.arrived(it.id, 4, 20'000);
  it.sim.b.session.completed(it.id, DigestRoot{7, 1});
  it.sim.run();
  EXPECT_EQ(it.sim.b.status(it.id), SKV_OK);
  EXPECT_EQ(it.sim.a.status(it.id), SKV_OK);
  EXPECT_EQ(it.sim.b.find(Event::Kind::kEnded, it.id)->moved, 20'000u);
}

TEST(NcclSession, AnotherRootIsAChecksum) {
  External it;
  it.accept();
  it.sim.b.session.ready(it.id, Ready{});
  it.sim.run();
  it.sim.a.session.ready(it.id, Ready{0, 4, {}});
  it.sim.a.session.completed(it.id, DigestRoot{7, 1});
  it.sim.run();
  it.sim.b.session.completed(it.id, DigestRoot{8, 1});
  it.sim.run();
  EXPECT_EQ(it.sim.b.status(it.id), SKV_E_CHECKSUM);
  EXPECT_EQ(it.sim.a.status(it.id), SKV_E_CHECKSUM);
}

TEST(NcclSession, WhatIsOutOfTurnIsAProtocolError) {
  const auto broken = [](const std::function<void(External&)>& misbehave, bool at_sender) {
    External it;
    it.accept();
    misbehave(it);
    EXPECT_EQ((at_sender ? it.sim.a : it.sim.b).closed(), SKV_E_PROTOCOL);
  };
  const auto ready = [](std::uint32_t first, std::uint32_t count) { return encode(Ready{first, count, {}}); };
  broken([&](External& it) { it.say(it.sim.b, FrameType::kReady, ready(0, 1)); }, false);  // before the receiver's
  broken([&](External& it) { it.say(it.sim.a, FrameType::kReady, ready(0, 1)); }, true);   // a receiver has no entries
  broken(
      [&](External& it) {
        it.say(it.sim.a, FrameType::kReady, ready(0, 0));
        it.say(it.sim.a, FrameType::kReady, ready(0, 0));
      },
      true);
  for (const auto& [first, count] : {std::pair{1u, 1u}, {0u, 0u}, {0u, 5u}, {0u, 0xffff'ffffu}}) {
    broken(
        [&](External& it) {
          it.sim.b.session.ready(it.id, Ready{});
          it.sim.run();
          it.say(it.sim.b, FrameType::kReady, ready(first, count));
        },
        false);
  }
  broken([&](External& it) { it.say(it.sim.a, FrameType::kCredit, encode(Credit{100})); }, true);
  broken([&](External& it) { it.say(it.sim.b, FrameType::kCommit, encode(Commit{20'000, 1, 1, 4})); }, false);
  broken([&](External& it) { it.say(it.sim.b, FrameType::kData, Bytes(100)); }, false);
  // ACCEPT of other operations.
  External it;
  it.say(it.sim.a, FrameType::kAccept, encode(Accept{20'000, 4, 12345}));
  EXPECT_EQ(it.sim.a.closed(), SKV_E_PROTOCOL);
}

}  // namespace
}  // namespace skv::transport
