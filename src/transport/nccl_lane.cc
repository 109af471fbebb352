// SPDX-License-Identifier: Apache-2.0
#include "transport/nccl_lane.h"

#include <algorithm>
#include <cstring>
#include <mutex>
#include <utility>

#include "error.h"
#include "transport/clock.h"
#include "transport/frame.h"

namespace skv::transport {
namespace {

constexpr std::size_t kFlights = 2;
// A group is closed once it has so much: a few milliseconds of a fast link, so that two of them keep it busy and layers
// can be used soon.
constexpr std::uint64_t kGroupBytes = std::uint64_t{16} << 20;
constexpr std::uint32_t kGroupEntries = 64;
// What is in flight when a transfer is cancelled mostly lands by itself, which spares the communicator.
constexpr std::uint64_t kGraceNs = 250'000'000;
// The plane's words in a sender's READY: u32 generation of the communicator, u32 1 if the id of a new one follows.
constexpr std::size_t kWords = 8;

std::size_t leaves_of(std::uint64_t bytes) { return static_cast<std::size_t>((bytes + kLeafBytes - 1) / kLeafBytes); }

// Payloads that are being sent, by conn and transfer, for a receiver beside its sender. Both are on one issuing thread;
// the lock is for other devices' threads.
class Sources {
 public:
  using Key = std::pair<std::uint64_t, std::uint64_t>;
  static Sources& all() {
    static auto* const it = new Sources;
    return *it;
  }
  template <typename T>
  void put(Key key, std::weak_ptr<T> source) {
    std::lock_guard lock(mutex_);
    sources_[key] = std::move(source);
  }
  std::shared_ptr<void> get(Key key) {
    std::lock_guard lock(mutex_);
    const auto it = sources_.find(key);
    return it == sources_.end() ? nullptr : it->second.lock();
  }
  void drop(Key key) {
    std::lock_guard lock(mutex_);
    sources_.erase(key);
  }

 private:
  std::mutex mutex_;
  std::map<Key, std::weak_ptr<void>> sources_;
};

}  // namespace

NcclLane::NcclLane(NcclContext context, std::shared_ptr<IssuingThread::State> thread, std::uint64_t epoch, bool beside,
                   std::shared_ptr<LaneOwner> owner)
    : context_(std::move(context)),
      thread_(std::move(thread)),
      epoch_(epoch),
      beside_(beside),
      owner_(std::move(owner)),
      sends_(context_, *thread_, true),
      receives_(context_, *thread_, false) {}

NcclLane::Job* NcclLane::find(std::uint64_t id) {
  const auto it = jobs_.find(id);
  return it == jobs_.end() ? nullptr : it->second.get();
}

void NcclLane::fail(std::uint64_t id, const Error& error) {
  Job* job = find(id);
  if (job == nullptr || job->failed || job->stopping) return;
  job->failed = true;
  owner_->failed(id, error.status(), error.message());
}

// -------------------------------------------------------------------------------------------------------- commands

void NcclLane::begin(LaneTransfer transfer) {
  auto made = std::make_unique<Job>();
  Job& job = *made;
  job.it = std::move(transfer);
  std::uint64_t at = 0;
  for (const std::uint64_t bytes : job.it.layer_bytes) {
    job.begins.push_back(at);
    at += bytes;
  }
  const std::uint64_t id = job.it.id;
  jobs_.emplace(id, std::move(made));
  try {
    static_cast<void>(of(job).channel.stream());
  } catch (const Error& error) {
    return fail(id, error);
  }
  if (job.it.sending) {
    if (!beside_) return;
    job.source = std::make_shared<Source>(Source{job.it.bytes.data()});
    Sources::all().put({epoch_, id}, std::weak_ptr<void>(job.source));
  } else {
    owner_->say(id, Ready{});
  }
}

void NcclLane::extend(std::uint64_t id, std::uint32_t ready) {
  Job* job = find(id);
  if (job == nullptr) return;
  job->it.ready = std::max(job->it.ready, ready);
  take_turn(*job);
}

void NcclLane::ready(std::uint64_t id, const Ready& ready) {
  Job* job = find(id);
  if (job == nullptr) return;
  if (job->it.sending) {
    job->peer_ready = true;
    return take_turn(*job);
  }
  Announced announced{id, ready.first, ready.count, 0, std::nullopt};
  const bool meets = ready.words.size() == kWords + nccl::kUniqueIdBytes;
  if (!meets && ready.words.size() != kWords) {
    return fail(id, Error(SKV_E_PROTOCOL, "READY with " + std::to_string(ready.words.size()) + " bytes of the plane"));
  }
  announced.generation = load_le<std::uint32_t>(ready.words.data());
  if ((load_le<std::uint32_t>(ready.words.data() + 4) == 1) != meets) {
    return fail(id, Error(SKV_E_PROTOCOL, "READY says something else of its id than its length"));
  }
  if (meets) {
    announced.meet.emplace();
    std::memcpy(announced.meet->internal, ready.words.data() + kWords, nccl::kUniqueIdBytes);
  }
  announced_.push_back(std::move(announced));
}

void NcclLane::finished(std::uint64_t id) {
  if (const Job* job = find(id); job != nullptr && job->source) Sources::all().drop({epoch_, id});
  jobs_.erase(id);
}

void NcclLane::stop(std::uint64_t id, bool at_once, std::shared_ptr<void> expectation) {
  Job* job = find(id);
  if (job == nullptr) return owner_->released(id, false);
  job->stopping = true;
  job->stop_at = at_once ? 0 : add_ns(now_ns(), kGraceNs);
  job->expectation = std::move(expectation);
  std::erase_if(announced_, [id](const Announced& announced) { return announced.id == id; });
  Direction& direction = of(*job);
  if (job->posted > 0) direction.dirty = true;
  std::erase_if(direction.flights,
                [id](const Flight& flight) { return flight.id == id && flight.state == Flight::State::kAnnounced; });
}

void NcclLane::lend(nccl::Comm comm, bool sending) { (sending ? sends_ : receives_).channel.borrow(comm); }

void NcclLane::take_turn(Job& job) {
  if (!job.it.sending || job.waiting_turn || !job.peer_ready || job.failed || job.stopping) return;
  if (job.posted >= std::min<std::size_t>(job.it.ready, job.begins.size())) return;
  job.waiting_turn = true;
  turns_.push_back(job.it.id);
}

// ---------------------------------------------------------------------------------------------------------- groups

bool NcclLane::announce(Direction& direction) {
  NcclChannel& channel = direction.channel;
  for (std::size_t tries = turns_.size(); tries > 0; tries--) {
    const std::uint64_t id = turns_.front();
    turns_.pop_front();
    Job* job = find(id);
    if (job == nullptr || job->stopping || job->failed) continue;
    if (!direction.flights.empty() && direction.flights.front().id != id) {
      turns_.push_back(id);
      continue;
    }
    job->waiting_turn = false;
    Flight flight;
    flight.id = id;
    flight.first = job->posted;
    std::uint64_t bytes = 0;
    while (flight.count < kGroupEntries && bytes < kGroupBytes && flight.first + flight.count < job->it.ready &&
           flight.first + flight.count < job->begins.size()) {
      bytes += job->it.layer_bytes[flight.first + flight.count];
      flight.count++;
    }
    try {
      Ready ready{flight.first, flight.count, std::vector<std::byte>(kWords)};
      if (!beside_ && channel.state() == NcclChannel::State::kNone) {
        if (channel.borrowed()) skv::fail(SKV_E_NCCL, "the communicator that was lent had to be given up");
        const nccl::UniqueId made = channel.make_id();
        channel.generation++;
        store_le<std::uint32_t>(ready.words.data() + 4, 1);
        const auto* text = reinterpret_cast<const std::byte*>(made.internal);
        ready.words.insert(ready.words.end(), text, text + nccl::kUniqueIdBytes);
        store_le<std::uint32_t>(ready.words.data(), channel.generation);
        job->posted = flight.first + flight.count;
        owner_->say(id, std::move(ready));
        channel.meet(made);
      } else {
        store_le<std::uint32_t>(ready.words.data(), channel.generation);
        job->posted = flight.first + flight.count;
        owner_->say(id, std::move(ready));
      }
      direction.flights.push_back(std::move(flight));
    } catch (const Error& error) {
      direction.dirty = true;
      fail(id, error);
    }
    // Its next group before another transfer's.
    if (!job->failed && job->posted < std::min<std::size_t>(job->it.ready, job->begins.size())) {
      job->waiting_turn = true;
      turns_.push_front(id);
    }
    return true;
  }
  return false;
}

bool NcclLane::take_announced(Direction& direction) {
  NcclChannel& channel = direction.channel;
  while (!announced_.empty()) {
    Announced& next = announced_.front();
    Job* job = find(next.id);
    if (job == nullptr || job->stopping || job->failed) {
      announced_.pop_front();
      continue;
    }
    if (!direction.flights.empty() && direction.flights.front().id != next.id) return false;
    const std::uint64_t id = next.id;
    try {
      Flight flight;
      flight.id = id;
      flight.first = next.first;
      flight.count = next.count;
      if (beside_) {
        flight.source = std::static_pointer_cast<Source>(Sources::all().get({epoch_, id}));
        if (!flight.source)
          skv::fail(SKV_E_UNAVAILABLE, "the sender is not beside this end, although its HELLO said so");
      } else if (next.meet) {
        if (channel.borrowed()) {
          skv::fail(SKV_E_NCCL, "a communicator was lent to this end only: the sender makes its own");
        }
        if (channel.state() !=
            NcclChannel::State::kNone) {  // the sender gave it up, so there is nothing in flight on it
          if (!direction.flights.empty()) return false;
          channel.retire();
          return true;
        }
        channel.generation = next.generation;
        const nccl::UniqueId meet = *next.meet;
        announced_.pop_front();
        job->posted = flight.first + flight.count;
        channel.meet(meet);
        direction.flights.push_back(std::move(flight));
        return true;
      } else if (next.generation != channel.generation || channel.state() == NcclChannel::State::kNone) {
        skv::fail(SKV_E_NCCL, "the sender's communicator is its %u., this end knows the %u.", next.generation,
                  channel.generation);
      }
      announced_.pop_front();
      job->posted = flight.first + flight.count;
      direction.flights.push_back(std::move(flight));
    } catch (const Error& error) {
      direction.dirty = true;
      if (!announced_.empty() && announced_.front().id == id) announced_.pop_front();
      fail(id, error);
    }
    return true;
  }
  return false;
}

// NCCL has taken the group: digests behind it, then the event.
void NcclLane::fly(Direction& direction, Flight& flight) {
  const Job& job = *jobs_.at(flight.id);
  std::vector<std::span<const std::byte>> pieces;
  for (std::uint32_t i = flight.first; i < flight.first + flight.count; i++) {
    pieces.push_back(job.it.bytes.subspan(job.begins[i], job.it.layer_bytes[i]));
    flight.leaves += leaves_of(job.it.layer_bytes[i]);
  }
  DeviceCalls& calls = context_.calls;
  NcclChannel& channel = direction.channel;
  std::byte* room = channel.room(calls.leaves_room(pieces.size(), flight.leaves));
  flight.event = channel.make_event();
  check_device(calls, calls.leaves(pieces, room, channel.stream(), &flight.digests), "digesting a payload");
  check_device(calls, calls.record(flight.event.get(), channel.stream()), "recording an event");
  flight.state = Flight::State::kFlying;
  if (!direction.sending) owner_->posted(flight.id, flight.first + flight.count, flight.event);
}

bool NcclLane::post(Direction& direction) {
  const auto next = std::find_if(direction.flights.begin(), direction.flights.end(),
                                 [](const Flight& flight) { return flight.state != Flight::State::kFlying; });
  if (next == direction.flights.end() || next->state == Flight::State::kPosting) return false;
  if (!beside_ && direction.channel.state() != NcclChannel::State::kUsable) return false;
  const Job& job = *jobs_.at(next->id);
  std::vector<NcclChannel::Piece> pieces;
  for (std::uint32_t i = next->first; i < next->first + next->count; i++) {
    pieces.push_back({job.it.bytes.data() + job.begins[i], job.it.layer_bytes[i]});
  }
  next->state = Flight::State::kPosting;
  if (!beside_) {
    direction.channel.post(pieces.data(), pieces.size());
    return true;
  }
  if (!direction.sending) {
    const std::byte* from = next->source->bytes + job.begins[next->first];
    const std::uint64_t bytes = pieces.back().bytes + pieces.back().size - pieces.front().bytes;
    check_device(context_.calls, context_.calls.copy(pieces.front().bytes, from, bytes, direction.channel.stream()),
                 "copying on the device");
  }
  fly(direction, *next);
  return true;
}

bool NcclLane::land(Direction& direction) {
  Flight& flight = direction.flights.front();
  if (flight.state != Flight::State::kFlying) return false;
  const int code = context_.calls.query(flight.event.get());
  if (code == DeviceCalls::kNotReady) return false;
  check_device(context_.calls, code, "moving a payload");
  Job& job = *jobs_.at(flight.id);
  for (std::size_t i = 0; i < flight.leaves; i++) job.chain.add(flight.digests[i]);
  job.done = flight.first + flight.count;
  direction.flights.pop_front();
  if (job.stopping || job.failed) return true;
  const std::uint64_t id = job.it.id;
  const bool all = job.done == job.begins.size();
  owner_->arrived(id, job.done, all ? job.it.bytes.size() : job.begins[job.done]);
  if (all) owner_->completed(id, DigestRoot{job.chain.value(), job.chain.count()});
  return true;
}

bool NcclLane::move(Direction& direction, std::uint64_t now) {
  NcclChannel& channel = direction.channel;
  bool moved = false;
  if (channel.state() == NcclChannel::State::kEnding) {
    bool lost = false;
    try {
      if (!channel.ended(now, lost)) return false;
    } catch (const Error&) {  // the device fails even at that
      lost = true;
      channel.forsake();
    }
    direction.dirty = false;
    if (lost) poison(*thread_);
    for (const Flight& flight : direction.flights) {
      Job* job = find(flight.id);
      if (job == nullptr || !lost) continue;
      job->lost = true;
      bury(job->it.keep);
      fail(flight.id, Error(SKV_E_POISONED, "an operation on the device could not be ended"));
    }
    direction.flights.clear();
    return true;
  }
  std::uint64_t at = direction.flights.empty() ? 0 : direction.flights.front().id;
  try {
    if (!beside_ && (!direction.flights.empty() || channel.state() == NcclChannel::State::kMeeting) &&
        channel.state() != NcclChannel::State::kNone) {
      const bool met = channel.state() == NcclChannel::State::kUsable;
      if (channel.poll() == nccl::kSuccess) {
        moved |= !met;
        for (Flight& flight : direction.flights) {
          if (flight.state != Flight::State::kPosting) continue;
          at = flight.id;
          fly(direction, flight);
          moved = true;
        }
      }
    }
    while (!direction.flights.empty() && land(direction)) moved = true;
    if (direction.dirty) {
      if (!direction.flights.empty()) return moved;
      channel.retire();
      if (channel.state() == NcclChannel::State::kNone) direction.dirty = false;
      return true;
    }
    if (direction.flights.size() < kFlights) {
      moved |= direction.sending ? announce(direction) : take_announced(direction);
      if (!direction.flights.empty()) at = direction.flights.back().id;
    }
    if (!direction.dirty) moved |= post(direction);
  } catch (const Error& error) {
    // Whatever it was, what is in flight here is not to be trusted any more.
    if (at != 0) fail(at, error);
    direction.dirty = true;
    if (beside_) {  // a device that failed copies nothing any more
      direction.flights.clear();
      direction.dirty = false;
    } else {
      channel.retire();
    }
    moved = true;
  }
  return moved;
}

// ----------------------------------------------------------------------------------------------------------- the end

bool NcclLane::in_flight(const Job& job) const {
  const auto& flights = of(job).flights;
  return job.source.use_count() > 1 ||
         std::any_of(flights.begin(), flights.end(), [&](const Flight& flight) { return flight.id == job.it.id; });
}

bool NcclLane::let_go(std::uint64_t now) {
  bool moved = false;
  for (auto it = jobs_.begin(); it != jobs_.end();) {
    Job& job = *it->second;
    if (!job.stopping) {
      ++it;
      continue;
    }
    if (in_flight(job)) {
      // A copy on the device always ends; a communicator may have to be made to.
      if (!beside_ && now >= job.stop_at) of(job).channel.retire();
      ++it;
      continue;
    }
    if (job.source) Sources::all().drop({epoch_, it->first});
    owner_->released(it->first, job.lost);
    it = jobs_.erase(it);
    moved = true;
  }
  return moved;
}

Issued::State NcclLane::step(std::uint64_t now) {
  bool moved = move(sends_, now);
  moved |= move(receives_, now);
  moved |= let_go(now);
  bool busy = false, ending = false;
  for (Direction* direction : {&sends_, &receives_}) {
    const NcclChannel::State state = direction->channel.state();
    busy |= !direction->flights.empty() || direction->dirty || state == NcclChannel::State::kMeeting ||
            state == NcclChannel::State::kEnding;
    if (closed_ && jobs_.empty() && direction->flights.empty()) {
      if (!direction->channel.borrowed()) direction->channel.retire();
      ending |= direction->channel.state() != NcclChannel::State::kNone && !direction->channel.borrowed();
    }
  }
  busy |= std::any_of(jobs_.begin(), jobs_.end(), [](const auto& job) { return job.second->stopping; });
  busy |= !announced_.empty() || !turns_.empty();
  if (closed_ && jobs_.empty() && !ending && sends_.flights.empty() && receives_.flights.empty()) return State::kOver;
  if (closed_) busy = true;
  return moved ? State::kMoved : busy ? State::kBusy : State::kIdle;
}

}  // namespace skv::transport
