// SPDX-License-Identifier: Apache-2.0
// The half of the session that reads the peer's frames.
#include <algorithm>
#include <utility>

#include "error.h"
#include "transport/session.h"

namespace skv::transport {
namespace {

unsigned long long ull(std::uint64_t value) { return value; }

// Statuses that a peer may put into a CANCEL.
bool may_cancel(skv_status status) {
  switch (status) {
    case SKV_E_CANCELLED:
    case SKV_E_TIMED_OUT:
    case SKV_E_REJECTED:
    case SKV_E_CHECKSUM:
    case SKV_E_NO_RESOURCE:
    case SKV_E_UNAVAILABLE:
    case SKV_E_NO_MEMORY:
    case SKV_E_CUDA:
    case SKV_E_NCCL:
      return true;
    default:
      return false;
  }
}

// Statuses that a peer may end the connection with; anything else is reported as PROTOCOL.
skv_status connection_status(skv_status status) {
  switch (status) {
    case SKV_E_VERSION:
    case SKV_E_MODEL:
    case SKV_E_NO_RESOURCE:
    case SKV_E_UNAVAILABLE:
    case SKV_E_TIMED_OUT:
    case SKV_E_AUTH:
    case SKV_E_NCCL_VERSION:
      return status;
    default:
      return SKV_E_PROTOCOL;
  }
}

const char* auth_name(std::uint32_t auth) {
  return auth == kAuthNone ? "nothing" : auth == kAuthPsk ? "a pre-shared key" : "something unknown";
}

std::string from_peer(const Verdict& verdict) {
  return "peer: " + (verdict.reason.empty() ? std::string(status_name(verdict.status)) : verdict.reason);
}

}  // namespace

void Session::consume(std::size_t n) {
  while (n > 0 && state_ != State::kClosed) {
    if (input_ == Input::kHeader) {
      const std::size_t step = std::min(n, kHeaderBytes - header_have_);
      header_have_ += step;
      n -= step;
      if (!could_be_header(std::span(header_bytes_).first(header_have_))) {
        fail(SKV_E_PROTOCOL, "the peer does not speak this protocol (first bytes %02x %02x %02x %02x)",
             static_cast<unsigned>(header_bytes_[0]), static_cast<unsigned>(header_bytes_[1]),
             static_cast<unsigned>(header_bytes_[2]), static_cast<unsigned>(header_bytes_[3]));
      }
      if (header_have_ < kHeaderBytes) return;
      header_have_ = 0;
      in_ = decode_header(header_bytes_);
      peer_spoke_ = true;
      begin_body();
      continue;
    }
    const std::size_t step = std::min<std::size_t>(n, in_.length - in_have_);
    in_have_ += step;
    n -= step;
    if (input_ == Input::kData) receiving_.at(in_.transfer_id)->advance(step);
    if (in_have_ < in_.length) return;
    const Input was = input_;
    input_ = Input::kHeader;
    if (was == Input::kData) {
      on_data_end();
    } else if (was == Input::kControl) {
      dispatch(control_);
    }
  }
}

void Session::begin_body() {
  if (state_ == State::kHello) {
    if (in_.type != FrameType::kHello && in_.type != FrameType::kError) {
      fail(SKV_E_PROTOCOL, "%s before HELLO", frame_name(in_.type));
    }
    if (in_.epoch != 0) fail(SKV_E_PROTOCOL, "%s with epoch %llu, want 0", frame_name(in_.type), ull(in_.epoch));
  } else {
    if (in_.type == FrameType::kHello) fail(SKV_E_PROTOCOL, "a second HELLO");
    const bool proves = in_.type == FrameType::kAuth;
    const bool attaches = in_.type == FrameType::kAttach;
    if (state_ == State::kAttach ? !attaches && in_.type != FrameType::kError : attaches) {
      fail(SKV_E_PROTOCOL, attaches ? "ATTACH out of turn" : "%s before ATTACH", frame_name(in_.type));
    }
    if (state_ == State::kAuth ? !proves && in_.type != FrameType::kError : proves) {
      fail(SKV_E_PROTOCOL, proves ? "AUTH out of turn" : "%s before AUTH", frame_name(in_.type));
    }
    // An ERROR may have been sent before the peer knew the epoch.
    const bool early = in_.type == FrameType::kError && in_.epoch == 0;
    if (in_.epoch != epoch_ && !early) {
      fail(SKV_E_PROTOCOL, "%s with epoch %llu, want %llu", frame_name(in_.type), ull(in_.epoch), ull(epoch_));
    }
  }
  in_have_ = 0;
  if (in_.type == FrameType::kData) {
    on_data_header();
  } else if (in_.length == 0) {
    if (in_.digest != digest64({})) fail(SKV_E_PROTOCOL, "%s digest is wrong", frame_name(in_.type));
    dispatch({});
  } else {
    control_.resize(in_.length);
    input_ = Input::kControl;
  }
}

void Session::dispatch(std::span<const std::byte> body) {
  if (digest64(body) != in_.digest) fail(SKV_E_PROTOCOL, "%s body digest is wrong", frame_name(in_.type));
  switch (in_.type) {
    case FrameType::kHello:
      return on_hello(body);
    case FrameType::kAuth:
      return on_auth(body);
    case FrameType::kAttach:
      return on_attach(body);
    case FrameType::kOffer:
      return on_offer(body);
    case FrameType::kAccept:
      return on_accept(body);
    case FrameType::kCredit:
      return on_credit(body);
    case FrameType::kReady:
      return on_ready(body);
    case FrameType::kCommit:
      return on_commit(body);
    case FrameType::kShrink:
      return on_shrink(body);
    case FrameType::kReject:
    case FrameType::kDone:
      return on_receiver_final(body);
    case FrameType::kCancel:
      return on_cancel(body);
    case FrameType::kPing:
      return stage_ahead(FrameType::kPong, 0, {});
    case FrameType::kPong:
      return;
    case FrameType::kGoaway:
      return on_goaway(body);
    case FrameType::kError:
      return on_error(body);
    case FrameType::kData:
      break;
  }
  fail(SKV_E_PROTOCOL, "unexpected %s", frame_name(in_.type));
}

void Session::on_hello(std::span<const std::byte> body) {
  const Hello hello = decode_hello(body);
  if (config_.connecting ? hello.epoch == 0 : hello.epoch != 0) {
    fail(SKV_E_PROTOCOL, "HELLO epoch %llu from the wrong side", ull(hello.epoch));
  }
  if (hello.protocol_min > kProtocolMax || hello.protocol_max < kProtocolMin) {
    fail(SKV_E_VERSION, "peer speaks transport protocol %u..%u, want %u..%u", hello.protocol_min, hello.protocol_max,
         kProtocolMin, kProtocolMax);
  }
  if (hello.wire_version / 256 != SKV_WIRE_MAJOR) {
    fail(SKV_E_VERSION, "peer writes payload format %u, want %u", hello.wire_version / 256, SKV_WIRE_MAJOR);
  }
  if (hello.plane != static_cast<std::uint32_t>(config_.plane)) {
    fail(SKV_E_UNAVAILABLE, "peer speaks over plane %u, want %d", hello.plane, config_.plane);
  }
  // Before anything that says more about this end. Neither end ever does with less than it was set up for.
  const std::uint32_t auth = config_.psk ? kAuthPsk : kAuthNone;
  if (hello.auth != auth) {
    fail(SKV_E_AUTH, "peer authenticates with %s, want %s", auth_name(hello.auth), auth_name(auth));
  }
  if (config_.psk && hello.nonce == config_.nonce) fail(SKV_E_AUTH, "the peer sends this end's own HELLO back");
  if (hello.fingerprint != config_.fingerprint) {
    const auto id = [](const std::array<std::uint8_t, 32>& f) {
      return static_cast<unsigned>(f[0]) << 24 | static_cast<unsigned>(f[1]) << 16 | static_cast<unsigned>(f[2]) << 8 |
             f[3];
    };
    fail(SKV_E_MODEL, "peer serves model %08x..., want %08x...", id(hello.fingerprint), id(config_.fingerprint));
  }
  const PlaneSet here = planes_or(config_.planes, config_.plane), there = planes_or(hello.planes, config_.plane);
  const std::int32_t chosen = choose_plane(here, there);
  if (chosen == SKV_PLANE_NONE) {
    fail(SKV_E_UNAVAILABLE, "peer moves payloads on %s, want %s", plane_names(there).c_str(),
         plane_names(here).c_str());
  }
  if (chosen == SKV_PLANE_NCCL && hello.nccl_version != config_.nccl_version) {
    fail(SKV_E_NCCL_VERSION, "peer runs NCCL %u, want this end's %u: both must load the same", hello.nccl_version,
         config_.nccl_version);
  }
  peer_ = hello;
  plane_ = chosen;
  hellos_[1].assign(body.begin(), body.end());
  if (!config_.connecting) stage_hello();
  epoch_ = config_.connecting ? hello.epoch : config_.epoch;
  if (!config_.psk) return proven();
  state_ = State::kAuth;
  // The connecting end proves first: an accepting one says nothing about its key to whoever comes by.
  if (config_.connecting) stage_proof();
}

void Session::on_auth(std::span<const std::byte> body) {
  const bool connecting = !config_.connecting;  // the end that proves here
  const Proof want = prove(*config_.psk, connecting, hellos_[connecting ? 1 : 0], hellos_[connecting ? 0 : 1]);
  if (!same_proof(body, want)) fail(SKV_E_AUTH, "the peer does not prove the same key");
  if (!config_.connecting) stage_proof();
  proven();
}

void Session::on_attach(std::span<const std::byte> body) {
  peer_token_ = load_le<std::uint64_t>(body.data());
  const auto card = body.subspan(8);
  peer_card_.assign(card.begin(), card.end());
  opened();
}

bool Session::ended_here(std::uint64_t id) const {
  if (ended_.contains(id)) return true;
  if (sending_.contains(id) || receiving_.contains(id)) return false;
  fail(SKV_E_PROTOCOL, "%s for transfer %llu, which is not open", frame_name(in_.type), ull(id));
}

void Session::on_offer(std::span<const std::byte> body) {
  const std::uint64_t id = in_.transfer_id;
  if (is_ours(id) || id <= last_peer_id_) fail(SKV_E_PROTOCOL, "OFFER with transfer id %llu", ull(id));
  auto offer = std::make_shared<const Offer>(decode_offer(body));
  last_peer_id_ = id;
  std::string why;
  skv_status status = SKV_E_NO_RESOURCE;
  if (draining_) {
    why = "this end is leaving and takes no more offers";
    status = SKV_E_UNAVAILABLE;
  } else if (offer->total > config_.max_payload) {
    why = "payload of " + std::to_string(offer->total) + " bytes, want at most " + std::to_string(config_.max_payload);
  } else if (receiving_.size() + (ended_.size() - ended_ours_) >= config_.max_transfers) {
    why = "more than " + std::to_string(config_.max_transfers) + " transfers are open";
  }
  if (!why.empty()) {
    if (ended_.size() - ended_ours_ >= std::size_t{2} * config_.max_transfers) {
      fail(SKV_E_PROTOCOL, "peer goes on offering beyond its limit of %u", config_.max_transfers);
    }
    stage(FrameType::kReject, id, encode(Verdict{status, why}));
    ended_.emplace(id, true);
    return;
  }
  receiving_.emplace(id, std::make_unique<Receiving>(offer));
  Event event;
  event.kind = Event::Kind::kOffered;
  event.id = id;
  event.offer = std::move(offer);
  push(std::move(event));
}

void Session::on_accept(std::span<const std::byte> body) {
  const Accept accept = decode_accept(body);
  const std::uint64_t id = in_.transfer_id;
  if (!is_ours(id)) fail(SKV_E_PROTOCOL, "ACCEPT for transfer %llu of its own", ull(id));
  if (ended_here(id)) return;
  Sending& sending = *sending_.at(id);
  if (sending.state != Sending::State::kOffered) fail(SKV_E_PROTOCOL, "a second ACCEPT");
  const Accept terms = sending.terms();
  if (accept.operations != terms.operations) {
    fail(SKV_E_PROTOCOL, "ACCEPT of operations %016llx, offered were %016llx", ull(accept.operations),
         ull(terms.operations));
  }
  if (accept.total != terms.total || accept.entries != terms.entries) {
    fail(SKV_E_PROTOCOL, "ACCEPT of %llu bytes in %u entries, offered were %llu in %u", ull(accept.total),
         accept.entries, ull(terms.total), terms.entries);
  }
  sending.state = Sending::State::kMoving;
  for (const Shrink& shrink : std::exchange(sending.unsaid, {})) say(id, sending, shrink);
  Event event;
  event.kind = Event::Kind::kAccepted;
  event.id = id;
  push(std::move(event));
}

void Session::on_credit(std::span<const std::byte> body) {
  const Credit credit = decode_credit(body);
  const std::uint64_t id = in_.transfer_id;
  if (!is_ours(id)) fail(SKV_E_PROTOCOL, "CREDIT for transfer %llu of its own", ull(id));
  if (ended_here(id)) return;
  if (is_external(plane_)) fail(SKV_E_PROTOCOL, "CREDIT on a plane that has none");
  Sending& sending = *sending_.at(id);
  if (sending.state == Sending::State::kOffered) fail(SKV_E_PROTOCOL, "CREDIT before ACCEPT");
  if (credit.granted <= sending.granted || credit.granted > sending.terms().total) {
    fail(SKV_E_PROTOCOL, "CREDIT of %llu bytes after %llu, the transfer has %llu", ull(credit.granted),
         ull(sending.granted), ull(sending.terms().total));
  }
  sending.granted = credit.granted;
  take_turn(id, sending);
}

void Session::on_ready(std::span<const std::byte> body) {
  auto ready = std::make_shared<const Ready>(decode_ready(body));
  const std::uint64_t id = in_.transfer_id;
  if (!is_external(plane_)) fail(SKV_E_PROTOCOL, "READY on a plane whose bytes travel here");
  if (ended_here(id)) return;
  if (is_ours(id)) {
    Sending& sending = *sending_.at(id);
    if (sending.state != Sending::State::kMoving || sending.peer_ready) fail(SKV_E_PROTOCOL, "READY out of turn");
    if (ready->first != 0 || ready->count != 0) fail(SKV_E_PROTOCOL, "READY of a receiver with entries");
    sending.peer_ready = true;
  } else {
    Receiving& receiving = *receiving_.at(id);
    const std::uint32_t left = static_cast<std::uint32_t>(receiving.offer().layer_bytes.size()) - receiving.posted;
    if (!receiving.said_ready) fail(SKV_E_PROTOCOL, "READY before this end's");
    if (ready->first != receiving.posted || ready->count == 0 || ready->count > left) {
      fail(SKV_E_PROTOCOL, "READY of %u entries from %u, want some of %u from %u", ready->count, ready->first, left,
           receiving.posted);
    }
    receiving.posted += ready->count;
  }
  Event event;
  event.kind = Event::Kind::kReady;
  event.id = id;
  event.ready = std::move(ready);
  push(std::move(event));
}

void Session::on_data_header() {
  const std::uint64_t id = in_.transfer_id;
  if (is_external(plane_)) fail(SKV_E_PROTOCOL, "DATA on a plane whose bytes travel elsewhere");
  if (is_ours(id)) fail(SKV_E_PROTOCOL, "DATA for transfer %llu, which is ours", ull(id));
  if (ended_here(id)) {
    input_ = Input::kDiscard;
    return;
  }
  receiving_.at(id)->begin_frame(in_);
  input_ = Input::kData;
}

void Session::on_data_end() {
  const std::uint64_t id = in_.transfer_id;
  Receiving& receiving = *receiving_.at(id);
  const std::uint32_t before = receiving.layers_verified();
  if (!receiving.end_frame()) {
    const std::string why = "layer " + std::to_string(in_.layer) + " at " + std::to_string(in_.offset) +
                            ": the digest of a DATA frame is wrong";
    stage(FrameType::kDone, id, encode(Verdict{SKV_E_CHECKSUM, why}));
    return finish(id, SKV_E_CHECKSUM, why, true);
  }
  if (config_.credit) config_.credit->give_back(in_.length);
  grant(id, receiving);
  if (receiving.layers_verified() == before) return;
  Event event;
  event.kind = Event::Kind::kLayer;
  event.id = id;
  event.layers = receiving.layers_verified();
  event.moved = receiving.moved;
  push(std::move(event));
}

void Session::on_commit(std::span<const std::byte> body) {
  const Commit commit = decode_commit(body);
  const std::uint64_t id = in_.transfer_id;
  if (is_ours(id)) fail(SKV_E_PROTOCOL, "COMMIT for transfer %llu, which is ours", ull(id));
  if (ended_here(id)) {
    ended_.erase(id);
    return;
  }
  Receiving& receiving = *receiving_.at(id);
  if (!is_external(plane_)) return conclude(id, receiving.matches(commit));
  if (receiving.commit || receiving.posted != receiving.offer().layer_bytes.size()) {
    fail(SKV_E_PROTOCOL, "COMMIT out of turn");
  }
  receiving.commit = commit;
  // Our own side of the plane may still be at it; completed() then concludes.
  if (receiving.root) conclude(id, receiving.matches(commit, *receiving.root));
}

void Session::on_shrink(std::span<const std::byte> body) {
  auto shrink = std::make_shared<const Shrink>(decode_shrink(body));
  const std::uint64_t id = in_.transfer_id;
  if (is_ours(id)) fail(SKV_E_PROTOCOL, "SHRINK for transfer %llu, which is ours", ull(id));
  if (ended_here(id)) return;
  receiving_.at(id)->shrink(*shrink);
  Event event;
  event.kind = Event::Kind::kShrunk;
  event.id = id;
  event.layers = shrink->entry;
  event.moved = shrink->bytes;
  event.shrink = std::move(shrink);
  push(std::move(event));
}

void Session::on_receiver_final(std::span<const std::byte> body) {
  const Verdict verdict = decode_verdict(body);
  const std::uint64_t id = in_.transfer_id;
  const bool reject = in_.type == FrameType::kReject;
  const bool known = reject ? verdict.status == SKV_E_REJECTED || verdict.status == SKV_E_NO_RESOURCE ||
                                  verdict.status == SKV_E_UNAVAILABLE
                            : verdict.status == SKV_OK || verdict.status == SKV_E_CHECKSUM;
  if (!known) fail(SKV_E_PROTOCOL, "%s with status %d", frame_name(in_.type), verdict.status);
  if (!is_ours(id)) fail(SKV_E_PROTOCOL, "%s for transfer %llu of its own", frame_name(in_.type), ull(id));
  if (ended_here(id)) {
    ended_.erase(id);
    ended_ours_--;
    return;
  }
  const Sending::State state = sending_.at(id)->state;
  if (reject != (state == Sending::State::kOffered)) fail(SKV_E_PROTOCOL, "%s out of turn", frame_name(in_.type));
  if (verdict.status == SKV_OK) {
    const auto unsent = [id](const Staged& frame) { return frame.data_of == id || frame.commit_of == id; };
    if (state != Sending::State::kCommitted || std::any_of(staged_.begin(), staged_.end(), unsent)) {
      fail(SKV_E_PROTOCOL, "DONE before COMMIT");
    }
    return finish(id, SKV_OK, "", false);
  }
  // The receiver's last frame: answer with ours, unless COMMIT was it and is on its way.
  const std::string why = reject ? verdict.reason : from_peer(verdict);
  cancel(id, verdict.status, why);
  ended_.erase(id);
  ended_ours_--;
}

void Session::on_cancel(std::span<const std::byte> body) {
  const Verdict verdict = decode_verdict(body);
  if (!may_cancel(verdict.status)) fail(SKV_E_PROTOCOL, "CANCEL with status %d", verdict.status);
  const std::uint64_t id = in_.transfer_id;
  if (!ended_here(id)) cancel(id, verdict.status, from_peer(verdict));
  ended_.erase(id);
  if (is_ours(id)) ended_ours_--;
}

void Session::on_goaway(std::span<const std::byte> body) {
  decode_verdict(body);
  peer_goaway_ = true;
}

void Session::on_error(std::span<const std::byte> body) {
  const Verdict verdict = decode_verdict(body);
  close_with(connection_status(verdict.status), from_peer(verdict));
}

}  // namespace skv::transport
