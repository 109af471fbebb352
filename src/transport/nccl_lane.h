// SPDX-License-Identifier: Apache-2.0
// The nccl plane's side of one conn, on the issuing thread: which groups of entries are posted when and on which
// communicator, and what becomes of them.
//
// The sender of a direction decides: it announces each group (READY), the receiver posts what was announced in that
// order. At most two groups are in flight, both of one transfer, so that giving a communicator up costs no other. A
// communicator on which something of a failed transfer was posted is given up at both ends, and the sender's next
// announcement holds the id of another.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "transport/digest.h"
#include "transport/issuing.h"
#include "transport/lane.h"
#include "transport/nccl_channel.h"

namespace skv {
class Error;
}

namespace skv::transport {

class NcclLane final : public Issued {
 public:
  // epoch names the conn within the process, for ends that are beside each other.
  NcclLane(NcclContext context, std::shared_ptr<IssuingThread::State> thread, std::uint64_t epoch, bool beside,
           std::shared_ptr<LaneOwner> owner);

  // Commands, as in Lane.
  void begin(LaneTransfer transfer);
  void extend(std::uint64_t id, std::uint32_t ready);
  void ready(std::uint64_t id, const Ready& ready);
  void finished(std::uint64_t id);
  void stop(std::uint64_t id, bool at_once, std::shared_ptr<void> expectation);
  void lend(nccl::Comm comm, bool sending);
  void close() noexcept { closed_ = true; }

  State step(std::uint64_t now) override;

 private:
  // Bytes whose device another lane of the process reads from.
  struct Source {
    const std::byte* bytes;
  };
  struct Job {
    LaneTransfer it;
    std::vector<std::uint64_t> begins;  // of each entry in the bytes
    std::uint32_t posted = 0;           // leading entries that were announced
    std::uint32_t done = 0;
    bool peer_ready = false;
    bool failed = false;  // told to the owner; waits for stop()
    bool lost = false;    // the device may touch the bytes for ever
    bool stopping = false;
    bool waiting_turn = false;
    std::uint64_t stop_at = 0;  // when what is in flight is not waited for any more
    std::shared_ptr<void> expectation;
    std::shared_ptr<Source> source;  // beside: a sender's own
    DigestChain chain;
  };
  // A group that was announced.
  struct Flight {
    enum class State { kAnnounced, kPosting, kFlying };
    std::uint64_t id = 0;
    std::uint32_t first = 0, count = 0;
    State state = State::kAnnounced;
    std::shared_ptr<void> event;
    const std::uint64_t* digests = nullptr;
    std::size_t leaves = 0;
    std::shared_ptr<Source> source;  // beside: a receiver's
  };
  struct Direction {
    Direction(const NcclContext& context, IssuingThread::State& thread, bool sends)
        : channel(context, thread, sends), sending(sends) {}
    NcclChannel channel;
    const bool sending;
    bool dirty = false;  // holds something that will never be matched
    std::deque<Flight> flights;
  };
  struct Announced {
    std::uint64_t id;
    std::uint32_t first, count, generation;
    std::optional<nccl::UniqueId> meet;
  };

  Job* find(std::uint64_t id);
  void fail(std::uint64_t id, const Error& error);
  bool move(Direction& direction, std::uint64_t now);
  bool announce(Direction& direction);        // sender: one more group
  bool take_announced(Direction& direction);  // receiver: one more
  bool post(Direction& direction);            // the first flight that is only announced
  void fly(Direction& direction, Flight& flight);
  bool land(Direction& direction);
  bool let_go(std::uint64_t now);
  bool in_flight(const Job& job) const;
  void take_turn(Job& job);
  Direction& of(const Job& job) { return job.it.sending ? sends_ : receives_; }
  const Direction& of(const Job& job) const { return job.it.sending ? sends_ : receives_; }

  const NcclContext context_;
  const std::shared_ptr<IssuingThread::State> thread_;
  const std::uint64_t epoch_;
  const bool beside_;
  const std::shared_ptr<LaneOwner> owner_;
  std::map<std::uint64_t, std::unique_ptr<Job>> jobs_;
  Direction sends_, receives_;
  std::deque<std::uint64_t> turns_;  // transfers to send, whose turn is next first
  std::deque<Announced> announced_;
  bool closed_ = false;
};

}  // namespace skv::transport
