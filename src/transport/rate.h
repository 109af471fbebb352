// SPDX-License-Identifier: Apache-2.0
// How fast a link takes bytes, measured while it is what everything waits for. A link that can tell how many bytes it
// still holds (a TCP socket) is measured by what leaves it; of another one, from the moment it would take no more until
// there is nothing to send. What fits into buffers at once says nothing. Keeps what it knows between transfers. No
// clock of its own.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>

namespace skv::transport {

class RateMeter {
 public:
  // Bytes were handed to the link.
  void moved(std::uint64_t bytes, std::uint64_t now) noexcept {
    handed_ += bytes;
    if (tells_) {
      held_ += static_cast<double>(bytes);
      return;
    }
    const auto known = rate(now);
    held_ = queued(known.value_or(0), now) + static_cast<double>(bytes);
    held_at_ = now;
    busy_ = true;
    if (measuring_) count(bytes, now);
  }
  // The link holds so many bytes that have not left.
  void holds(std::uint64_t bytes, std::uint64_t now) noexcept {
    const std::uint64_t left = handed_ - std::min(handed_, bytes);
    // It was at work all the time between if there was something at both ends.
    if (tells_ && before_ > 0 && bytes > 0 && left >= left_) {
      at_ = held_at_;
      count(left - left_, now);
    }
    tells_ = true;
    left_ = left;
    before_ = bytes;
    held_ = static_cast<double>(bytes);
    held_at_ = now;
  }
  bool holding() const noexcept { return tells_ && before_ > 0; }
  // The link, or the peer's credit, takes no more for now.
  void stalled(std::uint64_t now) noexcept {
    if (tells_ || !busy_ || measuring_) return;
    measuring_ = true;
    at_ = now;
  }
  // Nothing is left to send: time that passes now is not the link's.
  void idle() noexcept { busy_ = measuring_ = false; }

  // Bytes a nanosecond; nothing while the link was never what was waited for.
  std::optional<double> rate(std::uint64_t now) const noexcept {
    const std::uint64_t ns = ns_ + (measuring_ && now > at_ ? now - at_ : 0);
    if (ns < kLeastNs || (ns < kSureNs && bytes_ < kLeastBytes)) return std::nullopt;
    return static_cast<double>(bytes_) / static_cast<double>(ns);
  }
  // Of the bytes handed over, those that at this rate cannot have left yet.
  double queued(double rate, std::uint64_t now) const noexcept {
    return std::max(0.0, held_ - rate * static_cast<double>(now > held_at_ ? now - held_at_ : 0));
  }

 private:
  void count(std::uint64_t bytes, std::uint64_t now) noexcept {
    bytes_ += bytes;
    ns_ += now - std::min(now, at_);
    at_ = now;
    if (ns_ < kForgetNs) return;
    bytes_ /= 2;  // what was long ago counts less
    ns_ /= 2;
  }

  // Links move bytes in bursts, and acknowledgements may be 40 ms late: less than this says nothing.
  static constexpr std::uint64_t kLeastNs = 1'000'000;
  static constexpr std::uint64_t kSureNs = 100'000'000;
  static constexpr std::uint64_t kLeastBytes = 256 * 1024;
  static constexpr std::uint64_t kForgetNs = 1'000'000'000;
  bool busy_ = false, measuring_ = false;
  std::uint64_t handed_ = 0;
  double held_ = 0;  // by the link
  std::uint64_t held_at_ = 0;
  bool tells_ = false;
  std::uint64_t left_ = 0, before_ = 0;  // when it last told
  std::uint64_t at_ = 0;                 // measured up to here
  std::uint64_t bytes_ = 0, ns_ = 0;
};

}  // namespace skv::transport
