// SPDX-License-Identifier: Apache-2.0
// Integrity of a transfer. A layer's bytes are cut into leaves of 64 KiB; a leaf's digest is its XXH3-64, so leaves
// can be digested in parallel and on a device. The root is XXH3-64 over all leaf digests in order (8 bytes each,
// little-endian). Guards against corruption, not against a malicious peer: that is what authentication is for.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

namespace skv::transport {

inline constexpr std::size_t kLeafBytes = 64 * 1024;

std::uint64_t digest64(std::span<const std::byte> bytes) noexcept;

// XXH3-64 over a sequence of digests.
class DigestChain {
 public:
  DigestChain();
  ~DigestChain();
  DigestChain(DigestChain&&) noexcept;
  DigestChain& operator=(DigestChain&&) noexcept;
  void add(std::uint64_t digest) noexcept;
  std::uint64_t value() const noexcept;
  std::uint64_t count() const noexcept { return count_; }
  void reset() noexcept;

 private:
  struct State;
  std::unique_ptr<State> state_;
  std::uint64_t count_ = 0;
};

// Digests one layer after the other as its bytes become known, in order, and feeds two chains: the transfer's leaves
// and the current frame's pieces. A frame is cut at the leaf boundaries of its layer; a piece that is a whole leaf is
// digested once for both.
class LayerDigester {
 public:
  explicit LayerDigester(DigestChain* leaves) : leaves_(leaves) {}
  void begin_layer(std::span<const std::byte> layer) noexcept;
  void begin_frame(std::uint64_t offset, std::size_t length) noexcept;
  // The first `have` bytes of the frame are there: digests the pieces that are complete.
  void advance(std::size_t have) noexcept;
  // Of the frame, once all of it was advanced over.
  std::uint64_t frame_digest() const noexcept { return frame_.value(); }

 private:
  DigestChain* leaves_;
  DigestChain frame_;
  std::span<const std::byte> layer_;
  std::uint64_t begin_ = 0, end_ = 0;  // the frame in its layer
  std::uint64_t done_ = 0;             // digested up to here
};

}  // namespace skv::transport
