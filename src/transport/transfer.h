// SPDX-License-Identifier: Apache-2.0
// One transfer inside a session: which frame comes next, and whether what came is what was agreed. No I/O, no clock.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "transport/clock.h"
#include "transport/control.h"
#include "transport/digest.h"
#include "transport/frame.h"

namespace skv::transport {

// Position in the list of layers, shared by both directions.
class LayerCursor {
 public:
  explicit LayerCursor(std::vector<std::uint64_t> layer_bytes) : layer_bytes_(std::move(layer_bytes)) {}
  bool at_end() const noexcept { return layer_ == layer_bytes_.size(); }
  std::uint32_t layer() const noexcept { return layer_; }
  std::uint32_t chunk() const noexcept { return chunk_; }
  std::uint64_t offset() const noexcept { return offset_; }      // in the layer
  std::uint64_t layer_begin() const noexcept { return begin_; }  // of the layer in the payload
  std::uint64_t layer_size() const noexcept { return layer_bytes_[layer_]; }
  std::uint64_t left() const noexcept { return layer_bytes_[layer_] - offset_; }
  std::uint32_t entries() const noexcept { return static_cast<std::uint32_t>(layer_bytes_.size()); }
  // A layer that was not begun gets smaller.
  void shrink(std::uint32_t layer, std::uint64_t bytes) noexcept { layer_bytes_[layer] = bytes; }
  std::uint64_t size_of(std::uint32_t layer) const noexcept { return layer_bytes_[layer]; }
  // Whether none of its frames has passed.
  bool before(std::uint32_t layer) const noexcept { return layer_ < layer || (layer_ == layer && offset_ == 0); }
  // Passes one frame; true when that ended its layer.
  bool pass(std::uint64_t bytes) noexcept;

 private:
  std::vector<std::uint64_t> layer_bytes_;
  std::uint32_t layer_ = 0, chunk_ = 0;
  std::uint64_t offset_ = 0, begin_ = 0;
};

// The side that has the payload.
class Sending {
 public:
  enum class State { kOffered, kMoving, kCommitted };

  // ready: so many leading entries hold their bytes already.
  Sending(std::span<const std::byte> bytes, std::vector<std::uint64_t> layer_bytes, std::uint32_t ready,
          std::uint64_t deadline);
  Sending(const Sending&) = delete;  // the digester points into it
  Sending& operator=(const Sending&) = delete;

  struct Frame {
    FrameHeader header;  // without epoch and transfer id
    std::span<const std::byte> body;
  };
  bool all_framed() const noexcept { return cursor_.at_end(); }
  Frame next_frame(std::uint32_t most) noexcept;
  Commit commit() const noexcept;
  Accept terms() const noexcept { return {offered_, cursor_.entries(), operations}; }
  // Throws STATE unless `entry` is the first one that is not ready and gets smaller, and entry 0 may be replaced.
  void shrink(const Shrink& shrink);
  void say(const Shrink& shrink) noexcept;  // its frame is staged
  // Bytes that are ready and were not handed to the link.
  std::uint64_t waiting() const noexcept;
  // Bytes that may be framed now: granted and not framed yet.
  std::uint64_t credit_left() const noexcept { return granted - framed_; }
  bool may_frame() const noexcept { return cursor_.layer() < ready && credit_left() > 0; }
  // What there is to frame waits for credit, not for its bytes.
  bool stalled_by_credit() const noexcept { return cursor_.layer() < ready && credit_left() == 0; }
  std::uint32_t entries() const noexcept { return cursor_.entries(); }

  State state = State::kOffered;
  std::uint64_t operations = 0;  // planes outside the stream
  std::uint64_t deadline;
  std::uint32_t ready;         // leading entries whose bytes are there and do not change any more
  std::uint64_t granted = 0;   // by the receiver, cumulative
  bool waiting_turn = false;   // in the session's list of turns
  std::uint64_t moved = 0;     // payload bytes handed to the link
  std::vector<Shrink> unsaid;  // before the offer is accepted
  bool peer_ready = false;     // planes outside the stream: the receiver can take bytes
  std::uint32_t posted = 0;    // leading entries that the receiver was told of

 private:
  std::span<const std::byte> bytes_;
  std::uint64_t offered_;        // bytes
  std::vector<std::byte> head_;  // entry 0 as offered, if it may be replaced: its owner writes a new one
  LayerCursor cursor_;
  std::uint64_t framed_ = 0;
  DigestChain leaves_;
  LayerDigester digester_{&leaves_};
};

// Of all leaves of a transfer, in order (digest.h).
struct DigestRoot {
  std::uint64_t value = 0;
  std::uint64_t leaves = 0;
};

// The side that gets it.
class Receiving {
 public:
  enum class State { kOffered, kMoving };

  explicit Receiving(std::shared_ptr<const Offer> offer);
  Receiving(const Receiving&) = delete;
  Receiving& operator=(const Receiving&) = delete;

  void accept(std::span<std::byte> destination) noexcept;
  // Checks a DATA header against what must come next; throws PROTOCOL.
  void begin_frame(const FrameHeader& header);
  // Where the rest of the frame's body goes.
  std::span<std::byte> frame_rest() const noexcept;
  void advance(std::size_t n) noexcept;
  // The frame is complete: 0 bytes are left in frame_rest(). False when its digest differs.
  bool end_frame() noexcept;
  std::uint32_t layers_verified() const noexcept { return cursor_.layer(); }
  // Checks that the entry was not begun and gets smaller; throws PROTOCOL.
  void shrink(const Shrink& shrink);
  // Bytes of the transfer as it is now.
  std::uint64_t total() const noexcept { return total_; }
  // A plane outside the stream brought all bytes: whether they are those committed. Throws as matches().
  bool matches(const Commit& commit, const DigestRoot& root) const;
  // Throws PROTOCOL when the peer commits something else than was offered; false when the root differs.
  bool matches(const Commit& commit) const;
  const Offer& offer() const noexcept { return *offer_; }
  // Bytes of complete, verified frames.
  std::uint64_t passed() const noexcept { return passed_; }
  // Granted and not arrived.
  std::uint64_t outstanding() const noexcept { return granted - passed_; }

  State state = State::kOffered;
  bool said_ready = false;         // planes outside the stream: this end can take bytes
  std::uint32_t posted = 0;        // leading entries that the sender posts
  std::uint32_t arrived = 0;       // and that are there
  std::optional<DigestRoot> root;  // of all of them
  std::optional<Commit> commit;    // came first
  std::uint64_t deadline = kNever;
  std::uint64_t granted = 0;  // to the sender, cumulative
  std::uint64_t moved = 0;

 private:
  std::shared_ptr<const Offer> offer_;
  std::uint64_t total_;
  std::span<std::byte> destination_;
  LayerCursor cursor_;
  DigestChain leaves_;
  LayerDigester digester_{&leaves_};
  FrameHeader frame_;
  std::size_t have_ = 0;
  std::uint64_t passed_ = 0;
};

}  // namespace skv::transport
