// SPDX-License-Identifier: Apache-2.0
#include "transport/issuing.h"

#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <csignal>
#include <deque>
#include <list>
#include <map>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

#include "error.h"
#include "transport/clock.h"

namespace skv::transport {
namespace {

// A call that keeps a stopping transfer waiting for so long hangs: NCCL's non-blocking calls take microseconds.
constexpr std::uint64_t kPatienceNs = 250'000'000;
constexpr std::uint64_t kLeavingNs = 5'000'000'000;
constexpr auto kWatchStep = std::chrono::milliseconds(20);
// Between looks at what is under way: from the time a small group takes up to where a core is no longer kept busy.
constexpr std::chrono::microseconds kLeastPause(20), kMostPause(500);

// Without the host's signals.
template <typename F>
std::thread spawn(const char* name, F&& body) {
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  try {
    std::thread made([name, body = std::forward<F>(body)] {
      pthread_setname_np(pthread_self(), name);
      body();
    });
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    return made;
  } catch (const std::system_error& error) {
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    fail_errno(SKV_E_NO_RESOURCE, error.code().value(), "%s thread", name);
  }
}

}  // namespace

// ---------------------------------------------------------------------------------------------------------- aborts

struct Abort {
  std::atomic<bool> done{false};
  std::uint64_t until = 0;
};

std::shared_ptr<Abort> abort_communicator(std::shared_ptr<const NcclLibrary> library, DeviceCalls& calls,
                                          std::int32_t device, nccl::Comm comm, std::uint64_t bound_ns,
                                          bool only_revoke) {
  auto abort = std::make_shared<Abort>();
  const std::uint64_t until = abort->until = add_ns(now_ns(), bound_ns);
  spawn("skv-nccl-abort", [abort, library = std::move(library), &calls, device, comm, until, only_revoke] {
    static_cast<void>(calls.use(device));
    const nccl::Table& nccl = library->call();
    if (nccl.CommRevoke != nullptr && nccl.CommRevoke(comm, 0) == nccl::kInProgress) {
      nccl::Result state = nccl::kInProgress;
      while (nccl.CommGetAsyncError(comm, &state) == nccl::kSuccess && state == nccl::kInProgress && now_ns() < until) {
        std::this_thread::sleep_for(kMostPause);
      }
    }
    if (!only_revoke) static_cast<void>(nccl.CommAbort(comm));
    abort->done = true;
  }).detach();
  return abort;
}
bool aborted(const Abort& abort) { return abort.done; }
bool overdue(const Abort& abort, std::uint64_t now) { return !abort.done && now >= abort.until; }

void bury(std::shared_ptr<const void> remains) {
  static std::mutex mutex;
  static auto* const graveyard = new std::vector<std::shared_ptr<const void>>;
  std::lock_guard lock(mutex);
  if (remains) graveyard->push_back(std::move(remains));
}

void drop_elsewhere(std::shared_ptr<const void> last) noexcept {
  if (!last || last.use_count() > 1) return;
  try {
    spawn("skv-nccl-free", [held = std::move(last)] {}).detach();
  } catch (const Error&) {  // no thread to be had: dropped here
  }
}

// ----------------------------------------------------------------------------------------------------- the thread

struct IssuingThread::State {
  State(DeviceCalls& of, std::int32_t ordinal) : calls(of), device(ordinal) {}

  struct Expectation {
    std::uint64_t since;
    std::uint64_t bound;
    std::function<void()> given_up;
  };

  DeviceCalls& calls;
  const std::int32_t device;
  std::atomic<bool> poisoned{false};

  std::mutex mutex;  // guards what follows
  std::condition_variable changed, watched, left;
  std::deque<std::function<void()>> commands;
  std::list<Expectation> expectations;
  bool over = false;  // nobody has work for it any more: what there is comes to its end
  bool quit = false;
  bool exited = false;
  bool given_up = false;
  bool inside = false;
  std::uint64_t since = 0;
  std::uint64_t beat = 0;                      // when it last looked for commands
  std::shared_ptr<const NcclLibrary> library;  // of the call
  nccl::Comm comm = nullptr;
  std::shared_ptr<Abort> abort;

  std::shared_ptr<void> leaving;  // while nobody waits for its end

  std::vector<std::shared_ptr<Issued>> works;  // the thread's alone
  std::thread thread, watch;

  void run() {
    static_cast<void>(calls.use(device));
    auto pause = kLeastPause;
    bool busy = false;
    std::deque<std::function<void()>> taken;
    for (;;) {
      {
        std::unique_lock lock(mutex);
        const auto wake = [this] { return quit || over || !commands.empty(); };
        if (busy || over) {
          changed.wait_for(lock, pause, [this] { return quit || !commands.empty(); });
        } else {
          changed.wait(lock, wake);
        }
        if (quit || (over && works.empty() && commands.empty())) return leave(lock);
        beat = now_ns();
        taken.swap(commands);
      }
      bool moved = !taken.empty();
      for (auto& command : taken) command();
      taken.clear();
      busy = false;
      const std::uint64_t now = now_ns();
      std::erase_if(works, [&](const auto& work) {
        const Issued::State state = work->step(now);
        moved |= state == Issued::State::kMoved;
        busy |= state == Issued::State::kBusy || state == Issued::State::kMoved;
        return state == Issued::State::kOver;
      });
      pause = moved ? kLeastPause : std::min(2 * pause, kMostPause);
    }
  }

  // What still refers to this would keep it, and itself, for ever. What was given up stays where it is.
  void leave(std::unique_lock<std::mutex>& lock) {
    exited = true;
    if (!given_up) {
      quit = true;
      const auto unheard = std::exchange(commands, {});
      const auto last = std::exchange(leaving, nullptr);
      lock.unlock();
      works.clear();
    } else {
      lock.unlock();
    }
    watched.notify_all();
  }

  void look_after() {
    std::unique_lock lock(mutex);
    for (;;) {
      watched.wait(lock, [this] { return quit || !expectations.empty(); });
      if (quit) return;
      const std::uint64_t now = now_ns();
      const Expectation& first = expectations.front();  // the oldest
      const std::uint64_t from = std::max({first.since, inside ? since : 0, beat});
      const std::uint64_t waits = now > from ? now - from : 0;
      if (waits >= kPatienceNs && inside && comm != nullptr && !abort) {
        abort = abort_communicator(library, calls, device, comm, first.bound);
      }
      // A call that comes back after its abort has its turn to say so.
      if (waits >= add_ns(kPatienceNs, first.bound)) return give_up(lock);
      watched.wait_for(lock, kWatchStep);
    }
  }

  void give_up(std::unique_lock<std::mutex>& lock) {
    poisoned = true;
    given_up = quit = true;
    if (thread.joinable()) thread.detach();
    left.notify_all();
    const auto told = std::move(expectations);
    expectations.clear();
    lock.unlock();
    for (const Expectation& expectation : told) expectation.given_up();
    lock.lock();
  }
};

IssuingThread::IssuingThread(DeviceCalls& calls, std::int32_t device) : state_(std::make_shared<State>(calls, device)) {
  state_->thread = spawn("skv-nccl", [state = state_] {
    try {
      state->run();
    } catch (const Abandoned&) {
      bury(state);  // with what it was doing
    }
    std::lock_guard lock(state->mutex);
    state->exited = true;
    state->left.notify_all();
  });
  state_->watch = spawn("skv-nccl-watch", [state = state_] { state->look_after(); });
}

IssuingThread::~IssuingThread() {
  // Lanes end within the bound of their aborts; a call that hangs meanwhile is ended like any other.
  auto leaving = expect(state_, kLeavingNs, [] {});
  const auto self = std::this_thread::get_id();
  std::unique_lock lock(state_->mutex);
  state_->over = true;
  state_->changed.notify_all();
  if (state_->watch.get_id() == self || (!state_->given_up && state_->thread.get_id() == self)) {
    // The last user was dropped by one of the threads itself: they come to their end by themselves.
    if (state_->thread.joinable()) state_->thread.detach();
    state_->watch.detach();
    if (!state_->exited && !state_->given_up) state_->leaving = std::move(leaving);
    lock.unlock();
    return;
  }
  state_->left.wait(lock, [this] { return state_->exited || state_->given_up; });
  state_->quit = true;
  state_->watched.notify_all();
  lock.unlock();
  state_->watch.join();
  if (state_->thread.joinable()) state_->thread.join();  // not after it was given up
}

std::shared_ptr<IssuingThread> IssuingThread::of(DeviceCalls& calls, std::int32_t device) {
  static std::mutex mutex;
  static auto* const threads = new std::map<std::pair<DeviceCalls*, std::int32_t>, std::weak_ptr<IssuingThread>>;
  std::lock_guard lock(mutex);
  auto& place = (*threads)[{&calls, device}];
  auto thread = place.lock();
  if (!thread) {
    thread.reset(new IssuingThread(calls, device));
    place = thread;
  }
  return thread;
}

void post(IssuingThread::State& thread, std::function<void()> command) {
  std::lock_guard lock(thread.mutex);
  if (thread.quit) return;
  thread.commands.push_back(std::move(command));
  thread.changed.notify_one();
}

void add(IssuingThread::State& thread, std::shared_ptr<Issued> work) {
  post(thread, [&thread, work = std::move(work)] { thread.works.push_back(work); });
}

bool poisoned(const IssuingThread::State& thread) noexcept { return thread.poisoned; }
void poison(IssuingThread::State& thread) noexcept { thread.poisoned = true; }

std::shared_ptr<void> expect(const std::shared_ptr<IssuingThread::State>& thread, std::uint64_t bound_ns,
                             std::function<void()> given_up) {
  std::lock_guard lock(thread->mutex);
  const auto at = thread->expectations.insert(thread->expectations.end(), {now_ns(), bound_ns, std::move(given_up)});
  if (thread->given_up) {  // the watch is gone: told by the caller
    auto told = std::move(at->given_up);
    thread->expectations.erase(at);
    told();
    return nullptr;
  }
  thread->watched.notify_all();
  return {thread.get(), [thread, at](void*) {
            std::lock_guard relock(thread->mutex);
            if (!thread->given_up) thread->expectations.erase(at);
          }};
}

Inside::Inside(IssuingThread::State& thread, const std::shared_ptr<const NcclLibrary>& library, nccl::Comm comm)
    : thread_(thread) {
  std::lock_guard lock(thread.mutex);
  if (thread.given_up) throw Abandoned();
  thread.inside = true;
  thread.since = now_ns();
  thread.library = library;
  thread.comm = comm;
  thread.abort = nullptr;
}
Inside::~Inside() {
  std::lock_guard lock(thread_.mutex);
  if (!thread_.given_up) thread_.inside = false;
}
std::shared_ptr<Abort> Inside::leave() {
  std::lock_guard lock(thread_.mutex);
  if (thread_.given_up) throw Abandoned();
  thread_.inside = false;
  thread_.library = nullptr;
  return std::exchange(thread_.abort, nullptr);
}

}  // namespace skv::transport
