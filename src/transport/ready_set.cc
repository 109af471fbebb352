// SPDX-License-Identifier: Apache-2.0
#include "transport/ready_set.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <cerrno>

#include "error.h"
#include "transport/clock.h"

namespace skv::transport {

ReadySet::ReadySet() : event_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  if (event_ < 0) fail_errno(SKV_E_NO_RESOURCE, errno, "eventfd");
}

ReadySet::~ReadySet() {
  for (const int fd : {epoll_, timer_, event_}) {
    if (fd >= 0) ::close(fd);
  }
}

void ReadySet::drive_by_caller() {
  if (epoll_ >= 0) return;
  if (timer_ < 0) timer_ = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
  if (timer_ < 0) fail_errno(SKV_E_NO_RESOURCE, errno, "timerfd");
  epoll_ = epoll_create1(EPOLL_CLOEXEC);
  if (epoll_ < 0) fail_errno(SKV_E_NO_RESOURCE, errno, "epoll");
  watch(event_);
  watch(timer_);
}

void ReadySet::signal() noexcept {
  const std::uint64_t one = 1;
  [[maybe_unused]] const auto n = ::write(event_, &one, sizeof one);
}

void ReadySet::clear() noexcept {
  std::uint64_t count;
  [[maybe_unused]] auto n = ::read(event_, &count, sizeof count);
  if (timer_ >= 0 && ::read(timer_, &count, sizeof count) > 0) wake_ = 0;
}

void ReadySet::watch(int fd) noexcept {
  if (epoll_ < 0) return;
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.fd = fd;
  epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &event);
}

void ReadySet::want_write(int fd, bool want) noexcept {
  if (epoll_ < 0) return;
  epoll_event event{};
  event.events = EPOLLIN | (want ? static_cast<std::uint32_t>(EPOLLOUT) : 0u);
  event.data.fd = fd;
  epoll_ctl(epoll_, EPOLL_CTL_MOD, fd, &event);
}

void ReadySet::unwatch(int fd) noexcept {
  if (epoll_ >= 0) epoll_ctl(epoll_, EPOLL_CTL_DEL, fd, nullptr);
}

void ReadySet::wake_at(std::uint64_t time) noexcept {
  if (timer_ < 0 || time == kNever || (wake_ != 0 && wake_ <= time)) return;
  wake_ = time;
  itimerspec spec{};
  const std::uint64_t at = time == 0 ? 1 : time;  // 0 would disarm it
  spec.it_value.tv_sec = static_cast<time_t>(at / 1'000'000'000);
  spec.it_value.tv_nsec = static_cast<long>(at % 1'000'000'000);
  timerfd_settime(timer_, TFD_TIMER_ABSTIME, &spec, nullptr);
}

}  // namespace skv::transport
