// SPDX-License-Identifier: Apache-2.0
// The descriptor behind skv_endpoint_fd. With a progress thread: an eventfd, readable while completions wait. Driven by
// the caller: an epoll set over that eventfd, every socket and a timer, readable while progress has work. Asio's own
// epoll set is private to it, so the sockets are watched a second time here, level-triggered.
#pragma once

#include <cstdint>

namespace skv::transport {

class ReadySet {
 public:
  ReadySet();  // throws NO_RESOURCE
  ~ReadySet();
  ReadySet(const ReadySet&) = delete;
  ReadySet& operator=(const ReadySet&) = delete;

  void drive_by_caller();  // throws NO_RESOURCE
  int fd() const noexcept { return epoll_ >= 0 ? epoll_ : event_; }

  void signal() noexcept;  // work or completions wait
  void clear() noexcept;
  // No-ops unless driven by the caller.
  void watch(int fd) noexcept;
  void want_write(int fd, bool want) noexcept;
  void unwatch(int fd) noexcept;
  void wake_at(std::uint64_t time) noexcept;  // the earliest such time counts until it has passed

 private:
  int event_ = -1, epoll_ = -1, timer_ = -1;
  std::uint64_t wake_ = 0;  // 0: timer not armed
};

}  // namespace skv::transport
