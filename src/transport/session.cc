// SPDX-License-Identifier: Apache-2.0
#include "transport/session.h"

#include <algorithm>
#include <cstring>
#include <limits>

#include "error.h"

namespace skv::transport {
namespace {

constexpr std::size_t kDiscardBytes = 64 * 1024;
// DATA frames staged at once: one on the wire, one behind it. More would delay control frames.
constexpr std::size_t kStagedData = 2;
// Of the time left, what bytes are planned into: rates vary, and the last acknowledgement takes a while.
constexpr double kOfTheTime = 0.9;
// A peer that makes us answer without reading the answers is cut off here.
constexpr std::size_t kMaxStaged = 8192;

unsigned long long ull(std::uint64_t value) { return value; }

}  // namespace

Session::Session(const SessionConfig& config, std::uint64_t now)
    : config_(config), next_id_(config.connecting ? 1 : 2), heard_(now), said_(now), clock_(now) {
  if (config_.connecting) stage_hello();
}

void Session::stage_hello() {
  Hello hello;
  hello.library_version = SKV_VERSION_MAJOR * 10000 + SKV_VERSION_MINOR * 100 + SKV_VERSION_PATCH;
  hello.wire_version = SKV_WIRE_MAJOR * 256 + SKV_WIRE_MINOR;
  hello.plane = static_cast<std::uint32_t>(config_.plane);
  hello.fingerprint = config_.fingerprint;
  hello.max_payload = config_.max_payload;
  hello.max_data = kMaxDataBytes;
  hello.max_transfers = config_.max_transfers;
  hello.nonce = config_.nonce;
  hello.epoch = config_.connecting ? 0 : config_.epoch;
  hello.heartbeat_ms = static_cast<std::uint32_t>(
      std::clamp<std::uint64_t>(config_.heartbeat_ns / 1'000'000, 1, std::numeric_limits<std::uint32_t>::max()));
  hello.auth = config_.psk ? kAuthPsk : kAuthNone;
  hello.planes = config_.planes;
  hello.nccl_version = config_.nccl_version;
  hello.place = config_.place;
  hellos_[0] = encode(hello);
  stage(FrameType::kHello, 0, hellos_[0]);
}

void Session::stage_proof() {
  const bool connecting = config_.connecting;
  const Proof proof = prove(*config_.psk, connecting, hellos_[connecting ? 0 : 1], hellos_[connecting ? 1 : 0]);
  stage(FrameType::kAuth, 0, {proof.begin(), proof.end()});
}

void Session::proven() {
  if (plane_ != SKV_PLANE_UCX) return opened();
  state_ = State::kAttach;
  std::vector<std::byte> body(8);
  store_le(body.data(), config_.token);
  body.insert(body.end(), config_.card.begin(), config_.card.end());
  stage(FrameType::kAttach, 0, std::move(body));
}

void Session::opened() {
  state_ = State::kOpen;
  Event event;
  event.kind = Event::Kind::kOpen;
  push(std::move(event));
}

// ------------------------------------------------------------------------------------------------------ bytes in

Session::ReadTargets Session::read_targets() {
  if (state_ == State::kClosed) return {};
  const std::span<std::byte> header(header_bytes_);
  switch (input_) {
    case Input::kHeader:
      return {header.subspan(header_have_), {}};
    case Input::kControl:
      return {std::span(control_).subspan(in_have_), header};
    case Input::kData:
      return {receiving_.at(in_.transfer_id)->frame_rest(), header};
    case Input::kDiscard:
      break;
  }
  discard_.resize(kDiscardBytes);
  const std::size_t left = in_.length - in_have_;
  if (left > discard_.size()) return {discard_, {}};
  return {std::span(discard_).first(left), header};
}

void Session::received(std::size_t n, std::uint64_t now) {
  clock_ = std::max(clock_, now);
  if (n == 0 || state_ == State::kClosed) return;
  heard_ = clock_;
  try {
    consume(n);
    if (staged_.size() > kMaxStaged) fail(SKV_E_PROTOCOL, "the peer does not read %zu waiting frames", staged_.size());
  } catch (const Error& error) {
    fail_with(error);
  } catch (const std::bad_alloc&) {
    fail_with(Error(SKV_E_NO_RESOURCE, "no memory for a control frame"));
  }
}

void Session::receive(std::span<const std::byte> bytes, std::uint64_t now) {
  while (!bytes.empty() && state_ != State::kClosed) {
    std::size_t taken = 0;
    for (const auto& target : read_targets()) {
      const std::size_t n = std::min(target.size(), bytes.size() - taken);
      if (n > 0) std::memcpy(target.data(), bytes.data() + taken, n);
      taken += n;
    }
    received(taken, now);
    bytes = bytes.subspan(taken);
  }
}

void Session::end_of_stream(std::uint64_t now) {
  clock_ = std::max(clock_, now);
  if (state_ == State::kClosed) return;
  if (peer_goaway_) {
    close_with(SKV_E_PEER_LOST, "the peer said goodbye and closed the connection");
  } else if (state_ != State::kOpen) {
    close_with(SKV_E_PEER_LOST, "the peer closed the connection before the handshake was done");
  } else {
    close_with(SKV_E_PEER_LOST, "the peer closed the connection");
  }
}

void Session::broken(skv_status status, std::string message) {
  if (state_ == State::kClosed) {
    staged_.clear();
    return;
  }
  close_with(status, std::move(message));
  staged_.clear();
}

// ----------------------------------------------------------------------------------------------------- bytes out

Session::Staged Session::make_control(FrameType type, std::uint64_t id, std::vector<std::byte> body) const {
  FrameHeader header;
  header.type = type;
  header.transfer_id = id;
  header.epoch = type == FrameType::kHello ? 0 : epoch_;
  header.length = static_cast<std::uint32_t>(body.size());
  header.digest = digest64(body);
  Staged frame;
  frame.header = encode_header(header);
  frame.type = type;
  frame.owned = std::move(body);
  frame.body = frame.owned;  // a moved vector keeps its memory
  if (type == FrameType::kCommit) frame.commit_of = id;
  return frame;
}

void Session::stage(FrameType type, std::uint64_t id, std::vector<std::byte> body) {
  staged_.push_back(make_control(type, id, std::move(body)));
}

void Session::stage_ahead(FrameType type, std::uint64_t id, std::vector<std::byte> body) {
  auto at = staged_.end();
  while (at != staged_.begin() && std::prev(at)->data_of != 0 && std::prev(at)->sent == 0) --at;
  staged_.insert(at, make_control(type, id, std::move(body)));
}

void Session::take_turn(std::uint64_t id, Sending& sending) {
  if (sending.waiting_turn || sending.state != Sending::State::kMoving || !sending.may_frame()) return;
  sending.waiting_turn = true;
  turns_.push_back(id);
}

void Session::grant(std::uint64_t id, Receiving& receiving) {
  CreditPool* pool = config_.credit.get();
  const std::uint64_t left = receiving.total() - std::min(receiving.total(), receiving.granted);
  const std::uint64_t window = std::min(config_.transfer_credit, pool != nullptr ? pool->share() : kNever);
  const std::uint64_t held = receiving.outstanding();
  if (left == 0 || held > window / 2) return sate(id);  // every grant costs a frame: none while half is left
  const std::uint64_t want = std::min(left, window - held);
  const std::uint64_t step = pool != nullptr ? std::min(want, pool->free()) : want;
  if (step == want) {
    sate(id);
  } else if (starved_.insert(id).second) {
    pool->starve();
  }
  if (step == 0 || (step < want && step < kCreditQuantum)) return;
  if (pool != nullptr) pool->take(step);
  receiving.granted += step;
  stage_ahead(FrameType::kCredit, id, encode(Credit{receiving.granted}));
}

void Session::sate(std::uint64_t id) {
  if (starved_.erase(id) > 0) config_.credit->sate();
}

void Session::regrant() {
  if (state_ != State::kOpen) return;
  for (const std::uint64_t id : std::set(starved_)) grant(id, *receiving_.at(id));
}

void Session::stage_data() {
  if (state_ != State::kOpen) return;
  const std::uint32_t most = std::min(config_.chunk, peer_.max_data);
  while (staged_data_ < kStagedData && !turns_.empty()) {
    const std::uint64_t id = turns_.front();
    turns_.pop_front();
    Sending& sending = *sending_.at(id);
    sending.waiting_turn = false;
    Sending::Frame next = sending.next_frame(most);
    next.header.epoch = epoch_;
    next.header.transfer_id = id;
    Staged& frame = staged_.emplace_back();
    frame.header = encode_header(next.header);
    frame.body = next.body;
    frame.data_of = id;
    staged_data_++;
    if (sending.all_framed()) {
      sending.state = Sending::State::kCommitted;
      stage(FrameType::kCommit, id, encode(sending.commit()));
    } else {
      take_turn(id, sending);
      if (sending.stalled_by_credit()) {
        credit_stalls_++;
        rate_.stalled(clock_);
      }
    }
  }
}

bool Session::wants_output() const noexcept { return !staged_.empty() || (state_ == State::kOpen && !turns_.empty()); }

std::size_t Session::output(std::span<std::span<const std::byte>> list, std::uint32_t* apart) {
  stage_data();
  std::size_t n = 0;
  if (apart != nullptr) *apart = 0;
  for (const Staged& frame : staged_) {
    if (frame.sent < kHeaderBytes) {
      if (n == list.size()) break;
      list[n++] = std::span(frame.header).subspan(frame.sent);
    }
    const std::size_t body_sent = frame.sent > kHeaderBytes ? frame.sent - kHeaderBytes : 0;
    if (body_sent < frame.body.size()) {
      if (n == list.size()) break;
      if (apart != nullptr && frame.type == FrameType::kData) *apart |= 1U << n;
      list[n++] = frame.body.subspan(body_sent);
    }
  }
  return n;
}

void Session::sent(std::size_t n, std::uint64_t now) {
  const bool any = n > 0;
  clock_ = std::max(clock_, now);
  if (n > 0) said_ = clock_;
  if (n > 0 && stalled_) {
    stalled_ = false;
    heard_ = clock_;
  }
  while (!staged_.empty()) {
    Staged& frame = staged_.front();
    const std::size_t size = kHeaderBytes + frame.body.size();
    const std::size_t before = std::max(frame.sent, kHeaderBytes);
    const std::size_t step = std::min(n, size - frame.sent);
    frame.sent += step;
    n -= step;
    if (frame.data_of != 0) {
      const auto it = sending_.find(frame.data_of);
      const std::uint64_t bytes = std::max(frame.sent, kHeaderBytes) - before;
      if (it != sending_.end()) it->second->moved += bytes;
      if (bytes > 0) rate_.moved(bytes, clock_);
    }
    if (frame.sent < size) break;
    if (frame.data_of != 0) staged_data_--;
    staged_.pop_front();
  }
  if (any && !has_data()) rate_.idle();
}

bool Session::has_data() const noexcept {
  return staged_data_ > 0 || !turns_.empty() || std::any_of(sending_.begin(), sending_.end(), [](const auto& entry) {
           return entry.second->state == Sending::State::kMoving && entry.second->stalled_by_credit();
         });
}

void Session::release_buffer(std::uint64_t id) {
  std::erase(turns_, id);
  for (auto it = staged_.begin(); it != staged_.end();) {
    if (it->data_of != id) {
      ++it;
      continue;
    }
    if (it->sent == 0) {
      it = staged_.erase(it);
      staged_data_--;
      continue;
    }
    // Half of the frame is on the wire; the rest has to follow, but not from memory that is the caller's again.
    it->owned.assign(it->body.begin(), it->body.end());
    it->body = it->owned;
    ++it;
  }
  if (input_ == Input::kData && in_.transfer_id == id) input_ = Input::kDiscard;
}

// ---------------------------------------------------------------------------------------------------------- time

void Session::tick(std::uint64_t now) {
  const std::uint64_t beat = config_.heartbeat_ns;
  // We were not run for a while (stopped, swapped out): the peer's bytes may be waiting, give it one more beat.
  if (now > clock_ && now - clock_ > add_ns(beat, beat)) heard_ = std::max(heard_, now - 2 * beat);
  clock_ = std::max(clock_, now);
  if (state_ == State::kHello || state_ == State::kAuth || state_ == State::kAttach) {
    if (now >= config_.handshake_deadline) close_with(SKV_E_TIMED_OUT, "the handshake was not done in time");
    return;
  }
  if (state_ != State::kOpen) return;
  std::vector<std::uint64_t> late;
  for (const auto& [id, sending] : sending_) {
    if (now >= sending->deadline) late.push_back(id);
  }
  for (const auto& [id, receiving] : receiving_) {
    if (now >= receiving->deadline) late.push_back(id);
  }
  for (const std::uint64_t id : late) cancel(id, SKV_E_TIMED_OUT, "the deadline passed");
  const std::uint64_t silent = now > heard_ ? now - heard_ : 0;
  if (silent >= 3 * beat) {
    close_with(SKV_E_PEER_LOST, "the peer was silent for " + std::to_string(silent / 1'000'000) + " ms");
    staged_.clear();
    return;
  }
  // A peer that hears nothing for a beat is told that we live, whatever it is doing: an end that is slow to take data,
  // or holds it back by credit, is not lost. One that we hear nothing of is asked.
  const std::uint64_t pace = ping_ns();
  const bool due = silent >= pace || now >= add_ns(said_, pace);
  if (due && (pinged_ == 0 || now >= add_ns(pinged_, pace))) {
    pinged_ = now;
    const auto waits = [](const Staged& frame) { return frame.type == FrameType::kPing && frame.sent == 0; };
    if (std::none_of(staged_.begin(), staged_.end(), waits)) stage_ahead(FrameType::kPing, 0, {});
  }
}

std::uint64_t Session::ping_ns() const noexcept {
  // The more impatient of the two ends sets the pace; not below 1 ms, whatever the peer says.
  const std::uint64_t wanted = std::uint64_t{peer_.heartbeat_ms} * 1'000'000;
  return wanted == 0 ? config_.heartbeat_ns : std::min(config_.heartbeat_ns, wanted);
}

std::uint64_t Session::next_timeout() const {
  if (state_ != State::kOpen && state_ != State::kClosed) return config_.handshake_deadline;
  if (state_ == State::kClosed) return kNever;
  const std::uint64_t beat = config_.heartbeat_ns;
  std::uint64_t next = add_ns(heard_, 3 * beat);
  const std::uint64_t ping =
      std::max(add_ns(std::min(heard_, said_), ping_ns()), pinged_ == 0 ? 0 : add_ns(pinged_, ping_ns()));
  next = std::min(next, ping);
  for (const auto& [id, sending] : sending_) next = std::min(next, sending->deadline);
  for (const auto& [id, receiving] : receiving_) next = std::min(next, receiving->deadline);
  return next;
}

bool Session::next_event(Event& event) {
  if (events_.empty()) return false;
  event = std::move(events_.front());
  events_.pop_front();
  return true;
}

// ------------------------------------------------------------------------------------------------------ commands

std::uint64_t Session::offer(Offer offer, std::span<const std::byte> bytes, std::uint64_t deadline,
                             std::uint32_t ready) {
  if (state_ != State::kOpen || peer_goaway_ || draining_) {
    fail(SKV_E_CLOSED, "the connection is closed or an end of it is leaving");
  }
  if (offer.layer_bytes.empty() || bytes.empty()) fail(SKV_E_EMPTY, "nothing to send");
  if (offer.layer_bytes.size() > kMaxEntries) {
    fail(SKV_E_RANGE, "%zu layers, want at most %u", offer.layer_bytes.size() - 1, kMaxEntries - 1);
  }
  offer.total = bytes.size();
  std::uint64_t left = offer.total;
  for (const std::uint64_t layer : offer.layer_bytes) {
    if (layer == 0 || layer > left) fail(SKV_E_ARGUMENT, "the layer sizes do not sum to %zu bytes", bytes.size());
    left -= layer;
  }
  if (left != 0) fail(SKV_E_ARGUMENT, "the layer sizes sum to %llu bytes less than %zu", ull(left), bytes.size());
  if (offer.total > peer_.max_payload) {
    fail(SKV_E_NO_RESOURCE, "payload of %llu bytes, the peer takes at most %llu", ull(offer.total),
         ull(peer_.max_payload));
  }
  if (sending_.size() + ended_ours_ >= peer_.max_transfers) {
    fail(SKV_E_NO_RESOURCE, "%zu transfers are open, the peer takes at most %u", sending_.size() + ended_ours_,
         peer_.max_transfers);
  }
  const std::uint64_t id = next_id_;
  std::vector<std::byte> body = encode(offer);
  const std::uint64_t operations = is_external(plane_) ? operations_of(plane_, offer.layer_bytes) : 0;
  auto sending = std::make_unique<Sending>(bytes, std::move(offer.layer_bytes), ready, deadline);
  sending->operations = operations;
  stage(FrameType::kOffer, id, std::move(body));
  sending_.emplace(id, std::move(sending));
  next_id_ += 2;
  return id;
}

void Session::extend(std::uint64_t id, std::uint32_t ready) {
  const auto it = sending_.find(id);
  if (it == sending_.end()) return;
  it->second->ready = std::max(it->second->ready, std::min(ready, it->second->entries()));
  take_turn(id, *it->second);
}

std::uint64_t Session::affordable(std::uint64_t id, std::uint64_t now) const {
  const auto it = sending_.find(id);
  if (it == sending_.end() || it->second->deadline == kNever) return kNever;
  const auto rate = rate_.rate(now);
  if (!rate) return kNever;
  const std::uint64_t deadline = it->second->deadline;
  double can = now < deadline ? *rate * kOfTheTime * static_cast<double>(deadline - now) : 0;
  can -= rate_.queued(*rate, now);
  for (const auto& [other, sending] : sending_) {  // they share the link
    if (sending->state != Sending::State::kCommitted) can -= static_cast<double>(sending->waiting());
  }
  return can > 0 ? static_cast<std::uint64_t>(can) : 0;
}

void Session::shrink(std::uint64_t id, Shrink shrink) {
  const auto it = sending_.find(id);
  if (it == sending_.end()) return;
  Sending& sending = *it->second;
  sending.shrink(shrink);
  if (sending.state == Sending::State::kOffered) {
    sending.unsaid.push_back(std::move(shrink));
  } else {
    say(id, sending, shrink);
  }
}

void Session::say(std::uint64_t id, Sending& sending, const Shrink& shrink) {
  sending.say(shrink);
  stage(FrameType::kShrink, id, encode(shrink));
}

void Session::accept(std::uint64_t id, std::span<std::byte> destination, std::uint64_t deadline) {
  const auto it = receiving_.find(id);
  if (it == receiving_.end() || it->second->state != Receiving::State::kOffered)
    fail(SKV_E_STATE, "no offer to accept");
  Receiving& receiving = *it->second;
  const Offer& offer = receiving.offer();
  if (destination.size() < offer.total) {
    fail(SKV_E_TOO_SMALL, "buffer of %zu bytes, want %llu", destination.size(), ull(offer.total));
  }
  const bool external = is_external(plane_);
  const std::uint64_t operations = external ? operations_of(plane_, offer.layer_bytes) : 0;
  stage(FrameType::kAccept, id,
        encode(Accept{offer.total, static_cast<std::uint32_t>(offer.layer_bytes.size()), operations}));
  receiving.accept(destination);
  receiving.deadline = deadline;
  if (external) return;
  if (config_.credit) config_.credit->join();
  grant(id, receiving);
}

void Session::reject(std::uint64_t id, std::string_view reason, skv_status status) {
  const auto it = receiving_.find(id);
  if (it == receiving_.end() || it->second->state != Receiving::State::kOffered)
    fail(SKV_E_STATE, "no offer to reject");
  stage(FrameType::kReject, id, encode(Verdict{status, std::string(reason)}));
  finish(id, status, clean_reason(reason), true);
}

void Session::cancel(std::uint64_t id, skv_status status, std::string_view message) {
  const auto sending = sending_.find(id);
  if (sending == sending_.end() && !receiving_.contains(id)) return;
  // A COMMIT that left was this end's last frame about the transfer; one that still waits is taken back.
  const bool committed = sending != sending_.end() && sending->second->state == Sending::State::kCommitted;
  const bool taken_back =
      committed && std::erase_if(staged_, [id](const Staged& f) { return f.commit_of == id && f.sent == 0; }) > 0;
  finish(id, status, std::string(message), true);
  // What was lost here is nothing that the peer need give up.
  const skv_status told = status == SKV_E_POISONED ? SKV_E_UNAVAILABLE : status;
  if (!committed || taken_back) stage(FrameType::kCancel, id, encode(Verdict{told, std::string(message)}));
}

void Session::close(std::string_view message) {
  if (state_ == State::kClosed) return;
  if (state_ == State::kOpen) {
    while (!sending_.empty()) cancel(sending_.begin()->first, SKV_E_CANCELLED, message);
    while (!receiving_.empty()) cancel(receiving_.begin()->first, SKV_E_CANCELLED, message);
    stage(FrameType::kGoaway, 0, encode(Verdict{SKV_E_CLOSED, std::string(message)}));
  }
  close_with(SKV_E_CLOSED, std::string(message));
}

void Session::ready(std::uint64_t id, const Ready& ready) {
  if (const auto it = receiving_.find(id); it != receiving_.end()) {
    it->second->said_ready = true;
  } else if (const auto out = sending_.find(id); out != sending_.end()) {
    out->second->posted = ready.first + ready.count;
  } else {
    return;
  }
  stage(FrameType::kReady, id, encode(ready));
}

void Session::arrived(std::uint64_t id, std::uint32_t entries, std::uint64_t bytes) {
  if (const auto out = sending_.find(id); out != sending_.end()) out->second->moved = bytes;
  const auto it = receiving_.find(id);
  if (it == receiving_.end()) return;
  it->second->arrived = entries;
  it->second->moved = bytes;
  Event event;
  event.kind = Event::Kind::kLayer;
  event.id = id;
  event.layers = entries;
  event.moved = bytes;
  push(std::move(event));
}

void Session::completed(std::uint64_t id, const DigestRoot& root) {
  if (const auto out = sending_.find(id); out != sending_.end()) {
    Sending& sending = *out->second;
    const Accept terms = sending.terms();
    sending.state = Sending::State::kCommitted;
    sending.moved = terms.total;
    return stage(FrameType::kCommit, id, encode(Commit{terms.total, root.value, root.leaves, terms.entries}));
  }
  const auto it = receiving_.find(id);
  if (it == receiving_.end()) return;
  it->second->root = root;
  if (!it->second->commit) return;
  try {
    conclude(id, it->second->matches(*it->second->commit, root));
  } catch (const Error& error) {
    fail_with(error);
  }
}

void Session::conclude(std::uint64_t id, bool good) {
  const Verdict verdict =
      good ? Verdict{SKV_OK, ""} : Verdict{SKV_E_CHECKSUM, "the root digest differs from the one committed"};
  stage(FrameType::kDone, id, encode(verdict));
  finish(id, verdict.status, verdict.reason, false);
}

void Session::drain(std::string_view message) {
  if (state_ != State::kOpen || draining_) return;
  draining_ = true;
  stage(FrameType::kGoaway, 0, encode(Verdict{SKV_E_CLOSED, std::string(message)}));
}

void Session::refuse(skv_status status, std::string_view message) {
  peer_spoke_ = true;
  fail_with(Error(status, std::string(message)));
}

std::uint64_t Session::moved(std::uint64_t id) const noexcept {
  if (const auto it = sending_.find(id); it != sending_.end()) return it->second->moved;
  if (const auto it = receiving_.find(id); it != receiving_.end()) return it->second->moved;
  return 0;
}

// ----------------------------------------------------------------------------------------------------------- end

void Session::finish(std::uint64_t id, skv_status status, std::string message, bool await_peer) {
  Event event;
  event.kind = Event::Kind::kEnded;
  event.id = id;
  event.status = status;
  event.message = std::move(message);
  event.moved = moved(id);
  release_buffer(id);
  sending_.erase(id);
  sate(id);
  if (const auto it = receiving_.find(id); it != receiving_.end()) {
    if (config_.credit && it->second->state == Receiving::State::kMoving && !is_external(plane_)) {
      config_.credit->give_back(it->second->outstanding());
      config_.credit->leave();
    }
    receiving_.erase(it);
  }
  if (await_peer && ended_.emplace(id, true).second && is_ours(id)) ended_ours_++;
  push(std::move(event));
}

void Session::close_with(skv_status status, std::string message) {
  if (state_ == State::kClosed) return;
  const skv_status transfers = status == SKV_E_CLOSED ? SKV_E_CANCELLED : status;
  while (!sending_.empty()) finish(sending_.begin()->first, transfers, message, false);
  while (!receiving_.empty()) finish(receiving_.begin()->first, transfers, message, false);
  state_ = State::kClosed;
  ended_.clear();
  turns_.clear();
  Event event;
  event.kind = Event::Kind::kClosed;
  event.status = status;
  event.message = std::move(message);
  push(std::move(event));
}

void Session::fail_with(const Error& error) {
  if (state_ == State::kClosed) return;
  close_with(error.status(), error.message());
  // What is half sent is completed, then the reason follows; nothing else matters any more.
  while (!staged_.empty() && staged_.back().sent == 0) staged_.pop_back();
  if (peer_spoke_) stage(FrameType::kError, 0, encode(Verdict{error.status(), error.message()}));
}

}  // namespace skv::transport
