// SPDX-License-Identifier: Apache-2.0
// The inline plane beside a bare socket: the same bytes, the same buffers, two threads, over loopback TCP. Every round
// runs each way once, in an order that changes, and the medians of a round's ratios are reported, so that a machine
// that slows down slows all. Digests are always on; what they cost is measured by bare sockets whose ends digest as the
// library's do, each leaf just before it is sent and once it has come, and by digesting the same bytes alone.
//
//   bench/transport_bench [MIB] [ROUNDS] [CHUNK_KIB] [WAY]      default 256 21 256; WAY: only ways with this in their
//   names
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <random>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "error.h"
#include "transport/clock.h"
#include "transport/digest.h"
#include "transport/endpoint.h"

namespace {

using namespace skv::transport;
using Bytes = std::vector<std::byte>;

std::size_t chunk = 256 * 1024;  // of both; the transport's default

void must(bool good, const char* what) {
  if (good) return;
  std::perror(what);
  std::exit(1);
}

double seconds(const std::function<void()>& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// Digests of what is there of a transfer, leaf by leaf.
class Leaves {
 public:
  void advance(std::span<const std::byte> bytes, std::size_t have) {
    for (; done_ < have; done_ = std::min(done_ + kLeafBytes, bytes.size())) {
      const std::size_t leaf = std::min(kLeafBytes, bytes.size() - done_);
      if (have - done_ < leaf) return;
      sum_ += digest64(bytes.subspan(done_, leaf));
    }
  }
  std::uint64_t sum() const noexcept { return sum_; }

 private:
  std::size_t done_ = 0;
  std::uint64_t sum_ = 0;
};

// A connected pair of TCP sockets on the loopback interface.
class BareSockets {
 public:
  BareSockets() {
    const int listener = ::socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in at{};
    at.sin_family = AF_INET;
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof at;
    must(::bind(listener, reinterpret_cast<sockaddr*>(&at), sizeof at) == 0 && ::listen(listener, 1) == 0 &&
             ::getsockname(listener, reinterpret_cast<sockaddr*>(&at), &size) == 0,
         "listen");
    from_ = ::socket(AF_INET, SOCK_STREAM, 0);
    must(::connect(from_, reinterpret_cast<sockaddr*>(&at), sizeof at) == 0, "connect");
    to_ = ::accept(listener, nullptr, nullptr);
    const int on = 1;
    ::setsockopt(from_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    ::close(listener);
  }
  ~BareSockets() {
    ::close(from_);
    ::close(to_);
  }
  // Until the receiver's one byte of thanks is back, as a transfer lasts until DONE.
  void move(const Bytes& bytes, Bytes& target, Leaves* sent = nullptr, Leaves* received = nullptr) const {
    std::thread receiver([&] {
      for (std::size_t have = 0; have < target.size();) {
        const ssize_t n = ::recv(to_, target.data() + have, target.size() - have, 0);
        must(n > 0, "recv");
        have += static_cast<std::size_t>(n);
        if (received != nullptr) received->advance(target, have);
      }
      must(::send(to_, "k", 1, 0) == 1, "send");
    });
    for (std::size_t done = 0; done < bytes.size();) {
      const std::size_t size = std::min(chunk, bytes.size() - done);
      if (sent != nullptr) sent->advance(bytes, done + size);
      const ssize_t n = ::send(from_, bytes.data() + done, size, 0);
      must(n > 0, "send");
      done += static_cast<std::size_t>(n);
    }
    char thanks;
    must(::recv(from_, &thanks, 1, 0) == 1, "recv");
    receiver.join();
  }

 private:
  int from_ = -1, to_ = -1;
};

// Two endpoints and a conn between them.
class Pair {
 public:
  Pair(const std::string& uri, std::int32_t security, std::int64_t planes = 1 << SKV_PLANE_INLINE) {
    const std::vector<std::uint8_t> key(32, 7);
    for (Endpoint* end : {&a_, &b_}) {
      end->set(SKV_ENDPOINT_CHUNK, static_cast<std::int64_t>(chunk));
      end->set(SKV_ENDPOINT_PLANES, planes);
      if (security != SKV_SECURITY_NONE) end->set_psk(security, key.data(), key.size());
    }
    char bound[128];
    a_.listen(uri.c_str(), bound, sizeof bound);
    at_b_ = b_.connect(bound, deadline_ms(10'000));
    at_a_ = a_.accept(deadline_ms(10'000));
  }
  void move(const Bytes& bytes, Bytes& target, std::size_t layers) {
    Parcel parcel;
    parcel.bytes = bytes;
    parcel.layer_bytes.push_back(128);
    std::size_t left = bytes.size() - 128;
    for (std::size_t i = layers; i > 0; i--) {
      parcel.layer_bytes.push_back(left / i);
      left -= left / i;
    }
    const auto receive = at_a_->recv_offer(deadline_ms(60'000));
    const auto send = at_b_->send(1, parcel, deadline_ms(60'000));
    receive->wait(deadline_ms(60'000));
    receive->accept(target.data(), target.size(), deadline_ms(60'000));
    send->wait(deadline_ms(60'000));
  }

 private:
  Endpoint a_, b_;
  std::shared_ptr<Conn> at_a_, at_b_;
};

// ucx_perftest's active messages of a chunk's size over the same device, both ends here: bytes a second, 0 without it.
// Over TCP, which is what UCX takes for endpoints that must notice failures, as the plane's are.
double perftest(std::size_t size) {
  const std::string run = "UCX_TLS=tcp UCX_NET_DEVICES=lo UCX_WARN_UNUSED_ENV_VARS=n timeout 60 ucx_perftest -p 13477 ";
  const std::string client = "127.0.0.1 -t ucp_am_bw -w 1 -n " +
                             std::to_string(std::max<std::size_t>(size / chunk, 2)) + " -s " + std::to_string(chunk);
  const std::string command = "(" + run + ">/dev/null 2>&1 & sleep 0.3; " + run + client + ") 2>/dev/null";
  FILE* pipe = ::popen(command.c_str(), "r");
  if (pipe == nullptr) return 0;
  char line[512];
  double rate = 0;
  while (std::fgets(line, sizeof line, pipe) != nullptr) {
    double skip = 0, overall = 0;
    if (std::sscanf(line, "Final: %lf %lf %lf %lf %lf %lf", &skip, &skip, &skip, &skip, &skip, &overall) == 6) {
      rate = overall * (1 << 20);
    }
  }
  ::pclose(pipe);
  return rate;
}

const char* const kDigested = "bare socket, digested";
const char* const kUcx = "ucx, 32 layers";

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

}  // namespace

int main(int argc, char** argv) try {
  const std::size_t size = (argc > 1 ? std::strtoul(argv[1], nullptr, 10) : 256) << 20;
  const int rounds = argc > 2 ? std::atoi(argv[2]) : 21;
  if (argc > 3) chunk = std::strtoul(argv[3], nullptr, 10) << 10;
  const std::string only = argc > 4 ? argv[4] : "";
  if (size == 0 || rounds < 1 || chunk == 0) {
    std::fprintf(stderr, "usage: transport_bench [MIB] [ROUNDS] [CHUNK_KIB] [WAY]\n");
    return 2;
  }
  Bytes bytes(size), target(size);
  std::mt19937_64 random(1);
  for (std::size_t i = 0; i + 8 <= size; i += 8) {
    const std::uint64_t word = random();
    std::memcpy(bytes.data() + i, &word, 8);
  }
  BareSockets bare;
  Pair plain("tcp://127.0.0.1:0", SKV_SECURITY_NONE), tls("tcp://127.0.0.1:0", SKV_SECURITY_TLS_PSK);
  Pair local("unix://@skv-bench-" + std::to_string(::getpid()), SKV_SECURITY_NONE);
  Pair inproc("inproc://skv-bench", SKV_SECURITY_NONE);
  std::unique_ptr<Pair> ucx;
  try {
    ucx = std::make_unique<Pair>("tcp://127.0.0.1:0", SKV_SECURITY_NONE, 1 << SKV_PLANE_UCX);
  } catch (const skv::Error& error) {
    std::printf("SKIPPED plane ucx: %s\n", error.message().c_str());
  }
  std::vector<double> by_perftest;
  std::uint64_t sum = 0;
  const auto check = [&] {
    if (std::memcmp(bytes.data(), target.data(), size) != 0) {
      std::fprintf(stderr, "the bytes that arrived are others\n");
      std::exit(1);
    }
    std::memset(target.data(), 0, size);
  };
  struct Way {
    const char* name;
    std::function<void()> work;
    bool moves;
    std::vector<double> times, ratios;  // ratios: the bare socket's time to this
  };
  std::vector<Way> ways;
  ways.push_back({"bare socket", [&] { bare.move(bytes, target); }, true, {}, {}});
  ways.push_back({kDigested,
                  [&] {
                    Leaves sent, received;
                    bare.move(bytes, target, &sent, &received);
                    must(sent.sum() == received.sum(), "digests");
                    sum += sent.sum();
                  },
                  true,
                  {},
                  {}});
  ways.push_back({"inline tcp, 32 layers", [&] { plain.move(bytes, target, 32); }, true, {}, {}});
  ways.push_back({"inline unix, 32 layers", [&] { local.move(bytes, target, 32); }, true, {}, {}});
  ways.push_back({"inproc, 32 layers", [&] { inproc.move(bytes, target, 32); }, true, {}, {}});
  ways.push_back({"inline tcp with tls_psk", [&] { tls.move(bytes, target, 32); }, true, {}, {}});
  if (ucx) ways.push_back({kUcx, [&] { ucx->move(bytes, target, 32); }, true, {}, {}});
  ways.push_back({"digests of one end alone",
                  [&] {
                    for (std::size_t at = 0; at < size; at += kLeafBytes) {
                      sum += digest64(std::span(bytes).subspan(at, std::min(kLeafBytes, size - at)));
                    }
                  },
                  false,
                  {},
                  {}});
  if (!only.empty()) {
    ways.erase(std::remove_if(ways.begin() + 1, ways.end(),
                              [&](const Way& way) { return std::string(way.name).find(only) == std::string::npos; }),
               ways.end());
  }
  const auto find = [&](const char* name) {
    const auto at = std::find_if(ways.begin(), ways.end(), [&](const Way& way) { return way.name == name; });
    return at == ways.end() ? nullptr : &*at;
  };
  const Way* by_ucx = find(kUcx);
  for (int round = -1; round < rounds; round++) {  // the first warms up
    std::vector<double> times(ways.size());
    for (std::size_t i = 0; i < ways.size(); i++) {
      const std::size_t w = (i + static_cast<std::size_t>(round + 1)) % ways.size();
      times[w] = seconds(ways[w].work);
      if (ways[w].moves) check();
    }
    if (round < 0) continue;
    for (std::size_t w = 0; w < ways.size(); w++) {
      ways[w].times.push_back(times[w]);
      ways[w].ratios.push_back(times[0] / times[w]);
    }
    if (by_ucx == nullptr) continue;
    const double rate = perftest(size), own = times[static_cast<std::size_t>(by_ucx - ways.data())];
    if (rate > 0) by_perftest.push_back(static_cast<double>(size) / own / rate);
  }
  std::printf("%zu MiB, %d rounds, medians (check %016llx)\n", size >> 20, rounds,
              static_cast<unsigned long long>(sum));
  for (const Way& way : ways) {
    const double time = median(way.times);
    std::printf("%-26s %8.1f ms %7.2f GB/s  %5.2f x bare\n", way.name, time * 1e3,
                static_cast<double>(size) / time / 1e9, median(way.ratios));
  }
  if (!by_perftest.empty()) {
    std::printf("ucx is %.2f x ucx_perftest's active messages of %zu KiB (median of %zu rounds)\n", median(by_perftest),
                chunk >> 10, by_perftest.size());
  } else if (by_ucx != nullptr) {
    std::printf("SKIPPED the comparison with ucx_perftest: it is not installed (Debian: ucx-utils)\n");
  }
  if (const Way* digested = find(kDigested)) {
    std::printf("digests of both ends, side by side, are %.1f %% of a bare socket's transfer with them\n",
                100 * (1 - median(digested->ratios)));
  }
  return 0;
} catch (const skv::Error& error) {
  std::fprintf(stderr, "%s: %s\n", skv::status_name(error.status()), error.message().c_str());
  return 1;
}
