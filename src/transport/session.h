// SPDX-License-Identifier: Apache-2.0
// The protocol of one connection without any I/O: bytes and a clock in, bytes and events out. Every plane, the fuzzers
// and the simulated-clock tests drive this one state machine. Not thread-safe: its owner holds a lock.
//
// A link does:   for (auto t : session.read_targets()) read into t;  session.received(n, now);
//                session.output(list); write list;                   session.sent(n, now);
// and its owner: while (session.next_event(e)) ...;  at session.next_timeout(): session.tick(now).
// Spans from read_targets() and output() are valid until the next call of a method that is not const.
//
// On a plane outside the stream READY frames take the place of CREDIT and DATA: the owner moves the bytes between
// kReady events and says how far it came (ready, arrived, completed).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "transport/auth.h"
#include "transport/clock.h"
#include "transport/control.h"
#include "transport/credit.h"
#include "transport/frame.h"
#include "transport/plane.h"
#include "transport/rate.h"
#include "transport/transfer.h"

namespace skv {
class Error;
}

namespace skv::transport {

struct SessionConfig {
  bool connecting = false;                // this end made the connection: its transfer ids are odd
  std::int32_t plane = SKV_PLANE_INLINE;  // the control stream's own
  PlaneSet planes = 0;                    // what payloads may move on; 0: `plane` alone
  std::uint32_t nccl_version = 0;         // with NCCL among them
  std::uint64_t place = 0;                // of its device; 0: none
  std::array<std::uint8_t, 32> fingerprint{};
  std::array<std::uint8_t, 16> nonce{};
  std::uint64_t epoch = 1;  // accepting end: what to call the connection, not 0
  std::uint64_t max_payload = std::uint64_t{8} << 30;
  std::uint32_t chunk = 256 * 1024;
  std::uint32_t max_transfers = 256;
  std::uint64_t handshake_deadline = kNever;  // absolute
  std::uint64_t heartbeat_ns = 1'000'000'000;
  // With a plane that has connections of its own (UCX): how to reach this end there, and what to call the conn there.
  std::vector<std::byte> card;
  std::uint64_t token = 0;
  std::uint64_t transfer_credit = 32 << 20;  // bytes a sender may have on their way, by transfer
  std::shared_ptr<const SecretKey> psk;      // null: no AUTH frames
  std::shared_ptr<CreditPool> credit;        // shared by the sessions of an endpoint; null: no bound but the above
};

struct Event {
  enum class Kind {
    kOpen,      // handshake done
    kOffered,   // the peer offers `offer` as transfer `id`
    kAccepted,  // our offer `id` was accepted
    kShrunk,    // entry `layers` of `id`, which comes to here, has `moved` bytes now: `shrink` says why
    kLayer,     // `layers` leading layers of `id` verified
    kReady,     // plane outside the stream: `ready` of the other end about `id`
    kEnded,     // transfer `id` ended in `status`; its buffer is not touched any more
    kClosed,    // the connection ended in `status`; every transfer has ended before. output() may hold a last word
  };
  Kind kind = Kind::kClosed;
  std::uint64_t id = 0;
  skv_status status = SKV_OK;
  std::string message;
  std::uint32_t layers = 0;
  std::uint64_t moved = 0;
  std::shared_ptr<const Offer> offer;
  std::shared_ptr<const Shrink> shrink;
  std::shared_ptr<const Ready> ready;
};

class Session {
 public:
  using ReadTargets = std::array<std::span<std::byte>, 2>;

  Session(const SessionConfig& config, std::uint64_t now);
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  // Bytes in. Both targets are empty once closed.
  ReadTargets read_targets();
  // The first target is for a DATA body.
  bool wants_data() const noexcept { return input_ == Input::kData || input_ == Input::kDiscard; }
  void received(std::size_t n, std::uint64_t now);
  void receive(std::span<const std::byte> bytes, std::uint64_t now);  // copies into the targets: tests, fuzzers
  void end_of_stream(std::uint64_t now);
  void broken(skv_status status, std::string message);  // the link failed

  // Bytes out.
  // How many spans were filled. apart: bit i is set when span i is of a DATA body, which another plane may carry.
  std::size_t output(std::span<std::span<const std::byte>> list, std::uint32_t* apart = nullptr);
  bool wants_output() const noexcept;
  void sent(std::size_t n, std::uint64_t now);
  // The link would have blocked. A later sent() then proves that the peer reads: a slow one is held, not lost.
  void stalled() noexcept {
    stalled_ = true;
    rate_.stalled(clock_);
  }

  // The link tells how many bytes it holds that have not left. Worth asking while measuring() says so.
  void holds(std::uint64_t bytes, std::uint64_t now) noexcept { rate_.holds(bytes, now); }
  bool measuring() const noexcept { return !sending_.empty() || rate_.holding(); }

  // Time.
  void tick(std::uint64_t now);
  std::uint64_t next_timeout() const;

  bool next_event(Event& event);

  // Commands. All throw Error; only when open.
  // ready: so many leading entries of the payload hold their bytes; the others are sent once extend() said so.
  std::uint64_t offer(Offer offer, std::span<const std::byte> bytes, std::uint64_t deadline,
                      std::uint32_t ready = kMaxEntries);
  void extend(std::uint64_t id, std::uint32_t ready);  // nothing if the transfer has ended
  // Bytes that entries not ready yet may have so that the transfer ends before its deadline at the rate measured.
  // kNever: no deadline, nothing measured, or not a live transfer of this end.
  std::uint64_t affordable(std::uint64_t id, std::uint64_t now) const;
  // The first entry that is not ready gets smaller, and those after it move up. Nothing if the transfer has ended.
  void shrink(std::uint64_t id, Shrink shrink);
  void accept(std::uint64_t id, std::span<std::byte> destination, std::uint64_t deadline);
  // status: REJECTED (the caller said no) or UNAVAILABLE (this end is leaving).
  void reject(std::uint64_t id, std::string_view reason, skv_status status = SKV_E_REJECTED);
  // Ends a transfer here and now; nothing if it has ended. The kEnded event is queued like any other.
  void cancel(std::uint64_t id, skv_status status, std::string_view message);
  // Ends everything: transfers as CANCELLED, GOAWAY to the peer, kClosed with SKV_E_CLOSED.
  void close(std::string_view message);
  // Takes and makes no more offers, and tells the peer; what is under way goes on.
  void drain(std::string_view message);
  // Ends the connection with an ERROR frame that tells the peer why.
  void refuse(skv_status status, std::string_view message);
  // Planes outside the stream; all do nothing for a transfer that has ended.
  void ready(std::uint64_t id, const Ready& ready);  // says READY: receiver once, sender for each group
  void arrived(std::uint64_t id, std::uint32_t entries, std::uint64_t bytes);  // so many leading ones are moved
  void completed(std::uint64_t id, const DigestRoot& root);                    // all of them: COMMIT, or DONE after it
  // The pool has free bytes again: grants them to transfers that wait for some.
  void regrant();

  bool is_open() const noexcept { return state_ == State::kOpen; }
  bool is_closed() const noexcept { return state_ == State::kClosed; }
  bool peer_is_leaving() const noexcept { return peer_goaway_; }
  bool is_draining() const noexcept { return draining_; }
  // A transfer got less credit than it could use because the pool is short.
  bool starved() const noexcept { return !starved_.empty(); }
  std::uint64_t credit_stalls() const noexcept { return credit_stalls_; }  // times a sender here ran out of credit
  const Hello& peer() const noexcept { return peer_; }                     // all zero before kOpen
  std::uint64_t epoch() const noexcept { return epoch_; }                  // 0 before kOpen
  std::int32_t plane() const noexcept { return plane_; }                   // negotiated; NONE before kOpen
  std::span<const std::byte> peer_card() const noexcept { return peer_card_; }
  std::uint64_t peer_token() const noexcept { return peer_token_; }
  std::uint64_t token() const noexcept { return config_.token; }
  std::uint64_t moved(std::uint64_t id) const noexcept;
  std::size_t live_transfers() const noexcept { return sending_.size() + receiving_.size(); }

 private:
  enum class State { kHello, kAuth, kAttach, kOpen, kClosed };
  enum class Input { kHeader, kControl, kData, kDiscard };

  // A frame on its way out: owned control bytes, or a borrowed piece of a payload.
  struct Staged {
    std::array<std::byte, kHeaderBytes> header;
    std::vector<std::byte> owned;
    std::span<const std::byte> body;
    FrameType type = FrameType::kData;
    std::uint64_t data_of = 0;    // DATA: its transfer
    std::uint64_t commit_of = 0;  // COMMIT: its transfer
    std::size_t sent = 0;         // of header and body
  };

  // session_input.cc: frames of the peer
  void consume(std::size_t n);
  void begin_body();
  void dispatch(std::span<const std::byte> body);
  void on_hello(std::span<const std::byte> body);
  void on_auth(std::span<const std::byte> body);
  void on_attach(std::span<const std::byte> body);
  void on_offer(std::span<const std::byte> body);
  void on_accept(std::span<const std::byte> body);
  void on_credit(std::span<const std::byte> body);
  void on_ready(std::span<const std::byte> body);
  void on_data_header();
  void on_data_end();
  void on_commit(std::span<const std::byte> body);
  void on_shrink(std::span<const std::byte> body);
  void on_receiver_final(std::span<const std::byte> body);  // REJECT, DONE
  void on_cancel(std::span<const std::byte> body);
  void on_goaway(std::span<const std::byte> body);
  void on_error(std::span<const std::byte> body);
  bool is_ours(std::uint64_t id) const noexcept { return (id & 1) == (config_.connecting ? 1 : 0); }
  // True: the id names a transfer that ended here and whose other end may not know yet. False: it is live. Throws
  // PROTOCOL for an id that was never used or is over on both ends.
  bool ended_here(std::uint64_t id) const;

  // session.cc
  void stage(FrameType type, std::uint64_t id, std::vector<std::byte> body);
  // Ahead of DATA that has not begun to leave: for frames whose order among the others does not matter.
  void stage_ahead(FrameType type, std::uint64_t id, std::vector<std::byte> body);
  Staged make_control(FrameType type, std::uint64_t id, std::vector<std::byte> body) const;
  void stage_data();
  void conclude(std::uint64_t id, bool good);  // the receiver's last word
  void take_turn(std::uint64_t id, Sending& sending);
  void say(std::uint64_t id, Sending& sending, const Shrink& shrink);
  bool has_data() const noexcept;  // that waits for the link or for credit
  void grant(std::uint64_t id, Receiving& receiving);
  void sate(std::uint64_t id);
  std::uint64_t ping_ns() const noexcept;
  void stage_hello();
  void stage_proof();
  void opened();
  void proven();  // the peer is who it must be
  void release_buffer(std::uint64_t id);
  // Ends a live transfer: event, buffers released. await_peer: the peer's last frame about it is still to come.
  void finish(std::uint64_t id, skv_status status, std::string message, bool await_peer);
  void close_with(skv_status status, std::string message);
  void fail_with(const Error& error);
  void push(Event event) { events_.push_back(std::move(event)); }

  SessionConfig config_;
  State state_ = State::kHello;
  Hello peer_;
  std::int32_t plane_ = SKV_PLANE_NONE;
  std::vector<std::byte> peer_card_;
  std::uint64_t peer_token_ = 0;
  std::array<std::vector<std::byte>, 2> hellos_;  // ours, the peer's: what AUTH is about
  std::uint64_t epoch_ = 0;
  bool peer_spoke_ = false;  // an intact frame came: worth an ERROR frame
  bool peer_goaway_ = false;
  bool draining_ = false;

  Input input_ = Input::kHeader;
  std::array<std::byte, kHeaderBytes> header_bytes_;
  std::size_t header_have_ = 0;
  FrameHeader in_;
  std::size_t in_have_ = 0;  // of the body
  std::vector<std::byte> control_;
  std::vector<std::byte> discard_;

  std::deque<Staged> staged_;
  std::size_t staged_data_ = 0;
  std::deque<std::uint64_t> turns_;  // transfers with bytes that may be sent, whose turn is next first
  std::set<std::uint64_t> starved_;
  std::uint64_t credit_stalls_ = 0;

  std::map<std::uint64_t, std::unique_ptr<Sending>> sending_;
  std::map<std::uint64_t, std::unique_ptr<Receiving>> receiving_;
  // Ended here, the peer's last frame about it not seen yet.
  std::map<std::uint64_t, bool> ended_;
  std::size_t ended_ours_ = 0;
  std::uint64_t next_id_;
  std::uint64_t last_peer_id_ = 0;

  std::uint64_t heard_;  // when the peer last showed life
  std::uint64_t said_;   // when the peer could last see that we live
  std::uint64_t pinged_ = 0;
  std::uint64_t clock_;  // latest time seen
  bool stalled_ = false;
  RateMeter rate_;

  std::deque<Event> events_;
};

}  // namespace skv::transport
