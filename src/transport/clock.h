// SPDX-License-Identifier: Apache-2.0
// The one clock of the transport: CLOCK_MONOTONIC in nanoseconds, as in every deadline of the ABI.
#pragma once

#include <chrono>
#include <cstdint>
#include <limits>

namespace skv::transport {

inline constexpr std::uint64_t kNever = std::numeric_limits<std::uint64_t>::max();

inline std::uint64_t now_ns() noexcept {
  const auto since = std::chrono::steady_clock::now().time_since_epoch();
  return static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(since).count());
}

// a + b, kNever on overflow: deadlines saturate.
constexpr std::uint64_t add_ns(std::uint64_t a, std::uint64_t b) noexcept { return b > kNever - a ? kNever : a + b; }

inline std::uint64_t deadline_ms(std::uint64_t ms) noexcept {
  return ms > kNever / 1'000'000 ? kNever : add_ns(now_ns(), ms * 1'000'000);
}

// A deadline as a time point, clamped so that conversions to timespec cannot overflow.
inline std::chrono::steady_clock::time_point to_time_point(std::uint64_t deadline) noexcept {
  constexpr std::uint64_t kFar = std::uint64_t{1} << 62;  // 146 years after boot
  const std::uint64_t clamped = deadline < kFar ? deadline : kFar;
  return std::chrono::steady_clock::time_point(std::chrono::nanoseconds(static_cast<std::int64_t>(clamped)));
}

}  // namespace skv::transport
