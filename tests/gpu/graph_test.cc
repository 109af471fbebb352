// SPDX-License-Identifier: Apache-2.0
// What only a GPU shows: capture into a CUDA graph, streams of the caller's.
#include "graph.h"

#include "codec_jobs.h"
#include "tests/cuda/on_device.h"

namespace skv::test {
namespace {

using OnGpu = OnDevice;

struct Stream {
  Stream() { check_cuda(cuda::open_stream(&it), "opening a stream"); }
  ~Stream() { static_cast<void>(cuda::close_stream(it)); }
  void* it = nullptr;
};

// A captured encoding replays on new values: no wait, no allocation, nothing of the host's that was gone by then.
TEST_F(OnGpu, AnEncodingIsAGraph) {
  const Geometry g{4, 300, 2, {128, 64}, SKV_F16};
  Tensors source(g, Layout::kPaged16, true);
  Device& device = *gpu->device();
  const Device::Use use(device);
  DeviceTensors copy(device, source);
  Plan plan;
  plan.options.unproven = true;
  plan.set_fraction(0.3);
  solve(cpu, plan, source.cache(), nullptr);
  auto got = encode(*gpu, copy.cache(), plan);
  auto* payload = const_cast<std::byte*>(got->bytes().data());
  const EncodeJobs jobs(device, copy.cache(), plan.layers(), got->segments(), got->header(), payload, 0, g.layers);
  const Stream stream;
  int code = -1;
  void* graph = gpu::capture(
      stream.it,
      [&] {
        jobs.send(stream.it);
        jobs.place(stream.it);
        jobs.statistics(stream.it);
        jobs.pack(stream.it);
        jobs.digest(stream.it);
      },
      &code);
  ASSERT_NE(nullptr, graph) << cuda::error_name(code);
  for (int round = 0; round < 3; ++round) {
    for (int32_t t = 0; t < g.tokens; t += 7) source.put(1, SKV_K, t, 1, 3, static_cast<float>(t + round));
    const std::vector<std::byte>& host = source.memory()[2];
    auto* plane = copy.cache().layer(1).plane[SKV_K].base;
    check_cuda(cuda::copy(plane, host.data(), host.size(), stream.it), "changing the tensors");
    check_cuda(gpu::replay(graph, stream.it), "replaying");
    EXPECT_EQ(UINT32_MAX, jobs.verdict(stream.it).unit);
    EXPECT_EQ(to_host(device, payload, plan.payload_bytes()), [&] {
      const auto want = encode(cpu, source.cache(), plan);
      return std::vector<std::byte>(want->bytes().begin(), want->bytes().end());
    }());
  }
  gpu::drop(graph);
}

// Work queued on the caller's stream before the call is seen, without the default stream.
TEST_F(OnGpu, CallsAreOrderedOnTheCallersStream) {
  const Geometry g{2, 2000, 4, {128, 128}, SKV_BF16};
  Tensors source(g, Layout::kTokenMajor, true);
  Tensors empty(g, Layout::kTokenMajor, false);
  Device& device = *gpu->device();
  const Device::Use use(device);
  DeviceTensors filled(device, source);
  DeviceTensors from(device, empty);
  DeviceTensors to(device, empty);
  Plan plan;
  plan.options.unproven = true;
  plan.set_strategy("uniform-6");
  solve(cpu, plan, source.cache(), nullptr);
  const Stream stream;
  for (int round = 0; round < 5; ++round) {
    for (int32_t l = 0; l < g.layers; ++l) {
      for (int half = 0; half < 2; ++half) {
        const Plane& plane = filled.cache().layer(l).plane[half];
        auto* target = from.cache().layer(l).plane[half].base;
        check_cuda(cuda::clear(target, plane.bytes, stream.it), "clearing");
        check_cuda(cuda::copy(target, plane.base, plane.bytes, stream.it), "filling");
      }
    }
    auto payload = Payload::create(from.cache(), plan, {}, &device);
    encode_layers(*gpu, from.cache(), plan, *payload, 0, g.layers, stream.it);
    decode_layers(*gpu, *payload, to.cache(), 0, g.layers, stream.it);
    EXPECT_TRUE(same_bytes(*encode(cpu, source.cache(), plan), *payload));
  }
  Tensors host(g, Layout::kTokenMajor, false);
  decode_layers(cpu, *encode(cpu, source.cache(), plan), host.cache(), 0, g.layers);
  EXPECT_TRUE(to.equals(host));
}

}  // namespace
}  // namespace skv::test
