// SPDX-License-Identifier: Apache-2.0
// One direction of one conn on the nccl plane: a communicator of two ranks, its stream, and NCCL's calls on them. On
// the issuing thread only. Failures of NCCL throw NCCL with its result in native.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "transport/device_calls.h"
#include "transport/issuing.h"
#include "transport/nccl_library.h"

namespace skv::transport {

// What all lanes of a plane share.
struct NcclContext {
  std::shared_ptr<const NcclLibrary> library;
  DeviceCalls& calls;
  std::int32_t device;
  std::uint64_t abort_ns;
};

class NcclChannel {
 public:
  enum class State { kNone, kMeeting, kUsable, kEnding };

  NcclChannel(const NcclContext& context, IssuingThread::State& thread, bool sending)
      : context_(context), thread_(thread), rank_(sending ? 0 : 1) {}
  ~NcclChannel();
  NcclChannel(const NcclChannel&) = delete;
  NcclChannel& operator=(const NcclChannel&) = delete;

  State state() const noexcept { return state_; }
  bool borrowed() const noexcept { return borrowed_; }
  std::uint32_t generation = 0;  // of communicators, as the sender counts them

  void* stream();  // opened when first asked for
  std::shared_ptr<void> make_event();
  // Pinned memory, one of two that alternate: kept until the next but one.
  std::byte* room(std::size_t bytes);

  nccl::UniqueId make_id();  // costs a thread and a port until used
  void meet(const nccl::UniqueId& id);
  void borrow(nccl::Comm comm);
  // kInProgress while the meeting or what was posted last is; kSuccess.
  nccl::Result poll();
  struct Piece {
    std::byte* bytes;
    std::size_t size;
  };
  void post(const Piece* pieces, std::size_t count);  // one group: sends or receives
  // Gives the communicator up and with it what is in flight. Never waits.
  void retire();
  // While kEnding: true once it is over (then kNone), poisoned if the abort's bound passed instead.
  bool ended(std::uint64_t now, bool& poisoned);
  void forsake() noexcept;  // leaves what there is of it where it is

 private:
  template <typename Call>
  nccl::Result call(const char* function, const Call& made);

  const NcclContext& context_;
  IssuingThread::State& thread_;
  const int rank_;
  int peer_ = 0;
  State state_ = State::kNone;
  nccl::Comm comm_ = nullptr;
  bool borrowed_ = false;
  std::shared_ptr<Abort> abort_;
  std::shared_ptr<void> drained_;  // behind everything on the stream, once the abort returned
  std::uint64_t drain_until_ = 0;
  std::uint64_t remote_until_ = 0;  // when an error of the other rank is believed
  void* stream_ = nullptr;
  struct Room {
    std::byte* memory = nullptr;
    std::size_t bytes = 0;
  };
  void make_room(Room& room, std::size_t bytes);
  std::array<Room, 2> rooms_;
  std::size_t next_room_ = 0;
};

}  // namespace skv::transport
