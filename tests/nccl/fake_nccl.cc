// SPDX-License-Identifier: Apache-2.0
// A libnccl.so.2 for machines without a GPU: the functions that the library uses, over loopback TCP. Communicators of
// two ranks, not blocking; what is posted happens on the stream, on its thread; nothing checks that sizes match, and an
// operation without its counterpart waits until the communicator is aborted: as NCCL's do. Switches: fake_nccl.h.
#include "fake_nccl.h"

#include <netinet/in.h>
#include <poll.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <cstring>
#include <map>
#include <mutex>
#include <thread>
#include <vector>

#include "host_stream.h"
#include "transport/nccl_abi.h"

using namespace skv::transport::nccl;

extern "C" {
#define FAKE_API __attribute__((visibility("default")))
extern FAKE_API FakeNccl fake_nccl;
FakeNccl fake_nccl;
}

namespace {

constexpr int kPollMs = 5;

struct FakeComm {
  int rank = 0;
  int socket = -1;
  std::atomic<int> state{kInProgress};
  std::atomic<bool> abort{false};
  std::atomic<int> running{0};   // groups on a stream
  bool posting = false;          // the next question about it is answered "in progress" once
  std::atomic<bool> met{false};  // its meeting is over, one way or the other
};

// Never destroyed: threads may hang in them when the process ends.
std::mutex& hang_mutex() {
  static auto* const it = new std::mutex;
  return *it;
}
std::condition_variable& hang_changed() {
  static auto* const it = new std::condition_variable;
  return *it;
}
std::mutex& id_mutex() {
  static auto* const it = new std::mutex;
  return *it;
}
// Listening sockets of ids made here and not used yet: each costs one, as NCCL's cost a thread and a port.
std::map<std::uint64_t, int>& listeners() {
  static auto* const it = new std::map<std::uint64_t, int>;
  return *it;
}

struct IdWords {
  std::uint64_t nonce;
  std::uint16_t port;
};

// kSuccess, or what the switches want of this call.
Result counted(FakeComm* comm) {
  const int call = ++fake_nccl.calls;
  if (call == fake_nccl.fail_at) return fake_nccl.fail_result;
  if (call != fake_nccl.hang_at) return kSuccess;
  std::unique_lock lock(hang_mutex());
  while (fake_nccl.hang_for_good || comm == nullptr || !comm->abort) {
    hang_changed().wait_for(lock, std::chrono::milliseconds(kPollMs));
    if (comm == nullptr && fake_nccl.hang_at != call) return kSuccess;  // let go by the test
  }
  return 3;
}

bool wait_for(const FakeComm& comm, int fd, short events) {
  while (!comm.abort) {
    pollfd wanted{fd, events, 0};
    if (::poll(&wanted, 1, kPollMs) > 0) return true;
  }
  return false;
}

void meet(FakeComm& comm, IdWords id, int listener) {
  int fd = -1;
  if (comm.rank == 0) {
    while (fd < 0 && wait_for(comm, listener, POLLIN)) {
      fd = ::accept(listener, nullptr, nullptr);
      std::uint64_t nonce = 0;
      if (fd >= 0 && (::recv(fd, &nonce, sizeof nonce, MSG_WAITALL) != sizeof nonce || nonce != id.nonce)) {
        ::close(fd);
        fd = -1;
      }
    }
    ::close(listener);
  } else {
    sockaddr_in at{};
    at.sin_family = AF_INET;
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    at.sin_port = id.port;
    while (fd < 0 && !comm.abort) {
      fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
      if (::connect(fd, reinterpret_cast<sockaddr*>(&at), sizeof at) == 0) {
        static_cast<void>(::send(fd, &id.nonce, sizeof id.nonce, MSG_NOSIGNAL));
        break;
      }
      const bool refused = errno == ECONNREFUSED;
      ::close(fd);
      fd = -1;
      if (refused) break;  // rank 0 is gone: it listened before the id was told
      std::this_thread::sleep_for(std::chrono::milliseconds(kPollMs));
    }
  }
  comm.socket = fd;
  comm.state = fd >= 0 ? kSuccess : kRemoteError;
}

struct Op {
  FakeComm* comm;
  std::byte* bytes;
  std::size_t size;
  bool send;
  bool corrupt;
  HostStream* stream;
};

// Of this thread's open group.
thread_local int group_depth = 0;
thread_local std::vector<Op> group;

bool run(const Op& op) {
  std::size_t done = 0;
  while (done < op.size) {
    if (!wait_for(*op.comm, op.comm->socket, op.send ? POLLOUT : POLLIN)) return false;
    const ssize_t n = op.send ? ::send(op.comm->socket, op.bytes + done, op.size - done, MSG_NOSIGNAL | MSG_DONTWAIT)
                              : ::recv(op.comm->socket, op.bytes + done, op.size - done, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) continue;
    if (n <= 0) {  // the other rank is gone: an error of the communicator; the kernel on the device goes on waiting
      op.comm->state = kRemoteError;
      while (!op.comm->abort) std::this_thread::sleep_for(std::chrono::milliseconds(kPollMs));
      return false;
    }
    done += static_cast<std::size_t>(n);
  }
  if (op.corrupt && op.size > 0) op.bytes[0] ^= std::byte{1};
  return true;
}

Result add(Op op) {
  if (op.comm->state != kSuccess || group_depth == 0) return kInvalidUsage;
  const Result result = counted(op.comm);
  op.corrupt = fake_nccl.calls == fake_nccl.corrupt_at;
  if (result == kSuccess) group.push_back(op);
  return result;
}

}  // namespace

extern "C" {

FAKE_API Result ncclGetVersion(int* version) {
  *version = fake_nccl.version;
  return kSuccess;
}

FAKE_API Result ncclGetUniqueId(UniqueId* out) {
  const Result result = counted(nullptr);
  if (result != kSuccess) return result;
  fake_nccl.ids++;
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in at{};
  at.sin_family = AF_INET;
  at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof at;
  if (::bind(fd, reinterpret_cast<sockaddr*>(&at), length) != 0 || ::listen(fd, 1) != 0 ||
      ::getsockname(fd, reinterpret_cast<sockaddr*>(&at), &length) != 0) {
    ::close(fd);
    return 2;
  }
  IdWords id{0, at.sin_port};
  if (getrandom(&id.nonce, sizeof id.nonce, 0) != sizeof id.nonce) return 2;
  std::memset(out, 0, sizeof *out);
  std::memcpy(out->internal, &id, sizeof id);
  std::lock_guard lock(id_mutex());
  listeners()[id.nonce] = fd;
  return kSuccess;
}

FAKE_API const char* ncclGetErrorString(Result result) {
  switch (result) {
    case kSuccess:
      return "no error";
    case kRemoteError:
      return "remote process exited or there was a network error";
    default:
      return "an error that the test wants";
  }
}

FAKE_API Result ncclCommInitRankConfig(Comm* out, int ranks, UniqueId id, int rank, Config* config) {
  if (ranks != 2 || rank < 0 || rank > 1 || config == nullptr || config->magic != kConfigMagic ||
      config->size < sizeof(Config) || config->blocking != 0) {
    return kInvalidUsage;
  }
  fake_nccl.most_ctas = config->max_ctas;
  const Result result = counted(nullptr);
  if (result != kSuccess) return result;
  IdWords words;
  std::memcpy(&words, id.internal, sizeof words);
  int listener = -1;
  if (rank == 0) {
    std::lock_guard lock(id_mutex());
    const auto it = listeners().find(words.nonce);
    if (it == listeners().end()) return kInvalidUsage;
    listener = it->second;
    listeners().erase(it);
  }
  auto* comm = new FakeComm;
  comm->rank = rank;
  std::thread([comm, words, listener] {
    meet(*comm, words, listener);
    comm->met = true;
  }).detach();
  *out = comm;
  fake_nccl.comms++;
  fake_nccl.live++;
  return kInProgress;
}

FAKE_API Result ncclCommGetAsyncError(Comm opaque, Result* error) {
  auto* comm = static_cast<FakeComm*>(opaque);
  *error = comm->state;
  if (comm->posting && *error == kSuccess) *error = kInProgress;
  comm->posting = false;
  return kSuccess;
}
FAKE_API Result ncclCommCount(Comm, int* ranks) {
  *ranks = 2;
  return kSuccess;
}
FAKE_API Result ncclCommCuDevice(Comm opaque, int* device) {
  *device = static_cast<FakeComm*>(opaque)->rank;  // in these tests: rank r is on device r
  return kSuccess;
}
FAKE_API Result ncclCommUserRank(Comm opaque, int* rank) {
  *rank = static_cast<FakeComm*>(opaque)->rank;
  return kSuccess;
}

FAKE_API Result ncclCommAbort(Comm opaque) {
  auto* comm = static_cast<FakeComm*>(opaque);
  fake_nccl.aborts++;
  if (fake_nccl.abort_ms > 0) std::this_thread::sleep_for(std::chrono::milliseconds(fake_nccl.abort_ms));
  while (fake_nccl.abort_hangs) std::this_thread::sleep_for(std::chrono::milliseconds(kPollMs));
  comm->abort = true;
  hang_changed().notify_all();
  while (!comm->met || comm->running > 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  if (comm->socket >= 0) ::close(comm->socket);
  // Kept: a call may hang in it, and returns only now. A few hundred bytes a communicator, in tests.
  static auto* const kept = new std::vector<FakeComm*>;
  std::lock_guard lock(id_mutex());
  kept->push_back(comm);
  fake_nccl.live--;
  return kSuccess;
}

#ifndef FAKE_WITHOUT_REVOKE
FAKE_API Result ncclCommRevoke(Comm, int flags) {
  if (flags != 0) return 4;
  fake_nccl.revokes++;
  return kSuccess;
}
FAKE_API const char* ncclGetLastError(Comm) { return "said by the fake"; }
#endif

FAKE_API Result ncclGroupStart() {
  const Result result = counted(nullptr);
  if (result == kSuccess) group_depth++;
  return result;
}
FAKE_API Result ncclGroupEnd() {
  if (group_depth == 0) return kInvalidUsage;
  group_depth = 0;
  auto* ops = new std::vector<Op>(std::move(group));
  group.clear();
  if (ops->empty()) {
    delete ops;
    return kSuccess;
  }
  FakeComm* comm = ops->front().comm;
  const Result result = counted(comm);
  if (result != kSuccess) {
    delete ops;
    return result;
  }
  comm->posting = true;
  comm->running++;
  HostStream* stream = ops->front().stream;
  stream->enqueue(
      stream,
      [](void* argument) {
        auto* todo = static_cast<std::vector<Op>*>(argument);
        FakeComm* of = todo->front().comm;
        for (const Op& op : *todo) {
          if (!run(op)) break;
        }
        delete todo;
        of->running--;
      },
      ops);
  return kInProgress;
}

#ifndef FAKE_WITHOUT_SEND
FAKE_API Result ncclSend(const void* from, std::size_t count, int type, int peer, Comm comm, Stream stream) {
  auto* to = static_cast<FakeComm*>(comm);
  if (type != kUint8 || peer != 1 - to->rank) return 4;
  fake_nccl.sends++;
  return add(
      {to, static_cast<std::byte*>(const_cast<void*>(from)), count, true, false, static_cast<HostStream*>(stream)});
}
#endif
FAKE_API Result ncclRecv(void* to, std::size_t count, int type, int peer, Comm comm, Stream stream) {
  auto* from = static_cast<FakeComm*>(comm);
  if (type != kUint8 || peer != 1 - from->rank) return 4;
  return add({from, static_cast<std::byte*>(to), count, false, false, static_cast<HostStream*>(stream)});
}

}  // extern "C"
