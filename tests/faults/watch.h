// SPDX-License-Identifier: Apache-2.0
// What the socket-level tests share: statuses, leak counts, a peer played by hand.
#pragma once

#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <thread>

#include "error.h"
#include "payloads.h"
#include "transport/endpoint.h"
#include "transport/session.h"
#include "transport/uri.h"

namespace skv::transport {

inline constexpr std::uint64_t kSoon = 20'000;  // ms; a bound, not an expectation

template <typename F>
skv_status status_of(F&& f) {
  try {
    f();
  } catch (const Error& error) {
    return error.status();
  }
  return SKV_OK;
}

// Descriptors and threads of this process must be as many at the end of a scope as at its start.
class LeakWatch {
 public:
  LeakWatch() {
    std::thread([] {}).join();  // a sanitizer's own thread starts with the first one: count it in
    fds_ = count("/proc/self/fd");
    threads_ = count("/proc/self/task");
  }
  ~LeakWatch() {
    // A joined thread may linger in /proc for a moment.
    for (int i = 0; i < 200 && count("/proc/self/task") > threads_; i++) {
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    EXPECT_EQ(count("/proc/self/fd"), fds_) << "descriptors leak";
    // Fewer: a name lookup of an earlier test that was still under way.
    EXPECT_LE(count("/proc/self/task"), threads_) << "threads leak:" << names();
  }

 private:
  static std::string names() {
    std::string all;
    for (const auto& task : std::filesystem::directory_iterator("/proc/self/task")) {
      std::ifstream file(task.path() / "comm");
      std::string name;
      if (std::getline(file, name)) all += " " + name;
    }
    return all;
  }
  static std::ptrdiff_t count(const char* folder) {
    const auto files = std::filesystem::directory_iterator(folder);
    return std::distance(begin(files), end(files));
  }
  std::ptrdiff_t fds_ = 0, threads_ = 0;
};

// A TCP socket without the library behind it.
class RawSocket {
 public:
  explicit RawSocket(const std::string& uri) : fd_(::socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in at{};
    at.sin_family = AF_INET;
    at.sin_port = htons(parse_uri(uri.c_str()).port);
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(::connect(fd_, reinterpret_cast<sockaddr*>(&at), sizeof at), 0);
  }
  ~RawSocket() { ::close(fd_); }
  RawSocket(const RawSocket&) = delete;
  RawSocket& operator=(const RawSocket&) = delete;

  int fd() const { return fd_; }
  void say(std::span<const std::byte> bytes) {
    while (!bytes.empty()) {
      const ssize_t n = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (n <= 0) return;
      bytes = bytes.subspan(static_cast<std::size_t>(n));
    }
  }
  void say(std::string_view text) { say(std::as_bytes(std::span(text))); }
  bool readable(int ms) {
    pollfd wait{fd_, POLLIN, 0};
    return ::poll(&wait, 1, ms) > 0;
  }
  // Reads until the other end closes; false if it does not within the time.
  bool closes_within(int ms) {
    const std::uint64_t end = deadline_ms(static_cast<std::uint64_t>(ms));
    char buffer[4096];
    while (now_ns() < end) {
      if (readable(20) && ::recv(fd_, buffer, sizeof buffer, 0) <= 0) return true;
    }
    return false;
  }

 private:
  int fd_;
};

// A well-behaved peer until the test makes it misbehave: the library's session over a socket driven by hand.
class HandPeer {
 public:
  explicit HandPeer(const std::string& uri) : HandPeer(uri, config()) {}
  HandPeer(const std::string& uri, const SessionConfig& with) : socket(uri), session(with, now_ns()) {
    while (!session.is_open() && !session.is_closed()) step();
  }
  // Says all there is to say and hears what is there.
  // At most `most` bytes of it: 0 is a reader that does not read.
  void step(int ms = 20, std::size_t most = SIZE_MAX) {
    session.tick(now_ns());
    std::array<std::span<const std::byte>, 4> list;
    while (session.output(list) > 0) {
      const std::size_t n = list[0].size();
      socket.say(list[0]);
      session.sent(n, now_ns());
    }
    if (most == 0 || !socket.readable(ms)) return;
    const auto target = session.read_targets()[0];
    const ssize_t n = ::recv(socket.fd(), target.data(), std::min(target.size(), most), 0);
    if (n > 0) {
      session.received(static_cast<std::size_t>(n), now_ns());
    } else {
      session.end_of_stream(now_ns());
    }
    Event event;
    while (session.next_event(event)) events.push_back(event);
  }

  RawSocket socket;
  Session session;
  std::vector<Event> events;

 private:
  static SessionConfig config() {
    SessionConfig config;
    config.connecting = true;
    return config;
  }
};

}  // namespace skv::transport
