// SPDX-License-Identifier: Apache-2.0
// Two sessions that talk to each other while the input changes what one of them hears: bytes flipped, inserted, dropped
// or cut, headers resealed, time moved, commands given. Whatever happens: no crash, every transfer ends at most once,
// and a payload that ends OK is the one that was sent.
#include <cstdlib>
#include <cstring>
#include <map>
#include <vector>

#include "error.h"
#include "transport/session.h"

namespace {

using namespace skv::transport;
using Bytes = std::vector<std::byte>;

void must(bool holds) {
  if (!holds) std::abort();
}

struct Script {
  const uint8_t* data;
  size_t left;
  uint8_t next() {
    if (left == 0) return 0;
    --left;
    return *data++;
  }
};

struct End {
  explicit End(const SessionConfig& config) : session(config, 1) {}
  Session session;
  std::map<std::uint64_t, Bytes> destinations;
  std::map<std::uint64_t, int> ends;
};

void reseal(Bytes& bytes, size_t at) {
  if (bytes.size() < at + kHeaderBytes) return;
  std::memset(bytes.data() + at + 12, 0, 4);
  const uint32_t crc = crc32c({bytes.data() + at, kHeaderBytes});
  std::memcpy(bytes.data() + at + 12, &crc, 4);
}

Bytes drain(Session& session, std::uint64_t now) {
  Bytes out;
  std::array<std::span<const std::byte>, 4> list;
  for (int round = 0; round < 64; ++round) {
    const size_t count = session.output(list);
    size_t n = 0;
    for (size_t i = 0; i < count; ++i) {
      out.insert(out.end(), list[i].begin(), list[i].end());
      n += list[i].size();
    }
    if (n == 0) break;
    session.sent(n, now);
  }
  return out;
}

// Handles events as a caller would; `payload` is what the other end may have sent.
void collect(End& end, const Bytes& payload, std::uint64_t deadline, bool honest, Script& script) {
  Event event;
  while (end.session.next_event(event)) {
    if (event.kind == Event::Kind::kOffered) {
      must(event.offer != nullptr);
      try {
        if (event.offer->total > 1U << 20U || script.next() % 8 == 7) {
          end.session.reject(event.id, "no room");
        } else {
          Bytes& to = end.destinations[event.id];
          to.assign(event.offer->total, std::byte{0});
          end.session.accept(event.id, to, deadline);
        }
      } catch (const skv::Error&) {  // the transfer or the connection has ended meanwhile
      }
    } else if (event.kind == Event::Kind::kEnded) {
      must(++end.ends[event.id] == 1);
      const auto to = end.destinations.find(event.id);
      if (honest && event.status == SKV_OK && to != end.destinations.end()) {
        must(event.moved <= payload.size());
        must(std::equal(payload.begin(), payload.begin() + static_cast<std::ptrdiff_t>(event.moved),
                        to->second.begin()));
      }
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Script script{data, size};
  SessionConfig a_config;
  a_config.connecting = true;
  a_config.chunk = 4096;
  a_config.handshake_deadline = 5'000'000'000;
  a_config.max_payload = 1U << 20U;
  a_config.max_transfers = 4;
  SessionConfig b_config = a_config;
  b_config.connecting = false;
  b_config.epoch = 7;
  if (size % 3 == 0) {  // a third of the inputs: ends that prove a key
    const std::vector<std::uint8_t> key(16, 1);
    a_config.psk = b_config.psk = std::make_shared<const SecretKey>(key);
    a_config.nonce.fill(1);
    b_config.nonce.fill(2);
  }
  if (size % 5 == 0) {  // a plane with connections of its own
    a_config.planes = b_config.planes = plane_bit(SKV_PLANE_UCX);
    a_config.card = b_config.card = Bytes(9);
  }
  if (size % 2 == 0) {  // short of credit
    b_config.transfer_credit = 8192;
    b_config.credit = std::make_shared<CreditPool>(1U << 20U);
  }
  End a(a_config);
  End b(b_config);
  Bytes payload(10000);
  for (size_t i = 0; i < payload.size(); ++i) payload[i] = static_cast<std::byte>(i * 31 >> 3);
  std::uint64_t now = 1;
  bool honest = true;  // nothing resealed: then only digests that hold may end OK
  for (int step = 0; step < 64; ++step) {
    const uint8_t what = script.next();
    const std::uint64_t deadline = now + 10'000'000'000ULL;
    try {
      if (what % 16 == 1 && a.session.is_open()) {
        Offer offer;
        offer.total = payload.size();
        offer.layer_bytes = {128, 5000, 4872};
        a.session.offer(offer, payload, deadline);
      } else if (what % 16 == 7 && a.session.is_open()) {  // layers to come
        Offer offer;
        offer.total = payload.size();
        offer.layer_bytes = {128, 5000, 4872};
        a.session.offer(offer, payload, deadline, 1);
      } else if (what % 16 == 8) {
        a.session.extend(script.next(), script.next());
      } else if (what % 16 == 9) {
        const std::uint64_t id = script.next();
        const std::uint32_t entry = script.next() % 4;
        a.session.shrink(id, {entry, script.next(), std::uint64_t{script.next()} * 20, Bytes(128)});
      } else if (what % 16 == 2) {
        a.session.cancel(script.next(), SKV_E_CANCELLED, "cancelled");
      } else if (what % 16 == 3) {
        b.session.cancel(script.next(), SKV_E_CANCELLED, "cancelled");
      } else if (what % 16 == 4) {
        now += std::uint64_t{script.next()} * 50'000'000ULL;
        a.session.tick(now);
        b.session.tick(now);
      } else if (what == 5) {
        b.session.end_of_stream(now);
      } else if (what == 6) {
        a.session.close("bye");
      }
    } catch (const skv::Error&) {  // commands on ended transfers and closed sessions
    }
    Bytes to_b = drain(a.session, now);
    if (!to_b.empty() && what >= 128) {
      const size_t at = (size_t{script.next()} << 8U | script.next()) % to_b.size();
      switch (what % 4) {
        case 0:
          to_b[at] ^= static_cast<std::byte>(script.next());
          break;
        case 1:
          to_b.erase(to_b.begin() + static_cast<std::ptrdiff_t>(at));
          break;
        case 2:
          to_b.insert(to_b.begin() + static_cast<std::ptrdiff_t>(at), static_cast<std::byte>(script.next()));
          break;
        default:
          to_b[at % std::min(to_b.size(), kHeaderBytes)] ^= static_cast<std::byte>(script.next());
          reseal(to_b, 0);
          honest = false;
      }
    }
    b.session.receive(to_b, now);
    collect(b, payload, deadline, honest, script);
    a.session.receive(drain(b.session, now), now);
    collect(a, payload, deadline, honest, script);
  }
  return 0;
}
