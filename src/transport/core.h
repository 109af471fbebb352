// SPDX-License-Identifier: Apache-2.0
// What the objects of one endpoint share: one lock, the progress loop, the connections and the completion queue.
//
// One lock per endpoint guards everything here, sessions and links included. I/O is done under it in bounded pieces
// (kIoBudget), and because no read or write is ever outstanding, ending a transfer under the lock is enough to know
// that its memory is not touched any more.
#pragma once

// clang-format off: its settings come before Asio
#include "transport/asio_setup.h"
// clang-format on

#include <asio/executor_work_guard.hpp>
#include <asio/io_context.hpp>
#include <asio/posix/stream_descriptor.hpp>
#include <asio/steady_timer.hpp>
#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "transport/endpoint.h"
#include "transport/issuing.h"
#include "transport/lane.h"
#include "transport/link.h"
#include "transport/nccl_plane.h"
#include "transport/observe.h"
#include "transport/ready_set.h"
#include "transport/session.h"
#include "transport/tls.h"
#include "transport/ucx.h"

namespace skv::transport {

// Bytes a link moves before it lets go of the lock.
inline constexpr std::size_t kIoBudget = 1024 * 1024;

// A mutex that takes turns: the progress loop locks and unlocks in quick succession and would starve the others.
class TurnMutex {
 public:
  void lock() {
    std::lock_guard turn(turn_);
    data_.lock();
  }
  void unlock() { data_.unlock(); }

 private:
  std::mutex turn_, data_;
};
using Lock = std::unique_lock<TurnMutex>;

// One request. Guarded by the core's lock.
struct Transfer {
  bool sending = false;
  std::weak_ptr<Peer> peer;
  std::int32_t plane = SKV_PLANE_NONE;
  std::int32_t state = SKV_REQUEST_PENDING;
  std::uint64_t id = 0;  // of the session; 0 while no offer is there
  std::uint64_t key = 0;
  std::shared_ptr<const Offer> offer;
  std::uint64_t total = 0;
  std::uint32_t entries = 0;  // 0: no offer yet
  std::array<std::uint8_t, 32> fingerprint{};
  std::array<std::uint8_t, 16> request_id{};
  std::uint64_t offer_deadline = kNever;  // receive side: for the offer to come
  std::uint32_t layers = 0;               // leading entries verified
  std::uint64_t moved = 0, offered_at = 0, accepted_at = 0, ended_at = 0;
  skv_status status = SKV_IN_PROGRESS;
  std::string message;
  std::shared_ptr<const void> keep_alive;  // send side
  std::shared_ptr<void> owner;             // receive side, library-allocated
  std::span<std::byte> destination;
  std::shared_ptr<const Shrunk> shrunk;    // receive side: what its sender made smaller meanwhile; null: nothing
  std::span<const std::byte> source;       // send side, planes outside the stream
  std::vector<std::uint64_t> layer_bytes;  // the same
  std::uint32_t ready = 0;                 // the same: leading entries that hold their bytes
  struct Posted {
    std::uint32_t entries;
    std::shared_ptr<void> event;
  };
  std::vector<Posted> posted;  // receive side: entries on the device's way, and the event behind them
  bool on_lane = false;        // a plane outside the stream moves it
  bool early = false;          // receive side: layers may be read before the transfer ended
  bool taken = false;
  void* handle = nullptr;
  bool report = false;  // something for Endpoint::poll
  bool queued = false;
};

// One connection. Guarded by the core's lock.
struct Peer : std::enable_shared_from_this<Peer> {
  Peer(Core& owner, const SessionConfig& config, std::uint64_t now);
  Core& core;
  Session session;
  std::int32_t plane;                     // the control stream's own until open, then the negotiated one
  std::uint64_t number = 0, made_at = 0;  // for events
  bool connecting;
  std::int32_t security = SKV_SECURITY_NONE;
  bool opened = false;
  bool link_gone = false;
  std::unique_ptr<Link> link;
  std::unique_ptr<Lane> lane;  // of a plane outside the stream
  bool lane_used = false;      // a transfer began on it
  std::set<bool> lent;         // directions whose communicator is the caller's
  // Over for the session, while the lane may still touch their bytes.
  struct Stopping {
    std::shared_ptr<Transfer> transfer;
    Event event;
  };
  std::map<std::uint64_t, Stopping> stopping;
  asio::steady_timer timer;
  std::uint64_t timer_at = kNever;
  std::uint64_t linger_until = kNever;
  skv_status end_status = SKV_IN_PROGRESS;
  std::string end_message;
  std::map<std::uint64_t, std::shared_ptr<Transfer>> transfers;
  std::deque<std::shared_ptr<Transfer>> waiting;  // for an offer
  struct Unseen {
    std::uint64_t id;
    std::shared_ptr<const Offer> offer;
    std::uint64_t at;
  };
  std::deque<Unseen> offers;  // nobody asked for yet
};

struct Options {
  bool progress_thread = true;
  std::uint64_t max_payload = std::uint64_t{8} << 30;
  std::size_t max_conns = 1024;
  std::uint64_t handshake_ns = 5'000'000'000;
  std::uint64_t heartbeat_ns = 1'000'000'000;
  std::uint32_t chunk = 256 * 1024;
  std::uint64_t transfer_credit = std::uint64_t{32} << 20;
  std::uint64_t endpoint_credit = std::uint64_t{256} << 20;
  bool allow_open_tcp = false;
  std::int64_t peer_uid = -1;  // Unix peers may have it besides our own and root
  std::size_t max_handshakes = 128;
  std::uint64_t handshake_rate = 1000;  // a second
  std::size_t events = 1024;
  PlaneSet planes = 0;                            // 0: the control stream's own
  std::map<std::int32_t, std::string> libraries;  // that planes load, where not the usual ones
  std::int32_t device = 0;                        // of plane nccl
  std::uint64_t abort_ns = 5'000'000'000;
  DeviceCalls* device_calls = nullptr;  // null: CUDA's
  std::int32_t security = SKV_SECURITY_NONE;
  std::shared_ptr<const SecretKey> psk;
  std::shared_ptr<const TlsIdentity> tls;
  std::array<std::uint8_t, 32> fingerprint{};
};

class Core : public std::enable_shared_from_this<Core> {
 public:
  Core();

  // ---- for Endpoint, Conn, Request (they lock)
  TurnMutex mutex;
  Options options;
  bool started = false;  // options are frozen
  bool closing = false;
  bool draining = false;
  skv_endpoint_stats stats{};  // what is counted; snapshot() adds what is now
  EventRing events;
  std::deque<std::shared_ptr<Peer>> accepted;  // handshake done, not taken by skv_accept
  std::vector<std::unique_ptr<Listener>> listeners;

  void start(Lock& lock);  // freezes the options, starts the progress thread
  // What UCX needs, if PLANES has it: before the first conn of a URI that goes by this device ("": any). Throws
  // UNAVAILABLE.
  void open_ucx(const std::string& device);
  void close() noexcept;
  // Waits until done() or the deadline; drives progress itself if that is the caller's business. False: deadline.
  bool wait(Lock& lock, std::uint64_t deadline, const std::function<bool()>& done);
  skv_status progress(std::uint64_t deadline);
  skv_status drain(std::uint64_t deadline);
  void enqueue(const std::shared_ptr<Transfer>& transfer);  // has something to report
  void dequeue(const std::shared_ptr<Transfer>& transfer);
  std::size_t poll(std::span<void*> out);
  ReadySet& ready() noexcept { return ready_; }
  skv_endpoint_stats snapshot() const;
  void connect_opened(const std::shared_ptr<Peer>& peer, Lock& lock, std::uint64_t deadline);
  void note_offer(const Peer& peer, const Transfer& transfer) {
    note(peer, SKV_EVENT_OFFERED, SKV_OK, 0, transfer.offered_at, &transfer);
  }
  void end(const std::shared_ptr<Transfer>& transfer, skv_status status, std::string message, std::uint64_t now);
  void offered(const std::shared_ptr<Transfer>& transfer, Peer& peer, std::uint64_t id,
               std::shared_ptr<const Offer> offer, std::uint64_t at);
  // The plane whose memory the payloads of this conn are in, null: the host's. Throws POISONED once it is of no use.
  const NcclPlane* device_plane(const Peer& peer) const;
  void begin_on_lane(const std::shared_ptr<Transfer>& transfer, Peer& peer);
  // A lane let go of a transfer that had been stopped.
  void released(Peer& peer, std::uint64_t id, bool poisoned);
  void wake() { notify(); }
  DeviceCalls& device_calls() const { return options.device_calls == nullptr ? cuda_calls() : *options.device_calls; }
  // An offer was accepted, here or there.
  void accepted_now(Transfer& transfer, const Peer& peer, std::uint64_t now);

  // ---- for links and listeners (the lock is held)
  asio::io_context& io() noexcept { return io_; }
  // A connection of ours or, connecting false, of a listener's. Null: refused, a cap is reached.
  std::shared_ptr<Peer> make_peer(bool connecting, Carrier carrier, std::uint64_t handshake_deadline);
  // Whether one more peer may begin a handshake now; counts it. A listener closes the socket of one that may not.
  bool admit();
  // After anything that touched the session: events, output, timer.
  void process(Peer& peer);
  void link_gone(Peer& peer);
  // Asks the link what it holds, so that the session knows how fast it is.
  void measure(Peer& peer, std::uint64_t now);
  // Something was given to UCX, which has to be driven.
  void kick_ucx();
  // Runs f under the lock on the progress loop. Thread-safe; the lock need not be held.
  void post(std::function<void()> f);
  // Wraps a completion handler's body: lock, run, release what must be destroyed outside the lock.
  template <typename F>
  void locked(F&& f) {
    Lock lock(mutex);
    f();
    release(lock);
  }
  // Unlocks and then drops what transfers kept alive: a destructor of the caller's must not run under the lock.
  void release(Lock& lock);

 private:
  void note(const Peer& peer, std::int32_t kind, skv_status status, std::uint64_t duration_ns, std::uint64_t now,
            const Transfer* transfer = nullptr);
  void on_event(Peer& peer, Event& event, std::uint64_t now);
  void on_closed(Peer& peer, Event& event, std::uint64_t now);
  void open_lane(Peer& peer);
  void on_ended(Peer& peer, const std::shared_ptr<Transfer>& transfer, Event& event, std::uint64_t now);
  void arm(Peer& peer);
  void drain_peer(Peer& peer);
  void share_credit();
  void expire_waiting(Peer& peer, std::uint64_t now);
  void pump_ucx();
  void await_ucx();
  void run_once(std::uint64_t deadline);
  void notify();

  ReadySet ready_;
  asio::io_context io_;
  asio::executor_work_guard<asio::io_context::executor_type> work_;
  std::thread thread_;
  std::unique_ptr<UcxNode> ucx_;
  std::unique_ptr<asio::posix::stream_descriptor> ucx_fd_;  // a copy of the node's
  bool ucx_awaited_ = false, ucx_kicked_ = false;
  bool closed_ = false;  // close() is done with every link
  std::condition_variable_any changed_;
  std::shared_ptr<CreditPool> credit_;
  std::shared_ptr<NcclPlane> nccl_;
  std::set<std::shared_ptr<Peer>> letting_go_;  // whose stopping is not empty
  bool sharing_credit_ = false;                 // share_credit() is posted
  std::uint64_t admissions_ = 0;                // handshakes that may begin now, and since when
  std::uint64_t admitted_at_ = 0;
  std::uint64_t peers_made_ = 0;
  bool driving_ = false;          // a caller is inside run_once
  std::uint64_t progressed_ = 0;  // counts what a caller of progress() wants to know about
  std::set<std::shared_ptr<Peer>> peers_;
  std::deque<std::shared_ptr<Transfer>> completions_;
  std::vector<std::shared_ptr<const void>> dropped_;
};

// Lock of an API call; release() semantics on scope exit.
class ApiLock {
 public:
  explicit ApiLock(Core& core) : core_(core), lock_(core.mutex) {}
  ~ApiLock() {
    if (lock_.owns_lock()) core_.release(lock_);
  }
  Lock& get() noexcept { return lock_; }

 private:
  Core& core_;
  Lock lock_;
};

}  // namespace skv::transport
