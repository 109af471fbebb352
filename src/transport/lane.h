// SPDX-License-Identifier: Apache-2.0
// How a plane outside the control stream moves the payloads of one conn. The session says what was agreed to, the lane
// moves the bytes, and tells its owner, who tells the session. Nothing here waits.
#pragma once

#include <spectrumkv.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "transport/control.h"
#include "transport/transfer.h"

namespace skv::transport {

// A transfer that both ends agreed on.
struct LaneTransfer {
  std::uint64_t id = 0;
  bool sending = false;
  std::span<std::byte> bytes;  // in the plane's memory; a sender's are not written
  std::vector<std::uint64_t> layer_bytes;
  std::uint32_t ready = 0;           // sender: leading entries that hold their bytes
  std::shared_ptr<const void> keep;  // holds the bytes; null: the caller does
};

// Told by a lane, on threads of its own and never from inside a call of the lane.
class LaneOwner {
 public:
  virtual ~LaneOwner() = default;
  virtual void say(std::uint64_t id, Ready ready) = 0;
  // Receiver: leading entries that are on the device's way; `event` is done once they are there.
  virtual void posted(std::uint64_t id, std::uint32_t entries, std::shared_ptr<void> event) = 0;
  virtual void arrived(std::uint64_t id, std::uint32_t entries, std::uint64_t bytes) = 0;
  virtual void completed(std::uint64_t id, DigestRoot root) = 0;
  virtual void failed(std::uint64_t id, skv_status status, std::string message) = 0;
  // After stop(): neither library nor device touches the bytes any more; or, poisoned, they may for ever.
  virtual void released(std::uint64_t id, bool poisoned) = 0;
};

// Every method is called with the core's lock held.
class Lane {
 public:
  virtual ~Lane() = default;  // the conn is over; transfers were stopped before
  virtual void begin(LaneTransfer transfer) = 0;
  virtual void extend(std::uint64_t id, std::uint32_t ready) = 0;
  virtual void ready(std::uint64_t id, const Ready& ready) = 0;  // the other end said so
  virtual void finished(std::uint64_t id) = 0;                   // ended OK: nothing of it is under way
  // Ended otherwise: what is under way is ended, then released() follows, always. at_once: the peer is gone.
  virtual void stop(std::uint64_t id, bool at_once) = 0;
};

}  // namespace skv::transport
