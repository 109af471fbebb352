// SPDX-License-Identifier: Apache-2.0
// Two sessions, the bytes between them and a clock that only the test moves.
#pragma once

#include <gtest/gtest.h>

#include <map>
#include <string>
#include <vector>

#include "error.h"
#include "payloads.h"
#include "transport/digest.h"
#include "transport/session.h"

namespace skv::transport {

using Bytes = std::vector<std::byte>;
inline constexpr std::uint64_t kMs = 1'000'000;
inline constexpr std::uint64_t kSimStart = 1000 * kMs;

inline SessionConfig sim_config(bool connecting) {
  SessionConfig config;
  config.connecting = connecting;
  config.epoch = 0x1234'5678'9abc'def0;
  config.chunk = 4096;
  config.handshake_deadline = kSimStart + 5000 * kMs;
  return config;
}

struct SimEnd {
  explicit SimEnd(const SessionConfig& config) : session(config, kSimStart) {}
  Session session;
  std::vector<Event> events;

  void collect() {
    Event event;
    while (session.next_event(event)) events.push_back(std::move(event));
  }
  const Event* find(Event::Kind kind, std::uint64_t id = 0) const {
    for (const Event& event : events) {
      if (event.kind == kind && (id == 0 || event.id == id)) return &event;
    }
    return nullptr;
  }
  std::size_t count(Event::Kind kind, std::uint64_t id) const {
    std::size_t n = 0;
    for (const Event& event : events) n += event.kind == kind && event.id == id;
    return n;
  }
  // The transfer's status, SKV_IN_PROGRESS while it lives.
  skv_status status(std::uint64_t id) const {
    const Event* ended = find(Event::Kind::kEnded, id);
    return ended ? ended->status : SKV_IN_PROGRESS;
  }
  skv_status closed() const {
    const Event* event = find(Event::Kind::kClosed);
    return event ? event->status : SKV_IN_PROGRESS;
  }
};

class Sim {
 public:
  explicit Sim(SessionConfig a_config = sim_config(true), SessionConfig b_config = sim_config(false))
      : a(a_config), b(b_config) {}

  SimEnd a, b;  // a connects
  std::uint64_t now = kSimStart;

  // At most `most` bytes of what a session has to say.
  Bytes take(SimEnd& from, std::size_t most = SIZE_MAX) {
    Bytes out;
    std::array<std::span<const std::byte>, 3> list;
    while (out.size() < most) {
      const std::size_t count = from.session.output(list);
      std::size_t n = 0;
      for (std::size_t i = 0; i < count && out.size() < most; i++) {
        const std::size_t step = std::min(list[i].size(), most - out.size());
        out.insert(out.end(), list[i].begin(), list[i].begin() + static_cast<std::ptrdiff_t>(step));
        n += step;
      }
      if (n == 0) break;
      from.session.sent(n, now);
    }
    from.collect();
    return out;
  }
  void give(SimEnd& to, std::span<const std::byte> bytes) {
    to.session.receive(bytes, now);
    to.collect();
  }
  // One round of at most `most` bytes each way. False: nothing was said.
  bool step(std::size_t most = SIZE_MAX) {
    const Bytes from_a = take(a, most);
    give(b, from_a);
    const Bytes from_b = take(b, most);
    give(a, from_b);
    return !from_a.empty() || !from_b.empty();
  }
  void run(std::size_t most = SIZE_MAX) {
    while (step(most)) {
    }
  }
  void tick() {
    a.session.tick(now);
    b.session.tick(now);
    a.collect();
    b.collect();
  }
  void open() {
    run();
    ASSERT_TRUE(a.session.is_open());
    ASSERT_TRUE(b.session.is_open());
  }
  std::uint64_t offer(SimEnd& from, std::span<const std::byte> bytes, std::size_t layers,
                      std::uint64_t deadline = kNever) {
    Offer offer;
    offer.key = 77;
    offer.layer_bytes = make_layers(bytes.size(), layers);
    return from.session.offer(std::move(offer), bytes, deadline);
  }
};

inline FrameHeader first_header(const Bytes& said) { return decode_header(std::span(said).first<kHeaderBytes>()); }

// A whole frame as a peer that may lie would send it.
inline Bytes raw_frame(FrameHeader header, std::span<const std::byte> body, bool fix_digest = true) {
  if (fix_digest) {
    header.digest = digest64(body);
    if (header.type == FrameType::kData) {
      DigestChain chain;
      chain.add(digest64(body));  // for bodies inside one leaf
      header.digest = chain.value();
    }
  }
  const auto head = encode_header(header);
  Bytes out(head.size() + body.size());
  std::memcpy(out.data(), head.data(), head.size());
  if (!body.empty()) std::memcpy(out.data() + head.size(), body.data(), body.size());
  return out;
}

}  // namespace skv::transport
