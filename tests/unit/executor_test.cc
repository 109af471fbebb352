// SPDX-License-Identifier: Apache-2.0
// skv_engine_set_executor: work runs where the caller says, whatever the caller's executor does with its tasks.
#include <gtest/gtest.h>
#include <spectrumkv.h>

#include <atomic>
#include <filesystem>
#include <functional>
#include <mutex>
#include <set>
#include <stdexcept>
#include <thread>
#include <vector>

#include "engine.h"
#include "error.h"

namespace skv::test {
namespace {

constexpr size_t kUnits = 200;

// What a host might do with its tasks.
struct Host {
  size_t calls = 0;
  size_t width = 0;
  skv_task task = nullptr;
  void* arg = nullptr;

  void note(size_t of_width, skv_task of_task, void* of_arg) {
    ++calls;
    width = of_width;
    task = of_task;
    arg = of_arg;
  }
  static Host& of(void* user) { return *static_cast<Host*>(user); }

  static void in_order(void* user, size_t width, skv_task task, void* arg) {
    of(user).note(width, task, arg);
    for (size_t i = 0; i < width; ++i) task(arg, i);
  }
  static void on_threads(void* user, size_t width, skv_task task, void* arg) {
    of(user).note(width, task, arg);
    std::vector<std::thread> threads;
    for (size_t i = 0; i < width; ++i) threads.emplace_back([=] { task(arg, i); });
    for (std::thread& thread : threads) thread.join();
  }
  static void never(void* user, size_t width, skv_task task, void* arg) { of(user).note(width, task, arg); }
  static void too_often(void* user, size_t width, skv_task task, void* arg) {
    of(user).note(width, task, arg);
    std::vector<std::thread> threads;
    for (size_t i = 0; i < 3 * width; ++i) threads.emplace_back([=] { task(arg, i % (2 * width)); });
    for (std::thread& thread : threads) thread.join();
  }
  static void throwing(void* user, size_t width, skv_task task, void* arg) {
    of(user).note(width, task, arg);
    task(arg, 0);
    throw std::runtime_error("the host's own");
  }
};

// How often each unit ran, and on which scratch.
struct Counts {
  std::vector<std::atomic<int>> of = std::vector<std::atomic<int>>(kUnits);
  std::mutex mutex;
  std::set<std::thread::id> threads;
  std::set<const Scratch*> busy;
  bool shared = false;

  auto work() {
    return [this](size_t unit, Scratch& scratch) {
      {
        const std::lock_guard lock(mutex);
        threads.insert(std::this_thread::get_id());
        shared = shared || !busy.insert(&scratch).second;
      }
      std::this_thread::yield();
      ++of[unit];
      const std::lock_guard lock(mutex);
      busy.erase(&scratch);
    };
  }
  bool each_once() const {
    for (const auto& count : of) {
      if (count != 1) return false;
    }
    return !shared;
  }
};

class ExecutorTest : public testing::TestWithParam<skv_executor> {};

TEST_P(ExecutorTest, RunsEveryUnitOnce) {
  Engine engine(SKV_DEVICE_CPU);
  Host host;
  engine.set_executor({GetParam(), &host, 3});
  EXPECT_EQ(engine.threads(), 3);
  for (int round = 0; round < 20; ++round) {
    Counts counts;
    engine.run(kUnits, counts.work());
    EXPECT_TRUE(counts.each_once());
    const bool alone = GetParam() == &Host::in_order || GetParam() == &Host::never;
    EXPECT_TRUE(!alone || counts.threads.size() == 1);
  }
  EXPECT_EQ(host.calls, 20U);
  EXPECT_EQ(host.width, 3U);
  host.task(host.arg, 0);  // too late: nothing
}

TEST_P(ExecutorTest, GivesBackTheFirstFailure) {
  Engine engine(SKV_DEVICE_CPU);
  Host host;
  engine.set_executor({GetParam(), &host, 4});
  std::atomic<size_t> done{0};
  try {
    engine.run(kUnits, [&](size_t unit, Scratch&) {
      ++done;
      if (unit % 50 == 17) fail(SKV_E_OVERFLOW, "unit %zu", unit);
    });
    FAIL() << "no failure";
  } catch (const Error& error) {
    EXPECT_STREQ(error.what(), "unit 17");
  }
  EXPECT_EQ(done, kUnits);
}

INSTANTIATE_TEST_SUITE_P(Hosts, ExecutorTest,
                         testing::Values(&Host::in_order, &Host::on_threads, &Host::never, &Host::too_often));

size_t threads_of_process() {
  size_t count = 0;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/task")) count += entry.exists() ? 1 : 0;
  return count;
}

TEST(Executor, StartsNoThreadsOfItsOwn) {
  const size_t before = threads_of_process();
  Engine engine(SKV_DEVICE_CPU);
  Host host;
  engine.set(SKV_ENGINE_THREADS, 3);
  Counts own;
  engine.run(kUnits, own.work());
  EXPECT_EQ(threads_of_process(), before + 2);
  engine.set_executor({&Host::in_order, &host, 3});
  Counts borrowed;
  engine.run(kUnits, borrowed.work());
  EXPECT_EQ(threads_of_process(), before);
  engine.set_executor({});
  EXPECT_TRUE(own.each_once() && borrowed.each_once());
}

TEST(Executor, OutlivesAnExceptionOfTheHost) {
  Engine engine(SKV_DEVICE_CPU);
  Host host;
  engine.set_executor({&Host::throwing, &host, 2});
  Counts counts;
  EXPECT_THROW(engine.run(kUnits, counts.work()), std::runtime_error);
  EXPECT_TRUE(counts.each_once());
  Counts again;
  EXPECT_THROW(engine.run(kUnits, again.work()), std::runtime_error);
  EXPECT_TRUE(again.each_once());
}

int32_t status_of(const std::function<void()>& call) {
  try {
    call();
    return SKV_OK;
  } catch (const Error& error) {
    return error.status();
  }
}

TEST(Executor, HasTheThreadsWhileItIsSet) {
  Engine engine(SKV_DEVICE_CPU);
  Host host;
  for (const int32_t width : {-1, 0, 257}) {
    EXPECT_EQ(status_of([&] { engine.set_executor({&Host::in_order, &host, width}); }), SKV_E_RANGE);
  }
  engine.set_executor({&Host::in_order, &host, 2});
  EXPECT_EQ(engine.get(SKV_ENGINE_THREADS), 2);
  EXPECT_EQ(status_of([&] { engine.set(SKV_ENGINE_THREADS, 3); }), SKV_E_STATE);
  engine.set_executor({});
  engine.set(SKV_ENGINE_THREADS, 3);
  EXPECT_EQ(engine.get(SKV_ENGINE_THREADS), 3);
}

}  // namespace
}  // namespace skv::test
