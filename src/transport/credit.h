// SPDX-License-Identifier: Apache-2.0
// Flow control: a receiver grants bytes, a sender never has more of them on their way. One pool per endpoint bounds
// what all its senders together may have granted and not delivered; transfers share it evenly once it is short, so that
// a peer that holds its grant without using it cannot starve the others for long. Guarded by its owner's lock.
#pragma once

#include <algorithm>
#include <cstdint>

namespace skv::transport {

// Grants below this are not made while a transfer still has some: each costs a frame. One leaf of the digest.
inline constexpr std::uint64_t kCreditQuantum = 64 * 1024;

class CreditPool {
 public:
  explicit CreditPool(std::uint64_t limit) noexcept : limit_(limit) {}

  void join() noexcept { members_++; }
  void leave() noexcept { members_--; }
  // What one transfer may hold at most while there are so many.
  std::uint64_t share() const noexcept {
    return std::max(kCreditQuantum, limit_ / std::max<std::uint64_t>(members_, 1));
  }
  // Transfers that could use more than there was.
  void starve() noexcept { starved_++; }
  void sate() noexcept { starved_--; }
  bool may_regrant() const noexcept { return starved_ > 0 && free() >= kCreditQuantum; }
  std::uint64_t free() const noexcept { return limit_ - std::min(limit_, held_); }
  std::uint64_t held() const noexcept { return held_; }
  void take(std::uint64_t bytes) noexcept { held_ += bytes; }
  void give_back(std::uint64_t bytes) noexcept { held_ -= bytes; }

 private:
  std::uint64_t limit_;
  std::uint64_t held_ = 0;     // granted, not arrived
  std::uint64_t members_ = 0;  // accepted transfers
  std::uint64_t starved_ = 0;
};

}  // namespace skv::transport
