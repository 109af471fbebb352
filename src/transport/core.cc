// SPDX-License-Identifier: Apache-2.0
#include "transport/core.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/random.h>

#include <algorithm>
#include <asio/post.hpp>
#include <csignal>
#include <system_error>

#include "error.h"

namespace skv::transport {
namespace {

constexpr std::uint64_t kLingerNs = 250'000'000;  // for last frames to leave

template <typename T>
void fill_random(T& out) {
  auto* p = reinterpret_cast<std::byte*>(&out);
  for (std::size_t have = 0; have < sizeof out;) {
    const ssize_t n = getrandom(p + have, sizeof out - have, 0);
    if (n < 0 && errno != EINTR) fail_errno(SKV_E_NO_RESOURCE, errno, "getrandom");
    if (n > 0) have += static_cast<std::size_t>(n);
  }
}

}  // namespace

Peer::Peer(Core& owner, const SessionConfig& config, std::uint64_t now)
    : core(owner), session(config, now), plane(config.plane), connecting(config.connecting), timer(owner.io()) {}

Core::Core() : work_(asio::make_work_guard(io_)) { stats.struct_size = sizeof stats; }

// ------------------------------------------------------------------------------------------------------ progress

void Core::start(Lock&) {
  if (closing) fail(SKV_E_CLOSED, "the endpoint was destroyed");
  if (draining) fail(SKV_E_CLOSED, "the endpoint is draining");
  if (started) return;
  if ((options.planes & plane_bit(SKV_PLANE_NCCL)) != 0 && !nccl_) {
    const auto path = options.libraries.find(SKV_PLANE_NCCL);
    nccl_ = std::make_shared<NcclPlane>(path == options.libraries.end() ? std::string() : path->second,
                                        options.device_calls == nullptr ? cuda_calls() : *options.device_calls,
                                        options.device, options.abort_ns);
  }
  credit_ = std::make_shared<CreditPool>(options.endpoint_credit);
  events.resize(options.events);
  if (!options.progress_thread) {
    ready_.drive_by_caller();
    started = true;
    return;
  }
  // The host's signals are not for this thread.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  try {
    thread_ = std::thread([this] {
      pthread_setname_np(pthread_self(), "skv-progress");
      io_.run();
    });
  } catch (const std::system_error& error) {
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    fail_errno(SKV_E_NO_RESOURCE, error.code().value(), "progress thread");
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  started = true;
}

void Core::open_ucx(const std::string& device) {
  if ((options.planes & plane_bit(SKV_PLANE_UCX)) == 0 || ucx_) return;
  const auto path = options.libraries.find(SKV_PLANE_UCX);
  auto node = UcxNode::open(path == options.libraries.end() ? "" : path->second, device);
  const int fd = ::fcntl(node->fd(), F_DUPFD_CLOEXEC, 0);
  if (fd < 0) fail_errno(SKV_E_NO_RESOURCE, errno, "UCX's descriptor");
  ucx_ = std::move(node);
  ucx_fd_ = std::make_unique<asio::posix::stream_descriptor>(io_, fd);
  ready_.watch(fd);
  pump_ucx();
}

void Core::kick_ucx() {
  if (ucx_kicked_ || !ucx_) return;
  ucx_kicked_ = true;
  post([this] {
    ucx_kicked_ = false;
    pump_ucx();
  });
}

void Core::pump_ucx() {
  if (!ucx_ || closed_) return;
  ucx_->progress();
  for (const auto& peer : std::vector(peers_.begin(), peers_.end())) {
    if (peer->plane != SKV_PLANE_UCX || !peer->link || peer->link_gone) continue;
    peer->link->channel_ready();
  }
  if (ucx_->arm()) {
    await_ucx();
  } else {
    kick_ucx();
  }
}

void Core::await_ucx() {
  if (ucx_awaited_) return;
  ucx_awaited_ = true;
  ucx_fd_->async_wait(asio::posix::stream_descriptor::wait_read, [this](const std::error_code& error) {
    if (error) return;
    locked([&] {
      ucx_awaited_ = false;
      pump_ucx();
    });
  });
}

void Core::run_once(std::uint64_t deadline) {
  // One handler may be the first of many that are ready; they are cheap to take along.
  if (io_.run_one_until(to_time_point(deadline)) > 0) io_.poll();
}

bool Core::wait(Lock& lock, std::uint64_t deadline, const std::function<bool()>& done) {
  while (!done()) {
    if (now_ns() >= deadline) return false;
    if (started && !options.progress_thread && !driving_) {
      driving_ = true;
      release(lock);
      run_once(deadline);
      lock.lock();
      driving_ = false;
      changed_.notify_all();  // another waiter may want to drive now
    } else {
      changed_.wait_until(lock, to_time_point(deadline));
    }
  }
  return true;
}

skv_status Core::progress(std::uint64_t deadline) {
  ApiLock lock(*this);
  if (options.progress_thread) fail(SKV_E_STATE, "the endpoint has its own progress thread");
  if (closing) fail(SKV_E_CLOSED, "the endpoint was destroyed");
  if (!started) fail(SKV_E_STATE, "the endpoint neither listens nor is connected");
  const std::uint64_t before = progressed_;
  ready_.clear();
  if (!driving_) {
    driving_ = true;
    release(lock.get());
    io_.poll();
    lock.get().lock();
    driving_ = false;
    changed_.notify_all();
  }
  const bool some =
      wait(lock.get(), deadline, [&] { return closing || progressed_ != before || !completions_.empty(); });
  if (!completions_.empty()) ready_.signal();
  return some ? SKV_OK : SKV_IN_PROGRESS;
}

skv_status Core::drain(std::uint64_t deadline) {
  ApiLock lock(*this);
  if (closing) fail(SKV_E_CLOSED, "the endpoint was destroyed");
  draining = true;
  for (auto& listener : listeners) listener->stop();
  for (const auto& peer : std::vector(peers_.begin(), peers_.end())) drain_peer(*peer);
  const auto idle = [this] {
    return closing || std::all_of(peers_.begin(), peers_.end(), [](const auto& peer) {
             return peer->session.is_closed() || (peer->opened && peer->session.live_transfers() == 0);
           });
  };
  return wait(lock.get(), deadline, idle) ? SKV_OK : SKV_IN_PROGRESS;
}

void Core::drain_peer(Peer& peer) {
  peer.session.drain("the endpoint is draining");
  // Offers that the caller has not seen are declined; those it has it may still decide on.
  for (const auto& unseen : std::exchange(peer.offers, {})) {
    peer.session.reject(unseen.id, "this end is leaving and takes no more offers", SKV_E_UNAVAILABLE);
  }
  process(peer);
}

void Core::share_credit() {
  for (const auto& peer : std::vector(peers_.begin(), peers_.end())) {
    if (!credit_->may_regrant()) return;
    if (!peer->session.starved()) continue;
    peer->session.regrant();
    process(*peer);
  }
}

void Core::notify() {
  progressed_++;
  changed_.notify_all();
  if (driving_) asio::post(io_, [] {});  // whoever drives may be waiting for just this
}

void Core::post(std::function<void()> f) {
  asio::post(io_, [this, f = std::move(f)] { locked(f); });
  if (!options.progress_thread) ready_.signal();
}

void Core::release(Lock& lock) {
  auto dropped = std::move(dropped_);
  dropped_.clear();
  lock.unlock();
}

void Core::close() noexcept {
  {
    ApiLock lock(*this);
    if (closing) return;
    closing = true;
    for (auto& listener : listeners) listener->stop();
    for (const auto& peer : std::vector(peers_.begin(), peers_.end())) {
      peer->session.close("the endpoint was destroyed");
      process(*peer);
    }
    accepted.clear();
    notify();
    // Goodbyes leave as long as that is quick.
    const std::uint64_t deadline = add_ns(now_ns(), kLingerNs);
    if (started) wait(lock.get(), deadline, [&] { return peers_.empty(); });
    // A plane lets go within its own bound, or the watch over it says that it cannot.
    const std::uint64_t bound = add_ns(add_ns(now_ns(), 2 * options.abort_ns), 1'000'000'000);
    if (started) wait(lock.get(), bound, [&] { return letting_go_.empty(); });
    for (const auto& peer : std::vector(letting_go_.begin(), letting_go_.end())) {
      while (!peer->stopping.empty()) released(*peer, peer->stopping.begin()->first, true);
    }
    for (const auto& peer : std::vector(peers_.begin(), peers_.end())) link_gone(*peer);
    listeners.clear();
    closed_ = true;
    if (ucx_fd_) {
      std::error_code ignored;
      ready_.unwatch(ucx_fd_->native_handle());
      ucx_fd_->close(ignored);
    }
  }
  work_.reset();
  asio::post(io_, [this] { io_.stop(); });
  if (thread_.joinable()) {
    thread_.join();
  } else {
    io_.poll();
  }
  ucx_.reset();  // its channels went with their links
}

// ----------------------------------------------------------------------------------------------------- completions

void Core::enqueue(const std::shared_ptr<Transfer>& transfer) {
  transfer->report = true;
  if (transfer->handle == nullptr || transfer->queued) return;
  transfer->queued = true;
  completions_.push_back(transfer);
  ready_.signal();
}

void Core::dequeue(const std::shared_ptr<Transfer>& transfer) {
  std::erase(completions_, transfer);
  transfer->queued = transfer->report = false;
  transfer->handle = nullptr;
  if (completions_.empty() && options.progress_thread) ready_.clear();
}

std::size_t Core::poll(std::span<void*> out) {
  std::size_t n = 0;
  while (n < out.size() && !completions_.empty()) {
    Transfer& transfer = *completions_.front();
    transfer.queued = transfer.report = false;
    out[n++] = transfer.handle;
    completions_.pop_front();
  }
  if (completions_.empty() && options.progress_thread) ready_.clear();
  return n;
}

skv_endpoint_stats Core::snapshot() const {
  skv_endpoint_stats now = stats;
  if (credit_) now.credit_held = credit_->held();
  for (const auto& peer : peers_) {
    if (peer->session.is_closed()) continue;
    now.conns += peer->session.is_open();
    now.handshakes_pending += !peer->opened;
    now.credit_stalls += peer->session.credit_stalls();
    now.offers_waiting += peer->offers.size();
    for (const auto& [id, transfer] : peer->transfers) {
      now.sending += transfer->sending;
      now.receiving += !transfer->sending && transfer->state == SKV_REQUEST_MOVING;
      now.offers_waiting += transfer->state == SKV_REQUEST_OFFERED;
    }
  }
  return now;
}

void Core::note(const Peer& peer, std::int32_t kind, skv_status status, std::uint64_t duration_ns, std::uint64_t now,
                const Transfer* transfer) {
  skv_event event{};
  event.time_ns = now;
  event.kind = kind;
  event.status = status;
  event.conn = peer.number;
  event.duration_ns = duration_ns;
  if (transfer != nullptr) {
    event.transfer = transfer->id;
    event.key = transfer->key;
    event.bytes = kind == SKV_EVENT_ENDED ? transfer->moved : transfer->total;
    event.sending = transfer->sending;
  }
  if (events.push(event)) stats.events_lost++;
}

void Core::accepted_now(Transfer& transfer, const Peer& peer, std::uint64_t now) {
  transfer.state = SKV_REQUEST_MOVING;
  transfer.accepted_at = now;
  const std::uint64_t waited = now - transfer.offered_at;
  if (!transfer.sending) count_log2(stats.queue_log2, waited / 1000);
  note(peer, SKV_EVENT_ACCEPTED, SKV_OK, waited, now, &transfer);
}

// ----------------------------------------------------------------------------------------------------------- peers

bool Core::admit() {
  // A bucket that holds one second's worth.
  const std::uint64_t now = now_ns(), rate = options.handshake_rate;
  const std::uint64_t since = std::min<std::uint64_t>(now - admitted_at_, 1'000'000'000);
  const std::uint64_t more = since * rate / 1'000'000'000;
  if (more > 0) {
    admissions_ = std::min(rate, admissions_ + more);
    admitted_at_ = now;
  }
  const auto pending = std::count_if(peers_.begin(), peers_.end(), [](const auto& p) { return !p->opened; });
  if (admissions_ > 0 && static_cast<std::size_t>(pending) < options.max_handshakes) {
    admissions_--;
    return true;
  }
  stats.handshakes_failed++;
  stats.handshakes_refused++;
  return false;
}

std::shared_ptr<Peer> Core::make_peer(bool connecting, Carrier carrier, std::uint64_t handshake_deadline) {
  if (closing) return nullptr;
  const bool full = peers_.size() >= options.max_conns;
  if (!connecting && (peers_.size() >= options.max_conns + options.max_handshakes || !admit())) return nullptr;
  if (connecting && full) return nullptr;
  SessionConfig config;
  config.connecting = connecting;
  config.plane = carrier == Carrier::kInproc ? SKV_PLANE_INPROC : SKV_PLANE_INLINE;
  config.planes = on_carrier(options.planes, config.plane);
  if (!ucx_ || carrier == Carrier::kInproc) config.planes &= ~plane_bit(SKV_PLANE_UCX);
  if ((config.planes & plane_bit(SKV_PLANE_UCX)) != 0) {
    config.card.assign(ucx_->address().begin(), ucx_->address().end());
    fill_random(config.token);
  }
  if (nccl_) {
    config.nccl_version = nccl_->version();
    config.place = nccl_->place();
  }
  // Within one process there is nobody to keep out. TLS proves the key by itself.
  std::int32_t security = carrier == Carrier::kInproc ? SKV_SECURITY_NONE : options.security;
  if (carrier == Carrier::kUnix && security == SKV_SECURITY_TLS) security = SKV_SECURITY_NONE;
  if (carrier == Carrier::kUnix && security == SKV_SECURITY_TLS_PSK) security = SKV_SECURITY_PSK;
  if (security == SKV_SECURITY_PSK) config.psk = options.psk;
  config.fingerprint = options.fingerprint;
  fill_random(config.nonce);
  fill_random(config.epoch);
  if (config.epoch == 0) config.epoch = 1;
  config.max_payload = options.max_payload;
  config.chunk = options.chunk;
  const std::uint64_t now = now_ns();
  config.handshake_deadline = std::min(handshake_deadline, add_ns(now, options.handshake_ns));
  config.heartbeat_ns = options.heartbeat_ns;
  config.transfer_credit = options.transfer_credit;
  config.credit = credit_;
  auto peer = std::make_shared<Peer>(*this, config, now);
  peer->security = security;
  peer->number = ++peers_made_;
  peer->made_at = now;
  peers_.insert(peer);
  if (full) peer->session.refuse(SKV_E_NO_RESOURCE, "the endpoint has as many connections as it takes");
  return peer;
}

void Core::connect_opened(const std::shared_ptr<Peer>& peer, Lock& lock, std::uint64_t deadline) {
  process(*peer);
  wait(lock, deadline, [&] { return peer->opened || peer->session.is_closed(); });
  if (!peer->opened && !peer->session.is_closed()) {
    peer->session.broken(SKV_E_TIMED_OUT, "the connection was not made in time");
    process(*peer);
  }
  if (peer->opened) return;
  throw Error(peer->end_status == SKV_E_CLOSED ? SKV_E_CLOSED : peer->end_status, peer->end_message);
}

void Core::measure(Peer& peer, std::uint64_t now) {
  if (!peer.link || peer.link_gone || !peer.session.measuring()) return;
  if (const auto bytes = peer.link->holds()) peer.session.holds(*bytes, now);
}

void Core::process(Peer& peer) {
  const auto self = peer.shared_from_this();
  const std::uint64_t now = now_ns();
  expire_waiting(peer, now);
  measure(peer, now);
  Event event;
  for (;;) {
    if (peer.session.next_event(event)) {
      on_event(peer, event, now);
      continue;
    }
    if (peer.link && !peer.link_gone && peer.session.wants_output() && !peer.session.is_closed()) {
      peer.link->flush();  // may break the session
      if (peer.session.next_event(event)) {
        on_event(peer, event, now);
        continue;
      }
    }
    break;
  }
  if (peer.session.is_closed() && !peer.link_gone) {
    if (peer.linger_until == kNever) peer.linger_until = add_ns(now, kLingerNs);
    if (peer.link) {
      peer.link->finish();
    } else {
      link_gone(peer);
    }
  }
  if (credit_->may_regrant() && !sharing_credit_) {
    sharing_credit_ = true;
    post([this] {
      sharing_credit_ = false;
      share_credit();
    });
  }
  arm(peer);
}

void Core::on_event(Peer& peer, Event& event, std::uint64_t now) {
  if (event.kind == Event::Kind::kOpen) {
    peer.opened = true;
    peer.plane = peer.session.plane();
    if (peer.plane == SKV_PLANE_UCX) {
      try {
        peer.link->use(ucx_->connect(peer.session.peer_card(), peer.session.token(), peer.session.peer_token(),
                                     options.endpoint_credit + kMaxDataBytes));
      } catch (const Error& error) {
        peer.opened = false;
        return peer.session.refuse(error.status(), error.message());
      }
      kick_ucx();
    }
    if (peer.plane == SKV_PLANE_NCCL) open_lane(peer);
    stats.handshakes_ok++;
    note(peer, SKV_EVENT_CONN_OPEN, SKV_OK, now - peer.made_at, now);
    if (!peer.connecting) accepted.push_back(peer.shared_from_this());
    notify();
    if (draining) drain_peer(peer);
    return;
  }
  if (event.kind == Event::Kind::kClosed) return on_closed(peer, event, now);
  if (event.kind == Event::Kind::kOffered) {
    Transfer shown;
    shown.id = event.id;
    shown.key = event.offer->key;
    shown.total = event.offer->total;
    shown.offered_at = now;
    note_offer(peer, shown);
    if (peer.waiting.empty()) {
      peer.offers.push_back({event.id, std::move(event.offer), now});
    } else {
      const auto transfer = std::move(peer.waiting.front());
      peer.waiting.pop_front();
      offered(transfer, peer, event.id, std::move(event.offer), now);
    }
    return;
  }

  const auto it = peer.transfers.find(event.id);
  if (it == peer.transfers.end()) {
    // An offer that its sender took back before anybody asked for it, or a request that was destroyed.
    std::erase_if(peer.offers, [&](const auto& unseen) { return unseen.id == event.id; });
    return;
  }
  const auto transfer = it->second;
  switch (event.kind) {
    case Event::Kind::kAccepted:
      accepted_now(*transfer, peer, now);
      return begin_on_lane(transfer, peer);
    case Event::Kind::kReady:
      return peer.lane->ready(event.id, *event.ready);
    case Event::Kind::kShrunk: {
      auto shrunk = transfer->shrunk ? std::make_shared<Shrunk>(*transfer->shrunk) : std::make_shared<Shrunk>();
      if (!transfer->shrunk) {
        shrunk->layer_bytes = transfer->offer->layer_bytes;
        shrunk->notes.resize(shrunk->layer_bytes.size());
      }
      shrunk->layer_bytes[event.layers] = event.moved;
      shrunk->notes[event.layers] = event.shrink->note;
      shrunk->head = event.shrink->head;
      transfer->shrunk = std::move(shrunk);
      return;
    }
    case Event::Kind::kLayer:
      transfer->layers = event.layers;
      transfer->moved = event.moved;
      return notify();
    default:
      break;
  }
  peer.transfers.erase(it);
  if (!transfer->on_lane) return on_ended(peer, transfer, event, now);
  if (event.status == SKV_OK) {
    peer.lane->finished(event.id);
    return on_ended(peer, transfer, event, now);
  }
  // Its bytes are the caller's again only once the plane has let go of them.
  const bool at_once = event.status != SKV_E_CANCELLED && event.status != SKV_E_TIMED_OUT;
  const std::uint64_t id = event.id;
  peer.stopping.emplace(id, Peer::Stopping{transfer, std::move(event)});
  letting_go_.insert(peer.shared_from_this());
  peer.lane->stop(id, at_once || peer.session.is_closed());
}

void Core::released(Peer& peer, std::uint64_t id, bool poisoned) {
  auto node = peer.stopping.extract(id);
  if (node.empty()) return;
  if (peer.stopping.empty()) letting_go_.erase(peer.shared_from_this());
  auto& [transfer, event] = node.mapped();
  if (poisoned) {
    bury(transfer->keep_alive);
    bury(transfer->owner);
    event.message = std::string("the device could not be made to let go of the bytes, which are lost; first it was ") +
                    status_name(event.status) + ": " + event.message;
    event.status = SKV_E_POISONED;
  }
  on_ended(peer, transfer, event, now_ns());
}

void Core::on_ended(Peer& peer, const std::shared_ptr<Transfer>& transfer, Event& event, std::uint64_t now) {
  transfer->moved = event.moved;
  (transfer->sending ? stats.bytes_sent : stats.bytes_received) += event.moved;
  const std::uint64_t took = transfer->accepted_at == 0 ? 0 : now - transfer->accepted_at;
  note(peer, SKV_EVENT_ENDED, event.status, took, now, transfer.get());
  switch (event.status) {
    case SKV_OK:
      (transfer->sending ? stats.sent_ok : stats.received_ok)++;
      count_log2(stats.time_log2, took / 1000);
      count_log2(stats.bytes_log2, event.moved);
      break;
    case SKV_E_CHECKSUM:
      stats.checksum_errors++;
      break;
    case SKV_E_CANCELLED:
      stats.cancelled++;
      break;
    case SKV_E_TIMED_OUT:
      stats.timed_out++;
      break;
    case SKV_E_PEER_LOST:
      stats.peer_lost++;
      break;
    case SKV_E_REJECTED:
      stats.rejected++;
      break;
    case SKV_E_NO_RESOURCE:
      stats.no_resource++;
      break;
    default:
      break;
  }
  if (event.status != SKV_OK) stats.failed++;
  end(transfer, event.status, std::move(event.message), now);
}

// -------------------------------------------------------------------------------------- planes outside the stream

namespace {

// Brings a lane's words to the progress loop.
class CoreOwner final : public LaneOwner {
 public:
  CoreOwner(std::weak_ptr<Core> core, std::weak_ptr<Peer> peer) : core_(std::move(core)), peer_(std::move(peer)) {}

  void say(std::uint64_t id, Ready ready) override {
    tell([id, ready = std::move(ready)](Core&, Peer& peer) { peer.session.ready(id, ready); });
  }
  void posted(std::uint64_t id, std::uint32_t entries, std::shared_ptr<void> event) override {
    tell([id, entries, event = std::move(event)](Core& core, Peer& peer) {
      const auto it = peer.transfers.find(id);
      if (it != peer.transfers.end()) it->second->posted.push_back({entries, event});
      core.wake();
    });
  }
  void arrived(std::uint64_t id, std::uint32_t entries, std::uint64_t bytes) override {
    tell([=](Core&, Peer& peer) { peer.session.arrived(id, entries, bytes); });
  }
  void completed(std::uint64_t id, DigestRoot root) override {
    tell([=](Core&, Peer& peer) { peer.session.completed(id, root); });
  }
  void failed(std::uint64_t id, skv_status status, std::string message) override {
    tell([id, status, message = std::move(message)](Core&, Peer& peer) { peer.session.cancel(id, status, message); });
  }
  void released(std::uint64_t id, bool poisoned) override {
    tell([=](Core& core, Peer& peer) { core.released(peer, id, poisoned); });
  }

 private:
  template <typename Told>
  void tell(Told told) {
    const auto core = core_.lock();
    if (!core) return;
    core->post([weak = peer_, told = std::move(told)] {
      const auto peer = weak.lock();
      if (!peer) return;
      told(peer->core, *peer);
      peer->core.process(*peer);
    });
  }

  const std::weak_ptr<Core> core_;
  const std::weak_ptr<Peer> peer_;
};

}  // namespace

void Core::open_lane(Peer& peer) {
  const std::uint64_t place = peer.session.peer().place;
  peer.lane = nccl_->open(peer.session.epoch(), place != 0 && place == nccl_->place(),
                          std::make_shared<CoreOwner>(weak_from_this(), peer.weak_from_this()));
}

const NcclPlane* Core::device_plane(const Peer& peer) const {
  if (!peer.lane) return nullptr;
  nccl_->need_whole();
  return nccl_.get();
}

void Core::begin_on_lane(const std::shared_ptr<Transfer>& transfer, Peer& peer) {
  if (!peer.lane) return;
  transfer->on_lane = peer.lane_used = true;
  LaneTransfer begun;
  begun.id = transfer->id;
  begun.sending = transfer->sending;
  if (transfer->sending) {
    // Read only: LaneTransfer says so.
    begun.bytes = {const_cast<std::byte*>(transfer->source.data()), transfer->source.size()};
    begun.layer_bytes = transfer->layer_bytes;
    begun.ready = transfer->ready;
    begun.keep = transfer->keep_alive;
  } else {
    begun.bytes = transfer->destination;
    begun.layer_bytes = transfer->offer->layer_bytes;
    begun.keep = transfer->owner;
  }
  peer.lane->begin(std::move(begun));
}

void Core::on_closed(Peer& peer, Event& event, std::uint64_t now) {
  peer.end_status = event.status;
  peer.end_message = std::move(event.message);
  if (!peer.opened && event.status != SKV_E_CLOSED) stats.handshakes_failed++;
  note(peer, peer.opened ? SKV_EVENT_CONN_CLOSED : SKV_EVENT_HANDSHAKE_FAILED, event.status, now - peer.made_at, now);
  stats.credit_stalls += peer.session.credit_stalls();
  if (event.status == SKV_E_PROTOCOL) stats.protocol_errors++;
  if (event.status == SKV_E_AUTH) stats.auth_errors++;
  const skv_status status = event.status == SKV_E_CLOSED ? SKV_E_CANCELLED : event.status;
  for (const auto& transfer : std::exchange(peer.waiting, {})) end(transfer, status, peer.end_message, now);
  peer.offers.clear();
  std::erase_if(accepted, [&](const auto& other) { return other.get() == &peer; });
  notify();
}

void Core::offered(const std::shared_ptr<Transfer>& transfer, Peer& peer, std::uint64_t id,
                   std::shared_ptr<const Offer> offer, std::uint64_t at) {
  transfer->id = id;
  transfer->state = SKV_REQUEST_OFFERED;
  transfer->offered_at = at;
  transfer->key = offer->key;
  transfer->total = offer->total;
  transfer->entries = static_cast<std::uint32_t>(offer->layer_bytes.size());
  transfer->fingerprint = offer->fingerprint;
  transfer->request_id = offer->request_id;
  transfer->offer = std::move(offer);
  transfer->offer_deadline = kNever;
  peer.transfers.emplace(id, transfer);
  enqueue(transfer);
  notify();
}

void Core::end(const std::shared_ptr<Transfer>& transfer, skv_status status, std::string message, std::uint64_t now) {
  if (transfer->state == SKV_REQUEST_ENDED) return;
  transfer->state = SKV_REQUEST_ENDED;
  transfer->status = status;
  transfer->message = std::move(message);
  transfer->ended_at = now;
  if (transfer->on_lane) {
    drop_elsewhere(std::move(transfer->keep_alive));
    if (status != SKV_OK) drop_elsewhere(std::move(transfer->owner));
  }
  if (transfer->keep_alive) dropped_.push_back(std::move(transfer->keep_alive));
  if (status != SKV_OK) {
    if (transfer->owner) dropped_.push_back(std::move(transfer->owner));
    transfer->owner.reset();
    transfer->destination = {};
  }
  enqueue(transfer);
  notify();
}

void Core::link_gone(Peer& peer) {
  if (peer.link_gone) return;
  const auto self = peer.shared_from_this();
  peer.link_gone = true;
  if (peer.link) peer.link->abort();
  peer.timer.cancel();
  peers_.erase(self);
  notify();
}

// ---------------------------------------------------------------------------------------------------------- timers

void Core::expire_waiting(Peer& peer, std::uint64_t now) {
  for (auto it = peer.waiting.begin(); it != peer.waiting.end();) {
    if (now < (*it)->offer_deadline) {
      ++it;
      continue;
    }
    const auto transfer = *it;
    it = peer.waiting.erase(it);
    end(transfer, SKV_E_TIMED_OUT, "no offer came before the deadline", now);
  }
}

void Core::arm(Peer& peer) {
  if (peer.link_gone) return;
  std::uint64_t next = std::min(peer.session.next_timeout(), peer.linger_until);
  for (const auto& transfer : peer.waiting) next = std::min(next, transfer->offer_deadline);
  if (next >= peer.timer_at) return;  // the timer fires early at worst; it is never late
  peer.timer_at = next;
  ready_.wake_at(next);
  peer.timer.expires_at(to_time_point(next));
  peer.timer.async_wait([this, self = peer.shared_from_this(), next](const std::error_code& error) {
    if (error) return;
    locked([&] {
      if (self->timer_at != next || self->link_gone) return;  // armed anew meanwhile
      self->timer_at = kNever;
      const std::uint64_t now = now_ns();
      if (now >= self->linger_until) return link_gone(*self);
      self->session.tick(now);
      process(*self);
    });
  });
}

}  // namespace skv::transport
