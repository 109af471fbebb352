// SPDX-License-Identifier: Apache-2.0
// Bytes between two ends over UCX active messages. libucp is loaded when a node is opened, not before. Not thread-safe:
// its owner holds a lock. Nothing here waits.
//
// What is sent is copied into slots of the node, and what comes into memory of the library's: UCX never touches a
// caller's memory, so a transfer can end at any moment.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace skv::transport {

struct UcxLibrary;  // ucx.cc
class UcxNode;

// One stream of bytes each way to one peer.
class UcxChannel {
 public:
  ~UcxChannel();
  UcxChannel(const UcxChannel&) = delete;
  UcxChannel& operator=(const UcxChannel&) = delete;

  // Takes the first bytes as one message; how many. 0: every slot is under way, try again after UcxNode::progress.
  std::size_t send(std::span<const std::byte> bytes);
  // Moves what arrived, in order; how many.
  std::size_t read(std::span<std::byte> out);
  std::size_t arrived() const noexcept { return queued_; }
  // Why nothing will come or go any more, or empty.
  const std::string& broken() const noexcept { return broken_; }

 private:
  friend class UcxNode;
  struct Piece {
    std::vector<std::byte> copy;  // or
    void* data = nullptr;         // the library's, until it is released
    std::size_t length = 0;
  };
  UcxChannel(UcxNode& node, std::uint64_t token, std::uint64_t peer_token, std::size_t most);
  void drop_front();

  UcxNode& node_;
  const std::uint64_t token_, peer_token_;
  const std::size_t most_;  // bytes that may wait here
  void* ep_ = nullptr;
  std::size_t under_way_ = 0;
  std::uint64_t sent_ = 0, received_ = 0;  // messages
  std::deque<Piece> pieces_;
  std::size_t front_ = 0, queued_ = 0;
  std::string broken_;
};

// This end: one worker. Channels must be gone before it.
class UcxNode {
 public:
  // library: a path, or "" for the usual one. device: the network device to stay on, or "" for all.
  // Throws UNAVAILABLE, and says what is missing.
  static std::unique_ptr<UcxNode> open(const std::string& library, const std::string& device);
  ~UcxNode();
  UcxNode(const UcxNode&) = delete;
  UcxNode& operator=(const UcxNode&) = delete;

  // What a peer needs to reach this end.
  std::span<const std::byte> address() const noexcept { return address_; }
  const std::string& version() const noexcept { return version_; }
  // A channel to the node of this address. token names it in messages that come, peer_token in those that go. most:
  // bytes that the peer may send before they are read. Throws UNAVAILABLE.
  std::unique_ptr<UcxChannel> connect(std::span<const std::byte> address, std::uint64_t token, std::uint64_t peer_token,
                                      std::size_t most);
  // Readable after arm() when progress() has work.
  int fd() const noexcept { return fd_; }
  // What there is to do now, until a message came, at most so many rounds; how many were. A message at a time: UCX gets
  // memory for each from malloc, and glibc gives what is freed in bulk back to the kernel. While it was read as it
  // came, not megabytes later, 256 MiB took a quarter of the page faults and less than half the time
  // (docs/results/transport.md).
  unsigned progress(unsigned rounds = 1000);
  // False: there is work already.
  bool arm();
  std::size_t slots_busy() const noexcept;

 private:
  friend class UcxChannel;
  struct Slot;
  UcxNode() = default;
  static signed char on_message(void* arg, const void* header, std::size_t header_length, void* data,
                                std::size_t length, const void* param);
  Slot& take_slot();

  std::shared_ptr<const UcxLibrary> library_;
  void *context_ = nullptr, *worker_ = nullptr;
  int fd_ = -1;
  std::vector<std::byte> address_;
  std::string version_;
  std::map<std::uint64_t, UcxChannel*> channels_;
  std::vector<std::unique_ptr<Slot>> slots_;
  bool came_ = false;  // a message, since progress() began
};

}  // namespace skv::transport
