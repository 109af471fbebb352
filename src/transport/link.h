// SPDX-License-Identifier: Apache-2.0
// What carries one session's bytes. Every method is called with the core's lock held, and none of them waits. A link
// reads only bytes that are there, straight into where the session wants them, and writes only what fits: nothing is
// ever outstanding in a payload's memory, so a transfer can end at any moment.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>

#include "transport/ucx.h"

namespace skv::transport {

struct Peer;

// What is under an endpoint's conn.
enum class Carrier { kInproc, kUnix, kTcp };

class Link {
 public:
  virtual ~Link() = default;
  // Bytes handed to it that have not left this machine, where it can tell.
  virtual std::optional<std::uint64_t> holds() { return std::nullopt; }
  virtual void flush() = 0;  // the session may have output: write what fits, arrange for the rest
  // DATA bodies go and come by this channel from now on. Only a stream's link has to know.
  virtual void use(std::unique_ptr<UcxChannel>) {}
  // The channel may have bytes, or room.
  virtual void channel_ready() {}
  virtual void finish() = 0;  // the session closed: let its last frames leave, then call Core::link_gone
  virtual void abort() = 0;   // stop at once; nothing is touched after it
};

class Listener {
 public:
  virtual ~Listener() = default;
  virtual void stop() = 0;
};

}  // namespace skv::transport
