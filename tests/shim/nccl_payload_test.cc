// SPDX-License-Identifier: Apache-2.0
// The C ABI with payloads in device memory over plane nccl, where there is neither a GPU nor NCCL: kernels over the
// shim, streams and libnccl.so.2 of tests/nccl.
#include <gtest/gtest.h>
#include <spectrumkv.h>

#include <mutex>
#include <vector>

#include "shim.h"
#include "tests/nccl/host_device.h"

namespace skv::test {
namespace {

constexpr int32_t kLayers = 3, kTokens = 300, kHeads = 2, kDim = 64;
constexpr std::size_t kPlane = std::size_t{kTokens} * kHeads * kDim * 2;

// Memory of the shim's devices, which engines see too; streams and events that take their time.
class ShimDevices final : public transport::HostDevices {
 public:
  int count(std::int32_t* out) override { return cudaGetDeviceCount(out); }
  int allocate(void** out, std::size_t bytes) override {
    std::int32_t device = 0;
    current(&device);
    int before = 0;
    cudaGetDevice(&before);
    cudaSetDevice(device);
    const int code = cudaMalloc(out, bytes);
    if (code != 0) cudaGetLastError();  // as kernels/cuda/device.cu
    cudaSetDevice(before);
    return code;
  }
  int release(void* memory) override { return cudaFree(memory); }
  int place_of(const void* address, Place* out) override {
    cudaPointerAttributes at{};
    const int code = cudaPointerGetAttributes(&at, address);
    *out = {at.type != cudaMemoryTypeUnregistered, at.type == cudaMemoryTypeDevice ? at.device : -1};
    return code;
  }
};

#define TRY(call) ASSERT_EQ(SKV_OK, (call)) << skv_status_name(err.status) << ": " << err.message

class NcclPayload : public testing::Test {
 protected:
  static void SetUpTestSuite() { transport::replace_cuda_calls(*new ShimDevices); }
  void SetUp() override {
    for (int32_t device = 0; device < 2; ++device) {
      TRY(skv_engine_create(device, &engine[device], &err));
      cudaSetDevice(device);
      TRY(skv_cache_create(kLayers, &cache[device], &err));
      TRY(skv_cache_set_tokens(cache[device], SKV_ALL, 0, kTokens, &err));
      for (int32_t l = 0; l < kLayers; ++l) {
        TRY(skv_cache_set_layer(cache[device], l, kHeads, kDim, kDim, SKV_F16, &err));
        for (int32_t half = 0; half < 2; ++half) {
          void* memory = nullptr;
          ASSERT_EQ(0, cudaMalloc(&memory, kPlane));
          planes[device].push_back(static_cast<std::byte*>(memory));
          auto* words = static_cast<uint16_t*>(memory);
          for (std::size_t i = 0; i < kPlane / 2; ++i) {  // halves in [0.5, 2)
            words[i] = device == 0 ? static_cast<uint16_t>(0x3800 + (i * 2654435761U + l * 77 + half) % 0x800) : 0;
          }
          TRY(skv_cache_set_plane(cache[device], l, half, memory, kPlane, 0, kHeads * kDim * 2, kDim * 2, 2, &err));
        }
      }
      cudaSetDevice(0);
      TRY(skv_endpoint_create(&end[device], &err));
      TRY(skv_endpoint_set(end[device], SKV_ENDPOINT_PLANES, 1 << SKV_PLANE_NCCL, &err));
      TRY(skv_endpoint_set(end[device], SKV_ENDPOINT_DEVICE, device, &err));
      TRY(skv_endpoint_set_library(end[device], SKV_PLANE_NCCL, SKV_FAKE_NCCL, &err));
    }
    TRY(skv_plan_create(engine[0], &plan, &err));
    TRY(skv_plan_set_budget(plan, 0.4, &err));
    TRY(skv_plan_set(plan, SKV_PLAN_UNPROVEN, 1, &err));
    TRY(skv_plan_solve(plan, cache[0], nullptr, &err));
    char bound[64];
    TRY(skv_listen(end[1], "tcp://127.0.0.1:0", bound, sizeof bound, &err));
    TRY(skv_connect(end[0], bound, soon(), &from, &err));
    TRY(skv_accept(end[1], soon(), &to, &err));
  }
  void TearDown() override {
    skv_conn_destroy(from);
    skv_conn_destroy(to);
    skv_plan_destroy(plan);
    for (int i = 0; i < 2; ++i) {
      skv_endpoint_destroy(end[i]);
      skv_cache_destroy(cache[i]);
      skv_engine_destroy(engine[i]);
      for (std::byte* plane : planes[i]) cudaFree(plane);
    }
  }
  static uint64_t soon() { return skv_deadline_ms(20'000); }
  // What device 1 must hold after decoding: the same payload through the host.
  void expect_decoded(skv_payload* sent) {
    size_t size = 0;
    const void* ignored = nullptr;
    TRY(skv_payload_data(sent, &ignored, &size, &err));
    std::vector<uint64_t> host(size / 8 + 1);
    TRY(skv_payload_copy(sent, host.data(), size, &err));
    skv_payload* opened = nullptr;
    TRY(skv_payload_open(host.data(), size, &opened, &err));
    std::vector<std::vector<std::byte>> got;
    for (std::byte* plane : planes[1]) {
      got.emplace_back(plane, plane + kPlane);
      std::memset(plane, 0, kPlane);
    }
    TRY(skv_decode(engine[1], opened, cache[1], nullptr, &err));
    skv_payload_destroy(opened);
    for (std::size_t i = 0; i < got.size(); ++i) EXPECT_EQ(0, std::memcmp(got[i].data(), planes[1][i], kPlane)) << i;
  }

  skv_error err{};
  skv_engine* engine[2] = {};
  skv_cache* cache[2] = {};
  skv_endpoint* end[2] = {};
  skv_plan* plan = nullptr;
  skv_conn *from = nullptr, *to = nullptr;
  std::vector<std::byte*> planes[2];
};

TEST_F(NcclPayload, IsSentFromWhereItIsAndDecodedWhereItArrives) {
  int64_t fact = 0;
  TRY(skv_conn_get(from, SKV_CONN_PLANE, &fact, &err));
  EXPECT_EQ(SKV_PLANE_NCCL, fact);
  skv_payload *sent = nullptr, *got = nullptr;
  skv_request *send = nullptr, *receive = nullptr;
  TRY(skv_encode(engine[0], cache[0], plan, nullptr, &sent, &err));
  TRY(skv_send(from, 7, sent, soon(), &send, &err));
  TRY(skv_recv_offer(to, soon(), &receive, &err));
  TRY(skv_request_wait(receive, soon(), &err));
  alignas(16) char host[64];
  EXPECT_EQ(SKV_E_TOO_SMALL, skv_offer_accept(receive, planes[1][0], 16, soon(), &err));
  EXPECT_EQ(SKV_E_ARGUMENT, skv_offer_accept(receive, host, sizeof host, soon(), &err)) << err.message;
  EXPECT_EQ(SKV_E_RANGE, skv_offer_accept(receive, planes[0][0], kPlane, soon(), &err)) << err.message;
  skv::shim::machine.memory = 100;
  EXPECT_EQ(SKV_E_NO_MEMORY, skv_offer_accept(receive, nullptr, 0, soon(), &err)) << err.message;
  skv::shim::machine.memory = -1;
  TRY(skv_offer_accept(receive, nullptr, 0, soon(), &err));
  TRY(skv_request_wait(receive, soon(), &err));
  TRY(skv_request_wait(send, soon(), &err));
  TRY(skv_request_payload(receive, &got, &err));
  TRY(skv_payload_get(got, SKV_ALL, SKV_PAYLOAD_DEVICE, &fact, &err));
  EXPECT_EQ(1, fact);
  TRY(skv_decode(engine[1], got, cache[1], nullptr, &err));
  expect_decoded(sent);
  skv_receipt receipt{};
  receipt.struct_size = sizeof receipt;
  TRY(skv_payload_receipt(got, &receipt, &err));
  EXPECT_EQ(SKV_PLANE_NCCL, receipt.plane);
  TRY(skv_request_destroy(send, &err));
  TRY(skv_request_destroy(receive, &err));
  skv_payload_destroy(got);
  skv_payload_destroy(sent);
}

TEST_F(NcclPayload, LayersTravelWhileOthersAreEncoded) {
  skv_payload *sent = nullptr, *got = nullptr;
  skv_request *send = nullptr, *receive = nullptr;
  uint64_t bytes = 0;
  TRY(skv_plan_bytes(plan, &bytes, &err));
  void* memory = nullptr;
  ASSERT_EQ(0, cudaMalloc(&memory, bytes));
  void* stream[2] = {reinterpret_cast<void*>(1), reinterpret_cast<void*>(2)};  // the shim's kernels run at once on any
  TRY(skv_payload_create(cache[0], plan, memory, bytes, &sent, &err));
  TRY(skv_send_layers(from, 7, sent, soon(), &send, &err));
  TRY(skv_recv_offer(to, soon(), &receive, &err));
  TRY(skv_request_wait(receive, soon(), &err));
  TRY(skv_offer_accept(receive, nullptr, 0, soon(), &err));
  EXPECT_EQ(SKV_IN_PROGRESS, skv_request_wait_layer(receive, 0, skv_deadline_ms(20), &err));
  for (int32_t l = 0; l < kLayers; ++l) {
    TRY(skv_encode_layer(engine[0], cache[0], plan, l, stream[l % 2], sent, &err));
    TRY(skv_request_wait_layer(receive, l, soon(), &err));
    TRY(skv_request_stream_wait(receive, l, nullptr, &err));
  }
  TRY(skv_request_wait(send, soon(), &err));
  TRY(skv_request_wait(receive, soon(), &err));
  TRY(skv_request_payload(receive, &got, &err));
  TRY(skv_decode(engine[1], got, cache[1], nullptr, &err));
  expect_decoded(sent);
  TRY(skv_request_destroy(send, &err));
  TRY(skv_request_destroy(receive, &err));
  skv_payload_destroy(got);
  skv_payload_destroy(sent);
  cudaFree(memory);
}

TEST_F(NcclPayload, HostPayloadsAndOtherDevicesAreRefusedAndTheEngineStaysUsable) {
  skv_payload *sent = nullptr, *host = nullptr;
  skv_request* send = nullptr;
  TRY(skv_encode(engine[0], cache[0], plan, nullptr, &sent, &err));
  uint64_t bytes = 0;
  TRY(skv_plan_bytes(plan, &bytes, &err));
  std::vector<uint64_t> copy(bytes / 8 + 1);
  TRY(skv_payload_copy(sent, copy.data(), bytes, &err));
  TRY(skv_payload_open(copy.data(), bytes, &host, &err));
  EXPECT_EQ(SKV_E_ARGUMENT, skv_send(from, 1, host, soon(), &send, &err)) << err.message;
  EXPECT_EQ(SKV_E_RANGE, skv_send(to, 1, sent, soon(), &send, &err)) << err.message;  // that end is device 1's
  EXPECT_EQ(nullptr, send);
  skv_payload_destroy(host);
  skv_payload_destroy(sent);
  TRY(skv_encode(engine[0], cache[0], plan, nullptr, &sent, &err));
  skv_payload_destroy(sent);
}

}  // namespace
}  // namespace skv::test
