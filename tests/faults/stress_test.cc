// SPDX-License-Identifier: Apache-2.0
// Many connections at once, and everything that can go wrong at random: cancels, short deadlines, rejections, slow
// readers, connections dropped, processes killed and stopped; then random faults on the wire between two ends. Small
// here; the sizes of a long run come from the environment:
//   SPECTRUMKV_STRESS_CONNS=64 SPECTRUMKV_STRESS_TRANSFERS=200 SPECTRUMKV_FAULT_RUNS=1000 skv_stress
#include <signal.h>
#include <sys/wait.h>

#include <atomic>
#include <cstdlib>
#include <map>
#include <mutex>
#include <random>

#include "watch.h"

namespace skv::transport {
namespace {

int from_environment(const char* name, int otherwise) {
  const char* text = std::getenv(name);
  return text == nullptr ? otherwise : std::max(1, std::atoi(text));
}

using Random = std::mt19937_64;

// A key says what the bytes are, so that any receiver can check them.
std::uint64_t key_of(std::uint64_t size, std::uint64_t seed) { return size << 32 | (seed & 0xffff'ffff); }
Parcel parcel_of(std::uint64_t key) { return make_parcel(key >> 32, (key & 3) + 1, key); }
bool holds(std::uint64_t key, std::span<const std::byte> bytes) { return equal(bytes, make_bytes(key >> 32, key)); }

std::uint64_t random_size(Random& random) {
  const std::uint64_t shape = random() % 10;
  if (shape < 3) return 1 + random() % 300;
  if (shape < 9) return 1 + random() % 300'000;
  return 1 + random() % 3'000'000;
}

struct Tally {
  std::mutex mutex;
  std::map<skv_status, int> ends;
  void add(skv_status status) {
    std::lock_guard lock(mutex);
    ends[status]++;
  }
  int total() const {
    int sum = 0;
    for (const auto& [status, count] : ends) sum += count;
    return sum;
  }
  std::string text() const {
    std::string out;
    for (const auto& [status, count] : ends)
      out += std::string(status_name(status)) + " " + std::to_string(count) + "  ";
    return out;
  }
};

bool may_end_in(skv_status status) {
  switch (status) {
    case SKV_OK:
    case SKV_E_CANCELLED:
    case SKV_E_TIMED_OUT:
    case SKV_E_PEER_LOST:
    case SKV_E_REJECTED:
      return true;
    default:
      return false;
  }
}

// The status a request ended in. It must end: the deadline it was given is far shorter than this wait.
skv_status end_of(Request& request) {
  const skv_status status = status_of([&] { request.wait(deadline_ms(60'000)); });
  EXPECT_EQ(request.get(SKV_REQUEST_STATE), SKV_REQUEST_ENDED) << "neither an end nor its deadline came";
  EXPECT_TRUE(may_end_in(status)) << status_name(status);
  return status;
}

// Sends `transfers` payloads over connections it makes, and treats some of them badly.
void client(const std::string& uri, int transfers, std::uint64_t seed, Tally* tally) {
  Random random(seed);
  Endpoint endpoint;
  std::shared_ptr<Conn> conn;
  for (int i = 0; i < transfers; i++) {
    std::shared_ptr<Request> request;
    while (!request) {
      try {
        if (!conn) conn = endpoint.connect(uri.c_str(), deadline_ms(30'000));
        const std::uint64_t key = key_of(random_size(random), random());
        request = conn->send(key, parcel_of(key), deadline_ms(random() % 20 == 0 ? 1 + random() % 20 : 20'000));
      } catch (const Error& error) {
        // The connection ended between two transfers, or the deadline was over at once.
        if (error.status() != SKV_E_CLOSED && error.status() != SKV_E_TIMED_OUT) throw;
        if (error.status() == SKV_E_CLOSED) conn.reset();
      }
    }
    switch (random() % 12) {
      case 0:
        request->cancel();
        break;
      case 1:
        std::this_thread::sleep_for(std::chrono::microseconds(random() % 3000));
        request->cancel();
        break;
      case 2:
        if (random() % 4 == 0) conn.reset();  // closes it under the transfer
        break;
      default:
        break;
    }
    const skv_status status = end_of(*request);
    if (tally != nullptr) tally->add(status);
  }
}

// Takes what comes on one connection until it ends. A slow reader sleeps where it could read.
void serve(const std::shared_ptr<Conn>& conn, std::uint64_t seed, Tally& tally) {
  Random random(seed);
  for (;;) {
    std::shared_ptr<Request> request;
    try {
      request = conn->recv_offer(deadline_ms(60'000));
      request->wait(deadline_ms(60'000));
    } catch (const Error&) {
      return;  // no more offers: the connection ended
    }
    const auto key = static_cast<std::uint64_t>(request->get(SKV_REQUEST_KEY));
    const std::uint64_t what = random() % 16;
    if (what == 0) std::this_thread::sleep_for(std::chrono::milliseconds(random() % 30));
    try {
      if (what == 1) {
        request->reject("no");
      } else {
        if (what == 2) request->set(SKV_REQUEST_EARLY_LAYERS, 1);
        request->accept(nullptr, 0, deadline_ms(20'000));
        if (what == 3) request->wait_layer(0, deadline_ms(5));
        if (what == 3 || what == 4) request->cancel();
      }
    } catch (const Error&) {  // it ended meanwhile
    }
    const skv_status status = end_of(*request);
    tally.add(status);
    if (status == SKV_OK) {
      EXPECT_TRUE(holds(key, request->take().bytes)) << "bytes of " << key;
    }
  }
}

// A child process that runs clients until it is killed. Forked while there is one thread.
class Victim {
 public:
  explicit Victim(int seed) {
    int ends[2];
    EXPECT_EQ(::pipe(ends), 0);
    pid_ = ::fork();
    if (pid_ == 0) {
      ::close(ends[1]);
      char uri[64] = {};
      if (::read(ends[0], uri, sizeof uri - 1) <= 0) ::_exit(0);
      try {
        for (std::uint64_t round = 0;; round++)
          client(uri, 50, static_cast<std::uint64_t>(seed) * 1000 + round, nullptr);
      } catch (const Error&) {
      }
      ::_exit(0);
    }
    ::close(ends[0]);
    to_child_ = ends[1];
  }
  ~Victim() {
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

TEST(Stress, ManyConnectionsWithRandomFaults) {
  const int conns = from_environment("SPECTRUMKV_STRESS_CONNS", 8);
  const int transfers = from_environment("SPECTRUMKV_STRESS_TRANSFERS", 40);
  LeakWatch watch;
  std::vector<std::unique_ptr<Victim>> victims;
  for (int i = 0; i < std::max(2, conns / 8); i++) victims.push_back(std::make_unique<Victim>(i));
  Tally sent, received;
  {
    Endpoint server;
    server.set(SKV_ENDPOINT_HEARTBEAT_MS, 1000);
    server.set(SKV_ENDPOINT_CREDIT, 4 << 20);  // short, so that transfers have to share it
    char bound[64];
    server.listen("tcp://127.0.0.1:0", bound, sizeof bound);
    std::atomic<bool> stop{false};
    std::mutex mutex;
    std::vector<std::thread> servers;
    std::thread acceptor([&] {
      for (std::uint64_t seed = 1; !stop; seed++) {
        try {
          auto conn = server.accept(deadline_ms(50));
          std::lock_guard lock(mutex);
          servers.emplace_back([conn, seed, &received] { serve(conn, seed, received); });
        } catch (const Error& error) {
          if (error.status() != SKV_E_TIMED_OUT) return;
        }
      }
    });
    for (auto& victim : victims) victim->go(bound);
    std::vector<std::thread> clients;
    for (int i = 0; i < conns; i++) {
      clients.emplace_back([&, i] { client(bound, transfers, 77'000 + static_cast<std::uint64_t>(i), &sent); });
    }
    Random random(5);
    for (std::size_t i = 0; i < victims.size(); i++) {
      std::this_thread::sleep_for(std::chrono::milliseconds(50 + random() % 100));
      victims[i]->signal(i % 2 == 0 ? SIGKILL : SIGSTOP);
    }
    for (auto& thread : clients) thread.join();
    victims.clear();
    // Everything is over: nothing may be under way or held, and the endpoint still serves.
    const std::uint64_t end = deadline_ms(20'000);
    while ((server.stats().conns > 0 || server.stats().receiving > 0) && now_ns() < end) {
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    EXPECT_EQ(server.stats().conns, 0u);
    EXPECT_EQ(server.stats().receiving, 0u);
    EXPECT_EQ(server.stats().credit_held, 0u);
    Tally last;
    client(bound, 3, 1, &last);
    EXPECT_EQ(last.total(), 3);
    stop = true;
    acceptor.join();
    server.close();
    for (auto& thread : servers) thread.join();
    EXPECT_EQ(server.stats().protocol_errors, 0u);
    EXPECT_EQ(server.stats().checksum_errors, 0u);
  }
  EXPECT_EQ(sent.total(), conns * transfers) << "every transfer ends, once";
  EXPECT_GT(sent.ends[SKV_OK], conns * transfers / 3);
  std::printf("sent:     %s\nreceived: %s\n", sent.text().c_str(), received.text().c_str());
}

// Passes bytes between a client and a server, and spoils them as told.
struct Spoiler {
  enum What { kNothing, kFlip, kCut, kHalfClose, kStall, kTrickle, kInsert, kDrop, kReset, kCount };
  What what = kNothing;
  bool from_client = true;
  std::uint64_t at = 0;  // byte of that direction

  // Until both directions ended, or it is told to stop.
  void run(int in, int out, const std::atomic<bool>& stop) const {
    std::array<pollfd, 2> ends{pollfd{in, POLLIN, 0}, pollfd{out, POLLIN, 0}};
    std::array<std::uint64_t, 2> passed{};
    bool open[2] = {true, true};
    while ((open[0] || open[1]) && !stop) {
      if (::poll(ends.data(), 2, 10) <= 0) continue;
      for (std::size_t side = 0; side < 2; side++) {
        if (ends[side].revents == 0 || !open[side]) continue;
        std::array<char, 16384> bytes;
        const bool mine = (side == 0) == from_client;
        const bool now = mine && passed[side] <= at;
        ssize_t n = ::recv(ends[side].fd, bytes.data(), what == kTrickle && mine ? 700 : bytes.size(), 0);
        const int to = ends[1 - side].fd;
        if (n <= 0) {
          ::shutdown(to, SHUT_WR);
          open[side] = false;
          ends[side].fd = -1;
          continue;
        }
        const std::uint64_t begin = passed[side];
        passed[side] += static_cast<std::uint64_t>(n);
        if (now && at < passed[side]) {
          const auto here = static_cast<std::size_t>(at - begin);
          switch (what) {
            case kFlip:
              bytes[here] = static_cast<char>(bytes[here] ^ 1 << at % 8);
              break;
            case kInsert:
              ::send(to, bytes.data(), here, MSG_NOSIGNAL);
              ::send(to, "x", 1, MSG_NOSIGNAL);
              ::send(to, bytes.data() + here, static_cast<std::size_t>(n) - here, MSG_NOSIGNAL);
              continue;
            case kDrop:
              ::send(to, bytes.data(), here, MSG_NOSIGNAL);
              ::send(to, bytes.data() + here + 1, static_cast<std::size_t>(n) - here - 1, MSG_NOSIGNAL);
              continue;
            case kCut:
            case kReset: {
              ::send(to, bytes.data(), here, MSG_NOSIGNAL);
              const linger hard{what == kReset, 0};
              ::setsockopt(in, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
              ::setsockopt(out, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
              return;
            }
            case kHalfClose:
              ::send(to, bytes.data(), here, MSG_NOSIGNAL);
              ::shutdown(to, SHUT_WR);
              open[side] = false;
              ends[side].fd = -1;
              continue;
            case kStall:
              ::send(to, bytes.data(), here, MSG_NOSIGNAL);
              ends[side].fd = -1;  // and never another byte of this direction
              continue;
            default:
              break;
          }
        }
        ::send(to, bytes.data(), static_cast<std::size_t>(n), MSG_NOSIGNAL);
      }
    }
  }
};

TEST(Stress, RandomFaultsOnTheWireNeverPassForSuccess) {
  const int runs = from_environment("SPECTRUMKV_FAULT_RUNS", 40);
  LeakWatch watch;
  std::map<std::string, int> outcomes;
  for (int run = 0; run < runs; run++) {
    Random random(static_cast<std::uint64_t>(run) + 1);
    Spoiler spoiler;
    spoiler.what = static_cast<Spoiler::What>(random() % Spoiler::kCount);
    spoiler.from_client = random() % 4 != 0;
    const std::uint64_t size = 1 + random() % 400'000;
    spoiler.at = random() % 2 == 0 ? random() % 700 : random() % (spoiler.from_client ? size + 900 : 900);
    const bool secret = random() % 3 == 0;
    SCOPED_TRACE("run " + std::to_string(run) + ": fault " + std::to_string(spoiler.what) + " at byte " +
                 std::to_string(spoiler.at) + (spoiler.from_client ? " from" : " to") + " the client");
    Endpoint server, client_end;
    for (Endpoint* end : {&server, &client_end}) {
      end->set(SKV_ENDPOINT_HEARTBEAT_MS, 100);
      end->set(SKV_ENDPOINT_HANDSHAKE_MS, 400);
      end->set(SKV_ENDPOINT_TRANSFER_CREDIT, 64 * 1024);
      const std::vector<std::uint8_t> key(32, 5);
      if (secret) end->set_psk(SKV_SECURITY_PSK, key.data(), key.size());
    }
    char bound[64];
    server.listen("tcp://127.0.0.1:0", bound, sizeof bound);
    const int listener = ::socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in at{};
    at.sin_family = AF_INET;
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof at;
    ASSERT_EQ(::bind(listener, reinterpret_cast<sockaddr*>(&at), sizeof at), 0);
    ASSERT_EQ(::listen(listener, 1), 0);
    ASSERT_EQ(::getsockname(listener, reinterpret_cast<sockaddr*>(&at), &length), 0);
    std::atomic<bool> over{false}, stop{false};
    std::thread middle([&] {
      RawSocket out(bound);
      const int in = ::accept(listener, nullptr, nullptr);
      spoiler.run(in, out.fd(), stop);
      ::close(in);
    });
    const std::uint64_t key = key_of(size, random());
    bool good = false, whole = false;
    std::thread receiver([&] {
      try {
        std::shared_ptr<Conn> conn;
        while (!conn && !over) {
          if (status_of([&] { conn = server.accept(deadline_ms(20)); }) == SKV_E_CLOSED) return;
        }
        if (!conn) return;
        const auto request = conn->recv_offer(deadline_ms(3000));
        request->wait(deadline_ms(5000));
        request->accept(nullptr, 0, deadline_ms(3000));
        request->wait(deadline_ms(5000));
        if (request->get(SKV_REQUEST_STATE) == SKV_REQUEST_ENDED)
          whole = holds(key, request->take().bytes), good = true;
      } catch (const Error&) {
      }
    });
    const std::uint64_t start = now_ns();
    skv_status status = SKV_IN_PROGRESS;
    {
      std::shared_ptr<Conn> conn;
      std::shared_ptr<Request> request;
      status = status_of([&] {
        conn = client_end.connect(("tcp://127.0.0.1:" + std::to_string(ntohs(at.sin_port))).c_str(), deadline_ms(3000));
        request = conn->send(key, parcel_of(key), deadline_ms(3000));
        request->wait(deadline_ms(5000));
      });
      if (request) {
        EXPECT_EQ(request->get(SKV_REQUEST_STATE), SKV_REQUEST_ENDED);
      }
      EXPECT_LT((now_ns() - start) / 1'000'000, 12'000u) << "ends in time";
      over = true;
      receiver.join();  // it sees the end before the connection goes away
    }
    client_end.close();
    server.close();
    stop = true;
    middle.join();
    ::close(listener);
    EXPECT_EQ(good, whole) << "what ended well is what was sent";
    EXPECT_TRUE(good || status != SKV_OK) << "the sender may only succeed if the receiver did";
    outcomes[status_name(status)]++;
  }
  for (const auto& [name, count] : outcomes) std::printf("%s %d\n", name.c_str(), count);
  EXPECT_GT(outcomes["SKV_OK"], 0) << "some faults (none, trickle) do no harm";
  EXPECT_GT(outcomes.size(), 2u);
}

}  // namespace
}  // namespace skv::transport
