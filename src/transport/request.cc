// SPDX-License-Identifier: Apache-2.0
// Conn and Request.
#include <algorithm>
#include <cstring>

#include "error.h"
#include "payload_memory.h"
#include "transport/core.h"

namespace skv::transport {
namespace {

std::int64_t to_i64(std::uint64_t value) { return static_cast<std::int64_t>(value); }

// What test and wait say about a request in its present state.
skv_status report(const Transfer& transfer) {
  if (transfer.state == SKV_REQUEST_OFFERED) return SKV_OK;
  if (transfer.state != SKV_REQUEST_ENDED) return SKV_IN_PROGRESS;
  if (transfer.status != SKV_OK) throw Error(transfer.status, transfer.message);
  return SKV_OK;
}

// The conn of a request that needs it.
std::shared_ptr<Peer> peer_of(const Transfer& transfer) {
  auto peer = transfer.peer.lock();
  if (!peer || peer->session.is_closed()) fail(SKV_E_CLOSED, "the connection is closed");
  return peer;
}

void want_offered(const Transfer& transfer) {
  if (transfer.state == SKV_REQUEST_OFFERED) return;
  if (transfer.state == SKV_REQUEST_ENDED) {
    fail(SKV_E_STATE, "the request has ended in %s", status_name(transfer.status));
  }
  fail(SKV_E_STATE, "the request has no offer to decide on");
}

}  // namespace

// ------------------------------------------------------------------------------------------------------------ Conn

Conn::Conn(std::shared_ptr<Core> core, std::shared_ptr<Peer> peer) : core_(std::move(core)), peer_(std::move(peer)) {}
Conn::~Conn() { close(); }

std::int64_t Conn::get(std::int32_t key) const {
  ApiLock lock(*core_);
  switch (key) {
    case SKV_CONN_PLANE:
      return peer_->plane;
    case SKV_CONN_OPEN:
      return peer_->session.is_open() && !peer_->session.peer_is_leaving() ? 1 : 0;
    case SKV_CONN_PEER_VERSION:
      return peer_->session.peer().library_version;
    case SKV_CONN_SECURITY:
      return peer_->security;
    default:
      fail(SKV_E_KEY, "conn fact %d, want %d..%d", key, SKV_CONN_PLANE, SKV_CONN_SECURITY);
  }
}

void Conn::close() noexcept {
  ApiLock lock(*core_);
  if (peer_->session.is_closed()) return;
  peer_->session.close("the connection was destroyed");
  core_->process(*peer_);
}

std::shared_ptr<Request> Conn::send(std::uint64_t key, Parcel parcel, std::uint64_t deadline) {
  if (now_ns() >= deadline) fail(SKV_E_TIMED_OUT, "the deadline is in the past");
  auto transfer = std::make_shared<Transfer>();
  Offer offer;
  offer.key = transfer->key = key;
  offer.fingerprint = transfer->fingerprint = parcel.fingerprint;
  offer.request_id = transfer->request_id = parcel.request_id;
  transfer->sending = true;
  transfer->total = parcel.bytes.size();
  transfer->entries = static_cast<std::uint32_t>(parcel.layer_bytes.size());
  offer.layer_bytes = std::move(parcel.layer_bytes);
  transfer->keep_alive = std::move(parcel.keep_alive);
  ApiLock lock(*core_);
  if (!peer_->session.is_open()) {
    fail(SKV_E_CLOSED, "the connection is closed%s%s", peer_->end_message.empty() ? "" : ": ",
         peer_->end_message.c_str());
  }
  transfer->peer = peer_;
  transfer->plane = peer_->plane;
  if (const NcclPlane* plane = core_->device_plane(*peer_)) {
    if (!parcel.bytes.empty()) plane->need_reach(parcel.bytes.data(), parcel.bytes.size(), "payload");
    transfer->source = parcel.bytes;
    transfer->layer_bytes = offer.layer_bytes;
    transfer->ready = parcel.ready;
  }
  transfer->id = peer_->session.offer(std::move(offer), parcel.bytes, deadline, parcel.ready);
  peer_->transfers.emplace(transfer->id, transfer);
  transfer->offered_at = now_ns();
  core_->note_offer(*peer_, *transfer);
  core_->process(*peer_);
  return std::make_shared<Request>(core_, transfer);
}

void Conn::lend(void* communicator, bool sending) {
  if (communicator == nullptr) fail(SKV_E_NULL, "communicator is NULL");
  ApiLock lock(*core_);
  const NcclPlane* plane = peer_->session.is_open() ? core_->device_plane(*peer_) : nullptr;
  if (plane == nullptr) fail(SKV_E_STATE, "the conn is closed, or its plane is not nccl");
  if (peer_->lane_used || peer_->lent.contains(sending)) {
    fail(SKV_E_STATE, "a communicator is lent once for each direction and before the first transfer");
  }
  plane->lend(*peer_->lane, communicator, sending);
  peer_->lent.insert(sending);
}

std::shared_ptr<Request> Conn::recv_offer(std::uint64_t deadline) {
  if (now_ns() >= deadline) fail(SKV_E_TIMED_OUT, "the deadline is in the past");
  auto transfer = std::make_shared<Transfer>();
  ApiLock lock(*core_);
  if (!peer_->session.is_open()) {
    fail(SKV_E_CLOSED, "the connection is closed%s%s", peer_->end_message.empty() ? "" : ": ",
         peer_->end_message.c_str());
  }
  transfer->peer = peer_;
  transfer->plane = peer_->plane;
  transfer->offer_deadline = deadline;
  if (peer_->offers.empty()) {
    peer_->waiting.push_back(transfer);
  } else {
    auto [id, offer, at] = std::move(peer_->offers.front());
    peer_->offers.pop_front();
    core_->offered(transfer, *peer_, id, std::move(offer), at);
  }
  core_->process(*peer_);
  return std::make_shared<Request>(core_, transfer);
}

// --------------------------------------------------------------------------------------------------------- Request

Request::Request(std::shared_ptr<Core> core, std::shared_ptr<Transfer> transfer)
    : core_(std::move(core)), transfer_(std::move(transfer)) {}

Request::~Request() {
  try {
    cancel();
    ApiLock lock(*core_);
    core_->dequeue(transfer_);
  } catch (const Error&) {
  }
}

void Request::set_handle(void* handle) {
  ApiLock lock(*core_);
  transfer_->handle = handle;
  if (transfer_->report) core_->enqueue(transfer_);
}

std::int64_t Request::get(std::int32_t key) const {
  ApiLock lock(*core_);
  const Transfer& transfer = *transfer_;
  switch (key) {
    case SKV_REQUEST_STATE:
      return transfer.state;
    case SKV_REQUEST_KEY:
      return to_i64(transfer.key);
    case SKV_REQUEST_BYTES:
      return to_i64(transfer.total);
    case SKV_REQUEST_LAYERS:
      return transfer.entries == 0 ? 0 : transfer.entries - 1;
    case SKV_REQUEST_MOVED:
      if (const auto peer = transfer.peer.lock(); peer && transfer.state == SKV_REQUEST_MOVING) {
        return to_i64(peer->session.moved(transfer.id));
      }
      return to_i64(transfer.moved);
    case SKV_REQUEST_LAYERS_READY:
      return transfer.layers == 0 ? 0 : transfer.layers - 1;
    case SKV_REQUEST_EARLY_LAYERS:
      return transfer.early ? 1 : 0;
    case SKV_REQUEST_WIRE_NS:
      return transfer.accepted_at == 0 || transfer.ended_at == 0 ? 0 : to_i64(transfer.ended_at - transfer.accepted_at);
    default:
      fail(SKV_E_KEY, "request fact %d, want %d..%d", key, SKV_REQUEST_STATE, SKV_REQUEST_EARLY_LAYERS);
  }
}

void Request::identity(std::uint8_t* fingerprint, std::uint8_t* request_id) const {
  ApiLock lock(*core_);
  if (transfer_->entries == 0) fail(SKV_E_STATE, "the request has no offer yet");
  if (fingerprint) std::memcpy(fingerprint, transfer_->fingerprint.data(), transfer_->fingerprint.size());
  if (request_id) std::memcpy(request_id, transfer_->request_id.data(), transfer_->request_id.size());
}

skv_status Request::test() const {
  ApiLock lock(*core_);
  return report(*transfer_);
}

skv_status Request::wait(std::uint64_t deadline) {
  ApiLock lock(*core_);
  core_->wait(lock.get(), deadline,
              [&] { return transfer_->state == SKV_REQUEST_OFFERED || transfer_->state == SKV_REQUEST_ENDED; });
  return report(*transfer_);
}

skv_status Request::wait_layer(std::int32_t layer, std::uint64_t deadline) {
  ApiLock lock(*core_);
  const Transfer& transfer = *transfer_;
  if (transfer.sending) fail(SKV_E_STATE, "layers arrive at the receiver, this request sends");
  if (transfer.entries == 0 && transfer.state != SKV_REQUEST_ENDED) fail(SKV_E_STATE, "the request has no offer yet");
  const auto layers = static_cast<std::int64_t>(transfer.entries) - 1;
  if (layer < 0 || (transfer.entries > 0 && layer >= layers)) {
    fail(SKV_E_RANGE, "layer %d, the offer has %lld", layer, static_cast<long long>(layers));
  }
  // Entry 0 is the payload's header.
  const auto want = static_cast<std::uint32_t>(layer) + 2;
  core_->wait(lock.get(), deadline, [&] { return transfer.layers >= want || transfer.state == SKV_REQUEST_ENDED; });
  if (transfer.state == SKV_REQUEST_ENDED) return report(transfer);
  return transfer.layers >= want ? SKV_OK : SKV_IN_PROGRESS;
}

void Request::set(std::int32_t key, std::int64_t value) {
  ApiLock lock(*core_);
  Transfer& transfer = *transfer_;
  if (key != SKV_REQUEST_EARLY_LAYERS) {
    fail(SKV_E_KEY, "request option %d, want %d (EARLY_LAYERS)", key, SKV_REQUEST_EARLY_LAYERS);
  }
  if (value != 0 && value != 1) fail(SKV_E_RANGE, "EARLY_LAYERS %lld, want 0 or 1", static_cast<long long>(value));
  if (transfer.sending) fail(SKV_E_STATE, "layers are read by the receiver, this request sends");
  if (transfer.state != SKV_REQUEST_PENDING && transfer.state != SKV_REQUEST_OFFERED) {
    fail(SKV_E_STATE, "EARLY_LAYERS is set before the offer is accepted");
  }
  transfer.early = value != 0;
}

void Request::extend(std::uint32_t ready) {
  ApiLock lock(*core_);
  const auto peer = transfer_->peer.lock();
  if (!peer || transfer_->state == SKV_REQUEST_ENDED) return;
  peer->session.extend(transfer_->id, ready);
  transfer_->ready = std::max(transfer_->ready, ready);
  if (transfer_->on_lane) peer->lane->extend(transfer_->id, ready);
  core_->process(*peer);
}

std::uint64_t Request::affordable() const {
  ApiLock lock(*core_);
  const auto peer = transfer_->peer.lock();
  if (!peer || transfer_->state == SKV_REQUEST_ENDED) return kNever;
  const std::uint64_t now = now_ns();
  core_->measure(*peer, now);
  return peer->session.affordable(transfer_->id, now);
}

void Request::shrink(std::uint32_t entry, std::uint64_t bytes, std::uint32_t note, std::span<const std::byte> head) {
  ApiLock lock(*core_);
  const auto peer = transfer_->peer.lock();
  if (!peer || transfer_->state == SKV_REQUEST_ENDED) return;
  peer->session.shrink(transfer_->id, {entry, note, bytes, {head.begin(), head.end()}});
  core_->process(*peer);
}

void Request::abandon(std::string_view why) {
  ApiLock lock(*core_);
  const auto peer = transfer_->peer.lock();
  if (!peer || transfer_->state == SKV_REQUEST_ENDED) return;
  peer->session.cancel(transfer_->id, SKV_E_CANCELLED, why);
  core_->process(*peer);
}

Arrival Request::arrival() const {
  ApiLock lock(*core_);
  const Transfer& transfer = *transfer_;
  if (transfer.state != SKV_REQUEST_ENDED) return {transfer.layers, false, 0, transfer.shrunk};
  report(transfer);
  return {transfer.entries, true, transfer.ended_at - transfer.accepted_at, transfer.shrunk};
}

void Request::stream_wait(std::int32_t layer, void* stream) {
  ApiLock lock(*core_);
  const Transfer& transfer = *transfer_;
  if (transfer.sending) fail(SKV_E_STATE, "layers arrive at the receiver, this request sends");
  if (!transfer.on_lane) {
    if (!is_external(transfer.plane)) {
      fail(SKV_E_UNAVAILABLE,
           "this conn's plane brings bytes to the host; wait for layers with skv_request_wait_layer");
    }
    fail(SKV_E_STATE, "the offer was not accepted yet");
  }
  const auto layers = static_cast<std::int64_t>(transfer.entries) - 1;
  if (layer < 0 || layer >= layers)
    fail(SKV_E_RANGE, "layer %d, the offer has %lld", layer, static_cast<long long>(layers));
  const auto want = static_cast<std::uint32_t>(layer) + 2;  // entry 0 is the payload's header
  const auto found = [&] {
    return std::find_if(transfer.posted.begin(), transfer.posted.end(),
                        [&](const Transfer::Posted& posted) { return posted.entries >= want; });
  };
  core_->wait(lock.get(), kNever,
              [&] { return found() != transfer.posted.end() || transfer.state == SKV_REQUEST_ENDED; });
  if (transfer.state == SKV_REQUEST_ENDED && transfer.status != SKV_OK) throw Error(transfer.status, transfer.message);
  if (found() == transfer.posted.end()) return;
  const auto event = found()->event;
  DeviceCalls& calls = core_->device_calls();
  check_device(calls, calls.wait_event(stream, event.get()), "making the stream wait");
}

void Request::accept(void* buffer, std::size_t bytes, std::uint64_t deadline) {
  if (now_ns() >= deadline) fail(SKV_E_TIMED_OUT, "the deadline is in the past");
  ApiLock lock(*core_);
  Transfer& transfer = *transfer_;
  want_offered(transfer);
  const auto peer = peer_of(transfer);
  std::shared_ptr<void> owner;
  const NcclPlane* plane = core_->device_plane(*peer);
  if (buffer == nullptr) {
    owner = plane != nullptr ? plane->allocate(transfer.total) : payload_memory(transfer.total);
    buffer = owner.get();
    bytes = transfer.total;
  } else if (reinterpret_cast<std::uintptr_t>(buffer) % 16 != 0) {
    fail(SKV_E_ARGUMENT, "buffer %p is not 16-byte aligned", buffer);
  } else if (plane != nullptr && bytes > 0) {
    plane->need_reach(buffer, bytes, "buffer");
  }
  peer->session.accept(transfer.id, {static_cast<std::byte*>(buffer), bytes}, deadline);
  transfer.owner = std::move(owner);
  transfer.destination = {static_cast<std::byte*>(buffer), transfer.total};
  core_->accepted_now(transfer, *peer, now_ns());
  core_->begin_on_lane(transfer_, *peer);
  core_->process(*peer);
}

void Request::reject(std::string_view reason) {
  ApiLock lock(*core_);
  want_offered(*transfer_);
  const auto peer = peer_of(*transfer_);
  peer->session.reject(transfer_->id, reason);
  core_->process(*peer);
}

void Request::cancel() {
  ApiLock lock(*core_);
  Transfer& transfer = *transfer_;
  if (transfer.state == SKV_REQUEST_ENDED) return;
  const auto peer = transfer.peer.lock();
  if (transfer.id == 0) {  // still waiting for an offer
    if (peer) std::erase(peer->waiting, transfer_);
    return core_->end(transfer_, SKV_E_CANCELLED, "cancelled here", now_ns());
  }
  if (!peer) return core_->end(transfer_, SKV_E_CANCELLED, "cancelled here", now_ns());
  peer->session.cancel(transfer.id, SKV_E_CANCELLED, "cancelled by the other end");
  core_->process(*peer);
  if (transfer.status == SKV_E_CANCELLED) transfer.message = "cancelled here";
}

Received Request::take() {
  ApiLock lock(*core_);
  Transfer& transfer = *transfer_;
  if (transfer.sending) fail(SKV_E_STATE, "this request sends");
  const bool ended = transfer.state == SKV_REQUEST_ENDED;
  if (!ended && !(transfer.early && transfer.state == SKV_REQUEST_MOVING)) {
    fail(SKV_E_STATE, "the request has not ended%s",
         transfer.state == SKV_REQUEST_MOVING ? "; EARLY_LAYERS was not set" : "");
  }
  if (ended && transfer.status != SKV_OK) {
    fail(SKV_E_STATE, "the request has ended in %s", status_name(transfer.status));
  }
  if (transfer.taken) fail(SKV_E_STATE, "the payload was already taken");
  if (!ended && transfer.layers == 0) fail(SKV_E_STATE, "the payload's header has not arrived yet: wait for a layer");
  transfer.taken = true;
  // Until it has ended the transfer writes into the memory, and shares it.
  return {transfer.destination,
          ended ? std::move(transfer.owner) : transfer.owner,
          ended ? transfer.ended_at - transfer.accepted_at : 0,
          transfer.plane,
          transfer.offer->layer_bytes,
          transfer.shrunk,
          ended,
          transfer.on_lane ? core_->options.device : -1};
}

void Request::give_back(Received received) {
  ApiLock lock(*core_);
  transfer_->owner = std::move(received.owner);
  transfer_->taken = false;
}

void Request::destroy() {
  ApiLock lock(*core_);
  Transfer& transfer = *transfer_;
  if (transfer.state == SKV_REQUEST_MOVING) {
    fail(SKV_E_BUSY, "the request moves bytes; cancel it first");
  }
  const auto peer = transfer.peer.lock();
  if (transfer.state != SKV_REQUEST_ENDED) {
    if (transfer.id == 0 || !peer || peer->session.is_closed()) {
      if (peer) std::erase(peer->waiting, transfer_);
      core_->end(transfer_, SKV_E_CANCELLED, "destroyed", now_ns());
    } else {
      peer->session.cancel(transfer.id, SKV_E_CANCELLED, "the request was destroyed");
      core_->process(*peer);
    }
  }
  core_->dequeue(transfer_);
}

}  // namespace skv::transport
