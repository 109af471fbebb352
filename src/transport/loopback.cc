// SPDX-License-Identifier: Apache-2.0
#include "transport/loopback.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <functional>
#include <map>
#include <mutex>

#include "error.h"

namespace skv::transport {
namespace {

constexpr std::size_t kRingBytes = 1024 * 1024;
constexpr std::size_t kSpans = 16;

// Two byte rings between two cores. Its lock is innermost: cores lock first, never the other way round, and neither
// side ever holds the other's core lock.
class Channel {
 public:
  // Called with the channel locked whenever `side` has something to read, room to write, or an end to see. It must
  // only post. Null: that side is gone.
  void attach(int side, std::function<void()> wake) {
    std::lock_guard lock(mutex_);
    sides_[side].wake = std::move(wake);
  }
  void detach(int side) {
    std::lock_guard lock(mutex_);
    sides_[side].wake = nullptr;
    sides_[side].closed = true;
    sides_[side].ring = {};
    sides_[side].size = 0;
    wake(1 - side);
  }
  // No more bytes come from this side.
  void shut(int side) {
    std::lock_guard lock(mutex_);
    sides_[side].shut = true;
    wake(1 - side);
  }

  std::size_t write(int side, std::span<const std::byte> bytes) {
    std::lock_guard lock(mutex_);
    Side& to = sides_[1 - side];
    if (to.closed) return bytes.size();  // nobody reads: like a socket whose peer is gone, found out by reading
    if (to.ring.empty()) to.ring.resize(kRingBytes);
    const std::size_t n = std::min(bytes.size(), kRingBytes - to.size);
    for (std::size_t done = 0; done < n;) {
      const std::size_t at = (to.head + to.size) % kRingBytes;
      const std::size_t step = std::min(n - done, kRingBytes - at);
      std::memcpy(to.ring.data() + at, bytes.data() + done, step);
      to.size += step;
      done += step;
    }
    if (n > 0) wake(1 - side);
    return n;
  }

  // `ended` when the other side shut or left and everything was read.
  std::size_t read(int side, std::span<std::byte> target, bool& ended) {
    std::lock_guard lock(mutex_);
    Side& from = sides_[side];
    const std::size_t n = std::min(target.size(), from.size);
    for (std::size_t done = 0; done < n;) {
      const std::size_t step = std::min(n - done, kRingBytes - from.head);
      std::memcpy(target.data() + done, from.ring.data() + from.head, step);
      from.head = (from.head + step) % kRingBytes;
      done += step;
    }
    from.size -= n;
    ended = from.size == 0 && (sides_[1 - side].shut || sides_[1 - side].closed);
    if (n > 0) wake(1 - side);
    return n;
  }

  // The posted wake-up runs: later changes need another.
  void awake(int side) {
    std::lock_guard lock(mutex_);
    sides_[side].woken = false;
  }

 private:
  struct Side {
    std::vector<std::byte> ring;  // bytes on their way to this side
    std::size_t head = 0, size = 0;
    std::function<void()> wake;
    bool woken = false;
    bool shut = false;    // says nothing more
    bool closed = false;  // neither reads nor writes any more
  };

  void wake(int side) {
    if (!sides_[side].wake || sides_[side].woken) return;
    sides_[side].woken = true;
    sides_[side].wake();
  }

  std::mutex mutex_;
  std::array<Side, 2> sides_;
};

class LoopbackLink final : public Link {
 public:
  LoopbackLink(Peer& peer, std::shared_ptr<Channel> channel, int side)
      : peer_(peer), channel_(std::move(channel)), side_(side) {}

  void start() {
    channel_->attach(side_, [this, weak = peer_.weak_from_this(), &core = peer_.core] {
      core.post([this, weak] {
        const auto self = weak.lock();
        if (self && !aborted_) pump();
      });
    });
    repost();
  }

  void flush() override {
    if (aborted_) return;
    Session& session = peer_.session;
    for (std::size_t done = 0; done < kIoBudget;) {
      std::array<std::span<const std::byte>, kSpans> list;
      const std::size_t count = session.output(list);
      if (count == 0) return;
      std::size_t n = 0;
      for (std::size_t i = 0; i < count; i++) {
        const std::size_t step = channel_->write(side_, list[i]);
        n += step;
        if (step < list[i].size()) break;
      }
      if (n == 0) return session.stalled();  // the other side wakes us when it has read
      session.sent(n, now_ns());
      done += n;
    }
    repost();
  }

  void finish() override {
    if (aborted_) return;
    flush();
    if (aborted_ || peer_.session.wants_output()) return;
    channel_->shut(side_);
    peer_.core.link_gone(peer_);
  }

  void abort() override {
    if (aborted_) return;
    aborted_ = true;
    channel_->detach(side_);
  }

 private:
  void repost() {
    peer_.core.post([this, weak = peer_.weak_from_this()] {
      const auto self = weak.lock();
      if (self && !aborted_) pump();
    });
  }

  void pump() {
    channel_->awake(side_);
    Session& session = peer_.session;
    bool more = true;
    for (std::size_t done = 0; more && done < kIoBudget && !session.is_closed();) {
      bool ended = false;
      std::size_t n = 0;
      for (const auto& target : session.read_targets()) {
        if (target.empty()) continue;
        const std::size_t step = channel_->read(side_, target, ended);
        n += step;
        if (step < target.size()) break;
      }
      if (n > 0) {
        session.received(n, now_ns());
      } else {
        if (ended) session.end_of_stream(now_ns());
        more = false;
      }
      done += n;
    }
    if (more && !session.is_closed()) repost();
    peer_.core.process(peer_);
  }

  Peer& peer_;  // owns this
  std::shared_ptr<Channel> channel_;
  const int side_;
  bool aborted_ = false;
};

void attach(Peer& peer, std::shared_ptr<Channel> channel, int side) {
  auto link = std::make_unique<LoopbackLink>(peer, std::move(channel), side);
  LoopbackLink& started = *link;
  peer.link = std::move(link);
  started.start();
}

class Registry {
 public:
  void add(const std::string& name, Core* core) {
    std::lock_guard lock(mutex_);
    if (!names_.emplace(name, core).second) fail(SKV_E_ADDRESS, "inproc://%s is taken", name.c_str());
  }
  void remove(const std::string& name) {
    std::lock_guard lock(mutex_);
    names_.erase(name);
  }
  // Posts to the listening core, which cannot go away while the registry is locked.
  void knock(const std::string& name, std::shared_ptr<Channel> channel) {
    std::lock_guard lock(mutex_);
    const auto it = names_.find(name);
    if (it == names_.end()) fail(SKV_E_ADDRESS, "nobody listens on inproc://%s", name.c_str());
    Core* core = it->second;
    core->post([core, channel = std::move(channel)] {
      const auto peer = core->make_peer(false, Carrier::kInproc, kNever);
      if (!peer) return channel->detach(1);
      attach(*peer, channel, 1);
      core->process(*peer);
    });
  }

 private:
  std::mutex mutex_;
  std::map<std::string, Core*> names_;
};

// Never destroyed: endpoints may outlive static destruction.
Registry& registry() {
  static Registry* const it = new Registry;
  return *it;
}

class InprocListener final : public Listener {
 public:
  InprocListener(Core& core, std::string name) : name_(std::move(name)) { registry().add(name_, &core); }
  ~InprocListener() override { stop(); }
  void stop() override {
    if (!stopped_) registry().remove(name_);
    stopped_ = true;
  }

 private:
  std::string name_;
  bool stopped_ = false;
};

}  // namespace

std::unique_ptr<Listener> listen_inproc(Core& core, const Uri& uri, std::string& bound) {
  auto listener = std::make_unique<InprocListener>(core, uri.name);
  bound = "inproc://" + uri.name;
  return listener;
}

void connect_inproc(Peer& peer, const Uri& uri) {
  auto channel = std::make_shared<Channel>();
  registry().knock(uri.name, channel);
  attach(peer, std::move(channel), 0);
}

}  // namespace skv::transport
