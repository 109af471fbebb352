// SPDX-License-Identifier: Apache-2.0
#include "transport/nccl_channel.h"

#include <utility>

#include "error.h"
#include "transport/clock.h"

namespace skv::transport {
namespace {

// Digests of 4 GiB in one group; layers beyond that get more.
constexpr std::size_t kRoomBytes = std::size_t{512} << 10;
// NCCL says that the other rank is gone; what became of it is the control stream's to say, if it does so soon.
constexpr std::uint64_t kHearsayNs = 500'000'000;
// Thread blocks that NCCL may take from the device's own work: 4 fill a link of its generation (NCCL's own default for
// point-to-point on NVLink is 2 to 16), 8 are a twelfth of an H100.
constexpr int kLeastCtas = 1;
constexpr int kMostCtas = 8;

// What somebody may still use stays where it is, known to leak checkers.
void leave_alone(const void* thing) { bury(std::shared_ptr<const void>(std::shared_ptr<void>(), thing)); }

}  // namespace

NcclChannel::~NcclChannel() {
  if (stream_ != nullptr) static_cast<void>(context_.calls.close_stream(stream_));
  for (const Room& room : rooms_) {
    if (room.memory != nullptr) static_cast<void>(context_.calls.release_pinned(room.memory));
  }
}

template <typename Call>
nccl::Result NcclChannel::call(const char* function, const Call& made) {
  Inside inside(thread_, context_.library, comm_);
  const nccl::Result result = made();
  if (auto abort = inside.leave()) {
    abort_ = std::move(abort);
    state_ = State::kEnding;
    throw Error(SKV_E_NCCL, std::string("nccl") + function + " did not return and was aborted", result);
  }
  if (result != nccl::kSuccess && result != nccl::kInProgress) {
    throw Error(SKV_E_NCCL, context_.library->describe(function, result, comm_), result);
  }
  return result;
}

void* NcclChannel::stream() {
  if (stream_ != nullptr) return stream_;
  // Pinned memory now: allocating it later could wait for what is in flight, of which this end may be the reason.
  for (Room& room : rooms_) make_room(room, kRoomBytes);
  check_device(context_.calls, context_.calls.open_stream(&stream_), "opening a stream");
  return stream_;
}

std::shared_ptr<void> NcclChannel::make_event() {
  void* event = nullptr;
  check_device(context_.calls, context_.calls.open_event(&event), "making an event");
  return {event, [&calls = context_.calls](void* made) { static_cast<void>(calls.close_event(made)); }};
}

void NcclChannel::make_room(Room& room, std::size_t bytes) {
  if (room.bytes >= bytes) return;
  if (room.memory != nullptr) static_cast<void>(context_.calls.release_pinned(std::exchange(room.memory, nullptr)));
  room.bytes = 0;
  void* memory = nullptr;
  check_device(context_.calls, context_.calls.allocate_pinned(&memory, bytes), "allocating room for digests");
  room = {static_cast<std::byte*>(memory), bytes};
}

std::byte* NcclChannel::room(std::size_t bytes) {
  Room& room = rooms_[next_room_];
  next_room_ = 1 - next_room_;
  make_room(room, bytes);
  return room.memory;
}

nccl::UniqueId NcclChannel::make_id() {
  nccl::UniqueId id{};
  call("GetUniqueId", [&] { return context_.library->call().GetUniqueId(&id); });
  return id;
}

void NcclChannel::meet(const nccl::UniqueId& id) {
  nccl::Config config;
  config.blocking = 0;
  config.min_ctas = kLeastCtas;
  config.max_ctas = kMostCtas;
  nccl::Comm made = nullptr;
  try {
    call("CommInitRankConfig",
         [&] { return context_.library->call().CommInitRankConfig(&made, 2, id, rank_, &config); });
  } catch (const Error&) {
    comm_ = made;
    throw;
  } catch (const Abandoned&) {
    leave_alone(made);
    throw;
  }
  comm_ = made;
  peer_ = 1 - rank_;
  state_ = State::kMeeting;
}

void NcclChannel::borrow(nccl::Comm comm) {
  if (comm_ != nullptr || borrowed_) fail(SKV_E_STATE, "this direction has a communicator already");
  const nccl::Table& nccl = context_.library->call();
  int ranks = 0, own = 0;
  call("CommCount", [&] { return nccl.CommCount(comm, &ranks); });
  call("CommUserRank", [&] { return nccl.CommUserRank(comm, &own); });
  if (ranks != 2) fail(SKV_E_ARGUMENT, "a communicator of %d ranks was lent, want 2", ranks);
  comm_ = comm;
  peer_ = 1 - own;
  borrowed_ = true;
  state_ = State::kUsable;
}

nccl::Result NcclChannel::poll() {
  nccl::Result state = nccl::kSuccess;
  call("CommGetAsyncError", [&] { return context_.library->call().CommGetAsyncError(comm_, &state); });
  if (state == nccl::kInProgress) return state;
  if (state == nccl::kRemoteError) {
    const std::uint64_t now = now_ns();
    if (remote_until_ == 0) remote_until_ = add_ns(now, kHearsayNs);
    if (now < remote_until_) return nccl::kInProgress;
  }
  if (state != nccl::kSuccess) {
    throw Error(SKV_E_NCCL, context_.library->describe("CommGetAsyncError", state, comm_), state);
  }
  if (state_ == State::kMeeting) state_ = State::kUsable;
  return state;
}

void NcclChannel::post(const Piece* pieces, std::size_t count) {
  const nccl::Table& nccl = context_.library->call();
  void* const on = stream();
  call("GroupStart", [&] { return nccl.GroupStart(); });
  try {
    for (std::size_t i = 0; i < count; i++) {
      if (rank_ == 0) {
        call("Send", [&] { return nccl.Send(pieces[i].bytes, pieces[i].size, nccl::kUint8, peer_, comm_, on); });
      } else {
        call("Recv", [&] { return nccl.Recv(pieces[i].bytes, pieces[i].size, nccl::kUint8, peer_, comm_, on); });
      }
    }
  } catch (const Error&) {
    static_cast<void>(nccl.GroupEnd());  // or every later call on this thread would be part of it
    throw;
  }
  call("GroupEnd", [&] { return nccl.GroupEnd(); });
}

void NcclChannel::retire() {
  if (state_ == State::kEnding) return;
  remote_until_ = 0;
  if (comm_ == nullptr) {
    state_ = State::kNone;
    return;
  }
  // What was lent is revoked at most: its owner may still hold it.
  const bool lost = borrowed_ && context_.library->call().CommRevoke == nullptr;
  state_ = State::kEnding;
  if (!lost) {
    abort_ = abort_communicator(context_.library, context_.calls, context_.device, comm_, context_.abort_ns, borrowed_);
  }
}

bool NcclChannel::ended(std::uint64_t now, bool& poisoned) {
  poisoned = !abort_ || overdue(*abort_, now);
  if (!poisoned && !aborted(*abort_)) return false;
  // NCCL let go; what was queued behind it on the stream still reads the payload.
  if (!poisoned && stream_ != nullptr) {
    DeviceCalls& calls = context_.calls;
    if (!drained_) {
      drain_until_ = add_ns(now, context_.abort_ns);
      drained_ = make_event();
      check_device(calls, calls.record(drained_.get(), stream_), "recording an event");
    }
    if (calls.query(drained_.get()) == DeviceCalls::kNotReady) {
      if (now < drain_until_) return false;
      poisoned = true;
    }
  }
  if (poisoned) {
    forsake();
    return true;
  }
  drained_ = nullptr;
  abort_ = nullptr;
  comm_ = nullptr;
  state_ = State::kNone;
  return true;
}

void NcclChannel::forsake() noexcept {
  drained_ = nullptr;
  abort_ = nullptr;
  leave_alone(comm_);
  leave_alone(stream_);                                      // what hangs on it would make closing it wait
  for (const Room& room : rooms_) leave_alone(room.memory);  // and writes its digests there
  comm_ = nullptr;
  stream_ = nullptr;
  rooms_ = {};
  state_ = State::kNone;
}

}  // namespace skv::transport
