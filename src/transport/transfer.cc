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
      cursor_(std::move(layer_bytes)) {}

Sending::Frame Sending::next_frame(std::uint32_t most) noexcept {
  Frame frame;
  if (cursor_.offset() == 0) digester_.begin_layer(bytes_.subspan(cursor_.layer_begin(), cursor_.layer_size()));
  const auto length = static_cast<std::uint32_t>(std::min({std::uint64_t{most}, cursor_.left(), credit_left()}));
  digester_.begin_frame(cursor_.offset(), length);
  digester_.advance(length);
  frame.header.type = FrameType::kData;
  frame.header.layer = cursor_.layer();
  frame.header.chunk = cursor_.chunk();
  frame.header.offset = cursor_.offset();
  frame.header.length = length;
  frame.header.digest = digester_.frame_digest();
  frame.body = bytes_.subspan(cursor_.layer_begin() + cursor_.offset(), length);
  cursor_.pass(length);
  framed_ += length;
  return frame;
}

Commit Sending::commit() const noexcept { return {bytes_.size(), leaves_.value(), leaves_.count(), cursor_.entries()}; }

Receiving::Receiving(std::shared_ptr<const Offer> offer) : offer_(std::move(offer)), cursor_(offer_->layer_bytes) {}

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
  if (commit.total != offer_->total || commit.entries != cursor_.entries() || commit.leaves != leaves_.count()) {
    fail(SKV_E_PROTOCOL, "COMMIT of %llu bytes, %u entries, %llu leaves, want %llu, %u, %llu", ull(commit.total),
         commit.entries, ull(commit.leaves), ull(offer_->total), cursor_.entries(), ull(leaves_.count()));
  }
  return commit.root == leaves_.value();
}

}  // namespace skv::transport
