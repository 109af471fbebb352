// SPDX-License-Identifier: Apache-2.0
// The real NCCL on a GPU. With one GPU: a communicator of one rank that sends to itself, through the table that the
// plane loads; ends on one device of a process; and two processes with an NCCL_HOSTID each. Two GPUs: two ends of one
// process.
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <vector>

#include "error.h"
#include "tests/faults/payloads.h"
#include "transport/clock.h"
#include "transport/device_calls.h"
#include "transport/endpoint.h"
#include "transport/nccl_library.h"

namespace skv::transport {
namespace {

constexpr std::uint64_t kSoon = 60'000;
constexpr std::size_t kBytes = std::size_t{48} << 20;

std::string library_path() {
  if (std::getenv("SPECTRUMKV_NCCL_LIBRARY") != nullptr) return "";
  const std::string installed = SKV_REAL_NCCL;
  return std::filesystem::exists(installed) ? installed : "";
}

class NcclOnGpu : public ::testing::Test {
 protected:
  void SetUp() override {
    const bool required = std::getenv("SPECTRUMKV_REQUIRE_GPU") != nullptr;
    if (calls.count(&devices) != 0 || devices == 0) {
      if (required) FAIL() << "no GPU to test on";
      GTEST_SKIP() << "no GPU to test on";
    }
    try {
      library = NcclLibrary::load(library_path());
    } catch (const Error& error) {
      if (required) FAIL() << error.message();
      GTEST_SKIP() << error.message();
    }
  }
  static std::shared_ptr<std::byte> on_device(std::int32_t device, std::span<const std::byte> bytes) {
    DeviceCalls& calls = cuda_calls();
    calls.use(device);
    void* memory = nullptr;
    EXPECT_EQ(calls.allocate(&memory, bytes.size()), 0);
    move(memory, bytes.data(), bytes.size());
    return {static_cast<std::byte*>(memory), [](std::byte* p) { cuda_calls().release(p); }};
  }
  static void move(void* to, const void* from, std::size_t bytes) {
    DeviceCalls& calls = cuda_calls();
    void *stream = nullptr, *event = nullptr;
    EXPECT_EQ(calls.open_stream(&stream), 0);
    EXPECT_EQ(calls.open_event(&event), 0);
    EXPECT_EQ(calls.copy(to, from, bytes, stream), 0);
    EXPECT_EQ(calls.record(event, stream), 0);
    while (calls.query(event) == DeviceCalls::kNotReady) ::usleep(50);
    calls.close_event(event);
    calls.close_stream(stream);
  }
  static Parcel parcel_of(const std::shared_ptr<std::byte>& memory) {
    Parcel parcel;
    parcel.bytes = {memory.get(), kBytes};
    parcel.layer_bytes = {128, kBytes / 4, kBytes / 2, kBytes / 4 - 128};
    parcel.keep_alive = memory;
    return parcel;
  }
  static void on_nccl(Endpoint& endpoint, std::int32_t device) {
    endpoint.set(SKV_ENDPOINT_PLANES, 1 << SKV_PLANE_NCCL);
    endpoint.set(SKV_ENDPOINT_DEVICE, device);
    if (!library_path().empty()) endpoint.set_library(SKV_PLANE_NCCL, library_path().c_str());
  }
  static void receive_equal(Conn& at, std::span<const std::byte> want) {
    const auto receive = at.recv_offer(deadline_ms(kSoon));
    ASSERT_EQ(receive->wait(deadline_ms(kSoon)), SKV_OK);
    receive->accept(nullptr, 0, deadline_ms(kSoon));
    ASSERT_EQ(receive->wait(deadline_ms(kSoon)), SKV_OK);
    const Received got = receive->take();
    std::vector<std::byte> host(want.size());
    move(host.data(), got.bytes.data(), host.size());
    EXPECT_TRUE(equal(host, want));
    std::printf("         plane %d: %.1f MB in %.2f ms, %.2f GB/s\n", got.plane, want.size() / 1e6, got.wire_ns / 1e6,
                static_cast<double>(want.size()) / static_cast<double>(got.wire_ns));
  }
  void between(std::int32_t sender, std::int32_t receiver) {
    Endpoint a, b;
    on_nccl(a, sender);
    on_nccl(b, receiver);
    char bound[64];
    b.listen("tcp://127.0.0.1:0", bound, sizeof bound);
    const auto from = a.connect(bound, deadline_ms(kSoon));
    const auto to = b.accept(deadline_ms(kSoon));
    EXPECT_EQ(from->get(SKV_CONN_PLANE), SKV_PLANE_NCCL);
    const std::vector<std::byte> bytes = make_bytes(kBytes, 1);
    const Parcel parcel = parcel_of(on_device(sender, bytes));
    for (int round = 0; round < 4; round++) {
      const auto send = from->send(1, parcel, deadline_ms(kSoon));
      ASSERT_NO_FATAL_FAILURE(receive_equal(*to, bytes));
      EXPECT_EQ(send->wait(deadline_ms(kSoon)), SKV_OK);
    }
  }

  DeviceCalls& calls = cuda_calls();
  std::int32_t devices = 0;
  std::shared_ptr<const NcclLibrary> library;
};

TEST_F(NcclOnGpu, OneRankSendsToItself) {
  const nccl::Table& nccl = library->call();
  calls.use(0);
  nccl::UniqueId id{};
  ASSERT_EQ(nccl.GetUniqueId(&id), nccl::kSuccess);
  nccl::Config config;
  config.blocking = 0;
  config.max_ctas = 8;
  nccl::Comm comm = nullptr;
  const std::uint64_t end = deadline_ms(kSoon);
  const auto settled = [&](nccl::Result result) {
    while (result == nccl::kInProgress && now_ns() < end) {
      ::usleep(100);
      EXPECT_EQ(nccl.CommGetAsyncError(comm, &result), nccl::kSuccess);
    }
    return result;
  };
  ASSERT_EQ(settled(nccl.CommInitRankConfig(&comm, 1, id, 0, &config)), nccl::kSuccess);
  const std::vector<std::byte> bytes = make_bytes(kBytes, 3), zero(kBytes);
  const auto from = on_device(0, bytes), to = on_device(0, zero);
  void *stream = nullptr, *event = nullptr;
  ASSERT_EQ(calls.open_stream(&stream), 0);
  ASSERT_EQ(calls.open_event(&event), 0);
  ASSERT_EQ(settled(nccl.GroupStart()), nccl::kSuccess);
  EXPECT_EQ(settled(nccl.Send(from.get(), kBytes, nccl::kUint8, 0, comm, stream)), nccl::kSuccess);
  EXPECT_EQ(settled(nccl.Recv(to.get(), kBytes, nccl::kUint8, 0, comm, stream)), nccl::kSuccess);
  ASSERT_EQ(settled(nccl.GroupEnd()), nccl::kSuccess);
  ASSERT_EQ(calls.record(event, stream), 0);
  while (calls.query(event) == DeviceCalls::kNotReady && now_ns() < end) ::usleep(50);
  std::vector<std::byte> got(kBytes);
  move(got.data(), to.get(), kBytes);
  EXPECT_TRUE(equal(got, bytes));
  EXPECT_EQ(nccl.CommAbort(comm), nccl::kSuccess);
  calls.close_event(event);
  calls.close_stream(stream);
}

TEST_F(NcclOnGpu, EndsOnOneDeviceCopyThere) { between(0, 0); }

TEST_F(NcclOnGpu, TwoDevices) {
  if (devices < 2) GTEST_SKIP() << "one GPU only";
  between(0, 1);
}

// This program again, as the child: CUDA does not survive a fork.
TEST_F(NcclOnGpu, TwoProcessesShareADevice) {
  if (const char* uri = std::getenv("SKV_TEST_PEER")) {  // the child: receives
    Endpoint endpoint;
    on_nccl(endpoint, 0);
    const auto conn = endpoint.connect(uri, deadline_ms(kSoon));
    const std::vector<std::byte> bytes = make_bytes(kBytes, 1);
    for (int round = 0; round < 2; round++) ASSERT_NO_FATAL_FAILURE(receive_equal(*conn, bytes));
    return;
  }
  ::setenv("NCCL_SOCKET_IFNAME", "lo", 1);
  ::setenv("NCCL_NET", "Socket", 1);
  ::setenv("NCCL_HOSTID", "spectrumkv-a", 1);
  Endpoint endpoint;
  on_nccl(endpoint, 0);
  char bound[64];
  endpoint.listen("tcp://127.0.0.1:0", bound, sizeof bound);
  const pid_t child = ::fork();
  if (child == 0) {
    ::setenv("NCCL_HOSTID", "spectrumkv-b", 1);
    ::setenv("SKV_TEST_PEER", bound, 1);
    ::execl("/proc/self/exe", "gpu_tests", "--gtest_filter=NcclOnGpu.TwoProcessesShareADevice", nullptr);
    ::_exit(127);
  }
  const auto conn = endpoint.accept(deadline_ms(kSoon));
  const std::vector<std::byte> bytes = make_bytes(kBytes, 1);
  const Parcel parcel = parcel_of(on_device(0, bytes));
  for (int round = 0; round < 2; round++) {
    EXPECT_EQ(conn->send(1, parcel, deadline_ms(kSoon))->wait(deadline_ms(kSoon)), SKV_OK);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
}

}  // namespace
}  // namespace skv::transport
