// SPDX-License-Identifier: Apache-2.0
#include "transport/endpoint.h"

#include <cstring>

#include "error.h"
#include "transport/core.h"
#include "transport/loopback.h"
#include "transport/tcp.h"
#include "transport/uri.h"

namespace skv::transport {
namespace {

std::uint64_t ranged(const char* name, std::int64_t value, std::int64_t least, std::int64_t most) {
  if (value < least || value > most) {
    fail(SKV_E_RANGE, "%s %lld, want %lld..%lld", name, static_cast<long long>(value), static_cast<long long>(least),
         static_cast<long long>(most));
  }
  return static_cast<std::uint64_t>(value);
}

constexpr std::int64_t kMaxMs = 24LL * 3600 * 1000;

// Planes that this build can offer.
constexpr PlaneSet kPlanes =
    plane_bit(SKV_PLANE_INPROC) | plane_bit(SKV_PLANE_INLINE) | plane_bit(SKV_PLANE_NCCL) | plane_bit(SKV_PLANE_UCX);

PlaneSet want_planes(std::int64_t value) {
  if (value <= 0 || value > UINT32_MAX || (static_cast<PlaneSet>(value) & ~kKnownPlanes) != 0) {
    fail(SKV_E_RANGE, "PLANES 0x%llx, want a set of %s", static_cast<unsigned long long>(value),
         plane_names(kKnownPlanes).c_str());
  }
  const auto planes = static_cast<PlaneSet>(value);
  if ((planes & ~kPlanes) != 0) {
    fail(SKV_E_UNAVAILABLE, "this build has no plane %s", plane_names(planes & ~kPlanes).c_str());
  }
  return planes;
}

// Makes ready what the planes of a URI need, and refuses what cannot be.
void open_planes(Core& core, const Uri& uri, const Addresses& addresses, bool connecting) {
  const Options& options = core.options;
  if ((options.planes & plane_bit(SKV_PLANE_UCX)) == 0) return;
  const bool alone = options.planes == plane_bit(SKV_PLANE_UCX);
  if (uri.scheme == Uri::Scheme::kInproc) {
    if (alone) fail(SKV_E_UNAVAILABLE, "plane ucx needs a tcp or unix URI");
    return;
  }
  if (uri.scheme == Uri::Scheme::kTcp && options.tls) {
    fail(SKV_E_PERMITTED,
         "plane ucx moves payloads outside the TLS stream, in the clear: use a key (PSK), or plane inline");
  }
  core.open_ucx(uri.scheme == Uri::Scheme::kTcp ? device_of(addresses, connecting) : "lo");
}

}  // namespace

Endpoint::Endpoint() : core_(std::make_shared<Core>()) {}
Endpoint::~Endpoint() { close(); }
void Endpoint::close() noexcept { core_->close(); }

void Endpoint::set(std::int32_t key, std::int64_t value) {
  ApiLock lock(*core_);
  if (core_->started || core_->closing) fail(SKV_E_STATE, "options are set before the first listen or connect");
  Options& options = core_->options;
  switch (key) {
    case SKV_ENDPOINT_PROGRESS_THREAD:
      options.progress_thread = ranged("PROGRESS_THREAD", value, 0, 1) != 0;
      return;
    case SKV_ENDPOINT_MAX_PAYLOAD:
      options.max_payload = ranged("MAX_PAYLOAD", value, 1, std::int64_t{1} << 46);
      return;
    case SKV_ENDPOINT_MAX_CONNS:
      options.max_conns = ranged("MAX_CONNS", value, 1, 1 << 20);
      return;
    case SKV_ENDPOINT_HANDSHAKE_MS:
      options.handshake_ns = ranged("HANDSHAKE_MS", value, 1, kMaxMs) * 1'000'000;
      return;
    case SKV_ENDPOINT_HEARTBEAT_MS:
      options.heartbeat_ns = ranged("HEARTBEAT_MS", value, 1, kMaxMs) * 1'000'000;
      return;
    case SKV_ENDPOINT_CHUNK:
      options.chunk = static_cast<std::uint32_t>(ranged("CHUNK", value, kMinDataBytes, kMaxDataBytes));
      return;
    case SKV_ENDPOINT_ALLOW_OPEN_TCP:
      options.allow_open_tcp = ranged("ALLOW_OPEN_TCP", value, 0, 1) != 0;
      return;
    case SKV_ENDPOINT_TRANSFER_CREDIT:
      options.transfer_credit = ranged("TRANSFER_CREDIT", value, kCreditQuantum, std::int64_t{1} << 46);
      return;
    case SKV_ENDPOINT_CREDIT:
      options.endpoint_credit = ranged("CREDIT", value, 1 << 20, std::int64_t{1} << 46);
      return;
    case SKV_ENDPOINT_PEER_UID:
      options.peer_uid = static_cast<std::int64_t>(ranged("PEER_UID", value, -1, 0xfffffffe));
      return;
    case SKV_ENDPOINT_MAX_HANDSHAKES:
      options.max_handshakes = ranged("MAX_HANDSHAKES", value, 1, 65536);
      return;
    case SKV_ENDPOINT_HANDSHAKE_RATE:
      options.handshake_rate = ranged("HANDSHAKE_RATE", value, 1, 1'000'000);
      return;
    case SKV_ENDPOINT_EVENTS:
      options.events = ranged("EVENTS", value, 0, 65536);
      return;
    case SKV_ENDPOINT_PLANES:
      options.planes = want_planes(value);
      return;
    case SKV_ENDPOINT_DEVICE:
      options.device = static_cast<std::int32_t>(ranged("DEVICE", value, 0, 1023));
      return;
    case SKV_ENDPOINT_ABORT_MS:
      options.abort_ns = ranged("ABORT_MS", value, 1, kMaxMs) * 1'000'000;
      return;
    default:
      fail(SKV_E_KEY, "endpoint option %d, want 1..%d", key, SKV_ENDPOINT_ABORT_MS);
  }
}

void Endpoint::set_model(const std::uint8_t* fingerprint) {
  if (fingerprint == nullptr) fail(SKV_E_NULL, "fingerprint is NULL");
  ApiLock lock(*core_);
  if (core_->started || core_->closing) fail(SKV_E_STATE, "the model is set before the first listen or connect");
  std::memcpy(core_->options.fingerprint.data(), fingerprint, core_->options.fingerprint.size());
}

void Endpoint::set_psk(std::int32_t security, const std::uint8_t* key, std::size_t bytes) {
  if (key == nullptr) fail(SKV_E_NULL, "key is NULL");
  if (security != SKV_SECURITY_PSK && security != SKV_SECURITY_TLS_PSK) {
    fail(SKV_E_RANGE, "security %d with a key, want PSK (1) or TLS_PSK (3)", security);
  }
  if (bytes < kMinKeyBytes || bytes > kMaxKeyBytes) {
    fail(SKV_E_RANGE, "key of %zu bytes, want %zu..%zu", bytes, kMinKeyBytes, kMaxKeyBytes);
  }
  const auto secret = std::make_shared<const SecretKey>(std::span(key, bytes));
  const auto tls = security == SKV_SECURITY_TLS_PSK ? tls_psk(*secret) : nullptr;
  set_security(security, secret, tls);
}

void Endpoint::set_tls(const char* certificate, const char* key, const char* authority, const char* peer_name) {
  if (certificate == nullptr || key == nullptr || authority == nullptr) {
    fail(SKV_E_NULL, "certificate, key and authority must all be given");
  }
  set_security(SKV_SECURITY_TLS, nullptr,
               tls_certificates(certificate, key, authority, peer_name == nullptr ? "" : peer_name));
}

void Endpoint::set_security(std::int32_t security, std::shared_ptr<const SecretKey> psk,
                            std::shared_ptr<const TlsIdentity> tls) {
  ApiLock lock(*core_);
  if (core_->started || core_->closing) fail(SKV_E_STATE, "security is set before the first listen or connect");
  core_->options.security = security;
  core_->options.psk = std::move(psk);
  core_->options.tls = std::move(tls);
}

void Endpoint::use_device_calls(DeviceCalls& calls) {
  ApiLock lock(*core_);
  core_->options.device_calls = &calls;
}

void Endpoint::set_library(std::int32_t plane, const char* path) {
  if (path == nullptr) fail(SKV_E_NULL, "path is NULL");
  if (plane != SKV_PLANE_NCCL && plane != SKV_PLANE_UCX) {
    fail(SKV_E_RANGE, "plane %d loads no library, want NCCL (3) or UCX (4)", plane);
  }
  ApiLock lock(*core_);
  if (core_->started || core_->closing) fail(SKV_E_STATE, "libraries are named before the first listen or connect");
  core_->options.libraries[plane] = path;
}

void Endpoint::listen(const char* text, char* bound, std::size_t capacity) {
  const Uri uri = parse_uri(text);
  const auto addresses = uri.scheme == Uri::Scheme::kTcp ? resolve(uri, deadline_ms(10'000)) : Addresses{};
  ApiLock lock(*core_);
  if (uri.scheme == Uri::Scheme::kTcp) want_permission(core_->options, addresses);  // before the options are frozen
  core_->start(lock.get());
  open_planes(*core_, uri, addresses, false);
  std::string name;
  std::unique_ptr<Listener> listener;
  switch (uri.scheme) {
    case Uri::Scheme::kTcp:
      listener = listen_tcp(*core_, uri, addresses, name);
      break;
    case Uri::Scheme::kUnix:
      listener = listen_unix(*core_, uri, name);
      break;
    case Uri::Scheme::kInproc:
      listener = listen_inproc(*core_, uri, name);
      break;
  }
  if (bound != nullptr) {
    if (capacity < name.size() + 1) {
      listener->stop();
      fail(SKV_E_TOO_SMALL, "bound[%zu], want %zu for \"%s\"", capacity, name.size() + 1, name.c_str());
    }
    std::memcpy(bound, name.c_str(), name.size() + 1);
  }
  core_->listeners.push_back(std::move(listener));
}

std::shared_ptr<Conn> Endpoint::accept(std::uint64_t deadline) {
  ApiLock lock(*core_);
  Core& core = *core_;
  if (core.closing) fail(SKV_E_CLOSED, "the endpoint was destroyed");
  if (core.listeners.empty()) fail(SKV_E_STATE, "the endpoint does not listen");
  if (!core.wait(lock.get(), deadline, [&] { return core.closing || !core.accepted.empty(); })) {
    fail(SKV_E_TIMED_OUT, "no peer connected before the deadline");
  }
  if (core.closing) fail(SKV_E_CLOSED, "the endpoint was destroyed");
  auto conn = std::make_shared<Conn>(core_, core.accepted.front());
  core.accepted.pop_front();
  return conn;
}

std::shared_ptr<Conn> Endpoint::connect(const char* text, std::uint64_t deadline) {
  const Uri uri = parse_uri(text);
  if (now_ns() >= deadline) fail(SKV_E_TIMED_OUT, "the deadline is in the past");
  const auto addresses = uri.scheme == Uri::Scheme::kTcp ? resolve(uri, deadline) : Addresses{};
  ApiLock lock(*core_);
  Core& core = *core_;
  core.start(lock.get());
  open_planes(core, uri, addresses, true);
  const auto carrier = uri.scheme == Uri::Scheme::kInproc ? Carrier::kInproc
                       : uri.scheme == Uri::Scheme::kUnix ? Carrier::kUnix
                                                          : Carrier::kTcp;
  const auto peer = core.make_peer(true, carrier, deadline);
  if (!peer) fail(SKV_E_NO_RESOURCE, "the endpoint has %zu connections, as many as it takes", core.options.max_conns);
  try {
    switch (uri.scheme) {
      case Uri::Scheme::kTcp:
        connect_tcp(*peer, uri, addresses);
        break;
      case Uri::Scheme::kUnix:
        connect_unix(*peer, uri);
        break;
      case Uri::Scheme::kInproc:
        connect_inproc(*peer, uri);
        break;
    }
  } catch (const Error& error) {
    peer->session.broken(error.status(), error.message());
    core.process(*peer);
    core.link_gone(*peer);
    throw;
  }
  core.connect_opened(peer, lock.get(), deadline);
  return std::make_shared<Conn>(core_, peer);
}

std::int32_t Endpoint::fd() {
  ApiLock lock(*core_);
  if (core_->closing) fail(SKV_E_CLOSED, "the endpoint was destroyed");
  // Whoever asks for the descriptor has decided who drives.
  if (!core_->options.progress_thread) core_->start(lock.get());
  return core_->ready().fd();
}

skv_status Endpoint::progress(std::uint64_t deadline) { return core_->progress(deadline); }

skv_status Endpoint::drain(std::uint64_t deadline) { return core_->drain(deadline); }

std::size_t Endpoint::poll(std::span<void*> out) {
  ApiLock lock(*core_);
  return core_->poll(out);
}

skv_endpoint_stats Endpoint::stats() const {
  ApiLock lock(*core_);
  return core_->snapshot();
}

std::size_t Endpoint::events(std::span<skv_event> out) {
  ApiLock lock(*core_);
  if (core_->closing) fail(SKV_E_CLOSED, "the endpoint was destroyed");
  return core_->events.take(out);
}

}  // namespace skv::transport
