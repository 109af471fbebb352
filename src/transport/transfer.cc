// SPDX-License-Identifier: Apache-2.0
#include "transport/transfer.h"

#include <algorithm>

#include "error.h"

namespace skv::transport {
namespace {

unsigned long long ull(std::uint64_t value) { return value; }

}  // namespace

bool LayerCursor::pass(std::uint64_t bytes) noexcept {
  offset_ += bytes;
  chunk_++;
  if (offset_ < layer_bytes_[layer_]) return false;
  begin_ += layer_bytes_[layer_];
  layer_++;
  offset_ = 0;
  chunk_ = 0;
  return true;
}

Sending::Sending(std::span<const std::byte> bytes, std::vector<std::uint64_t> layer_bytes, std::uint32_t first,
                 std::uint64_t until)
    : deadline(until),
      ready(std::min<std::uint64_t>(first, layer_bytes.size())),
      bytes_(bytes),
      offered_(bytes.size()),
      cursor_(std::move(layer_bytes)) {
  if (ready == 0 || ready == cursor_.entries() || cursor_.size_of(0) > kMaxHeadBytes) return;
  const auto head = bytes_.first(cursor_.size_of(0));
  head_.assign(head.begin(), head.end());
}

void Sending::shrink(const Shrink& shrink) {
  if (head_.empty()) fail(SKV_E_STATE, "a transfer that was whole when it was offered does not get smaller");
  if (shrink.entry != ready || !cursor_.before(shrink.entry) || shrink.entry >= cursor_.entries()) {
    fail(SKV_E_STATE, "entry %u is ready or follows one that is not (%u are ready)", shrink.entry, ready);
  }
  const std::uint64_t now = cursor_.size_of(shrink.entry);
  if (shrink.bytes == 0 || shrink.bytes >= now || shrink.head.size() != head_.size()) {
    fail(SKV_E_STATE, "entry %u of %llu bytes with %llu and a head of %zu, want less and a head of %zu", shrink.entry,
         ull(now), ull(shrink.bytes), shrink.head.size(), head_.size());
  }
  cursor_.shrink(shrink.entry, shrink.bytes);
  bytes_ = bytes_.first(bytes_.size() - (now - shrink.bytes));
}

std::uint64_t Sending::waiting() const noexcept {
  std::uint64_t bytes = 0;
  for (std::uint32_t entry = 0; entry < ready; entry++) bytes += cursor_.size_of(entry);
  return bytes - moved;
}

void Sending::say(const Shrink& shrink) noexcept {
  leaves_.add(digest64(shrink.head));  // so that the root vouches for it
}

Sending::Frame Sending::next_frame(std::uint32_t most) noexcept {
  Frame frame;
  const bool head = cursor_.layer() == 0 && !head_.empty();
  const std::span<const std::byte> layer =
      head ? std::span<const std::byte>(head_) : bytes_.subspan(cursor_.layer_begin(), cursor_.layer_size());
  if (cursor_.offset() == 0) digester_.begin_layer(layer);
  const auto length = static_cast<std::uint32_t>(std::min({std::uint64_t{most}, cursor_.left(), credit_left()}));
  digester_.begin_frame(cursor_.offset(), length);
  digester_.advance(length);
  frame.header.type = FrameType::kData;
  frame.header.layer = cursor_.layer();
  frame.header.chunk = cursor_.chunk();
  frame.header.offset = cursor_.offset();
  frame.header.length = length;
  frame.header.digest = digester_.frame_digest();
  frame.body = layer.subspan(cursor_.offset(), length);
  cursor_.pass(length);
  framed_ += length;
  return frame;
}

Commit Sending::commit() const noexcept { return {bytes_.size(), leaves_.value(), leaves_.count(), cursor_.entries()}; }

Receiving::Receiving(std::shared_ptr<const Offer> offer)
    : offer_(std::move(offer)), total_(offer_->total), cursor_(offer_->layer_bytes) {}

void Receiving::shrink(const Shrink& shrink) {
  if (state != State::kMoving) fail(SKV_E_PROTOCOL, "SHRINK before ACCEPT");
  if (shrink.entry == 0 || shrink.entry >= cursor_.entries() || !cursor_.before(shrink.entry)) {
    fail(SKV_E_PROTOCOL, "SHRINK of entry %u of %u, entry %u has been reached", shrink.entry, cursor_.entries(),
         cursor_.layer());
  }
  const std::uint64_t now = cursor_.size_of(shrink.entry);
  if (shrink.bytes == 0 || shrink.bytes >= now || shrink.head.size() != cursor_.size_of(0)) {
    fail(SKV_E_PROTOCOL, "SHRINK of entry %u from %llu to %llu bytes with a head of %zu, want fewer and a head of %llu",
         shrink.entry, ull(now), ull(shrink.bytes), shrink.head.size(), ull(cursor_.size_of(0)));
  }
  cursor_.shrink(shrink.entry, shrink.bytes);
  total_ -= now - shrink.bytes;
  leaves_.add(digest64(shrink.head));
}

void Receiving::accept(std::span<std::byte> destination) noexcept {
  destination_ = destination.first(offer_->total);
  state = State::kMoving;
}

void Receiving::begin_frame(const FrameHeader& header) {
  if (state != State::kMoving) fail(SKV_E_PROTOCOL, "DATA before ACCEPT");
  if (cursor_.at_end()) fail(SKV_E_PROTOCOL, "DATA after the last layer");
  if (header.layer != cursor_.layer() || header.chunk != cursor_.chunk() || header.offset != cursor_.offset()) {
    fail(SKV_E_PROTOCOL, "DATA layer %u chunk %u offset %llu, want layer %u chunk %u offset %llu", header.layer,
         header.chunk, ull(header.offset), cursor_.layer(), cursor_.chunk(), ull(cursor_.offset()));
  }
  if (header.length > cursor_.left()) {
    fail(SKV_E_PROTOCOL, "DATA of %u bytes, layer %u has %llu left", header.length, header.layer, ull(cursor_.left()));
  }
  if (header.length > outstanding()) {
    fail(SKV_E_PROTOCOL, "DATA of %u bytes, the credit left is %llu", header.length, ull(outstanding()));
  }
  if (cursor_.offset() == 0) digester_.begin_layer(destination_.subspan(cursor_.layer_begin(), cursor_.layer_size()));
  digester_.begin_frame(header.offset, header.length);
  frame_ = header;
  have_ = 0;
}

std::span<std::byte> Receiving::frame_rest() const noexcept {
  return destination_.subspan(cursor_.layer_begin() + frame_.offset + have_, frame_.length - have_);
}

void Receiving::advance(std::size_t n) noexcept {
  have_ += n;
  moved += n;
  digester_.advance(have_);  // while the bytes are still in the cache
}

bool Receiving::end_frame() noexcept {
  if (digester_.frame_digest() != frame_.digest) return false;
  cursor_.pass(frame_.length);
  passed_ += frame_.length;
  return true;
}

bool Receiving::matches(const Commit& commit) const {
  if (state != State::kMoving) fail(SKV_E_PROTOCOL, "COMMIT before ACCEPT");
  if (!cursor_.at_end()) {
    fail(SKV_E_PROTOCOL, "COMMIT with %u of %u layers sent", cursor_.layer(), cursor_.entries());
  }
  if (commit.total != total_ || commit.entries != cursor_.entries() || commit.leaves != leaves_.count()) {
    fail(SKV_E_PROTOCOL, "COMMIT of %llu bytes, %u entries, %llu leaves, want %llu, %u, %llu", ull(commit.total),
         commit.entries, ull(commit.leaves), ull(total_), cursor_.entries(), ull(leaves_.count()));
  }
  return commit.root == leaves_.value();
}

bool Receiving::matches(const Commit& commit, const DigestRoot& root) const {
  if (commit.total != offer_->total || commit.entries != cursor_.entries() || commit.leaves != root.leaves) {
    fail(SKV_E_PROTOCOL, "COMMIT of %llu bytes, %u entries, %llu leaves, want %llu, %u, %llu", ull(commit.total),
         commit.entries, ull(commit.leaves), ull(offer_->total), cursor_.entries(), ull(root.leaves));
  }
  return commit.root == root.value;
}

}  // namespace skv::transport
