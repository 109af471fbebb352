// SPDX-License-Identifier: Apache-2.0
// The CUDA kernels beside a device-to-device copy of the same tensor, Qwen2.5-7B's geometry. Every round times all of
// them in turn; each figure is the median of its rounds. Writes JSON to stdout.
//
//   bench/cuda_bench [--rounds N]
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "codec.h"
#include "codec_jobs.h"
#include "error.h"
#include "tests/gpu/graph.h"

namespace {

using namespace skv;
using Clock = std::chrono::steady_clock;

constexpr int32_t kLayers = 28, kHeads = 4, kDim = 128;  // Qwen2.5-7B
constexpr int32_t kBlock = 16;                           // tokens of a page

struct Case {
  const char* name;
  const char* strategy;  // null: error-aware at `fraction`
  double fraction;
};
constexpr Case kCases[] = {
    {"uniform-4", "uniform-4", 0}, {"uniform-8", "uniform-8", 0}, {"budget-0.28", nullptr, 0.28}, {"raw", "raw", 0}};

struct Phase {
  std::string name;
  std::function<void()> work;
  bool on_device;  // timed by events; else by the host's clock, the wait included
  std::vector<double> seconds;
};

void run(int32_t tokens, const Case& kind, int rounds, bool first) {
  Engine engine(0);
  Device& device = *engine.device();
  const Device::Use use(device);
  void* stream = nullptr;
  check_cuda(cuda::open_stream(&stream), "opening a stream");
  const size_t row = size_t{kHeads} * kDim * 2;
  const size_t plane = static_cast<size_t>(tokens) * row;
  const size_t bytes = plane * 2 * kLayers;
  const auto source_memory = device.allocate(bytes);
  const auto target_memory = device.allocate(bytes);
  std::vector<std::byte> noise(bytes);
  uint32_t state = 1;
  for (size_t i = 0; i < bytes; i += 2) {  // f16 of magnitude 1 .. 2, either sign
    state = state * 1664525U + 1013904223U;
    const auto half = static_cast<uint16_t>((state >> 16U & 0x83FFU) | 0x3C00U);
    std::memcpy(noise.data() + i, &half, 2);
  }
  check_cuda(cuda::copy(source_memory.get(), noise.data(), bytes, stream), "filling");
  check_cuda(cuda::synchronize(stream), "filling");
  Cache source(kLayers);
  Cache target(kLayers);
  for (auto [cache, memory] : {std::pair{&source, source_memory.get()}, std::pair{&target, target_memory.get()}}) {
    cache->set_tokens(SKV_ALL, 0, tokens);
    cache->set_layer(SKV_ALL, kHeads, kDim, kDim, SKV_F16);
    for (int32_t l = 0; l < kLayers; ++l) {
      for (int half = 0; half < 2; ++half) {
        cache->set_plane(l, half, memory + static_cast<size_t>(2 * l + half) * plane, plane,
                         static_cast<int64_t>(kBlock * row), static_cast<int64_t>(row), kDim * 2, 2);
      }
    }
    std::vector<int32_t> blocks(static_cast<size_t>(tokens / kBlock));
    for (size_t b = 0; b < blocks.size(); ++b) blocks[b] = static_cast<int32_t>(b * 37 % blocks.size());
    cache->set_blocks(SKV_ALL, blocks.data(), blocks.size(), kBlock);
  }
  Plan plan;
  plan.options.unproven = true;
  if (kind.strategy != nullptr) {
    plan.set_strategy(kind.strategy);
  } else {
    plan.set_fraction(kind.fraction);
  }
  solve(engine, plan, source, nullptr);
  const auto buffer = device.allocate(plan.payload_bytes());
  const std::span<std::byte> room(buffer.get(), plan.payload_bytes());
  const auto encode = [&] {
    auto payload = Payload::create(source, plan, room, &device);
    encode_layers(engine, source, plan, *payload, 0, kLayers, stream);
    return payload;
  };
  auto made = encode();
  decode_layers(engine, *made, target, 0, kLayers, stream);
  std::vector<LayerTiers> tiers;
  for (const LayerPlan& layer : plan.layers()) tiers.push_back({{layer.tiers[0], layer.tiers[1]}});
  const std::vector<uint8_t> unverified(kLayers, 0);
  // An engine each: a stage and an arena of their own.
  Engine second(0);
  const EncodeJobs encoder(device, source, plan.layers(), made->segments(), made->header(), buffer.get(), 0, kLayers);
  std::vector<Segment> sealed(made->segments().begin(), made->segments().end());
  {  // the digests the verification compares with
    const std::span<const std::byte> host = made->host_bytes();
    for (Segment& segment : sealed) std::memcpy(&segment.digest, host.data() + segment.offset + 56, 8);
  }
  const DecodeJobs decoder(*second.device(), target, sealed, tiers, unverified, buffer.get(), 0, kLayers);
  encoder.send(stream);
  decoder.send(stream);
  Engine third(0);
  std::vector<Phase> phases = {
      {"copy",
       [&] { check_cuda(cuda::copy(target_memory.get(), source_memory.get(), bytes, stream), "copy"); },
       true,
       {}},
      {"encode",
       [&] {
         encoder.send(stream);
         encoder.place(stream);
         encoder.statistics(stream);
         encoder.pack(stream);
         encoder.digest(stream);
       },
       true,
       {}},
      {"encode.statistics", [&] { encoder.statistics(stream); }, true, {}},
      {"encode.pack", [&] { encoder.pack(stream); }, true, {}},
      {"encode.digest", [&] { encoder.digest(stream); }, true, {}},
      {"decode",
       [&] {
         decoder.send(stream);
         decoder.verify(stream);
         decoder.unpack(stream);
       },
       true,
       {}},
      {"decode.verify", [&] { decoder.verify(stream); }, true, {}},
      {"decode.unpack", [&] { decoder.unpack(stream); }, true, {}},
      {"call.skv_encode_into",
       [&] {
         auto payload = Payload::create(source, plan, room, third.device());
         encode_layers(third, source, plan, *payload, 0, kLayers, stream);
       },
       false,
       {}},
      {"call.skv_decode", [&] { decode_layers(third, *made, target, 0, kLayers, stream); }, false, {}},
  };
  for (int round = -3; round < rounds; ++round) {  // three to warm up
    for (Phase& phase : phases) {
      double seconds = 0;
      if (phase.on_device) {
        seconds = static_cast<double>(gpu::milliseconds(stream, phase.work)) / 1e3;
      } else {
        const auto start = Clock::now();
        phase.work();
        seconds = std::chrono::duration<double>(Clock::now() - start).count();
      }
      if (round >= 0) phase.seconds.push_back(seconds);
    }
  }
  if (encoder.verdict(stream).unit != UINT32_MAX || decoder.verdict(stream).segment != UINT32_MAX) {
    fail(SKV_E_INTERNAL, "a benchmark's encoding was refused");
  }
  const auto median = [](std::vector<double> values) {
    std::sort(values.begin(), values.end());
    return values[values.size() / 2];
  };
  const double copy = median(phases[0].seconds);
  std::printf("%s\n    {\"tokens\": %d, \"plan\": \"%s\", \"bytes\": %zu, \"payload_bytes\": %zu, \"phases\": {",
              first ? "" : ",", tokens, kind.name, bytes, room.size());
  for (const Phase& phase : phases) {
    const double seconds = median(phase.seconds);
    std::printf("%s\"%s\": {\"us\": %.1f, \"GBps_of_cache\": %.1f, \"vs_copy\": %.3f}",
                &phase == &phases[0] ? "" : ", ", phase.name.c_str(), seconds * 1e6,
                static_cast<double>(bytes) / seconds / 1e9, copy / seconds);
  }
  std::printf("}}");
  std::fflush(stdout);
  check_cuda(cuda::close_stream(stream), "closing the stream");
}

}  // namespace

int main(int argc, char** argv) {
  int rounds = 21;
  for (int i = 1; i + 1 < argc; ++i) {
    if (std::strcmp(argv[i], "--rounds") == 0) rounds = std::max(1, std::atoi(argv[i + 1]));
  }
  try {
    const Engine engine(0);
    std::printf("{\"engine\": \"%s\", \"rounds\": %d, \"cases\": [", engine.describe().c_str(), rounds);
    bool first = true;
    for (const int32_t tokens : {512, 4096}) {
      for (const Case& kind : kCases) {
        run(tokens, kind, rounds, first);
        first = false;
      }
    }
    std::printf("\n]}\n");
  } catch (const Error& e) {
    std::fprintf(stderr, "cuda_bench: %s: %s\n", status_name(e.status()), e.what());
    return e.status() == SKV_E_UNAVAILABLE ? 77 : 1;
  }
  return 0;
}
